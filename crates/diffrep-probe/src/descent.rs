//! The one loop of every training by gradient descent: epochs, order of samples, steps of the rate,
//! the curve, patience, divergence, checkpoints.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Tensor;
use diffrep_rng::{Key, Stream};
use diffrep_train::{Checkpoint, TrainError, metrics};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ProbeError, Recipe};

/// Parameters by path, `[elements]` each.
pub(crate) type Weights = BTreeMap<String, Tensor<1>>;

/// The scores after an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochScore {
    /// Mean training loss of the epoch (cross entropy, nats).
    pub train_loss: f64,
    /// Mean loss on the validation split after it.
    pub validation_loss: f64,
    /// Share of validation samples classified right after it.
    pub validation: f64,
}

/// What learns.
pub(crate) trait Learner {
    /// Takes one step at `rate` on some samples of the training split, as they are in `epoch`. Their
    /// mean loss; `None` if it or a gradient was not finite, and then the training is over.
    fn step(&mut self, rows: &[usize], epoch: usize, rate: f64) -> Result<Option<f64>, ProbeError>;

    /// Share of the validation samples that are classified right, and their mean loss.
    fn validate(&mut self) -> Result<(f64, f64), ProbeError>;

    /// The weights that [`validate`](Self::validate) scores.
    fn weights(&self) -> Weights;

    /// Everything that the next step depends on.
    fn save(&self, checkpoint: &mut Checkpoint);

    /// Takes up what [`save`](Self::save) wrote after `steps` steps.
    fn restore(&mut self, checkpoint: &Checkpoint, steps: u64);
}

/// A training's plan beside what learns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descent<'a> {
    pub recipe: &'a Recipe,
    /// The learning rate of the first epochs.
    pub rate: f64,
    /// Names the order of samples.
    pub seed: u64,
    /// How many training samples there are.
    pub samples: usize,
    /// File that is written after each epoch and taken up again.
    pub checkpoint: Option<Kept<'a>>,
}

/// A checkpoint file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept<'a> {
    pub path: &'a Path,
    /// Everything that determines the training; a file of another one is refused.
    pub determines: &'a Value,
}

/// Where a training stopped being finite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Divergence {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// The step in the whole training, counted from 1.
    pub step: u64,
    /// Samples of the step.
    pub rows: Vec<usize>,
}

/// A training that ended.
#[derive(Debug)]
pub(crate) struct Descended {
    pub curve: Vec<EpochScore>,
    /// The epoch whose weights were kept, counted from 1; 0 if the first one diverged.
    pub epoch: usize,
    pub weights: Weights,
    pub diverged: Option<Divergence>,
}

/// Where a training stands after an epoch.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    determines: Value,
    steps: u64,
    curve: Vec<EpochScore>,
    kept: usize,
}

