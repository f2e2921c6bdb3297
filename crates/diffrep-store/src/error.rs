//! The one error type of the crate.

use std::io;
use std::path::PathBuf;

use diffrep_artifact::ArtifactError;
use safetensors::SafeTensorError;

use crate::FeatureDtype;

/// Why a store could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file operation failed, or another process is writing to the folder.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// A store is not as it was when its removal was decided.
    #[error("{} was written to meanwhile", dir.display())]
    Changed {
        /// Its folder.
        dir: PathBuf,
    },
    /// The specification makes no sense.
    #[error("the store specification has {field} = {found}; expected {expected}")]
    Spec {
        /// The field at fault.
        field: &'static str,
        /// What it holds.
        found: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// The manifest was written by another version of the format.
    #[error(
        "{} is version {found} of {format:?}; this program reads versions 1 to {expected} of \"diffrep-store\"",
        path.display()
    )]
    Format {
        /// The manifest.
        path: PathBuf,
        /// The format it names.
        format: String,
        /// The version it names.
        found: u32,
        /// The newest version that this program reads.
        expected: u32,
    },
    /// The folder holds the features of another run.
    #[error(
        "the folder {} holds the features of another run ({what} is {found}, this run needs {expected}); \
         choose another folder or delete it",
        dir.display()
    )]
    OtherRun {
        /// The folder.
        dir: PathBuf,
        /// The first property that differs.
        what: String,
        /// What this run needs.
        expected: String,
        /// What the folder holds.
        found: String,
    },
    /// A shard file could not be opened or mapped.
    #[error("cannot read the shard {}", path.display())]
    Map {
        /// The shard.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A shard is not a whole safetensors file.
    #[error("the shard {} is truncated or damaged; run the extraction again to rewrite it", path.display())]
    Damaged {
        /// The shard.
        path: PathBuf,
        /// What is wrong with it.
        source: SafeTensorError,
    },
    /// A shard is a safetensors file that does not belong here.
    #[error(
        "the shard {} does not fit its store ({what} is {found}, expected {expected}); \
         run the extraction again to rewrite it",
        path.display()
    )]
    Mismatch {
        /// The shard.
        path: PathBuf,
        /// The property that differs.
        what: String,
        /// What the manifest asks for.
        expected: String,
        /// What the shard holds.
        found: String,
    },
    /// A shard's content does not have the hash that was taken when it was written.
    #[error("the content of the shard {} has changed since it was written; delete it and run the extraction again", path.display())]
    Hash {
        /// The shard.
        path: PathBuf,
    },
    /// Shards are missing: the extraction was not finished.
    #[error(
        "{missing} of {total} shards are missing, the first is {}; run the extraction again to resume",
        first.display()
    )]
    Missing {
        /// How many are missing.
        missing: usize,
        /// How many there should be.
        total: usize,
        /// The first of them.
        first: PathBuf,
    },
    /// A shard's data does not have the rows and columns that the specification asks for.
    #[error("shard {shard}: {what} has {found} entries; expected {expected}")]
    Shape {
        /// The index of the shard.
        shard: usize,
        /// `ids`, `labels`, `columns`, or the name of a column.
        what: String,
        /// How many entries are needed.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A range is not one of the store's shards.
    #[error(
        "shard {index} with rows {start}..{end} is not part of the store, which has {shards} shards"
    )]
    Range {
        /// The index given.
        index: usize,
        /// The first row given.
        start: usize,
        /// The row after the last.
        end: usize,
        /// How many shards the store has.
        shards: usize,
    },
    /// A worker would write a shard that it has not claimed.
    #[error("shard {index} is not claimed by this worker; claim it before writing it")]
    NotClaimed {
        /// The index of the shard.
        index: usize,
    },
    /// A sample id is too large for the i64 that is stored.
    #[error("sample id {id} is above {}, the largest that can be stored", i64::MAX)]
    Id {
        /// The id.
        id: u64,
    },
    /// A feature is NaN or infinite.
    #[error("sample {id}, column {column:?}: feature {index} is {value}; features must be finite")]
    NonFinite {
        /// The sample's id.
        id: u64,
        /// The column.
        column: String,
        /// The position in the sample's feature vector, from 0.
        index: usize,
        /// The value.
        value: f32,
    },
    /// A feature is finite but too large for the stored type.
    #[error(
        "sample {id}, column {column:?}: feature {index} is {value}, too large for {dtype}; store as {instead}"
    )]
    TooLarge {
        /// The sample's id.
        id: u64,
        /// The column.
        column: String,
        /// The position in the sample's feature vector, from 0.
        index: usize,
        /// The value.
        value: f32,
        /// The type it does not fit.
        dtype: FeatureDtype,
        /// The types that hold it.
        instead: &'static str,
    },
    /// There is no column of that name.
    #[error("the store {} has no column {name:?}; it has {}", dir.display(), available.join(", "))]
    NoColumn {
        /// The store's folder.
        dir: PathBuf,
        /// The name asked for.
        name: String,
        /// The names there are.
        available: Vec<String>,
    },
    /// A row is outside of the store.
    #[error("row {row} does not exist; the store has rows 0..{rows}")]
    Row {
        /// The row asked for.
        row: usize,
        /// How many rows there are.
        rows: usize,
    },
    /// The buffer for the rows asked for has the wrong length.
    #[error("a buffer for {rows} rows of {dim} features needs {} values, and it has {found}", rows * dim)]
    Buffer {
        /// How many rows were asked for.
        rows: usize,
        /// The width of the column.
        dim: usize,
        /// The length of the buffer.
        found: usize,
    },
}
