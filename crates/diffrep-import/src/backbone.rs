//! Checkpoints of the networks that diffusion features are compared with.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, TensorData};
use diffrep_artifact::Sha256Hex;
use diffrep_backbones::{
    Backbone, BackboneConfig, Left, NamedTensor, Plan, named_tensors, plan, with_state_dict,
};

use crate::error::Misshapen;
use crate::load::finite;
use crate::{ImportError, RawCheckpoint, TensorInfo};

/// A network read from a file.
#[derive(Debug)]
pub struct ImportedBackbone {
    /// The network, in f32.
    pub network: Backbone,
    /// Hash of the file's content: the encoder's identity in records and stores.
    pub sha256: Sha256Hex,
    /// What stood before the names of the network's tensors in the file.
    pub prefix: String,
    /// Tensors of the file that were not loaded, such as projection heads, each with the reason.
    pub left: Vec<Left>,
    /// Tensors beside the wrapper that holds the weights, such as an optimiser's.
    pub ignored: Vec<String>,
    /// Texts that the file carries beside its tensors (safetensors only).
    pub metadata: BTreeMap<String, String>,
}

/// Loads a ResNet, a vision transformer, a diffusion transformer or the Inception network of FID from what torchvision, timm,
/// pytorch-fid, VISSL, SwAV, MoCo, DINO, MAE or CLIP published. Wrappers around the network are taken
/// off; a classifier is loaded if `config` has one and otherwise left.
///
/// # Errors
///
/// When the file cannot be read or is not a whole checkpoint, `config` does not fit together, a
/// tensor is missing, misshapen, not a float or not finite, or the file has tensors that nothing is
/// known about.
pub fn load_backbone(
    path: &Path,
    config: &BackboneConfig,
    device: &Device,
) -> Result<ImportedBackbone, ImportError> {
    let _span = tracing::info_span!("import", path = %path.display()).entered();
    let raw = RawCheckpoint::open(path)?;
    let blank = config
        .blank(device)
        .map_err(|source| ImportError::BackboneConfig {
            path: path.into(),
            source,
        })?;
    let tensors = named_tensors(&blank);
    let plan = check_backbone(&raw, config, &tensors)?;
    let wanted = by_key(&tensors);
    let (network, sha256) = std::thread::scope(|scope| {
        // Hashing takes as long as reading.
        let hash = scope.spawn(|| Sha256Hex::hash_file(path));
        let network = fill(blank, &raw, &wanted, &plan);
        let hash = hash.join().expect("hashing a file does not panic");
        Ok::<_, ImportError>((network?, hash?))
    })?;
    tracing::debug!(
        loaded = plan.sources.len(),
        left = plan.left.len(),
        "tensors"
    );
    Ok(ImportedBackbone {
        network,
        sha256,
        prefix: format!("{}{}", raw.prefix(), plan.prefix),
        left: plan.left,
        ignored: raw.ignored().to_vec(),
        metadata: raw.metadata().clone(),
    })
}

/// What loading `raw` into a network of these tensors would take and leave.
///
/// # Errors
///
/// When a tensor is missing, misshapen or not a float, or the file has tensors that nothing is known
/// about.
pub fn check_backbone(
    raw: &RawCheckpoint,
    config: &BackboneConfig,
    tensors: &[NamedTensor],
) -> Result<Plan, ImportError> {
    let names = raw.tensors().iter().map(|tensor| tensor.name.as_str());
    let plan = plan(names, tensors).map_err(|source| ImportError::NotThisBackbone {
        path: raw.path().into(),
        network: describe(config),
        source: Box::new(source),
    })?;
    let wanted = by_key(tensors);
    require_shapes(raw, config, &wanted, &plan)?;
    Ok(plan)
}

fn by_key(tensors: &[NamedTensor]) -> BTreeMap<String, NamedTensor> {
    let tensors = tensors.iter().cloned();
    tensors.map(|tensor| (tensor.key.clone(), tensor)).collect()
}

