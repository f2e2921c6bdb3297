//! Mean and covariance: all that the Frechet distance needs of a set of images.

use crate::error::at_least;
use crate::features::Side;
use crate::{FidError, Source};

/// The largest number of features that statistics are made of; their covariance takes 2 GiB.
pub const MAX_DIM: usize = 16_384;

/// How far two halves of a covariance may differ, as a share of its largest value: files in f32 exist.
const ASYMMETRY: f64 = 1e-5;

/// Mean and covariance of features.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    mean: Vec<f64>,
    covariance: Vec<f64>,
    side: Side,
}

impl Statistics {
    /// Takes a mean `[dim]` and a covariance `[dim, dim]` that were computed elsewhere, with n - 1 in
    /// its denominator. `count` and `source` are what is known about them.
    ///
    /// # Errors
    ///
    /// [`FidError::Shape`], [`FidError::TooWide`], [`FidError::TooFew`] below two samples,
    /// [`FidError::NotFinite`] (row 0 for the mean), and [`FidError::NotCovariance`] for a matrix that is not
    /// symmetric or has a negative variance.
    pub fn new(
        mean: Vec<f64>,
        mut covariance: Vec<f64>,
        count: Option<u64>,
        source: Option<Source>,
    ) -> Result<Self, FidError> {
        let dim = mean.len();
        check_dim(dim)?;
        if covariance.len() != dim * dim {
            return Err(FidError::Shape {
                len: covariance.len(),
                dim,
            });
        }
        crate::Features::new(&mean, dim)?;
        crate::Features::new(&covariance, dim)?;
        if let Some(count) = count {
            at_least("a covariance", 2, count)?;
        }
        symmetrize(&mut covariance, dim)?;
        Ok(Self {
            mean,
            covariance,
            side: Side { count, source },
        })
    }

    /// How many features there are.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// The mean, `[dim]`.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The covariance with n - 1 in its denominator, `[dim, dim]`, exactly symmetric.
    pub fn covariance(&self) -> &[f64] {
        &self.covariance
    }

    /// Of how many images; `None` if the file they come from does not say.
    pub fn count(&self) -> Option<u64> {
        self.side.count
    }

    /// What made the features; `None` if no one said.
    pub fn source(&self) -> Option<&Source> {
        self.side.source.as_ref()
    }

    /// The same numbers with a source, for files that have none.
    #[must_use]
    pub fn with_source(mut self, source: Source) -> Self {
        self.side.source = Some(source);
        self
    }

    /// The side of a result that these are.
    pub(crate) fn side(&self) -> &Side {
        &self.side
    }
}

/// Errs unless a covariance of `dim` features can be held.
pub(crate) fn check_dim(dim: usize) -> Result<(), FidError> {
    if dim == 0 {
        return Err(FidError::Shape { len: 0, dim });
    }
    if dim > MAX_DIM {
        return Err(FidError::TooWide { dim, most: MAX_DIM });
    }
    Ok(())
}

/// Makes both halves equal, to the last bit.
fn symmetrize(covariance: &mut [f64], dim: usize) -> Result<(), FidError> {
    let largest = covariance.iter().fold(0.0, |max: f64, v| max.max(v.abs()));
    for row in 0..dim {
        if covariance[row * dim + row] < 0.0 {
            let variance = covariance[row * dim + row];
            let reason = format!("feature {row} has variance {variance}");
            return Err(FidError::NotCovariance { reason });
        }
        for column in 0..row {
            let (below, above) = (
                covariance[row * dim + column],
                covariance[column * dim + row],
            );
            if below == above {
                continue;
            }
            if (below / 2.0 - above / 2.0).abs() > largest * (ASYMMETRY / 2.0) {
                let reason = format!(
                    "row {row}, column {column} is {below} and row {column}, column {row} is {above}"
                );
                return Err(FidError::NotCovariance { reason });
            }
            let both = below / 2.0 + above / 2.0;
            covariance[row * dim + column] = both;
            covariance[column * dim + row] = both;
        }
    }
    Ok(())
}
