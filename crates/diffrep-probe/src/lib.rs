#![doc = include_str!("../README.md")]

mod compare;
mod error;
mod features;
mod linear;
mod maps;
mod recipe;
mod saved;
mod study;
mod train_head;

pub use compare::{Candidate, Contender, HeadScore};
pub use error::ProbeError;
pub use features::Features;
pub use linear::{Trained, best, correct, predict, train_linear};
pub use maps::{Each, MapColumn, Maps, Moments};
pub use recipe::{Point, Recipe};
pub use saved::{HeadInfo, SavedHead};
pub use study::{Bits, Cell, Final, Progress, Splits, Study, Subject, choose};
pub use train_head::{EpochScore, HeadTraining, TrainedHead, best_head};
