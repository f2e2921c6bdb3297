use std::path::Path;

use diffrep_extract::Gathered;
use diffrep_store::Store;
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::ProbeError;

/// Features of one setting with labels, in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Row-major `[samples, dim]`.
    pub values: Vec<f32>,
    /// Length of a vector.
    pub dim: usize,
    /// Class of each sample.
    pub labels: Vec<u32>,
}

/// Features in a safetensors file of any origin.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureFile {
    /// The features with their labels.
    pub features: Features,
    /// The shape of a sample: `[dim]`, or `[channels, height, width]` where features are maps.
    pub shape: Vec<usize>,
    /// Which image each sample is of, if the file tells; several samples may be of one.
    pub ids: Option<Vec<u64>>,
}

impl Features {
    /// A column of a store.
    ///
    /// # Errors
    ///
    /// When the store has no such column, or a label is negative.
    pub fn read(store: &Store, column: &str) -> Result<Self, ProbeError> {
        let column = store.column(column)?;
        let labels = store
            .labels()
            .iter()
            .map(|&label| {
                u32::try_from(label).map_err(|_| ProbeError::Label {
                    label,
                    classes: usize::MAX,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            values: column.to_f32(),
            dim: column.dim(),
            labels,
        })
    }

    /// A column of gathered stores.
    ///
    /// # Errors
    ///
    /// As [`Features::read`].
    pub fn gathered(gathered: &Gathered, column: &str) -> Result<Self, ProbeError> {
        match gathered.store(column).or(gathered.stores().first()) {
            Some(store) => Self::read(store, column),
            None => Err(ProbeError::Empty { split: "stores" }),
        }
    }

    /// A safetensors file of any origin with `features` (floats, `[samples, dim]` or
    /// `[samples, channels, height, width]`), `labels` (integers, `[samples]`) and perhaps `ids` of the images
    /// (integers, `[samples]`).
    ///
    /// # Errors
    ///
    /// When the file lacks features or labels, they or the ids do not fit together, a value is not finite or a label
    /// is negative.
    pub fn from_file(path: &Path) -> Result<FeatureFile, ProbeError> {
        let refuse = |reason: String| ProbeError::NotFeatures {
            path: path.into(),
            reason,
        };
        let bytes = diffrep_artifact::read_bytes(path)?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| refuse(error.to_string()))?;
        let tensor = |name: &str| {
            file.tensor(name).map_err(|_| {
                let names = file.names().join("`, `");
                refuse(format!("it has no tensor `{name}`, but `{names}`"))
            })
        };
        let (features, labels) = (tensor("features")?, tensor("labels")?);
        let shape = features.shape().to_vec();
        if !matches!(shape.len(), 2 | 4) || shape[1..].contains(&0) {
            return Err(refuse(format!(
                "`features` has shape {shape:?}; [samples, dim] or [samples, channels, height, width] \
                 is wanted"
            )));
        }
        let ids = file.tensor("ids").ok();
        for (name, tensor) in [("labels", Some(&labels)), ("ids", ids.as_ref())] {
            if let Some(tensor) = tensor
                && tensor.shape() != &shape[..1]
            {
                return Err(refuse(format!(
                    "`{name}` has shape {:?} where `features` has {} samples",
                    tensor.shape(),
                    shape[0]
                )));
            }
        }
        let values = floats(&features).ok_or_else(|| {
            let dtype = features.dtype();
            refuse(format!(
                "`features` is {dtype:?}; F32, F16, BF16 or F64 is wanted"
            ))
        })?;
        let dim: usize = shape[1..].iter().product();
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(refuse(format!(
                "sample {} has a feature that is not finite",
                at / dim
            )));
        }
        let found = integers(&labels).ok_or_else(|| {
            let dtype = labels.dtype();
            refuse(format!("`labels` is {dtype:?}; an integer type is wanted"))
        })?;
        let labels = found.into_iter().map(|label| {
            u32::try_from(label).map_err(|_| refuse(format!("label {label} is no class")))
        });
        let labels = labels.collect::<Result<_, _>>()?;
        let ids = ids.map(|ids| {
            let dtype = ids.dtype();
            let found = integers(&ids);
            let found = found.map(|ids| ids.into_iter().map(|id| id as u64).collect());
            found.ok_or_else(|| refuse(format!("`ids` is {dtype:?}; an integer type is wanted")))
        });
        Ok(FeatureFile {
            features: Self {
                values,
                dim,
                labels,
            },
            shape: shape[1..].to_vec(),
            ids: ids.transpose()?,
        })
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The samples at `indices`.
    pub fn select(&self, indices: &[usize]) -> Self {
        let rows = indices
            .iter()
            .flat_map(|&i| &self.values[i * self.dim..(i + 1) * self.dim]);
        Self {
            values: rows.copied().collect(),
            dim: self.dim,
            labels: indices.iter().map(|&i| self.labels[i]).collect(),
        }
    }

    /// Mean and deviation of each feature (f64 sums); a constant feature gets deviation 1.
    pub(crate) fn moments(&self) -> (Vec<f32>, Vec<f32>) {
        let count = self.len().max(1) as f64;
        let mut mean = vec![0.0f64; self.dim];
        for row in self.values.chunks_exact(self.dim) {
            for (mean, value) in mean.iter_mut().zip(row) {
                *mean += f64::from(*value);
            }
        }
        mean.iter_mut().for_each(|mean| *mean /= count);
        let mut variance = vec![0.0f64; self.dim];
        for row in self.values.chunks_exact(self.dim) {
            for ((variance, value), mean) in variance.iter_mut().zip(row).zip(&mean) {
                *variance += (f64::from(*value) - mean).powi(2);
            }
        }
        let deviation = variance.iter().map(|sum| {
            let deviation = (sum / count).sqrt();
            if deviation > 1e-6 {
                deviation as f32
            } else {
                1.0
            }
        });
        (
            mean.iter().map(|mean| *mean as f32).collect(),
            deviation.collect(),
        )
    }
}

fn words<const N: usize, T>(view: &TensorView<'_>, read: impl Fn([u8; N]) -> T) -> Vec<T> {
    let words = view.data().as_chunks::<N>().0;
    words.iter().map(|word| read(*word)).collect()
}

fn floats(view: &TensorView<'_>) -> Option<Vec<f32>> {
    Some(match view.dtype() {
        Dtype::F32 => words(view, f32::from_le_bytes),
        Dtype::F64 => words(view, |word| f64::from_le_bytes(word) as f32),
        Dtype::F16 => words(view, |word| f16::from_le_bytes(word).to_f32()),
        Dtype::BF16 => words(view, |word| bf16::from_le_bytes(word).to_f32()),
        _ => return None,
    })
}

fn integers(view: &TensorView<'_>) -> Option<Vec<i64>> {
    Some(match view.dtype() {
        Dtype::U8 => words(view, |word| u8::from_le_bytes(word).into()),
        Dtype::I8 => words(view, |word| i8::from_le_bytes(word).into()),
        Dtype::U16 => words(view, |word| u16::from_le_bytes(word).into()),
        Dtype::I16 => words(view, |word| i16::from_le_bytes(word).into()),
        Dtype::U32 => words(view, |word| u32::from_le_bytes(word).into()),
        Dtype::I32 => words(view, |word| i32::from_le_bytes(word).into()),
        Dtype::I64 => words(view, i64::from_le_bytes),
        Dtype::U64 => words(view, |word| u64::from_le_bytes(word) as i64),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use safetensors::serialize;

    use super::*;

    fn written(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> Result<FeatureFile, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.safetensors");
        let views = tensors.iter().map(|(name, dtype, shape, data)| {
            (
                *name,
                TensorView::new(*dtype, shape.to_vec(), data).unwrap(),
            )
        });
        std::fs::write(&path, serialize(views, None).unwrap()).unwrap();
        Features::from_file(&path).map_err(|error| error.to_string())
    }

    fn bytes(values: &[f32]) -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }

    #[test]
    fn files_of_any_origin_are_read() {
        let two = bytes(&[1.0, 2.0, 3.0, 4.0]);
        let labels = ("labels", Dtype::U8, &[2][..], &[1u8, 0][..]);
        let file = written(&[("features", Dtype::F32, &[2, 2], &two), labels]).unwrap();
        let found = file.features;
        assert_eq!((found.values, found.dim), (vec![1.0, 2.0, 3.0, 4.0], 2));
        assert_eq!((found.labels, file.shape), (vec![1, 0], vec![2]));
        assert_eq!(file.ids, None);
        let half: Vec<u8> = [1.0f32, -0.5]
            .iter()
            .flat_map(|v| f16::from_f32(*v).to_le_bytes())
            .collect();
        let maps = ("features", Dtype::F16, &[2, 1, 1, 1][..], half.as_slice());
        let wide: Vec<u8> = [7i64, 8].iter().flat_map(|v| v.to_le_bytes()).collect();
        let narrow = ("ids", Dtype::I8, &[2][..], &[3u8, 255][..]);
        let file = written(&[maps, ("labels", Dtype::I64, &[2], &wide), narrow]).unwrap();
        assert_eq!(
            (file.features.values, file.shape),
            (vec![1.0, -0.5], vec![1, 1, 1])
        );
        assert_eq!(file.features.labels, [7, 8]);
        assert_eq!(file.ids, Some(vec![3, u64::MAX]));
    }

    #[test]
    fn files_that_hold_no_features_are_refused() {
        let two = bytes(&[1.0, 2.0]);
        let nan = bytes(&[1.0, f32::NAN]);
        let good = ("features", Dtype::F32, &[2, 1][..], two.as_slice());
        let labels = ("labels", Dtype::U8, &[2][..], &[1u8, 0][..]);
        for (tensors, hint) in [
            (vec![good], "it has no tensor `labels`, but `features`"),
            (
                vec![("features", Dtype::F32, &[2][..], two.as_slice()), labels],
                "has shape [2]",
            ),
            (
                vec![good, ("labels", Dtype::U8, &[1], &[0])],
                "where `features` has 2 samples",
            ),
            (
                vec![("features", Dtype::F32, &[2, 1], &nan), labels],
                "sample 1 has a feature",
            ),
            (
                vec![("features", Dtype::I32, &[2, 1], &two), labels],
                "`features` is I32",
            ),
            (
                vec![good, ("labels", Dtype::I8, &[2], &[1, 255])],
                "label -1 is no class",
            ),
            (
                vec![good, ("labels", Dtype::F16, &[2], &[0; 4])],
                "an integer type is wanted",
            ),
            (
                vec![good, labels, ("ids", Dtype::I8, &[1], &[0])],
                "`ids` has shape [1]",
            ),
            (
                vec![good, labels, ("ids", Dtype::F16, &[2], &[0; 4])],
                "`ids` is F16",
            ),
        ] {
            let error = written(&tensors).unwrap_err();
            assert!(error.contains(hint), "{error}");
        }
    }
}
