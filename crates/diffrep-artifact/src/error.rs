//! The one error type of the crate; every variant about a file carries its path.
//!
//! A message says what failed; why it failed is the `source`, so that printing the chain says each
//! thing once.

use std::io;
use std::path::{Path, PathBuf};

/// Why something could not be read from or written to disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// A file could not be opened or read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file that was to be written (not its temporary sibling).
        path: PathBuf,
        /// What the operating system or the caller's writer said.
        source: io::Error,
    },
    /// The disk or the quota is full.
    #[error("no space left on the device while writing {}; free some space and run again", path.display())]
    Full {
        /// The file that was to be written.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A folder could not be created.
    #[error("cannot create the folder {}", path.display())]
    Create {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The finished temporary file could not take its final name.
    #[error("cannot rename {} to {}", from.display(), to.display())]
    Rename {
        /// The temporary file of [`write_atomic`](crate::write_atomic), which has been removed, or
        /// what [`finish`](crate::finish) was given, which has not.
        from: PathBuf,
        /// The final name.
        to: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file could not be removed.
    #[error("cannot remove {}", path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The path does not end in a file name.
    #[error("{} does not end in a file name", path.display())]
    NoFileName {
        /// The path.
        path: PathBuf,
    },
    /// Another process works in the folder.
    #[error("{0}")]
    Locked(#[source] Held),
    /// The lock file could not be used at all.
    #[error("cannot lock {}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file does not hold the JSON that was expected.
    #[error("{} is not the expected JSON", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// A value to be written cannot be expressed in JSON.
    #[error("the value for {} cannot be expressed in JSON", path.display())]
    Encode {
        /// The file that was to be written.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A value to be hashed cannot be expressed in JSON.
    #[error("the value to be hashed cannot be expressed in JSON")]
    HashValue {
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A text is not a SHA-256 hash.
    #[error("{text:?} is not a SHA-256 hash: expected 64 lower-case hexadecimal digits")]
    NotAHash {
        /// The text.
        text: String,
    },
    /// A record is of another kind than the one asked for.
    #[error("{} holds a record of kind {found:?}; expected {expected:?}", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// The kind asked for.
        expected: String,
        /// The kind in the file.
        found: String,
    },
    /// A record is of the right kind but of another version.
    #[error(
        "{} is version {found} of {schema:?}, and this program reads version {expected}; produce it again",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The kind of the record.
        schema: String,
        /// The version this program reads.
        expected: u32,
        /// The version in the file.
        found: u32,
    },
}

impl ArtifactError {
    /// Turns an IO error met while writing `path` into the variant that says it best.
    pub(crate) fn writing(path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { path, source }
            }
            _ => Self::Write { path, source },
        }
    }
}

/// A folder in which another process works. It is the source of [`ArtifactError::Locked`], so that it is found in
/// the chain of any error that passes that one on: the same command may work later.
#[derive(Debug, thiserror::Error)]
#[error("the folder {} is in use by {holder}; wait for it to end or choose another folder", path.display())]
pub struct Held {
    /// The folder.
    pub path: PathBuf,
    /// Who holds the lock, for example `process 4711 on host node7`.
    pub holder: String,
}
