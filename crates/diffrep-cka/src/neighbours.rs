//! Nearest-neighbour alignment (Huh et al. 2024, "The Platonic Representation Hypothesis").
//!
//! Rows are scaled to length 1 and compared by their inner product, as the paper's code is used; a row
//! is not its own neighbour, and of two equally near rows the first is nearer.

use faer::MatRef;
use ndarray::Array2;
use rayon::prelude::*;

use crate::features::{Centred, check};
use crate::options::Pairs;
use crate::product::{RUN, Real};
use crate::{CkaError, Features, Layer, Matrix, Precision};

/// How many rows look for their neighbours at a time.
const STRIP: usize = 128;

/// How neighbourhoods are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alignment {
    /// The mean share of neighbours that two layers have in common: in \[0, 1\]. Needs 1 neighbour.
    MutualKnn,
    /// CKNNA: unbiased CKA over the pairs of rows that are neighbours in both layers. Needs 2
    /// neighbours and 4 rows.
    ///
    /// Neighbourhood is not mutual, which makes the matrices of this estimate unsymmetric: (a, b) and
    /// (b, a) differ a little, as they do in the paper's code. Its constant of 1e-6 in the denominator
    /// is left out.
    Cknna,
}

/// Which rows are near which, by their number among the neighbours of each row, and how near.
struct Neighbours {
    /// The neighbours of each row [n, k], in ascending order.
    indices: Vec<u32>,
    /// Their similarities [n, k].
    similarities: Vec<f64>,
    k: usize,
}

