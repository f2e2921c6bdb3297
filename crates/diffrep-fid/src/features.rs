//! Matrices of features, and what is known about where they come from.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::FidError;

/// What made features: two sets may be compared only if this is the same for both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The network, its weights (with their hash) and the layer, in the caller's words.
    pub extractor: String,
    /// How images were brought to the network's input, in the caller's words.
    pub resize: String,
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:?} resized by {:?}",
            self.extractor, self.resize
        )
    }
}

/// One of the two sets of images behind a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Side {
    /// How many images there are; `None` for statistics whose file does not say.
    pub count: Option<u64>,
    /// What made their features; `None` where no one said.
    pub source: Option<Source>,
}

/// Errs if both sources are known and differ.
pub(crate) fn check_sources(samples: &Side, reference: &Side) -> Result<(), FidError> {
    match (&samples.source, &reference.source) {
        (Some(ours), Some(theirs)) if ours != theirs => Err(FidError::Sources {
            samples: Box::new(ours.clone()),
            reference: Box::new(theirs.clone()),
        }),
        _ => Ok(()),
    }
}

/// A type that features are kept in: `f32` or `f64`.
pub trait Value: Copy + Send + Sync + Into<f64> + sealed::Sealed {
    /// The nearest value of the type.
    fn nearest(value: f64) -> Self;
}

impl Value for f32 {
    fn nearest(value: f64) -> Self {
        value as f32
    }
}

impl Value for f64 {
    fn nearest(value: f64) -> Self {
        value
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A borrowed matrix of features, one row an image, `[count, dim]` in row-major order.
///
/// Its values are known to be finite.
#[derive(Clone, Copy, Debug)]
pub struct Features<'a, T> {
    values: &'a [T],
    dim: usize,
}

impl<'a, T: Value> Features<'a, T> {
    /// Takes `values` as rows of `dim`.
    ///
    /// # Errors
    ///
    /// [`FidError::Shape`] if they are not whole rows of at least one column,
    /// [`FidError::NotFinite`] naming the first value that is NaN or infinite.
    pub fn new(values: &'a [T], dim: usize) -> Result<Self, FidError> {
        if dim == 0 || !values.len().is_multiple_of(dim) {
            return Err(FidError::Shape {
                len: values.len(),
                dim,
            });
        }
        let is_bad = |value: &T| !(*value).into().is_finite();
        if let Some(index) = values.iter().position(is_bad) {
            return Err(FidError::NotFinite {
                row: (index / dim) as u64,
                column: index % dim,
                value: values[index].into(),
            });
        }
        Ok(Self { values, dim })
    }

    /// How many rows there are.
    pub fn count(&self) -> usize {
        self.values.len() / self.dim
    }

    /// How many columns there are.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// All values, `[count, dim]` in row-major order.
    pub fn values(&self) -> &'a [T] {
        self.values
    }

    /// The values of row `index`, `[dim]`.
    ///
    /// # Panics
    ///
    /// Panics if there is no such row.
    pub fn row(&self, index: usize) -> &'a [T] {
        &self.values[index * self.dim..][..self.dim]
    }

    /// The side of a result that these are.
    pub(crate) fn side(&self, source: Option<&Source>) -> Side {
        Side {
            count: Some(self.count() as u64),
            source: source.cloned(),
        }
    }
}

/// A matrix of features in memory; see [`Features`].
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureMatrix<T> {
    values: Vec<T>,
    dim: usize,
}

impl<T: Value> FeatureMatrix<T> {
    /// Takes `values` as rows of `dim`.
    ///
    /// # Errors
    ///
    /// As [`Features::new`].
    pub fn new(values: Vec<T>, dim: usize) -> Result<Self, FidError> {
        Features::new(&values, dim)?;
        Ok(Self { values, dim })
    }

    /// The matrix, borrowed.
    pub fn view(&self) -> Features<'_, T> {
        Features {
            values: &self.values,
            dim: self.dim,
        }
    }
}

/// Errs unless both have the same number of columns.
pub(crate) fn check_widths(samples: usize, reference: usize) -> Result<(), FidError> {
    if samples != reference {
        return Err(FidError::Width { samples, reference });
    }
    Ok(())
}
