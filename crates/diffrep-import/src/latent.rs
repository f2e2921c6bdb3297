//! Stable Diffusion from a diffusers folder or from one file of the original release: all of it or
//! nothing.

mod config;
mod dialect;
mod fill;
mod folder;
mod infer;
mod single;
#[cfg(test)]
mod tests;
mod weights;

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use diffrep_artifact::Sha256Hex;
use diffrep_latent::{
    FirstStage, FirstStageConfig, Padding, TextConfig, TextEncoder, Tokenizer, UNet, UNetConfig,
};
use diffrep_schedule::Schedule;
use serde::Serialize;

use crate::{Container, ImportError, RawCheckpoint};
use fill::{Filling, fill};
use weights::Weights;

pub use config::read_unet_config;
pub use fill::{LatentPart, LeftOut};

/// What begins the names of the U-Net in a file of the original release.
const UNET_PREFIX: &str = "model.diffusion_model.";

/// Sizes and settings of a latent diffusion model, known before a weight is read.
#[derive(Clone, Debug, Serialize)]
pub struct LatentDescription {
    /// The U-Net.
    pub unet: UNetConfig,
    /// The VAE's encoder.
    pub first_stage: FirstStageConfig,
    /// The text encoder.
    pub text: TextConfig,
    /// What the network was trained to predict, as diffusers calls it; features do not depend on it.
    pub prediction: Option<String>,
    /// How the tensors lie in the file, or in the U-Net's files of a folder.
    pub container: Container,
    /// What becomes of the tensors of each part.
    pub parts: Vec<LatentPart>,
}

/// A latent diffusion model read from a folder or a file.
#[derive(Debug)]
pub struct ImportedLatent {
    /// What it is.
    pub description: LatentDescription,
    /// The U-Net, in f32.
    pub network: UNet,
    /// The VAE's encoder, in f32.
    pub first_stage: FirstStage,
    /// The text encoder, in f32.
    pub text: TextEncoder,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// What fills a text up.
    pub padding: Padding,
    /// The diffusion process of its training.
    pub schedule: Schedule,
    /// Hash of the content of all files that were read: the encoder's identity in records and stores.
    pub sha256: Sha256Hex,
}

/// What a model is beside its weights.
struct Setup {
    unet: UNetConfig,
    first_stage: FirstStageConfig,
    text: TextConfig,
    prediction: Option<String>,
    schedule: Schedule,
    tokenizer: Tokenizer,
    padding: Padding,
}

/// An open model: everything but the weights' values.
struct Open {
    path: PathBuf,
    setup: Setup,
    unet_weights: Weights,
    first_stage_weights: Weights,
    text_weights: Weights,
}

/// Whether a path looks like a latent diffusion model: a folder with a `unet` or a `model_index.json`
/// in it, or a file whose U-Net is named as in the original release.
pub fn is_latent(path: &Path) -> bool {
    if path.is_dir() {
        let pipeline = path.join("model_index.json").is_file() || path.join("unet").is_dir();
        return pipeline && !holds_unet2d(path);
    }
    path.is_file()
        && RawCheckpoint::open(path).is_ok_and(|raw| {
            let mut tensors = raw.tensors().iter();
            tensors.any(|tensor| tensor.name.starts_with(UNET_PREFIX))
        })
}

/// Whether the U-Net of a pipeline is a `UNet2DModel`, which works on pixels.
fn holds_unet2d(folder: &Path) -> bool {
    let configs = [
        folder.join("unet").join("config.json"),
        folder.join("config.json"),
    ];
    let config = configs.into_iter().find(|path| path.is_file());
    let class = |path: PathBuf| diffrep_artifact::read_json::<serde_json::Value>(path).ok();
    config
        .and_then(class)
        .is_some_and(|config| config["_class_name"] == "UNet2DModel")
}

