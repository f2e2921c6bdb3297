//! Arrays in `.npz` and safetensors files: features, images and saved statistics; as they are, and as the arrays of
//! a valid archive.
#![no_main]

use std::path::Path;

use diffrep_fid::{FEATURES, FeatureFile, FidError, ImageFile, StatisticsFile};
use diffrep_fuzz::{archive, file};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    exercise(&file("fuzzed.npz", data));
    let mean = npy("<f8", "(1,)", &1f64.to_le_bytes());
    let covariance = npy("<f8", "(1, 1)", &1f64.to_le_bytes());
    let image = npy("|u1", "(1, 1, 1, 3)", &[0; 3]);
    let statistics = [("mu.npy", &mean[..]), ("sigma.npy", &covariance[..])];
    for (name, others) in [
        ("features.npy", &[][..]),
        ("arr_0.npy", &[]),
        ("arr_1.npy", &[("arr_0.npy", &image[..])]),
        ("mu.npy", &statistics[1..]),
        ("sigma.npy", &statistics[..1]),
        ("count.npy", &statistics),
        ("source.npy", &statistics),
    ] {
        let members = [others, &[(name, data)]].concat();
        exercise(&file("wrapped.npz", &archive(&members)));
    }
});

/// A valid `.npy` file.
fn npy(element: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{element}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), bytes].concat()
}

fn exercise(path: &Path) {
    let _ = features(path);
    let _ = images(path);
    if let Ok(file) = StatisticsFile::read(path) {
        let dim = file.pool.dim();
        assert_eq!(file.pool.mean().len(), dim);
        assert_eq!(file.pool.covariance().len(), dim * dim);
        assert!(file.pool.mean().iter().all(|value| value.is_finite()));
    }
}

fn features(path: &Path) -> Result<(), FidError> {
    let file = FeatureFile::open(path, FEATURES)?;
    let mut rows = 0;
    file.for_each(64, |features| {
        assert_eq!(features.values().len(), features.count() * file.dim());
        rows += features.count();
        Ok::<(), FidError>(())
    })?;
    assert_eq!(rows, file.count());
    // A covariance of wide features takes time that says nothing about the reader.
    if file.dim() <= 64 {
        let _ = file.statistics();
    }
    Ok(())
}

fn images(path: &Path) -> Result<(), FidError> {
    let file = ImageFile::open(path)?;
    if let Some(labels) = file.labels() {
        assert_eq!(labels.len(), file.count());
    }
    let mut count = 0;
    file.for_each(16, |batch| {
        assert_eq!(
            batch.pixels.len(),
            batch.count * batch.height * batch.width * 3
        );
        count += batch.count;
        Ok::<(), FidError>(())
    })?;
    assert_eq!(count, file.count());
    Ok(())
}
