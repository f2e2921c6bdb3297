//! What one step of the network makes of noised images.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{DataSource, Settings};

/// What is denoised at one scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenoisingScale {
    /// The diffusion model.
    pub checkpoint: PathBuf,
    /// Images with training and test splits.
    pub data: DataSource,
    /// Timesteps, in the order of the pictures.
    pub timesteps: Vec<usize>,
    /// Test images that errors are measured on, spread over the split; all without it.
    pub images: Option<usize>,
    /// Classes of which an image is shown, at most.
    pub shown: usize,
    /// Names the noise.
    pub seed: u64,
}

impl Settings for DenoisingScale {
    fn check(&self) -> Result<(), String> {
        crate::at_least_one(&[
            ("timesteps", self.timesteps.len()),
            ("images", self.images.unwrap_or(1)),
            ("shown", self.shown),
        ])
    }

    fn assets(&self) -> Vec<&Path> {
        vec![&self.checkpoint, self.data.path()]
    }
}
