//! The crops of torchvision's transforms, which the baselines are trained and tested with, with the bits of Pillow.

use diffrep_rng::Generator;
use serde::{Deserialize, Serialize};

use crate::Image;
use crate::resample::{Filter, Window, resize, resize_window};

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CropBox {
    /// The first column.
    pub left: usize,
    /// The first row.
    pub top: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// `Resize(short_side)`: the short side gets this length, the long one keeps the proportion and loses its fraction.
///
/// # Panics
///
/// If `short_side` is 0.
pub fn resize_short_side(image: &Image, short_side: usize, filter: Filter) -> Image {
    let (width, height) = resized(image, short_side);
    resize(image, width, height, filter)
}

/// `CenterCrop(size)`: the central square; sides that are too short are padded with 0.
///
/// The offset of an odd difference goes to the even neighbour.
///
/// # Panics
///
/// If `size` is 0.
pub fn center_crop_or_pad(image: &Image, size: usize) -> Image {
    let window = central_window(image.width(), image.height(), size);
    image.crop(window.into()).padded(size)
}

/// `CenterCrop(size)` of `Resize(short_side)`, computing only what is kept.
///
/// # Panics
///
/// If `short_side` or `size` is 0.
pub fn resize_center_crop(image: &Image, short_side: usize, filter: Filter, size: usize) -> Image {
    let (width, height) = resized(image, short_side);
    let window = central_window(width, height, size);
    resize_window(image, width, height, filter, window).padded(size)
}

/// `RandomResizedCrop`: a rectangle of random area and shape, resized to a square.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RandomResizedCrop {
    /// The least and the greatest part of the image's area; 0.08 and 1 by default in torchvision.
    pub area: [f64; 2],
    /// The least and the greatest width divided by height; 3/4 and 4/3 by default in torchvision.
    pub ratio: [f64; 2],
    /// The filter that resizes the rectangle; bilinear by default in torchvision.
    pub filter: Filter,
}

impl Default for RandomResizedCrop {
    fn default() -> Self {
        Self {
            area: [0.08, 1.0],
            ratio: [3.0 / 4.0, 4.0 / 3.0],
            filter: Filter::Bilinear,
        }
    }
}

impl RandomResizedCrop {
    /// Draws the rectangle for an image of `width` x `height`: the first of ten that fits, else the largest central one
    /// whose shape is allowed.
    ///
    /// # Panics
    ///
    /// If a side is 0, or areas or ratios are not positive and in order.
    pub fn draw(&self, width: usize, height: usize, generator: &mut Generator) -> CropBox {
        self.choose(width, height, generator)
    }

    /// The rectangle at `crop`, resized to `size` x `size`.
    ///
    /// # Panics
    ///
    /// If `size` is 0 or the rectangle leaves the image.
    pub fn apply(&self, image: &Image, crop: CropBox, size: usize) -> Image {
        resize(&image.crop(crop), size, size, self.filter)
    }

    fn choose(&self, width: usize, height: usize, numbers: &mut impl Numbers) -> CropBox {
        let ([least, most], [narrowest, widest]) = (self.area, self.ratio);
        assert!(
            0.0 < least && least <= most && 0.0 < narrowest && narrowest <= widest,
            "areas and ratios must be positive and in order"
        );
        let whole = (width * height) as f64;
        for _ in 0..10 {
            let area = whole * (least + (most - least) * numbers.uniform());
            let ratio = numbers.log_uniform(narrowest, widest);
            let crop_width = (area * ratio).sqrt().round_ties_even() as usize;
            let crop_height = (area / ratio).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&crop_width) && (1..=height).contains(&crop_height) {
                let top = numbers.up_to(height - crop_height);
                let left = numbers.up_to(width - crop_width);
                return CropBox {
                    left,
                    top,
                    width: crop_width,
                    height: crop_height,
                };
            }
        }
        self.largest(width, height)
    }

    fn largest(&self, width: usize, height: usize) -> CropBox {
        let [narrowest, widest] = self.ratio;
        let ratio = width as f64 / height as f64;
        let (mut crop_width, mut crop_height) = (width, height);
        if ratio < narrowest {
            crop_height = (width as f64 / narrowest).round_ties_even() as usize;
        } else if ratio > widest {
            crop_width = (height as f64 * widest).round_ties_even() as usize;
        }
        // A side of one pixel may round to none or, at an extreme ratio, to more than there are.
        let (crop_width, crop_height) = (crop_width.clamp(1, width), crop_height.clamp(1, height));
        CropBox {
            left: (width - crop_width) / 2,
            top: (height - crop_height) / 2,
            width: crop_width,
            height: crop_height,
        }
    }
}

