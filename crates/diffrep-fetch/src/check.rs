//! Whether a file is the one that was published.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use diffrep_artifact::Sha256Hex;
use md5::{Digest, Md5};

use crate::error::io_error;
use crate::{FetchError, KnownFile, Progress, Stage};

/// A file that is right as far as anyone can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its size in bytes.
    pub bytes: u64,
    /// Its hash, computed from what lies on the disk.
    pub sha256: Sha256Hex,
    /// What it was compared with.
    pub by: Evidence,
}

/// What a file was compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The published SHA-256.
    Sha256,
    /// The published MD5: whole, but not proof against a forger.
    Md5,
    /// The published size alone: unverified.
    Size,
    /// Nothing was published to compare with: unverified.
    Nothing,
}

impl Evidence {
    /// Whether a published hash agreed.
    pub fn is_verified(self) -> bool {
        matches!(self, Self::Sha256 | Self::Md5)
    }
}

/// Compares the file at `path` with what is known about it; `hint` says what to do if it differs.
pub(crate) fn check(
    path: &Path,
    known: &KnownFile,
    hint: &'static str,
    on_progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Checked, FetchError> {
    let file = File::open(path).map_err(io_error(path, "opened"))?;
    let bytes = file.metadata().map_err(io_error(path, "opened"))?.len();
    if let Some(expected) = known.bytes.filter(|expected| *expected != bytes) {
        return Err(FetchError::WrongSize {
            path: path.into(),
            expected,
            found: bytes,
            hint,
        });
    }
    let mut md5 = known.md5.map(|_| Md5::new());
    let mut seen = 0;
    let reader = Watched {
        inner: file,
        on_bytes: |chunk: &[u8]| {
            if let Some(md5) = &mut md5 {
                md5.update(chunk);
            }
            seen += chunk.len() as u64;
            on_progress(Progress {
                file: known.name,
                stage: Stage::Check,
                bytes: seen,
                total: Some(bytes),
                resumed_from: 0,
            });
        },
    };
    let sha256 = Sha256Hex::hash_reader(reader).map_err(io_error(path, "read"))?;
    let differs = |algorithm, expected, found| FetchError::WrongHash {
        path: path.into(),
        algorithm,
        expected,
        found,
        hint,
    };
    if let Some(expected) = known.sha256.filter(|expected| *expected != sha256.as_str()) {
        return Err(differs("SHA-256", expected, sha256.to_string()));
    }
    let md5 = md5.map(|md5| format!("{:x}", md5.finalize()));
    if let (Some(expected), Some(found)) = (known.md5, md5)
        && expected != found
    {
        return Err(differs("MD5", expected, found));
    }
    Ok(Checked {
        bytes,
        sha256,
        by: evidence(known),
    })
}

/// The strongest that there is to compare with.
fn evidence(known: &KnownFile) -> Evidence {
    match (known.sha256, known.md5, known.bytes) {
        (Some(_), ..) => Evidence::Sha256,
        (None, Some(_), _) => Evidence::Md5,
        (None, None, Some(_)) => Evidence::Size,
        (None, None, None) => Evidence::Nothing,
    }
}

/// A reader that shows every chunk it passes on.
struct Watched<R, F> {
    inner: R,
    on_bytes: F,
}

impl<R: Read, F: FnMut(&[u8])> Read for Watched<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        (self.on_bytes)(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 1321, appendix A.5, and FIPS 180-2, appendix B.
    const MD5_ABC: &str = "900150983cd24fb0d6963f7d28e17f72";
    const SHA_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn check_abc(known: KnownFile) -> Result<Checked, FetchError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        std::fs::write(&path, b"abc").unwrap();
        check(&path, &known, "ask again", &mut |_| ())
    }

    const NOTHING: KnownFile = KnownFile {
        name: "abc",
        bytes: None,
        sha256: None,
        md5: None,
    };

    #[test]
    fn what_is_known_is_compared_and_named() {
        let bytes = Some(3);
        let (md5, sha256) = (Some(MD5_ABC), Some(SHA_ABC));
        for (known, by) in [
            (NOTHING, Evidence::Nothing),
            (KnownFile { bytes, ..NOTHING }, Evidence::Size),
            (KnownFile { md5, ..NOTHING }, Evidence::Md5),
            (
                KnownFile {
                    sha256,
                    md5,
                    ..NOTHING
                },
                Evidence::Sha256,
            ),
        ] {
            let checked = check_abc(known).unwrap();
            assert_eq!((checked.by, checked.bytes), (by, 3));
            assert_eq!(checked.sha256.as_str(), SHA_ABC, "computed in any case");
        }
        assert!(Evidence::Md5.is_verified() && !Evidence::Size.is_verified());
    }

    #[test]
    fn a_difference_shows_both_values() {
        let bytes = Some(4);
        let error = check_abc(KnownFile { bytes, ..NOTHING }).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("abc has 3 bytes, expected 4; ask again"),
            "{error}"
        );
        let wrong = "0123456789abcdef0123456789abcdef";
        let md5 = Some(wrong);
        let error = check_abc(KnownFile { md5, ..NOTHING })
            .unwrap_err()
            .to_string();
        assert!(error.contains(MD5_ABC) && error.contains(wrong), "{error}");
        // Both hashes count where both are known.
        let known = KnownFile {
            md5,
            sha256: Some(SHA_ABC),
            ..NOTHING
        };
        assert!(matches!(
            check_abc(known),
            Err(FetchError::WrongHash {
                algorithm: "MD5",
                ..
            })
        ));
    }
}
