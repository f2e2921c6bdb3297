//! Networks and tensors to safetensors files, one tensor at a time and always the same bytes.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use diffrep_artifact::{Sha256Hex, write_atomic_hashed};
use diffrep_backbones::Backbone;
use diffrep_unet::UNet;
use half::{bf16, f16};
use serde::Serialize;

use crate::load::finite;
use crate::{ARCH_KEY, ImportError};

/// Type of the numbers in a written file. With a half type, the convolutions of a U-Net's blocks have it
/// and all else stays f32, as after the reference's `convert_to_fp16` (guided_diffusion/unet.py); of
/// another network all matrices and convolutions have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightDtype {
    /// 32 bits: what was computed with.
    #[default]
    F32,
    /// 16 bits: half the size, 11 bits of precision, at most 65504.
    F16,
    /// 16 bits: half the size, 8 bits of precision, the range of f32.
    Bf16,
}

impl WeightDtype {
    /// The type of the parameter with this key.
    fn of(self, key: &str) -> Self {
        let in_block = ["input_blocks.", "middle_block.", "output_blocks."]
            .iter()
            .any(|part| key.starts_with(part));
        let stays = ["in_layers.0.", "out_layers.0.", "norm.", "emb_layers."]
            .iter()
            .any(|part| key.contains(part));
        match in_block && !stays {
            true => self,
            false => Self::F32,
        }
    }
}

/// Writes a network as safetensors with the reference's names, atomically. `metadata` goes into the
/// header with the architecture under [`ARCH_KEY`]; the bytes depend on nothing else.
///
/// # Errors
///
/// When the file cannot be written, a weight is not finite, or it is too large for f16.
///
/// # Panics
///
/// When the network is [packed](UNet::packed).
pub fn write(
    path: &Path,
    network: &UNet,
    dtype: WeightDtype,
    metadata: &BTreeMap<String, String>,
) -> Result<Sha256Hex, ImportError> {
    assert!(
        !network.is_packed(),
        "the weights of a packed network are not in its parameters any more"
    );
    let entries = diffrep_unet::named_tensors(network)
        .into_iter()
        .map(|parameter| Entry {
            dtype: dtype.of(&parameter.key),
            name: parameter.key,
            shape: parameter.shape,
        })
        .collect();
    let arch = serde_json::to_string(network.config()).map_err(|error| unwritable(path, &error))?;
    let mut metadata = metadata.clone();
    metadata.insert(ARCH_KEY.into(), arch);
    write_module(path, network, entries, &metadata)
}

/// Writes a ResNet, a vision transformer or an Inception network as safetensors with the names of
/// torchvision, timm or pytorch-fid, atomically. The bytes depend on the network and `metadata` alone.
///
/// # Errors
///
/// When the file cannot be written, a weight is not finite, or it is too large for f16.
pub fn write_backbone(
    path: &Path,
    network: &Backbone,
    dtype: WeightDtype,
    metadata: &BTreeMap<String, String>,
) -> Result<Sha256Hex, ImportError> {
    let entries = diffrep_backbones::named_tensors(network)
        .into_iter()
        .map(|tensor| Entry {
            dtype: match tensor.shape.len() {
                // Biases, and what a normalisation multiplies by, adds and has measured.
                1 => WeightDtype::F32,
                _ => dtype,
            },
            name: tensor.key,
            shape: tensor.shape,
        })
        .collect();
    write_module(path, network, entries, metadata)
}

/// A tensor as it stands in a file.
struct Entry {
    name: String,
    shape: Vec<usize>,
    dtype: WeightDtype,
}

/// Writes the tensors of a network, which are listed in module order.
fn write_module<M: Module>(
    path: &Path,
    network: &M,
    entries: Vec<Entry>,
    metadata: &BTreeMap<String, String>,
) -> Result<Sha256Hex, ImportError> {
    let header = header(path, &entries, metadata)?;
    writing(path, |output| {
        output.write_all(&header)?;
        let mut visitor = Visitor {
            path,
            entries: entries.iter(),
            output,
            outcome: Ok(()),
        };
        network.visit(&mut visitor);
        visitor.outcome
    })
}