impl Descent<'_> {
    /// Trains from where the learner or the checkpoint stands. With patience in the recipe it stops
    /// when the validation loss has not fallen for so many epochs and keeps the weights of its
    /// lowest; otherwise it keeps the last.
    ///
    /// # Errors
    ///
    /// When a sample or the checkpoint cannot be read or written, or the checkpoint is of another
    /// training.
    pub(crate) fn run(
        &self,
        learner: &mut impl Learner,
        mut epoch_done: impl FnMut(&[EpochScore]),
    ) -> Result<Descended, ProbeError> {
        let recipe = self.recipe;
        let mut at = Position::default();
        let mut weights = None;
        if let Some(kept) = self.checkpoint.filter(|kept| kept.path.exists()) {
            (at, weights) = resume(&kept, learner)?;
            epoch_done(&at.curve);
        }
        let mut diverged = None;
        while at.curve.len() < recipe.epochs && !self.is_over(&at) {
            let epoch = at.curve.len();
            let rate = self.rate * recipe.step_factor.powi((epoch / recipe.step_every) as i32);
            let mut order: Vec<usize> = (0..self.samples).collect();
            Key::new(self.seed, Stream::Order)
                .draw(epoch as u32)
                .generator()
                .shuffle(&mut order);
            let mut sum = 0.0;
            let diverges = |step, rows: &[usize]| Divergence {
                epoch: epoch + 1,
                step,
                rows: rows.to_vec(),
            };
            for rows in order.chunks(recipe.batch) {
                at.steps += 1;
                match learner.step(rows, epoch, rate)? {
                    Some(loss) => {
                        metrics::record("loss/train", at.steps, loss);
                        sum += loss * rows.len() as f64;
                    }
                    None => {
                        diverged = Some(diverges(at.steps, rows));
                        break;
                    }
                }
            }
            if diverged.is_some() {
                break;
            }
            let (validation, validation_loss) = learner.validate()?;
            if !validation_loss.is_finite() {
                // The last step of the epoch was too much, which no step after it could tell.
                let last = order.chunks(recipe.batch).next_back().unwrap_or_default();
                diverged = Some(diverges(at.steps, last));
                break;
            }
            metrics::record("loss/validation", at.steps, validation_loss);
            metrics::record("accuracy/validation", at.steps, validation);
            metrics::record("rate", at.steps, rate);
            let lowest = at.kept.checked_sub(1).map(|i| at.curve[i].validation_loss);
            at.curve.push(EpochScore {
                train_loss: sum / self.samples as f64,
                validation_loss,
                validation,
            });
            let better = lowest.is_none_or(|lowest| validation_loss < lowest);
            if better || recipe.patience.is_none() {
                at.kept = epoch + 1;
                weights = Some(learner.weights());
            }
            if let Some(kept) = self.checkpoint {
                at.determines = kept.determines.clone();
                write(&kept, &at, weights.as_ref(), learner)?;
            }
            epoch_done(&at.curve);
        }
        Ok(Descended {
            epoch: at.kept,
            weights: weights.unwrap_or_else(|| learner.weights()),
            curve: at.curve,
            diverged,
        })
    }

    fn is_over(&self, at: &Position) -> bool {
        let since = at.curve.len() - at.kept;
        self.recipe
            .patience
            .is_some_and(|patience| since >= patience)
    }
}

/// The checkpoint after an epoch.
fn write(
    kept: &Kept<'_>,
    at: &Position,
    weights: Option<&Weights>,
    learner: &impl Learner,
) -> Result<(), ProbeError> {
    let mut checkpoint = Checkpoint {
        state: serde_json::to_string(at).expect("a position is plain data"),
        ..Checkpoint::default()
    };
    learner.save(&mut checkpoint);
    if let Some(weights) = weights {
        checkpoint.put("kept", weights);
    }
    Ok(checkpoint.write(kept.path)?)
}

fn resume(
    kept: &Kept<'_>,
    learner: &mut impl Learner,
) -> Result<(Position, Option<Weights>), ProbeError> {
    let current = learner.weights();
    let device = current.values().next().map(Tensor::device);
    let malformed = |reason: String| TrainError::Malformed {
        path: kept.path.into(),
        reason,
    };
    let device = device.ok_or_else(|| malformed("the training has no weights".into()))?;
    let checkpoint = Checkpoint::read(kept.path, &device)?;
    let at: Position =
        serde_json::from_str(&checkpoint.state).map_err(|error| malformed(error.to_string()))?;
    if at.determines != *kept.determines {
        return Err(ProbeError::OtherTraining {
            path: kept.path.into(),
            differs: differs(&at.determines, kept.determines),
        });
    }
    let weights = checkpoint.get("kept");
    let same =
        |name: &String| weights.get(name).map(Tensor::dims) == current.get(name).map(Tensor::dims);
    if at.kept > at.curve.len() || !current.keys().all(same) {
        return Err(malformed("its weights are not those of this training".into()).into());
    }
    learner.restore(&checkpoint, at.steps);
    Ok((at, Some(weights)))
}

/// The keys of two JSON objects whose values are not the same.
fn differs(one: &Value, other: &Value) -> String {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else {
        return "everything".into();
    };
    let keys = one.keys().filter(|key| one.get(*key) != other.get(*key));
    let missing = other.keys().filter(|key| !one.contains_key(*key));
    let keys: Vec<&str> = keys.chain(missing).map(String::as_str).collect();
    keys.join(", ")
}
