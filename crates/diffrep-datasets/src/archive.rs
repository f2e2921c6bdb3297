//! Images that are members of archives: byte ranges, read in place.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::DatasetError;
use crate::content::read_part;

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
        let bytes = read_part(path, member.offset..member.offset + member.len)?;
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

    /// The name and the size of a member, which a fingerprint sees.
    pub(crate) fn name_and_len(&self, row: usize) -> (String, u64) {
        (self.members[row].name.clone(), self.members[row].len)
    }

    /// Some bytes of a member; fewer if the archive has become shorter.
    pub(crate) fn part(&self, row: usize, range: Range<u64>) -> Result<Vec<u8>, DatasetError> {
        let member = &self.members[row];
        let within = member.offset + range.start..member.offset + range.end;
        read_part(&self.paths[member.archive], within)
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
