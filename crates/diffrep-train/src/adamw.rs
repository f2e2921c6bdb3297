use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::params::{Path, replaced};

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
        mut gradients: GradientsParams,
        learning_rate: f64,
    ) -> (M, StepReport) {
        let gradient_norm = global_norm(&module, &gradients);
        if !gradient_norm.is_finite() {
            return (
                module,
                StepReport {
                    gradient_norm,
                    applied: false,
                },
            );
        }
        self.step += 1;
        let scale = match self.config.clip_norm {
            Some(limit) if gradient_norm > limit => limit / gradient_norm,
            _ => 1.0,
        };
        let mut update = Update {
            path: Path::default(),
            optimizer: self,
            gradients: &mut gradients,
            learning_rate,
            scale,
        };
        let module = module.map(&mut update);
        (
            module,
            StepReport {
                gradient_norm,
                applied: true,
            },
        )
    }
}

/// Root of the sum of squares of all gradients.
fn global_norm<M: Module>(module: &M, gradients: &GradientsParams) -> f64 {
    struct Squares<'a>(&'a GradientsParams, Vec<Tensor<1>>);
    impl ModuleVisitor for Squares<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.get::<D>(param.id) {
                self.1.push(gradient.square().sum());
            }
        }
    }
    let mut squares = Squares(gradients, Vec::new());
    module.visit(&mut squares);
    if squares.1.is_empty() {
        return 0.0;
    }
    f64::from(Tensor::cat(squares.1, 0).sum().into_scalar::<f32>()).sqrt()
}

struct Update<'a> {
    path: Path,
    optimizer: &'a mut AdamW,
    gradients: &'a mut GradientsParams,
    learning_rate: f64,
    scale: f64,
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else {
            return param;
        };
        let AdamWConfig {
            beta1,
            beta2,
            eps,
            weight_decay,
            ..
        } = self.optimizer.config;
        let step = self.optimizer.step as i32;
        let count = gradient.dims().iter().product::<usize>();
        let gradient = gradient.reshape([count]) * self.scale;
        let path = self.path.join();
        let [mean, square] = match self.optimizer.moments.remove(&path) {
            Some(moments) => moments,
            None => [gradient.zeros_like(), gradient.zeros_like()],
        };
        let mean = mean * beta1 + gradient.clone() * (1.0 - beta1);
        let square = square * beta2 + gradient.square() * (1.0 - beta2);
        self.optimizer
            .moments
            .insert(path, [mean.clone(), square.clone()]);
        let unbiased = mean / (1.0 - beta1.powi(step));
        let root = (square / (1.0 - beta2.powi(step))).sqrt() + eps;
        let rate = self.learning_rate;
        param.map(|old| {
            let value = old.clone().without_autodiff().reshape([count]);
            let value = value * (1.0 - rate * weight_decay) - unbiased / root * rate;
            replaced(&old, value)
        })
    }
}
