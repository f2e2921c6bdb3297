//! What is estimated, and how it is computed.

use crate::{CkaError, Features, Layer};

/// How similarity is estimated from samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Estimator {
    /// The plain estimate (Kornblith et al. 2019): in \[0, 1\], and too high by about d / n.
    Biased,
    /// From the unbiased HSIC_1 (Song et al. 2012) of all rows: may be negative; needs 4 rows.
    Unbiased,
    /// From sums of HSIC_1 over batches (Nguyen et al. 2021): memory that does not grow with the data.
    ///
    /// Rows that are given together are cut into consecutive batches of nearly equal size, none
    /// larger than `rows`; every batch weighs the same and needs 4 rows, which it has if `rows` is at least 8.
    Minibatch {
        /// The largest batch.
        rows: usize,
    },
}

impl Estimator {
    pub(crate) fn is_unbiased(self) -> bool {
        self != Self::Biased
    }

    pub(crate) fn needed(self) -> usize {
        if self.is_unbiased() { 4 } else { 2 }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Biased => "biased CKA",
            Self::Unbiased => "unbiased CKA",
            Self::Minibatch { .. } => "a minibatch of unbiased CKA",
        }
    }
}

/// What two samples of one layer are compared by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kernel {
    /// The inner product.
    Linear,
    /// exp(-distance² / (2 σ²)), where σ is `fraction` times the root of the median squared distance
    /// over all n² pairs of the batch, each row with itself included (Kornblith et al. 2019).
    Rbf {
        /// The bandwidth in medians; the paper uses 0.2 to 0.8.
        fraction: f64,
    },
}

/// Which matrices linear CKA goes through; the value is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Whichever [`cost`] says is cheaper.
    Auto,
    /// Gram matrices of samples, [n, n] a layer: for few samples of many features.
    Gram,
    /// Covariances of features, [d, d'] a pair of layers: for many samples of few features.
    Covariance,
}

/// The type that features are multiplied in; sums of products over runs of features are always f64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Products in f64.
    Double,
    /// Products in f32, 1024 at a time, and f64 sums of those: about twice as fast, with errors
    /// below 1e-6.
    Single,
}

/// How layers are compared. The default is unbiased linear CKA in f64 on the cheaper path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// How similarity is estimated.
    pub estimator: Estimator,
    /// What samples are compared by.
    pub kernel: Kernel,
    /// Which matrices are computed.
    pub path: Path,
    /// What type features are multiplied in.
    pub precision: Precision,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            estimator: Estimator::Unbiased,
            kernel: Kernel::Linear,
            path: Path::Auto,
            precision: Precision::Double,
        }
    }
}

impl Options {
    /// Linear CKA by `estimator`, all else by default.
    pub fn new(estimator: Estimator) -> Self {
        Self {
            estimator,
            ..Self::default()
        }
    }

    pub(crate) fn check(&self) -> Result<(), CkaError> {
        if let Kernel::Rbf { fraction } = self.kernel {
            if !(fraction.is_finite() && fraction > 0.0) {
                return Err(CkaError::Bandwidth { fraction });
            }
            if self.path == Path::Covariance {
                return Err(CkaError::NoCovariance);
            }
        }
        if let Estimator::Minibatch { rows } = self.estimator {
            at_least(self.estimator, rows)?;
        }
        Ok(())
    }

    /// The path of a batch of `rows` rows: never `Auto`.
    pub(crate) fn path_for(&self, pairs: &Pairs, rows: usize, widths: &[usize]) -> Path {
        match (self.kernel, self.path) {
            (Kernel::Rbf { .. }, _) => Path::Gram,
            (Kernel::Linear, Path::Auto) => pairs.cost(rows, widths).cheaper(),
            (Kernel::Linear, path) => path,
        }
    }
}

pub(crate) fn at_least(estimator: Estimator, found: usize) -> Result<(), CkaError> {
    let needed = estimator.needed();
    if found < needed {
        return Err(CkaError::TooFew {
            what: estimator.name(),
            needed,
            found,
        });
    }
    Ok(())
}

