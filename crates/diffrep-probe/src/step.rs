//! Finished steps: records on disk under the hash of all that determined them.

use std::path::{Path, PathBuf};

use diffrep_artifact::{Sha256Hex, create_dir_all, read_json, write_json_atomic};
use diffrep_train::metrics;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{ProbeError, Progress};

/// Characters of a step's key in the name of its file, so that experiments share a folder.
const KEY_IN_NAME: usize = 12;

/// A step as it lies on disk.
#[derive(Serialize, Deserialize)]
struct Step<T> {
    /// Hash of everything that determined `result`.
    key: Sha256Hex,
    result: T,
}

/// What a step is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepKey {
    /// Its name, a part of its file's.
    pub name: String,
    /// Hash of everything that determines its result.
    pub key: Sha256Hex,
}

impl StepKey {
    /// The step of a name; `determines` is all that its result depends on.
    ///
    /// # Errors
    ///
    /// When that cannot be written as JSON.
    pub fn new(name: impl Into<String>, determines: &impl Serialize) -> Result<Self, ProbeError> {
        Ok(Self {
            name: name.into(),
            key: Sha256Hex::hash_json(determines)?,
        })
    }

    /// Where its result lies in `dir`, which may be there or not.
    pub fn path(&self, dir: &Path) -> PathBuf {
        let short = &self.key.to_string()[..KEY_IN_NAME];
        dir.join("steps")
            .join(format!("{}-{short}.json", self.name))
    }

    /// The result that an earlier run left in `dir`. One of other settings, or one that cannot be read, is
    /// none, with a warning.
    pub fn read<T: DeserializeOwned>(&self, dir: &Path) -> Option<T> {
        let path = self.path(dir);
        if !path.exists() {
            return None;
        }
        let found: Result<Step<T>, _> = read_json(&path);
        match found {
            Ok(step) if step.key == self.key => return Some(step.result),
            Ok(_) => {
                tracing::warn!("{} is of other settings and is done again", path.display());
            }
            Err(error) => tracing::warn!("{error}; the step is done again"),
        }
        None
    }
}

/// The result of a step that an earlier run finished under the same key, or else what `compute` makes, which
/// is kept as `dir/steps/NAME-KEY.json`.
///
/// # Errors
///
/// When `compute` fails, or the result cannot be written.
pub fn step<T: Serialize + DeserializeOwned, E: From<ProbeError>>(
    dir: &Path,
    key: &StepKey,
    on: &mut (dyn FnMut(Progress<'_>) + Send),
    compute: impl FnOnce(&mut (dyn FnMut(Progress<'_>) + Send)) -> Result<T, E>,
) -> Result<T, E> {
    if let Some(result) = key.read(dir) {
        on(Progress::Skipped { name: &key.name });
        return Ok(result);
    }
    let short = &key.key.to_string()[..KEY_IN_NAME];
    let span = metrics::training(&format!("{}-{short}", key.name));
    let result = compute(on)?;
    drop(span);
    create_dir_all(dir.join("steps")).map_err(ProbeError::from)?;
    let step = Step {
        key: key.key.clone(),
        result,
    };
    write_json_atomic(key.path(dir), &step).map_err(ProbeError::from)?;
    Ok(step.result)
}
