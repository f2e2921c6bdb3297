//! Times all pairs of layers of one network, and writes their similarities.
//!
//! `cargo run --release -p diffrep-cka --example cka_bench -- FILE ESTIMATOR PRECISION [BATCH]`
//!
//! `FILE` is a safetensors file of layers [n, d] in f32 or f64 that are compared in the order of their
//! names, or `LAYERSxNxD` for made-up features in f32. `ESTIMATOR` is `biased`, `unbiased` or
//! `minibatch` with a size `BATCH`; `PRECISION` is `double` or `single`. For each line on standard
//! input, all pairs are compared once and a line of output holds the seconds; at the end, a line holds
//! the matrix as JSON.

use std::error::Error;
use std::io::Write;
use std::time::Instant;

use diffrep_cka::{Estimator, Layer, Options, Precision, peak_bytes, within};
use ndarray::Array2;
use safetensors::{Dtype, SafeTensors};

/// A layer that owns its features.
enum Owned {
    F32(Array2<f32>),
    F64(Array2<f64>),
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, estimator, precision, batch @ ..] = arguments.as_slice() else {
        return Err("give a file, an estimator and a precision".into());
    };
    let options = Options {
        precision: match precision.as_str() {
            "double" => Precision::Double,
            "single" => Precision::Single,
            _ => return Err("the precision is `double` or `single`".into()),
        },
        ..Options::new(match (estimator.as_str(), batch) {
            ("biased", []) => Estimator::Biased,
            ("unbiased", []) => Estimator::Unbiased,
            ("minibatch", [rows]) => Estimator::Minibatch {
                rows: rows.parse()?,
            },
            _ => {
                return Err(
                    "the estimator is `biased`, `unbiased` or `minibatch` with a size".into(),
                );
            }
        })
    };
    let owned = match made_up(file) {
        Some(layers) => layers,
        None => read(file)?,
    };
    let layers: Vec<Layer<'_>> = owned
        .iter()
        .map(|(name, layer)| view(name, layer))
        .collect();
    let widths: Vec<usize> = layers
        .iter()
        .map(|layer| layer.features.columns())
        .collect();
    let rows = layers.first().map_or(0, |layer| layer.features.rows());

    let mut output = std::io::stdout();
    writeln!(
        output,
        "{} bytes at most",
        peak_bytes(rows, &widths, None, &options, false)
    )?;
    output.flush()?;
    let mut found = None;
    for line in std::io::stdin().lines() {
        line?;
        let start = Instant::now();
        found = Some(within(&layers, &options)?);
        writeln!(output, "{}", start.elapsed().as_secs_f64())?;
        output.flush()?;
    }
    if let Some(found) = found {
        let rows: Vec<Vec<f64>> = found.values.outer_iter().map(|row| row.to_vec()).collect();
        writeln!(output, "{}", serde_json::to_string(&rows)?)?;
    }
    Ok(())
}

fn view<'a>(name: &str, layer: &'a Owned) -> Layer<'a> {
    match layer {
        Owned::F32(layer) => Layer::new(name, layer.view()),
        Owned::F64(layer) => Layer::new(name, layer.view()),
    }
}

/// Features of a chain of layers, each a mixture of the one before and noise.
fn made_up(shape: &str) -> Option<Vec<(String, Owned)>> {
    let numbers: Vec<usize> = shape
        .split('x')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    let [layers, n, d] = numbers.as_slice() else {
        return None;
    };
    let mut state = 1u64;
    let mut noise = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 40) as f32 / 16_777_216.0 - 0.5
    };
    let mut last = Array2::from_shape_simple_fn((*n, *d), &mut noise);
    let mut all = Vec::new();
    for index in 0..*layers {
        last.mapv_inplace(|value| 0.9 * value + 0.4 * noise());
        all.push((format!("block_{:02}", index + 1), Owned::F32(last.clone())));
    }
    Some(all)
}

fn read(file: &str) -> Result<Vec<(String, Owned)>, Box<dyn Error>> {
    let bytes = std::fs::read(file)?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    let mut layers = Vec::new();
    for (name, tensor) in tensors.tensors() {
        let &[rows, columns] = tensor.shape() else {
            return Err(format!("`{name}` is no matrix").into());
        };
        let (shape, data) = ((rows, columns), tensor.data());
        let layer = match tensor.dtype() {
            Dtype::F32 => {
                let values = data
                    .as_chunks()
                    .0
                    .iter()
                    .map(|bytes| f32::from_le_bytes(*bytes));
                Owned::F32(Array2::from_shape_vec(shape, values.collect())?)
            }
            Dtype::F64 => {
                let values = data
                    .as_chunks()
                    .0
                    .iter()
                    .map(|bytes| f64::from_le_bytes(*bytes));
                Owned::F64(Array2::from_shape_vec(shape, values.collect())?)
            }
            other => return Err(format!("`{name}` is {other:?}, not F32 or F64").into()),
        };
        layers.push((name, layer));
    }
    layers.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(layers)
}
