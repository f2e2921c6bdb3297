//! A file that is not whole yet, and what is needed to go on with it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use diffrep_artifact::{read_json, write_json_atomic};
use serde::{Deserialize, Serialize};

use crate::FetchError;
use crate::error::io_error;

/// The bytes that have arrived, in `NAME.part`, and whose bytes they are, in `NAME.part.json`.
///
/// A folder's lock is held while one of these exists.
#[derive(Debug)]
pub(crate) struct Part {
    path: PathBuf,
    note_path: PathBuf,
    note: Option<Note>,
    len: u64,
}

/// Which version of which address the bytes belong to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Note {
    /// The address in the catalogue, before redirects.
    pub(crate) url: String,
    /// The server's `ETag`, as sent.
    pub(crate) etag: Option<String>,
    /// The server's `Last-Modified`, as sent.
    pub(crate) last_modified: Option<String>,
    /// The size of the whole file in bytes, if the server told.
    pub(crate) total: Option<u64>,
}

impl Note {
    /// What to send as `If-Range`, so that a server whose file has changed sends all of it.
    /// A weak `ETag` says nothing about bytes.
    pub(crate) fn validator(&self) -> Option<&str> {
        self.strong_etag().or(self.last_modified.as_deref())
    }

    /// Whether an answer with these headers is about another version of the file.
    pub(crate) fn contradicts(&self, answer: &Self) -> bool {
        match (self.strong_etag(), answer.strong_etag()) {
            (Some(ours), Some(theirs)) => ours != theirs,
            _ => matches!(
                (&self.last_modified, &answer.last_modified),
                (Some(ours), Some(theirs)) if ours != theirs
            ),
        }
    }

    fn strong_etag(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| etag.starts_with('"'))
    }
}

impl Part {
    /// Finds what an earlier run left for the file `path` from `url`.
    ///
    /// Bytes without a note, of another address, or beyond the end are of no use and are removed.
    pub(crate) fn open(path: &Path, url: &str) -> Result<Self, FetchError> {
        let with_suffix = |suffix: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        let mut part = Self {
            path: with_suffix(".part"),
            note_path: with_suffix(".part.json"),
            note: None,
            len: 0,
        };
        let found = match fs::symlink_metadata(&part.path) {
            Ok(found) if found.is_file() => Some(found.len()),
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io_error(&part.path, "opened")(error)),
        };
        // A note that cannot be read is as good as none.
        let note = read_json::<Note>(&part.note_path).ok();
        match (found, note) {
            (Some(len), Some(note)) if note.url == url && note.total.is_none_or(|t| len <= t) => {
                part.len = len;
                part.note = Some(note);
            }
            _ => part.discard()?,
        }
        Ok(part)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes have arrived.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn note(&self) -> Option<&Note> {
        self.note.as_ref()
    }

    /// Whether every byte has arrived, going by the size that the server told or the `published`
    /// one. A file of no bytes is whole once the server has been asked for it.
    pub(crate) fn is_whole(&self, published: Option<u64>) -> bool {
        let Some(note) = &self.note else {
            return false;
        };
        note.total.or(published) == Some(self.len)
    }

    /// Removes the bytes and the note.
    pub(crate) fn discard(&mut self) -> Result<(), FetchError> {
        self.note = None;
        self.len = 0;
        // The note goes first: bytes without one are never used.
        for path in [&self.note_path, &self.path] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error(path, "removed")(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Begins anew with no byte of the file that `note` describes.
    pub(crate) fn restart(&mut self, note: Note) -> Result<(), FetchError> {
        self.discard()?;
        File::create(&self.path).map_err(io_error(&self.path, "created"))?;
        self.renote(note)
    }

    /// Keeps the bytes and learns more about the file they belong to.
    pub(crate) fn renote(&mut self, note: Note) -> Result<(), FetchError> {
        write_json_atomic(&self.note_path, &note)?;
        self.note = Some(note);
        Ok(())
    }

    /// A writer behind the last byte.
    pub(crate) fn append(&mut self) -> Result<Appender<'_>, FetchError> {
        let file = File::options().append(true).open(&self.path);
        let file = file.map_err(io_error(&self.path, "opened"))?;
        Ok(Appender {
            file,
            path: &self.path,
            len: &mut self.len,
        })
    }

    /// Removes the note once the file has its final name.
    pub(crate) fn remove_note(&self) -> Result<(), FetchError> {
        fs::remove_file(&self.note_path).map_err(io_error(&self.note_path, "removed"))
    }
}

/// Writes behind the last byte of a [`Part`] and keeps count.
pub(crate) struct Appender<'a> {
    file: File,
    path: &'a Path,
    len: &'a mut u64,
}

