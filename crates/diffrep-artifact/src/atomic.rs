//! Writing a file so that it is either whole or absent.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::hash::HashingWriter;
use crate::{ArtifactError, Sha256Hex};

/// The size of the write buffer, in bytes.
const BUFFER: usize = 1 << 20;

/// Writes `path` through `write` so that the file is either whole or absent.
///
/// The bytes go to a temporary file beside `path`, are flushed to the device, and the file is then
/// renamed over `path`, whose old content stays until that instant. On any error, and if `write`
/// panics, the temporary file is removed. A symbolic link at `path` is replaced, not followed.
///
/// # Errors
///
/// [`ArtifactError::Full`] if the disk is full, [`ArtifactError::Write`] for any other failure of
/// `write` or of the device, [`ArtifactError::Rename`] if the final name cannot be taken.
pub fn write_atomic(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), ArtifactError> {
    let path = path.as_ref();
    if path.file_name().is_some() && path.is_dir() {
        return Err(ArtifactError::Write {
            path: path.into(),
            source: io::Error::new(io::ErrorKind::IsADirectory, "a folder has this name"),
        });
    }
    let (mut temp, file) = TempFile::beside(path)?;
    write_through(file, write).map_err(|e| ArtifactError::writing(path, e))?;
    take_name(&temp.path, path)?;
    temp.renamed = true;
    sync_folder(parent(path)).map_err(|e| ArtifactError::writing(path, e))
}

