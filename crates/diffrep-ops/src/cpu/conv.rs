//! Stride-1 "same" convolution of NCHW images with a 1x1 or 3x3 kernel: forward, gradient for the
//! input (the forward pass with turned weights) and gradient for the weights.
//!
//! Every image is computed alone and in a fixed order, so its bits do not depend on the batch size
//! or the number of threads. The weight gradient sums over the batch in groups of fixed count.

use std::cell::Cell;
use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::tiles::Tiles;
use super::written;

/// Batch groups of the weight gradient: fixed, so that its bits do not depend on the threads.
const GROUPS: usize = 4;

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub batch: usize,
    pub channels_in: usize,
    pub channels_out: usize,
    pub height: usize,
    pub width: usize,
    /// 1 or 3.
    pub kernel: usize,
}

impl Shape {
    fn plane(&self) -> usize {
        self.height * self.width
    }

    fn pad(&self) -> usize {
        self.kernel / 2
    }

    fn padded_width(&self) -> usize {
        self.width + 2 * self.pad()
    }

    fn padded_plane(&self) -> usize {
        (self.height + 2 * self.pad()) * self.padded_width()
    }

    fn taps_per_channel(&self) -> usize {
        self.kernel * self.kernel
    }

    /// Offset of every (input channel, row, column) of the kernel in a padded image.
    fn taps(&self) -> Vec<usize> {
        let mut taps = Vec::with_capacity(self.channels_in * self.taps_per_channel());
        for channel in 0..self.channels_in {
            for row in 0..self.kernel {
                for column in 0..self.kernel {
                    taps.push(channel * self.padded_plane() + row * self.padded_width() + column);
                }
            }
        }
        taps
    }

    /// Where each vector of pixels starts, in a padded plane and in a plain one.
    fn vectors(&self, lanes: usize) -> (Vec<usize>, Vec<usize>) {
        (0..self.height)
            .flat_map(|row| {
                (0..self.width)
                    .step_by(lanes)
                    .map(move |column| (row, column))
            })
            .map(|(row, column)| {
                (
                    row * self.padded_width() + column,
                    row * self.width + column,
                )
            })
            .unzip()
    }

    /// Whether the kernels can run this shape on this processor.
    pub(crate) fn supported(&self) -> bool {
        (self.kernel == 1 || self.kernel == 3)
            && self.batch > 0
            && self.height > 0
            && self.width > 0
            && self.channels_in > 0
            && Tiles::choose(self.width).is_some()
    }
}

