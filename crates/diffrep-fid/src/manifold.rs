//! Precision and recall by nearest neighbours.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{at_least, finite};
use crate::features::{check_sources, check_widths};
use crate::{Features, FidError, Side, Source, Value};

/// Neighbours that span a ball, as guided-diffusion's evaluator has it.
pub const NEIGHBOURS: usize = 3;

/// Rows of each side whose distances are computed at a time, by each thread.
const BLOCK: usize = 512;

/// Below this share of the squared norms a difference of products has lost too many digits, and the
/// distance is summed directly.
const CANCELLED: f64 = 1e-3;

/// A point is inside a ball up to this share of its squared radius: points at exactly the radius, such as
/// copies of a neighbour, must not depend on how a product is cut into blocks.
const SLACK: f64 = 1e-11;

const ESTIMATOR: &str =
    "k-nearest-neighbour manifolds (Kynkaanniemi et al. 2019), squared Euclidean distances in f64";

/// Precision and recall and what stands behind them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrecisionRecall {
    /// The share of samples inside some ball around a reference image: how real they look.
    pub precision: f64,
    /// The share of reference images inside some ball around a sample: how much of them is covered.
    pub recall: f64,
    /// A ball reaches to this nearest neighbour of its centre, itself not counted.
    pub neighbours: usize,
    /// How many features there are.
    pub dim: usize,
    /// The images that are judged.
    pub samples: Side,
    /// The images they are compared with.
    pub reference: Side,
    /// How the numbers were computed.
    pub estimator: String,
}

/// Precision and recall of Kynkaanniemi et al. 2019 of samples `[n, dim]` against a reference
/// `[m, dim]`; `neighbours` is [`NEIGHBOURS`] to agree with published numbers.
///
/// Both depend on n and m: published values for ADM take 50,000 samples against 10,000 images. The
/// evaluator multiplies in half precision, which moves points near a radius to the other side; here
/// distances are in f64. Memory is one block of distances and two blocks of rows a thread.
///
/// # Errors
///
/// [`FidError::Width`] or [`FidError::Sources`] if the two do not belong together,
/// [`FidError::Setting`] for no neighbours, [`FidError::TooFew`] if a side has no more images than
/// neighbours, [`FidError::Overflow`] if squared norms are not finite.
pub fn precision_recall<A: Value, B: Value>(
    samples: Features<'_, A>,
    reference: Features<'_, B>,
    sources: (Option<&Source>, Option<&Source>),
    neighbours: usize,
) -> Result<PrecisionRecall, FidError> {
    check_widths(samples.dim(), reference.dim())?;
    let sides = (samples.side(sources.0), reference.side(sources.1));
    check_sources(&sides.0, &sides.1)?;
    if neighbours == 0 {
        return Err(FidError::Setting {
            name: "neighbours",
            found: 0,
            expected: "at least 1".into(),
        });
    }
    let needed = (neighbours as u64).saturating_add(1);
    at_least(
        "precision, for the samples,",
        needed,
        samples.count() as u64,
    )?;
    at_least(
        "recall, for the reference,",
        needed,
        reference.count() as u64,
    )?;
    let centre = mean(reference);
    let (samples, reference) = (
        Points::new(samples, &centre)?,
        Points::new(reference, &centre)?,
    );
    let precision = samples.share_inside(&reference, &reference.radii(neighbours));
    let recall = reference.share_inside(&samples, &samples.radii(neighbours));
    Ok(PrecisionRecall {
        precision,
        recall,
        neighbours,
        dim: centre.len(),
        samples: sides.0,
        reference: sides.1,
        estimator: ESTIMATOR.into(),
    })
}

fn mean<T: Value>(features: Features<'_, T>) -> Vec<f64> {
    let count = features.count() as f64;
    let mut mean = vec![0.0; features.dim()];
    for row in features.values().chunks_exact(features.dim()) {
        for (mean, &value) in mean.iter_mut().zip(row) {
            *mean += value.into() / count;
        }
    }
    mean
}

/// Features around a common centre: distances do not change, and products of small numbers keep more
/// of their digits.
struct Points<'a, T> {
    features: Features<'a, T>,
    centre: &'a [f64],
    /// Squared norms of the centred rows.
    norms: Vec<f64>,
}

/// Some consecutive rows of [`Points`], centred, in f64.
struct Block<'a> {
    values: Vec<f64>,
    norms: &'a [f64],
}

