#![doc = include_str!("../README.md")]

mod bootstrap;
mod choose;
mod error;
mod interval;
mod mcnemar;
mod special;
mod summary;

pub use bootstrap::{PairedDifference, Verdict, paired_bootstrap, paired_bootstrap_seeds, verdict};
pub use choose::{argmax, one_standard_error};
pub use error::StatsError;
pub use interval::{Interval, geometric_mean_ratio, wilson};
pub use mcnemar::{McNemar, mcnemar, mcnemar_exact};
pub use summary::{Spread, mean, sample_std};
