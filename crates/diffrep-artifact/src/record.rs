//! Result records: a result together with what produced it.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{ArtifactError, Sha256Hex, json, read_bytes, write_json_atomic};

/// A result and what produced it, as it lies on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record<T> {
    /// What kind of record this is, for example `diffrep-probe`.
    pub schema: String,
    /// The version of that kind; it changes whenever the fields do.
    pub version: u32,
    /// When the record was made, in seconds since 1970-01-01 UTC.
    pub created_unix: u64,
    /// What produced it.
    pub provenance: Provenance,
    /// The result.
    pub data: T,
}

/// What produced a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The version of diffrep.
    pub diffrep_version: String,
    /// The command line, one entry per argument.
    pub command: Vec<String>,
    /// The hash of the resolved configuration.
    pub config_sha256: Sha256Hex,
    /// The hash of the checkpoint, if one was used.
    pub checkpoint_sha256: Option<Sha256Hex>,
    /// The fingerprint of the data, if data was used.
    pub data_sha256: Option<Sha256Hex>,
    /// The seed, if anything random happened.
    pub seed: Option<u64>,
    /// The device, for example `flex` or `cuda:0 NVIDIA H100`.
    pub device: String,
    /// The machine.
    pub host: Host,
}

/// The machine a result was made on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The operating system, for example `linux`.
    pub os: String,
    /// The processor architecture, for example `x86_64`.
    pub arch: String,
    /// How many threads this process may run at once.
    pub cpus: usize,
}

impl Host {
    /// The machine this process runs on; `cpus` is 1 where the system does not tell.
    pub fn current() -> Self {
        Self {
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }
}

/// The present moment in seconds since 1970-01-01 UTC, 0 if the clock stands before that.
pub fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Writes a record; see [`write_json_atomic`].
///
/// # Errors
///
/// As [`write_json_atomic`].
pub fn write_record<T: Serialize>(
    path: impl AsRef<Path>,
    record: &Record<T>,
) -> Result<(), ArtifactError> {
    write_json_atomic(path, record)
}

/// Reads a record of the kind `schema` and of exactly `version`.
///
/// # Errors
///
/// [`ArtifactError::Schema`] or [`ArtifactError::Version`] if the file holds another kind or
/// version, [`ArtifactError::Json`] if it is no such record at all, [`ArtifactError::Read`] if it
/// cannot be read.
pub fn read_record<T: DeserializeOwned>(
    path: impl AsRef<Path>,
    schema: &str,
    version: u32,
) -> Result<Record<T>, ArtifactError> {
    /// The part that is the same in every version, read first: a record of another version would
    /// otherwise fail with a message about some field.
    #[derive(Deserialize)]
    struct Head {
        schema: String,
        version: u32,
    }

    let path = path.as_ref();
    let text = read_bytes(path)?;
    let head: Head = json::parse(path, &text)?;
    if head.schema != schema {
        return Err(ArtifactError::Schema {
            path: path.to_path_buf(),
            expected: schema.to_owned(),
            found: head.schema,
        });
    }
    if head.version != version {
        return Err(ArtifactError::Version {
            path: path.to_path_buf(),
            schema: head.schema,
            expected: version,
            found: head.version,
        });
    }
    json::parse(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Accuracy {
        top1: f64,
    }

    fn record() -> Record<Accuracy> {
        Record {
            schema: "test-accuracy".into(),
            version: 2,
            created_unix: 1_700_000_000,
            provenance: Provenance {
                diffrep_version: "0.1.0".into(),
                command: vec!["diffrep".into(), "probe".into()],
                config_sha256: Sha256Hex::hash_bytes(b"config"),
                checkpoint_sha256: None,
                data_sha256: Some(Sha256Hex::hash_bytes(b"data")),
                seed: Some(u64::MAX),
                device: "flex".into(),
                host: Host::current(),
            },
            data: Accuracy { top1: 0.875 },
        }
    }

    #[test]
    fn a_record_round_trips() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.json");
        write_record(&path, &record()).unwrap();
        assert_eq!(read_record(&path, "test-accuracy", 2).unwrap(), record());
    }

    #[test]
    fn another_kind_or_version_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.json");
        write_record(&path, &record()).unwrap();
        let error = read_record::<Accuracy>(&path, "test-loss", 2).unwrap_err();
        assert!(matches!(&error, ArtifactError::Schema { found, .. } if found == "test-accuracy"));
        // The version is checked before the fields, which a type of another version cannot match.
        let error = read_record::<String>(&path, "test-accuracy", 3).unwrap_err();
        assert!(matches!(
            error,
            ArtifactError::Version {
                expected: 3,
                found: 2,
                ..
            }
        ));
        assert!(error.to_string().contains("r.json"));
    }

    #[test]
    fn unknown_fields_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.json");
        for (from, to) in [
            ("\"version\"", "\"extra\": 1, \"version\""),
            ("\"device\"", "\"extra\": 1, \"device\""),
            ("\"cpus\"", "\"extra\": 1, \"cpus\""),
        ] {
            let text = serde_json::to_string(&record()).unwrap().replace(from, to);
            std::fs::write(&path, text).unwrap();
            let error = read_record::<Accuracy>(&path, "test-accuracy", 2).unwrap_err();
            let ArtifactError::Json { source, .. } = error else {
                panic!("{error:?}");
            };
            assert!(
                source.to_string().contains("unknown field `extra`"),
                "{source}"
            );
        }
    }

    #[test]
    fn the_clock_and_the_host_are_plausible() {
        assert!(unix_now() > 1_700_000_000);
        assert!(Host::current().cpus >= 1);
    }
}
