//! Mean and covariance of features that come in batches.

use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::{Accum, Mat, MatRef, Par};

use crate::error::{at_least, finite};
use crate::features::check_widths;
use crate::statistics::check_dim;
use crate::{Features, FidError, Source, Statistics, Value};

/// Rows that enter the covariance at a time: enough for a product of matrices to be fast.
const BLOCK: usize = 256;

/// Accumulates mean and covariance of features, in f64.
///
/// Rows are gathered to blocks of a fixed size, each is centred on its own mean, and blocks are joined
/// by the formula of Chan, Golub and LeVeque. Nothing is squared before it is centred, so that a large
/// common offset costs no digits, and how rows are cut into batches makes no difference.
#[derive(Clone, Debug)]
pub struct Moments {
    count: u64,
    mean: Vec<f64>,
    /// The sum of (x - mean)(x - mean)^T over all rows, of which only the lower half is kept up.
    scatter: Mat<f64>,
    /// Rows that do not fill a block yet, row-major.
    pending: Vec<f64>,
}

impl Moments {
    /// Of no rows yet, with `dim` columns.
    ///
    /// # Errors
    ///
    /// [`FidError::Shape`] if `dim` is zero, [`FidError::TooWide`] if it is above
    /// [`MAX_DIM`](crate::MAX_DIM).
    pub fn new(dim: usize) -> Result<Self, FidError> {
        check_dim(dim)?;
        Ok(Self {
            count: 0,
            mean: vec![0.0; dim],
            scatter: Mat::zeros(dim, dim),
            pending: Vec::new(),
        })
    }

    /// How many columns there are.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// How many rows have been pushed.
    pub fn count(&self) -> u64 {
        self.count + (self.pending.len() / self.dim()) as u64
    }

    /// Takes more rows in, `[count, dim]`; none are fine.
    ///
    /// # Errors
    ///
    /// [`FidError::Width`] if they have another number of columns.
    pub fn push<T: Value>(&mut self, features: Features<'_, T>) -> Result<(), FidError> {
        let dim = self.dim();
        check_widths(features.dim(), dim)?;
        let mut rest = features.values();
        while !rest.is_empty() {
            let room = BLOCK * dim - self.pending.len();
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.pending.extend(now.iter().map(|&value| value.into()));
            if self.pending.len() == BLOCK * dim {
                self.absorb();
            }
            rest = later;
        }
        Ok(())
    }

    /// Takes in all that another accumulator has seen.
    ///
    /// # Errors
    ///
    /// [`FidError::Width`] if it has another number of columns.
    pub fn merge(&mut self, mut other: Self) -> Result<(), FidError> {
        check_widths(other.dim(), self.dim())?;
        self.absorb();
        other.absorb();
        let (step, weight) = self.join(other.count, &other.mean);
        self.scatter += &other.scatter;
        let between: Vec<f64> = step.iter().map(|value| value * weight).collect();
        self.add_products(&between);
        Ok(())
    }

    /// Mean and covariance (with n - 1, as NumPy's `cov`) of all rows so far.
    ///
    /// # Errors
    ///
    /// [`FidError::TooFew`] below two rows, [`FidError::Overflow`] if values are so large that their
    /// squares are not finite.
    pub fn finish(mut self, source: Option<Source>) -> Result<Statistics, FidError> {
        at_least("a covariance", 2, self.count())?;
        self.absorb();
        let (dim, divisor) = (self.dim(), (self.count - 1) as f64);
        let mut covariance = vec![0.0; dim * dim];
        for row in 0..dim {
            for column in 0..=row {
                let value = finite("covariance", self.scatter[(row, column)] / divisor)?;
                covariance[row * dim + column] = value;
                covariance[column * dim + row] = value;
            }
        }
        Statistics::new(self.mean, covariance, Some(self.count), source)
    }

    /// Moves the pending rows into mean and scatter.
    fn absorb(&mut self) {
        let dim = self.dim();
        let mut rows = std::mem::take(&mut self.pending);
        if rows.is_empty() {
            return;
        }
        let count = rows.len() / dim;
        let mut mean = vec![0.0; dim];
        for row in rows.chunks_exact(dim) {
            for (sum, value) in mean.iter_mut().zip(row) {
                *sum += value;
            }
        }
        mean.iter_mut().for_each(|sum| *sum /= count as f64);
        // Sums of hundreds of values that lie far from zero lose digits, which the mean of what is left gives back.
        let mut left = vec![0.0; dim];
        for row in rows.chunks_exact(dim) {
            for ((sum, value), mean) in left.iter_mut().zip(row).zip(&mean) {
                *sum += value - mean;
            }
        }
        for (mean, left) in mean.iter_mut().zip(left) {
            *mean += left / count as f64;
        }
        for row in rows.chunks_exact_mut(dim) {
            for (value, mean) in row.iter_mut().zip(&mean) {
                *value -= mean;
            }
        }
        // The step between the means enters as one more centred row.
        let (step, weight) = self.join(count as u64, &mean);
        rows.extend(step.iter().map(|value| value * weight));
        self.add_products(&rows);
        rows.clear();
        self.pending = rows;
    }

    /// Moves count and mean on by `count` rows of mean `mean`. Returns the difference of the means
    /// before, and the square root of the weight with which its square enters the scatter.
    fn join(&mut self, count: u64, mean: &[f64]) -> (Vec<f64>, f64) {
        let (before, new) = (self.count as f64, count as f64);
        let total = before + new;
        let step: Vec<f64> = mean.iter().zip(&self.mean).map(|(b, a)| b - a).collect();
        if count == 0 {
            return (step, 0.0);
        }
        for (mean, step) in self.mean.iter_mut().zip(&step) {
            *mean += step * (new / total);
        }
        self.count += count;
        (step, (before * (new / total)).sqrt())
    }

    /// Adds the lower half of X^T X for centred rows X, `[any, dim]`, to the scatter.
    fn add_products(&mut self, rows: &[f64]) {
        let dim = self.dim();
        let rows = MatRef::from_row_major_slice(rows, rows.len() / dim, dim);
        matmul(
            self.scatter.as_mut(),
            BlockStructure::TriangularLower,
            Accum::Add,
            rows.transpose(),
            BlockStructure::Rectangular,
            rows,
            BlockStructure::Rectangular,
            1.0,
            Par::rayon(0),
        );
    }
}
