//! The network that features are read from: a diffusion model, or one that it is compared with.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{Device, Tensor};
use clap::ValueEnum;
use diffrep_artifact::{Sha256Hex, read_json};
use diffrep_backbones::{Backbone, BackboneConfig, DiT, Normalised};
use diffrep_datasets::{Channels, Filter, Fit, Normalise, Preprocess};
use diffrep_extract::FirstStageInfo;
use diffrep_import::{
    ImportedLatent, RawCheckpoint, infer_dit, load_backbone, load_first_stage, load_latent,
};
use diffrep_latent::{FirstStageConfig, Latent, Latents};
use diffrep_plan::PlannedBackbone;
use diffrep_pretrain::{BackboneTraining, TrainingRecord};
use diffrep_rng::Key;
use diffrep_schedule::Schedule;
use diffrep_taps::{BlockIndex, Condition, Encoder, Feedback, TapInfo, TapSet, Taps};
use diffrep_unet::UNet;

use super::architecture::dit_arch;
use super::input::{FitArg, TRAINING_KEY};

/// What a backbone's pixels are shifted and scaled by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NormaliseArg {
    Imagenet,
    Clip,
    Half,
}

/// Any network that features are read from.
#[allow(clippy::large_enum_variant, reason = "a process has one or two")]
pub(crate) enum AnyEncoder {
    Diffusion(UNet),
    Latent(Latent<diffrep_latent::UNet>),
    DiT(Latent<DiT>),
    Backbone(Normalised<Backbone>),
}

impl Encoder for AnyEncoder {
    fn taps(&self) -> Vec<TapInfo> {
        match self {
            Self::Diffusion(network) => network.taps(),
            Self::Latent(network) => network.taps(),
            Self::DiT(network) => network.taps(),
            Self::Backbone(network) => network.taps(),
        }
    }

    fn first_stage(&self, image: Tensor<4>, keys: &[Key]) -> Tensor<4> {
        match self {
            Self::Diffusion(network) => network.first_stage(image, keys),
            Self::Latent(network) => network.first_stage(image, keys),
            Self::DiT(network) => network.first_stage(image, keys),
            Self::Backbone(network) => network.first_stage(image, keys),
        }
    }

    fn forward_taps(
        &self,
        image: Tensor<4>,
        condition: &Condition,
        wanted: &TapSet,
        feedback: Option<&Feedback>,
    ) -> Taps {
        match self {
            Self::Diffusion(network) => network.forward_taps(image, condition, wanted, feedback),
            Self::Latent(network) => network.forward_taps(image, condition, wanted, feedback),
            Self::DiT(network) => network.forward_taps(image, condition, wanted, feedback),
            Self::Backbone(network) => network.forward_taps(image, condition, wanted, feedback),
        }
    }
}

/// A backbone with what stands for it in a store's key, and how images become its input.
pub(crate) struct OpenBackbone {
    pub(crate) network: Normalised<Backbone>,
    pub(crate) name: String,
    pub(crate) preprocess: Preprocess,
}

impl OpenBackbone {
    /// Loads the network that an experiment names.
    pub(crate) fn planned(planned: &PlannedBackbone, device: &Device) -> Result<Self> {
        Self::load(&planned.backbone, &planned.checkpoint, None, None, device)
    }

