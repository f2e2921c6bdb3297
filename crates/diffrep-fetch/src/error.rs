//! What can go wrong on the way from an address to a file.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use diffrep_artifact::ArtifactError;

/// Every error of this crate.
///
/// Each message is one sentence that names the file or the address and, where something can be
/// done, says what.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The folder is in use, or a file could not be written, read or renamed.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),

    /// The operating system refused a file or a folder.
    #[error("{path} cannot be {action}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a participle: "opened", "written", "removed".
        action: &'static str,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },

    /// The disk filled up on the way.
    #[error("no space left on the device while writing {path}; free some space and run again, the download goes on from where it stopped", path = .path.display())]
    Full {
        /// The file that was being written.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },

    /// The disk has less room than the file needs; nothing was written.
    #[error("{path} needs {needed} more bytes, and the disk has {available}; free some space or choose another folder", path = .path.display())]
    NoRoom {
        /// The file that was to be written.
        path: PathBuf,
        /// How many bytes are still to come.
        needed: u64,
        /// How many bytes the disk has free for this user.
        available: u64,
    },

    /// The asset may not be downloaded by a program.
    #[error("{name} cannot be downloaded by a program; follow its {steps} steps by hand")]
    ByHand {
        /// The asset's name.
        name: &'static str,
        /// How many steps [`Asset::steps`](crate::Asset::steps) has.
        steps: usize,
    },

    /// A file of an asset has a name that is not a plain file name.
    #[error("{name:?} is not a plain file name, and a download never leaves its folder")]
    BadName {
        /// The name.
        name: String,
    },

    /// No connection came about, several times in a row.
    #[error(
        "{url} cannot be reached ({attempts} attempts); check the network and the proxy, and run again"
    )]
    Unreachable {
        /// The address.
        url: String,
        /// How often it was tried since the last byte that arrived.
        attempts: u32,
        /// The last reason.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },

    /// The connection broke, several times in a row without a new byte.
    #[error(
        "{url} broke off after {bytes} bytes ({attempts} attempts without progress); run again later to go on from there"
    )]
    Interrupted {
        /// The address.
        url: String,
        /// How many bytes have arrived in all.
        bytes: u64,
        /// How often it was tried since the last byte that arrived.
        attempts: u32,
        /// The last reason.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },

    /// The server refused.
    #[error("{url} answers with status {status}: {hint}")]
    Status {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What it means here and what to do.
        hint: &'static str,
    },

    /// The server cannot be talked to safely or at all: TLS, redirects, a broken address.
    #[error("{url} cannot be used: {hint}")]
    Refused {
        /// The address.
        url: String,
        /// What to do.
        hint: &'static str,
        /// What the client says.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },

    /// The server's answer contradicts itself.
    #[error("{url} gives an answer that cannot be trusted: {what}")]
    BadAnswer {
        /// The address.
        url: String,
        /// What is wrong.
        what: String,
    },

    /// A file has another size than the one published.
    #[error("{path} has {found} bytes, expected {expected}; {hint}", path = .path.display())]
    WrongSize {
        /// The file.
        path: PathBuf,
        /// The published size in bytes.
        expected: u64,
        /// The size found, or announced by the server, in bytes.
        found: u64,
        /// What to do.
        hint: &'static str,
    },

    /// A file has another hash than the one published.
    #[error("{path} has the {algorithm} {found}, expected {expected}; {hint}", path = .path.display())]
    WrongHash {
        /// The file.
        path: PathBuf,
        /// `SHA-256` or `MD5`.
        algorithm: &'static str,
        /// The published hash.
        expected: &'static str,
        /// The hash found.
        found: String,
        /// What to do.
        hint: &'static str,
    },

    /// An archive is damaged; nothing of it was unpacked.
    #[error("{path} cannot be unpacked; remove it and run again", path = .path.display())]
    Damaged {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },

    /// An archive has an entry that must not be unpacked; nothing of it was.
    #[error("{path} holds the entry {entry:?}, which {reason}; nothing was unpacked", path = .path.display())]
    Entry {
        /// The archive.
        path: PathBuf,
        /// The entry's name, as far as it can be shown.
        entry: String,
        /// Why it was refused, as the rest of a sentence.
        reason: &'static str,
    },

    /// An archive holds more than its limit; nothing of it was unpacked.
    #[error("{path} unpacks to more than {limit} {unit}; nothing was unpacked", path = .path.display())]
    TooMuch {
        /// The archive.
        path: PathBuf,
        /// The limit.
        limit: u64,
        /// What is counted: "bytes" or "entries".
        unit: &'static str,
    },

    /// An archive lacks what it was fetched for; nothing of it was unpacked.
    #[error("{path} does not hold {name} at its top; it may be another archive than the one expected", path = .path.display())]
    Lacks {
        /// The archive.
        path: PathBuf,
        /// What was expected.
        name: &'static str,
    },
}

/// Makes a function for `map_err` that adds the path, and tells a full disk from other failures.
pub(crate) fn io_error<'a>(
    path: &'a Path,
    action: &'static str,
) -> impl FnOnce(io::Error) -> FetchError + 'a {
    move |source| {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                FetchError::Full { path, source }
            }
            _ => FetchError::Io {
                path,
                action,
                source,
            },
        }
    }
}

/// What a status means for someone who wanted a file.
pub(crate) fn status_hint(status: u16) -> &'static str {
    match status {
        401 | 403 | 407 => {
            "access is refused; the host may ask for a login, or block this network or its proxy"
        }
        404 | 410 => "the file is not there any more; look for a newer address or a mirror",
        408 | 429 | 500..=599 => "the host is busy or broken; run again later",
        416 => "the host does not accept the range asked for; remove the .part file and run again",
        300..=399 => "the host redirects to nowhere; look for a newer address",
        _ => "open the address in a browser to see what the host wants",
    }
}
