//! GELU and its derivative.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::norm::exp;
use super::vector::{Job, dispatch};
use super::written;

/// Values that one thread takes at a time.
const CHUNK: usize = 1 << 13;

/// The error function, within 1.2e-7 of the true value: erf(x) / x as a polynomial in x^2 up to 1, and
/// 1 - e^p(x) beyond, both fitted to the largest error in f64. Written so that the compiler vectorises
/// it; NaN is the caller's to keep.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let square = x * x;
    let p = 7.889_123e-5_f32;
    let p = p * square - 8.020_842e-4;
    let p = p * square + 5.189_535_7e-3;
    let p = p * square - 2.685_444_4e-2;
    let p = p * square + 1.128_36e-1;
    let p = p * square - 3.761_262_6e-1;
    let near = (p * square + std::f32::consts::FRAC_2_SQRT_PI) * x;
    let far = x.abs().min(4.0);
    let p = -2.168_676_3e-5_f32;
    let p = p * far + 4.413_353e-4;
    let p = p * far - 4.204_556_3e-3;
    let p = p * far + 2.520_824e-2;
    let p = p * far - 1.084_185_5e-1;
    let p = p * far - 6.332_199e-1;
    let p = p * far - 1.129_578_4;
    let far = (1.0 - exp(p * far + 1.880_370_4e-4)).copysign(x);
    if x.abs() < 1.0 { near } else { far }
}

struct Gelu<'a> {
    x: &'a [f32],
    y: &'a mut [MaybeUninit<f32>],
}

impl Job for Gelu<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (x, y) in self.x.iter().zip(self.y) {
            y.write(0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)));
        }
    }
}

/// x times the normal distribution up to x.
pub(crate) fn gelu(x: &[f32]) -> Vec<f32> {
    let fill = |y: &mut [MaybeUninit<f32>]| {
        x.par_chunks(CHUNK)
            .zip(y.par_chunks_mut(CHUNK))
            .for_each(|(x, y)| dispatch(Gelu { x, y }));
    };
    // SAFETY: every value of x gives one of y.
    unsafe { written(x.len(), fill) }
}

struct Backward<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [MaybeUninit<f32>],
}

impl Job for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        const ROOT: f32 = 0.398_942_3; // 1 / sqrt(2 pi)
        for ((x, dy), dx) in self.x.iter().zip(self.dy).zip(self.dx) {
            let below = 0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
            dx.write(dy * (below + x * ROOT * exp(-0.5 * x * x)));
        }
    }
}

/// The gradient by x, of that by the result.
pub(crate) fn gelu_backward(x: &[f32], dy: &[f32]) -> Vec<f32> {
    assert_eq!(x.len(), dy.len(), "a gradient for each value");
    let fill = |dx: &mut [MaybeUninit<f32>]| {
        x.par_chunks(CHUNK)
            .zip(dy.par_chunks(CHUNK))
            .zip(dx.par_chunks_mut(CHUNK))
            .for_each(|((x, dy), dx)| dispatch(Backward { x, dy, dx }));
    };
    // SAFETY: every pair of values gives one of dx, as was just tested.
    unsafe { written(x.len(), fill) }
}
