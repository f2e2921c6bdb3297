//! Pillow's resampling, bit for bit.
//!
//! Source: `src/libImaging/Resample.c` of Pillow. Coefficients are computed in `f64` and rounded to 22 fractional
//! bits; each pass accumulates in `i32` and rounds and clamps to `u8`, so the order of the two passes shows.
//! The order is that of Pillow 13. Releases before it put the horizontal pass first in nearly every case; an image that
//! loses more than twice as many rows as columns differs from theirs in some samples.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod passes;
mod weights;

use std::borrow::Cow;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::Image;
use passes::{horizontal, vertical};
use weights::Weights;

/// An interpolation filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// The mean of the pixels covered.
    Box,
    /// Linear interpolation, over as many pixels as an output covers.
    Bilinear,
    /// Cubic convolution with a = -0.5.
    Bicubic,
}

/// The part of a resized image that is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) left: usize,
    pub(crate) top: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

/// Resizes an image to `width` x `height` with the bits of Pillow's `Image.resize`.
///
/// # Panics
///
/// If `width` or `height` is 0.
pub fn resize(image: &Image, width: usize, height: usize, filter: Filter) -> Image {
    let window = Window {
        left: 0,
        top: 0,
        width,
        height,
    };
    resize_window(image, width, height, filter, window)
}

/// A window of the resized image; outputs do not depend on each other, so nothing outside it is computed.
pub(crate) fn resize_window(
    image: &Image,
    width: usize,
    height: usize,
    filter: Filter,
    window: Window,
) -> Image {
    let channels = image.channels();
    let wanted_columns = window.left..window.left + window.width;
    let wanted_rows = window.top..window.top + window.height;
    let columns = Axis::new(image.width(), width, filter, wanted_columns);
    let rows = Axis::new(image.height(), height, filter, wanted_rows);
    let stride = image.width() * channels;
    let pixels = if vertical_first(image, width, height) {
        let short = vertical(image.pixels(), stride, 0, &rows);
        horizontal(&short, stride, channels, &columns).into_owned()
    } else {
        let needed = rows.span();
        let source = &image.pixels()[needed.start * stride..needed.end * stride];
        match horizontal(source, stride, channels, &columns) {
            Cow::Borrowed(narrow) => vertical(narrow, stride, needed.start, &rows).into_owned(),
            // What was made for the vertical pass is not copied if that has nothing to do.
            Cow::Owned(narrow) => {
                match vertical(&narrow, window.width * channels, needed.start, &rows) {
                    Cow::Borrowed(same) if same.len() == narrow.len() => narrow,
                    other => other.into_owned(),
                }
            }
        }
    };
    Image::new(window.width, window.height, channels, pixels)
}

/// Pillow 13's rule: the vertical pass comes first if more than twice as many rows as columns are lost.
fn vertical_first(image: &Image, width: usize, height: usize) -> bool {
    let rows_lost = image.height() as i64 - height as i64;
    let columns_lost = image.width() as i64 - width as i64;
    rows_lost > 0 && rows_lost > 2 * columns_lost
}

/// What a pass does along its axis.
enum Axis {
    /// The size stays, so Pillow skips the pass; these samples are wanted.
    Keep(Range<usize>),
    /// Pairs are averaged: the weights of a box at half an even size are exactly one half each.
    Halve(usize),
    /// Weighted sums.
    Weigh(Weights),
}

impl Axis {
    fn new(from: usize, to: usize, filter: Filter, wanted: Range<usize>) -> Self {
        assert!(to > 0, "a resized image has at least one pixel");
        if from == to {
            Self::Keep(wanted)
        } else if filter == Filter::Box && from == 2 * to && wanted == (0..to) {
            Self::Halve(to)
        } else {
            Self::Weigh(Weights::new(from, to, filter, wanted))
        }
    }

    /// The samples read.
    fn span(&self) -> Range<usize> {
        match self {
            Self::Keep(wanted) => wanted.clone(),
            Self::Halve(to) => 0..2 * to,
            Self::Weigh(weights) => weights.span(),
        }
    }
}
