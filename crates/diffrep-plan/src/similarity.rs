//! Layers of networks compared by CKA.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{DataSource, Settings};

/// What is compared at one scale. Standard are the maps of the diffusion model at `timestep`, pooled to
/// about `dim` features; everything else is compared with them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimilarityScale {
    /// The diffusion model.
    pub checkpoint: PathBuf,
    /// Images with a test split.
    pub data: DataSource,
    /// Test images, spread over the split; all without it.
    pub images: Option<usize>,
    /// The standard timestep.
    pub timestep: usize,
    /// The standard length of a feature vector: maps are pooled to the largest side that keeps to it.
    pub dim: usize,
    /// Other timesteps.
    pub timesteps: Vec<usize>,
    /// Other lengths.
    pub dims: Vec<usize>,
    /// An encoder classifier that was trained with the labels.
    pub classifier: Option<PathBuf>,
    /// Whether the same network with random weights is compared.
    #[serde(default)]
    pub random: bool,
    /// Networks of other kinds, on clean images.
    #[serde(default)]
    pub networks: Vec<PlannedBackbone>,
    /// Names the noise.
    pub seed: u64,
}

/// A network of another kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedBackbone {
    /// Its name in results.
    pub name: String,
    /// What it is, such as `resnet50` or `vit_base_patch16`, or a JSON file that describes it.
    pub backbone: String,
    /// Its weights.
    pub checkpoint: PathBuf,
}

impl PlannedBackbone {
    /// The file that describes it, if it is not known by name.
    pub fn description(&self) -> Option<&Path> {
        let path = Path::new(&self.backbone);
        let describes = path.extension().is_some_and(|end| end == "json");
        describes.then_some(path)
    }

    /// Its name as a part of files' names.
    pub fn file_name(&self) -> String {
        crate::file_name(&self.name)
    }
}

impl Settings for SimilarityScale {
    fn check(&self) -> Result<(), String> {
        crate::at_least_one(&[
            ("dim", self.dim),
            ("images", self.images.unwrap_or(1)),
            ("dims", self.dims.iter().copied().min().unwrap_or(1)),
        ])?;
        crate::distinct(
            "networks",
            self.networks.iter().map(|network| network.name.as_str()),
        )
    }

    fn assets(&self) -> Vec<&Path> {
        let mut assets = vec![self.checkpoint.as_path(), self.data.path()];
        assets.extend(self.classifier.as_deref());
        for network in &self.networks {
            assets.push(&network.checkpoint);
            assets.extend(network.description());
        }
        assets
    }
}
