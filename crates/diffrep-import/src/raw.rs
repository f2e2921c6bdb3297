//! A checkpoint's tensors, read one at a time, whatever the container.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use burn::tensor::{Bytes, DType, TensorData};
use diffrep_artifact::{ArtifactError, Sha256Hex};
use pytorch_reader::PytorchReader;
use serde::Serialize;

use crate::error::known_names;
use crate::folder::{self, Described};
use crate::names::Dialect;
use crate::sniff::{Container, MAX_HEADER, sniff};
use crate::values::{Dtype, Inexact, to_f32};
use crate::{ImportError, PROCESS_KEY};

/// What a file says about a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorInfo {
    /// Its name, without what the file puts before every name.
    pub name: String,
    /// Type of its elements.
    pub dtype: Dtype,
    /// Its shape; empty for a scalar.
    pub shape: Vec<usize>,
}

/// An open checkpoint. Only names, types and shapes are in memory.
#[derive(Debug)]
pub struct RawCheckpoint {
    path: PathBuf,
    container: Container,
    tensors: Vec<TensorInfo>,
    metadata: BTreeMap<String, String>,
    prefix: String,
    ignored: Vec<String>,
    dialect: Dialect,
    described: Option<Described>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// The file and where each tensor's bytes begin and end in it.
    SafeTensors {
        file: File,
        ranges: BTreeMap<String, [u64; 2]>,
    },
    Torch(BTreeMap<String, pytorch_reader::Tensor>),
}

impl RawCheckpoint {
    /// Opens a checkpoint; the content decides how it is read, not the file's name. A folder is one
    /// that diffusers wrote, with the weights and the `config.json` of a U-Net or of a pipeline; its
    /// descriptions are also found beside a file of weights from there.
    ///
    /// A wrapper `state_dict` around the tensors and prefixes that all names share (`module.`,
    /// `model.`) are taken off. For a .pt file, only the pickle's tensors are read; no code in it runs.
    ///
    /// # Errors
    ///
    /// When the path cannot be read, does not hold a whole checkpoint, or lies beside a description
    /// of another kind of network.
    pub fn open(path: &Path) -> Result<Self, ImportError> {
        if !path.is_dir() {
            let mut raw = Self::open_file(path)?;
            if raw.dialect != Dialect::Reference {
                raw.describe()?;
            }
            return Ok(raw);
        }
        let mut raw = Self::open_file(&folder::weights(path)?)?;
        raw.describe()?;
        Ok(raw)
    }

    /// Takes up what stands beside the weights.
    fn describe(&mut self) -> Result<(), ImportError> {
        self.described = folder::described(&self.path)?;
        let process = self.described.as_ref().and_then(|found| found.process);
        if let Some(process) = process {
            let text = serde_json::to_string(&process).expect("a process is plain data");
            self.metadata.insert(PROCESS_KEY.into(), text);
        }
        Ok(())
    }

    fn open_file(path: &Path) -> Result<Self, ImportError> {
        let (file, container) = sniff(path)?;
        let mut metadata = BTreeMap::new();
        let (mut tensors, source) = match container {
            Container::SafeTensors => open_safetensors(path, file, &mut metadata)?,
            _ => open_torch(path)?,
        };
        if tensors.is_empty() {
            let found = "a checkpoint without tensors".into();
            return Err(ImportError::NotACheckpoint {
                path: path.into(),
                found,
            });
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        let prefix = common_prefix(tensors.iter().map(|tensor| tensor.name.as_str()));
        let mut ignored = Vec::new();
        tensors.retain_mut(|tensor| match tensor.name.strip_prefix(&prefix) {
            Some(rest) => {
                tensor.name = rest.into();
                true
            }
            None => {
                ignored.push(std::mem::take(&mut tensor.name));
                false
            }
        });
        Ok(Self {
            path: path.into(),
            container,
            dialect: Dialect::of(&tensors),
            tensors,
            metadata,
            prefix,
            ignored,
            described: None,
            source,
        })
    }

    /// Hash of the file's content, with what stands beside it where that decides what the weights
    /// mean: the encoder's identity in records and stores.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn sha256(&self) -> Result<Sha256Hex, ImportError> {
        identity(&self.path, self.described.as_ref())
    }

