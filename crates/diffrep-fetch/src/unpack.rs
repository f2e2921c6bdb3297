//! Archives become files, safely and all at once.
//!
//! Everything is written into a temporary sibling folder, which a killed run leaves for the next
//! one to remove; what is whole is then renamed into place. Entries that could reach out of that
//! folder do not exist for us: links and special files are refused, and a name is taken only if
//! every part of it is an ordinary one.

use std::cell::Cell;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use diffrep_artifact::{create_dir_all, finish};
use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry, EntryType};

use crate::error::io_error;
use crate::{FetchError, Format, Progress, Stage, Unpack, space};

/// The most files and folders an archive may hold; ImageNet has 1.3 million images.
const MAX_ENTRIES: u64 = 2_000_000;
/// The most bytes that the headers between two files may have, long names included: the reader of
/// archives keeps them in memory.
const MAX_HEADER: u64 = 1 << 20;
/// The most folders above a file.
const MAX_DEPTH: usize = 32;

/// Whether all that the archive yields lies in `folder` already.
pub(crate) fn is_unpacked(folder: &Path, plan: &Unpack) -> bool {
    !plan.yields.is_empty() && plan.yields.iter().all(|name| folder.join(name).exists())
}

/// Unpacks `archive` into the folder it lies in and returns what was put there.
///
/// What lies there already under the same name stays as it is.
pub(crate) fn unpack(
    archive: &Path,
    name: &str,
    plan: &Unpack,
    on_progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Vec<PathBuf>, FetchError> {
    let folder = archive.parent().unwrap_or(Path::new("."));
    let temp = TempFolder::new(folder.join(format!(".{name}.unpack")))?;
    let total = fs::metadata(archive).map_err(io_error(archive, "opened"))?;
    let total = total.len();
    let mut read = 0;
    let file = File::open(archive).map_err(io_error(archive, "opened"))?;
    let watched = Watched {
        inner: file,
        on_bytes: |count| {
            read += count;
            on_progress(Progress {
                file: name,
                stage: Stage::Unpack,
                bytes: read,
                total: Some(total),
                resumed_from: 0,
            });
        },
    };
    let buffered = BufReader::with_capacity(1 << 18, watched);
    match plan.format {
        Format::Tar => write_all(archive, buffered, plan, &temp.path)?,
        Format::TarGz => write_all(archive, MultiGzDecoder::new(buffered), plan, &temp.path)?,
    }
    if let Some(&name) = plan
        .yields
        .iter()
        .find(|name| !temp.path.join(name).exists())
    {
        return Err(FetchError::Lacks {
            path: archive.into(),
            name,
        });
    }
    space::flush(&temp.path).map_err(io_error(&temp.path, "flushed"))?;
    put_in_place(&temp.path, folder, plan)
}

/// Renames what lies in `temp` into `folder`: what the archive yields comes last, so that its
/// being there says that everything is.
fn put_in_place(temp: &Path, folder: &Path, plan: &Unpack) -> Result<Vec<PathBuf>, FetchError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(temp).map_err(io_error(temp, "listed"))? {
        names.push(entry.map_err(io_error(temp, "listed"))?.file_name());
    }
    let rank = |name: &std::ffi::OsString| plan.yields.iter().position(|yielded| *yielded == name);
    names.sort_by_key(|name| (rank(name), name.clone()));
    let mut placed = Vec::new();
    for name in names {
        let to = folder.join(&name);
        if fs::symlink_metadata(&to).is_err() {
            finish(temp.join(&name), &to)?;
            placed.push(to);
        }
    }
    Ok(placed)
}

/// Writes every entry of the tar stream `reader` below `temp`.
fn write_all(
    archive: &Path,
    reader: impl Read,
    plan: &Unpack,
    temp: &Path,
) -> Result<(), FetchError> {
    let budget = Rc::new(Cell::new(MAX_HEADER));
    let metered = Metered {
        inner: reader,
        budget: Rc::clone(&budget),
    };
    let damaged = |source| FetchError::Damaged {
        path: archive.into(),
        source,
    };
    let mut tar = Archive::new(metered);
    let mut writer = Writer {
        archive,
        temp,
        max_bytes: plan.max_bytes,
        bytes: 0,
        entries: 0,
        budget: &budget,
        seen: HashSet::new(),
    };
    for entry in tar.entries().map_err(damaged)? {
        writer.write(entry.map_err(damaged)?)?;
        budget.set(MAX_HEADER);
    }
    drain(tar.into_inner(), &budget, plan.max_bytes).map_err(damaged)
}

