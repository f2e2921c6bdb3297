#![doc = include_str!("../README.md")]

mod block;
mod encoder;
mod timestep;

pub use block::{BlockIndex, TapError, TapInfo, TapSet};
pub use encoder::{Condition, Encoder, Feedback, Taps};
pub use timestep::{Sinusoids, timestep_embedding};
