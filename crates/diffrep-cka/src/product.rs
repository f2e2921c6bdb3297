//! Matrix products of blocks, in f64 or in f32 with f64 sums.
//!
//! Every product runs on one thread; threads share out the blocks, so that bits do not depend on
//! their number.

use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::traits::ComplexField;
use faer::{Accum, MatMut, MatRef, Par};

/// How many products are summed in the type of the features before the sum is kept in f64.
pub(crate) const RUN: usize = 1024;

/// A type that features are multiplied in.
pub(crate) trait Real: ComplexField + Copy + Send + Sync {
    fn of(value: f64) -> Self;
    fn get(self) -> f64;

    /// Adds `left` [m, k] times `right` [k, n] to `out` [m, n], stored by rows; of a square result
    /// only what is on and below the diagonal if `lower`. `scratch` is only a place to work in.
    fn add_product(
        out: &mut [f64],
        scratch: &mut Vec<Self>,
        left: MatRef<'_, Self>,
        right: MatRef<'_, Self>,
        lower: bool,
    );
}

impl Real for f64 {
    fn of(value: f64) -> Self {
        value
    }

    fn get(self) -> f64 {
        self
    }

    fn add_product(
        out: &mut [f64],
        _: &mut Vec<Self>,
        left: MatRef<'_, Self>,
        right: MatRef<'_, Self>,
        lower: bool,
    ) {
        multiply(out, Accum::Add, left, right, lower);
    }
}

impl Real for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }

    fn get(self) -> f64 {
        self.into()
    }

    fn add_product(
        out: &mut [f64],
        scratch: &mut Vec<Self>,
        left: MatRef<'_, Self>,
        right: MatRef<'_, Self>,
        lower: bool,
    ) {
        scratch.resize(out.len(), 0.0);
        multiply(scratch, Accum::Replace, left, right, lower);
        out.iter_mut()
            .zip(scratch.iter())
            .for_each(|(out, &product)| *out += f64::from(product));
    }
}

fn multiply<P: Real>(
    out: &mut [P],
    accum: Accum,
    left: MatRef<'_, P>,
    right: MatRef<'_, P>,
    lower: bool,
) {
    let out = MatMut::from_row_major_slice_mut(out, left.nrows(), right.ncols());
    let one = P::of(1.0);
    if lower {
        let (half, full) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
        triangular::matmul(out, half, accum, left, full, right, full, one, Par::Seq);
    } else {
        matmul(out, accum, left, right, one, Par::Seq);
    }
}
