//! Writing a store, and resuming one that was interrupted.

use std::io;
use std::path::{Path, PathBuf};

use diffrep_artifact::{Lock, create_dir_all, remove_stale_temps};

use crate::shard::{self, Shard};
use crate::spec::{claim, shard_path};
use crate::{ShardRange, StoreError, StoreSpec};

/// The rows of one shard, as they are to be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShardData {
    /// The stable id of every sample, at most `i64::MAX`.
    pub ids: Vec<u64>,
    /// The label of every sample.
    pub labels: Vec<i64>,
    /// Per column, in the order of the specification: row-major `[rows, dim]`.
    pub columns: Vec<Vec<f32>>,
}

/// Writes the shards of a store; the only writer of its folder while it lives.
#[derive(Debug)]
pub struct StoreWriter {
    dir: PathBuf,
    spec: StoreSpec,
    /// Per shard, whether it is on disk and valid.
    complete: Vec<bool>,
    _lock: Lock,
}

impl StoreWriter {
    /// Begins a store in `dir`, or resumes the one that is there.
    ///
    /// The folder is created if need be and locked. Temporary files of killed processes are
    /// removed. Shards that are truncated, damaged or of another run are reported as warnings and
    /// count as missing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Spec`] for a specification that makes no sense, [`StoreError::OtherRun`] if
    /// the folder holds other features, [`StoreError::Artifact`] if another process writes there or
    /// the folder cannot be used.
    pub fn open(dir: impl AsRef<Path>, spec: StoreSpec) -> Result<Self, StoreError> {
        let dir = dir.as_ref();
        spec.validate()?;
        create_dir_all(dir)?;
        let lock = Lock::acquire(dir)?;
        for path in remove_stale_temps(dir)? {
            tracing::debug!(path = %path.display(), "removed a temporary file of a killed process");
        }
        let spec = claim(dir, &spec)?;
        let complete = spec
            .shards()
            .map(|range| is_complete(dir, &spec, range))
            .collect::<Result<Vec<_>, _>>()?;
        let done = complete.iter().filter(|&&done| done).count();
        if done > 0 {
            tracing::info!(dir = %dir.display(), done, total = complete.len(), "resuming a store");
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            spec,
            complete,
            _lock: lock,
        })
    }

    /// What the store holds.
    pub fn spec(&self) -> &StoreSpec {
        &self.spec
    }

    /// The shards still to be written, in order.
    pub fn missing_shards(&self) -> Vec<ShardRange> {
        self.spec
            .shards()
            .filter(|range| !self.complete[range.index])
            .collect()
    }

    /// Writes one shard; when this returns it is on the device, and if it fails nothing changed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Range`] or [`StoreError::Shape`] if the data is not that of the shard,
    /// [`StoreError::NonFinite`] or [`StoreError::TooLarge`] naming the sample and the column,
    /// [`StoreError::Id`], or [`StoreError::Artifact`] if the file cannot be written.
    pub fn write_shard(&mut self, range: ShardRange, data: &ShardData) -> Result<(), StoreError> {
        let shards = self.complete.len();
        if range.index >= shards || self.spec.shard(range.index) != range {
            return Err(StoreError::Range {
                index: range.index,
                start: range.start,
                end: range.end,
                shards,
            });
        }
        shard::write(&self.dir, &self.spec, range, data)?;
        self.complete[range.index] = true;
        tracing::debug!(index = range.index, shards, "wrote a shard");
        Ok(())
    }

    /// Ends the writing: checks that every shard is on disk and valid, and gives the folder free.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] if shards are missing, else whatever is wrong with one of them.
    pub fn finish(self) -> Result<(), StoreError> {
        let missing = self.missing_shards();
        if let Some(first) = missing.first() {
            return Err(StoreError::Missing {
                missing: missing.len(),
                total: self.complete.len(),
                first: shard_path(&self.dir, first.index),
            });
        }
        for range in self.spec.shards() {
            Shard::open(&self.dir, &self.spec, range)?;
        }
        Ok(())
    }
}

/// Whether a shard is there and valid. One that is there but not valid is worth a warning; one
/// that cannot be read at all, for example for lack of permission, is an error.
fn is_complete(dir: &Path, spec: &StoreSpec, range: ShardRange) -> Result<bool, StoreError> {
    match Shard::open(dir, spec, range) {
        Ok(_) => Ok(true),
        Err(StoreError::Map { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(false)
        }
        Err(error @ (StoreError::Damaged { .. } | StoreError::Mismatch { .. })) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, cause, "a shard will be written again");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
