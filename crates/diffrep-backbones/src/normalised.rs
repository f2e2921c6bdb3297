//! Images as a network was trained on them, from images as the rest of the project has them.

use burn::tensor::{Tensor, TensorData};
use diffrep_datasets::Normalise;
use diffrep_rng::Key;
use diffrep_taps::{Condition, Encoder, Feedback, TapInfo, TapSet, Taps};

/// An encoder that takes images of -1 to 1, as diffusion models do, and hands them on normalised as it
/// was trained. Networks of other than 3 channels know [`Normalise::UnitRange`] alone.
#[derive(Clone, Debug)]
pub struct Normalised<E> {
    /// The encoder.
    pub encoder: E,
    /// What it was trained with.
    pub normalise: Normalise,
}

impl<E: Encoder> Encoder for Normalised<E> {
    fn taps(&self) -> Vec<TapInfo> {
        self.encoder.taps()
    }

    fn first_stage(&self, image: Tensor<4>, keys: &[Key]) -> Tensor<4> {
        self.encoder.first_stage(image, keys)
    }

    fn forward_taps(
        &self,
        image: Tensor<4>,
        condition: &Condition,
        wanted: &TapSet,
        feedback: Option<&Feedback>,
    ) -> Taps {
        let image = match self.normalise {
            // Means and deviations of 0.5 are what -1 to 1 is.
            Normalise::UnitRange | Normalise::Inception => image,
            other => {
                let [mean, deviation] = other.mean_and_deviation().map(|values| {
                    let data = TensorData::new(values.to_vec(), [1, 3, 1, 1]);
                    Tensor::<4>::from_data(data, &image.device())
                });
                (image * 0.5 + 0.5 - mean) / deviation
            }
        };
        self.encoder
            .forward_taps(image, condition, wanted, feedback)
    }
}
