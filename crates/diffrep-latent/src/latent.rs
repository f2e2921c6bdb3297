//! The seam between a first stage and a network in its latent space, whatever that network is.

use burn::module::Module;
use burn::tensor::Tensor;
use diffrep_rng::Key;
use diffrep_schedule::noise_batch;
use diffrep_taps::{Condition, Encoder, Feedback, TapInfo, TapSet, Taps};
use serde::{Deserialize, Serialize};

use crate::FirstStage;

/// Where the noise of sampled latents lies among that of timesteps: no process has so many.
const SAMPLED: u32 = u32::MAX;

/// Which latents stand for an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Latents {
    /// The mean of their distribution.
    #[default]
    Mean,
    /// A sample, drawn by the image's key, as in the training of Stable Diffusion.
    Sampled,
}

/// A diffusion network in the latent space of a first stage, as an encoder of images: its
/// [first stage](Encoder::first_stage) makes latents of images, which are noised in their place.
///
/// Its parameters are those of the network: nothing here trains a first stage.
#[derive(Module, Debug)]
pub struct Latent<E: Module> {
    /// Images to latents.
    #[module(skip)]
    pub first_stage: FirstStage,
    /// Which latents.
    #[module(skip)]
    pub latents: Latents,
    /// The network that sees them.
    pub network: E,
    /// What the network is told beside the timestep, such as a text or the null class.
    #[module(skip)]
    pub condition: Condition,
}

impl<E: Module> Latent<E> {
    /// The same first stage and condition around what `change` makes of the network.
    pub fn map<F: Module>(self, change: impl FnOnce(E) -> F) -> Latent<F> {
        Latent {
            first_stage: self.first_stage,
            latents: self.latents,
            network: change(self.network),
            condition: self.condition,
        }
    }
}

impl<E: Encoder + Module> Encoder for Latent<E> {
    fn taps(&self) -> Vec<TapInfo> {
        self.network.taps()
    }

    fn first_stage(&self, image: Tensor<4>, keys: &[Key]) -> Tensor<4> {
        let noise = (self.latents == Latents::Sampled).then(|| {
            let config = self.first_stage.config();
            let side = config.latent_size();
            let keys: Vec<Key> = keys.iter().map(|key| key.t(SAMPLED)).collect();
            noise_batch(&keys, [config.latent_channels, side, side], &image.device())
        });
        self.first_stage.latents(image, noise)
    }

    /// `image` is what [`first_stage`](Encoder::first_stage) made, noised; `condition` goes before
    /// the one given with the network.
    fn forward_taps(
        &self,
        image: Tensor<4>,
        condition: &Condition,
        wanted: &TapSet,
        feedback: Option<&Feedback>,
    ) -> Taps {
        let own = self.condition.clone();
        let condition = Condition {
            t: condition.t.clone().or(own.t),
            label: condition.label.clone().or(own.label),
            context: condition.context.clone().or(own.context),
        };
        self.network
            .forward_taps(image, &condition, wanted, feedback)
    }
}
