//! Choosing timestep, block and pool.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{DataSource, Settings};

/// What is searched at one scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectScale {
    /// The diffusion model.
    pub checkpoint: PathBuf,
    /// Images with training and test splits.
    pub data: DataSource,
    /// Timesteps of the grid.
    pub timesteps: Vec<usize>,
    /// Blocks of the grid; every block if there are none.
    pub blocks: Vec<usize>,
    /// Pools of the grid; those larger than a block's map are left out.
    pub pools: Vec<usize>,
    /// Training images a class of the grid.
    pub train_per_class: usize,
    /// Validation images a class of the grid.
    pub validation_per_class: usize,
    /// Test images a class; all without it.
    pub test_per_class: Option<usize>,
    /// Grid and search are run once a seed, which names noise, draw of images and first weights.
    pub seeds: Vec<u64>,
    /// Recipe of the probes of grid and search.
    pub recipe: String,
    /// Training images a class of the probe that scores a chosen setting; all without it.
    pub final_train_per_class: Option<usize>,
    /// Its recipe.
    pub final_recipe: String,
    /// Points of test accuracy that the search may lose against the grid.
    pub allowed_loss: f64,
    /// Share of the grid's forwards and fits that the search may spend.
    pub allowed_cost: f64,
    /// Seeds of the final probe.
    pub final_seeds: Vec<u64>,
}

impl Settings for SelectScale {
    fn seeds_mut(&mut self) -> Option<&mut Vec<u64>> {
        Some(&mut self.seeds)
    }

    fn check(&self) -> Result<(), String> {
        crate::at_least_one(&[
            ("timesteps", self.timesteps.len()),
            ("pools", self.pools.len()),
            ("train_per_class", self.train_per_class),
            ("validation_per_class", self.validation_per_class),
            ("seeds", self.seeds.len()),
            ("final_seeds", self.final_seeds.len()),
        ])
    }

    fn assets(&self) -> Vec<&Path> {
        vec![&self.checkpoint, self.data.path()]
    }
}
