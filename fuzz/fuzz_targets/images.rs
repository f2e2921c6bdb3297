//! PNG and JPEG files.
#![no_main]

use std::path::Path;

use diffrep_datasets::{MAX_PIXELS, MAX_PIXELS_PER_BYTE, decode};
use diffrep_fuzz::let_panics_be_caught;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: let_panics_be_caught(), |data: &[u8]| {
    if let Ok(image) = decode(Path::new("fuzzed.png"), data) {
        let pixels = image.width() as u64 * image.height() as u64;
        assert!(pixels > 0 && pixels <= MAX_PIXELS);
        assert!(pixels <= MAX_PIXELS_PER_BYTE * data.len() as u64);
        assert_eq!(image.pixels().len() as u64, pixels * image.channels() as u64);
    }
});
