//! Crops, flips and normalisation as networks other than the U-Net are trained and tested with them.

use diffrep_rng::{Key, Stream};
use serde::{Deserialize, Serialize};

use crate::guided_crop::{RandomCrop, center_crop};
use crate::preprocess::{to_unit_range, write_planes};
use crate::torchvision::{RandomResizedCrop, resize_center_crop};
use crate::{Filter, Fit, Image, Preprocess};

/// How an image becomes the input of a colour network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transform {
    /// Rows and columns.
    pub size: usize,
    /// Which part of the image is taken.
    pub crop: Crop,
    /// The probability that the crop is mirrored left to right.
    pub flip: f64,
    /// How samples become numbers.
    pub normalise: Normalise,
}

/// Which part of an image is taken.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Crop {
    /// guided-diffusion's [`center_crop`].
    Center,
    /// guided-diffusion's `random_crop_arr`; see [`RandomCrop`].
    Random {
        /// The least and the greatest part of the short side that the crop covers; 0.8 and 1 in the reference.
        fractions: [f64; 2],
    },
    /// torchvision's `Resize` and `CenterCrop`; see [`resize_center_crop`].
    ResizeCenter {
        /// What the short side is brought to.
        short_side: usize,
        /// The filter that resizes.
        filter: Filter,
    },
    /// torchvision's `RandomResizedCrop`.
    RandomResized(RandomResizedCrop),
}

/// How samples of 0 to 255 become numbers, in `f32` and in the order of operations of the code that is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalise {
    /// Divided by 127.5, less 1: guided-diffusion.
    UnitRange,
    /// Divided by 255, less ImageNet's mean, divided by its deviation: most networks trained on ImageNet.
    #[serde(rename = "imagenet")]
    ImageNet,
    /// The same with the mean and deviation of CLIP's training images.
    Clip,
    /// The same with 0.5 for both: Inception's habit, kept by the supervised vision transformers.
    Inception,
}

impl Normalise {
    /// The mean and the standard deviation of red, green and blue, for samples divided by 255.
    #[expect(
        clippy::excessive_precision,
        reason = "the constants are those that were published"
    )]
    pub fn mean_and_deviation(self) -> [[f32; 3]; 2] {
        match self {
            Self::UnitRange | Self::Inception => [[0.5; 3]; 2],
            Self::ImageNet => [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]],
            Self::Clip => [
                [0.481_454_66, 0.457_827_5, 0.408_210_73],
                [0.268_629_54, 0.261_302_58, 0.275_777_11],
            ],
        }
    }

    /// The number for a sample of a channel (0 red, 1 green, 2 blue).
    ///
    /// # Panics
    ///
    /// If `channel` is above 2.
    pub fn value(self, channel: usize, sample: u8) -> f32 {
        if self == Self::UnitRange {
            return to_unit_range(sample);
        }
        let [mean, deviation] = self.mean_and_deviation();
        (f32::from(sample) / 255.0 - mean[channel]) / deviation[channel]
    }
}

/// What random choices depend on: nothing else, so neither the order of samples nor the number of threads shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Draw {
    /// The run's seed.
    pub seed: u64,
    /// The sample's identity.
    pub sample: u64,
    /// The epoch.
    pub epoch: u32,
}

impl Draw {
    fn key(self, stream: Stream) -> Key {
        Key::new(self.seed, stream)
            .sample(self.sample)
            .draw(self.epoch)
    }
}

/// A part of an image that a training takes at random in place of the image.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum View {
    /// guided-diffusion's `random_crop_arr`, which the authors' released training uses: a square of a fraction of the
    /// short side.
    Crop {
        /// The least and the greatest fraction; 0.8 and 1 in the reference.
        fractions: [f64; 2],
    },
    /// torchvision's `RandomResizedCrop`: Figure 7 of the paper.
    ResizedCrop {
        /// The least and the greatest part of the image's area; 0.08 and 1 by default in torchvision.
        area: [f64; 2],
    },
}

