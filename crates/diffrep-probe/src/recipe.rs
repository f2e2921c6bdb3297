use std::fmt;
use std::path::Path;

use burn::module::Module;
use burn::optim::GradientsParams;
use diffrep_datasets::View;
use diffrep_train::{AdamW, AdamWConfig, Checkpoint, Pace, Parameter, Sgd, SgdConfig, StepReport};
use serde::{Deserialize, Serialize};

use crate::{ConvexRecipe, NeighbourRecipe, ProbeError};

const KNOWN: [(&str, &str); 16] = [
    ("paper", include_str!("../recipes/paper.toml")),
    ("release", include_str!("../recipes/release.toml")),
    ("vissl", include_str!("../recipes/vissl.toml")),
    ("best", include_str!("../recipes/best.toml")),
    ("ablation", include_str!("../recipes/ablation.toml")),
    ("mini", include_str!("../recipes/mini.toml")),
    ("mini-heads", include_str!("../recipes/mini-heads.toml")),
    ("mini-few", include_str!("../recipes/mini-few.toml")),
    ("mini-sweep", include_str!("../recipes/mini-sweep.toml")),
    ("finetune", include_str!("../recipes/finetune.toml")),
    (
        "mini-finetune",
        include_str!("../recipes/mini-finetune.toml"),
    ),
    (
        "mini-streamed",
        include_str!("../recipes/mini-streamed.toml"),
    ),
    ("mini-crops", include_str!("../recipes/mini-crops.toml")),
    ("logistic", include_str!("../recipes/logistic.toml")),
    ("ridge", include_str!("../recipes/ridge.toml")),
    ("knn", include_str!("../recipes/knn.toml")),
];

/// A recipe of any kind. In a file the key `loss` makes it one for a fit to the optimum, `neighbours`
/// one for k-NN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AnyRecipe {
    /// Gradient descent.
    Descent(Recipe),
    /// A linear head at the optimum of its loss.
    Convex(ConvexRecipe),
    /// k-NN.
    Neighbours(NeighbourRecipe),
}

/// What takes the steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Optimizer {
    /// Adam with decoupled weight decay.
    #[default]
    Adam,
    /// Stochastic gradient descent; weight decay is added to the gradient.
    Sgd {
        /// Share of the last step's velocity that is kept.
        momentum: f64,
        /// Whether the gradient is taken where the velocity leads.
        #[serde(default)]
        nesterov: bool,
    },
}

/// An optimizer with the state of one training.
#[derive(Debug)]
pub(crate) enum Stepper {
    Adam(AdamW),
    Sgd(Sgd),
}

impl Stepper {
    pub(crate) fn update<M: Module>(
        &mut self,
        module: M,
        gradients: GradientsParams,
        pace: &dyn Fn(Parameter<'_>) -> Pace,
    ) -> (M, StepReport) {
        match self {
            Self::Adam(adam) => adam.update_at(module, gradients, pace),
            Self::Sgd(sgd) => sgd.update_at(module, gradients, pace),
        }
    }

    pub(crate) fn save(&self, checkpoint: &mut Checkpoint) {
        match self {
            Self::Adam(adam) => adam.save(checkpoint),
            Self::Sgd(sgd) => sgd.save(checkpoint),
        }
    }

    pub(crate) fn restore(&mut self, checkpoint: &Checkpoint, steps: u64) {
        match self {
            Self::Adam(adam) => adam.restore(checkpoint, steps),
            Self::Sgd(sgd) => sgd.restore(checkpoint),
        }
    }
}

impl fmt::Display for Optimizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adam => write!(f, "Adam"),
            Self::Sgd { momentum, nesterov } => {
                let name = if *nesterov { "Nesterov " } else { "" };
                write!(f, "SGD with {name}momentum {momentum}")
            }
        }
    }
}

impl Optimizer {
    pub(crate) fn start(self, weight_decay: f64) -> Stepper {
        match self {
            Self::Adam => Stepper::Adam(AdamW::new(AdamWConfig {
                weight_decay,
                clip_norm: None,
                ..AdamWConfig::default()
            })),
            Self::Sgd { momentum, nesterov } => Stepper::Sgd(Sgd::new(SgdConfig {
                momentum,
                nesterov,
                weight_decay,
            })),
        }
    }
}

/// How a head is trained by gradient descent with a stepped learning rate, over a grid of rates and
/// decays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Its name, printed next to every result.
    pub name: String,
    /// What takes the steps; Adam if the file does not say.
    #[serde(default)]
    pub optimizer: Optimizer,
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
    /// A part of each training image drawn at random in each epoch. Stored features have none: it counts
    /// where images go through the network in training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<View>,
    /// Learning rates tried.
    pub learning_rates: Vec<f64>,
    /// Weight decays tried: of the head's weights, for which they are chosen, and of nothing else. Biases and
    /// scales do not decay, and neither does what a training moves beside the head: an encoder's or a text's
    /// pre-trained values, and feedback layers.
    pub weight_decays: Vec<f64>,
}

/// A point of a recipe's grid.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Learning rate of the first epochs; 0 for a fit that takes no steps.
    pub learning_rate: f64,
    /// Weight decay, or the penalty of such a fit.
    pub weight_decay: f64,
}

