#![doc = include_str!("../README.md")]

mod backbone;
mod config;
mod loss;
mod run;
mod task;

pub use backbone::BackboneTraining;
pub use config::PretrainConfig;
pub use loss::{Loss, classification, loss};
pub use run::{Event, LossPoint, Position, PretrainError, Pretraining, TrainingRecord};
pub use task::{Batch, Course, Judgement, Task};