impl View {
    /// That ranges are in order, above 0 and at most 1.
    ///
    /// # Errors
    ///
    /// A sentence on what is wrong.
    pub fn check(self) -> Result<(), String> {
        let (Self::Crop {
            fractions: [least, most],
        }
        | Self::ResizedCrop {
            area: [least, most],
        }) = self;
        if 0.0 < least && least <= most && most <= 1.0 {
            return Ok(());
        }
        Err(format!(
            "a random crop takes from {least} to {most} of an image: give two numbers in order, above 0 and at most 1"
        ))
    }

    /// The part that is drawn for a sample, as large as `preprocess` would make the image before it pads or cuts.
    ///
    /// # Panics
    ///
    /// If ranges are not as [`View::check`] wants them.
    pub fn of(self, image: &Image, preprocess: &Preprocess, draw: Draw) -> Image {
        let (width, height) = (image.width(), image.height());
        let size = match preprocess.fit {
            Fit::PadTo if width.max(height) <= preprocess.size => width.min(height),
            // What is resized and then cropped is drawn at the size before the crop.
            Fit::ResizeCrop { short_side, .. } => short_side,
            Fit::PadTo | Fit::CenterCrop | Fit::Exact => preprocess.size,
        };
        let mut generator = draw.key(Stream::Crop).generator();
        match self {
            Self::Crop { fractions } => {
                RandomCrop::draw(width, height, size, fractions, &mut generator).apply(image, size)
            }
            Self::ResizedCrop { area } => {
                let random = RandomResizedCrop {
                    area,
                    ..RandomResizedCrop::default()
                };
                let crop = random.draw(width, height, &mut generator);
                random.apply(image, crop, size)
            }
        }
    }
}

impl Transform {
    /// Numbers of one network input, `3 * size * size`.
    pub fn len(&self) -> usize {
        3 * self.size * self.size
    }

    /// Whether an input has no numbers, which only a size of 0 gives.
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// The crop in colour, mirrored or not, still in `u8`.
    ///
    /// # Panics
    ///
    /// If a size is 0 or a range is out of order.
    pub fn apply(&self, image: &Image, draw: Draw) -> Image {
        let crop = self.crop(image, draw).into_rgb();
        if self.flips(draw) {
            crop.flipped()
        } else {
            crop
        }
    }

    /// Writes the network input of an image into `out` in `[channels, height, width]` order.
    ///
    /// # Panics
    ///
    /// As [`Transform::apply`], and if `out` is not [`Transform::len`] long.
    pub fn write(&self, image: &Image, draw: Draw, out: &mut [f32]) {
        assert_eq!(
            out.len(),
            self.len(),
            "the output has another size than the network input"
        );
        let crop = self.crop(image, draw).into_rgb();
        write_planes(&crop, self.flips(draw), out, |channel, sample| {
            self.normalise.value(channel, sample)
        });
    }

    fn crop(&self, image: &Image, draw: Draw) -> Image {
        let (width, height) = (image.width(), image.height());
        let mut generator = draw.key(Stream::Crop).generator();
        match self.crop {
            Crop::Center => center_crop(image, self.size),
            Crop::Random { fractions } => {
                RandomCrop::draw(width, height, self.size, fractions, &mut generator)
                    .apply(image, self.size)
            }
            Crop::ResizeCenter { short_side, filter } => {
                resize_center_crop(image, short_side, filter, self.size)
            }
            Crop::RandomResized(random) => {
                let crop = random.draw(width, height, &mut generator);
                random.apply(image, crop, self.size)
            }
        }
    }

    fn flips(&self, draw: Draw) -> bool {
        // Uniform numbers are below 1, so a probability of 0 never mirrors and one of 1 always does.
        draw.key(Stream::Flip).generator().uniform() < self.flip
    }
}
