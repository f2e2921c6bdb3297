//! The crops of guided-diffusion's `image_datasets.py`, with the bits of Pillow.

use std::borrow::Cow;

use diffrep_rng::Generator;

use crate::Image;
use crate::resample::{Filter, Window, resize, resize_window};

/// The central square of `size` pixels after the short side was brought to `size`: the reference's `center_crop_arr`.
///
/// # Panics
///
/// If `size` is 0.
pub fn center_crop(image: &Image, size: usize) -> Image {
    let reduction = Reduction::new(image.width(), image.height(), size);
    let crop = RandomCrop {
        short_side: size,
        left: (reduction.width - size) / 2,
        top: (reduction.height - size) / 2,
    };
    crop.apply(image, size)
}

/// The choices of the reference's `random_crop_arr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RandomCrop {
    /// What the short side is brought to, at least the size of the crop.
    pub short_side: usize,
    /// The first column of the crop in the resized image.
    pub left: usize,
    /// The first row of the crop in the resized image.
    pub top: usize,
}

impl RandomCrop {
    /// Draws the crop of `size` pixels for an image of `width` x `height`: the short side evenly from the whole numbers
    /// of which `size` is `fractions[0]` to `fractions[1]` (0.8 to 1 in the reference), then the place evenly.
    ///
    /// # Panics
    ///
    /// If a length is 0 or the fractions are not in order within 0..=1, the first above 0.
    pub fn draw(
        width: usize,
        height: usize,
        size: usize,
        fractions: [f64; 2],
        generator: &mut Generator,
    ) -> Self {
        let [least, most] = fractions;
        assert!(
            0.0 < least && least <= most && most <= 1.0,
            "fractions must be in order, above 0 and at most 1, not {least} and {most}"
        );
        let shortest = (size as f64 / most).ceil() as usize;
        let longest = (size as f64 / least).ceil() as usize;
        let mut up_to = |last: usize| generator.below(last as u64 + 1) as usize;
        let short_side = shortest + up_to(longest - shortest);
        let reduction = Reduction::new(width, height, short_side);
        let top = up_to(reduction.height - size);
        let left = up_to(reduction.width - size);
        Self {
            short_side,
            left,
            top,
        }
    }

    /// The crop of `size` x `size` pixels.
    ///
    /// # Panics
    ///
    /// If `size` is 0 or the crop leaves the resized image.
    pub fn apply(&self, image: &Image, size: usize) -> Image {
        let reduction = Reduction::new(image.width(), image.height(), self.short_side);
        assert!(
            size > 0 && self.left + size <= reduction.width && self.top + size <= reduction.height,
            "a crop has pixels and lies inside the resized image"
        );
        let mut halved = Cow::Borrowed(image);
        for _ in 0..reduction.halvings {
            let (width, height) = (halved.width() / 2, halved.height() / 2);
            halved = Cow::Owned(resize(&halved, width, height, Filter::Box));
        }
        let window = Window {
            left: self.left,
            top: self.top,
            width: size,
            height: size,
        };
        let (width, height) = (reduction.width, reduction.height);
        resize_window(&halved, width, height, Filter::Bicubic, window)
    }
}

/// How the reference brings a short side to a size: by halving while it is at least twice that, then by one bicubic step.
struct Reduction {
    halvings: u32,
    width: usize,
    height: usize,
}

impl Reduction {
    fn new(mut width: usize, mut height: usize, short_side: usize) -> Self {
        assert!(short_side > 0, "the size of a crop is at least 1");
        let mut halvings = 0;
        while width.min(height) >= 2 * short_side {
            (width, height) = (width / 2, height / 2);
            halvings += 1;
        }
        let scale = short_side as f64 / width.min(height) as f64;
        // Python's round takes halves to the even neighbour.
        let scaled = |side: usize| (side as f64 * scale).round_ties_even() as usize;
        Self {
            halvings,
            width: scaled(width),
            height: scaled(height),
        }
    }
}
