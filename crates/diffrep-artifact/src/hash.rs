//! Content hashes: of bytes, of files, and of values whatever the order of their keys.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{ArtifactError, json};

/// A writer that hashes what passes through it.
pub(crate) struct HashingWriter<'a> {
    inner: &'a mut dyn Write,
    hasher: Sha256,
}

impl<'a> HashingWriter<'a> {
    pub(crate) fn new(inner: &'a mut dyn Write) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
        }
    }

    pub(crate) fn finish(self) -> Sha256Hex {
        Sha256Hex::from_digest(&self.hasher.finalize())
    }
}

impl Write for HashingWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A SHA-256 hash as 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256Hex(String);

impl Sha256Hex {
    /// The hash of `bytes`.
    pub fn hash_bytes(bytes: &[u8]) -> Self {
        Self::from_digest(&Sha256::digest(bytes))
    }

    /// The hash of a file's content; the file is streamed, whatever its size.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::Read`] naming the file.
    pub fn hash_file(path: impl AsRef<Path>) -> Result<Self, ArtifactError> {
        let path = path.as_ref();
        let read_error = |source| ArtifactError::Read {
            path: path.to_path_buf(),
            source,
        };
        File::open(path)
            .and_then(Self::hash_reader)
            .map_err(read_error)
    }

    /// The hash of everything that `reader` gives until its end.
    ///
    /// # Errors
    ///
    /// The first error of `reader`.
    pub fn hash_reader(mut reader: impl Read) -> io::Result<Self> {
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 18];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(Self::from_digest(&hasher.finalize())),
                Ok(count) => hasher.update(&buffer[..count]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The hash of a value's canonical JSON: keys sorted, no white space.
    ///
    /// Two values that differ only in the order of their keys have the same hash.
    /// As everywhere in JSON, a float that is not finite counts as `null`.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::HashValue`] if the value cannot be expressed in JSON, for example a map
    /// whose keys are not texts or numbers.
    pub fn hash_json<T: Serialize + ?Sized>(value: &T) -> Result<Self, ArtifactError> {
        let text = json::canonical(value).map_err(|source| ArtifactError::HashValue { source })?;
        Ok(Self::hash_bytes(text.as_bytes()))
    }

    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits: enough for a person and for folder names.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }

    fn from_digest(digest: &[u8]) -> Self {
        use fmt::Write;

        let mut text = String::with_capacity(64);
        for byte in digest {
            write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        }
        Self(text)
    }
}

impl fmt::Display for Sha256Hex {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl TryFrom<String> for Sha256Hex {
    type Error = ArtifactError;

    fn try_from(text: String) -> Result<Self, ArtifactError> {
        let valid =
            text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if valid {
            Ok(Self(text))
        } else {
            Err(ArtifactError::NotAHash { text })
        }
    }
}

impl FromStr for Sha256Hex {
    type Err = ArtifactError;

    fn from_str(text: &str) -> Result<Self, ArtifactError> {
        Self::try_from(text.to_owned())
    }
}

impl From<Sha256Hex> for String {
    fn from(hash: Sha256Hex) -> Self {
        hash.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // FIPS 180-2, appendix B.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn known_hashes() {
        assert_eq!(Sha256Hex::hash_bytes(b"abc").as_str(), ABC);
        assert_eq!(Sha256Hex::hash_bytes(b"").as_str(), EMPTY);
        assert_eq!(Sha256Hex::hash_bytes(b"abc").short(), &ABC[..12]);
    }

    #[test]
    fn a_file_longer_than_the_buffer_hashes_as_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long");
        let bytes: Vec<u8> = (0..700_001u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(
            Sha256Hex::hash_file(&path).unwrap(),
            Sha256Hex::hash_bytes(&bytes)
        );
        let error = Sha256Hex::hash_file(dir.path().join("absent")).unwrap_err();
        assert!(error.to_string().contains("absent"));
    }

    #[test]
    fn json_hash_ignores_key_order_and_sees_values() {
        #[derive(Serialize)]
        struct Ab {
            a: u8,
            b: Inner,
        }
        #[derive(Serialize)]
        struct Ba {
            b: Inner,
            a: u8,
        }
        #[derive(Serialize)]
        struct Inner {
            z: f64,
            y: &'static str,
        }
        let inner = |z| Inner { z, y: "é\"\n" };
        let first = Sha256Hex::hash_json(&Ab {
            a: 1,
            b: inner(0.5),
        })
        .unwrap();
        assert_eq!(
            first,
            Sha256Hex::hash_json(&Ba {
                a: 1,
                b: inner(0.5)
            })
            .unwrap()
        );
        assert_ne!(
            first,
            Sha256Hex::hash_json(&Ba {
                a: 2,
                b: inner(0.5)
            })
            .unwrap()
        );
        assert_ne!(
            first,
            Sha256Hex::hash_json(&Ba {
                a: 1,
                b: inner(0.25)
            })
            .unwrap()
        );
    }

    #[test]
    fn what_json_cannot_hold_is_an_error() {
        let map = std::collections::BTreeMap::from([((1, 2), 3)]);
        let error = Sha256Hex::hash_json(&map).unwrap_err();
        assert!(matches!(error, ArtifactError::HashValue { .. }));
    }

    #[test]
    fn only_hashes_parse() {
        assert_eq!(ABC.parse::<Sha256Hex>().unwrap().to_string(), ABC);
        for text in ["", "abc", &ABC.to_uppercase(), &format!("{ABC}0")] {
            assert!(text.parse::<Sha256Hex>().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Sha256Hex>("\"xyz\"").is_err());
        let json = serde_json::to_string(&Sha256Hex::hash_bytes(b"abc")).unwrap();
        assert_eq!(json, format!("\"{ABC}\""));
    }
}
