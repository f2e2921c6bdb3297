//! From a decoded image to the values that a network reads.

use serde::{Deserialize, Serialize};

use crate::guided_crop::center_crop;
use crate::torchvision::resize_center_crop;
use crate::{DatasetError, Filter, Image};

/// How an image is brought to the square that the network reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Centred on a square of background 0, an odd pixel going to the right or below, if both sides are small
    /// enough; larger images are treated as by [`Fit::CenterCrop`].
    PadTo,
    /// Resized by halving and bicubic interpolation until the short side fits, then cropped at the centre: the
    /// reference's `center_crop_arr`, bit for bit.
    CenterCrop,
    /// torchvision's `Resize` and `CenterCrop`: most networks other than diffusion models. See
    /// [`resize_center_crop`].
    ResizeCrop {
        /// What the short side is brought to.
        short_side: usize,
        /// The filter that resizes.
        filter: Filter,
    },
    /// Taken as it is; any other size is an error.
    Exact,
}

/// How many channels the network reads and where they come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channels {
    /// One channel; colour images are an error.
    Grey,
    /// One channel; colour images are converted by ITU-R 601 luma.
    GreyFromColour,
    /// Three channels; grey images are replicated.
    Rgb,
}

impl Channels {
    /// 1 or 3.
    pub fn count(self) -> usize {
        match self {
            Self::Grey | Self::GreyFromColour => 1,
            Self::Rgb => 3,
        }
    }
}

/// The network's input: a square of `size` pixels with the given channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Preprocess {
    /// Rows and columns.
    pub size: usize,
    /// Channels and their origin.
    pub channels: Channels,
    /// How images of another size are treated.
    pub fit: Fit,
}

impl Preprocess {
    /// Values of one network input, `channels * size * size`.
    pub fn len(&self) -> usize {
        self.channels.count() * self.size * self.size
    }

    /// Whether an input has no values, which only a size of 0 gives.
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Brings an image to the size and channels asked for, still in `u8`.
    ///
    /// # Errors
    ///
    /// If the image does not fit, or is in colour where grey was promised.
    pub fn apply(&self, image: &Image) -> Result<Image, DatasetError> {
        let fitted = match self.fit {
            Fit::PadTo if image.width().max(image.height()) <= self.size => {
                image.clone().padded(self.size)
            }
            Fit::PadTo | Fit::CenterCrop => center_crop(image, self.size),
            Fit::ResizeCrop { short_side, filter } => {
                resize_center_crop(image, short_side, filter, self.size)
            }
            Fit::Exact => self.exact(image)?,
        };
        match self.channels {
            Channels::Rgb => Ok(fitted.into_rgb()),
            Channels::GreyFromColour => Ok(fitted.to_grey()),
            Channels::Grey if fitted.channels() == 3 => Err(DatasetError::ColourImage),
            Channels::Grey => Ok(fitted),
        }
    }

    /// Writes the network input of an image into `out` in `[channels, height, width]` order, mirrored if asked for.
    ///
    /// # Errors
    ///
    /// As [`Preprocess::apply`].
    ///
    /// # Panics
    ///
    /// If `out` is not [`Preprocess::len`] long.
    pub fn write(&self, image: &Image, flip: bool, out: &mut [f32]) -> Result<(), DatasetError> {
        assert_eq!(
            out.len(),
            self.len(),
            "the output has another size than the network input"
        );
        let fitted = self.apply(image)?;
        write_planes(&fitted, flip, out, |_, sample| to_unit_range(sample));
        Ok(())
    }

    fn exact(&self, image: &Image) -> Result<Image, DatasetError> {
        if image.width() != self.size || image.height() != self.size {
            return Err(DatasetError::ImageSize {
                width: image.width(),
                height: image.height(),
                expected: format!("exactly {size}x{size}", size = self.size),
            });
        }
        Ok(image.clone())
    }
}

/// Maps `0..=255` to `-1..=1`: divided by 127.5, then less 1, both in `f32` as the reference does.
pub fn to_unit_range(value: u8) -> f32 {
    f32::from(value) / 127.5 - 1.0
}

/// Writes an image as planes, mirrored if asked for, with the number that `value` gives for a channel and a sample.
pub(crate) fn write_planes(
    image: &Image,
    flip: bool,
    out: &mut [f32],
    value: impl Fn(usize, u8) -> f32,
) {
    match image.channels() {
        1 => write_planes_of::<1>(image, flip, out, value),
        _ => write_planes_of::<3>(image, flip, out, value),
    }
}

fn write_planes_of<const CHANNELS: usize>(
    image: &Image,
    flip: bool,
    out: &mut [f32],
    value: impl Fn(usize, u8) -> f32,
) {
    let (width, plane) = (image.width(), image.width() * image.height());
    // There are fewer samples to tell apart than in an image to convert.
    let tables: [[f32; 256]; CHANNELS] =
        std::array::from_fn(|channel| std::array::from_fn(|sample| value(channel, sample as u8)));
    let rows = image.pixels().chunks_exact(width * CHANNELS);
    for (y, row) in rows.enumerate() {
        for (channel, table) in tables.iter().enumerate() {
            let out_row = &mut out[channel * plane + y * width..][..width];
            let pixels = row.as_chunks::<CHANNELS>().0.iter();
            let numbers = pixels.map(|pixel| table[usize::from(pixel[channel])]);
            if flip {
                fill(out_row.iter_mut().rev(), numbers);
            } else {
                fill(out_row.iter_mut(), numbers);
            }
        }
    }
}

fn fill<'a>(out: impl Iterator<Item = &'a mut f32>, numbers: impl Iterator<Item = f32>) {
    for (out, number) in out.zip(numbers) {
        *out = number;
    }
}
