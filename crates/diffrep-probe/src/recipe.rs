use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::ProbeError;

const KNOWN: [(&str, &str); 5] = [
    ("paper", include_str!("../recipes/paper.toml")),
    ("ablation", include_str!("../recipes/ablation.toml")),
    ("mini", include_str!("../recipes/mini.toml")),
    ("mini-heads", include_str!("../recipes/mini-heads.toml")),
    ("mini-sweep", include_str!("../recipes/mini-sweep.toml")),
];

/// How a head is trained: Adam with decoupled weight decay and a stepped learning rate, over
/// a grid of rates and decays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Its name, printed next to every result.
    pub name: String,
    /// Passes over the training features.
    pub epochs: usize,
    /// Samples a step; a last smaller batch is used too.
    pub batch: usize,
    /// Epochs between drops of the learning rate.
    pub step_every: usize,
    /// Factor of a drop.
    pub step_factor: f64,
    /// Whether features are shifted and scaled to mean 0 and deviation 1 over the training set. The
    /// map is folded into the head, so the result is one linear layer on the raw features.
    pub standardize: bool,
    /// Epochs without a lower validation loss after which a head stops and keeps its best weights;
    /// for heads other than the linear probe. Without it every epoch is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// Learning rates tried.
    pub learning_rates: Vec<f64>,
    /// Weight decays tried.
    pub weight_decays: Vec<f64>,
}

/// A point of a recipe's grid.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Learning rate of the first epochs.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl Recipe {
    /// A recipe of this crate by name, or a TOML file by path.
    ///
    /// # Errors
    ///
    /// When there is none, or it has unknown keys or values out of range.
    pub fn named(name: &str) -> Result<Self, ProbeError> {
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
        let known = KNOWN.map(|(name, _)| name).join(", ");
        Err(ProbeError::UnknownRecipe {
            name: name.into(),
            known,
        })
    }

    fn parse(name: &str, text: &str) -> Result<Self, ProbeError> {
        let refuse = |reason: String| ProbeError::Recipe {
            name: name.into(),
            reason,
        };
        let recipe: Self = toml::from_str(text).map_err(|error| refuse(error.to_string()))?;
        let positive = |values: &[f64]| values.iter().all(|v| v.is_finite() && *v > 0.0);
        if recipe.epochs == 0 || recipe.batch == 0 || recipe.step_every == 0 {
            return Err(refuse(
                "epochs, batch and step_every must be at least 1".into(),
            ));
        }
        if recipe.patience == Some(0) {
            return Err(refuse("patience must be at least 1".into()));
        }
        if recipe.learning_rates.is_empty() || !positive(&recipe.learning_rates) {
            return Err(refuse(
                "learning_rates must be positive numbers, at least one".into(),
            ));
        }
        if recipe.weight_decays.is_empty()
            || recipe
                .weight_decays
                .iter()
                .any(|d| !d.is_finite() || *d < 0.0)
        {
            return Err(refuse(
                "weight_decays must be numbers of at least 0, at least one".into(),
            ));
        }
        Ok(recipe)
    }

    /// Every point of the grid.
    pub fn grid(&self) -> Vec<Point> {
        self.learning_rates
            .iter()
            .flat_map(|&learning_rate| {
                self.weight_decays.iter().map(move |&weight_decay| Point {
                    learning_rate,
                    weight_decay,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_recipe_is_valid_and_named_as_its_file() {
        for (name, _) in KNOWN {
            assert_eq!(Recipe::named(name).unwrap().name, name);
        }
    }

    #[test]
    fn a_wrong_recipe_says_what_is_wrong() {
        let error = Recipe::named("papr").unwrap_err().to_string();
        assert!(error.contains("paper, ablation"), "{error}");
        let text = KNOWN[0]
            .1
            .replace("batch = 256", "batch = 256\nbatchsize = 3");
        let error = Recipe::parse("x", &text).unwrap_err().to_string();
        assert!(error.contains("batchsize"), "{error}");
        let text = KNOWN[0].1.replace("epochs = 28", "epochs = 0");
        assert!(
            Recipe::parse("x", &text)
                .unwrap_err()
                .to_string()
                .contains("at least 1")
        );
    }
}
