//! Checkpoints, `.pt` of every age and safetensors: what the content is told to be, the tensors, and the
//! network that their shapes make; as they are, and as the pickle of a valid archive.
#![no_main]

use std::path::Path;

use diffrep_fuzz::{archive, file, let_panics_be_caught};
use diffrep_import::{RawCheckpoint, infer};
use libfuzzer_sys::fuzz_target;

/// Values of larger tensors are not asked for, since reading them takes time.
const ELEMENTS: usize = 1 << 16;

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

fn exercise(path: &Path) {
    let Ok(checkpoint) = RawCheckpoint::open(path) else {
        return;
    };
    let _ = infer(path, checkpoint.tensors());
    for tensor in checkpoint.tensors() {
        let axes = tensor.shape.iter();
        let count = axes.fold(1u128, |count, axis| count.saturating_mul(*axis as u128));
        if count > ELEMENTS as u128 {
            continue;
        }
        if let Ok(values) = checkpoint.values(&tensor.name) {
            assert_eq!(values.num_elements() as u128, count);
        }
    }
}