/// What the two paths of linear CKA would take, in multiplications and in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Multiplications through Gram matrices.
    pub gram: f64,
    /// Multiplications through covariances.
    pub covariance: f64,
    /// Bytes of all covariances, which are held at once.
    pub covariance_bytes: f64,
}

impl Cost {
    /// The covariances take less time and at most 1 GiB; otherwise the Gram matrices.
    pub fn cheaper(&self) -> Path {
        let fits = self.covariance_bytes <= f64::from(1 << 30);
        if fits && self.covariance < self.gram {
            Path::Covariance
        } else {
            Path::Gram
        }
    }
}

/// The cost of comparing every layer of `a` with every one of `b`, or with one another if `b` is
/// `None`, on a batch of `rows` rows; `a` and `b` hold numbers of columns.
pub fn cost(rows: usize, a: &[usize], b: Option<&[usize]>) -> Cost {
    let (pairs, widths) = Pairs::of(a, b);
    pairs.cost(rows, &widths)
}

/// Which layers are compared: the rows of the matrix are the first layers, its columns the others, or
/// the same ones again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pairs {
    pub(crate) rows: usize,
    /// `None`: the rows again.
    pub(crate) columns: Option<usize>,
}

impl Pairs {
    /// The pairs of two lists, and the lists joined to one.
    pub(crate) fn of<T: Clone>(a: &[T], b: Option<&[T]>) -> (Self, Vec<T>) {
        let pairs = Self {
            rows: a.len(),
            columns: b.map(<[T]>::len),
        };
        (pairs, [a, b.unwrap_or_default()].concat())
    }

    /// The pairs of two networks, and the layers of both.
    pub(crate) fn of_layers<'a>(
        a: &'a [Layer<'_>],
        b: Option<&'a [Layer<'_>]>,
    ) -> (Self, Vec<(&'a str, Features<'a>)>) {
        let named = |layer: &'a Layer<'_>| (layer.name.as_str(), layer.features.reborrow());
        let a: Vec<_> = a.iter().map(named).collect();
        let b: Option<Vec<_>> = b.map(|b| {
            b.iter()
                .map(|layer| (layer.name.as_str(), layer.features.reborrow()))
                .collect()
        });
        Self::of(&a, b.as_deref())
    }

    pub(crate) fn layers(&self) -> usize {
        self.rows + self.columns.unwrap_or(0)
    }

    pub(crate) fn shape(&self) -> [usize; 2] {
        [self.rows, self.columns.unwrap_or(self.rows)]
    }

    /// The layer that stands in a column.
    pub(crate) fn column(&self, column: usize) -> usize {
        match self.columns {
            Some(_) => self.rows + column,
            None => column,
        }
    }

    /// Every pair of layers whose similarity is needed, each layer with itself among them; the first
    /// is never behind the second.
    pub(crate) fn needed(&self) -> Vec<(usize, usize)> {
        let layers = self.layers();
        let every = (0..layers).flat_map(|i| (i..layers).map(move |j| (i, j)));
        let is_needed = |&(i, j): &(usize, usize)| {
            i == j || self.columns.is_none() || (i < self.rows && j >= self.rows)
        };
        every.filter(is_needed).collect()
    }

    fn cost(&self, rows: usize, widths: &[usize]) -> Cost {
        let n = rows as f64;
        let pairs = self.needed();
        let all: f64 = widths.iter().map(|&width| width as f64).sum();
        let areas = pairs
            .iter()
            .map(|&(i, j)| widths[i] as f64 * widths[j] as f64);
        let area: f64 = areas.sum();
        // Half of a Gram matrix is computed, and half of it goes into each pair.
        Cost {
            gram: n * n / 2.0 * (all + pairs.len() as f64),
            covariance: n * area,
            covariance_bytes: 8.0 * area,
        }
    }
}
