//! IDX files, plain and gzipped, as bytes and as integers.
#![no_main]

use std::path::Path;

use diffrep_datasets::idx::{Element, parse_idx};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    exercise::<u8>(data);
    exercise::<i32>(data);
});

fn exercise<T: Element>(bytes: &[u8]) {
    if let Ok(array) = parse_idx::<T>(Path::new("fuzzed-idx"), bytes) {
        let product: u128 = array.dims.iter().map(|&dim| dim as u128).product();
        assert_eq!(product, array.data.len() as u128);
    }
}
