use std::collections::HashMap;
use std::path::Path;

use burn::tensor::Device;
use diffrep_artifact::write_bytes_atomic;
use diffrep_datasets::Preprocess;
use diffrep_extract::Setting;
use diffrep_heads::LinearHead;
use diffrep_schedule::{ProcessSpec, ScheduleKind, Target};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use crate::{AnyRecipe, Point, ProbeError, Trained};

/// Everything beside its weights that a head needs to classify an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadInfo {
    /// Class names in label order.
    pub classes: Vec<String>,
    /// SHA-256 of the encoder's checkpoint file.
    pub encoder_sha256: String,
    /// Timestep, block and pool of the features.
    pub setting: Setting,
    /// The noise schedule.
    pub schedule: ScheduleKind,
    /// Timesteps of the schedule.
    pub timesteps: usize,
    /// Whether the network is told t * 1000 / timesteps instead of t.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rescaled: bool,
    /// How an image becomes the network's input.
    pub preprocess: Preprocess,
    /// Seed of the noise.
    pub noise_seed: u64,
    /// How it was trained.
    pub recipe: AnyRecipe,
    /// The grid point that won on the validation split.
    pub point: Point,
    /// Share of validation samples classified right.
    pub validation_accuracy: f64,
}

/// A linear head with its info: one safetensors file.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedHead {
    /// What it is for.
    pub info: HeadInfo,
    /// `[classes, dim]`, row-major.
    pub weight: Vec<f32>,
    /// `[classes]`
    pub bias: Vec<f32>,
}

const INFO: &str = "diffrep.head";

impl SavedHead {
    /// A trained head with its info.
    pub fn new(head: &Trained, info: HeadInfo) -> Self {
        Self {
            info,
            weight: head.weight.clone(),
            bias: head.bias.clone(),
        }
    }

    /// Length of a feature vector.
    pub fn dim(&self) -> usize {
        self.weight.len() / self.bias.len().max(1)
    }

    /// The head as a module.
    ///
    /// # Errors
    ///
    /// When weights and bias do not fit together.
    pub fn head(&self, device: &Device) -> Result<LinearHead, ProbeError> {
        Ok(LinearHead::from_values(
            self.weight.clone(),
            self.bias.clone(),
            self.dim(),
            device,
        )?)
    }

    /// Writes the file atomically.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ProbeError> {
        let broken = |reason: String| ProbeError::NotAHead {
            path: path.into(),
            reason,
        };
        let bytes =
            |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
        let (weight, bias) = (bytes(&self.weight), bytes(&self.bias));
        let classes = self.bias.len();
        let view = |shape: Vec<usize>, data| TensorView::new(Dtype::F32, shape, data);
        let weight = view(vec![classes, self.dim()], &weight).map_err(|e| broken(e.to_string()))?;
        let bias = view(vec![classes], &bias).map_err(|e| broken(e.to_string()))?;
        let info = serde_json::to_string(&self.info).map_err(|e| broken(e.to_string()))?;
        let metadata = HashMap::from([(INFO.to_string(), info)]);
        let file = safetensors::serialize([("weight", weight), ("bias", bias)], Some(metadata))
            .map_err(|e| broken(e.to_string()))?;
        Ok(write_bytes_atomic(path, &file)?)
    }

    /// Reads a file that [`write`](Self::write) wrote.
    ///
    /// # Errors
    ///
    /// When it cannot be read or is no such file.
    pub fn read(path: &Path) -> Result<Self, ProbeError> {
        let broken = |reason: String| ProbeError::NotAHead {
            path: path.into(),
            reason,
        };
        let bytes = diffrep_artifact::read_bytes(path)?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| broken(e.to_string()))?;
        let info = header
            .metadata()
            .as_ref()
            .and_then(|metadata| metadata.get(INFO))
            .ok_or_else(|| broken(format!("its header has no `{INFO}`")))?;
        let info: HeadInfo = serde_json::from_str(info).map_err(|e| broken(e.to_string()))?;
        let process = ProcessSpec {
            schedule: info.schedule,
            steps: info.timesteps,
            rescaled: info.rescaled,
            predicts: Target::default(),
        };
        process.schedule().map_err(|e| broken(e.to_string()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| broken(e.to_string()))?;
        let values = |name: &str, rank: usize| -> Result<(Vec<f32>, Vec<usize>), ProbeError> {
            let view = file.tensor(name).map_err(|e| broken(e.to_string()))?;
            if view.dtype() != Dtype::F32 || view.shape().len() != rank {
                return Err(broken(format!("`{name}` is not f32 of rank {rank}")));
            }
            let floats = view.data().chunks_exact(4);
            let floats = floats
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect();
            Ok((floats, view.shape().to_vec()))
        };
        let ((weight, shape), (bias, _)) = (values("weight", 2)?, values("bias", 1)?);
        if shape[0] != bias.len() || info.classes.len() != bias.len() {
            return Err(broken(format!(
                "it has {} rows of weights, {} biases and {} class names",
                shape[0],
                bias.len(),
                info.classes.len()
            )));
        }
        if weight.iter().chain(&bias).any(|v| !v.is_finite()) {
            return Err(broken("a weight is not finite".into()));
        }
        Ok(Self { info, weight, bias })
    }
}

#[cfg(test)]
mod tests {
    use diffrep_datasets::{Channels, Fit};

    use super::*;

    fn saved() -> SavedHead {
        let setting = serde_json::from_str(r#"{"t":10,"block":7,"pool":4}"#).unwrap();
        SavedHead {
            info: HeadInfo {
                classes: vec!["cat".into(), "dog".into()],
                encoder_sha256: "0".repeat(64),
                setting,
                schedule: ScheduleKind::Linear,
                timesteps: 1000,
                rescaled: false,
                preprocess: Preprocess {
                    size: 32,
                    channels: Channels::Grey,
                    fit: Fit::PadTo,
                },
                noise_seed: 1,
                recipe: AnyRecipe::named("paper").unwrap(),
                point: Point {
                    learning_rate: 1e-3,
                    weight_decay: 0.0,
                },
                validation_accuracy: 0.5,
            },
            weight: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            bias: vec![0.5, -0.5],
        }
    }

    #[test]
    fn a_head_comes_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("head.safetensors");
        saved().write(&path).unwrap();
        assert_eq!(SavedHead::read(&path).unwrap(), saved());
    }

    #[test]
    fn files_that_hold_no_head_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("head.safetensors");
        let refused = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            SavedHead::read(&path).unwrap_err().to_string()
        };
        assert!(refused(b"not a head").contains("is not a saved head"));
        saved().write(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(refused(&bytes[..bytes.len() - 3]).contains("is not a saved head"));
        let nan = SavedHead {
            bias: vec![f32::NAN, 0.0],
            ..saved()
        };
        nan.write(&path).unwrap();
        assert!(
            SavedHead::read(&path)
                .unwrap_err()
                .to_string()
                .contains("not finite")
        );
        let missing = dir.path().join("none.safetensors");
        assert!(
            SavedHead::read(&missing)
                .unwrap_err()
                .to_string()
                .contains("none.safetensors")
        );
    }
}
