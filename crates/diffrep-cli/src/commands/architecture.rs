//! Diffusion networks by their description, whatever their family.

use std::path::Path;

use anyhow::{Result, bail};
use diffrep_artifact::read_json;
use diffrep_backbones::{BackboneConfig, DiTConfig};
use diffrep_import::{RawCheckpoint, infer_dit, is_dit, preset, preset_names, read_arch, resolve};
use diffrep_taps::{BlockIndex, TapInfo};
use diffrep_unet::{UNetConfig, parameter_count, parameter_count_up_to};

/// What a diffusion network is described by.
#[derive(Clone, Debug)]
pub(crate) enum Architecture {
    UNet(UNetConfig),
    /// A diffusion transformer.
    DiT(DiTConfig),
}

impl Architecture {
    /// A published network.
    pub(crate) fn published(name: &str) -> Option<Self> {
        let unet = preset(name).map(Self::UNet);
        unet.or_else(|| DiTConfig::preset(name).map(Self::DiT))
    }

    /// Names of the published networks.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        preset_names().chain(DiTConfig::preset_names())
    }

    /// The network that a JSON file describes.
    ///
    /// # Errors
    ///
    /// When it describes none.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let value: serde_json::Value = read_json(path)?;
        if value["kind"] == "dit" {
            return Ok(Self::DiT(dit_arch(path)?));
        }
        Ok(Self::UNet(read_arch(path)?))
    }

    /// The network that a checkpoint holds.
    ///
    /// # Errors
    ///
    /// When it holds none, or does not say all of it.
    pub(crate) fn of(raw: &RawCheckpoint) -> Result<Self> {
        Ok(match is_dit(raw) {
            true => Self::DiT(infer_dit(raw)?),
            false => Self::UNet(resolve(raw, None)?.0),
        })
    }

    /// Every block with what it puts out.
    pub(crate) fn taps(&self) -> Result<Vec<TapInfo>> {
        Ok(match self {
            Self::UNet(config) => config
                .blocks()?
                .iter()
                .map(|block| block.tap.clone())
                .collect(),
            Self::DiT(config) => config.taps()?,
        })
    }

    /// How many parameters it has.
    pub(crate) fn parameters(&self) -> Result<usize> {
        Ok(match self {
            Self::UNet(config) => parameter_count(config)?,
            Self::DiT(config) => config.parameters(),
        })
    }

    /// How many of them features of a block need.
    pub(crate) fn parameters_up_to(&self, block: BlockIndex) -> Result<usize> {
        Ok(match self {
            Self::UNet(config) => parameter_count_up_to(config, block)?,
            Self::DiT(config) => config.parameters_up_to(block),
        })
    }
}

/// The diffusion transformer that a JSON file describes, or that has a name.
///
/// # Errors
///
/// When there is no such file or name, or it describes another network.
pub(crate) fn dit_arch(path: &Path) -> Result<DiTConfig> {
    let published = path.to_str().and_then(DiTConfig::preset);
    if let (Some(config), false) = (published, path.exists()) {
        return Ok(config);
    }
    let BackboneConfig::DiT(config) = read_json(path)? else {
        bail!(
            "{} does not describe a diffusion transformer (`\"kind\": \"dit\"`), which the checkpoint holds",
            path.display()
        );
    };
    config.taps()?;
    Ok(config)
}