    /// Loads a checkpoint as a known network, or as the one that a JSON file describes.
    pub(crate) fn load(
        kind: &str,
        checkpoint: &Path,
        normalise: Option<NormaliseArg>,
        fit: Option<FitArg>,
        device: &Device,
    ) -> Result<Self> {
        let config = described(kind)?;
        ensure!(
            !matches!(config, BackboneConfig::DiT(_)),
            "{kind} describes a diffusion transformer, which reads latents: it is no backbone for images"
        );
        let imported = load_backbone(checkpoint, &config, device)
            .with_context(|| format!("{} as {kind}", checkpoint.display()))?;
        let (size, channels) = imported.network.input();
        let trained = trained_here(&imported.metadata)?;
        let published = BackboneConfig::preset(kind).is_some() || trained.is_some();
        ensure!(
            published
                || normalise.is_some()
                || channels != 3
                || matches!(config, BackboneConfig::Mage(_)),
            "{kind} does not say what its network's pixels are shifted and scaled by: give --normalise"
        );
        let normalise = match normalise {
            Some(NormaliseArg::Imagenet) => Normalise::ImageNet,
            Some(NormaliseArg::Clip) => Normalise::Clip,
            Some(NormaliseArg::Half) => Normalise::UnitRange,
            // This project trains on -1 to 1.
            None if trained.is_some() => Normalise::UnitRange,
            // Inception takes -1 to 1, and MAGE brings those to what its tokenizer takes.
            None if matches!(
                config,
                BackboneConfig::Inception(_) | BackboneConfig::Mage(_)
            ) =>
            {
                Normalise::UnitRange
            }
            None if kind.starts_with("clip") => Normalise::Clip,
            None if channels == 3 => Normalise::ImageNet,
            None => Normalise::UnitRange,
        };
        ensure!(
            channels == 3 || normalise == Normalise::UnitRange,
            "--normalise {normalise:?} is for networks of 3 channels, this one has {channels}"
        );
        let mage = matches!(config, BackboneConfig::Mage(_));
        ensure!(
            !mage || normalise == Normalise::UnitRange,
            "--normalise {normalise:?} is not for MAGE, whose tokenizer takes pixels as they are"
        );
        // 256 for 224 pixels, as most evaluations have it; MAGE's own has 292 for 256.
        let (short_side, filter) = match mage {
            true => (size * 8 / 7, Filter::Bicubic),
            false => ((size * 8).div_ceil(7), Filter::Bilinear),
        };
        Ok(Self {
            name: format!(
                "{} as {}, {normalise:?}",
                imported.sha256,
                Sha256Hex::hash_json(&config)?.short()
            ),
            network: Normalised {
                encoder: imported.network.packed(),
                normalise,
            },
            preprocess: Preprocess {
                size,
                channels: super::input::channels(channels)?,
                fit: match (fit, trained) {
                    (Some(fit), _) => fit.into(),
                    (None, Some(trained)) => trained.config.preprocess.fit,
                    (None, None) => Fit::ResizeCrop { short_side, filter },
                },
            },
        })
    }
}

/// A diffusion transformer with its checkpoint's hash, as `arch` describes it or its tensors tell.
pub(crate) fn load_dit(
    checkpoint: &Path,
    arch: Option<&Path>,
    device: &Device,
) -> Result<(DiT, Sha256Hex)> {
    let config = match arch {
        Some(path) => dit_arch(path)?,
        None => infer_dit(&RawCheckpoint::open(checkpoint)?)?,
    };
    let imported = load_backbone(checkpoint, &BackboneConfig::DiT(config), device)?;
    let Backbone::DiT(network) = imported.network else {
        bail!("a diffusion transformer was asked for and another network came");
    };
    Ok((network, imported.sha256))
}

/// A diffusion transformer behind its VAE, with what stands for both in a store's key, and how images
/// become its input.
pub(crate) struct OpenDiT {
    pub(crate) network: Latent<DiT>,
    pub(crate) name: String,
    /// What makes its latents.
    pub(crate) first_stage: FirstStageInfo,
    pub(crate) preprocess: Preprocess,
}

impl OpenDiT {
    /// Loads a checkpoint and the VAE in a folder. Images are of the null class.
    pub(crate) fn load(
        [checkpoint, vae]: [&Path; 2],
        arch: Option<&Path>,
        latents: Latents,
        fit: Option<FitArg>,
        device: &Device,
    ) -> Result<Self> {
        let (network, sha256) = load_dit(checkpoint, arch, device)?;
        let config = network.config();
        ensure!(
            config.null_class,
            "{} has no null class, and labels are not given to networks",
            checkpoint.display()
        );
        let (first_stage, vae_sha256) = load_first_stage(vae, config.image_size, device)?;
        let made = first_stage.config();
        ensure!(
            made.latent_channels == config.in_channels && made.in_channels == 3,
            "the VAE in {} makes latents of {} channels of images of {}, and {} reads latents of {}",
            vae.display(),
            made.latent_channels,
            made.in_channels,
            checkpoint.display(),
            config.in_channels
        );
        let of_latents = info(&vae_sha256, made, latents)?;
        let told = Sha256Hex::hash_json(&(config, vae_sha256, latents))?;
        Ok(Self {
            first_stage: of_latents,
            name: format!("{sha256} behind a VAE, {}", told.short()),
            preprocess: Preprocess {
                size: made.image_size,
                channels: Channels::Rgb,
                fit: fit.map_or(Fit::CenterCrop, Fit::from),
            },
            network: Latent {
                first_stage: first_stage.packed(),
                latents,
                network,
                condition: Condition::default(),
            },
        })
    }
}

/// A latent diffusion model that was told a text, with what stands for it in a store's key, and how
/// images become its input.
pub(crate) struct OpenLatent {
    pub(crate) network: Latent<diffrep_latent::UNet>,
    pub(crate) name: String,
    pub(crate) preprocess: Preprocess,
    pub(crate) schedule: Schedule,
    /// What makes its latents.
    pub(crate) first_stage: FirstStageInfo,
    /// Tokens of the prompt that had no place, and how many had one.
    left_out: usize,
    places: usize,
}

