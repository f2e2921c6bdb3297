//! Pillow's resampling, bit for bit.
//!
//! Source: `src/libImaging/Resample.c` of Pillow. Coefficients are computed in `f64` and rounded to 22 fractional
//! bits; each pass accumulates in `i32` and rounds and clamps to `u8`, so the order of the two passes shows.
//! The order is that of Pillow 13. Releases before it put the horizontal pass first in nearly every case; an image that
//! loses more than twice as many rows as columns differs from theirs in some samples.

use crate::Image;

/// 32 bits less 8 for the sample and 2 for the overshoot of the filters.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// An interpolation filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filter {
    /// The mean of the pixels covered.
    Box,
    /// Cubic convolution with a = -0.5.
    Bicubic,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Self::Box => 0.5,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        match self {
            Self::Box if x > -0.5 && x <= 0.5 => 1.0,
            Self::Box => 0.0,
            Self::Bicubic => bicubic(x.abs()),
        }
    }
}

fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    // The order of operations is Pillow's; another one would change last bits.
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
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
    let columns = reaches(image.width(), width, filter, window.left, window.width);
    let rows = reaches(image.height(), height, filter, window.top, window.height);
    let stride = image.width() * image.channels();
    let pixels = if vertical_first(image, width, height) {
        let short = vertical(image.pixels(), stride, 0, &rows);
        horizontal(&short, stride, image.channels(), &columns)
    } else {
        let first = rows
            .iter()
            .map(|reach| reach.start)
            .min()
            .expect("a window has rows");
        let last = rows
            .iter()
            .map(Reach::end)
            .max()
            .expect("a window has rows");
        let source = &image.pixels()[first * stride..last * stride];
        let narrow = horizontal(source, stride, image.channels(), &columns);
        vertical(&narrow, window.width * image.channels(), first, &rows)
    };
    Image::new(window.width, window.height, image.channels(), pixels)
}

/// Pillow 13's rule: the vertical pass comes first if more than twice as many rows as columns are lost.
fn vertical_first(image: &Image, width: usize, height: usize) -> bool {
    let rows_lost = image.height() as i64 - height as i64;
    let columns_lost = image.width() as i64 - width as i64;
    rows_lost > 0 && rows_lost > 2 * columns_lost
}

/// What one output sample reads along one axis.
struct Reach {
    start: usize,
    /// Weights with [`PRECISION_BITS`] fractional bits.
    weights: Vec<i32>,
}

impl Reach {
    fn end(&self) -> usize {
        self.start + self.weights.len()
    }
}

fn reaches(from: usize, to: usize, filter: Filter, first: usize, count: usize) -> Vec<Reach> {
    assert!(to > 0, "a resized image has at least one pixel");
    if from == to {
        // Pillow skips an axis that keeps its size; a weight of one passes samples through unchanged.
        return (first..first + count)
            .map(|start| Reach {
                start,
                weights: vec![1 << PRECISION_BITS],
            })
            .collect();
    }
    let scale = f64::from(from as f32) / to as f64;
    let filter_scale = scale.max(1.0);
    let support = filter.support() * filter_scale;
    (first..first + count)
        .map(|output| {
            let center = (output as f64 + 0.5) * scale;
            // The casts truncate and saturate at 0 like Pillow's conversion and clamp.
            let start = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            let weights: Vec<f64> = (0..end - start)
                .map(|tap| {
                    filter.weight(((tap + start) as f64 - center + 0.5) * (1.0 / filter_scale))
                })
                .collect();
            let total = weights.iter().fold(0.0, |total, weight| total + weight);
            Reach {
                start,
                weights: weights
                    .into_iter()
                    .map(|weight| if total == 0.0 { weight } else { weight / total })
                    .map(fixed_point)
                    .collect(),
            }
        })
        .collect()
}

fn fixed_point(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION_BITS);
    (if weight < 0.0 {
        scaled - 0.5
    } else {
        scaled + 0.5
    }) as i32
}

fn horizontal(source: &[u8], stride: usize, channels: usize, columns: &[Reach]) -> Vec<u8> {
    match channels {
        1 => horizontal_of::<1>(source, stride, columns),
        _ => horizontal_of::<3>(source, stride, columns),
    }
}

fn horizontal_of<const CHANNELS: usize>(
    source: &[u8],
    stride: usize,
    columns: &[Reach],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(source.len() / stride * columns.len() * CHANNELS);
    for row in source.chunks_exact(stride) {
        for reach in columns {
            let mut sums = [HALF; CHANNELS];
            let covered =
                row[reach.start * CHANNELS..reach.end() * CHANNELS].chunks_exact(CHANNELS);
            for (pixel, weight) in covered.zip(&reach.weights) {
                for (sum, &sample) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(sample) * weight;
                }
            }
            out.extend(sums.map(to_sample));
        }
    }
    out
}

/// `source` starts at row `first` of the image.
fn vertical(source: &[u8], row_len: usize, first: usize, rows: &[Reach]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len() * row_len);
    let mut sums = vec![0; row_len];
    for reach in rows {
        sums.fill(HALF);
        let covered = source[(reach.start - first) * row_len..].chunks_exact(row_len);
        for (row, weight) in covered.zip(&reach.weights) {
            for (sum, &sample) in sums.iter_mut().zip(row) {
                *sum += i32::from(sample) * weight;
            }
        }
        out.extend(sums.iter().copied().map(to_sample));
    }
    out
}

/// One half, which makes the final shift round.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

fn to_sample(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}
