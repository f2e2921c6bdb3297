//! Winograd's minimal filtering (Lavin and Gray, "Fast Algorithms for Convolutional Neural
//! Networks", 2016): a 3x3 convolution of a tile as a product for each component of a transform.
//! A 1x1 convolution is the same with a transform that does nothing.
//!
//! F(4x4, 3x3) interpolates at 0, +-1/sqrt(2), +-sqrt(2) and infinity. With the usual points 0, +-1,
//! +-2 the constants spread further apart, and rounding errors are larger.

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

use super::wide::Wide;

/// The way from a tile of IN x IN inputs over IN x IN components to OUT x OUT outputs.
pub(super) trait Transform {
    /// Rows and columns of inputs that a tile reads, and of components.
    const IN: usize;
    /// Rows and columns of outputs that a tile gives, and the distance between tiles.
    const OUT: usize;
    /// Rows and columns of the kernel.
    const KERNEL: usize;

    /// One axis of a kernel's transform; `kernel` has KERNEL values, `out` IN.
    fn weights(kernel: &[f64], out: &mut [f64]);

    /// One axis of an input tile's transform, of the first IN values.
    ///
    /// # Safety
    ///
    /// The processor has the instructions of `W`.
    unsafe fn input<W: Wide>(values: [W; MAX_IN]) -> [W; MAX_IN];

    /// One axis of the way back, from the first IN values to the first OUT.
    ///
    /// # Safety
    ///
    /// The processor has the instructions of `W`.
    unsafe fn output<W: Wide>(values: [W; MAX_IN]) -> [W; MAX_IN];
}

/// A 1x1 kernel.
pub(super) struct Pointwise;
/// F(2x2, 3x3): 16 products for 4 outputs, 2.25 times fewer than the sum over taps.
pub(super) struct Two;
/// F(4x4, 3x3): 36 products for 16 outputs, 4 times fewer than the sum over taps.
pub(super) struct Four;

/// Largest IN of all transforms.
pub(super) const MAX_IN: usize = 6;

const A: f32 = std::f32::consts::FRAC_1_SQRT_2;
const B: f32 = std::f32::consts::SQRT_2;

// SAFETY of the blocks below: the caller promises the instructions.

impl Transform for Pointwise {
    const IN: usize = 1;
    const OUT: usize = 1;
    const KERNEL: usize = 1;

    fn weights(kernel: &[f64], out: &mut [f64]) {
        out[0] = kernel[0];
    }

    #[inline(always)]
    unsafe fn input<W: Wide>(values: [W; MAX_IN]) -> [W; MAX_IN] {
        values
    }

    #[inline(always)]
    unsafe fn output<W: Wide>(values: [W; MAX_IN]) -> [W; MAX_IN] {
        values
    }
}

impl Transform for Two {
    const IN: usize = 4;
    const OUT: usize = 2;
    const KERNEL: usize = 3;

    fn weights(kernel: &[f64], out: &mut [f64]) {
        let (even, odd) = ((kernel[0] + kernel[2]) / 2.0, kernel[1] / 2.0);
        out.copy_from_slice(&[kernel[0], even + odd, even - odd, kernel[2]]);
    }

    #[inline(always)]
    unsafe fn input<W: Wide>([a, b, c, d, ..]: [W; MAX_IN]) -> [W; MAX_IN] {
        unsafe {
            let unused = a;
            [a.sub(c), b.add(c), c.sub(b), b.sub(d), unused, unused]
        }
    }

    #[inline(always)]
    unsafe fn output<W: Wide>([a, b, c, d, ..]: [W; MAX_IN]) -> [W; MAX_IN] {
        unsafe {
            let unused = a;
            let (first, second) = (a.add(b.add(c)), b.sub(c).sub(d));
            [first, second, unused, unused, unused, unused]
        }
    }
}

impl Transform for Four {
    const IN: usize = 6;
    const OUT: usize = 4;
    const KERNEL: usize = 3;

    fn weights(k: &[f64], out: &mut [f64]) {
        let (a, b) = (FRAC_1_SQRT_2, SQRT_2);
        let (near, far) = (k[0] + a * a * k[2], k[0] + b * b * k[2]);
        out.copy_from_slice(&[
            k[0],
            (near + a * k[1]) * (-2.0 / 3.0),
            (near - a * k[1]) * (-2.0 / 3.0),
            (far + b * k[1]) / 6.0,
            (far - b * k[1]) / 6.0,
            k[2],
        ]);
    }

    #[inline(always)]
    unsafe fn input<W: Wide>([d0, d1, d2, d3, d4, d5]: [W; MAX_IN]) -> [W; MAX_IN] {
        unsafe {
            let near_even = d2.fma(W::splat(-2.0), d4);
            let far_even = d2.fma(W::splat(-0.5), d4);
            let near_odd = d1.fma(W::splat(-B), d3.mul(W::splat(A)));
            let far_odd = d1.fma(W::splat(-A), d3.mul(W::splat(B)));
            [
                d2.fma(W::splat(-2.5), d0.add(d4)),
                near_even.add(near_odd),
                near_even.sub(near_odd),
                far_even.add(far_odd),
                far_even.sub(far_odd),
                d3.fma(W::splat(-2.5), d1.add(d5)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn output<W: Wide>([m0, m1, m2, m3, m4, m5]: [W; MAX_IN]) -> [W; MAX_IN] {
        unsafe {
            let (near_even, near_odd) = (m1.add(m2), m1.sub(m2));
            let (far_even, far_odd) = (m3.add(m4), m3.sub(m4));
            let last = near_odd.fma(W::splat(0.5 * A), m5);
            let unused = m0;
            [
                m0.add(near_even.add(far_even)),
                near_odd.fma(W::splat(A), far_odd.mul(W::splat(B))),
                near_even.fma(W::splat(0.5), far_even.add(far_even)),
                far_odd.fma(W::splat(2.0 * B), last),
                unused,
                unused,
            ]
        }
    }
}

/// Both axes of a kernel's transform: IN * IN components from KERNEL * KERNEL values.
pub(super) fn transform_weights<T: Transform>(kernel: &[f32], out: &mut [f32]) {
    let mut rows = [[0.0; MAX_IN]; 3];
    for (values, row) in kernel.chunks_exact(T::KERNEL).zip(&mut rows) {
        let mut given = [0.0; 3];
        for (given, value) in given.iter_mut().zip(values) {
            *given = f64::from(*value);
        }
        T::weights(&given[..T::KERNEL], &mut row[..T::IN]);
    }
    for column in 0..T::IN {
        let given = rows.map(|row| row[column]);
        let mut components = [0.0; MAX_IN];
        T::weights(&given[..T::KERNEL], &mut components[..T::IN]);
        for (row, component) in components[..T::IN].iter().enumerate() {
            out[row * T::IN + column] = *component as f32;
        }
    }
}
