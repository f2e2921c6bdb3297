//! The kernel Inception distance.

use diffrep_rng::{Key, Stream};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{at_least, finite};
use crate::features::{check_sources, check_widths};
use crate::{Features, FidError, Side, Source, Value};

/// Rows of each side whose kernel is computed at a time, which bounds memory.
const BLOCK: usize = 512;

const ESTIMATOR: &str =
    "unbiased squared MMD, kernel (x.y/d + 1)^3, mean over subsets drawn without replacement, f64";

/// Which subsets a KID averages over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subsets {
    /// How many are drawn.
    pub count: usize,
    /// Images of each side in each.
    pub size: usize,
    /// What they are drawn by.
    pub seed: u64,
}

impl Default for Subsets {
    /// One hundred of one thousand, as in the authors' code and in torch-fidelity.
    fn default() -> Self {
        Self {
            count: 100,
            size: 1000,
            seed: 0,
        }
    }
}

/// A kernel Inception distance and what stands behind it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kid {
    /// The mean over subsets. It has no bias and may be negative for sets that are alike. Some print
    /// it times 1000.
    pub mean: f64,
    /// The standard deviation over subsets, with their number in the denominator as in torch-fidelity.
    pub std: f64,
    /// Which subsets.
    pub subsets: Subsets,
    /// How many features there are.
    pub dim: usize,
    /// The images that are judged.
    pub samples: Side,
    /// The images they are compared with.
    pub reference: Side,
    /// How the number was computed.
    pub estimator: String,
}

/// The kernel Inception distance of Binkowski et al. 2018 between samples `[n, dim]` and reference
/// `[m, dim]`: a function of features, subsets and seed alone.
///
/// # Errors
///
/// [`FidError::Width`] or [`FidError::Sources`] if the two do not belong together,
/// [`FidError::Setting`] for no subsets or subsets of fewer than two, [`FidError::TooFew`] if a side has
/// fewer images than a subset, [`FidError::Overflow`] if kernels are not finite.
pub fn kid<A: Value, B: Value>(
    samples: Features<'_, A>,
    reference: Features<'_, B>,
    sources: (Option<&Source>, Option<&Source>),
    subsets: Subsets,
) -> Result<Kid, FidError> {
    check_widths(samples.dim(), reference.dim())?;
    let sides = (samples.side(sources.0), reference.side(sources.1));
    check_sources(&sides.0, &sides.1)?;
    check(subsets, samples.count(), reference.count())?;
    let draws = 0..subsets.count;
    let distances: Result<Vec<f64>, FidError> = draws
        .into_par_iter()
        .map(|draw| {
            let x = Rows::drawn(samples, key(subsets.seed, draw, 0), subsets.size);
            let y = Rows::drawn(reference, key(subsets.seed, draw, 1), subsets.size);
            finite("KID", mmd(&x, &y))
        })
        .collect();
    let distances = distances?;
    let count = distances.len() as f64;
    let mean = distances.iter().sum::<f64>() / count;
    let squares: f64 = distances.iter().map(|one| (one - mean).powi(2)).sum();
    Ok(Kid {
        mean: finite("KID", mean)?,
        std: finite("KID", (squares / count).sqrt())?,
        subsets,
        dim: samples.dim(),
        samples: sides.0,
        reference: sides.1,
        estimator: ESTIMATOR.into(),
    })
}

fn check(subsets: Subsets, samples: usize, reference: usize) -> Result<(), FidError> {
    let most = u32::MAX as usize;
    if subsets.count == 0 || subsets.count > most {
        return Err(FidError::Setting {
            name: "subsets.count",
            found: subsets.count as u64,
            expected: format!("1 to {most}"),
        });
    }
    if subsets.size < 2 {
        return Err(FidError::Setting {
            name: "subsets.size",
            found: subsets.size as u64,
            expected: "at least 2".into(),
        });
    }
    let needed = subsets.size as u64;
    let what = |side| format!("KID with subsets of {needed}, for the {side},");
    at_least(&what("samples"), needed, samples as u64)?;
    at_least(&what("reference"), needed, reference as u64)
}

/// The key of one side of one subset.
fn key(seed: u64, draw: usize, side: u64) -> Key {
    Key::new(seed, Stream::Bootstrap)
        .sample(side)
        .draw(draw as u32)
}

/// Rows of one side, in f64.
struct Rows {
    values: Vec<f64>,
    dim: usize,
}

impl Rows {
    /// `size` different rows of `features`.
    fn drawn<T: Value>(features: Features<'_, T>, key: Key, size: usize) -> Self {
        let mut order: Vec<usize> = (0..features.count()).collect();
        let mut generator = key.generator();
        let mut values = Vec::with_capacity(size * features.dim());
        for place in 0..size {
            // The first steps of a Fisher-Yates shuffle: each row is drawn at most once.
            let left = (order.len() - place) as u64;
            order.swap(place, place + generator.below(left) as usize);
            values.extend(features.row(order[place]).iter().map(|&v| v.into()));
        }
        Self {
            values,
            dim: features.dim(),
        }
    }

    fn count(&self) -> usize {
        self.values.len() / self.dim
    }

    fn blocks(&self) -> impl Iterator<Item = MatRef<'_, f64>> {
        let blocks = self.values.chunks(BLOCK * self.dim);
        blocks.map(|rows| MatRef::from_row_major_slice(rows, rows.len() / self.dim, self.dim))
    }
}

/// The unbiased estimate of the squared maximum mean discrepancy.
fn mmd(x: &Rows, y: &Rows) -> f64 {
    let (n, m) = (x.count() as f64, y.count() as f64);
    let within_x = between(x, x) - own(x);
    let within_y = between(y, y) - own(y);
    within_x / (n * (n - 1.0)) + within_y / (m * (m - 1.0)) - 2.0 * between(x, y) / (n * m)
}

/// The kernel summed over all pairs.
fn between(x: &Rows, y: &Rows) -> f64 {
    let mut buffer = vec![0.0; BLOCK * BLOCK];
    let mut total = 0.0;
    for rows in x.blocks() {
        for columns in y.blocks() {
            let size = rows.nrows() * columns.nrows();
            let products = &mut buffer[..size];
            matmul(
                MatMut::from_row_major_slice_mut(products, rows.nrows(), columns.nrows()),
                Accum::Replace,
                rows,
                columns.transpose(),
                1.0,
                Par::Seq,
            );
            total += products.iter().map(|p| kernel(*p, x.dim)).sum::<f64>();
        }
    }
    total
}

/// The kernel of every row with itself, summed.
fn own(x: &Rows) -> f64 {
    let rows = x.values.chunks_exact(x.dim);
    let squares = rows.map(|row| row.iter().map(|value| value * value).sum::<f64>());
    squares.map(|product| kernel(product, x.dim)).sum()
}

fn kernel(product: f64, dim: usize) -> f64 {
    (product / dim as f64 + 1.0).powi(3)
}
