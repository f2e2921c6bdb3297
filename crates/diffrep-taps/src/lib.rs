#![doc = include_str!("../README.md")]

mod block;
mod encoder;

pub use block::{BlockIndex, TapError, TapInfo, TapSet};
pub use encoder::{Condition, Encoder, Feedback, Taps};
