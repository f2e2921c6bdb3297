//! Networks by name and by description, and what can be wrong with a description.

use std::ops::RangeInclusive;

use burn::tensor::Device;
use diffrep_taps::{BlockIndex, TapInfo};
use serde::{Deserialize, Serialize};

use crate::{Backbone, DiTConfig, InceptionConfig, MageConfig, ResNetConfig, ViTConfig};

/// Why a description is of no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A number is out of its range.
    #[error("`{field}` is {value}: expected {} to {}", range.start(), range.end())]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// Its value.
        value: usize,
        /// What it may be.
        range: RangeInclusive<usize>,
    },
    /// A number must divide another.
    #[error("`{part}` is {divisor}, which does not divide `{whole}` of {value}")]
    DoesNotDivide {
        /// The field that must divide.
        part: &'static str,
        /// Its value.
        divisor: usize,
        /// The field that must be divided.
        whole: &'static str,
        /// Its value.
        value: usize,
    },
    /// The class token is to be read of a network that has none.
    #[error(
        "the class token is to be tapped and the network has none: set `class_token` or tap `patches`"
    )]
    NoClassToken,
    /// The epsilon of a normalisation is not a small positive number.
    #[error("`eps` is {0}: expected a positive number of at most 1")]
    Epsilon(String),
}

/// The taps of a transformer: `blocks.0` being block 1, and after all blocks `norm` if it is one.
pub(crate) fn layer_taps(depth: usize, norm: bool, width: usize, side: usize) -> Vec<TapInfo> {
    let names = (0..depth).map(|place| format!("blocks.{place}"));
    let names = names.chain(norm.then(|| "norm".into()));
    names
        .enumerate()
        .map(|(place, name)| TapInfo {
            block: BlockIndex::at(place),
            name,
            channels: width,
            height: side,
            width: side,
        })
        .collect()
}

/// A number divides another.
pub(crate) fn divides(
    (part, divisor): (&'static str, usize),
    (whole, value): (&'static str, usize),
) -> Result<(), ConfigError> {
    match value.is_multiple_of(divisor) {
        true => Ok(()),
        false => Err(ConfigError::DoesNotDivide {
            part,
            divisor,
            whole,
            value,
        }),
    }
}

/// `value` is in `range`.
pub(crate) fn within(
    field: &'static str,
    value: usize,
    range: RangeInclusive<usize>,
) -> Result<(), ConfigError> {
    match range.contains(&value) {
        true => Ok(()),
        false => Err(ConfigError::OutOfRange {
            field,
            value,
            range,
        }),
    }
}

/// A network of this crate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BackboneConfig {
    /// A ResNet.
    #[serde(rename = "resnet")]
    ResNet(ResNetConfig),
    /// A vision transformer.
    #[serde(rename = "vit")]
    ViT(ViTConfig),
    /// The Inception-v3 of FID.
    Inception(InceptionConfig),
    /// A diffusion transformer, which reads latents.
    #[serde(rename = "dit")]
    DiT(DiTConfig),
    /// MAGE's encoder with its tokenizer.
    Mage(MageConfig),
}

/// Names of known networks.
const PRESETS: [&str; 12] = [
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "wide_resnet50_2",
    "vit_small_patch16",
    "vit_base_patch16",
    "vit_large_patch16",
    "clip_vit_base_patch16",
    "fid_inception_v3",
    "mage_vit_base",
    "mage_vit_large",
];

impl BackboneConfig {
    /// The names that [`preset`](Self::preset) knows.
    pub fn preset_names() -> &'static [&'static str] {
        &PRESETS
    }

    /// A known network by its name in torchvision, timm, pytorch-fid or MAGE, without classifier (the
    /// Inception network has its own).
    pub fn preset(name: &str) -> Option<Self> {
        Some(match name {
            "resnet18" => Self::ResNet(ResNetConfig::resnet18()),
            "resnet34" => Self::ResNet(ResNetConfig::resnet34()),
            "resnet50" => Self::ResNet(ResNetConfig::resnet50()),
            "resnet101" => Self::ResNet(ResNetConfig::resnet101()),
            "wide_resnet50_2" => Self::ResNet(ResNetConfig::wide_resnet50_2()),
            "vit_small_patch16" => Self::ViT(ViTConfig::small_16()),
            "vit_base_patch16" => Self::ViT(ViTConfig::base_16()),
            "vit_large_patch16" => Self::ViT(ViTConfig::large_16()),
            "clip_vit_base_patch16" => Self::ViT(ViTConfig::clip_base_16()),
            "mage_vit_base" => Self::Mage(MageConfig::base()),
            "mage_vit_large" => Self::Mage(MageConfig::large()),
            "fid_inception_v3" => Self::Inception(InceptionConfig::fid()),
            _ => return None,
        })
    }

    /// Every block with what it puts out.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit together.
    pub fn taps(&self) -> Result<Vec<TapInfo>, ConfigError> {
        match self {
            Self::ResNet(config) => config.taps(),
            Self::ViT(config) => config.taps(),
            Self::Inception(config) => config.taps(),
            Self::DiT(config) => config.taps(),
            Self::Mage(config) => config.taps(),
        }
    }

    /// Builds the network with random weights, a function of `seed`.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit together.
    pub fn init(&self, seed: u64, device: &Device) -> Result<Backbone, ConfigError> {
        Ok(match self {
            Self::ResNet(config) => Backbone::ResNet(config.init(seed, device)?),
            Self::ViT(config) => Backbone::ViT(config.init(seed, device)?),
            Self::Inception(config) => Backbone::Inception(config.init(seed, device)?),
            Self::DiT(config) => Backbone::DiT(config.init(seed, device)?),
            Self::Mage(config) => Backbone::Mage(config.init(seed, device)?),
        })
    }

    /// Builds the network with zeros for weights: what a state dict is loaded into.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit together.
    pub fn blank(&self, device: &Device) -> Result<Backbone, ConfigError> {
        Ok(match self {
            Self::ResNet(config) => Backbone::ResNet(config.blank(device)?),
            Self::ViT(config) => Backbone::ViT(config.blank(device)?),
            Self::Inception(config) => Backbone::Inception(config.blank(device)?),
            Self::DiT(config) => Backbone::DiT(config.blank(device)?),
            Self::Mage(config) => Backbone::Mage(config.blank(device)?),
        })
    }

    /// Classes of the classifier, if there is one.
    pub fn classes(&self) -> Option<usize> {
        match self {
            Self::ResNet(config) => config.classes,
            Self::ViT(config) => config.classes,
            Self::Inception(config) => Some(config.classes),
            Self::DiT(_) | Self::Mage(_) => None,
        }
    }

    /// The same network with a classifier of this many classes, or none. The classifier of the
    /// Inception network is a part of it and stays, and a diffusion transformer and MAGE have none.
    #[must_use]
    pub fn with_classes(self, classes: Option<usize>) -> Self {
        match self {
            Self::ResNet(config) => Self::ResNet(ResNetConfig { classes, ..config }),
            Self::ViT(config) => Self::ViT(ViTConfig { classes, ..config }),
            other @ (Self::Inception(_) | Self::DiT(_) | Self::Mage(_)) => other,
        }
    }
}
