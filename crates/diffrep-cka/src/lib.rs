#![doc = include_str!("../README.md")]

mod covariance;
mod error;
mod features;
mod gram;
mod memory;
mod neighbours;
mod options;
mod product;
mod rbf;
mod streaming;
mod sums;
mod tiles;

pub use error::CkaError;
pub use features::{Features, Layer};
pub use memory::peak_bytes;
pub use neighbours::{Alignment, align_between, align_within};
pub use options::{Cost, Estimator, Kernel, Options, Path, Precision, cost};
pub use streaming::{Streaming, between, cka, within};
pub use sums::Matrix;
