#![doc = include_str!("../README.md")]

mod cut;
mod dataset;
mod decode;
mod error;
pub mod fashion_mnist;
mod guided_crop;
pub mod idx;
mod idx_folder;
mod image;
mod jpeg;
mod loader;
mod open;
mod png;
mod prefetch;
mod preprocess;
mod resample;
mod split;
mod torchvision;
mod transform;
mod tree;

pub use cut::{CutReport, CutSpec, Description, SplitDescription, TestCut, cut_idx};
pub use dataset::{Dataset, Pixels, Split};
pub use decode::{JpegDecoder, MAX_PIXELS, MAX_PIXELS_PER_BYTE, decode, decode_with};
pub use error::DatasetError;
pub use guided_crop::{RandomCrop, center_crop};
pub use image::Image;
pub use loader::{
    Loaded, OnError, Skipped, check, load_batch, load_batch_or_skip, load_transformed,
};
pub use open::{available_splits, open, open_class_folders};
pub use prefetch::{Batch, BatchPlan, Prefetcher};
pub use preprocess::{Channels, Fit, Preprocess, to_unit_range};
pub use resample::{Filter, resize};
pub use split::{HoldOut, balanced_subset, hold_out};
pub use torchvision::{
    CropBox, RandomResizedCrop, center_crop_or_pad, resize_center_crop, resize_short_side,
};
pub use transform::{Crop, Draw, Normalise, Transform};
