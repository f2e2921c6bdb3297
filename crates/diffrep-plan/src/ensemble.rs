//! Several noises of one image.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{DataSource, Settings};

/// What is drawn at one scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnsembleScale {
    /// The diffusion model.
    pub checkpoint: PathBuf,
    /// Images with training and test splits.
    pub data: DataSource,
    /// Timesteps, each with a probe of its own.
    pub timesteps: Vec<usize>,
    /// The block that is read.
    pub block: usize,
    /// Side that its map is pooled to.
    pub pool: usize,
    /// Noises of each training image, each a row; a probe for each number.
    pub train_draws: Vec<usize>,
    /// Whether training rows are mirrored too where there are several draws.
    pub train_flips: bool,
    /// Sizes of test-time ensembles, each a divisor of the largest.
    pub test_draws: Vec<usize>,
    /// Whether each draw of an ensemble is mirrored too.
    pub test_flips: bool,
    /// Training images a class; all without it.
    pub train_per_class: Option<usize>,
    /// Test images a class; all without it.
    pub test_per_class: Option<usize>,
    /// Recipe of the probes.
    pub recipe: String,
    /// Names noise, first weights and batch order.
    pub seed: u64,
}

impl Settings for EnsembleScale {
    fn check(&self) -> Result<(), String> {
        let largest = self.test_draws.iter().copied().max().unwrap_or(0);
        let divides = |count: &usize| *count > 0 && largest.is_multiple_of(*count);
        crate::at_least_one(&[
            ("timesteps", self.timesteps.len()),
            ("pool", self.pool),
            (
                "train_draws",
                self.train_draws.iter().copied().min().unwrap_or(0),
            ),
            ("test_draws", largest),
        ])?;
        if self.test_draws.first() != Some(&1) || !self.test_draws.is_sorted() {
            return Err(
                "`test_draws` must begin with 1 and ascend: the first is compared with the last"
                    .into(),
            );
        }
        match self.test_draws.iter().all(divides) {
            true => Ok(()),
            false => Err("each of `test_draws` must divide the largest".into()),
        }
    }

    fn assets(&self) -> Vec<&Path> {
        vec![&self.checkpoint, self.data.path()]
    }
}
