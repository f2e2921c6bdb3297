//! Group normalisation with a scale and shift per image and channel, and an optional SiLU, in one
//! pass over the map: y = act(scale * (x - mean) / sqrt(variance + eps) + shift).

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::vector::{Job, dispatch};
use super::written;

/// Sizes of a normalisation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub batch: usize,
    pub channels: usize,
    pub plane: usize,
    pub groups: usize,
    pub eps: f32,
    /// Whether SiLU follows.
    pub silu: bool,
}

impl Shape {
    fn channels_per_group(&self) -> usize {
        self.channels / self.groups
    }
}

const LANES: usize = 16;

/// Sum with sixteen running totals, in an order that depends on the length alone.
pub(crate) fn sum(values: &[f32]) -> f32 {
    dispatch(SumOf {
        values,
        with: |v| v,
    })
}

struct SumOf<'a, F> {
    values: &'a [f32],
    with: F,
}

impl<F: Fn(f32) -> f32> Job for SumOf<'_, F> {
    type Output = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        sum_with(self.values, self.with)
    }
}

#[inline(always)]
fn sum_with(values: &[f32], with: impl Fn(f32) -> f32) -> f32 {
    let mut totals = [0.0f32; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().map(|&v| with(v)).sum();
    for chunk in chunks {
        for (total, &value) in totals.iter_mut().zip(chunk) {
            *total += with(value);
        }
    }
    totals.iter().sum::<f32>() + rest
}

/// e^x to about 1 ulp (range reduction and a polynomial of degree 6), written so that the
/// compiler vectorises it. Below -87 it gives the smallest normal numbers.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4f32;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_6e-1;
    let p = p * r + 5e-1;
    let y = p * (r * r) + r + 1.0;
    let exponent = (shifted.to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32);
    y * f32::from_bits((exponent.wrapping_add(127) << 23) as u32)
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Mean and 1/sqrt(variance + eps) of a group.
#[inline(always)]
fn moments(group: &[f32], eps: f32) -> (f32, f32) {
    let count = group.len() as f32;
    let mean = sum_with(group, |v| v) / count;
    let variance = sum_with(group, |v| (v - mean) * (v - mean)) / count;
    (mean, 1.0 / (variance + eps).sqrt())
}

struct Forward<'a> {
    shape: &'a Shape,
    x: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    y: &'a mut [MaybeUninit<f32>],
}

impl Job for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (mean, rstd) = moments(self.x, self.shape.eps);
        let planes = self.x.chunks_exact(self.shape.plane);
        for (channel, (x, y)) in planes
            .zip(self.y.chunks_exact_mut(self.shape.plane))
            .enumerate()
        {
            let a = self.scale[channel] * rstd;
            let b = self.shift[channel] - a * mean;
            if self.shape.silu {
                for (x, y) in x.iter().zip(y) {
                    let z = a * x + b;
                    y.write(z * sigmoid(z));
                }
            } else {
                for (x, y) in x.iter().zip(y) {
                    y.write(a * x + b);
                }
            }
        }
    }
}

/// `x`, result: `[batch, channels, plane]`; `scale`, `shift`: `[batch, channels]`.
pub(crate) fn forward(shape: &Shape, x: &[f32], scale: &[f32], shift: &[f32]) -> Vec<f32> {
    let channels = shape.channels_per_group();
    let size = channels * shape.plane;
    let fill = |y: &mut [MaybeUninit<f32>]| {
        x.par_chunks(size)
            .zip(y.par_chunks_mut(size))
            .with_min_len(8)
            .enumerate()
            .for_each(|(group, (x, y))| {
                dispatch(Forward {
                    shape,
                    x,
                    scale: &scale[group * channels..][..channels],
                    shift: &shift[group * channels..][..channels],
                    y,
                });
            });
    };
    // SAFETY: the groups cover every value, and each is written.
    unsafe { written(x.len(), fill) }
}

struct Backward<'a> {
    shape: &'a Shape,
    x: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
    dscale: &'a mut [f32],
    dshift: &'a mut [f32],
}

impl Job for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let shape = self.shape;
        let (mean, rstd) = moments(self.x, shape.eps);
        let count = self.x.len() as f32;
        // First pass: the gradient before the activation into dx, and its sums.
        let (mut sum_d, mut sum_dx) = (0.0f32, 0.0f32);
        let planes = self
            .x
            .chunks_exact(shape.plane)
            .zip(self.dy.chunks_exact(shape.plane));
        for (channel, ((x, dy), dz)) in planes
            .zip(self.dx.chunks_exact_mut(shape.plane))
            .enumerate()
        {
            let a = self.scale[channel] * rstd;
            let b = self.shift[channel] - a * mean;
            if shape.silu {
                for ((x, dy), dz) in x.iter().zip(dy).zip(dz.iter_mut()) {
                    let z = a * x + b;
                    let s = sigmoid(z);
                    *dz = dy * s * (1.0 + z * (1.0 - s));
                }
            } else {
                dz.copy_from_slice(dy);
            }
            let (mut totals, mut weighted) = ([0.0f32; LANES], [0.0f32; LANES]);
            let (xs, dzs) = (x.chunks_exact(LANES), dz.chunks_exact(LANES));
            let (mut total, mut product) = (0.0, 0.0);
            for (x, d) in xs.remainder().iter().zip(dzs.remainder()) {
                total += d;
                product += d * (x - mean);
            }
            for (x, d) in xs.zip(dzs) {
                for lane in 0..LANES {
                    totals[lane] += d[lane];
                    weighted[lane] += d[lane] * (x[lane] - mean);
                }
            }
            total += totals.iter().sum::<f32>();
            product += weighted.iter().sum::<f32>();
            let product = product * rstd;
            self.dshift[channel] = total;
            self.dscale[channel] = product;
            sum_d += total * self.scale[channel];
            sum_dx += product * self.scale[channel];
        }
        // Second pass: through the normalisation.
        let (mean_d, mean_dx) = (sum_d / count, sum_dx / count);
        let planes = self.x.chunks_exact(shape.plane);
        for (channel, (x, dx)) in planes
            .zip(self.dx.chunks_exact_mut(shape.plane))
            .enumerate()
        {
            let a = self.scale[channel] * rstd;
            let b = mean_dx * rstd * rstd;
            let c = mean_d * rstd - b * mean;
            for (x, dx) in x.iter().zip(dx) {
                *dx = a * *dx - b * x - c;
            }
        }
    }
}

/// Gradients for `x` (`[batch, channels, plane]`), `scale` and `shift` (`[batch, channels]`).
pub(crate) fn backward(
    shape: &Shape,
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    dy: &[f32],
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let channels = shape.channels_per_group();
    let size = channels * shape.plane;
    let mut dx = vec![0.0; x.len()];
    let mut dscale = vec![0.0; shape.batch * shape.channels];
    let mut dshift = dscale.clone();
    dx.par_chunks_mut(size)
        .zip(
            dscale
                .par_chunks_mut(channels)
                .zip(dshift.par_chunks_mut(channels)),
        )
        .with_min_len(8)
        .enumerate()
        .for_each(|(group, (dx, (dscale, dshift)))| {
            dispatch(Backward {
                shape,
                x: &x[group * size..][..size],
                scale: &scale[group * channels..][..channels],
                shift: &shift[group * channels..][..channels],
                dy: &dy[group * size..][..size],
                dx,
                dscale,
                dshift,
            });
        });
    (dx, dscale, dshift)
}