/// The encoder of a VAE for latents of `latent_size` x `latent_size`: a folder of diffusers with an
/// `AutoencoderKL`, or a pipeline's with one as its `vae`. Beside it comes what stands for it in
/// records and stores.
///
/// # Errors
///
/// When there is none, its configuration is not of such a VAE or does not fit together, or a tensor is
/// missing, misshapen, not a float or not finite.
pub fn load_first_stage(
    folder: &Path,
    latent_size: usize,
    device: &Device,
) -> Result<(FirstStage, Sha256Hex), ImportError> {
    let part = match folder.join("vae").is_dir() {
        true => "vae",
        false => ".",
    };
    let path = folder.join(part).join("config.json");
    if !path.is_file() {
        return Err(ImportError::MissingPart {
            path: folder.into(),
            part: "VAE".into(),
            expected: "config.json of an AutoencoderKL, there or in vae/".into(),
        });
    }
    let mut config = config::first_stage(&path)?;
    config.image_size = latent_size * config.factor();
    let weights = Weights::in_folder(
        folder,
        part,
        &["diffusion_pytorch_model"],
        dialect::Dialect::FirstStage,
    )?;
    let blank = config
        .blank(device)
        .map_err(|source| ImportError::LatentConfig {
            path: folder.into(),
            source,
        })?;
    let filling = Filling::new("VAE encoder", blank, &weights)?;
    let files: Vec<PathBuf> = weights.files().map(Path::to_path_buf).collect();
    let identity = Sha256Hex::hash_json(&(sha256(&files)?, &config))?;
    Ok((fill(filling, &weights)?, identity))
}

/// Says what a latent diffusion model is and what loading it would do, without its values.
///
/// `arch` is a diffusers folder whose configurations, scheduler and tokenizer describe a file of the
/// original release that does not tell them itself; `image_size` the images' height and width in
/// pixels, else those of the training.
///
/// # Errors
///
/// As [`load_latent`], but for what only values show.
pub fn describe_latent(
    path: &Path,
    arch: Option<&Path>,
    image_size: Option<usize>,
    device: &Device,
) -> Result<LatentDescription, ImportError> {
    let open = Open::new(path, arch, image_size)?;
    let parts = vec![
        open.unet_filling(device)?.part,
        open.first_stage_filling(device)?.part,
        open.text_filling(device)?.part,
    ];
    Ok(open.describe(parts))
}

/// Loads Stable Diffusion 1.x or 2.x: a folder as `save_pretrained` of diffusers writes it
/// (safetensors or .bin, also in several files), or one file of the original release (.ckpt or
/// .safetensors). Tensors are read one at a time and converted to f32.
///
/// `arch` is a diffusers folder whose configurations, scheduler and tokenizer describe a file of the
/// original release that does not tell them itself; `image_size` the images' height and width in
/// pixels, else those of the training.
///
/// # Errors
///
/// When a part is missing, a configuration is not of such a model or does not fit together, the
/// parts do not fit each other, a tensor is missing, misshapen, not a float or not finite, or there
/// is one that nothing is known about.
pub fn load_latent(
    path: &Path,
    arch: Option<&Path>,
    image_size: Option<usize>,
    device: &Device,
) -> Result<ImportedLatent, ImportError> {
    let _span = tracing::info_span!("import", path = %path.display()).entered();
    let open = Open::new(path, arch, image_size)?;
    let (filled, sha256) = std::thread::scope(|scope| {
        // Hashing takes as long as reading.
        let files = open.files();
        let hash = scope.spawn(move || sha256(&files));
        let filled = open.fill(device);
        let hash = hash.join().expect("hashing files does not panic");
        Ok::<_, ImportError>((filled?, hash?))
    })?;
    let (network, first_stage, text, parts) = filled;
    Ok(ImportedLatent {
        description: open.describe(parts),
        network,
        first_stage,
        text,
        tokenizer: open.setup.tokenizer,
        padding: open.setup.padding,
        schedule: open.setup.schedule,
        sha256,
    })
}

impl Open {
    fn new(
        path: &Path,
        arch: Option<&Path>,
        image_size: Option<usize>,
    ) -> Result<Self, ImportError> {
        let mut open = match path.is_dir() {
            true => match arch {
                None => folder::open(path)?,
                Some(arch) => {
                    let reason = format!(
                        "{} is a folder that describes its networks itself; an architecture is for a single file",
                        path.display()
                    );
                    return Err(ImportError::Arch {
                        path: arch.into(),
                        reason,
                    });
                }
            },
            false => single::open(path, arch.map(folder::setup).transpose()?)?,
        };
        open.fit(image_size)?;
        Ok(open)
    }

