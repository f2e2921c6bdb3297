//! The Frechet distance between two Gaussians, which is FID on Inception features.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par, Side as Half};
use serde::{Deserialize, Serialize};

use crate::error::finite;
use crate::features::{check_sources, check_widths};
use crate::{FidError, Side, Statistics};

/// How negative an eigenvalue may be, as a share of the largest, before a matrix is no covariance. Files
/// in f32 stay below 1e-6.
const NEGATIVE: f64 = 1e-5;

/// Eigenvalues below this share of the largest are rounding.
const ROUNDING: f64 = 8.0 * f64::EPSILON;

/// How the number was computed, for results.
const ESTIMATOR: &str =
    "squared Frechet distance; covariance with n-1; nuclear norm of S1^1/2 S2^1/2 in f64";

/// A Frechet distance and what stands behind it.
///
/// On `pool3` of the Inception network it is called FID, on spatial features sFID.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frechet {
    /// The squared distance: the two terms added.
    pub distance: f64,
    /// |mu1 - mu2|^2.
    pub mean_term: f64,
    /// tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2).
    pub covariance_term: f64,
    /// How many features there are.
    pub dim: usize,
    /// Whether some direction has no variance on one side: too few images (no more than features), or
    /// constant features. The distance is exact, but with too few images it is biased upwards and not
    /// comparable with published ones.
    pub rank_deficient: bool,
    /// The rank of the samples' covariance.
    pub samples_rank: usize,
    /// The rank of the reference's covariance.
    pub reference_rank: usize,
    /// The images that are judged.
    pub samples: Side,
    /// The images they are compared with.
    pub reference: Side,
    /// How the number was computed.
    pub estimator: String,
}

/// The squared Frechet distance between the Gaussians with these means and covariances.
///
/// The reference takes the trace of `sqrtm(S1 S2)`, a matrix that is not symmetric and of which rounding
/// makes the square root complex or, for singular products, undefined. The same trace is the sum of the
/// singular values of S1^1/2 S2^1/2, which are real, never negative, and not squared on the way. Square
/// roots come from eigenvalues; those that are rounding (below eight units of the largest, or below twice
/// the most negative one, or beyond the rank that the number of samples allows) are zero.
///
/// # Errors
///
/// [`FidError::Width`] or [`FidError::Sources`] if the two do not belong together,
/// [`FidError::NotCovariance`] for a matrix with an eigenvalue that is clearly negative,
/// [`FidError::Overflow`] if the distance is not finite, [`FidError::NoConvergence`].
pub fn frechet_distance(samples: &Statistics, reference: &Statistics) -> Result<Frechet, FidError> {
    check_widths(samples.dim(), reference.dim())?;
    check_sources(samples.side(), reference.side())?;
    let dim = samples.dim();
    let mean_term = squared_distance(samples.mean(), reference.mean());
    let ours = square_root(samples)?;
    let theirs = square_root(reference)?;
    let traces = trace(samples) + trace(reference);
    let overlap = nuclear_norm(&ours, &theirs, dim)?;
    // Never negative in exact arithmetic; rounding may leave some units of the traces.
    let covariance_term = finite("Frechet distance", traces - 2.0 * overlap)?.max(0.0);
    Ok(Frechet {
        distance: finite("Frechet distance", mean_term + covariance_term)?,
        mean_term,
        covariance_term,
        dim,
        rank_deficient: ours.ncols().min(theirs.ncols()) < dim,
        samples_rank: ours.ncols(),
        reference_rank: theirs.ncols(),
        samples: samples.side().clone(),
        reference: reference.side().clone(),
        estimator: ESTIMATOR.into(),
    })
}

/// A matrix F `[dim, rank]` with F F^T the covariance.
fn square_root(statistics: &Statistics) -> Result<Mat<f64>, FidError> {
    let dim = statistics.dim();
    let covariance = MatRef::from_row_major_slice(statistics.covariance(), dim, dim);
    let eigen = covariance
        .self_adjoint_eigen(Half::Lower)
        .map_err(|_| FidError::NoConvergence { dim })?;
    let values: Vec<f64> = eigen.S().column_vector().iter().copied().collect();
    let kept = rank(&values, statistics.count())?;
    let first = dim - kept;
    let vectors = eigen.U();
    Ok(Mat::from_fn(dim, kept, |row, column| {
        vectors[(row, first + column)] * values[first + column].sqrt()
    }))
}

/// How many of these eigenvalues, in rising order, are more than rounding.
fn rank(values: &[f64], count: Option<u64>) -> Result<usize, FidError> {
    let (least, largest) = match values {
        [least, .., largest] => (*least, *largest),
        [only] => (*only, *only),
        [] => return Ok(0),
    };
    finite("Frechet distance", least.abs() + largest.abs())?;
    if least < -NEGATIVE * largest.max(0.0) {
        let reason = format!("it has the eigenvalue {least:e}, its largest is {largest:e}");
        return Err(FidError::NotCovariance { reason });
    }
    // Rounding moves eigenvalues both ways, so the most negative one tells how far.
    let floor = (ROUNDING * largest).max(-2.0 * least);
    let above = values.iter().filter(|value| **value > floor).count();
    let possible = count.map_or(usize::MAX, |count| {
        usize::try_from(count - 1).unwrap_or(usize::MAX)
    });
    Ok(above.min(possible))
}

/// The sum of the singular values of A^T B, for A and B `[dim, their ranks]`.
fn nuclear_norm(a: &Mat<f64>, b: &Mat<f64>, dim: usize) -> Result<f64, FidError> {
    if a.ncols() == 0 || b.ncols() == 0 {
        return Ok(0.0);
    }
    let mut product = Mat::zeros(a.ncols(), b.ncols());
    matmul(
        product.as_mut(),
        Accum::Replace,
        a.transpose(),
        b.as_ref(),
        1.0,
        Par::rayon(0),
    );
    let singular = product
        .singular_values()
        .map_err(|_| FidError::NoConvergence { dim })?;
    // Smallest first, which loses least.
    Ok(singular.iter().rev().sum())
}

fn trace(statistics: &Statistics) -> f64 {
    let diagonal = statistics.covariance().iter().step_by(statistics.dim() + 1);
    diagonal.sum()
}

fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
}
