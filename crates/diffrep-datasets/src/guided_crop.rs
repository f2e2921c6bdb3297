//! The reference's centre crop.

use crate::Image;
use crate::resample::{Filter, Window, resize, resize_window};

/// The central square of `size` pixels after the short side was brought to `size`: `center_crop_arr` of
/// guided-diffusion's `image_datasets.py`, with the bits of Pillow.
///
/// # Panics
///
/// If `size` is 0.
pub fn center_crop(image: &Image, size: usize) -> Image {
    assert!(size > 0, "the size of a crop is at least 1");
    let mut halved = None;
    let mut current = image;
    while current.width().min(current.height()) >= 2 * size {
        let (width, height) = (current.width() / 2, current.height() / 2);
        let next = resize(current, width, height, Filter::Box);
        current = halved.insert(next);
    }
    let scale = size as f64 / current.width().min(current.height()) as f64;
    // Python's round takes halves to the even neighbour.
    let width = (current.width() as f64 * scale).round_ties_even() as usize;
    let height = (current.height() as f64 * scale).round_ties_even() as usize;
    let window = Window {
        left: (width - size) / 2,
        top: (height - size) / 2,
        width: size,
        height: size,
    };
    resize_window(current, width, height, Filter::Bicubic, window)
}