/// Reads what follows the archive's end: only there does a compressed stream show whether it is
/// whole and agrees with its checksum.
fn drain(mut rest: impl Read, budget: &Cell<u64>, limit: u64) -> io::Result<()> {
    budget.set(limit);
    io::copy(&mut rest, &mut io::sink()).map(drop)
}

/// Writes entries and keeps to the limits.
struct Writer<'a> {
    archive: &'a Path,
    temp: &'a Path,
    max_bytes: u64,
    bytes: u64,
    entries: u64,
    budget: &'a Cell<u64>,
    seen: HashSet<PathBuf>,
}

impl Writer<'_> {
    fn write(&mut self, mut entry: Entry<'_, impl Read>) -> Result<(), FetchError> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(self.too_much(MAX_ENTRIES, "entries"));
        }
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let name = safe_name(&entry.path_bytes());
        let name = name.map_err(|reason| self.refuse(&entry, reason))?;
        match kind {
            EntryType::Directory => {
                self.budget.set(MAX_HEADER);
                Ok(create_dir_all(self.temp.join(name))?)
            }
            // A name that ends in a slash is a folder in the oldest archives.
            EntryType::Regular if entry.path_bytes().ends_with(b"/") => {
                Ok(create_dir_all(self.temp.join(name))?)
            }
            EntryType::Regular | EntryType::Continuous => self.write_file(name, &mut entry),
            EntryType::Symlink | EntryType::Link => {
                Err(self.refuse(&entry, "is a link, and links are not followed"))
            }
            _ => Err(self.refuse(&entry, "is neither a file nor a folder")),
        }
    }

    fn write_file(
        &mut self,
        name: PathBuf,
        entry: &mut Entry<'_, impl Read>,
    ) -> Result<(), FetchError> {
        if name.as_os_str().is_empty() {
            return Err(self.refuse(entry, "has no name"));
        }
        if !self.seen.insert(name.clone()) {
            return Err(self.refuse(entry, "occurs twice"));
        }
        let left = self.max_bytes - self.bytes;
        if entry.size() > left {
            return Err(self.too_much(self.max_bytes, "bytes"));
        }
        // Up to 511 bytes of padding follow, which are read with the next header.
        self.budget.set(left.saturating_add(MAX_HEADER));
        let path = self.temp.join(name);
        if let Some(folder) = path.parent() {
            create_dir_all(folder)?;
        }
        let mut file = File::create_new(&path).map_err(io_error(&path, "created"))?;
        let size = entry.size();
        self.bytes += self.copy(entry, &mut file, size, &path)?;
        Ok(())
    }

    /// Copies an entry of `size` bytes; reading fails are the archive's, writing fails the disk's.
    fn copy(
        &self,
        entry: &mut impl Read,
        file: &mut File,
        size: u64,
        path: &Path,
    ) -> Result<u64, FetchError> {
        let damaged = |source| FetchError::Damaged {
            path: self.archive.into(),
            source,
        };
        let mut buffer = [0; 1 << 14];
        let mut copied = 0u64;
        loop {
            let count = match entry.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(damaged(error)),
            };
            copied += count as u64;
            if copied > size || (count == 0 && copied < size) {
                return Err(damaged(io::ErrorKind::UnexpectedEof.into()));
            }
            if count == 0 {
                return Ok(copied);
            }
            file.write_all(&buffer[..count])
                .map_err(io_error(path, "written"))?;
        }
    }

    fn refuse(&self, entry: &Entry<'_, impl Read>, reason: &'static str) -> FetchError {
        let name = entry.path_bytes();
        let shown: String = String::from_utf8_lossy(&name).chars().take(200).collect();
        FetchError::Entry {
            path: self.archive.into(),
            entry: shown,
            reason,
        }
    }

    fn too_much(&self, limit: u64, unit: &'static str) -> FetchError {
        FetchError::TooMuch {
            path: self.archive.into(),
            limit,
            unit,
        }
    }
}

/// The entry's name as a path that stays where it is put, or why there is none.
fn safe_name(bytes: &[u8]) -> Result<PathBuf, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "has a name that is not valid UTF-8")?;
    if text.contains('\0') {
        return Err("has a zero byte in its name");
    }
    let mut name = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(part) => name.push(part),
            Component::CurDir => {}
            Component::ParentDir => return Err("leads out of its folder"),
            Component::RootDir | Component::Prefix(_) => return Err("has an absolute name"),
        }
    }
    if name.components().count() > MAX_DEPTH {
        return Err("lies too deep");
    }
    Ok(name)
}

