//! One process at a time in a folder.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::ArtifactError;

/// Exclusive use of a folder, held until this is dropped.
///
/// It is an advisory lock (`flock` on Unix) on the file `.lock` in the folder. The operating system
/// releases it when the process ends, however it ends, so a killed process leaves no stale lock;
/// the file itself stays.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock of an existing folder, without waiting.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::Locked`] if another process, or this one, holds it;
    /// [`ArtifactError::Lock`] if the lock file cannot be created or the file system has no locks.
    pub fn acquire(dir: impl AsRef<Path>) -> Result<Self, ArtifactError> {
        let dir = dir.as_ref();
        let path = dir.join(".lock");
        let lock_error = |source| ArtifactError::Lock {
            path: path.clone(),
            source,
        };
        let mut file = File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .map_err(lock_error)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(ArtifactError::Locked {
                    path: dir.to_path_buf(),
                    holder: holder(&mut file),
                });
            }
            Err(TryLockError::Error(source)) => return Err(lock_error(source)),
        }
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
        Ok(Self { file, path })
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file releases the lock; the text is emptied so that it names no one.
        let _ = self.file.set_len(0);
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
        let ArtifactError::Locked { path, holder } = &error else {
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
}
