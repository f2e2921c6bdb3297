#![doc = include_str!("../README.md")]

mod archive;
mod center_crop;
mod cls_loc;
mod contact_sheet;
mod cut;
mod dataset;
mod decode;
mod devkit;
mod error;
pub mod fashion_mnist;
pub mod idx;
mod idx_folder;
mod image;
mod imagenet;
mod inspect;
mod known;
pub mod list;
mod list_files;
mod loader;
pub mod mat;
mod names;
mod open;
#[cfg(feature = "parquet")]
mod parquet;
#[cfg(feature = "parquet")]
mod parquet_columns;
mod parquet_files;
mod prefetch;
mod preprocess;
mod resample;
#[cfg(feature = "parquet")]
mod row_groups;
mod source;
mod split;
mod tar;
mod tree;
mod web_dataset;

pub use center_crop::center_crop;
pub use contact_sheet::{SheetOptions, contact_sheet};
pub use cut::{CutReport, CutSpec, Description, SplitDescription, TestCut, cut_idx};
pub use dataset::{Dataset, Pixels, Split};
pub use decode::decode;
pub use error::DatasetError;
pub use image::Image;
pub use inspect::{
    ClassCounts, CommonSize, DuplicateGroup, Duplicates, InspectOptions, InspectProgress,
    Inspection, Occurrence, RefusedSplit, Sizes, SplitInspection, Spread, Unreadable, inspect,
    inspect_datasets,
};
pub use known::{Completeness, IlsvrcClasses, KnownDataset, Partial, open_known};
pub use loader::{Loaded, OnError, Skipped, check, load_batch, load_batch_or_skip};
pub use open::{available_splits, open, open_class_folders};
pub use prefetch::{Batch, BatchPlan, Prefetcher};
pub use preprocess::{Channels, Fit, Preprocess, to_unit_range};
pub use resample::{Filter, resize};
pub use split::{HoldOut, balanced_subset, hold_out};