/// Like [`write_atomic`], and returns the hash of what was written without reading it again.
///
/// # Errors
///
/// As [`write_atomic`].
pub fn write_atomic_hashed(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Sha256Hex, ArtifactError> {
    let mut hash = None;
    write_atomic(path, |inner| {
        let mut writer = HashingWriter::new(inner);
        write(&mut writer)?;
        hash = Some(writer.finish());
        Ok(())
    })?;
    Ok(hash.expect("a file that was written was hashed"))
}

/// Gives what lies finished at `from`, a file or a folder, its final name `to` on the same disk.
///
/// For what grows over several runs, such as a download that resumes, where [`write_atomic`] would
/// start over. `from` is flushed to the device first; of a folder only its list of names, so flush
/// the files in it before. A file at `to` is replaced; a folder that is not empty is not.
///
/// # Errors
///
/// [`ArtifactError::Full`] or [`ArtifactError::Write`] if `from` cannot be flushed,
/// [`ArtifactError::Rename`] if the final name cannot be taken; `from` stays in either case.
pub fn finish(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<(), ArtifactError> {
    let (from, to) = (from.as_ref(), to.as_ref());
    let flushed = if from.is_dir() {
        sync_folder(from)
    } else {
        File::options()
            .write(true)
            .open(from)
            .and_then(|file| file.sync_all())
    };
    flushed.map_err(|e| ArtifactError::writing(from, e))?;
    take_name(from, to)?;
    sync_folder(parent(to)).map_err(|e| ArtifactError::writing(to, e))
}

/// Writes `bytes` to `path`; see [`write_atomic`].
///
/// # Errors
///
/// As [`write_atomic`].
pub fn write_bytes_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), ArtifactError> {
    write_atomic(path, |writer| writer.write_all(bytes))
}

/// Reads a whole file.
///
/// # Errors
///
/// [`ArtifactError::Read`] naming the file.
pub fn read_bytes(path: impl AsRef<Path>) -> Result<Vec<u8>, ArtifactError> {
    let path = path.as_ref();
    fs::read(path).map_err(|source| ArtifactError::Read {
        path: path.to_path_buf(),
        source,
    })
}

/// Creates a folder and its parents; a folder that exists is fine.
///
/// # Errors
///
/// [`ArtifactError::Create`] naming the folder.
pub fn create_dir_all(path: impl AsRef<Path>) -> Result<(), ArtifactError> {
    let path = path.as_ref();
    fs::create_dir_all(path).map_err(|source| ArtifactError::Create {
        path: path.to_path_buf(),
        source,
    })
}

/// Removes the temporary files that killed processes left in `dir` and returns their paths, sorted.
///
/// Call it only while holding the folder's [`Lock`](crate::Lock): the temporary file of a process
/// that is still writing would go too.
///
/// # Errors
///
/// [`ArtifactError::Read`] if the folder cannot be listed, [`ArtifactError::Remove`] if a file
/// cannot be removed.
pub fn remove_stale_temps(dir: impl AsRef<Path>) -> Result<Vec<PathBuf>, ArtifactError> {
    remove_stale_temps_of(dir, |_| true)
}

/// Like [`remove_stale_temps`], of those files alone whose final names `is_stale` accepts: for a
/// folder in which other processes are writing other files.
///
/// # Errors
///
/// As [`remove_stale_temps`].
pub fn remove_stale_temps_of(
    dir: impl AsRef<Path>,
    mut is_stale: impl FnMut(&str) -> bool,
) -> Result<Vec<PathBuf>, ArtifactError> {
    let dir = dir.as_ref();
    let read_error = |source| ArtifactError::Read {
        path: dir.to_path_buf(),
        source,
    };
    let mut removed = Vec::new();
    for entry in fs::read_dir(dir).map_err(read_error)? {
        let entry = entry.map_err(read_error)?;
        let name = entry.file_name();
        if !final_name(&name.to_string_lossy()).is_some_and(&mut is_stale) {
            continue;
        }
        let path = entry.path();
        match fs::remove_file(&path) {
            Ok(()) => removed.push(path),
            // Listed before its writer gave it its final name or removed it.
            Err(source) if source.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(ArtifactError::Remove { path, source }),
        }
    }
    removed.sort();
    Ok(removed)
}

/// A temporary file; it is removed when this is dropped before the rename.
struct TempFile {
    path: PathBuf,
    renamed: bool,
}

impl TempFile {
    /// Creates `.NAME.<pid>.<counter>.tmp` in the folder of `path`: a rename within one folder stays
    /// on one file system, and the counter keeps threads of one process apart. A name that is taken
    /// is passed over: on a file system that several machines share, process numbers repeat, and in
    /// containers every process may be number 1.
    fn beside(path: &Path) -> Result<(Self, File), ArtifactError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let name = path.file_name().ok_or_else(|| ArtifactError::NoFileName {
            path: path.to_path_buf(),
        })?;
        loop {
            let mut temp = OsString::from(".");
            temp.push(name);
            temp.push(format!(
                ".{}.{}.tmp",
                std::process::id(),
                COUNTER.fetch_add(1, Ordering::Relaxed)
            ));
            let temp = parent(path).join(temp);
            match File::options().write(true).create_new(true).open(&temp) {
                Ok(file) => {
                    let renamed = false;
                    return Ok((
                        Self {
                            path: temp,
                            renamed,
                        },
                        file,
                    ));
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(ArtifactError::writing(path, e)),
            }
        }
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.renamed {
            // The error that led here is the one to report; a file that stays is found by its name.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The final name of the file whose temporary name [`TempFile::beside`] gave, else `None`.
fn final_name(name: &str) -> Option<&str> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let stem = name.strip_prefix('.')?.strip_suffix(".tmp")?;
    let mut parts = stem.rsplitn(3, '.');
    let numbers = parts.next().is_some_and(is_number) && parts.next().is_some_and(is_number);
    parts.next().filter(|name| numbers && !name.is_empty())
}

/// Renames `from` to `to`.
fn take_name(from: &Path, to: &Path) -> Result<(), ArtifactError> {
    fs::rename(from, to).map_err(|source| ArtifactError::Rename {
        from: from.to_path_buf(),
        to: to.to_path_buf(),
        source,
    })
}

/// Runs `write` on a buffered `file` and brings every byte to the device.
fn write_through(
    file: File,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(BUFFER, file);
    write(&mut writer)?;
    let file = writer
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    file.sync_all()
}

/// The folder of `path`, `.` for a bare file name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes a rename in `folder` survive a power cut, on file systems that can promise that.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};

    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // Some network file systems cannot flush a folder, and a folder may be write-only.
        Err(e) if matches!(e.kind(), InvalidInput | PermissionDenied | Unsupported) => Ok(()),
        other => other,
    }
}

/// Folders cannot be flushed on this system.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_content_and_leaves_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        write_bytes_atomic(&path, b"old").unwrap();
        write_bytes_atomic(&path, b"new content").unwrap();
        assert_eq!(read_bytes(&path).unwrap(), b"new content");
        assert_eq!(names(dir.path()), ["a.bin"]);
    }

    #[test]
    fn a_full_disk_keeps_the_old_content_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        write_bytes_atomic(&path, b"old").unwrap();
        let error = write_atomic(&path, |writer| {
            writer.write_all(&vec![7; 3 * BUFFER])?;
            Err(io::ErrorKind::StorageFull.into())
        })
        .unwrap_err();
        assert!(matches!(error, ArtifactError::Full { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with("no space left on the device while writing"));
        assert!(text.contains("a.bin"), "{text}");
        assert_eq!(read_bytes(&path).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["a.bin"]);
    }

    #[test]
    fn a_failing_writer_leaves_nothing_when_there_was_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        let error = write_atomic(&path, |writer| {
            writer.write_all(b"half")?;
            Err(io::Error::other("the encoder gave up"))
        })
        .unwrap_err();
        let ArtifactError::Write { path, source } = &error else {
            panic!("{error:?}");
        };
        assert!(path.ends_with("a.bin"));
        assert_eq!(source.to_string(), "the encoder gave up");
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn a_panicking_writer_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        let outcome = std::panic::catch_unwind(|| {
            let _ = write_atomic(&path, |_| panic!("stop"));
        });
        assert!(outcome.is_err());
        assert!(names(dir.path()).is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_device_that_is_full_at_the_last_flush_is_noticed() {
        let open = || File::options().write(true).open("/dev/full").unwrap();
        // Fewer bytes than the buffer: only the flush touches the device.
        let error = write_through(open(), |writer| writer.write_all(b"few")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let error = write_through(open(), |writer| writer.write_all(&vec![0; 2 * BUFFER]));
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::StorageFull);
        let path = Path::new("x.bin");
        let error = ArtifactError::writing(path, io::Error::from_raw_os_error(28));
        assert!(matches!(error, ArtifactError::Full { .. }));
    }

    #[test]
    fn a_name_that_is_a_folder_fails_and_cleans_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        create_dir_all(path.join("inner")).unwrap();
        let error = write_bytes_atomic(&path, b"x").unwrap_err();
        assert!(matches!(error, ArtifactError::Write { .. }), "{error:?}");
        assert_eq!(names(dir.path()), ["taken"]);
    }

    #[test]
    fn errors_name_the_path() {
        let missing = Path::new("no/such/folder/file.bin");
        for error in [
            read_bytes(missing).unwrap_err(),
            write_bytes_atomic(missing, b"x").unwrap_err(),
        ] {
            assert!(error.to_string().contains("no/such/folder/file.bin"));
        }
        let error = write_bytes_atomic("/", b"x").unwrap_err();
        assert!(matches!(error, ArtifactError::NoFileName { .. }));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        write_bytes_atomic(&file, b"x").unwrap();
        let error = create_dir_all(file.join("below")).unwrap_err();
        assert!(matches!(error, ArtifactError::Create { .. }));
    }

    #[test]
    fn threads_writing_one_file_never_mix() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shared.bin");
        std::thread::scope(|scope| {
            for byte in 0..8u8 {
                let path = &path;
                scope.spawn(move || write_bytes_atomic(path, &[byte; 4096]).unwrap());
            }
        });
        let bytes = read_bytes(&path).unwrap();
        assert_eq!(bytes.len(), 4096);
        assert!(bytes.iter().all(|&byte| byte == bytes[0]));
        assert_eq!(names(dir.path()), ["shared.bin"]);
    }

    #[test]
    fn what_is_finished_takes_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let (part, whole) = (dir.path().join("a.part"), dir.path().join("a"));
        fs::write(&part, b"new").unwrap();
        fs::write(&whole, b"old").unwrap();
        finish(&part, &whole).unwrap();
        assert_eq!(read_bytes(&whole).unwrap(), b"new");
        assert_eq!(names(dir.path()), ["a"]);

        let folder = dir.path().join("folder");
        create_dir_all(dir.path().join("temp/inner")).unwrap();
        finish(dir.path().join("temp"), &folder).unwrap();
        assert_eq!(names(&folder), ["inner"]);

        // A folder in use is not replaced, and what was to replace it stays.
        create_dir_all(dir.path().join("temp")).unwrap();
        let error = finish(dir.path().join("temp"), &folder).unwrap_err();
        assert!(matches!(error, ArtifactError::Rename { .. }), "{error:?}");
        assert_eq!(names(&folder), ["inner"]);
        assert!(dir.path().join("temp").is_dir());
        let error = finish(dir.path().join("absent"), &whole).unwrap_err();
        assert!(error.to_string().contains("absent"), "{error}");
    }

    #[test]
    fn only_our_temporary_files_are_stale() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, _) = TempFile::beside(&dir.path().join("a.bin")).unwrap();
        for name in [
            ".a.tmp",
            "a.1.2.tmp",
            ".a.1.x.tmp",
            "..1.tmp",
            ".1.2.tmp",
            "a",
        ] {
            fs::write(dir.path().join(name), b"keep").unwrap();
        }
        fs::write(&ours.path, b"stale").unwrap();
        assert_eq!(
            remove_stale_temps(dir.path()).unwrap(),
            std::slice::from_ref(&ours.path)
        );
        assert_eq!(names(dir.path()).len(), 6);
        assert!(remove_stale_temps(dir.path()).unwrap().is_empty());

        let (a, _) = TempFile::beside(&dir.path().join("a.bin")).unwrap();
        let (b, _) = TempFile::beside(&dir.path().join("b.bin")).unwrap();
        let removed = remove_stale_temps_of(dir.path(), |name| name == "b.bin").unwrap();
        assert_eq!(removed, std::slice::from_ref(&b.path));
        assert!(a.path.exists());
    }

    #[test]
    fn a_temporary_file_of_a_process_with_the_same_number_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        let (first, _) = TempFile::beside(&path).unwrap();
        let counter: u64 = {
            let name = first.path.to_string_lossy().into_owned();
            name.rsplit('.').nth(1).unwrap().parse().unwrap()
        };
        // What another machine's process of this number would be writing, under the next names.
        let others: Vec<_> = (counter + 1..counter + 100)
            .map(|n| {
                dir.path()
                    .join(format!(".a.bin.{}.{n}.tmp", std::process::id()))
            })
            .collect();
        for other in &others {
            fs::write(other, b"theirs").unwrap();
        }
        write_bytes_atomic(&path, b"ours").unwrap();
        assert_eq!(read_bytes(&path).unwrap(), b"ours");
        for other in &others {
            assert_eq!(fs::read(other).unwrap(), b"theirs");
        }
    }
}

#[cfg(test)]
mod hashed_tests {
    use super::*;

    #[test]
    fn the_hash_of_what_was_written_is_the_hash_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let hash = write_atomic_hashed(&path, |writer| {
            writer.write_all(b"one ")?;
            writer.write_all(&vec![7; 3 * BUFFER])
        });
        assert_eq!(hash.unwrap(), Sha256Hex::hash_file(&path).unwrap());
        let full = write_atomic_hashed(&path, |_| Err(io::ErrorKind::StorageFull.into()));
        assert!(matches!(full, Err(ArtifactError::Full { .. })));
    }
}
