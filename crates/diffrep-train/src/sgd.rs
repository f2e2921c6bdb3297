use std::collections::BTreeMap;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::descend::{Pace, Parameter, descend, global_norm};
use crate::{Checkpoint, StepReport};

/// Settings of stochastic gradient descent, as PyTorch's `SGD` defines them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SgdConfig {
    /// Share of the last step's velocity that is kept.
    pub momentum: f64,
    /// Whether the gradient is taken where the velocity leads (Nesterov).
    #[serde(default)]
    pub nesterov: bool,
    /// Weight decay, added to the gradient.
    #[serde(default)]
    pub weight_decay: f64,
}

/// Stochastic gradient descent whose velocities are keyed by parameter path, so that they can be
/// written and read back by a process that built the module anew.
#[derive(Clone, Debug)]
pub struct Sgd {
    /// Settings.
    pub config: SgdConfig,
    /// Velocities by path, `[elements]`; none before the first step and without momentum.
    pub velocities: BTreeMap<String, Tensor<1>>,
}

impl Sgd {
    /// No step taken yet.
    pub fn new(config: SgdConfig) -> Self {
        Self {
            config,
            velocities: BTreeMap::new(),
        }
    }

    /// Updates the parameters that have a gradient. If any gradient is not finite, the module and
    /// the velocities come back unchanged.
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
        let SgdConfig {
            momentum,
            nesterov,
            weight_decay,
        } = self.config;
        let module = descend(module, gradients, &mut |parameter, value, gradient| {
            let Pace {
                learning_rate: rate,
                decays,
            } = pace(parameter);
            let path = parameter.path;
            let gradient = match decays {
                true => gradient + value.clone() * weight_decay,
                false => gradient,
            };
            if momentum == 0.0 {
                return value - gradient * rate;
            }
            let velocity = match self.velocities.remove(path) {
                None => gradient.clone(),
                Some(velocity) => velocity * momentum + gradient.clone(),
            };
            self.velocities.insert(path.into(), velocity.clone());
            let direction = match nesterov {
                true => gradient + velocity * momentum,
                false => velocity,
            };
            value - direction * rate
        });
        (module, report)
    }

    /// Adds the velocities to a checkpoint, under `velocity.`.
    pub fn save(&self, checkpoint: &mut Checkpoint) {
        checkpoint.put("velocity", &self.velocities);
    }

    /// Takes up the velocities that [`save`](Self::save) wrote.
    pub fn restore(&mut self, checkpoint: &Checkpoint) {
        self.velocities = checkpoint.get("velocity");
    }
}
