#![doc = include_str!("../README.md")]

mod block;
mod encoder;
mod timestep;
mod visit;

pub use block::{BlockIndex, TapError, TapInfo, TapSet};
pub use encoder::{Condition, Encoder, Feedback, Taps};
pub use timestep::{Sinusoids, timestep_embedding};
pub use visit::{Visit, blocks_evaluated, require_image, resize};
