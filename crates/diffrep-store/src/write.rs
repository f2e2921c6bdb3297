//! Writing a store, alone or with other processes, and resuming one that was interrupted.

use std::io;
use std::path::{Path, PathBuf};

use diffrep_artifact::{Lock, create_dir_all};

use crate::claims::{Claims, tidy_up};
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
    /// Per tag, in the order of the specification: the value of every row.
    pub tags: Vec<Vec<i64>>,
    /// Per column, in the order of the specification: row-major `[rows, dim]`.
    pub columns: Vec<Vec<f32>>,
}

/// Writes the shards of a store: alone in its folder ([`open`](Self::open)), or as one of several
/// workers ([`join`](Self::join)).
#[derive(Debug)]
pub struct StoreWriter {
    dir: PathBuf,
    spec: StoreSpec,
    /// Per shard, whether it was on disk and valid when it was last looked at.
    complete: Vec<bool>,
    hold: Hold,
}

/// How a writer has the folder.
#[derive(Debug)]
enum Hold {
    Alone(#[allow(dead_code, reason = "held, not read")] Lock),
    Among(Claims),
}

impl StoreWriter {
    /// Begins a store in `dir`, or resumes the one that is there, as its only writer.
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
        tidy_up(&lock, dir)?;
        let spec = claim(dir, &spec)?;
        Self::resume(dir, spec, Hold::Alone(lock))
    }

    /// Begins or resumes a store in `dir` as one of any number of workers, in any number of
    /// processes and on any number of machines that share the file system and its locks.
    ///
    /// A worker writes only shards that it has [claimed](Self::claim), and ends with
    /// [`leave`](Self::leave). As long as a worker lives, [`open`](Self::open) is refused.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); [`StoreError::Artifact`] if a process has had the folder alone for
    /// more than ten seconds.
    pub fn join(dir: impl AsRef<Path>, spec: StoreSpec) -> Result<Self, StoreError> {
        let dir = dir.as_ref();
        spec.validate()?;
        create_dir_all(dir)?;
        let claims = Claims::join(dir)?;
        // In turn, because two workers of different runs must not both find an empty folder.
        let spec = claims.in_turn(|| -> Result<_, StoreError> {
            let spec = claim(dir, &spec)?;
            claims.remove_stale(spec.shard_count())?;
            Ok(spec)
        })??;
        Self::resume(dir, spec, Hold::Among(claims))
    }

    fn resume(dir: &Path, spec: StoreSpec, hold: Hold) -> Result<Self, StoreError> {
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
            hold,
        })
    }

    /// What the store holds.
    pub fn spec(&self) -> &StoreSpec {
        &self.spec
    }

    /// The shards still to be written, in order; to a worker, those that were when it joined, less
    /// those it has since found written.
    pub fn missing_shards(&self) -> Vec<ShardRange> {
        self.spec
            .shards()
            .filter(|range| !self.complete[range.index])
            .collect()
    }

    /// Whether this process is to write shard `range`: it is missing, and no other worker is at it.
    ///
    /// The claim ends when the shard is written or [given back](Self::give_back), and with the
    /// process. The shard is looked for on disk once more after it is claimed, because another
    /// worker may just have written it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Range`] if the store has no such shard, [`StoreError::Artifact`] if the file
    /// system has no locks, or what keeps the shard from being read.
    pub fn claim(&mut self, range: ShardRange) -> Result<bool, StoreError> {
        self.check_range(range)?;
        if self.complete[range.index] {
            return Ok(false);
        }
        let Hold::Among(claims) = &mut self.hold else {
            return Ok(true);
        };
        if !claims.take(range.index)? {
            return Ok(false);
        }
        self.complete[range.index] = is_complete(&self.dir, &self.spec, range)?;
        if self.complete[range.index] {
            claims.release(range.index);
        }
        Ok(!self.complete[range.index])
    }

    /// Gives up the claim of a shard that will not be written, so that another worker may take it.
    pub fn give_back(&mut self, range: ShardRange) {
        if let Hold::Among(claims) = &mut self.hold {
            claims.release(range.index);
        }
    }

    /// Writes one shard; when this returns it is on the device, and if it fails nothing changed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Range`] or [`StoreError::Shape`] if the data is not that of the shard,
    /// [`StoreError::NonFinite`] or [`StoreError::TooLarge`] naming the sample and the column,
    /// [`StoreError::Id`], [`StoreError::NotClaimed`] if a worker has not claimed the shard, or
    /// [`StoreError::Artifact`] if the file cannot be written.
    pub fn write_shard(&mut self, range: ShardRange, data: &ShardData) -> Result<(), StoreError> {
        self.check_range(range)?;
        let index = range.index;
        match &self.hold {
            Hold::Among(claims) if !claims.has(index) => {
                return Err(StoreError::NotClaimed { index });
            }
            _ => shard::write(&self.dir, &self.spec, range, data)?,
        }
        self.complete[index] = true;
        self.give_back(range);
        tracing::debug!(index, shards = self.complete.len(), "wrote a shard");
        Ok(())
    }

    /// Ends the writing: checks that every shard is on disk and valid, and gives the folder free.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] if shards are missing or damaged, else as [`leave`](Self::leave).
    pub fn finish(self) -> Result<(), StoreError> {
        let (dir, spec) = (self.dir.clone(), self.spec.clone());
        let missing = self.leave()?;
        if let Some(first) = missing.first() {
            return Err(StoreError::Missing {
                missing: missing.len(),
                total: spec.shard_count(),
                first: shard_path(&dir, first.index),
            });
        }
        Ok(())
    }

    /// Ends this worker's writing and returns the shards that are missing now: none if the store is
    /// whole, else those of other workers, at work or dead. The last worker to leave removes what
    /// killed ones left.
    ///
    /// # Errors
    ///
    /// When a shard cannot be read, or what is left over cannot be removed.
    pub fn leave(self) -> Result<Vec<ShardRange>, StoreError> {
        let mut missing = Vec::new();
        for range in self.spec.shards() {
            if !is_complete(&self.dir, &self.spec, range)? {
                missing.push(range);
            }
        }
        if let Hold::Among(claims) = self.hold {
            claims.leave()?;
        }
        Ok(missing)
    }

    fn check_range(&self, range: ShardRange) -> Result<(), StoreError> {
        let shards = self.complete.len();
        if range.index < shards && self.spec.shard(range.index) == range {
            return Ok(());
        }
        Err(StoreError::Range {
            index: range.index,
            start: range.start,
            end: range.end,
            shards,
        })
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