/// Every tensor to be read is a float of the right shape.
fn require_shapes(
    raw: &RawCheckpoint,
    config: &BackboneConfig,
    wanted: &BTreeMap<String, NamedTensor>,
    plan: &Plan,
) -> Result<(), ImportError> {
    let infos: BTreeMap<&str, &TensorInfo> = raw
        .tensors()
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor))
        .collect();
    let mut misshapen = Vec::new();
    for (key, sources) in &plan.sources {
        let parts: Vec<&TensorInfo> = sources.iter().map(|name| infos[name.as_str()]).collect();
        if let Some(part) = parts.iter().find(|part| !part.dtype.is_float()) {
            return Err(ImportError::Dtype {
                path: raw.path().into(),
                name: part.name.clone(),
                dtype: part.dtype,
                expected: "f32, f16, bf16 or f64",
            });
        }
        let expected = &wanted[key].shape;
        if !fits(&parts, expected) {
            misshapen.push(Misshapen {
                name: sources[0].clone(),
                found: parts[0].shape.clone(),
                expected: expected.clone(),
            });
        }
    }
    if misshapen.is_empty() {
        return Ok(());
    }
    Err(ImportError::Mismatch {
        path: raw.path().into(),
        network: describe(config),
        missing: Box::default(),
        unused: Box::default(),
        misshapen: misshapen.into(),
        hint: Box::default(),
    })
}

/// Whether parts make up a tensor when stacked along the first axis. A single one may lack axes of
/// length 1 in front.
fn fits(parts: &[&TensorInfo], expected: &[usize]) -> bool {
    fn bare(shape: &[usize]) -> &[usize] {
        let ones = shape.iter().take_while(|length| **length == 1).count();
        &shape[ones..]
    }
    match parts {
        [one] => bare(&one.shape) == bare(expected),
        parts => {
            let rest = |part: &&TensorInfo| part.shape.get(1..) == expected.get(1..);
            let mut lengths = parts.iter().map(|part| part.shape.first().copied());
            let length = lengths.try_fold(0usize, |sum, length| sum.checked_add(length?));
            parts.iter().all(rest) && length == expected.first().copied()
        }
    }
}

/// The network with all of the checkpoint's values, read one tensor at a time.
fn fill(
    network: Backbone,
    raw: &RawCheckpoint,
    wanted: &BTreeMap<String, NamedTensor>,
    plan: &Plan,
) -> Result<Backbone, ImportError> {
    let mut failed = None;
    let network = with_state_dict(network, |key| {
        if failed.is_some() {
            return None;
        }
        match values(raw, &plan.sources[key]) {
            Ok(values) => Some(TensorData::new(values, wanted[key].shape.clone())),
            Err(error) => {
                failed = Some(error);
                None
            }
        }
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(network),
    }
}

/// The values of tensors one after another.
fn values(raw: &RawCheckpoint, names: &[String]) -> Result<Vec<f32>, ImportError> {
    let mut all = Vec::new();
    for name in names {
        let data = finite(raw.path(), name, raw.values(name)?)?;
        let values = data
            .try_into_vec::<f32>()
            .expect("values that were converted to f32");
        match all.is_empty() {
            true => all = values,
            false => all.extend(values),
        }
    }
    Ok(all)
}

/// The network in words.
fn describe(config: &BackboneConfig) -> String {
    let preset = BackboneConfig::preset_names().iter().find(|name| {
        let known = BackboneConfig::preset(name);
        known.is_some_and(|known| known == config.clone().with_classes(None))
    });
    match (preset, config) {
        (Some(name), _) => (*name).into(),
        (None, BackboneConfig::ResNet(config)) => {
            format!("a ResNet with {:?} blocks", config.depths)
        }
        (None, BackboneConfig::ViT(config)) => format!("a ViT of {} blocks", config.depth),
        (None, BackboneConfig::Inception(_)) => "an Inception-v3".into(),
        (None, BackboneConfig::DiT(config)) => format!(
            "a diffusion transformer of {} blocks of width {}",
            config.depth, config.width
        ),
        (None, BackboneConfig::Mage(config)) => format!("MAGE of {} blocks", config.depth),
    }
}
