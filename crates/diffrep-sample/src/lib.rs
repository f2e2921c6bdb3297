#![doc = include_str!("../README.md")]

mod bytes;
mod invert;
mod sampler;
mod solver;

pub use bytes::to_bytes;
pub use invert::invert;
pub use sampler::{Guide, SampleOptions, Sampler, SamplerError, sample, trajectory};
