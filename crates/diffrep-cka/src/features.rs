//! Feature matrices as they are given, and centred blocks of them as they are multiplied.

use std::ops::Range;

use ndarray::{ArrayView1, ArrayView2};
use rayon::prelude::*;

use crate::CkaError;
use crate::product::Real;

/// A view of features [n, d]: a row a sample, a column a feature.
#[derive(Clone, Copy, Debug)]
pub enum Features<'a> {
    /// In single precision.
    F32(ArrayView2<'a, f32>),
    /// In double precision.
    F64(ArrayView2<'a, f64>),
}

impl<'a> From<ArrayView2<'a, f32>> for Features<'a> {
    fn from(view: ArrayView2<'a, f32>) -> Self {
        Self::F32(view)
    }
}

impl<'a> From<ArrayView2<'a, f64>> for Features<'a> {
    fn from(view: ArrayView2<'a, f64>) -> Self {
        Self::F64(view)
    }
}

/// A layer's name, which errors and results use, and its features [n, d].
#[derive(Clone, Debug)]
pub struct Layer<'a> {
    /// The name.
    pub name: String,
    /// The features.
    pub features: Features<'a>,
}

impl<'a> Layer<'a> {
    /// A layer called `name` with `features`.
    pub fn new(name: impl Into<String>, features: impl Into<Features<'a>>) -> Self {
        Self {
            name: name.into(),
            features: features.into(),
        }
    }
}

impl<'a> Features<'a> {
    /// How many samples there are.
    pub fn rows(&self) -> usize {
        self.dim().0
    }

    /// How many features a sample has.
    pub fn columns(&self) -> usize {
        self.dim().1
    }

    fn dim(&self) -> (usize, usize) {
        match self {
            Self::F32(view) => view.dim(),
            Self::F64(view) => view.dim(),
        }
    }

    /// The same view for a shorter time, which ndarray does not do by itself.
    pub(crate) fn reborrow<'b>(self) -> Features<'b>
    where
        'a: 'b,
    {
        match self {
            Self::F32(view) => Features::F32(view.reborrow()),
            Self::F64(view) => Features::F64(view.reborrow()),
        }
    }

    /// Some of the rows.
    pub(crate) fn range(&self, rows: Range<usize>) -> Self {
        let rows = ndarray::s![rows, ..];
        match self {
            Self::F32(view) => Self::F32(view.slice_move(rows)),
            Self::F64(view) => Self::F64(view.slice_move(rows)),
        }
    }

    /// Writes `x * scale - shift` for the columns of one row.
    fn row<P: Real>(
        &self,
        row: usize,
        columns: Range<usize>,
        scale: f64,
        shift: &[f64],
        out: &mut [P],
    ) {
        let columns = ndarray::s![row, columns];
        match self {
            Self::F32(view) => shifted(view.slice(columns), scale, shift, out),
            Self::F64(view) => shifted(view.slice(columns), scale, shift, out),
        }
    }

    /// Where the first value is that is not finite, if there is one.
    fn not_finite(&self) -> Option<(usize, usize, f64)> {
        match self {
            Self::F32(view) => not_finite(view),
            Self::F64(view) => not_finite(view),
        }
    }
}

fn shifted<T: Copy + Into<f64>, P: Real>(
    row: ArrayView1<'_, T>,
    scale: f64,
    shift: &[f64],
    out: &mut [P],
) {
    // A slice lets the loop be vectorised.
    let write = |(out, (value, shift)): (&mut P, (&T, &f64))| {
        *out = P::of((*value).into() * scale - shift);
    };
    match row.as_slice() {
        Some(row) => out.iter_mut().zip(row.iter().zip(shift)).for_each(write),
        None => out.iter_mut().zip(row.iter().zip(shift)).for_each(write),
    }
}

fn not_finite<T: Copy + Into<f64>>(view: &ArrayView2<'_, T>) -> Option<(usize, usize, f64)> {
    let is_bad = |value: &T| !(*value).into().is_finite();
    for (row, values) in view.outer_iter().enumerate() {
        // The sum of x * 0 is 0 unless some x is not finite; it has no branch to slow it down.
        let sum: f64 = match values.as_slice() {
            Some(values) => values.iter().map(|&value| value.into() * 0.0).sum(),
            None => values.iter().map(|&value| value.into() * 0.0).sum(),
        };
        if sum != 0.0 || sum.is_nan() {
            let column = values.iter().position(is_bad)?;
            return Some((row, column, values[column].into()));
        }
    }
    None
}

