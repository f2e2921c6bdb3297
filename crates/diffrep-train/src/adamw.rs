use std::collections::BTreeMap;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::Checkpoint;
use crate::descend::{Pace, Parameter, descend, global_norm};

/// Settings of AdamW (Loshchilov & Hutter 2019).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamWConfig {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the second.
    pub eps: f64,
    /// Weight decay, decoupled from the gradient.
    pub weight_decay: f64,
    /// Gradients are scaled so that their global norm is at most this.
    pub clip_norm: Option<f64>,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            clip_norm: Some(1.0),
        }
    }
}

/// AdamW whose state is keyed by parameter path, so that it can be written and read back by a
/// process that built the module anew.
#[derive(Clone, Debug)]
pub struct AdamW {
    /// Settings.
    pub config: AdamWConfig,
    /// Steps taken.
    pub step: u64,
    /// Means of gradients and of squared gradients by path, `[elements]`.
    pub moments: BTreeMap<String, [Tensor<1>; 2]>,
}

/// What one step did.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    /// Global norm of the gradients before clipping.
    pub gradient_norm: f64,
    /// False if the gradients were not finite: then nothing was changed.
    pub applied: bool,
}

impl AdamW {
    /// No step taken yet.
    pub fn new(config: AdamWConfig) -> Self {
        Self {
            config,
            step: 0,
            moments: BTreeMap::new(),
        }
    }

    /// Updates the parameters that have a gradient. If any gradient is not finite, the module and
    /// the state come back unchanged.
    pub fn update<M: Module>(
        &mut self,
        module: M,
        gradients: GradientsParams,
        learning_rate: f64,
    ) -> (M, StepReport) {
        let pace = Pace {
            learning_rate,
            decays: true,
        };
        self.update_at(module, gradients, &|_| pace)
    }

    /// The same at a pace for each parameter.
    pub fn update_at<M: Module>(
        &mut self,
        module: M,
        gradients: GradientsParams,
        pace: &dyn Fn(Parameter<'_>) -> Pace,
    ) -> (M, StepReport) {
        let gradient_norm = global_norm(&module, &gradients);
        let report = StepReport {
            gradient_norm,
            applied: gradient_norm.is_finite(),
        };
        if !report.applied {
            return (module, report);
        }
        self.step += 1;
        let scale = match self.config.clip_norm {
            Some(limit) if gradient_norm > limit => limit / gradient_norm,
            _ => 1.0,
        };
        let module = descend(module, gradients, &mut |parameter, value, gradient| {
            let unit = self.direction(parameter.path, gradient * scale);
            let Pace {
                learning_rate,
                decays,
            } = pace(parameter);
            let value = match decays {
                true => value * (1.0 - learning_rate * self.config.weight_decay),
                false => value,
            };
            value - unit * learning_rate
        });
        (module, report)
    }

    /// Adds the moments to a checkpoint, under `mean.` and `square.`.
    pub fn save(&self, checkpoint: &mut Checkpoint) {
        for (place, name) in ["mean", "square"].into_iter().enumerate() {
            let moments = self.moments.iter();
            let values = moments.map(|(path, both)| (path.clone(), both[place].clone()));
            checkpoint.put(name, &values.collect());
        }
    }

    /// Takes up the moments that [`save`](Self::save) wrote after `step` steps.
    pub fn restore(&mut self, checkpoint: &Checkpoint, step: u64) {
        let mut squares = checkpoint.get("square");
        let means = checkpoint.get("mean").into_iter();
        self.step = step;
        self.moments = means
            .filter_map(|(path, mean)| Some((path.clone(), [mean, squares.remove(&path)?])))
            .collect();
    }

    /// The step at rate 1, without decay.
    fn direction(&mut self, path: &str, gradient: Tensor<1>) -> Tensor<1> {
        let AdamWConfig {
            beta1, beta2, eps, ..
        } = self.config;
        let step = self.step as i32;
        let [mean, square] = match self.moments.remove(path) {
            Some(moments) => moments,
            None => [gradient.zeros_like(), gradient.zeros_like()],
        };
        let mean = mean * beta1 + gradient.clone() * (1.0 - beta1);
        let square = square * beta2 + gradient.square() * (1.0 - beta2);
        self.moments
            .insert(path.into(), [mean.clone(), square.clone()]);
        let root = (square / (1.0 - beta2.powi(step))).sqrt() + eps;
        mean / (1.0 - beta1.powi(step)) / root
    }
}