    /// Whose names its tensors have.
    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// What stands beside the weights.
    pub(crate) fn described(&self) -> Option<&Described> {
        self.described.as_ref()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How the tensors lie in the file.
    pub fn container(&self) -> Container {
        self.container
    }

    /// Every tensor, by name.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Texts that the file carries beside its tensors (safetensors only).
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// What was taken off the front of every name; empty if nothing.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Tensors beside the wrapper that holds the weights, such as an optimiser's.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// A tensor's values as f32, row-major. Floats are rounded; integers must be exact.
    ///
    /// # Errors
    ///
    /// When there is no such tensor, its bytes cannot be read, or they do not convert.
    pub fn values(&self, name: &str) -> Result<TensorData, ImportError> {
        let known = self
            .tensors
            .binary_search_by(|tensor| tensor.name.as_str().cmp(name));
        let Ok(position) = known else {
            return Err(ImportError::NoSuchTensor {
                path: self.path.clone(),
                name: name.into(),
                known: known_names(self.tensors.iter().map(|tensor| tensor.name.as_str())),
            });
        };
        let info = &self.tensors[position];
        let bytes = self.bytes(info)?;
        if cfg!(target_endian = "little")
            && info.dtype == Dtype::F32
            && bytes.len() == 4 * info.shape.iter().product::<usize>()
        {
            // Most of what is read: no second copy in memory. `from_bytes_vec` makes one of all that was not
            // allocated for the widest type, though allocators give large blocks no smaller alignment.
            let bytes = match bytes.as_ptr().cast::<f32>().is_aligned() {
                true => Bytes::from_elems(bytes),
                false => Bytes::from_bytes_vec(bytes),
            };
            return Ok(TensorData::from_bytes(
                bytes,
                info.shape.clone(),
                DType::F32,
            ));
        }
        let values = to_f32(&bytes, info.dtype).map_err(|reason| match reason {
            Inexact::NoConversion => ImportError::Dtype {
                path: self.path.clone(),
                name: name.into(),
                dtype: info.dtype,
                expected: "an integer or a float of 16 to 64 bits",
            },
            Inexact::Integer(value) => ImportError::NotExact {
                path: self.path.clone(),
                name: name.into(),
                value,
            },
        })?;
        if values.len() != info.shape.iter().product::<usize>() {
            let reason = format!(
                "tensor `{name}` has {} values for shape {:?}",
                values.len(),
                info.shape
            );
            return Err(ImportError::Damaged {
                path: self.path.clone(),
                reason,
            });
        }
        Ok(TensorData::new(values, info.shape.clone()))
    }

    /// A tensor's bytes, little-endian and row-major.
    fn bytes(&self, info: &TensorInfo) -> Result<Vec<u8>, ImportError> {
        let key = format!("{}{}", self.prefix, info.name);
        let damaged = |reason| ImportError::Damaged {
            path: self.path.clone(),
            reason,
        };
        let lost = || damaged(format!("tensor `{key}` is not where the file says"));
        match &self.source {
            Source::SafeTensors { file, ranges } => {
                let [begin, end] = *ranges.get(&key).ok_or_else(lost)?;
                // The header was held to the file's size, and so was this tensor's.
                let mut bytes = Vec::with_capacity((end - begin) as usize);
                let mut file = file;
                file.seek(SeekFrom::Start(begin))
                    .and_then(|_| file.take(end - begin).read_to_end(&mut bytes))
                    .map_err(|source| ArtifactError::Read {
                        path: self.path.clone(),
                        source,
                    })?;
                if bytes.len() as u64 == end - begin {
                    Ok(bytes)
                } else {
                    Err(lost())
                }
            }
            Source::Torch(tensors) => {
                let tensor = tensors.get(&key).ok_or_else(lost)?;
                let read = guarded(|| tensor.read()).map_err(damaged)?;
                read.map_err(|error| damaged(error.to_string()))
            }
        }
    }
}

/// What stands for a network in records and stores.
pub(crate) fn identity(
    weights: &Path,
    described: Option<&Described>,
) -> Result<Sha256Hex, ImportError> {
    let weights = Sha256Hex::hash_file(weights)?;
    Ok(match described {
        None => weights,
        Some(Described { config, process }) => Sha256Hex::hash_json(&(weights, config, process))?,
    })
}

/// Runs the .pt reader so that a panic in it, should a hostile file provoke one, is an error about
/// the file: this is the one place where bytes of unknown origin meet a parser that is not ours.
fn guarded<T>(read: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).map_err(|_| "its pickle confuses the reader".into())
}

