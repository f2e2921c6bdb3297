//! Features on disk: an array `features` of a `.npz` or safetensors file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::container::{Array, Container};
use crate::statistics_file::read_source;
use crate::{FeatureMatrix, Features, FidError, Moments, Source, Statistics, Value};

/// The array that holds features unless another is named.
pub const FEATURES: &str = "features";

/// Rows that are read at a time where the caller does not say.
const ROWS: usize = 256;

/// Bytes that are read at a time at most, unless one row is longer.
const BYTES: usize = 64 << 20;

/// The longest row that is read.
const MAX_ROW: usize = 1 << 24;

/// A file of features `[count, dim]` in f16, f32 or f64, which is read in batches.
#[derive(Clone, Debug)]
pub struct FeatureFile {
    path: PathBuf,
    array: String,
    count: usize,
    dim: usize,
    source: Option<Source>,
}

impl FeatureFile {
    /// Opens the array `array` (usually [`FEATURES`]) of a `.npz` or safetensors file. A `source` beside it
    /// says what made it; see [`StatisticsFile::write`](crate::StatisticsFile::write).
    ///
    /// # Errors
    ///
    /// [`FidError::Missing`], [`FidError::Array`], [`FidError::Damaged`] or [`FidError::Read`], all naming
    /// the file.
    pub fn open(path: impl AsRef<Path>, array: &str) -> Result<Self, FidError> {
        let path = path.as_ref();
        let mut file = Container::open(path)?;
        let (count, dim) = shape(&file.array(array)?)?;
        let source = read_source(&mut file, "")?;
        Ok(Self {
            path: path.into(),
            array: array.into(),
            count,
            dim,
            source,
        })
    }

    /// How many rows there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many columns there are.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// What made the features; `None` if the file does not say.
    pub fn source(&self) -> Option<&Source> {
        self.source.as_ref()
    }

    /// Hands all rows to `each`, in order, at most `rows` of them at a time.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), [`FidError::Array`] for the first value that is NaN or infinite, and the
    /// errors of `each`.
    ///
    /// # Panics
    ///
    /// Panics if `rows` is zero.
    pub fn for_each<E: From<FidError>>(
        &self,
        rows: usize,
        mut each: impl FnMut(Features<'_, f64>) -> Result<(), E>,
    ) -> Result<(), E> {
        assert!(rows > 0, "batches of no rows never end");
        let mut file = Container::open(&self.path)?;
        let mut array = file.array(&self.array)?;
        if shape(&array)? != (self.count, self.dim) {
            return Err(array.unusable("it has changed since it was opened").into());
        }
        let rows = rows.min((BYTES / (8 * self.dim)).max(1));
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        for first in (0..self.count).step_by(rows) {
            let now = rows.min(self.count - first);
            array.read(now * self.dim, &mut bytes)?;
            values.clear();
            array.decode(&bytes, &mut values)?;
            each(finite(&array, first, &values, self.dim)?)?;
        }
        Ok(array.finish()?)
    }

    /// All rows, in memory. Reading f64 values as `f32` rounds them.
    ///
    /// # Errors
    ///
    /// As [`for_each`](Self::for_each), and [`FidError::Array`] for a compressed array that is a hundred
    /// times larger than its file.
    pub fn read<T: Value>(&self) -> Result<FeatureMatrix<T>, FidError> {
        let mut file = Container::open(&self.path)?;
        file.array(&self.array)?.check_fits_memory()?;
        let mut values = Vec::new();
        self.for_each(ROWS, |rows| {
            values.extend(rows.values().iter().map(|&value| T::nearest(value)));
            Ok::<(), FidError>(())
        })?;
        FeatureMatrix::new(values, self.dim)
    }

    /// Mean and covariance of all rows, which are not kept in memory.
    ///
    /// # Errors
    ///
    /// As [`for_each`](Self::for_each), [`Moments::new`] and [`Moments::finish`].
    pub fn statistics(&self) -> Result<Statistics, FidError> {
        let mut moments = Moments::new(self.dim)?;
        self.for_each(ROWS, |rows| moments.push(rows))?;
        moments.finish(self.source.clone())
    }
}

/// Rows and columns of an array of features.
fn shape(array: &Array<'_>) -> Result<(usize, usize), FidError> {
    let (count, dim) = match array.shape[..] {
        [count, dim] if count > 0 && dim > 0 && dim <= MAX_ROW => (count, dim),
        _ => {
            return Err(array.unusable(format!(
                "its shape is {:?}, expected [count, dim] with a dim up to {MAX_ROW}",
                array.shape
            )));
        }
    };
    if array.fortran_order {
        return Err(array.unusable("it lies column by column; save numpy.ascontiguousarray of it"));
    }
    Ok((count, dim))
}

/// The rows from `first` on, if they are finite.
fn finite<'a>(
    array: &Array<'_>,
    first: usize,
    values: &'a [f64],
    dim: usize,
) -> Result<Features<'a, f64>, FidError> {
    Features::new(values, dim).map_err(|error| match error {
        FidError::NotFinite { row, column, value } => {
            let row = row + first as u64;
            array.unusable(format!("row {row}, column {column} is {value}"))
        }
        other => other,
    })
}

/// Writes features and their source as a safetensors file that [`FeatureFile`] opens.
///
/// # Errors
///
/// [`FidError::Artifact`] if the file cannot be written.
pub fn write_features(
    path: impl AsRef<Path>,
    features: Features<'_, f32>,
    source: Option<&Source>,
) -> Result<(), FidError> {
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;

    let values = features.values().iter();
    let bytes: Vec<u8> = values.flat_map(|value| value.to_le_bytes()).collect();
    let source = source.map(|source| serde_json::to_vec(source).expect("two strings are JSON"));
    let mut views = BTreeMap::new();
    let shape = vec![features.count(), features.dim()];
    let fits = "shapes are those of the bytes";
    let view = TensorView::new(Dtype::F32, shape, &bytes).expect(fits);
    views.insert(FEATURES, view);
    if let Some(text) = &source {
        let view = TensorView::new(Dtype::U8, vec![text.len()], text).expect(fits);
        views.insert("source", view);
    }
    let file = safetensors::serialize(views, None).expect("two tensors have a header");
    Ok(diffrep_artifact::write_bytes_atomic(path, &file)?)
}
