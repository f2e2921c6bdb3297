#![doc = include_str!("../README.md")]

mod config;
mod loss;
mod run;

pub use config::PretrainConfig;
pub use loss::{Loss, classification, loss};
pub use run::{Event, LossPoint, Position, PretrainError, Pretraining, TrainingRecord};