impl AnyRecipe {
    /// Names of the recipes of this crate.
    pub fn names() -> impl Iterator<Item = &'static str> {
        KNOWN.iter().map(|(name, _)| *name)
    }

    /// The file of a recipe of this crate.
    pub fn text(name: &str) -> Option<&'static str> {
        let (_, text) = KNOWN.iter().find(|(known, _)| *known == name)?;
        Some(text)
    }

    /// A recipe of this crate by name, or a TOML file by path.
    ///
    /// # Errors
    ///
    /// When there is none, or it has unknown keys or values out of range.
    pub fn named(name: &str) -> Result<Self, ProbeError> {
        if let Some(text) = Self::text(name) {
            return Self::parse(name, text);
        }
        if Path::new(name)
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let bytes = diffrep_artifact::read_bytes(name)?;
            return Self::parse(name, &String::from_utf8_lossy(&bytes));
        }
        Err(ProbeError::UnknownRecipe {
            name: name.into(),
            known: Self::names().collect::<Vec<_>>().join(", "),
        })
    }

    fn parse(name: &str, text: &str) -> Result<Self, ProbeError> {
        let refuse = |reason: String| ProbeError::Recipe {
            name: name.into(),
            reason,
        };
        let read = || -> Result<Self, toml::de::Error> {
            let keys: toml::Table = toml::from_str(text)?;
            Ok(if keys.contains_key("loss") {
                Self::Convex(toml::from_str(text)?)
            } else if keys.contains_key("neighbours") {
                Self::Neighbours(toml::from_str(text)?)
            } else {
                Self::Descent(toml::from_str(text)?)
            })
        };
        let recipe = read().map_err(|error| refuse(error.to_string()))?;
        match &recipe {
            Self::Descent(recipe) => recipe.check(),
            Self::Convex(recipe) => recipe.check(),
            Self::Neighbours(recipe) => recipe.check(),
        }
        .map_err(refuse)?;
        Ok(recipe)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Descent(recipe) => &recipe.name,
            Self::Convex(recipe) => &recipe.name,
            Self::Neighbours(recipe) => &recipe.name,
        }
    }
}

impl Recipe {
    /// A recipe for gradient descent, of this crate by name or a TOML file by path.
    ///
    /// # Errors
    ///
    /// As [`AnyRecipe::named`], and when it is of another kind.
    pub fn named(name: &str) -> Result<Self, ProbeError> {
        match AnyRecipe::named(name)? {
            AnyRecipe::Descent(recipe) => Ok(recipe),
            _ => Err(ProbeError::Recipe {
                name: name.into(),
                reason: "gradient descent is wanted here, with epochs and learning rates".into(),
            }),
        }
    }

    fn check(&self) -> Result<(), String> {
        let positive = |values: &[f64]| values.iter().all(|v| v.is_finite() && *v > 0.0);
        let decays = self.weight_decays.iter();
        if self.epochs == 0 || self.batch == 0 || self.step_every == 0 {
            return Err("epochs, batch and step_every must be at least 1".into());
        }
        if self.patience == Some(0) {
            return Err("patience must be at least 1".into());
        }
        if self.learning_rates.is_empty() || !positive(&self.learning_rates) {
            return Err("learning_rates must be positive numbers, at least one".into());
        }
        if self.weight_decays.is_empty() || decays.into_iter().any(|d| !d.is_finite() || *d < 0.0) {
            return Err("weight_decays must be numbers of at least 0, at least one".into());
        }
        if let Some(view) = self.view {
            view.check()?;
        }
        if let Optimizer::Sgd { momentum, nesterov } = self.optimizer {
            if !(0.0..1.0).contains(&momentum) {
                return Err("momentum must be at least 0 and less than 1".into());
            }
            if nesterov && momentum == 0.0 {
                return Err("nesterov needs momentum".into());
            }
        }
        Ok(())
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
            assert_eq!(AnyRecipe::named(name).unwrap().name(), name);
        }
    }

    #[test]
    fn a_wrong_recipe_says_what_is_wrong() {
        let error = Recipe::named("papr").unwrap_err().to_string();
        assert!(error.contains("paper, release"), "{error}");
        let text = KNOWN[0]
            .1
            .replace("batch = 256", "batch = 256\nbatchsize = 3");
        let error = AnyRecipe::parse("x", &text).unwrap_err().to_string();
        assert!(error.contains("batchsize"), "{error}");
        for (name, from, to, hint) in [
            ("paper", "epochs = 28", "epochs = 0", "at least 1"),
            ("vissl", "momentum = 0.9", "momentum = 1.0", "less than 1"),
            (
                "vissl",
                "momentum = 0.9",
                "momentum = 0.0",
                "needs momentum",
            ),
            ("vissl", "sgd", "lamb", "lamb"),
            ("ridge", "1e-4", "-1", "penalties must be positive"),
            ("ridge", "standardize", "standardise", "standardise"),
            ("logistic", "2000", "0", "iterations"),
            ("knn", "[1, 5", "[0, 5", "neighbours must be"),
            ("knn", "0.02", "0.0", "temperatures must be"),
        ] {
            let text = AnyRecipe::text(name).unwrap();
            assert!(text.contains(from), "{name}: {from}");
            let error = AnyRecipe::parse("x", &text.replacen(from, to, 1));
            let error = error.unwrap_err().to_string();
            assert!(error.contains(hint), "{name}: {error}");
        }
        let error = Recipe::named("knn").unwrap_err().to_string();
        assert!(error.contains("gradient descent is wanted"), "{error}");
    }
}
