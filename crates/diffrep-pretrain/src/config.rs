use burn::tensor::{Device, Tensor, TensorData};
use diffrep_datasets::Preprocess;
use diffrep_rng::Stream;
use diffrep_schedule::{Schedule, ScheduleKind, VarianceKind, noise_batch, q_sample};
use diffrep_taps::Condition;
use diffrep_train::{AdamWConfig, LearningRate};
use diffrep_unet::{Kind, UNet, UNetConfig, initial_network};
use serde::{Deserialize, Serialize};

use crate::loss::{Loss, classification, loss, right};
use crate::run::PretrainError;
use crate::task::{Batch, Course, Judgement, Task};

/// Everything that determines the training of a diffusion model, or of a classifier of noised images,
/// beside the images.
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

impl Task for PretrainConfig {
    type Network = UNet;

    fn course(&self) -> Course {
        Course {
            epochs: self.epochs,
            batch: self.batch,
            micro_batches: self.micro_batches,
            learning_rate: self.learning_rate,
            optimizer: self.optimizer,
            ema_decay: self.ema_decay,
            flip: self.flip,
            held_out: self.held_out,
            seed: self.seed,
        }
    }

    fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    fn classes(&self) -> Option<usize> {
        self.is_classifier().then_some(self.network.out_channels)
    }

    fn network(&self, device: &Device) -> Result<UNet, PretrainError> {
        Ok(initial_network(&self.network, self.seed, device)?)
    }

    fn losses(&self, network: &UNet, batch: Batch) -> Tensor<1> {
        if self.is_classifier() {
            let labels = batch.labels.clone();
            return classification(self.logits(network, batch), &labels);
        }
        self.denoising(network, batch).each()
    }

    /// Of a diffusion model the squared error of the noise alone, whether its variance is learned or not.
    fn judge(&self, network: &UNet, batch: Batch) -> Judgement {
        if self.is_classifier() {
            let labels = batch.labels.clone();
            let logits = self.logits(network, batch);
            return Judgement {
                right: Some(right(logits.clone(), &labels)),
                losses: classification(logits, &labels),
            };
        }
        Judgement {
            losses: self.denoising(network, batch).mse,
            right: None,
        }
    }
}

impl PretrainConfig {
    /// `[batch, classes]` of noised images.
    fn logits(&self, network: &UNet, batch: Batch) -> Tensor<2> {
        let (schedule, t, noise) = self.noise(&batch);
        let condition = timesteps(&t, &batch.images.device());
        let logits = network.forward(q_sample(&schedule, batch.images, &t, noise), &condition);
        let [batch, classes, ..] = logits.dims();
        logits.reshape([batch, classes])
    }

    fn denoising(&self, network: &UNet, batch: Batch) -> Loss {
        let (schedule, t, noise) = self.noise(&batch);
        let condition = timesteps(&t, &batch.images.device());
        let predict = |x| network.forward(x, &condition);
        loss(&schedule, batch.images, &t, noise, self.variance(), predict)
    }

    /// Timesteps and noise are functions of the image and the epoch, so it does not matter how a batch is
    /// cut.
    fn noise(&self, batch: &Batch) -> (Schedule, Vec<usize>, Tensor<4>) {
        let keys = batch.keys(Stream::Timestep);
        let timestep =
            |key: &diffrep_rng::Key| key.generator().below(self.timesteps as u64) as usize;
        let [_, channels, height, width] = batch.images.dims();
        let noise = noise_batch(
            &batch.keys(Stream::Noise),
            [channels, height, width],
            &batch.images.device(),
        );
        (
            Schedule::new(self.schedule, self.timesteps),
            keys.iter().map(timestep).collect(),
            noise,
        )
    }
}

fn timesteps(t: &[usize], device: &Device) -> Condition {
    let values: Vec<f32> = t.iter().map(|&t| t as f32).collect();
    let t = Tensor::from_data(TensorData::new(values, [t.len()]), device);
    Condition {
        t: Some(t),
        ..Condition::default()
    }
}
