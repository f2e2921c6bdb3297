use diffrep_datasets::Preprocess;
use diffrep_schedule::{ScheduleKind, VarianceKind};
use diffrep_train::{AdamWConfig, LearningRate};
use diffrep_unet::{Kind, UNetConfig};
use serde::{Deserialize, Serialize};

/// Everything that determines a pre-training run beside the images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainConfig {
    /// The network; `out_channels` of twice `in_channels` asks for a learned variance. An encoder
    /// classifier has as many as there are classes.
    pub network: UNetConfig,
    /// How an image becomes the network's input.
    pub preprocess: Preprocess,
    /// The noise schedule.
    pub schedule: ScheduleKind,
    /// Timesteps of the schedule.
    pub timesteps: usize,
    /// Passes over the images.
    pub epochs: u32,
    /// Images a step.
    pub batch: usize,
    /// Parts of a batch that are computed side by side, their gradients summed in order. Fills the
    /// processor where single operators do not; 1 on a GPU.
    pub micro_batches: usize,
    /// Learning rate by step.
    pub learning_rate: LearningRate,
    /// The optimiser.
    pub optimizer: AdamWConfig,
    /// Decay of the moving average of weights.
    pub ema_decay: f64,
    /// Whether images are flipped left to right with probability 1/2.
    pub flip: bool,
    /// Images taken out of training for the loss curve.
    pub held_out: usize,
    /// Names every random number of the run.
    pub seed: u64,
}

impl PretrainConfig {
    /// Whether the network is a classifier of noised images, not a diffusion model.
    pub fn is_classifier(&self) -> bool {
        matches!(self.network.kind, Kind::Encoder(_))
    }

    /// How the network's variance is read.
    pub fn variance(&self) -> VarianceKind {
        if self.network.out_channels == 2 * self.network.in_channels {
            VarianceKind::LearnedRange
        } else {
            VarianceKind::FixedSmall
        }
    }
}
