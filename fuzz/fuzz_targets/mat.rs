//! MATLAB 5 files: as they are, and as elements below a valid header, in either byte order.
#![no_main]

use std::path::Path;

use diffrep_datasets::mat::{Array, MatFile};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    exercise(data);
    for end in [[0, 1, b'I', b'M'], [1, 0, b'M', b'I']] {
        let mut file = vec![b' '; 124];
        file.extend(end);
        file.extend(data);
        exercise(&file);
    }
});

fn exercise(bytes: &[u8]) {
    let Ok(file) = MatFile::from_bytes(Path::new("fuzzed.mat"), bytes) else {
        return;
    };
    for (name, array) in file.variables() {
        check(array);
        let _ = file.integers(name);
        let _ = file.texts(name);
        for record in file.records(name).unwrap_or_default().iter().take(100) {
            let _ = (record.integer("class"), record.text("fname"));
        }
    }
}

/// What the documentation of [`Array`] promises of lengths.
fn check(array: &Array) {
    let product = |dims: &[usize]| dims.iter().map(|&dim| dim as u128).product::<u128>();
    match array {
        Array::Numbers { dims, values } => assert_eq!(product(dims), values.len() as u128),
        Array::Cell { dims, cells } => {
            assert_eq!(product(dims), cells.len() as u128);
            cells.iter().for_each(check);
        }
        Array::Struct {
            dims,
            fields,
            values,
        } => {
            assert_eq!(product(dims) * fields.len() as u128, values.len() as u128);
            values.iter().for_each(check);
        }
        Array::Text(_) | Array::Unsupported { .. } => {}
    }
}