impl Appender<'_> {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<u64, FetchError> {
        // After a failed write the length on the disk is unknown; the next run reads it there.
        let written = self.file.write_all(bytes);
        written.map_err(io_error(self.path, "written"))?;
        *self.len += bytes.len() as u64;
        Ok(*self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(etag: Option<&str>, last_modified: Option<&str>) -> Note {
        Note {
            url: "http://host/a".into(),
            etag: etag.map(Into::into),
            last_modified: last_modified.map(Into::into),
            total: Some(4),
        }
    }

    #[test]
    fn bytes_are_found_again_with_their_note() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tgz");
        let mut part = Part::open(&path, "http://host/a").unwrap();
        assert!(!part.is_whole(Some(0)), "there is no file yet");
        part.restart(note(Some("\"1\""), None)).unwrap();
        part.append().unwrap().write(b"abc").unwrap();
        assert!(!part.is_whole(Some(4)));
        let mut again = Part::open(&path, "http://host/a").unwrap();
        assert_eq!((again.len(), again.note()), (3, part.note()));
        assert_eq!(again.append().unwrap().write(b"d").unwrap(), 4);
        assert!(again.is_whole(None));
        assert_eq!(fs::read(dir.path().join("a.tgz.part")).unwrap(), b"abcd");
    }

    #[test]
    fn bytes_that_cannot_be_trusted_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let (bytes, json) = (dir.path().join("a.part"), dir.path().join("a.part.json"));
        let good = serde_json_of(&note(Some("\"1\""), None));
        for (content, text) in [
            ("abc", good.replace("host", "elsewhere")),
            ("abcde", good.clone()),
            ("abc", "{}".into()),
            ("abc", "\u{0}".into()),
        ] {
            fs::write(&bytes, content).unwrap();
            fs::write(&json, &text).unwrap();
            assert_eq!(
                Part::open(&path, "http://host/a").unwrap().len(),
                0,
                "{text}"
            );
            assert!(!bytes.exists() && !json.exists());
        }
        fs::write(&bytes, "abc").unwrap();
        fs::write(&json, good).unwrap();
        assert_eq!(Part::open(&path, "http://host/a").unwrap().len(), 3);
    }

    /// The note as it lies on disk.
    fn serde_json_of(note: &Note) -> String {
        let dir = tempfile::tempdir().unwrap();
        write_json_atomic(dir.path().join("n"), note).unwrap();
        fs::read_to_string(dir.path().join("n")).unwrap()
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("precious");
        fs::write(&target, "keep").unwrap();
        std::os::unix::fs::symlink(&target, dir.path().join("a.part")).unwrap();
        let mut part = Part::open(&dir.path().join("a"), "http://host/a").unwrap();
        part.restart(note(None, None)).unwrap();
        part.append().unwrap().write(b"abc").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"keep");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_told_as_one() {
        let path = Path::new("a.part");
        let mut len = 0;
        let file = File::options().write(true).open("/dev/full").unwrap();
        let mut appender = Appender {
            file,
            path,
            len: &mut len,
        };
        let error = appender.write(b"abc").unwrap_err();
        assert!(matches!(error, FetchError::Full { .. }), "{error:?}");
        assert!(
            error.to_string().contains("a.part; free some space"),
            "{error}"
        );
        assert_eq!(len, 0, "nothing was written");
    }

    #[test]
    fn only_strong_tags_tell_versions_apart() {
        let date = Some("Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(note(Some("\"1\""), date).validator(), Some("\"1\""));
        assert_eq!(note(Some("W/\"1\""), date).validator(), date);
        assert_eq!(note(Some("W/\"1\""), None).validator(), None);
        assert!(note(Some("\"1\""), date).contradicts(&note(Some("\"2\""), date)));
        assert!(!note(Some("\"1\""), date).contradicts(&note(Some("\"1\""), None)));
        assert!(note(None, date).contradicts(&note(Some("\"2\""), Some("other"))));
        assert!(!note(None, None).contradicts(&note(Some("\"2\""), date)));
    }
}
