#![doc = include_str!("../README.md")]

#[cfg(all(feature = "flex", target_arch = "x86_64"))]
#[allow(
    unsafe_code,
    reason = "vector instructions, on slices whose bounds are fixed by construction"
)]
mod cpu;
#[cfg(all(feature = "flex", target_arch = "x86_64"))]
#[allow(
    missing_docs,
    unreachable_pub,
    reason = "the macro that routes these operators makes them public"
)]
mod extension;
mod operators;
mod packed;

pub use operators::{Activation, conv2d_same, double, gelu, group_norm, halve, is_on_host};
pub use packed::PackedConv;
