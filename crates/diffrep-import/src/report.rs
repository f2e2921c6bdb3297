//! What becomes of every tensor, told before a weight is read.

use std::collections::BTreeMap;

use diffrep_unet::UNetConfig;
use serde::Serialize;

use crate::arch::describe;
use crate::error::Misshapen;
use crate::names::wanted;
use crate::sniff::looks_like;
use crate::{ArchSource, Container, Dtype, ImportError, RawCheckpoint, infer};

/// What becomes of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Taken as it is.
    Applied,
    /// Converted to f32 from this type.
    Converted(Dtype),
    /// The network has it and the file does not.
    Missing,
    /// The file has it and the network does not.
    Unused,
    /// The network has it with this shape.
    Misshapen(Vec<usize>),
    /// It is not a floating point number.
    NotFloat(Dtype),
}

/// A tensor and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorReport {
    /// Key in the reference's state dict.
    pub name: String,
    /// Shape in the file, or in the network if the file lacks it.
    pub shape: Vec<usize>,
    /// What becomes of it.
    pub fate: Fate,
}

/// What an import does with every tensor of a file and every parameter of a network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImportReport {
    /// How the tensors lie in the file.
    pub container: Container,
    /// Who said what the architecture is.
    pub source: ArchSource,
    /// What was taken off the front of every name; empty if nothing.
    pub prefix: String,
    /// Tensors beside the wrapper that holds the weights.
    pub ignored: Vec<String>,
    /// Every tensor of the file and every parameter of the network, by name.
    pub tensors: Vec<TensorReport>,
}

impl ImportReport {
    /// How many tensors meet each fate: `applied`, `converted from f16`, `missing` and so on.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for tensor in &self.tensors {
            *counts.entry(tensor.fate.to_string()).or_insert(0) += 1;
        }
        counts
    }

    /// Whether every parameter of the network is in the file and nothing else is.
    pub fn is_complete(&self) -> bool {
        self.tensors
            .iter()
            .all(|tensor| matches!(tensor.fate, Fate::Applied | Fate::Converted(_)))
    }
}

impl std::fmt::Display for Fate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Applied => f.write_str("applied"),
            Self::Converted(from) => write!(f, "converted from {from}"),
            Self::Missing => f.write_str("missing"),
            Self::Unused => f.write_str("unused"),
            Self::Misshapen(_) => f.write_str("misshapen"),
            Self::NotFloat(_) => f.write_str("not a float"),
        }
    }
}

/// What loading `raw` into the network of `config` would do.
///
/// # Errors
///
/// When the configuration does not fit together. A report that is not complete is no error here.
pub fn check(
    raw: &RawCheckpoint,
    config: &UNetConfig,
    source: ArchSource,
) -> Result<ImportReport, ImportError> {
    let wanted = wanted(raw.dialect(), config).map_err(|source| ImportError::Config {
        path: raw.path().into(),
        source,
    })?;
    let mut wanted: BTreeMap<String, Vec<usize>> = wanted
        .into_iter()
        .flat_map(|parameter| parameter.parts)
        .collect();
    let mut tensors: Vec<TensorReport> = raw
        .tensors()
        .iter()
        .map(|tensor| {
            let fate = match (wanted.remove(&tensor.name), tensor.dtype) {
                (None, _) => Fate::Unused,
                (Some(expected), _) if expected != tensor.shape => Fate::Misshapen(expected),
                (Some(_), Dtype::F32) => Fate::Applied,
                (Some(_), dtype) if dtype.is_float() => Fate::Converted(dtype),
                (Some(_), dtype) => Fate::NotFloat(dtype),
            };
            TensorReport {
                name: tensor.name.clone(),
                shape: tensor.shape.clone(),
                fate,
            }
        })
        .collect();
    tensors.extend(wanted.into_iter().map(|(name, shape)| TensorReport {
        name,
        shape,
        fate: Fate::Missing,
    }));
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(ImportReport {
        container: raw.container(),
        source,
        prefix: raw.prefix().into(),
        ignored: raw.ignored().to_vec(),
        tensors,
    })
}

/// Nothing if the report is complete, else the error that [`load`](crate::load) would give.
///
/// # Errors
///
/// When a parameter is missing, unused, misshapen or not a float; the message names the first few
/// and says what the file looks like instead.
pub fn require_complete(
    raw: &RawCheckpoint,
    config: &UNetConfig,
    report: &ImportReport,
) -> Result<(), ImportError> {
    let (mut missing, mut unused, mut misshapen) = (Vec::new(), Vec::new(), Vec::new());
    for TensorReport { name, shape, fate } in &report.tensors {
        let name = name.clone();
        match fate {
            Fate::Applied | Fate::Converted(_) => {}
            Fate::Missing => missing.push(name),
            Fate::Unused => unused.push(name),
            Fate::Misshapen(expected) => {
                misshapen.push(Misshapen {
                    name,
                    found: shape.clone(),
                    expected: expected.clone(),
                });
            }
            Fate::NotFloat(dtype) => {
                let expected = "f32, f16, bf16 or f64";
                return Err(ImportError::Dtype {
                    path: raw.path().into(),
                    name,
                    dtype: *dtype,
                    expected,
                });
            }
        }
    }
    if report.is_complete() {
        return Ok(());
    }
    let hint = hint(raw, config, report);
    let network = describe(config);
    Err(ImportError::Mismatch {
        path: raw.path().into(),
        network,
        missing: missing.into(),
        unused: unused.into(),
        misshapen: misshapen.into(),
        hint: hint.into(),
    })
}

/// What the file looks like instead; nothing if most of it fits.
fn hint(raw: &RawCheckpoint, config: &UNetConfig, report: &ImportReport) -> String {
    let fits = |tensor: &&TensorReport| matches!(tensor.fate, Fate::Applied | Fate::Converted(_));
    let mostly = 2 * report.tensors.iter().filter(fits).count() > report.tensors.len();
    match (looks_like(raw.tensors()), infer(raw.path(), raw.tensors())) {
        (Some(other), _) if !mostly => format!("; it looks like {other}"),
        (None, Err(_)) if !mostly => "; its tensors are not those of an ADM network".into(),
        (_, Ok(found)) if describe(&found.config) != describe(config) => {
            format!("; its tensors look like {}", describe(&found.config))
        }
        _ => String::new(),
    }
}