/// A folder that is removed with all that is in it when this is dropped.
struct TempFolder {
    path: PathBuf,
}

impl TempFolder {
    /// An empty folder; what a killed run left under this name is removed.
    fn new(path: PathBuf) -> Result<Self, FetchError> {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error(&path, "removed")(error));
            }
            _ => {}
        }
        create_dir_all(&path)?;
        Ok(Self { path })
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        // The error that led here is the one to report; the next run removes what stays.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A reader that gives no more bytes than its budget.
struct Metered<R> {
    inner: R,
    budget: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.budget.get();
        if left == 0 && !buffer.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "its headers, or what follows its end, are longer than any real archive's",
            ));
        }
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = self.inner.read(&mut buffer[..most])?;
        self.budget.set(left - count as u64);
        Ok(count)
    }
}

/// A reader that tells how many bytes it passes on.
struct Watched<R, F> {
    inner: R,
    on_bytes: F,
}

impl<R: Read, F: FnMut(u64)> Read for Watched<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        (self.on_bytes)(count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ordinary_names_are_taken() {
        let name = |text: &str| safe_name(text.as_bytes());
        assert_eq!(name("a/b.jpg"), Ok(PathBuf::from("a/b.jpg")));
        assert_eq!(name("./a//./b/"), Ok(PathBuf::from("a/b")));
        assert_eq!(name("./"), Ok(PathBuf::new()));
        for (text, reason) in [
            ("../a", "leads out of its folder"),
            ("a/../../b", "leads out of its folder"),
            ("a/..", "leads out of its folder"),
            ("/etc/passwd", "has an absolute name"),
            ("a\0b", "has a zero byte in its name"),
            (&"d/".repeat(MAX_DEPTH + 1), "lies too deep"),
        ] {
            assert_eq!(name(text), Err(reason), "{text}");
        }
        assert!(safe_name(b"a\xff").is_err());
    }

    /// Every byte of a header changed in turn, with a checksum that agrees again: whatever it then
    /// says, nothing panics and nothing lies outside.
    #[test]
    fn no_header_leads_out() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        tar.append_data(&mut header, "set/a", &b"abc"[..]).unwrap();
        let good = tar.into_inner().unwrap();
        let plan = Unpack {
            format: Format::Tar,
            yields: &["set"],
            max_bytes: 1 << 16,
        };
        let dir = tempfile::tempdir().unwrap();
        let temp = dir.path().join("in/temp");
        create_dir_all(&temp).unwrap();
        let names = |path: &Path| -> Vec<PathBuf> {
            let entries = fs::read_dir(path).unwrap();
            entries.map(|entry| entry.unwrap().path()).collect()
        };
        let mut outcomes = [0, 0];
        // Byte 156 says what kind of entry it is.
        let kinds = (0..=255).map(|byte| (156, byte));
        let others = (0..512).flat_map(|at| [0, b'.', b'/', 0xff].map(|byte| (at, byte)));
        for (at, byte) in kinds.chain(others) {
            let mut bytes = good.clone();
            bytes[at] = byte;
            let mut header = tar::Header::new_old();
            header.as_mut_bytes().copy_from_slice(&bytes[..512]);
            header.set_cksum();
            bytes[..512].copy_from_slice(header.as_bytes());
            let written = write_all(Path::new("a.tar"), &bytes[..], &plan, &temp);
            outcomes[usize::from(written.is_ok())] += 1;
            assert_eq!(names(dir.path()), [dir.path().join("in")]);
            assert_eq!(names(&dir.path().join("in")), std::slice::from_ref(&temp));
            for path in names(&temp) {
                let removed = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
                removed.unwrap();
            }
        }
        assert!(outcomes.iter().all(|count| *count > 100), "{outcomes:?}");
    }

    #[test]
    fn a_meter_stops_at_its_budget() {
        let budget = Rc::new(Cell::new(3));
        let mut metered = Metered {
            inner: &b"abcdef"[..],
            budget: Rc::clone(&budget),
        };
        let mut buffer = [0; 8];
        assert_eq!(metered.read(&mut buffer).unwrap(), 3);
        assert!(metered.read(&mut buffer).is_err());
        budget.set(9);
        assert_eq!(metered.read(&mut buffer).unwrap(), 3);
        assert_eq!(metered.read(&mut buffer).unwrap(), 0);
    }
}
