#![doc = include_str!("../README.md")]

mod compare;
mod convex;
mod descent;
mod ensemble;
mod error;
mod features;
mod images;
mod linear;
mod maps;
mod metrics;
mod neighbours;
mod recipe;
mod saved;
mod select;
mod study;
mod train_head;
mod tune;
mod tune_study;

pub use compare::{Candidate, Contender, HeadScore};
pub use convex::{ConvexRecipe, Loss, fit_convex};
pub use descent::EpochScore;
pub use ensemble::{Draws, EnsembleScore, EnsembleScores};
pub use error::ProbeError;
pub use features::Features;
pub use images::{Augment, Images, Reading};
pub use linear::{Trained, best, correct, logits, train_linear};
pub use maps::{Each, MapColumn, Maps, Moments};
pub use metrics::Metrics;
pub use neighbours::{NeighbourRecipe, Neighbours, Vote, best_vote};
pub use recipe::{AnyRecipe, Optimizer, Point, Recipe};
pub use saved::{HeadInfo, SavedHead};
pub use select::{Round, Search, Selected};
pub use study::{Bits, Cell, Final, Progress, Splits, Study, Subject, choose};
pub use train_head::{HeadTraining, TrainedHead, best_head, right};
pub use tune::{Classifier, Network, Trainable, Tune, TuneProgress, Tuned, Tuning};
pub use tune_study::TuneContender;
