//! The one error type of the crate.

use std::io;
use std::path::PathBuf;

use diffrep_artifact::ArtifactError;

use crate::Source;

/// Why a metric has no answer, or a file cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FidError {
    /// A file operation failed.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The operating system could not read a file to its end.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file is neither a whole `.npz` nor a whole safetensors file.
    #[error("{} is damaged or of another format ({reason}); expected .npz or safetensors", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An array in a file cannot be used.
    #[error("the array `{array}` of {} cannot be used: {reason}", path.display())]
    Array {
        /// The file.
        path: PathBuf,
        /// The name of the array, without `.npy`.
        array: String,
        /// What is wrong with it, and where it is known, what helps.
        reason: String,
    },
    /// A file lacks an array.
    #[error("{} holds no array `{array}`, only {found}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The array that is needed.
        array: String,
        /// The names of the arrays that are there.
        found: String,
    },
    /// A file name does not say which format to write.
    #[error("{} ends in neither .npz nor .safetensors; name the file so", path.display())]
    Ending {
        /// The file.
        path: PathBuf,
    },
    /// There are fewer samples than the metric needs.
    #[error("{what} needs at least {needed} samples, and there are {found}")]
    TooFew {
        /// The metric, and which side.
        what: String,
        /// The smallest number that has an answer.
        needed: u64,
        /// The number given.
        found: u64,
    },
    /// A value is NaN or infinite.
    #[error("row {row}, column {column} is {value}; every value must be finite")]
    NotFinite {
        /// The row, from 0.
        row: u64,
        /// The column, from 0.
        column: usize,
        /// The value.
        value: f64,
    },
    /// The values are so large that the answer is not a finite number.
    #[error("the values are too large for a finite {what}")]
    Overflow {
        /// The metric.
        what: &'static str,
    },
    /// A matrix of features has no columns, or its length is not a multiple of them.
    #[error("{len} values are not rows of {dim}")]
    Shape {
        /// The number of values.
        len: usize,
        /// The number of columns.
        dim: usize,
    },
    /// Two inputs that belong together differ in their number of columns.
    #[error(
        "the samples have {samples} features each and the reference has {reference}; both must come from one layer of one network"
    )]
    Width {
        /// Columns of the samples.
        samples: usize,
        /// Columns of the reference.
        reference: usize,
    },
    /// There are more features than a covariance in memory is made for.
    #[error("{dim} features are too many: their covariance would take {} MiB; at most {most} are possible", dim.saturating_mul(*dim) >> 17)]
    TooWide {
        /// The number given.
        dim: usize,
        /// The largest number that is taken.
        most: usize,
    },
    /// The two sides were made in different ways, so that their distance means nothing.
    #[error(
        "the samples are features of {samples} and the reference of {reference}; distances between them mean nothing: extract both in the same way"
    )]
    Sources {
        /// What made the samples.
        samples: Box<Source>,
        /// What made the reference.
        reference: Box<Source>,
    },
    /// A matrix is not the covariance of anything.
    #[error("this is not a covariance: {reason}")]
    NotCovariance {
        /// What gives it away.
        reason: String,
    },
    /// A row is not a distribution over classes.
    #[error(
        "row {row} is not a distribution over classes: {reason}; give probabilities after the softmax, not logits"
    )]
    NotProbabilities {
        /// The row, from 0.
        row: u64,
        /// What gives it away.
        reason: String,
    },
    /// A setting is out of range.
    #[error("{name} is {found}; expected {expected}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What it is.
        found: u64,
        /// What it may be.
        expected: String,
    },
    /// An eigenvalue or singular value decomposition did not converge.
    #[error(
        "the decomposition of a {dim} x {dim} covariance did not converge; look for columns of very different size"
    )]
    NoConvergence {
        /// The number of features.
        dim: usize,
    },
}

/// Errs unless `found >= needed`.
pub(crate) fn at_least(what: &str, needed: u64, found: u64) -> Result<(), FidError> {
    if found < needed {
        return Err(FidError::TooFew {
            what: what.into(),
            needed,
            found,
        });
    }
    Ok(())
}

/// Errs unless `value` is finite.
pub(crate) fn finite(what: &'static str, value: f64) -> Result<f64, FidError> {
    if value.is_finite() {
        return Ok(value);
    }
    Err(FidError::Overflow { what })
}