/// What latents are made by, of the weights in files with the given hash.
fn info(
    weights: &Sha256Hex,
    config: &FirstStageConfig,
    latents: Latents,
) -> Result<FirstStageInfo> {
    let told = Sha256Hex::hash_json(&(config, latents))?;
    Ok(FirstStageInfo {
        hash: format!("first stage of {weights}, {}", told.short()),
        channels: config.latent_channels,
        side: config.latent_size(),
        drawn: latents == Latents::Sampled,
    })
}

/// Which latents stand for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LatentsArg {
    Mean,
    Sampled,
}

impl From<LatentsArg> for Latents {
    fn from(latents: LatentsArg) -> Self {
        match latents {
            LatentsArg::Mean => Self::Mean,
            LatentsArg::Sampled => Self::Sampled,
        }
    }
}

/// What a latent diffusion model is opened with.
#[derive(Clone, Copy, Default)]
pub(crate) struct LatentSettings<'a> {
    /// A folder that describes a single file.
    pub(crate) arch: Option<&'a Path>,
    /// Height and width of the images, if not those of the training.
    pub(crate) size: Option<usize>,
    /// The text.
    pub(crate) prompt: &'a str,
    pub(crate) latents: Latents,
    pub(crate) fit: Option<FitArg>,
}

impl OpenLatent {
    /// Loads a diffusers folder or a file of the original release; its text encoder computes the
    /// prompt once and is let go.
    pub(crate) fn load(
        checkpoint: &Path,
        settings: &LatentSettings<'_>,
        device: &Device,
    ) -> Result<Self> {
        let ImportedLatent {
            description,
            network,
            first_stage,
            text,
            tokenizer,
            padding,
            schedule,
            sha256,
        } = load_latent(checkpoint, settings.arch, settings.size, device)?;
        let length = text.config().max_position_embeddings;
        let tokens = tokenizer.encode(settings.prompt, length, padding)?;
        let told = Sha256Hex::hash_json(&(
            (&tokens.ids, settings.latents),
            (
                &description.unet,
                &description.first_stage,
                &description.text,
            ),
            // What a folder's scheduler says is in none of the files that are hashed.
            (&schedule.betas, schedule.timestep_scale),
        ))?;
        Ok(Self {
            first_stage: info(&sha256, first_stage.config(), settings.latents)?,
            name: format!("{sha256} told {} ({:?})", told.short(), settings.prompt),
            preprocess: Preprocess {
                size: first_stage.config().image_size,
                channels: match first_stage.config().in_channels {
                    3 => Channels::Rgb,
                    other => bail!("a VAE of 3 channels reads images, this one has {other}"),
                },
                fit: settings.fit.map_or(Fit::CenterCrop, Fit::from),
            },
            network: Latent {
                first_stage: first_stage.packed(),
                latents: settings.latents,
                network,
                condition: Condition {
                    context: Some(text.forward(&tokens.ids, device)),
                    ..Condition::default()
                },
            },
            schedule,
            left_out: tokens.left_out,
            places: length - 2,
        })
    }

    /// That the prompt was cut, if it was.
    pub(crate) fn cut(&self) -> Option<String> {
        (self.left_out > 0).then(|| {
            format!(
                "the prompt has {} tokens too many: the network was told the first {}",
                self.left_out, self.places
            )
        })
    }
}

/// A known network by name, or the one that a JSON file describes.
pub(crate) fn described(kind: &str) -> Result<BackboneConfig> {
    match BackboneConfig::preset(kind) {
        Some(config) => Ok(config),
        None if kind.ends_with(".json") => Ok(read_json(kind)?),
        None => bail!(
            "there is no backbone `{kind}`: use {}, or a JSON file that describes one",
            BackboneConfig::preset_names().join(", ")
        ),
    }
}

/// What a backbone's file says of its training, if this project trained it.
fn trained_here(
    metadata: &BTreeMap<String, String>,
) -> Result<Option<TrainingRecord<BackboneTraining>>> {
    metadata
        .get(TRAINING_KEY)
        .map(|text| serde_json::from_str(text))
        .transpose()
        .context("the training record in the checkpoint cannot be read")
}

/// The network without what lies behind the last block, where that can be taken off.
pub(crate) fn up_to(encoder: AnyEncoder, last: BlockIndex) -> AnyEncoder {
    match encoder {
        AnyEncoder::Diffusion(network) => AnyEncoder::Diffusion(network.up_to(last).packed()),
        AnyEncoder::Latent(network) => {
            AnyEncoder::Latent(network.map(|network| network.up_to(last).packed()))
        }
        whole @ (AnyEncoder::DiT(_) | AnyEncoder::Backbone(_)) => whole,
    }
}
