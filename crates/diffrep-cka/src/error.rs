//! The one error type of the crate.

/// Why layers cannot be compared.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CkaError {
    /// No layer was given on one side.
    #[error("there is no layer to compare; give at least one on each side")]
    NoLayers,
    /// Another number of layers was pushed than was announced.
    #[error("{found} layers were given where {expected} were announced")]
    LayerCount {
        /// The number of names.
        expected: usize,
        /// The number of feature matrices.
        found: usize,
    },
    /// A layer has no features.
    #[error("layer `{layer}` has no columns")]
    NoColumns {
        /// The layer.
        layer: String,
    },
    /// Layers hold different numbers of samples.
    #[error(
        "layer `{layer}` has {found} rows where the first layer has {expected}; \
         row i of every layer must belong to the same sample"
    )]
    RowMismatch {
        /// The layer that differs from the first.
        layer: String,
        /// The rows of the first layer.
        expected: usize,
        /// The rows of this one.
        found: usize,
    },
    /// A layer's width changed between batches.
    #[error("layer `{layer}` has {found} columns and had {expected} in the batches before")]
    WidthChanged {
        /// The layer.
        layer: String,
        /// The columns of the first batch.
        expected: usize,
        /// The columns of this one.
        found: usize,
    },
    /// There are fewer samples than the estimator needs.
    #[error("{what} needs at least {needed} rows, and there are {found}")]
    TooFew {
        /// The estimator or measure.
        what: &'static str,
        /// The smallest number of rows that has an answer.
        needed: usize,
        /// The number given.
        found: usize,
    },
    /// A feature is NaN or infinite.
    #[error(
        "layer `{layer}` holds {value} in row {row}, column {column}; every feature must be finite"
    )]
    NotFinite {
        /// The layer.
        layer: String,
        /// The row within what was pushed, from 0.
        row: usize,
        /// The column, from 0.
        column: usize,
        /// The value.
        value: f64,
    },
    /// Every sample has the same features.
    #[error(
        "layer `{layer}` is the same in every row, so that it is similar to nothing; leave it out"
    )]
    Constant {
        /// The layer.
        layer: String,
    },
    /// The features vary, but the estimator's own similarity of the layer is zero within rounding.
    #[error(
        "layer `{layer}` has nothing that this estimator could compare: \
         no two rows are more alike than others; take more rows, another estimator or another bandwidth"
    )]
    NoSignal {
        /// The layer.
        layer: String,
    },
    /// The result left the range of the type.
    #[error("layer `{layer}` has values too large to be multiplied; scale its features down")]
    Overflow {
        /// The layer.
        layer: String,
    },
    /// Half of all distances are zero, so that their median is no bandwidth.
    #[error(
        "layer `{layer}` has a median distance of 0, which is no bandwidth; remove repeated rows"
    )]
    NoBandwidth {
        /// The layer.
        layer: String,
    },
    /// A row of zeros has no direction.
    #[error("layer `{layer}` has only zeros in row {row}, which has no direction to compare")]
    ZeroRow {
        /// The layer.
        layer: String,
        /// The row, from 0.
        row: usize,
    },
    /// The bandwidth is out of range.
    #[error("the bandwidth is {fraction} of the median distance; it must be finite and above 0")]
    Bandwidth {
        /// The fraction given.
        fraction: f64,
    },
    /// The number of neighbours is out of range.
    #[error("{neighbours} neighbours were asked for; with {rows} rows there are {least} to {most}")]
    Neighbours {
        /// The number asked for.
        neighbours: usize,
        /// The number of samples.
        rows: usize,
        /// The smallest possible number.
        least: usize,
        /// The largest possible number.
        most: usize,
    },
    /// What was asked for needs all rows at once, and they come in batches.
    #[error(
        "{what} needs all rows at once; compare layers in memory, \
         or stream linear CKA through covariances or in minibatches"
    )]
    NeedsAllRows {
        /// The estimator, kernel or path.
        what: &'static str,
    },
    /// A kernel other than the linear one has no feature covariance.
    #[error("RBF CKA has no covariance path; choose `Path::Auto` or `Path::Gram`")]
    NoCovariance,
    /// Nothing was pushed.
    #[error("no batch was pushed, so that there is nothing to compare")]
    NoRows,
}
