//! JSON files, and the canonical text of a value that its hash is taken from.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{ArtifactError, read_bytes, write_bytes_atomic};

/// Writes a value as indented JSON with a line break at the end; see
/// [`write_atomic`](crate::write_atomic).
///
/// JSON has no NaN and no infinity: such a float is written as `null`.
///
/// # Errors
///
/// [`ArtifactError::Encode`] if the value cannot be expressed in JSON, else as
/// [`write_atomic`](crate::write_atomic).
pub fn write_json_atomic<T: Serialize + ?Sized>(
    path: impl AsRef<Path>,
    value: &T,
) -> Result<(), ArtifactError> {
    let path = path.as_ref();
    let mut text = serde_json::to_vec_pretty(value).map_err(|source| ArtifactError::Encode {
        path: path.to_path_buf(),
        source,
    })?;
    text.push(b'\n');
    write_bytes_atomic(path, &text)
}

/// Reads a JSON file.
///
/// # Errors
///
/// [`ArtifactError::Read`] if the file cannot be read, [`ArtifactError::Json`] if it does not hold
/// a `T`.
pub fn read_json<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<T, ArtifactError> {
    let path = path.as_ref();
    parse(path, &read_bytes(path)?)
}

/// Parses `text`, which was read from `path`.
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<T, ArtifactError> {
    serde_json::from_slice(text).map_err(|source| ArtifactError::Json {
        path: path.to_path_buf(),
        source,
    })
}

/// The canonical JSON of a value: keys sorted by their bytes, no white space.
pub(crate) fn canonical<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    let mut text = String::new();
    append(&serde_json::to_value(value)?, &mut text)?;
    Ok(text)
}

/// Appends the canonical JSON of `value`. The keys are sorted here because the order inside
/// `serde_json::Map` depends on a feature that any crate of the build may switch on.
fn append(value: &Value, text: &mut String) -> Result<(), serde_json::Error> {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                append(item, text)?;
            }
            text.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| key.as_str());
            text.push('{');
            for (index, (key, item)) in entries.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&serde_json::to_string(key)?);
                text.push(':');
                append(item, text)?;
            }
            text.push('}');
        }
        leaf => text.push_str(&serde_json::to_string(leaf)?),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_text_is_sorted_and_dense() {
        let value: Value = serde_json::from_str(
            r#" { "b" : [ 1, 2.5, null ], "a\"" : { "d": "x", "c": true } } "#,
        )
        .unwrap();
        assert_eq!(
            canonical(&value).unwrap(),
            r#"{"a\"":{"c":true,"d":"x"},"b":[1,2.5,null]}"#
        );
    }

    #[test]
    fn json_files_round_trip_and_end_in_a_line_break() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.json");
        write_json_atomic(&path, &vec![1u8, 2]).unwrap();
        assert!(read_bytes(&path).unwrap().ends_with(b"]\n"));
        assert_eq!(read_json::<Vec<u8>>(&path).unwrap(), [1, 2]);
        let error = read_json::<String>(&path).unwrap_err();
        assert!(matches!(error, ArtifactError::Json { .. }));
        assert!(error.to_string().contains("v.json"));
    }

    #[test]
    fn a_value_json_cannot_hold_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.json");
        let map = std::collections::BTreeMap::from([((1, 2), 3)]);
        let error = write_json_atomic(&path, &map).unwrap_err();
        assert!(matches!(error, ArtifactError::Encode { .. }));
        assert!(!path.exists());
    }
}
