//! Trainings with the diffusion model in the loop.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Cut, DataSource, PlannedHead, Settings};

/// What competes at one scale, and on what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuneScale {
    /// The diffusion model.
    pub checkpoint: PathBuf,
    /// Images with training and test splits.
    pub data: DataSource,
    /// Timestep.
    pub timestep: usize,
    /// Training images a class; all without it.
    pub train_per_class: Option<usize>,
    /// Validation images a class; all without it.
    pub validation_per_class: Option<usize>,
    /// Test images a class; all without it.
    pub test_per_class: Option<usize>,
    /// Seeds of initial weights, batch order, noise and flips.
    pub seeds: Vec<u64>,
    /// Recipe, by name, of trainings that do not say another.
    pub recipe: String,
    /// Parts of a batch that are computed side by side.
    pub parts: usize,
    /// What is trained; the others are compared with the first.
    pub contenders: Vec<PlannedTuning>,
}

/// A training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedTuning {
    /// Its name in results.
    pub name: String,
    /// Its own recipe by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// What is trained beside the head.
    pub train: Trained,
    /// Blocks that it chooses among.
    pub blocks: Vec<usize>,
    /// Side that maps are pooled to.
    pub pool: usize,
    /// The head, which reads one map.
    pub head: PlannedHead,
    /// Whether each epoch has another noise.
    pub fresh_noise: bool,
    /// Whether images are flipped with probability 1/2.
    pub flip: bool,
    /// Which random part of each training image is seen.
    #[serde(default)]
    pub view: Cut,
}

/// What is trained beside the head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Trained {
    /// Nothing.
    Head,
    /// Layers that feed these late blocks back; every third one if there are none.
    Feedback {
        /// The blocks.
        #[serde(default)]
        blocks: Vec<usize>,
    },
    /// The network up to the block that is read.
    Encoder {
        /// Its learning rate as a share of the head's.
        rate: f64,
        /// Whether blocks are computed again on the way back.
        #[serde(default)]
        recompute: bool,
    },
}

impl Settings for TuneScale {
    fn seeds_mut(&mut self) -> Option<&mut Vec<u64>> {
        Some(&mut self.seeds)
    }

    fn check(&self) -> Result<(), String> {
        let mut required = vec![
            ("seeds", self.seeds.len()),
            ("parts", self.parts),
            ("contenders", self.contenders.len()),
        ];
        for contender in &self.contenders {
            required.push(("blocks", contender.blocks.len()));
            required.push(("pool", contender.pool));
            contender.view.check()?;
            if matches!(contender.head, PlannedHead::Fusion { .. }) {
                return Err("a fusion head is not tuned: it reads several timesteps".into());
            }
        }
        crate::at_least_one(&required)
    }

    fn assets(&self) -> Vec<&Path> {
        vec![&self.checkpoint, self.data.path()]
    }

    fn contenders(&self) -> Vec<&str> {
        self.contenders
            .iter()
            .map(|one| one.name.as_str())
            .collect()
    }
}
