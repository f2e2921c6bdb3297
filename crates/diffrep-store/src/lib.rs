#![doc = include_str!("../README.md")]

mod claims;
mod dtype;
mod error;
mod read;
mod shard;
mod spec;
mod survey;
mod write;

pub use dtype::FeatureDtype;
pub use error::StoreError;
pub use read::{Column, Store};
pub use spec::{ColumnSpec, NOTE, ShardRange, StoreSpec};
pub use survey::{ShardState, Survey, is_store, remove, verify};
pub use write::{ShardData, StoreWriter};
