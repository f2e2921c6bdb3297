//! Looking after stores: what a folder holds, whole or not, whether its bytes are those that were written,
//! and removing it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use diffrep_artifact::{ArtifactError, Lock, remove_stale_temps};

use crate::claims::tidy_up;
use crate::shard::Shard;
use crate::spec::{MANIFEST, read_manifest, shard_path};
use crate::{StoreError, StoreSpec};

/// What the folder of a store holds.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The folder.
    pub dir: PathBuf,
    /// What the store is to hold.
    pub spec: StoreSpec,
    /// The state of each shard.
    pub shards: Vec<ShardState>,
    /// Size of the manifest and of all shard files, in bytes.
    pub bytes: u64,
    /// When one of these files was last written; absent where the file system does not tell.
    pub modified: Option<SystemTime>,
}

/// The state of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardState {
    /// There, with the header, size and place that it must have.
    Whole,
    /// Not there.
    Missing,
    /// There, but not as it must be.
    Damaged(String),
}

impl Survey {
    /// Looks at a store's manifest and at the header and size of each shard; features are not read, so that
    /// a changed byte among them goes unnoticed (see [`verify`]).
    ///
    /// # Errors
    ///
    /// [`StoreError::Artifact`] or [`StoreError::Format`] if there is no usable manifest, [`StoreError::Spec`]
    /// if it makes no sense.
    pub fn of(dir: impl AsRef<Path>) -> Result<Self, StoreError> {
        let dir = dir.as_ref();
        let spec = read_manifest(dir)?;
        let shards = spec
            .shards()
            .map(|range| match Shard::open(dir, &spec, range) {
                Ok(_) => ShardState::Whole,
                Err(StoreError::Map { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    ShardState::Missing
                }
                Err(error) => ShardState::Damaged(error.to_string()),
            });
        let shards: Vec<ShardState> = shards.collect();
        let files = (0..spec.shard_count()).map(|index| shard_path(dir, index));
        let files = files.chain([dir.join(MANIFEST)]);
        let known: Vec<fs::Metadata> = files.filter_map(|path| path.metadata().ok()).collect();
        Ok(Self {
            dir: dir.to_path_buf(),
            bytes: known.iter().map(fs::Metadata::len).sum(),
            modified: known.iter().filter_map(|file| file.modified().ok()).max(),
            spec,
            shards,
        })
    }

    /// Whether every shard is whole.
    pub fn is_whole(&self) -> bool {
        self.shards.iter().all(|shard| *shard == ShardState::Whole)
    }

    /// Whether a shard is there that is not as it must be, or could not be read.
    pub fn is_damaged(&self) -> bool {
        let damaged = |shard: &ShardState| matches!(shard, ShardState::Damaged(_));
        self.shards.iter().any(damaged)
    }

    /// How many shards are whole.
    pub fn whole_shards(&self) -> usize {
        self.shards
            .iter()
            .filter(|shard| **shard == ShardState::Whole)
            .count()
    }
}

/// Whether a folder has the manifest of a store, of any version.
pub fn is_store(dir: impl AsRef<Path>) -> bool {
    let manifest = fs::read_to_string(dir.as_ref().join(MANIFEST)).unwrap_or_default();
    manifest.contains("\"diffrep-store\"")
}

/// Reads every shard of a store and compares its content with the hash that was taken when it was written.
/// Gives what is wrong with each shard that is missing, damaged or changed.
///
/// # Errors
///
/// As [`Survey::of`].
pub fn verify(dir: impl AsRef<Path>) -> Result<Vec<StoreError>, StoreError> {
    let dir = dir.as_ref();
    let spec = read_manifest(dir)?;
    let wrong = spec.shards().filter_map(|range| {
        Shard::open(dir, &spec, range)
            .and_then(|shard| shard.verify())
            .err()
    });
    Ok(wrong.collect())
}

/// Removes a store that no process is at, and its folder if nothing else is in there. A kill in the middle
/// leaves a store that is not whole.
///
/// # Errors
///
/// [`StoreError::Artifact`] if a process reads the lock of the folder as taken or a file cannot be removed,
/// [`StoreError::Changed`] if the store is not as `seen` any more, else as [`Survey::of`].
pub fn remove(seen: &Survey) -> Result<(), StoreError> {
    let dir = seen.dir.as_path();
    let lock = Lock::acquire(dir)?;
    let now = Survey::of(dir)?;
    if now.shards != seen.shards || now.spec != seen.spec {
        return Err(StoreError::Changed { dir: dir.into() });
    }
    let spec = now.spec;
    tidy_up(&lock, dir)?;
    for range in spec.shards() {
        remove_file(&shard_path(dir, range.index))?;
    }
    remove_stale_temps(dir)?;
    // The manifest goes last, so that what is left of an interrupted removal is still known as a store.
    remove_file(&dir.join(MANIFEST))?;
    remove_file(lock.path())?;
    drop(lock);
    match fs::remove_dir(dir) {
        Err(source) if source.kind() != io::ErrorKind::DirectoryNotEmpty => {
            let path = dir.to_path_buf();
            Err(ArtifactError::Remove { path, source }.into())
        }
        _ => Ok(()),
    }
}

fn remove_file(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            let path = path.to_path_buf();
            Err(ArtifactError::Remove { path, source }.into())
        }
        _ => Ok(()),
    }
}
