#![doc = include_str!("../README.md")]

mod baseline;
mod compare;
mod convex;
mod denoise;
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
mod saved_classifier;
mod select;
mod step;
mod study;
mod train_head;
mod tunable;
mod tune;
mod tune_study;

/// What a training computes from the same settings, as a part of the key of every training: the version of this
/// crate, and a number that is raised when, within it, the same settings come to give other numbers.
pub const COMPUTES: (&str, u32) = (env!("CARGO_PKG_VERSION"), 2);

pub use compare::{Candidate, Contender, HeadScore};
pub use convex::{ConvexRecipe, Loss, fit_convex};
pub use descent::EpochScore;
pub use ensemble::{Draws, EnsembleScore, EnsembleScores};
pub use error::ProbeError;
pub use features::{FeatureFile, Features};
pub use images::{Augment, Images, Reading};
pub(crate) use linear::train_linear_at;
pub use linear::{Trained, best, correct, logits, train_linear};
pub use maps::{Each, MapColumn, Maps, Moments};
pub use metrics::Metrics;
pub use neighbours::{NeighbourRecipe, Neighbours, Vote, best_vote};
pub use recipe::{AnyRecipe, Optimizer, Point, Recipe};
pub use saved::{HeadInfo, SavedHead};
pub use saved_classifier::{ClassifierInfo, SavedClassifier};
pub use select::{Round, Search, Selected};
pub use step::{StepKey, step};
pub use study::{Bits, Cell, Final, Progress, Splits, Study, Subject, choose};
pub use train_head::{HeadTraining, TrainedHead, best_head, right};
pub use tunable::TunableEncoder;
pub use tune::{Classifier, Network, Trainable, Tune, TuneProgress, Tuned, Tuning};
pub use tune_study::TuneContender;
