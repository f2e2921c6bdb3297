//! A checkpoint into a network: all of it or nothing.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, TensorData};
use diffrep_artifact::Sha256Hex;
use diffrep_unet::{UNet, UNetConfig, with_state_dict};

use crate::names::{Wanted, wanted_by_key};
use crate::raw::identity;
use crate::{ImportError, ImportReport, RawCheckpoint, check, require_complete, resolve};

/// A network read from a file.
#[derive(Debug)]
pub struct Imported {
    /// The network, in f32.
    pub network: UNet,
    /// What [`RawCheckpoint::sha256`] says: the encoder's identity in records and stores.
    pub sha256: Sha256Hex,
    /// What became of every tensor.
    pub report: ImportReport,
    /// Texts that the file carries beside its tensors (safetensors only), and under
    /// [`PROCESS_KEY`](crate::PROCESS_KEY) what a folder says of the training.
    pub metadata: BTreeMap<String, String>,
}

/// Loads a checkpoint: a file, or a folder that diffusers wrote. Tensors are read one at a time, so that the file is never in memory beside
/// the network.
///
/// The architecture is `arch` if given, else what the file says, else what its tensors tell.
///
/// # Errors
///
/// When the file cannot be read or is not a whole checkpoint, the architecture is not determined,
/// a parameter is missing, unused, misshapen or not a float, or a weight is not finite.
pub fn load(
    path: &Path,
    arch: Option<UNetConfig>,
    device: &Device,
) -> Result<Imported, ImportError> {
    let _span = tracing::info_span!("import", path = %path.display()).entered();
    let raw = RawCheckpoint::open(path)?;
    let (config, source) = resolve(&raw, arch)?;
    let report = check(&raw, &config, source)?;
    require_complete(&raw, &config, &report)?;
    let config_error = |source| ImportError::Config {
        path: path.into(),
        source,
    };
    let network = config.blank(device).map_err(config_error)?;
    let wanted = wanted_by_key(raw.dialect(), &config).map_err(config_error)?;
    let (network, sha256) = std::thread::scope(|scope| {
        // Hashing takes as long as reading.
        let (path, described) = (raw.path().to_path_buf(), raw.described().cloned());
        let hash = scope.spawn(move || identity(&path, described.as_ref()));
        let network = fill(network, &raw, &wanted);
        let hash = hash.join().expect("hashing a file does not panic");
        Ok::<_, ImportError>((network?, hash?))
    })?;
    for (fate, count) in report.counts() {
        tracing::debug!(count, %fate, "tensors");
    }
    Ok(Imported {
        network,
        sha256,
        report,
        metadata: raw.metadata().clone(),
    })
}

/// The network with all of the checkpoint's values.
fn fill(
    network: UNet,
    raw: &RawCheckpoint,
    wanted: &BTreeMap<String, Wanted>,
) -> Result<UNet, ImportError> {
    let mut failed = None;
    let network = with_state_dict(network, |name| {
        if failed.is_some() {
            return None;
        }
        match values(raw, &wanted[name]) {
            Ok(data) => Some(data),
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

/// The values of a parameter.
fn values(raw: &RawCheckpoint, wanted: &Wanted) -> Result<TensorData, ImportError> {
    let part = |name: &String| finite(raw.path(), name, raw.values(name)?);
    if let [(name, shape)] = wanted.parts.as_slice()
        && *shape == wanted.shape
    {
        return part(name);
    }
    let mut all: Vec<f32> = Vec::with_capacity(wanted.shape.iter().product());
    for (name, _) in &wanted.parts {
        let values = part(name)?.try_into_vec::<f32>();
        all.extend(values.expect("values that were converted to f32"));
    }
    Ok(TensorData::new(all, wanted.shape.clone()))
}

/// f32 values if all of them are finite.
pub(crate) fn finite(path: &Path, name: &str, data: TensorData) -> Result<TensorData, ImportError> {
    let values = data
        .as_slice::<f32>()
        .expect("values that were converted to f32");
    // A chunk at a time, since a loop that may end at any value is not vectorised.
    let whole = |chunk: &[f32]| {
        chunk
            .iter()
            .fold(true, |whole, value| whole & value.is_finite())
    };
    if values.chunks(4096).all(whole) {
        return Ok(data);
    }
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(data),
        Some(position) => {
            let value = values[position];
            Err(ImportError::NotFinite {
                path: path.into(),
                name: name.into(),
                position,
                value,
            })
        }
    }
}
