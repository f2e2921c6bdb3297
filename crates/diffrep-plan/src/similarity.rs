//! Layers of networks compared by CKA.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{DataSource, PlannedEncoder, PlannedText, Settings};

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
    /// Diffusion models of other kinds, at a timestep of their own. One whose file is not there is left out, and
    /// the results say so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diffusion_models: Vec<PlannedDiffusion>,
    /// Names the noise.
    pub seed: u64,
}

/// Another diffusion model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedDiffusion {
    /// Its name in results.
    pub name: String,
    /// The timestep that it is read at.
    pub timestep: usize,
    /// The model, and what it is told.
    pub encoder: PlannedEncoder,
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
        for other in &self.diffusion_models {
            if matches!(other.encoder.text, PlannedText::Learned { .. }) {
                return Err("nothing is trained here: a text cannot be `learned`".into());
            }
        }
        let models = self
            .diffusion_models
            .iter()
            .map(|other| other.name.as_str());
        let networks = self.networks.iter().map(|network| network.name.as_str());
        crate::distinct("networks", networks.chain(models))
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
