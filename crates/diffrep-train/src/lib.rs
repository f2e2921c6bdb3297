#![doc = include_str!("../README.md")]

mod adamw;
mod checkpoint;
mod descend;
pub mod metrics;
mod params;
mod schedule;
mod sgd;
mod side_by_side;

pub use adamw::{AdamW, AdamWConfig, StepReport};
pub use checkpoint::{Checkpoint, TrainError};
pub use descend::{Pace, Parameter};
pub use params::{Ema, parameters, with_parameters};
pub use schedule::LearningRate;
pub use sgd::{Sgd, SgdConfig};
pub use side_by_side::SideBySide;