/// Where random choices come from; tests replay those of torchvision.
trait Numbers {
    /// Uniform in [0, 1).
    fn uniform(&mut self) -> f64;
    /// Between two positive bounds, its logarithm uniform.
    fn log_uniform(&mut self, low: f64, high: f64) -> f64;
    /// Uniform in 0..=last.
    fn up_to(&mut self, last: usize) -> usize;
}

impl Numbers for Generator {
    fn uniform(&mut self) -> f64 {
        Generator::uniform(self)
    }

    fn log_uniform(&mut self, low: f64, high: f64) -> f64 {
        Generator::log_uniform(self, low, high)
    }

    fn up_to(&mut self, last: usize) -> usize {
        self.below(last as u64 + 1) as usize
    }
}

impl From<Window> for CropBox {
    fn from(window: Window) -> Self {
        Self {
            left: window.left,
            top: window.top,
            width: window.width,
            height: window.height,
        }
    }
}

fn resized(image: &Image, short_side: usize) -> (usize, usize) {
    let (width, height) = (image.width(), image.height());
    let long_side =
        |long: usize, short: usize| ((short_side as f64 * long as f64) / short as f64) as usize;
    if width <= height {
        (short_side, long_side(height, width))
    } else {
        (long_side(width, height), short_side)
    }
}

/// The part of an image inside the central square of `size` pixels.
fn central_window(width: usize, height: usize, size: usize) -> Window {
    let offset = |side: usize| (side.saturating_sub(size) as f64 / 2.0).round_ties_even() as usize;
    Window {
        left: offset(width),
        top: offset(height),
        width: width.min(size),
        height: height.min(size),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use diffrep_rng::{Key, Stream};
    use proptest::prelude::*;
    use safetensors::SafeTensors;

    use super::*;

    /// Uniform numbers written down, used as torchvision uses its own.
    struct Replay<'a>(std::slice::Iter<'a, [u8; 8]>);

    impl Numbers for Replay<'_> {
        fn uniform(&mut self) -> f64 {
            f64::from_le_bytes(
                *self
                    .0
                    .next()
                    .expect("more numbers were asked for than are stored"),
            )
        }

        fn log_uniform(&mut self, low: f64, high: f64) -> f64 {
            let (low, high) = (low.ln(), high.ln());
            (low + (high - low) * self.uniform()).exp()
        }

        fn up_to(&mut self, last: usize) -> usize {
            (self.uniform() * (last + 1) as f64) as usize
        }
    }

    #[test]
    fn given_the_same_numbers_the_boxes_are_those_of_torchvision() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fixtures/preprocess/transforms.safetensors");
        let bytes = std::fs::read(path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let words = |name: &str| tensors.tensor(name).unwrap().data().as_chunks::<8>().0;
        let integers = |row: &[[u8; 8]]| -> Vec<usize> {
            row.iter()
                .map(|&word| i64::from_le_bytes(word) as usize)
                .collect()
        };
        let cases = words("boxes.sizes").chunks_exact(2);
        assert_eq!(cases.len(), 48);
        let expected = words("boxes.chosen").chunks_exact(4);
        let numbers = words("boxes.uniform").chunks_exact(40);
        for ((size, numbers), expected) in cases.zip(numbers).zip(expected) {
            let size = integers(size);
            let mut replay = Replay(numbers.iter());
            let actual = RandomResizedCrop::default().choose(size[0], size[1], &mut replay);
            let actual = vec![actual.left, actual.top, actual.width, actual.height];
            assert_eq!(actual, integers(expected), "{size:?}");
        }
    }

    proptest! {
        #[test]
        fn boxes_lie_inside_the_image(seed: u64, width in 1usize..5000, height in 1usize..5000) {
            let mut generator = Key::new(seed, Stream::Crop).generator();
            let crop = RandomResizedCrop::default().draw(width, height, &mut generator);
            prop_assert!(crop.width >= 1 && crop.left + crop.width <= width);
            prop_assert!(crop.height >= 1 && crop.top + crop.height <= height);
        }
    }
}
