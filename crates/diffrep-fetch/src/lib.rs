#![doc = include_str!("../README.md")]

mod answer;
mod asset;
mod catalogue;
mod check;
mod download;
mod error;
mod fetch;
mod options;
mod part;
mod space;
mod unpack;

pub use asset::{Asset, Format, Kind, KnownFile, RemoteFile, Source, Unpack};
pub use catalogue::{catalogue, find, find_path};
pub use check::{Checked, Evidence};
pub use error::FetchError;
pub use fetch::{Fetched, FetchedFile, Origin, fetch, verify};
pub use options::{Options, Progress, Stage};
