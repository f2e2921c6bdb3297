//! One process at a time in a folder, or several that agree to share it.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::{ArtifactError, Held};

/// Use of a folder, held until this is dropped.
///
/// It is an advisory lock (`flock` on Unix) on the file `.lock` in the folder. The operating system
/// releases it when the process ends, however it ends, so a killed process leaves no stale lock;
/// the file itself stays.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct Lock {
    file: File,
    path: PathBuf,
    /// Whether the text in the file is about this process.
    is_named: bool,
}

impl Lock {
    /// Takes an existing folder for this process alone, without waiting.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::Locked`] if another process, or this one, holds it;
    /// [`ArtifactError::Lock`] if the lock file cannot be created or the file system has no locks.
    pub fn acquire(dir: impl AsRef<Path>) -> Result<Self, ArtifactError> {
        let dir = dir.as_ref();
        Self::exclusive(dir, dir.join(".lock"))
    }

    /// Takes an existing folder together with whoever else shares it, without waiting; meanwhile no
    /// one can [`acquire`](Self::acquire) it.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), when a process has the folder alone.
    pub fn share(dir: impl AsRef<Path>) -> Result<Self, ArtifactError> {
        let dir = dir.as_ref();
        let path = dir.join(".lock");
        let mut file = open(&path)?;
        let taken = file.try_lock_shared();
        check(taken, dir, &path, &mut file)?;
        Ok(Self {
            file,
            path,
            is_named: false,
        })
    }

    /// Takes the lock for which the file `path` stands, without waiting: for parts of a folder that
    /// is shared. The file is created if need be.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire); [`ArtifactError::Locked`] names the file.
    pub fn acquire_file(path: impl Into<PathBuf>) -> Result<Self, ArtifactError> {
        let path = path.into();
        Self::exclusive(&path.clone(), path)
    }

    /// Takes the lock file `path`, which stands for `what`, and writes who has it.
    fn exclusive(what: &Path, path: PathBuf) -> Result<Self, ArtifactError> {
        let mut file = open(&path)?;
        let taken = file.try_lock();
        check(taken, what, &path, &mut file)?;
        // A longer text of an earlier holder must not shine through.
        file.set_len(0)
            .and_then(|()| {
                writeln!(
                    file,
                    "process {} on host {}",
                    std::process::id(),
                    host_name()
                )
            })
            .map_err(|source| ArtifactError::writing(&path, source))?;
        Ok(Self {
            file,
            path,
            is_named: true,
        })
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Opens a lock file, creating it if need be.
fn open(path: &Path) -> Result<File, ArtifactError> {
    File::options()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(path)
        .map_err(|source| ArtifactError::Lock {
            path: path.to_path_buf(),
            source,
        })
}

/// Turns the outcome of a try into an error about `what`.
fn check(
    taken: Result<(), TryLockError>,
    what: &Path,
    path: &Path,
    file: &mut File,
) -> Result<(), ArtifactError> {
    match taken {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(ArtifactError::Locked(Held {
            path: what.to_path_buf(),
            holder: holder(file),
        })),
        Err(TryLockError::Error(source)) => Err(ArtifactError::Lock {
            path: path.to_path_buf(),
            source,
        }),
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file releases the lock; the text is emptied so that it names no one.
        if self.is_named {
            let _ = self.file.set_len(0);
        }
    }
}

/// What the holder wrote about itself, or a plain phrase if it has not written yet.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(1024).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "another process".to_owned(),
    }
}

/// The name of this machine; it matters on network file systems shared by the nodes of a cluster.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "this machine".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::acquire(dir.path()).unwrap();
        assert_eq!(lock.path(), dir.path().join(".lock"));
        let error = Lock::acquire(dir.path()).unwrap_err();
        let ArtifactError::Locked(Held { path, holder }) = &error else {
            panic!("{error:?}");
        };
        assert_eq!(path, dir.path());
        assert!(holder.starts_with(&format!("process {} on host ", std::process::id())));
        drop(lock);
        drop(Lock::acquire(dir.path()).unwrap());
    }

    #[test]
    fn text_left_by_a_killed_process_does_not_hold_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join(".lock"),
            "process 99999999 on host elsewhere\n".repeat(9),
        )
        .unwrap();
        let lock = Lock::acquire(dir.path()).unwrap();
        let text = std::fs::read_to_string(lock.path()).unwrap();
        assert!(
            text.starts_with(&format!("process {} ", std::process::id())),
            "{text}"
        );
        assert!(!text.contains("elsewhere"));
        drop(lock);
        assert_eq!(std::fs::read(dir.path().join(".lock")).unwrap(), b"");
    }

    #[test]
    fn an_absent_folder_is_an_error_with_its_path() {
        let error = Lock::acquire("no/such/folder").unwrap_err();
        assert!(matches!(error, ArtifactError::Lock { .. }));
        assert!(error.to_string().contains("no/such/folder"));
    }

    #[test]
    fn sharers_keep_out_whoever_wants_the_folder_alone() {
        let dir = tempfile::tempdir().unwrap();
        let locked = |outcome: Result<Lock, ArtifactError>| {
            matches!(outcome, Err(ArtifactError::Locked { .. }))
        };
        let first = Lock::share(dir.path()).unwrap();
        let second = Lock::share(dir.path()).unwrap();
        assert!(locked(Lock::acquire(dir.path())));
        drop(first);
        assert!(locked(Lock::acquire(dir.path())));
        drop(second);
        let alone = Lock::acquire(dir.path()).unwrap();
        assert!(locked(Lock::share(dir.path())));
        drop(alone);

        let part = dir.path().join("part");
        let held = Lock::acquire_file(&part).unwrap();
        assert_eq!(held.path(), part);
        assert!(locked(Lock::acquire_file(&part)));
        drop(Lock::acquire_file(dir.path().join("other")).unwrap());
        drop(held);
        drop(Lock::acquire_file(&part).unwrap());
    }
}