    /// Holds the parts to each other, and sets the size.
    fn fit(&mut self, image_size: Option<usize>) -> Result<(), ImportError> {
        let misfit = |reason| ImportError::PartsMisfit {
            path: self.path.clone(),
            reason,
        };
        let (width, reads) = (
            self.setup.text.hidden_size,
            self.setup.unet.cross_attention_dim,
        );
        if width != reads {
            return Err(misfit(format!(
                "the text encoder's tokens have {width} numbers and the U-Net reads {reads}"
            )));
        }
        let (makes, takes) = (
            self.setup.first_stage.latent_channels,
            self.setup.unet.in_channels,
        );
        if makes != takes {
            return Err(misfit(format!(
                "the VAE's latents have {makes} channels and the U-Net takes {takes}{}",
                if takes == 2 * makes + 1 {
                    " (an inpainting model, which wants a mask beside the image)"
                } else {
                    ""
                }
            )));
        }
        let (has, knows) = (
            self.setup.tokenizer.vocabulary(),
            self.setup.text.vocab_size,
        );
        if has > knows {
            return Err(misfit(format!(
                "the tokenizer has {has} tokens and the text encoder knows {knows}"
            )));
        }
        let factor = self.setup.first_stage.factor();
        let size = image_size.unwrap_or(self.setup.unet.sample_size * factor);
        let step = factor * self.setup.unet.factor();
        if size == 0 || !size.is_multiple_of(step) {
            return Err(ImportError::ImageSize {
                path: self.path.clone(),
                size,
                step,
            });
        }
        self.setup.first_stage.image_size = size;
        self.setup.unet.sample_size = size / factor;
        Ok(())
    }

    fn describe(&self, parts: Vec<LatentPart>) -> LatentDescription {
        LatentDescription {
            unet: self.setup.unet.clone(),
            first_stage: self.setup.first_stage.clone(),
            text: self.setup.text.clone(),
            prediction: self.setup.prediction.clone(),
            container: self.unet_weights.container(),
            parts,
        }
    }

    fn config_error(&self) -> impl Fn(diffrep_latent::ConfigError) -> ImportError {
        let path = self.path.clone();
        move |source| ImportError::LatentConfig {
            path: path.clone(),
            source,
        }
    }

    fn unet_filling(&self, device: &Device) -> Result<Filling<UNet>, ImportError> {
        let blank = self.setup.unet.blank(device).map_err(self.config_error())?;
        Filling::new("U-Net", blank, &self.unet_weights)
    }

    fn first_stage_filling(&self, device: &Device) -> Result<Filling<FirstStage>, ImportError> {
        let blank = self.setup.first_stage.blank(device);
        let blank = blank.map_err(self.config_error())?;
        Filling::new("VAE encoder", blank, &self.first_stage_weights)
    }

    fn text_filling(&self, device: &Device) -> Result<Filling<TextEncoder>, ImportError> {
        let blank = self.setup.text.blank(device).map_err(self.config_error())?;
        Filling::new("text encoder", blank, &self.text_weights)
    }

    fn fill(
        &self,
        device: &Device,
    ) -> Result<(UNet, FirstStage, TextEncoder, Vec<LatentPart>), ImportError> {
        // Every part is held to its file before the first is read.
        let (unet, first) = (
            self.unet_filling(device)?,
            self.first_stage_filling(device)?,
        );
        let text = self.text_filling(device)?;
        let parts = vec![unet.part.clone(), first.part.clone(), text.part.clone()];
        Ok((
            fill(unet, &self.unet_weights)?,
            fill(first, &self.first_stage_weights)?,
            fill(text, &self.text_weights)?,
            parts,
        ))
    }

    /// All files with weights, in order.
    fn files(&self) -> Vec<PathBuf> {
        let weights = [
            &self.unet_weights,
            &self.first_stage_weights,
            &self.text_weights,
        ];
        let files = weights.into_iter().flat_map(Weights::files);
        let mut files: Vec<PathBuf> = files.map(Path::to_path_buf).collect();
        files.sort_unstable();
        files.dedup();
        files
    }
}

/// Of one file its own hash, of several that of theirs in order.
fn sha256(files: &[PathBuf]) -> Result<Sha256Hex, ImportError> {
    let hashes = files.iter().map(Sha256Hex::hash_file);
    let hashes = hashes.collect::<Result<Vec<_>, _>>()?;
    Ok(match hashes.as_slice() {
        [one] => one.clone(),
        all => Sha256Hex::hash_json(&all)?,
    })
}
