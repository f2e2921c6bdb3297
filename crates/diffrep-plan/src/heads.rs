//! Heads of several kinds on the same frozen maps.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Settings;

/// Which heads compete at one scale, and on what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadsScale {
    /// The diffusion model.
    pub checkpoint: PathBuf,
    /// Folder of images with training, validation and test splits.
    pub data: PathBuf,
    /// Timestep of heads that read one map.
    pub timestep: usize,
    /// Blocks that such heads choose among.
    pub blocks: Vec<usize>,
    /// Side that their map is pooled to.
    pub pool: usize,
    /// Training images a class; all without it.
    pub train_per_class: Option<usize>,
    /// Test images a class; all without it.
    pub test_per_class: Option<usize>,
    /// Seeds of initial weights, batch order and noise.
    pub seeds: Vec<u64>,
    /// Recipe of the linear probe.
    pub linear_recipe: String,
    /// Recipe of every other head.
    pub recipe: String,
    /// An encoder classifier that was trained on the same images, for comparison: the U-Net encoder of
    /// Table 1 of the paper.
    pub classifier: Option<PathBuf>,
    /// The heads; the others are compared with the first.
    pub heads: Vec<PlannedHead>,
}

/// A head before the shape of its maps is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "head", rename_all = "snake_case", deny_unknown_fields)]
pub enum PlannedHead {
    /// One layer on the map.
    Linear {
        /// Side that the map is pooled to before; the whole map without it.
        pool: Option<usize>,
    },
    /// Layers with ReLU between them on the whole map.
    Mlp {
        /// Sizes of the hidden layers.
        hidden: Vec<usize>,
    },
    /// Two convolutions.
    Cnn {
        /// Their channels.
        channels: [usize; 2],
    },
    /// Transformer blocks on the pixels of the map.
    Attention {
        /// Pixels a side that are averaged to a token.
        window: usize,
        /// Attention heads.
        heads: usize,
        /// Hidden size of the MLP over the width of a token.
        mlp_ratio: usize,
        /// Blocks.
        depth: usize,
    },
    /// Transformer blocks on the pixels of several maps (DifFormer).
    Fusion {
        /// Blocks of the diffusion model.
        blocks: Vec<usize>,
        /// Timesteps.
        timesteps: Vec<usize>,
        /// Side that each map is pooled to.
        pool: usize,
        /// Channels of a token.
        width: usize,
        /// Attention heads.
        heads: usize,
        /// Hidden size of the MLP over the width of a token.
        mlp_ratio: usize,
        /// Transformer blocks.
        depth: usize,
    },
}

impl PlannedHead {
    /// As a word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Linear { .. } => "linear",
            Self::Mlp { .. } => "mlp",
            Self::Cnn { .. } => "cnn",
            Self::Attention { .. } => "attention",
            Self::Fusion { .. } => "fusion",
        }
    }
}

impl Settings for HeadsScale {
    fn check(&self) -> Result<(), String> {
        let mut required = vec![
            ("blocks", self.blocks.len()),
            ("pool", self.pool),
            ("seeds", self.seeds.len()),
            ("heads", self.heads.len()),
        ];
        for head in &self.heads {
            if let PlannedHead::Fusion {
                blocks, timesteps, ..
            } = head
            {
                required.push(("blocks", blocks.len()));
                required.push(("timesteps", timesteps.len()));
            }
        }
        crate::at_least_one(&required)
    }
}
