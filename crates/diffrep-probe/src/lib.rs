#![doc = include_str!("../README.md")]

mod error;
mod features;
mod linear;
mod recipe;
mod saved;
mod study;

pub use error::ProbeError;
pub use features::Features;
pub use linear::{Trained, best, correct, predict, train_linear};
pub use recipe::{Point, Recipe};
pub use saved::{HeadInfo, SavedHead};
pub use study::{Bits, Cell, Final, Progress, Splits, Study, Subject, choose};
