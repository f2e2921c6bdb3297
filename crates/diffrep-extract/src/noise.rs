//! Where the noise of images comes from.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use diffrep_artifact::{Sha256Hex, read_bytes};
use safetensors::{Dtype, SafeTensors};

use crate::ExtractError;

/// The name of the tensor in a file of noise.
const TENSOR: &str = "noise";
/// How many of a file's tensors an error names.
const NAMED: usize = 3;

/// Where the noise of images comes from.
#[derive(Clone, Copy, Debug, Default)]
pub enum Noise<'a> {
    /// Drawn by seed, image, draw and timestep.
    #[default]
    Seeded,
    /// Zeros: a timestep only scales the image, by the square root of its cumulative alpha.
    Zero,
    /// From a file, the same at every timestep: what another program drew, to compare with it.
    Given(&'a NoiseFile),
}

/// Noise that a file holds, in memory.
#[derive(Clone, Debug)]
pub struct NoiseFile {
    path: PathBuf,
    sha256: Sha256Hex,
    /// `[rows, channels, height, width]`
    shape: [usize; 4],
    values: Vec<f32>,
}

impl NoiseFile {
    /// Reads the f32 tensor `noise`, `[n, channels, height, width]`, of a safetensors file. Row `i * draws + k`
    /// is draw k of image i.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, has no such tensor, or a value is not finite.
    pub fn open(path: &Path) -> Result<Self, ExtractError> {
        let refuse = |reason: String| ExtractError::NoiseFile {
            path: path.into(),
            reason,
        };
        let bytes = read_bytes(path)?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| refuse(error.to_string()))?;
        let tensor = file.tensor(TENSOR).map_err(|_| {
            let mut names = file.names();
            names.sort_unstable();
            let more = match names.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            names.truncate(NAMED);
            refuse(format!(
                "it has no tensor `{TENSOR}`, but `{}`{more}",
                names.join("`, `")
            ))
        })?;
        let &[rows, channels, height, width] = tensor.shape() else {
            return Err(refuse(format!(
                "`{TENSOR}` has shape {:?}; [n, channels, height, width] is wanted",
                tensor.shape()
            )));
        };
        if tensor.dtype() != Dtype::F32 {
            let dtype = tensor.dtype();
            return Err(refuse(format!("`{TENSOR}` is {dtype:?}; F32 is wanted")));
        }
        let (words, _) = tensor.data().as_chunks::<4>();
        let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let row = at / (channels * height * width);
            return Err(refuse(format!("row {row} has a value that is not finite")));
        }
        Ok(Self {
            path: path.into(),
            sha256: Sha256Hex::hash_bytes(&bytes),
            shape: [rows, channels, height, width],
            values,
        })
    }

    /// The hash of the file.
    pub fn sha256(&self) -> &Sha256Hex {
        &self.sha256
    }

    /// That it has a row for each draw of each image.
    pub(crate) fn check_rows(&self, images: usize, draws: usize) -> Result<(), ExtractError> {
        if Some(self.shape[0]) == images.checked_mul(draws) {
            return Ok(());
        }
        Err(ExtractError::NoiseFile {
            path: self.path.clone(),
            reason: format!(
                "it has noise for {} rows where there are {images} images with {draws} draw{} each",
                self.shape[0],
                if draws == 1 { "" } else { "s" }
            ),
        })
    }

    /// Some rows, `[rows.len(), channels, height, width]`.
    ///
    /// # Errors
    ///
    /// When the noise has another shape than `shape`.
    pub(crate) fn batch(
        &self,
        rows: &[usize],
        shape: [usize; 3],
        device: &Device,
    ) -> Result<Tensor<4>, ExtractError> {
        let [_, channels, height, width] = self.shape;
        if [channels, height, width] != shape {
            return Err(ExtractError::NoiseFile {
                path: self.path.clone(),
                reason: format!(
                    "its noise has shape {:?} where the network takes {shape:?}",
                    [channels, height, width]
                ),
            });
        }
        let len = channels * height * width;
        let values: Vec<f32> = rows
            .iter()
            .flat_map(|&row| &self.values[row * len..(row + 1) * len])
            .copied()
            .collect();
        let data = TensorData::new(values, [rows.len(), channels, height, width]);
        Ok(Tensor::from_data(data, device))
    }
}
