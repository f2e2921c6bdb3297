#![doc = include_str!("../README.md")]

mod error;
mod features;
mod frechet;
mod inception;
mod kid;
mod manifold;
mod moments;
mod statistics;

pub use error::FidError;
pub use features::{FeatureMatrix, Features, Side, Source, Value};
pub use frechet::{Frechet, frechet_distance};
pub use inception::{INCEPTION_SPLIT, InceptionScore, InceptionScorer};
pub use kid::{Kid, Subsets, kid};
pub use manifold::{NEIGHBOURS, PrecisionRecall, precision_recall};
pub use moments::Moments;
pub use statistics::{MAX_DIM, Statistics};
