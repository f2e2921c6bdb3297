#![doc = include_str!("../README.md")]

mod container;
mod error;
mod feature_file;
mod features;
mod frechet;
mod image_file;
mod image_writer;
mod inception;
mod kid;
mod manifold;
mod moments;
mod npy;
mod statistics;
mod statistics_file;

pub use error::FidError;
pub use feature_file::{FEATURES, FeatureFile, write_features};
pub use features::{FeatureMatrix, Features, Side, Source, Value};
pub use frechet::{Frechet, frechet_distance};
pub use image_file::{ImageBatch, ImageFile};
pub use image_writer::write_images;
pub use inception::{INCEPTION_SPLIT, InceptionScore, InceptionScorer};
pub use kid::{Kid, Subsets, kid};
pub use manifold::{NEIGHBOURS, PrecisionRecall, precision_recall};
pub use moments::Moments;
pub use statistics::{MAX_DIM, Statistics};
pub use statistics_file::StatisticsFile;
