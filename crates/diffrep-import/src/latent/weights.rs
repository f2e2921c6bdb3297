//! The tensors of one part of a model, in one file or several.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::TensorData;
use diffrep_artifact::read_json;
use serde::Deserialize;

use super::dialect::Dialect;
use super::fill::LeftOut;
use crate::{Container, ImportError, RawCheckpoint, TensorInfo};

/// Tensors by name, with how their names become those of the network.
#[derive(Debug)]
pub(super) struct Weights {
    /// The file or folder, for messages.
    path: PathBuf,
    files: Vec<Arc<RawCheckpoint>>,
    /// What stands before the names in the file.
    prefix: &'static str,
    /// Which file each tensor lies in, under its name without the prefix.
    tensors: BTreeMap<String, (usize, TensorInfo)>,
    pub(super) dialect: Dialect,
    /// Tensors of the file that belong to the part and are passed over.
    pub(super) passed_over: Option<LeftOut>,
}

/// What diffusers and transformers write beside weights in several files.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// The tensors of a part's folder, the first of the usual names that is there.
    ///
    /// # Errors
    ///
    /// When there are no weights, a file of several is missing, or one cannot be read.
    pub(super) fn in_folder(
        root: &Path,
        part: &'static str,
        stems: &[&str],
        dialect: Dialect,
    ) -> Result<Self, ImportError> {
        let folder = root.join(part);
        let names = stems.iter().flat_map(|stem| {
            let safetensors = [
                format!("{stem}.safetensors"),
                format!("{stem}.safetensors.index.json"),
            ];
            let torch = [format!("{stem}.bin"), format!("{stem}.bin.index.json")];
            let halves = [
                format!("{stem}.fp16.safetensors"),
                format!("{stem}.safetensors.index.fp16.json"),
                format!("{stem}.fp16.bin"),
            ];
            safetensors.into_iter().chain(torch).chain(halves)
        });
        let names: Vec<String> = names.collect();
        let Some(path) = names
            .iter()
            .map(|name| folder.join(name))
            .find(|path| path.is_file())
        else {
            return Err(ImportError::MissingPart {
                path: root.into(),
                part: format!("weights of the {part}"),
                expected: format!("{part}/{} or {part}/{}", names[0], names[2]),
            });
        };
        let files = match path.extension().is_some_and(|end| end == "json") {
            true => Self::shards(&folder, &path)?,
            false => vec![Arc::new(RawCheckpoint::open(&path)?)],
        };
        let mut tensors = BTreeMap::new();
        for (place, file) in files.iter().enumerate() {
            for tensor in file.tensors() {
                let name = tensor.name.clone();
                if tensors
                    .insert(name.clone(), (place, tensor.clone()))
                    .is_some()
                {
                    return Err(ImportError::Damaged {
                        path,
                        reason: format!("tensor `{name}` is in two of its files"),
                    });
                }
            }
        }
        Ok(Self {
            path: folder,
            files,
            prefix: "",
            tensors,
            dialect,
            passed_over: None,
        })
    }

    fn shards(folder: &Path, path: &Path) -> Result<Vec<Arc<RawCheckpoint>>, ImportError> {
        let index: Index = read_json(path)?;
        let names: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
        let damaged = |reason| ImportError::Damaged {
            path: path.into(),
            reason,
        };
        let mut files = Vec::new();
        let mut held = 0;
        for name in names {
            // A name that leads out of the folder is no file of it.
            let file = folder.join(name);
            if Path::new(name).components().count() != 1 || !file.is_file() {
                return Err(damaged(format!("it names {name}, which is not there")));
            }
            let raw = RawCheckpoint::open(&file)?;
            let lost = index.weight_map.iter().find(|(tensor, in_file)| {
                let key = tensor.as_str();
                let known = |info: &TensorInfo| info.name.as_str().cmp(key);
                *in_file == name && raw.tensors().binary_search_by(known).is_err()
            });
            if let Some((tensor, _)) = lost {
                return Err(damaged(format!("{name} has no tensor `{tensor}`")));
            }
            held += raw.tensors().len();
            files.push(Arc::new(raw));
        }
        match held == index.weight_map.len() {
            true => Ok(files),
            false => Err(damaged(format!(
                "it names {} tensors and its files have {held}",
                index.weight_map.len()
            ))),
        }
    }

    /// The tensors of a file whose names begin with `prefix`.
    pub(super) fn of_file(
        raw: &Arc<RawCheckpoint>,
        prefix: &'static str,
        dialect: Dialect,
    ) -> Self {
        let tensors = raw.tensors().iter().filter_map(|tensor| {
            let name = tensor.name.strip_prefix(prefix)?;
            Some((name.to_string(), (0, tensor.clone())))
        });
        Self {
            path: raw.path().into(),
            tensors: tensors.collect(),
            files: vec![Arc::clone(raw)],
            prefix,
            dialect,
            passed_over: None,
        }
    }

    /// The same, telling that tensors named `prefix`... belong to the part and are passed over.
    pub(super) fn passing_over(mut self, prefix: &str, reason: &'static str) -> Self {
        let names = self.files.iter().flat_map(|file| file.tensors());
        let tensors = names.filter(|info| info.name.starts_with(prefix)).count();
        self.passed_over = (tensors > 0).then_some(LeftOut { reason, tensors });
        self
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn container(&self) -> Container {
        self.files[0].container()
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path())
    }

    /// Names without the prefix, with what the files say.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        let tensors = self.tensors.iter();
        tensors.map(|(name, (_, info))| (name.as_str(), info))
    }

    /// A tensor's values as f32; `name` without the prefix.
    pub(super) fn values(&self, name: &str) -> Result<TensorData, ImportError> {
        let (file, _) = &self.tensors[name];
        let name = format!("{}{name}", self.prefix);
        let file = &self.files[*file];
        crate::load::finite(file.path(), &name, file.values(&name)?)
    }
}