/// Compares the layers of one network with one another by their `k` nearest neighbours.
///
/// # Errors
///
/// If layers do not fit together, a value is not finite, a row holds only zeros, or `k` is out of
/// range.
pub fn align_within(
    layers: &[Layer<'_>],
    alignment: Alignment,
    k: usize,
    precision: Precision,
) -> Result<Matrix, CkaError> {
    align(layers, None, alignment, k, precision)
}

/// Compares each layer of one network, a row of the result, with each of another, a column, by their
/// `k` nearest neighbours.
///
/// # Errors
///
/// As [`align_within`].
pub fn align_between(
    a: &[Layer<'_>],
    b: &[Layer<'_>],
    alignment: Alignment,
    k: usize,
    precision: Precision,
) -> Result<Matrix, CkaError> {
    align(a, Some(b), alignment, k, precision)
}

fn align(
    a: &[Layer<'_>],
    b: Option<&[Layer<'_>]>,
    alignment: Alignment,
    k: usize,
    precision: Precision,
) -> Result<Matrix, CkaError> {
    let (pairs, layers) = Pairs::of_layers(a, b);
    let [rows, columns] = pairs.shape();
    if rows == 0 || columns == 0 {
        return Err(CkaError::NoLayers);
    }
    let n = check(&layers)?;
    check_k(alignment, n, k)?;
    let neighbours = layers
        .iter()
        .map(|(name, features)| match precision {
            Precision::Double => find::<f64>(name, *features, k),
            Precision::Single => find::<f32>(name, *features, k),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let own = match alignment {
        Alignment::MutualKnn => Vec::new(),
        Alignment::Cknna => own(n, &layers, &neighbours)?,
    };
    let value = |at: usize| {
        let (row, column) = (at / columns, pairs.column(at % columns));
        let (x, y) = (&neighbours[row], &neighbours[column]);
        match alignment {
            Alignment::MutualKnn => shared(x, y).count() as f64 / (n * k) as f64,
            Alignment::Cknna => hsic(n, x, y) / (own[row] * own[column]),
        }
    };
    let values: Vec<f64> = (0..rows * columns).into_par_iter().map(value).collect();
    let names: Vec<String> = layers.iter().map(|(name, _)| (*name).to_owned()).collect();
    Ok(Matrix {
        rows: names[..rows].to_vec(),
        columns: (0..columns)
            .map(|column| names[pairs.column(column)].clone())
            .collect(),
        values: Array2::from_shape_fn((rows, columns), |(row, column)| {
            values[row * columns + column]
        }),
        samples: n,
        batches: 1,
    })
}

fn check_k(alignment: Alignment, rows: usize, neighbours: usize) -> Result<(), CkaError> {
    let (what, needed, least) = match alignment {
        Alignment::MutualKnn => ("mutual nearest neighbours", 2, 1),
        Alignment::Cknna => ("CKNNA", 4, 2),
    };
    if rows < needed {
        return Err(CkaError::TooFew {
            what,
            needed,
            found: rows,
        });
    }
    if !(least..rows).contains(&neighbours) {
        return Err(CkaError::Neighbours {
            neighbours,
            rows,
            least,
            most: rows - 1,
        });
    }
    Ok(())
}

/// The root of each layer's HSIC with itself.
fn own(
    n: usize,
    layers: &[(&str, Features<'_>)],
    neighbours: &[Neighbours],
) -> Result<Vec<f64>, CkaError> {
    let own: Vec<f64> = neighbours
        .par_iter()
        .map(|layer| hsic(n, layer, layer))
        .collect();
    let root = |(own, (name, _)): (f64, &(&str, Features<'_>))| {
        // The estimate's rounding, over k n products of at most 1.
        if own <= 1e-13 * neighbours[0].indices.len() as f64 {
            let layer = (*name).to_owned();
            return Err(CkaError::NoSignal { layer });
        }
        Ok(own.sqrt())
    };
    own.into_iter().zip(layers).map(root).collect()
}

/// The neighbours of every row.
fn find<P: Real>(name: &str, features: Features<'_>, k: usize) -> Result<Neighbours, CkaError> {
    let layer = Centred::uncentred(features);
    let squares = layer.squares();
    if let Some(row) = squares.iter().position(|&square| square == 0.0) {
        let layer = name.to_owned();
        return Err(CkaError::ZeroRow { layer, row });
    }
    let lengths: Vec<f64> = squares.iter().map(|square| square.sqrt()).collect();
    let n = lengths.len();
    let (mut indices, mut similarities) = (vec![0; n * k], vec![0.0; n * k]);
    let strips = indices
        .par_chunks_mut(STRIP * k)
        .zip(similarities.par_chunks_mut(STRIP * k));
    strips
        .enumerate()
        .for_each(|(strip, (indices, similarities))| {
            let start = strip * STRIP;
            let rows = indices.len() / k;
            let near = strip_similarities::<P>(&layer, &lengths, start..start + rows);
            let outs = indices
                .chunks_exact_mut(k)
                .zip(similarities.chunks_exact_mut(k));
            for (at, (values, (indices, similarities))) in
                near.chunks_exact(n).zip(outs).enumerate()
            {
                nearest(values, start + at, indices);
                for (similarity, &index) in similarities.iter_mut().zip(&*indices) {
                    *similarity = values[index as usize];
                }
            }
        });
    Ok(Neighbours {
        indices,
        similarities,
        k,
    })
}

/// The cosine of each row of a strip with every row [strip, n].
fn strip_similarities<P: Real>(
    layer: &Centred<'_>,
    lengths: &[f64],
    strip: std::ops::Range<usize>,
) -> Vec<f64> {
    let (n, width) = (lengths.len(), layer.shift.len());
    let mut out = vec![0.0; strip.len() * n];
    let (mut left, mut right, mut product, mut part) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    // The columns are cut, too, so that memory does not grow with n times the width.
    for other in (0..n).step_by(RUN) {
        let other = other..n.min(other + RUN);
        part.clear();
        part.resize(strip.len() * other.len(), 0.0);
        for run in (0..width).step_by(RUN) {
            let run = run..width.min(run + RUN);
            layer.block::<P>(strip.clone(), run.clone(), &mut left);
            layer.block::<P>(other.clone(), run.clone(), &mut right);
            let left = MatRef::from_row_major_slice(&left, strip.len(), run.len());
            let right = MatRef::from_row_major_slice(&right, other.len(), run.len());
            P::add_product(&mut part, &mut product, left, right.transpose(), false);
        }
        for (at, row) in strip.clone().enumerate() {
            for (to, column) in other.clone().enumerate() {
                out[at * n + column] =
                    part[at * other.len() + to] / (lengths[row] * lengths[column]);
            }
        }
    }
    out
}

/// The most similar rows but `own`, in ascending order of their numbers.
fn nearest(similarities: &[f64], own: usize, out: &mut [u32]) {
    let mut order: Vec<u32> = (0..similarities.len() as u32)
        .filter(|&row| row as usize != own)
        .collect();
    let k = out.len();
    let nearer = |a: &u32, b: &u32| {
        let by_value = similarities[*b as usize].total_cmp(&similarities[*a as usize]);
        by_value.then(a.cmp(b))
    };
    order.select_nth_unstable_by(k - 1, nearer);
    out.copy_from_slice(&order[..k]);
    out.sort_unstable();
}

/// Pairs of rows that are neighbours in both layers: (row, neighbour, similarity in x, in y).
fn shared<'a>(
    x: &'a Neighbours,
    y: &'a Neighbours,
) -> impl Iterator<Item = (usize, usize, f64, f64)> + 'a {
    let k = x.k;
    let rows = x
        .indices
        .chunks_exact(k)
        .zip(y.indices.chunks_exact(k))
        .enumerate();
    rows.flat_map(move |(row, (a, b))| {
        let (mut i, mut j) = (0, 0);
        std::iter::from_fn(move || {
            while i < k && j < k {
                match a[i].cmp(&b[j]) {
                    std::cmp::Ordering::Less => i += 1,
                    std::cmp::Ordering::Greater => j += 1,
                    std::cmp::Ordering::Equal => {
                        let at = (row * k + i, row * k + j);
                        let neighbour = a[i] as usize;
                        (i, j) = (i + 1, j + 1);
                        return Some((row, neighbour, x.similarities[at.0], y.similarities[at.1]));
                    }
                }
            }
            None
        })
    })
}

/// n (n - 3) HSIC_1 of both similarity matrices, each 0 but for pairs that are neighbours in both.
///
/// It is Song et al.'s tr(KL) + 1ᵀK1 1ᵀL1 / ((n - 1) (n - 2)) - 2 / (n - 2) 1ᵀKL1, as the paper's code
/// applies it to matrices that are not symmetric: the first term there sums K_ij L_ji.
fn hsic(n: usize, x: &Neighbours, y: &Neighbours) -> f64 {
    let pairs: Vec<(usize, usize, f64, f64)> = shared(x, y).collect();
    let (mut columns, mut rows) = (vec![0.0; n], vec![0.0; n]);
    let (mut k, mut l, mut trace) = (0.0, 0.0, 0.0);
    for &(row, neighbour, x, _) in &pairs {
        columns[neighbour] += x;
        k += x;
        if let Ok(at) = pairs.binary_search_by_key(&(neighbour, row), |pair| (pair.0, pair.1)) {
            trace += x * pairs[at].3;
        }
    }
    for &(row, _, _, y) in &pairs {
        rows[row] += y;
        l += y;
    }
    let product: f64 = columns.iter().zip(&rows).map(|(a, b)| a * b).sum();
    let n = n as f64;
    trace + k * l / ((n - 1.0) * (n - 2.0)) - 2.0 / (n - 2.0) * product
}