/// Writes named tensors as f32 safetensors, atomically, in the given order.
///
/// # Errors
///
/// When the file cannot be written or a value is not finite.
pub fn write_tensors(
    path: &Path,
    tensors: &[(String, TensorData)],
    metadata: &BTreeMap<String, String>,
) -> Result<Sha256Hex, ImportError> {
    let entries: Vec<Entry> = tensors
        .iter()
        .map(|(name, data)| Entry {
            name: name.clone(),
            shape: data.shape().to_vec(),
            dtype: WeightDtype::F32,
        })
        .collect();
    let header = header(path, &entries, metadata)?;
    writing(path, |output| {
        output.write_all(&header)?;
        for (name, data) in tensors {
            output.write_all(&encode(path, name, data.clone(), WeightDtype::F32)?)?;
        }
        Ok(())
    })
}

/// Writes a network's tensors in module order, and keeps the first failure.
struct Visitor<'a> {
    path: &'a Path,
    entries: std::slice::Iter<'a, Entry>,
    output: &'a mut dyn Write,
    outcome: Result<(), Failure>,
}

impl ModuleVisitor for Visitor<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let entry = self.entries.next().expect("an entry for each tensor");
        if self.outcome.is_ok() {
            let data = param.val().into_data();
            self.outcome = encode(self.path, &entry.name, data, entry.dtype)
                .map_err(Failure::from)
                .and_then(|bytes| Ok(self.output.write_all(&bytes)?));
        }
    }
}

/// What stops a file from being written: the disk, or the values.
enum Failure {
    Disk(io::Error),
    Values(ImportError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        Self::Values(error)
    }
}

/// Runs `write` on a file that appears whole or not at all, and hashes it.
fn writing(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
) -> Result<Sha256Hex, ImportError> {
    let mut refused = None;
    let written = write_atomic_hashed(path, |output| match write(output) {
        Ok(()) => Ok(()),
        Err(Failure::Disk(error)) => Err(error),
        Err(Failure::Values(error)) => {
            refused = Some(error);
            Err(io::ErrorKind::InvalidData.into())
        }
    });
    match refused {
        Some(error) => Err(error),
        None => Ok(written?),
    }
}

/// Little-endian values in the file's type.
fn encode(
    path: &Path,
    name: &str,
    data: TensorData,
    dtype: WeightDtype,
) -> Result<Vec<u8>, ImportError> {
    let data = finite(path, name, data.convert::<f32>())?;
    let values = data
        .as_slice::<f32>()
        .expect("values that were converted to f32");
    match dtype {
        WeightDtype::F32 => Ok(values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()),
        WeightDtype::Bf16 => Ok(values
            .iter()
            .flat_map(|&value| bf16::from_f32(value).to_le_bytes())
            .collect()),
        WeightDtype::F16 => {
            let mut bytes = Vec::with_capacity(2 * values.len());
            for &value in values {
                let half = f16::from_f32(value);
                if half.is_infinite() {
                    return Err(ImportError::Overflow {
                        path: path.into(),
                        name: name.into(),
                        value,
                    });
                }
                bytes.extend(half.to_le_bytes());
            }
            Ok(bytes)
        }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Header<'a> {
    Metadata(&'a BTreeMap<String, String>),
    Tensor {
        dtype: &'static str,
        shape: &'a [usize],
        data_offsets: [usize; 2],
    },
}

/// Length and JSON header of a safetensors file, padded so that the data is aligned to 8 bytes.
fn header(
    path: &Path,
    tensors: &[Entry],
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, ImportError> {
    let mut entries = BTreeMap::from([("__metadata__", Header::Metadata(metadata))]);
    let mut begin = 0;
    for Entry { name, shape, dtype } in tensors {
        let (dtype, size) = match dtype {
            WeightDtype::F32 => ("F32", 4),
            WeightDtype::F16 => ("F16", 2),
            WeightDtype::Bf16 => ("BF16", 2),
        };
        let end = begin + size * shape.iter().product::<usize>();
        entries.insert(
            name.as_str(),
            Header::Tensor {
                dtype,
                shape,
                data_offsets: [begin, end],
            },
        );
        begin = end;
    }
    let mut text = serde_json::to_vec(&entries).map_err(|error| unwritable(path, &error))?;
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok([(text.len() as u64).to_le_bytes().as_slice(), &text].concat())
}

fn unwritable(path: &Path, error: &serde_json::Error) -> ImportError {
    ImportError::Arch {
        path: path.into(),
        reason: error.to_string(),
    }
}
