//! Images as a network was trained on them, from images as the rest of the project has them.

use burn::tensor::{Tensor, TensorData};
use diffrep_taps::{Condition, Encoder, Feedback, TapInfo, TapSet, Taps};
use serde::{Deserialize, Serialize};

/// Means and deviations of pixels within 0 and 1 that networks were trained with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalisation {
    /// Those of ImageNet: most networks that were trained on it.
    #[serde(rename = "imagenet")]
    ImageNet,
    /// Those of CLIP's training images.
    Clip,
    /// 0.5 for both, which is -1 to 1: the supervised vision transformers of timm, and networks of any
    /// number of channels.
    Half,
}

impl Normalisation {
    /// Mean and deviation of each of some channels.
    ///
    /// # Panics
    ///
    /// When there are other than 3 channels, unless it is [`Half`](Self::Half).
    #[expect(
        clippy::excessive_precision,
        reason = "the constants are those that were published"
    )]
    pub fn mean_and_deviation(self, channels: usize) -> [Vec<f32>; 2] {
        let known: [[f32; 3]; 2] = match self {
            Self::Half => return [vec![0.5; channels], vec![0.5; channels]],
            Self::ImageNet => [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]],
            Self::Clip => [
                [0.481_454_66, 0.457_827_5, 0.408_210_73],
                [0.268_629_54, 0.261_302_58, 0.275_777_11],
            ],
        };
        assert_eq!(channels, 3, "these means are of red, green and blue");
        known.map(Vec::from)
    }
}

/// An encoder that takes images of -1 to 1, as diffusion models do, and hands them on normalised.
#[derive(Clone, Debug)]
pub struct Normalised<E> {
    /// The encoder.
    pub encoder: E,
    /// What it was trained with.
    pub normalisation: Normalisation,
}

impl<E: Encoder> Encoder for Normalised<E> {
    fn taps(&self) -> Vec<TapInfo> {
        self.encoder.taps()
    }

    fn forward_taps(
        &self,
        image: Tensor<4>,
        condition: &Condition,
        wanted: &TapSet,
        feedback: Option<&Feedback>,
    ) -> Taps {
        let [_, channels, ..] = image.dims();
        let image = match self.normalisation {
            Normalisation::Half => image,
            other => {
                let [mean, deviation] = other.mean_and_deviation(channels).map(|values| {
                    let data = TensorData::new(values, [1, channels, 1, 1]);
                    Tensor::<4>::from_data(data, &image.device())
                });
                (image * 0.5 + 0.5 - mean) / deviation
            }
        };
        self.encoder
            .forward_taps(image, condition, wanted, feedback)
    }
}
