//! Planes to half and to twice their size. Each is the other's gradient, up to the weight.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::vector::{Job, dispatch};
use super::written;

/// Planes that one thread takes at least.
const TOGETHER: usize = 8;

struct Halve<'a> {
    width: usize,
    weight: f32,
    x: &'a [f32],
    y: &'a mut [MaybeUninit<f32>],
}

impl Job for Halve<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let rows = self.x.chunks_exact(2 * self.width);
        for (rows, y) in rows.zip(self.y.chunks_exact_mut(self.width / 2)) {
            let (upper, lower) = rows.split_at(self.width);
            let pairs = upper.chunks_exact(2).zip(lower.chunks_exact(2));
            for ((upper, lower), y) in pairs.zip(y) {
                y.write((upper[0] + upper[1] + lower[0] + lower[1]) * self.weight);
            }
        }
    }
}

/// `weight` times the sum of each 2x2 square. `x`: planes of `height` x `width`, both even.
pub(crate) fn halve([height, width]: [usize; 2], weight: f32, x: &[f32]) -> Vec<f32> {
    let plane = height * width;
    let fill = |y: &mut [MaybeUninit<f32>]| {
        x.par_chunks_exact(plane)
            .zip(y.par_chunks_exact_mut(plane / 4))
            .with_min_len(TOGETHER)
            .for_each(|(x, y)| {
                dispatch(Halve {
                    width,
                    weight,
                    x,
                    y,
                })
            });
    };
    // SAFETY: even sides leave no row or column without a square.
    unsafe { written(x.len() / 4, fill) }
}

struct Double<'a> {
    width: usize,
    weight: f32,
    x: &'a [f32],
    y: &'a mut [MaybeUninit<f32>],
}

impl Job for Double<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let rows = self.x.chunks_exact(self.width);
        for (x, y) in rows.zip(self.y.chunks_exact_mut(4 * self.width)) {
            let (upper, lower) = y.split_at_mut(2 * self.width);
            for (x, y) in x.iter().zip(upper.chunks_exact_mut(2)) {
                y[0].write(x * self.weight);
                y[1].write(x * self.weight);
            }
            lower.copy_from_slice(upper);
        }
    }
}

/// `weight` times each value, in a 2x2 square. `x`: planes of `height` x `width`.
pub(crate) fn double([height, width]: [usize; 2], weight: f32, x: &[f32]) -> Vec<f32> {
    let plane = height * width;
    let fill = |y: &mut [MaybeUninit<f32>]| {
        x.par_chunks_exact(plane)
            .zip(y.par_chunks_exact_mut(4 * plane))
            .with_min_len(TOGETHER)
            .for_each(|(x, y)| {
                dispatch(Double {
                    width,
                    weight,
                    x,
                    y,
                })
            });
    };
    // SAFETY: every value fills its square.
    unsafe { written(4 * x.len(), fill) }
}
