#![doc = include_str!("../README.md")]

mod compare;
mod convex;
mod error;
mod features;
mod linear;
mod maps;
mod metrics;
mod neighbours;
mod recipe;
mod saved;
mod study;
mod train_head;

pub use compare::{Candidate, Contender, HeadScore};
pub use convex::{ConvexRecipe, Loss, fit_convex};
pub use error::ProbeError;
pub use features::Features;
pub use linear::{Trained, best, correct, logits, train_linear};
pub use maps::{Each, MapColumn, Maps, Moments};
pub use metrics::Metrics;
pub use neighbours::{NeighbourRecipe, Neighbours, Vote, best_vote};
pub use recipe::{AnyRecipe, Optimizer, Point, Recipe};
pub use saved::{HeadInfo, SavedHead};
pub use study::{Bits, Cell, Final, Progress, Splits, Study, Subject, choose};
pub use train_head::{EpochScore, HeadTraining, TrainedHead, best_head, right};
