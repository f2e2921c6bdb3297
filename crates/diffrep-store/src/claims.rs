//! How several processes write disjoint shards of one store at once.
//!
//! Workers share the lock of the folder, so that no one can take it alone while they live, and each
//! holds the lock file of the shard it works on. The operating system gives both free when a process
//! ends, however it ends: a shard of a killed worker can be claimed at once, and no clock decides
//! that a worker is dead. Whoever holds a shard's claim knows that a temporary file of that shard
//! belongs to a dead process.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use diffrep_artifact::{
    ArtifactError, Lock, create_dir_all, remove_stale_temps, remove_stale_temps_of,
};

use crate::spec::{MANIFEST, shard_name};

/// How often, and how long apart, a lock that others hold for an instant is tried: 10 seconds.
const TRIES: (u32, Duration) = (500, Duration::from_millis(20));

/// The claims of one worker.
#[derive(Debug)]
pub(crate) struct Claims {
    dir: PathBuf,
    held: BTreeMap<usize, Lock>,
    _share: Lock,
}

impl Claims {
    /// Joins the workers of an existing folder.
    ///
    /// Waits some seconds for a process that has the folder alone, because the last worker to leave
    /// takes it alone for an instant.
    pub(crate) fn join(dir: &Path) -> Result<Self, ArtifactError> {
        let share = patiently(|| Lock::share(dir))?;
        create_dir_all(claims(dir))?;
        Ok(Self {
            dir: dir.to_path_buf(),
            held: BTreeMap::new(),
            _share: share,
        })
    }

    /// Does what one worker at a time may do: whatever reads and then writes the manifest.
    pub(crate) fn in_turn<T>(&self, act: impl FnOnce() -> T) -> Result<T, ArtifactError> {
        let turn = patiently(|| Lock::acquire_file(claims(&self.dir).join("manifest")))?;
        let done = act();
        drop(turn);
        Ok(done)
    }

    /// Removes temporary files of shards that no living worker has claimed, and of the manifest; to
    /// be called in turn.
    pub(crate) fn remove_stale(&self, shards: usize) -> Result<(), ArtifactError> {
        let mut owned = BTreeMap::new();
        remove_stale_temps_of(&self.dir, |name| {
            if name == MANIFEST {
                return true;
            }
            let index = name
                .strip_prefix("shard-")
                .and_then(|rest| rest.split('.').next()?.parse().ok())
                .filter(|&index| index < shards && shard_name(index) == name);
            let Some(index) = index else { return false };
            if let Ok(lock) = Lock::acquire_file(claim_path(&self.dir, index)) {
                // Held until all of the shard's files are gone.
                owned.insert(index, lock);
            }
            owned.contains_key(&index)
        })?;
        Ok(())
    }

    /// Takes shard `index` for this worker; `false` if another one has it.
    pub(crate) fn take(&mut self, index: usize) -> Result<bool, ArtifactError> {
        if self.held.contains_key(&index) {
            return Ok(true);
        }
        match Lock::acquire_file(claim_path(&self.dir, index)) {
            Ok(lock) => {
                self.held.insert(index, lock);
                Ok(true)
            }
            Err(ArtifactError::Locked { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether this worker has shard `index`.
    pub(crate) fn has(&self, index: usize) -> bool {
        self.held.contains_key(&index)
    }

    /// Gives shard `index` free.
    pub(crate) fn release(&mut self, index: usize) {
        self.held.remove(&index);
    }

    /// Leaves; the last worker to do so tidies up.
    pub(crate) fn leave(self) -> Result<(), ArtifactError> {
        let dir = self.dir.clone();
        drop(self);
        match Lock::acquire(&dir) {
            Ok(alone) => tidy_up(&alone, &dir),
            Err(ArtifactError::Locked { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Removes what killed processes and workers left in `dir`, which the caller has alone.
pub(crate) fn tidy_up(_alone: &Lock, dir: &Path) -> Result<(), ArtifactError> {
    for path in remove_stale_temps(dir)? {
        tracing::debug!(path = %path.display(), "removed a temporary file of a killed process");
    }
    let path = claims(dir);
    match fs::remove_dir_all(&path) {
        Ok(()) => Ok(()),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(ArtifactError::Remove { path, source }),
    }
}

/// The folder of the lock files of shards.
fn claims(dir: &Path) -> PathBuf {
    dir.join(".claims")
}

fn claim_path(dir: &Path, index: usize) -> PathBuf {
    claims(dir).join(format!("shard-{index:05}"))
}

/// Tries again while the lock is held.
fn patiently(acquire: impl Fn() -> Result<Lock, ArtifactError>) -> Result<Lock, ArtifactError> {
    let (tries, pause) = TRIES;
    for _ in 1..tries {
        match acquire() {
            Err(ArtifactError::Locked { .. }) => std::thread::sleep(pause),
            outcome => return outcome,
        }
    }
    acquire()
}