fn open_torch(path: &Path) -> Result<(Vec<TensorInfo>, Source), ImportError> {
    let damaged = |reason| ImportError::Damaged {
        path: path.into(),
        reason,
    };
    let reader = guarded(|| PytorchReader::new(path))
        .map_err(damaged)?
        .map_err(|error| match error.to_string() {
            // Classes of a program's own modules are named so.
            text if text.contains("'__torch__.") => ImportError::TorchScript { path: path.into() },
            text => damaged(text),
        })?;
    let tensors: BTreeMap<_, _> = reader.into_tensors().into_iter().collect();
    let infos = tensors
        .iter()
        .map(|(name, tensor)| TensorInfo {
            name: name.clone(),
            dtype: tensor.dtype().into(),
            shape: tensor.shape().to_vec(),
        })
        .collect();
    Ok((infos, Source::Torch(tensors)))
}

/// Reads the header only: 8 bytes of length, then JSON, then the tensors' bytes without holes.
fn open_safetensors(
    path: &Path,
    mut file: File,
    metadata: &mut BTreeMap<String, String>,
) -> Result<(Vec<TensorInfo>, Source), ImportError> {
    let read_error = |source| ArtifactError::Read {
        path: path.into(),
        source,
    };
    let damaged = |reason| ImportError::Damaged {
        path: path.into(),
        reason,
    };
    let size = file.metadata().map_err(read_error)?.len();
    let mut length = [0; 8];
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.read_exact(&mut length))
        .map_err(read_error)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER || 8 + length > size {
        return Err(damaged(format!(
            "its header of {length} bytes does not fit a file of {size} bytes"
        )));
    }
    let mut text = Vec::new();
    (&file)
        .take(length)
        .read_to_end(&mut text)
        .map_err(read_error)?;
    let header: safetensors::tensor::Metadata = serde_json::from_slice(&text)
        .map_err(|error| damaged(format!("its header is not valid ({error})")))?;
    let announced = 8 + length + header.data_len() as u64;
    if announced != size {
        return Err(damaged(format!(
            "its header announces {announced} bytes and the file has {size}"
        )));
    }
    metadata.extend(header.metadata().clone().unwrap_or_default());
    let mut infos = Vec::new();
    let mut ranges = BTreeMap::new();
    for (name, info) in header.tensors() {
        let (begin, end) = info.data_offsets;
        ranges.insert(
            name.clone(),
            [begin, end].map(|offset| 8 + length + offset as u64),
        );
        infos.push(TensorInfo {
            name,
            dtype: info.dtype.into(),
            shape: info.shape.clone(),
        });
    }
    Ok((infos, Source::SafeTensors { file, ranges }))
}

/// What stands before the names of the weights: a wrapper `state_dict.` if any name has it, then
/// `module.` and `model.` for as long as all names share them.
fn common_prefix<'a>(names: impl Iterator<Item = &'a str> + Clone) -> String {
    let mut prefix = String::new();
    if names.clone().any(|name| name.starts_with("state_dict.")) {
        prefix.push_str("state_dict.");
    }
    loop {
        let weights = names.clone().filter_map(|name| name.strip_prefix(&prefix));
        let shared = ["module.", "model."].into_iter().find(|part| {
            weights
                .clone()
                .all(|name| name.len() > part.len() && name.starts_with(part))
        });
        match shared {
            Some(part) => prefix.push_str(part),
            None => return prefix,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_found_only_where_all_names_share_them() {
        let prefix = |names: &[&'static str]| common_prefix(names.iter().copied());
        assert_eq!(prefix(&["out.0.weight", "out.0.bias"]), "");
        assert_eq!(prefix(&["module.a", "module.b"]), "module.");
        assert_eq!(
            prefix(&["module.model.a", "module.model.b"]),
            "module.model."
        );
        assert_eq!(prefix(&["model.a", "b"]), "");
        assert_eq!(
            prefix(&["state_dict.module.a", "optimizer.b"]),
            "state_dict.module."
        );
    }

    #[test]
    fn a_panic_of_the_reader_is_an_error() {
        assert!(guarded(|| 1).is_ok());
        let outcome = guarded(|| std::panic::resume_unwind(Box::new("stop")));
        assert!(outcome.unwrap_err().contains("pickle"));
    }
}
