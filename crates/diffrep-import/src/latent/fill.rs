//! A blank network and a part's tensors: held to each other by name and shape, then joined.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use diffrep_latent::{Named, NamedTensor, named_tensors, with_state_dict};
use serde::Serialize;

use super::dialect::{Dialect, Meaning};
use super::weights::Weights;
use crate::error::Misshapen;
use crate::{Dtype, ImportError, TensorInfo};

/// Tensors that are not loaded, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Why.
    pub reason: &'static str,
    /// How many.
    pub tensors: usize,
}

/// What becomes of the tensors of a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LatentPart {
    /// Its name in words.
    pub part: &'static str,
    /// Its files.
    pub files: Vec<PathBuf>,
    /// Parameters of the network.
    pub parameters: usize,
    /// Tensors that are loaded.
    pub loaded: usize,
    /// How many of them are of which type; all are computed with in f32.
    pub dtypes: BTreeMap<Dtype, usize>,
    /// Tensors that are not.
    pub left_out: Vec<LeftOut>,
}

/// Where a parameter's values lie: a tensor, and which of so many parts of its first axis.
type Source = (String, usize, usize);

/// A blank network, with where each of its parameters comes from.
pub(super) struct Filling<M> {
    pub(super) part: LatentPart,
    blank: M,
    shapes: BTreeMap<String, Vec<usize>>,
    sources: BTreeMap<String, Source>,
}

impl<M: Named> Filling<M> {
    /// # Errors
    ///
    /// When a tensor is missing, misshapen, not a float, or nothing is known about it.
    pub(super) fn new(
        part: &'static str,
        blank: M,
        weights: &Weights,
    ) -> Result<Self, ImportError> {
        let wanted = named_tensors(&blank);
        let matched = matched(
            part,
            weights.path(),
            &wanted,
            weights.tensors(),
            &weights.dialect,
        )?;
        let mut left_out = matched.left_out;
        left_out.extend(weights.passed_over.clone());
        let shapes: BTreeMap<_, _> = wanted
            .into_iter()
            .map(|tensor| (tensor.key, tensor.shape))
            .collect();
        Ok(Self {
            part: LatentPart {
                part,
                files: weights.files().map(Path::to_path_buf).collect(),
                parameters: shapes
                    .values()
                    .map(|shape| shape.iter().product::<usize>())
                    .sum(),
                loaded: matched.dtypes.values().sum(),
                dtypes: matched.dtypes,
                left_out,
            },
            blank,
            shapes,
            sources: matched.sources,
        })
    }
}

/// The network with the values of all its parameters.
///
/// # Errors
///
/// When a value cannot be read or is not finite.
pub(super) fn fill<M: Named>(filling: Filling<M>, weights: &Weights) -> Result<M, ImportError> {
    let Filling {
        blank,
        shapes,
        sources,
        ..
    } = filling;
    let mut failed = None;
    let network = with_state_dict(blank, |key| {
        if failed.is_some() {
            return None;
        }
        let (name, place, of) = &sources[key];
        match weights.values(name) {
            Err(error) => {
                failed = Some(error);
                None
            }
            Ok(data) => {
                let mut values = data.try_into_vec::<f32>().expect("values as f32");
                if *of > 1 {
                    let length = values.len() / of;
                    values = values[place * length..(place + 1) * length].to_vec();
                }
                Some(TensorData::new(values, shapes[key].clone()))
            }
        }
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(network),
    }
}

pub(super) struct Matched {
    pub(super) sources: BTreeMap<String, Source>,
    pub(super) dtypes: BTreeMap<Dtype, usize>,
    pub(super) left_out: Vec<LeftOut>,
}

/// Which tensor fills which parameter, every one of both accounted for.
pub(super) fn matched<'a>(
    part: &str,
    path: &Path,
    wanted: &[NamedTensor],
    tensors: impl Iterator<Item = (&'a str, &'a TensorInfo)>,
    dialect: &Dialect,
) -> Result<Matched, ImportError> {
    let shapes: BTreeMap<&str, &[usize]> = wanted
        .iter()
        .map(|tensor| (tensor.key.as_str(), tensor.shape.as_slice()))
        .collect();
    let mut sources = BTreeMap::new();
    let mut dtypes = BTreeMap::new();
    let mut left: BTreeMap<&'static str, usize> = BTreeMap::new();
    let (mut unused, mut misshapen) = (Vec::new(), Vec::new());
    for (name, info) in tensors {
        let keys = match dialect.meaning(name) {
            Meaning::Left(reason) => {
                *left.entry(reason).or_default() += 1;
                continue;
            }
            Meaning::Unknown => Vec::new(),
            Meaning::Parameter(key) => vec![key],
            Meaning::Stacked(keys) => keys,
        };
        let of = keys.len();
        let known = |key: &String| shapes.contains_key(key.as_str()) && !sources.contains_key(key);
        if of == 0 || !keys.iter().all(known) {
            unused.push(name.to_string());
            continue;
        }
        if !info.dtype.is_float() {
            return Err(ImportError::Dtype {
                path: path.into(),
                name: info.name.clone(),
                dtype: info.dtype,
                expected: "f32, f16, bf16 or f64",
            });
        }
        let mut expected = shapes[keys[0].as_str()].to_vec();
        expected[0] *= of;
        if bare(&info.shape) != bare(&expected) {
            misshapen.push(Misshapen {
                name: name.into(),
                found: info.shape.clone(),
                expected,
            });
        }
        *dtypes.entry(info.dtype).or_default() += 1;
        for (place, key) in keys.into_iter().enumerate() {
            sources.insert(key, (name.to_string(), place, of));
        }
    }
    let missing: Vec<String> = wanted
        .iter()
        .filter(|tensor| !sources.contains_key(&tensor.key))
        .map(|tensor| tensor.key.clone())
        .collect();
    if !(missing.is_empty() && unused.is_empty() && misshapen.is_empty()) {
        return Err(ImportError::Mismatch {
            path: path.into(),
            network: format!("the {part} that its configuration describes"),
            missing: missing.into(),
            unused: unused.into(),
            misshapen: misshapen.into(),
            hint: Box::default(),
        });
    }
    let left = left.into_iter();
    Ok(Matched {
        sources,
        dtypes,
        left_out: left
            .map(|(reason, tensors)| LeftOut { reason, tensors })
            .collect(),
    })
}

/// A shape without ones at its end: a 1x1 convolution has the values of a linear layer.
fn bare(shape: &[usize]) -> &[usize] {
    let ones = shape.iter().rev().take_while(|length| **length == 1);
    &shape[..shape.len() - ones.count()]
}
