//! A linear probe against controls, over timesteps, blocks and pools.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{DataSource, Settings};

/// What is measured at one scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeScale {
    /// The diffusion model.
    pub checkpoint: PathBuf,
    /// Images with training and test splits.
    pub data: DataSource,
    /// Timesteps swept.
    pub timesteps: Vec<usize>,
    /// Blocks swept; empty for all.
    pub blocks: Vec<usize>,
    /// Pooled sides swept, where they fit the block's map.
    pub pools: Vec<usize>,
    /// Training images a class that the sweep sees.
    pub sweep_train_per_class: usize,
    /// Validation images a class that the sweep sees.
    pub sweep_validation_per_class: usize,
    /// Training images a class of the final probes; all without it.
    pub train_per_class: Option<usize>,
    /// Test images a class; all without it.
    pub test_per_class: Option<usize>,
    /// Pooled sides of the raw-pixel control.
    pub pixel_pools: Vec<usize>,
    /// How many networks with random weights.
    pub random_networks: usize,
    /// For how many of them the setting is swept; the others take the best setting of these.
    pub random_networks_swept: usize,
    /// Seeds of initial weights, batch order and noise.
    pub seeds: Vec<u64>,
    /// Recipe of the final probes.
    pub recipe: String,
    /// Recipe of the sweep's probes.
    pub sweep_recipe: String,
    /// What a reader of the results must know, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Settings for ProbeScale {
    fn seeds_mut(&mut self) -> Option<&mut Vec<u64>> {
        Some(&mut self.seeds)
    }

    fn check(&self) -> Result<(), String> {
        let required = [
            ("timesteps", self.timesteps.len()),
            ("pools", self.pools.len()),
            ("pixel_pools", self.pixel_pools.len()),
            ("seeds", self.seeds.len()),
            ("random_networks", self.random_networks),
            ("random_networks_swept", self.random_networks_swept),
            ("sweep_train_per_class", self.sweep_train_per_class),
            (
                "sweep_validation_per_class",
                self.sweep_validation_per_class,
            ),
        ];
        crate::at_least_one(&required)?;
        if self.random_networks_swept > self.random_networks {
            return Err(format!(
                "random_networks_swept is {} of {} random_networks",
                self.random_networks_swept, self.random_networks
            ));
        }
        Ok(())
    }

    fn assets(&self) -> Vec<&Path> {
        vec![&self.checkpoint, self.data.path()]
    }

    fn contenders(&self) -> Vec<&str> {
        vec!["diffusion", "pixels", "random"]
    }
}