impl<'a, T: Value> Points<'a, T> {
    fn new(features: Features<'a, T>, centre: &'a [f64]) -> Result<Self, FidError> {
        let rows = features.values().par_chunks_exact(features.dim());
        let norms: Result<Vec<f64>, FidError> = rows
            .map(|row| {
                let squares = row.iter().zip(centre);
                let norm: f64 = squares.map(|(&v, c)| (v.into() - c).powi(2)).sum();
                // Four times the norm bounds every distance.
                finite("distance", 4.0 * norm)?;
                Ok(norm)
            })
            .collect();
        Ok(Self {
            features,
            centre,
            norms: norms?,
        })
    }

    fn count(&self) -> usize {
        self.norms.len()
    }

    fn block(&self, first: usize) -> Block<'_> {
        let dim = self.centre.len();
        let last = (first + BLOCK).min(self.count());
        let rows = self.features.values()[first * dim..last * dim].chunks_exact(dim);
        let centred = rows.flat_map(|row| row.iter().zip(self.centre).map(|(&v, c)| v.into() - c));
        Block {
            values: centred.collect(),
            norms: &self.norms[first..last],
        }
    }

    /// The first rows of all blocks.
    fn blocks(&self) -> impl IndexedParallelIterator<Item = usize> {
        (0..self.count().div_ceil(BLOCK))
            .into_par_iter()
            .map(|block| block * BLOCK)
    }

    /// The squared distance of every point to its k-th nearest other.
    fn radii(&self, k: usize) -> Vec<f64> {
        let radii = self.blocks().map(|first| {
            let rows = self.block(first);
            // A point is its own nearest, at distance zero.
            let mut nearest = vec![vec![]; rows.norms.len()];
            let mut distances = Vec::new();
            for other in (0..self.count()).step_by(BLOCK) {
                rows.distances(&self.block(other), &mut distances);
                let columns = distances.len() / rows.norms.len();
                for (nearest, row) in nearest.iter_mut().zip(distances.chunks_exact(columns)) {
                    keep_least(nearest, row, k + 1);
                }
            }
            nearest.iter().map(|least| least[k]).collect::<Vec<f64>>()
        });
        radii.flatten().collect()
    }

    /// The share of these points that lie inside one of the balls around `centres`.
    fn share_inside<U: Value>(&self, centres: &Points<'_, U>, radii: &[f64]) -> f64 {
        let inside = self.blocks().map(|first| {
            let rows = self.block(first);
            let mut found = vec![false; rows.norms.len()];
            let mut distances = Vec::new();
            for other in (0..centres.count()).step_by(BLOCK) {
                rows.distances(&centres.block(other), &mut distances);
                let columns = distances.len() / rows.norms.len();
                for (found, row) in found.iter_mut().zip(distances.chunks_exact(columns)) {
                    let balls = &radii[other..other + columns];
                    let mut pairs = row.iter().zip(balls);
                    *found |= pairs.any(|(distance, radius)| *distance <= radius * (1.0 + SLACK));
                }
            }
            found.iter().filter(|inside| **inside).count()
        });
        inside.sum::<usize>() as f64 / self.count() as f64
    }
}

impl Block<'_> {
    /// Squared distances to the rows of `other`, `[rows, rows of other]`.
    fn distances(&self, other: &Block<'_>, out: &mut Vec<f64>) {
        let (rows, columns) = (self.norms.len(), other.norms.len());
        let dim = self.values.len() / rows;
        out.clear();
        out.resize(rows * columns, 0.0);
        matmul(
            MatMut::from_row_major_slice_mut(out, rows, columns),
            Accum::Replace,
            MatRef::from_row_major_slice(&self.values, rows, dim),
            MatRef::from_row_major_slice(&other.values, columns, dim).transpose(),
            -2.0,
            Par::Seq,
        );
        for (row, line) in out.chunks_exact_mut(columns).enumerate() {
            for (column, distance) in line.iter_mut().enumerate() {
                let norms = self.norms[row] + other.norms[column];
                *distance += norms;
                if *distance <= CANCELLED * norms {
                    let (a, b) = (&self.values[row * dim..], &other.values[column * dim..]);
                    let pairs = a[..dim].iter().zip(&b[..dim]);
                    *distance = pairs.map(|(a, b)| (a - b).powi(2)).sum();
                }
            }
        }
    }
}

/// Merges `values` into the `size` smallest seen so far, in rising order.
fn keep_least(least: &mut Vec<f64>, values: &[f64], size: usize) {
    for &value in values {
        if least.len() == size && value >= least[size - 1] {
            continue;
        }
        let place = least.partition_point(|kept| *kept <= value);
        least.insert(place, value);
        least.truncate(size);
    }
}
