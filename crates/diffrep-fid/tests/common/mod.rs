//! Expected values, read from the fixtures.
#![allow(dead_code, reason = "not every test file uses every helper")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use diffrep_fid::{Features, Moments, Statistics};
use safetensors::{Dtype, SafeTensors};

/// A file of `fixtures/`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(name)
}

/// The f32 and f64 tensors of a file, with their shapes.
pub(crate) fn tensors(name: &str) -> BTreeMap<String, (Vec<usize>, Vec<f64>)> {
    let bytes = std::fs::read(fixture(name)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let decode = |tensor: safetensors::tensor::TensorView<'_>| match tensor.dtype() {
        Dtype::F64 => {
            let words = tensor.data().chunks_exact(8);
            words
                .map(|w| f64::from_le_bytes(w.try_into().unwrap()))
                .collect()
        }
        Dtype::F32 => {
            let words = tensor.data().chunks_exact(4);
            words
                .map(|w| f64::from(f32::from_le_bytes(w.try_into().unwrap())))
                .collect()
        }
        _ => Vec::new(),
    };
    let named = file.tensors().into_iter();
    named
        .map(|(name, tensor)| (name, (tensor.shape().to_vec(), decode(tensor))))
        .collect()
}

/// Statistics of rows of `dim`.
pub(crate) fn statistics(values: &[f64], dim: usize) -> Statistics {
    let mut moments = Moments::new(dim).unwrap();
    moments.push(Features::new(values, dim).unwrap()).unwrap();
    moments.finish(None).unwrap()
}
