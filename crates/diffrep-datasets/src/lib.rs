#![doc = include_str!("../README.md")]

mod archive;
mod cls_loc;
mod contact_sheet;
mod content;
mod cut;
mod dataset;
mod decode;
mod devkit;
mod error;
pub mod fashion_mnist;
mod guided_crop;
pub mod idx;
mod idx_folder;
mod image;
mod imagenet;
mod inspect;
mod jpeg;
mod known;
pub mod list;
mod list_files;
mod loader;
mod markers;
pub mod mat;
mod names;
mod open;
#[cfg(feature = "parquet")]
mod parquet;
#[cfg(feature = "parquet")]
mod parquet_columns;
mod parquet_files;
mod png;
mod prefetch;
mod preprocess;
mod resample;
#[cfg(feature = "parquet")]
mod row_groups;
mod source;
mod split;
mod tar;
mod torchvision;
mod transform;
mod tree;
mod web_dataset;

pub use contact_sheet::{SheetOptions, contact_sheet};
pub use cut::{CutReport, CutSpec, Description, SplitDescription, TestCut, cut_idx};
pub use dataset::{Dataset, Pixels, Split};
pub use decode::{JpegDecoder, MAX_PIXELS, MAX_PIXELS_PER_BYTE, PIXELS, decode, decode_with};
pub use error::DatasetError;
pub use guided_crop::{RandomCrop, center_crop};
pub use image::Image;
pub use inspect::{
    ClassCounts, CommonSize, DuplicateGroup, Duplicates, InspectOptions, InspectProgress,
    Inspection, Occurrence, RefusedSplit, Sizes, SplitInspection, Spread, Unreadable, inspect,
    inspect_datasets,
};
pub use known::{Completeness, IlsvrcClasses, KnownDataset, Partial, open_known};
pub use loader::{
    Loaded, OnError, Skipped, check, load_batch, load_batch_or_skip, load_transformed, load_views,
};
pub use open::{available_splits, open, open_class_folders};
pub use prefetch::{Batch, BatchPlan, Prefetcher};
pub use preprocess::{Channels, Fit, Preprocess, to_unit_range};
pub use resample::{Filter, resize};
pub use split::{HoldOut, balanced_subset, hold_out};
pub use torchvision::{
    CropBox, RandomResizedCrop, center_crop_or_pad, resize_center_crop, resize_short_side,
};
pub use transform::{Crop, Draw, Normalise, Transform, View};