thread_local! {
    /// A buffer for padded images, taken while in use: allocating it anew for each image costs
    /// more page faults than the convolution of a small map costs time.
    static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Calls `f` with a buffer of `size` values of unspecified content.
fn with_scratch<R>(size: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = SCRATCH.take();
    if buffer.len() < size {
        buffer.resize(size, 0.0);
    }
    let result = f(&mut buffer[..size]);
    SCRATCH.set(buffer);
    result
}

/// Copies an image of `shape.channels_in` planes into `padded` with a frame of zeros.
fn pad_image(shape: &Shape, image: &[f32], padded: &mut [f32]) {
    let (pad, width) = (shape.pad(), shape.padded_width());
    if pad == 0 {
        padded.copy_from_slice(image);
        return;
    }
    let planes = image.chunks_exact(shape.plane());
    for (from, to) in planes.zip(padded.chunks_exact_mut(shape.padded_plane())) {
        to[..width].fill(0.0);
        to[width * (shape.height + 1)..].fill(0.0);
        let rows = from.chunks_exact(shape.width);
        for (from, to) in rows.zip(to[width..].chunks_exact_mut(width)) {
            to[0] = 0.0;
            to[1..=shape.width].copy_from_slice(from);
            to[shape.width + 1] = 0.0;
        }
    }
}

/// Weights as the tiles read them, `[block of output channels][tap][channel in block]`, missing
/// channels zero. `weight(out, in, tap)` gives one value.
fn pack(shape: &Shape, block: usize, weight: impl Fn(usize, usize, usize) -> f32) -> Vec<f32> {
    let taps = shape.taps_per_channel();
    let blocks = shape.channels_out.div_ceil(block);
    let mut packed = Vec::with_capacity(blocks * shape.channels_in * taps * block);
    for first in (0..shape.channels_out).step_by(block) {
        for input in 0..shape.channels_in {
            for tap in 0..taps {
                for output in first..first + block {
                    packed.push(if output < shape.channels_out {
                        weight(output, input, tap)
                    } else {
                        0.0
                    });
                }
            }
        }
    }
    packed
}

/// `y[n, o] = bias[o] + sum over (i, tap) of weight[o, i, tap] * x[n, i]`.
///
/// `x`: `[batch, channels_in, height, width]`, `weight`: `[channels_out, channels_in, k, k]`,
/// `bias`: `[channels_out]` or empty, result: `[batch, channels_out, height, width]`.
pub(crate) fn forward(shape: &Shape, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let taps = shape.taps_per_channel();
    run(shape, x, bias, |output, input, tap| {
        weight[(output * shape.channels_in + input) * taps + tap]
    })
}

/// Gradient for `x` from the gradient for `y`; `shape` is that of the forward pass.
pub(crate) fn input_gradient(shape: &Shape, dy: &[f32], weight: &[f32]) -> Vec<f32> {
    let turned = Shape {
        channels_in: shape.channels_out,
        channels_out: shape.channels_in,
        ..*shape
    };
    let taps = shape.taps_per_channel();
    run(&turned, dy, &[], |output, input, tap| {
        weight[(input * shape.channels_in + output) * taps + taps - 1 - tap]
    })
}

fn run(
    shape: &Shape,
    x: &[f32],
    bias: &[f32],
    weight: impl Fn(usize, usize, usize) -> f32,
) -> Vec<f32> {
    let tiles = Tiles::choose(shape.width).expect("the shape was checked by `supported`");
    assert_eq!(x.len(), shape.batch * shape.channels_in * shape.plane());
    let packed = pack(shape, tiles.block, weight);
    let mut shifts = bias.to_vec();
    shifts.resize(shape.channels_out.next_multiple_of(tiles.block), 0.0);
    let taps = shape.taps();
    let (bases, places) = shape.vectors(tiles.lanes);
    let weights_per_block = taps.len() * tiles.block;

    let images = x.par_chunks(shape.channels_in * shape.plane());
    let size = shape.batch * shape.channels_out * shape.plane();
    let fill = |y: &mut [MaybeUninit<f32>]| {
        images
            .zip(y.par_chunks_mut(shape.channels_out * shape.plane()))
            .for_each(|(image, y)| {
                with_scratch(shape.channels_in * shape.padded_plane(), |padded| {
                    pad_image(shape, image, padded);
                    let padded = &*padded;
                    let blocks = y.par_chunks_mut(tiles.block * shape.plane()).enumerate();
                    blocks.for_each(|(block, y)| {
                        let channels = y.len() / shape.plane();
                        let weights = &packed[block * weights_per_block..][..weights_per_block];
                        let shifts = &shifts[block * tiles.block..][..tiles.block];
                        for first in (0..bases.len()).step_by(2) {
                            // An odd last vector is computed twice.
                            let second = (first + 1).min(bases.len() - 1);
                            // SAFETY: `Tiles::choose` tested the features; bases and taps stay inside the
                            // padded image and places inside a plane by construction in `Shape`.
                            unsafe {
                                (tiles.forward)(
                                    padded.as_ptr(),
                                    &taps,
                                    weights.as_ptr(),
                                    [bases[first], bases[second]],
                                    y.as_mut_ptr().cast(),
                                    [places[first], places[second]],
                                    shape.plane(),
                                    channels,
                                    shifts.as_ptr(),
                                );
                            }
                        }
                    });
                });
            });
    };
    // SAFETY: the blocks of an image cover its output channels, and the places of the vectors every
    // pixel of a plane.
    unsafe { written(size, fill) }
}

/// Gradient for the weights, `[channels_out, channels_in, k, k]`.
pub(crate) fn weight_gradient(shape: &Shape, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let tiles = Tiles::choose(shape.width).expect("the shape was checked by `supported`");
    let size = shape.channels_out * shape.channels_in * shape.taps_per_channel();
    let per_group = shape.batch.div_ceil(GROUPS);
    let partial: Vec<Vec<f32>> = (0..GROUPS)
        .into_par_iter()
        .map(|group| {
            let mut sum = vec![0.0; size];
            let first = (group * per_group).min(shape.batch);
            let last = (first + per_group).min(shape.batch);
            // Small maps are taken several at a time, so that the loop over pixels stays long.
            let (vectors, _) = shape.vectors(tiles.lanes);
            let together = 64usize.div_ceil(vectors.len());
            for start in (first..last).step_by(together) {
                add_weight_gradient(
                    shape,
                    &tiles,
                    start..last.min(start + together),
                    x,
                    dy,
                    &mut sum,
                );
            }
            sum
        })
        .collect();
    partial
        .into_iter()
        .reduce(|mut total, group| {
            total
                .iter_mut()
                .zip(group)
                .for_each(|(total, value)| *total += value);
            total
        })
        .unwrap_or_default()
}

fn add_weight_gradient(
    shape: &Shape,
    tiles: &Tiles,
    images: std::ops::Range<usize>,
    x: &[f32],
    dy: &[f32],
    sum: &mut [f32],
) {
    let (image, map) = (
        shape.channels_in * shape.plane(),
        shape.channels_out * shape.plane(),
    );
    let padded_image = shape.channels_in * shape.padded_plane();
    let taps = shape.taps();
    let (bases, places) = shape.vectors(tiles.lanes);
    let across = |starts: &[usize], stride: usize| -> Vec<usize> {
        (0..images.len())
            .flat_map(|i| starts.iter().map(move |s| i * stride + s))
            .collect()
    };
    let (bases, places) = (across(&bases, padded_image), across(&places, map));
    let dy = &dy[images.start * map..images.end * map];
    with_scratch(images.len() * padded_image, |padded| {
        for (i, padded) in images.clone().zip(padded.chunks_exact_mut(padded_image)) {
            pad_image(shape, &x[i * image..][..image], padded);
        }
        let [block, together] = tiles.weight_block;
        let mut out = vec![0.0f32; block * together];
        for first in (0..shape.channels_out).step_by(block) {
            let planes: Vec<usize> = (first..first + block)
                .map(|channel| channel.min(shape.channels_out - 1) * shape.plane())
                .collect();
            let channels = block.min(shape.channels_out - first);
            for start in (0..taps.len()).step_by(together) {
                let some: Vec<usize> = (start..start + together)
                    .map(|tap| taps[tap.min(taps.len() - 1)])
                    .collect();
                // SAFETY: `Tiles::choose` tested the features; every offset stays inside `padded`
                // and `dy` by construction.
                unsafe {
                    (tiles.weight)(
                        padded.as_ptr(),
                        &some,
                        dy.as_ptr(),
                        &planes,
                        &bases,
                        &places,
                        &mut out,
                    );
                }
                for channel in 0..channels {
                    let row = &mut sum[(first + channel) * taps.len()..][..taps.len()];
                    for (i, total) in row[start..].iter_mut().take(together).enumerate() {
                        *total += out[channel * together + i];
                    }
                }
            }
        }
    });
}

/// Sum of each channel over batch and pixels: the gradient for a bias. `[channels]`.
pub(crate) fn channel_sums(channels: usize, plane: usize, dy: &[f32]) -> Vec<f32> {
    let mut sums = vec![0.0f32; channels];
    for image in dy.chunks_exact(channels * plane) {
        for (sum, plane) in sums.iter_mut().zip(image.chunks_exact(plane)) {
            *sum += super::norm::sum(plane);
        }
    }
    sums
}
