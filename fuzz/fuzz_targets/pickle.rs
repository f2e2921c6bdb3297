//! `.pt` files of every age, as diffrep-import reads them: as they are, and as the pickle of a valid archive.
#![no_main]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use diffrep_fuzz::{archive, file, let_panics_be_caught};
use libfuzzer_sys::fuzz_target;
use pytorch_reader::PytorchReader;

/// Values of larger tensors are not asked for, since reading them takes time.
const ELEMENTS: u128 = 1 << 16;

fuzz_target!(init: let_panics_be_caught(), |data: &[u8]| {
    exercise(&file("fuzzed.pt", data));
    let wrapped = archive(&[
        ("archive/data.pkl", data),
        ("archive/byteorder", b"little"),
        ("archive/data/0", &[0x3f; 24]),
        ("archive/version", b"3\n"),
    ]);
    exercise(&file("wrapped.pt", &wrapped));
});

/// A panic is caught, as it is for users. What is not allowed is an end of the process, by an allocation, a stack that is
/// too deep or a loop.
fn exercise(path: &Path) {
    let Ok(Ok(reader)) = catch_unwind(|| PytorchReader::new(path)) else {
        return;
    };
    for (_, tensor) in reader.into_tensors() {
        let axes = tensor.shape().iter();
        let count = axes.fold(1u128, |count, axis| count.saturating_mul(*axis as u128));
        if count <= ELEMENTS {
            let _ = catch_unwind(AssertUnwindSafe(|| tensor.read()));
        }
    }
}
