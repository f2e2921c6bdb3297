use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use diffrep_artifact::{ArtifactError, write_bytes_atomic};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// Reading or writing the file failed.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The file is not what a run wrote.
    #[error("{} is not a usable training checkpoint: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Everything a training needs to go on: named flat f32 tensors and a JSON text about where the
/// run stands. One safetensors file; whole or absent.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    /// Tensors by name, `[elements]`.
    pub tensors: BTreeMap<String, Tensor<1>>,
    /// Where the run stands, as JSON.
    pub state: String,
}

const STATE: &str = "diffrep.train.state";

impl Checkpoint {
    /// Adds tensors under `prefix.`.
    pub fn put(&mut self, prefix: &str, values: &BTreeMap<String, Tensor<1>>) {
        for (name, value) in values {
            self.tensors
                .insert(format!("{prefix}.{name}"), value.clone());
        }
    }

    /// The tensors under `prefix.`, without the prefix.
    pub fn get(&self, prefix: &str) -> BTreeMap<String, Tensor<1>> {
        let prefix = format!("{prefix}.");
        self.tensors
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(&prefix)?.into(), value.clone())))
            .collect()
    }

    /// Writes the file atomically.
    ///
    /// # Errors
    ///
    /// When it cannot be written; an older file is then untouched.
    pub fn write(&self, path: &Path) -> Result<(), TrainError> {
        let bytes: Vec<(String, Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, value)| {
                (
                    name.clone(),
                    value
                        .clone()
                        .into_data()
                        .convert::<f32>()
                        .as_bytes()
                        .to_vec(),
                )
            })
            .collect();
        let malformed = |reason: String| TrainError::Malformed {
            path: path.into(),
            reason,
        };
        let views = bytes
            .iter()
            .map(|(name, bytes)| {
                let view = TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes);
                Ok((
                    name.as_str(),
                    view.map_err(|error| malformed(error.to_string()))?,
                ))
            })
            .collect::<Result<Vec<_>, TrainError>>()?;
        let state = HashMap::from([(STATE.to_string(), self.state.clone())]);
        let file = safetensors::serialize(views, Some(state))
            .map_err(|error| malformed(error.to_string()))?;
        write_bytes_atomic(path, &file)?;
        Ok(())
    }

    /// Reads a file that [`write`](Self::write) wrote.
    ///
    /// # Errors
    ///
    /// When it cannot be read or is not such a file.
    pub fn read(path: &Path, device: &Device) -> Result<Self, TrainError> {
        let malformed = |reason: String| TrainError::Malformed {
            path: path.into(),
            reason,
        };
        let bytes = diffrep_artifact::read_bytes(path)?;
        let (_, header) =
            SafeTensors::read_metadata(&bytes).map_err(|error| malformed(error.to_string()))?;
        let state = header
            .metadata()
            .as_ref()
            .and_then(|metadata| metadata.get(STATE))
            .ok_or_else(|| malformed(format!("its header has no `{STATE}`")))?
            .clone();
        let file =
            SafeTensors::deserialize(&bytes).map_err(|error| malformed(error.to_string()))?;
        let tensors = file
            .iter()
            .map(|(name, view)| {
                if view.dtype() != Dtype::F32 {
                    return Err(malformed(format!("`{name}` is not f32")));
                }
                let values: Vec<f32> = view
                    .data()
                    .chunks_exact(4)
                    .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                    .collect();
                let count = values.len();
                Ok((
                    name.to_string(),
                    Tensor::from_data(TensorData::new(values, [count]), device),
                ))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { tensors, state })
    }
}
