#![doc = include_str!("../README.md")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use diffrep_artifact::ArtifactError;
use serde::{Deserialize, Serialize};

/// Why an experiment cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// No such experiment.
    #[error("there is no experiment `{name}`: use one of {known}, or the path of a TOML file")]
    Unknown {
        /// The name.
        name: String,
        /// What exists.
        known: String,
    },
    /// The file does not describe an experiment.
    #[error("experiment {name} cannot be used: {reason}")]
    Malformed {
        /// Its name or path.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// No such scale.
    #[error("experiment {name} has no scale `{scale}`: use one of {known}")]
    Scale {
        /// The experiment.
        name: String,
        /// The scale asked for.
        scale: String,
        /// What exists.
        known: String,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
}

/// A value that a paper prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// What it is the value of.
    pub name: String,
    /// Top-1 accuracy in percent.
    pub top1: f64,
}

/// One experiment at its scales.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Its name.
    pub name: String,
    /// The question it answers.
    pub title: String,
    /// What the paper found.
    #[serde(default)]
    pub published: Vec<Published>,
    /// Settings by scale.
    pub scales: BTreeMap<String, Scale>,
}

/// What is measured at one scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// The diffusion model.
    pub checkpoint: PathBuf,
    /// Folder of images with training, validation and test splits.
    pub data: PathBuf,
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
}

const KNOWN: [(&str, &str); 1] = [("probe", include_str!("../experiments/probe.toml"))];

/// Names of the experiments in this crate.
pub fn known() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|(name, _)| *name)
}

impl Experiment {
    /// An experiment of this crate by name, or a TOML file by path.
    ///
    /// # Errors
    ///
    /// When there is none, or it has unknown keys or values out of range.
    pub fn named(name: &str) -> Result<Self, PlanError> {
        if let Some((_, text)) = KNOWN.iter().find(|(known, _)| *known == name) {
            return Self::parse(name, text);
        }
        if Path::new(name)
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let bytes = diffrep_artifact::read_bytes(name)?;
            return Self::parse(name, &String::from_utf8_lossy(&bytes));
        }
        let known = known().collect::<Vec<_>>().join(", ");
        Err(PlanError::Unknown {
            name: name.into(),
            known,
        })
    }

    fn parse(name: &str, text: &str) -> Result<Self, PlanError> {
        let refuse = |reason: String| PlanError::Malformed {
            name: name.into(),
            reason,
        };
        let experiment: Self = toml::from_str(text).map_err(|error| refuse(error.to_string()))?;
        for (name, scale) in &experiment.scales {
            let required = [
                ("timesteps", scale.timesteps.len()),
                ("pools", scale.pools.len()),
                ("pixel_pools", scale.pixel_pools.len()),
                ("seeds", scale.seeds.len()),
                ("random_networks", scale.random_networks),
                ("random_networks_swept", scale.random_networks_swept),
                ("sweep_train_per_class", scale.sweep_train_per_class),
                (
                    "sweep_validation_per_class",
                    scale.sweep_validation_per_class,
                ),
            ];
            if let Some((key, _)) = required.iter().find(|(_, count)| *count == 0) {
                return Err(refuse(format!(
                    "scale {name}: `{key}` must be at least 1 or not empty"
                )));
            }
            if scale.random_networks_swept > scale.random_networks {
                return Err(refuse(format!(
                    "scale {name}: random_networks_swept is {} of {} random_networks",
                    scale.random_networks_swept, scale.random_networks
                )));
            }
        }
        Ok(experiment)
    }

    /// The settings at a scale.
    ///
    /// # Errors
    ///
    /// When the experiment has no such scale.
    pub fn scale(&self, scale: &str) -> Result<&Scale, PlanError> {
        self.scales.get(scale).ok_or_else(|| PlanError::Scale {
            name: self.name.clone(),
            scale: scale.into(),
            known: self.scales.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_experiment_is_valid_and_named_as_its_file() {
        for name in known() {
            assert_eq!(Experiment::named(name).unwrap().name, name);
        }
    }

    #[test]
    fn a_wrong_experiment_says_what_is_wrong() {
        let error = Experiment::named("table99").unwrap_err().to_string();
        assert!(error.contains("probe"), "{error}");
        let text = KNOWN[0]
            .1
            .replacen("seeds = [0, 1, 2]", "seeds = [0, 1, 2]\nseed = 3", 1);
        let error = Experiment::parse("x", &text).unwrap_err().to_string();
        assert!(error.contains("seed"), "{error}");
        let text = KNOWN[0]
            .1
            .replacen("timesteps = [0, 10, 100, 500]", "timesteps = []", 1);
        assert!(
            Experiment::parse("x", &text)
                .unwrap_err()
                .to_string()
                .contains("`timesteps`")
        );
        let error = Experiment::named("probe")
            .unwrap()
            .scale("paper")
            .unwrap_err()
            .to_string();
        assert!(error.contains("mini, mini-quick, smoke"), "{error}");
    }
}
