//! A checkpoint into a network: all of it or nothing.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, TensorData};
use diffrep_artifact::Sha256Hex;
use diffrep_unet::{UNet, UNetConfig, with_state_dict};

use crate::{ImportError, ImportReport, RawCheckpoint, check, require_complete, resolve};

/// A network read from a file.
#[derive(Debug)]
pub struct Imported {
    /// The network, in f32.
    pub network: UNet,
    /// Hash of the file's content: the encoder's identity in records and stores.
    pub sha256: Sha256Hex,
    /// What became of every tensor.
    pub report: ImportReport,
    /// Texts that the file carries beside its tensors (safetensors only).
    pub metadata: BTreeMap<String, String>,
}

/// Loads a checkpoint. Tensors are read one at a time, so that the file is never in memory beside
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
    let network = config.blank(device).map_err(|source| ImportError::Config {
        path: path.into(),
        source,
    })?;
    let (network, sha256) = std::thread::scope(|scope| {
        // Hashing takes as long as reading.
        let hash = scope.spawn(|| Sha256Hex::hash_file(path));
        let network = fill(network, &raw);
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
fn fill(network: UNet, raw: &RawCheckpoint) -> Result<UNet, ImportError> {
    let mut failed = None;
    let network = with_state_dict(network, |name| {
        if failed.is_some() {
            return None;
        }
        let data = raw.values(name);
        match data.and_then(|data| finite(raw.path(), name, data)) {
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