/// A layer with what is taken off each column and what it is multiplied with.
pub(crate) struct Centred<'a> {
    pub(crate) features: Features<'a>,
    /// A power of two that brings the values near 1, which changes no similarity and no bit of one.
    pub(crate) scale: f64,
    /// The mean of each column, scaled.
    pub(crate) shift: Vec<f64>,
}

impl<'a> Centred<'a> {
    /// Centres by the rows' own mean; `scale` is kept if there is one.
    pub(crate) fn new(features: Features<'a>, scale: Option<f64>) -> Self {
        let mut centred = Self {
            features,
            scale: scale.unwrap_or(1.0),
            shift: vec![0.0; features.columns()],
        };
        if scale.is_none() {
            centred.scale = centred.power_of_two();
        }
        centred.find_mean();
        centred
    }

    /// Leaves the rows where they are, scaled.
    pub(crate) fn uncentred(features: Features<'a>) -> Self {
        let mut centred = Self {
            features,
            scale: 1.0,
            shift: vec![0.0; features.columns()],
        };
        centred.scale = centred.power_of_two();
        centred
    }

    fn power_of_two(&self) -> f64 {
        let mut largest = 0.0;
        self.each_row(|row| {
            largest = row.iter().fold(largest, |m: f64, v: &f64| m.max(v.abs()));
        });
        if largest == 0.0 {
            return 1.0;
        }
        // The limits keep the factor itself finite.
        2f64.powi(-(largest.log2().floor().clamp(-1000.0, 1000.0) as i32))
    }

    /// Twice: the second round takes off what rounding left of a large mean.
    fn find_mean(&mut self) {
        let (width, rows) = (self.shift.len(), self.features.rows());
        let mut first = vec![0.0; width];
        if rows > 0 {
            let (scale, shift) = (self.scale, &self.shift);
            self.features.row(0, 0..width, scale, shift, &mut first);
        }
        let mut is_constant = true;
        for _ in 0..2 {
            let mut sum = vec![0.0; width];
            self.each_row(|row| {
                is_constant = is_constant && row == first;
                sum.iter_mut()
                    .zip(row)
                    .for_each(|(sum, value)| *sum += value);
            });
            // The mean of equal values may be rounded; they themselves are not.
            if is_constant {
                self.shift = first;
                return;
            }
            let mean = |(shift, sum): (&mut f64, &f64)| *shift += sum / rows as f64;
            self.shift.iter_mut().zip(&sum).for_each(mean);
        }
    }

    fn each_row(&self, mut act: impl FnMut(&[f64])) {
        let width = self.shift.len();
        let mut values = vec![0.0; width];
        for row in 0..self.features.rows() {
            self.features
                .row(row, 0..width, self.scale, &self.shift, &mut values);
            act(&values);
        }
    }

    /// The squared length of each row.
    pub(crate) fn squares(&self) -> Vec<f64> {
        let mut squares = Vec::with_capacity(self.features.rows());
        self.each_row(|row| squares.push(row.iter().map(|value| value * value).sum()));
        squares
    }

    /// Replaces `out` by a block of the centred rows, row by row.
    pub(crate) fn block<P: Real>(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        out: &mut Vec<P>,
    ) {
        let width = columns.len();
        out.resize(rows.len() * width, P::of(0.0));
        let shift = &self.shift[columns.clone()];
        for (row, out) in rows.zip(out.chunks_exact_mut(width)) {
            self.features
                .row(row, columns.clone(), self.scale, shift, out);
        }
    }
}

/// Errs unless all layers have the same number of rows, columns, and finite values only; returns the
/// number of rows.
pub(crate) fn check(layers: &[(&str, Features<'_>)]) -> Result<usize, CkaError> {
    let expected = layers.first().ok_or(CkaError::NoLayers)?.1.rows();
    for (name, features) in layers {
        let layer = (*name).to_owned();
        if features.columns() == 0 {
            return Err(CkaError::NoColumns { layer });
        }
        let found = features.rows();
        if found != expected {
            return Err(CkaError::RowMismatch {
                layer,
                expected,
                found,
            });
        }
    }
    let bad: Vec<_> = layers
        .par_iter()
        .map(|(_, features)| features.not_finite())
        .collect();
    for ((name, _), bad) in layers.iter().zip(bad) {
        if let Some((row, column, value)) = bad {
            return Err(CkaError::NotFinite {
                layer: (*name).to_owned(),
                row,
                column,
                value,
            });
        }
    }
    Ok(expected)
}
