//! Images that are members of archives: byte ranges, read in place.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::DatasetError;
use crate::error::io_error;

/// The largest image file read from an archive or a table, in bytes: a damaged size must not exhaust the memory.
pub(crate) const LARGEST_IMAGE: u64 = 256 << 20;

/// The members of one or several archives that are samples, in their order.
pub(crate) struct Archive {
    paths: Vec<PathBuf>,
    members: Vec<Member>,
}

/// An image file in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Position of its archive among the paths.
    pub(crate) archive: usize,
    /// Where its content starts in the archive's file, in bytes.
    pub(crate) offset: u64,
    /// Bytes of its content.
    pub(crate) len: u64,
    /// The relative name that its identity is made of.
    pub(crate) name: String,
    /// What it is called in the archive, with those around it.
    pub(crate) inside: String,
}

impl Archive {
    /// Puts archives and the members found in them together.
    ///
    /// # Errors
    ///
    /// If a member is larger than [`LARGEST_IMAGE`].
    pub(crate) fn new(paths: Vec<PathBuf>, members: Vec<Member>) -> Result<Self, DatasetError> {
        let archive = Self { paths, members };
        for row in 0..archive.members.len() {
            let len = archive.members[row].len;
            require_image_size(len, || archive.location(row))?;
        }
        Ok(archive)
    }

    /// The content of a member.
    ///
    /// The file is opened for each read: there may be more shards than a process may have open files, and the
    /// position of a file would have to be shared by the threads.
    pub(crate) fn read(&self, row: usize) -> Result<Vec<u8>, DatasetError> {
        let member = &self.members[row];
        let path = &self.paths[member.archive];
        let mut file = File::open(path).map_err(io_error(path, "opened"))?;
        file.seek(SeekFrom::Start(member.offset))
            .map_err(io_error(path, "read"))?;
        let mut bytes = Vec::new();
        file.take(member.len)
            .read_to_end(&mut bytes)
            .map_err(io_error(path, "read"))?;
        if bytes.len() as u64 == member.len {
            return Ok(bytes);
        }
        Err(DatasetError::Archive {
            path: path.clone(),
            offset: member.offset,
            problem: format!(
                "{} has {} bytes, expected {}; the archive has changed since it was opened",
                member.inside,
                bytes.len(),
                member.len
            ),
        })
    }

    /// The archive's path and the member's name in it.
    pub(crate) fn location(&self, row: usize) -> PathBuf {
        let member = &self.members[row];
        self.paths[member.archive].join(&member.inside)
    }

    /// What a fingerprint sees of a member.
    pub(crate) fn name_and_len(&self, row: usize) -> (&str, u64) {
        (&self.members[row].name, self.members[row].len)
    }
}

/// Refuses a size that no image file has.
pub(crate) fn require_image_size<P: AsRef<Path>>(
    size: u64,
    location: impl FnOnce() -> P,
) -> Result<(), DatasetError> {
    if size <= LARGEST_IMAGE {
        return Ok(());
    }
    Err(DatasetError::ImageTooLarge {
        path: location().as_ref().to_path_buf(),
        size,
        limit: LARGEST_IMAGE,
    })
}
