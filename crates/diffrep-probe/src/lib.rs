#![doc = include_str!("../README.md")]

mod error;
mod features;
mod linear;
mod maps;
mod recipe;
mod saved;
mod study;
mod train_head;

pub use error::ProbeError;
pub use features::Features;
pub use linear::{Trained, best, correct, predict, train_linear};
pub use maps::{ChannelMoments, MapColumn, Maps};
pub use recipe::{Point, Recipe};
pub use saved::{HeadInfo, SavedHead};
pub use study::{Bits, Cell, Final, Progress, Splits, Study, Subject, choose};
pub use train_head::{EpochScore, HeadTraining, TrainedHead, best_head};
