//! Kernels over plain `f32` slices. They know nothing of tensors.

use std::mem::MaybeUninit;

pub(crate) mod conv;
pub(crate) mod gelu;
mod gemm;
pub(crate) mod norm;
pub(crate) mod packed;
pub(crate) mod resample;
mod tiles;
mod vector;
mod wide;
mod winograd;

/// A vector of `size` values that `fill` writes, without zeros before.
///
/// # Safety
///
/// `fill` writes every value.
unsafe fn written(size: usize, fill: impl FnOnce(&mut [MaybeUninit<f32>])) -> Vec<f32> {
    let mut values = Vec::with_capacity(size);
    fill(&mut values.spare_capacity_mut()[..size]);
    // SAFETY: `size` values have room and, as promised by the caller, are written.
    unsafe { values.set_len(size) };
    values
}
