//! Kernels over plain `f32` slices. They know nothing of tensors.

pub(crate) mod conv;
pub(crate) mod norm;
mod tiles;
