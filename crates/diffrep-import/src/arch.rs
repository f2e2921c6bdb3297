//! Which architecture a checkpoint is loaded into, and who said so.

use std::fmt;
use std::path::Path;

use diffrep_unet::{ReferenceArgs, UNetConfig, parameter_count};
use serde::Serialize;

use crate::{ImportError, Inferred, RawCheckpoint, diffusers, infer, preset};

/// The metadata key of safetensors files under which this crate writes a network's [`UNetConfig`]
/// as JSON.
pub const ARCH_KEY: &str = "diffrep.arch";

/// The metadata key of safetensors files under which it is written how a network was trained: a
/// [`ProcessSpec`](diffrep_schedule::ProcessSpec) as JSON.
pub const PROCESS_KEY: &str = "diffrep.process";

/// Who said what the architecture is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "by", content = "name")]
pub enum ArchSource {
    /// The caller.
    Given,
    /// The file, under [`ARCH_KEY`].
    Metadata,
    /// The `config.json` beside the weights.
    Described,
    /// A published network with the same sizes.
    Preset(&'static str),
    /// Names and shapes alone, which left nothing open.
    Tensors,
}

impl fmt::Display for ArchSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given => f.write_str("given"),
            Self::Metadata => f.write_str("written in the file"),
            Self::Described => f.write_str("described by its config.json"),
            Self::Preset(name) => write!(f, "recognised as the published {name}"),
            Self::Tensors => f.write_str("told by the tensors"),
        }
    }
}

/// The architecture for a checkpoint: the one given, else the one written in the file or beside it,
/// else the one its tensors tell.
///
/// # Errors
///
/// When the tensors leave something open, or the description does not fit together.
pub fn resolve(
    raw: &RawCheckpoint,
    given: Option<UNetConfig>,
) -> Result<(UNetConfig, ArchSource), ImportError> {
    let path = raw.path();
    let (config, source) = if let Some(config) = given {
        (config, ArchSource::Given)
    } else if let Some(text) = raw.metadata().get(ARCH_KEY) {
        let config = serde_json::from_str(text).map_err(|error| ImportError::Arch {
            path: path.into(),
            reason: format!("its `{ARCH_KEY}` is not understood ({error})"),
        })?;
        (config, ArchSource::Metadata)
    } else if let Some(described) = raw.described() {
        (described.config.clone(), ArchSource::Described)
    } else {
        match infer(path, raw.tensors())? {
            Inferred {
                config,
                preset: Some(name),
                ..
            } => (config, ArchSource::Preset(name)),
            Inferred {
                config, unknown, ..
            } if unknown.is_empty() => (config, ArchSource::Tensors),
            Inferred { unknown, .. } => {
                return Err(ImportError::Underdetermined {
                    path: path.into(),
                    unknown,
                });
            }
        }
    };
    sound(path, &config)?;
    Ok((config, source))
}

/// Reads an architecture: the reference constructor's arguments ([`ReferenceArgs`], with `class`), a
/// [`UNetConfig`] (with `kind`), or the `config.json` of diffusers' UNet2DModel (with `_class_name`), as
/// JSON; or, where there is no such file, the name of a published network.
///
/// # Errors
///
/// When the file cannot be read, does not describe a network, the network does not fit together,
/// or it has another number of parameters than the file's `params`.
pub fn read_arch(path: &Path) -> Result<UNetConfig, ImportError> {
    let published = path.to_str().and_then(preset);
    if let (Some(config), false) = (published, path.exists()) {
        return Ok(config);
    }
    let bytes = diffrep_artifact::read_bytes(path)?;
    let refuse = |reason: String| ImportError::Arch {
        path: path.into(),
        reason,
    };
    let parse = |error: serde_json::Error| refuse(error.to_string());
    let config_error = |source| ImportError::Config {
        path: path.into(),
        source,
    };
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(parse)?;
    if value.get("kind").is_some() {
        let config: UNetConfig = serde_json::from_value(value).map_err(parse)?;
        sound(path, &config)?;
        return Ok(config);
    }
    if value.get("_class_name").is_some() {
        let config = diffusers::config(&value).map_err(refuse)?;
        sound(path, &config)?;
        return Ok(config);
    }
    let args: ReferenceArgs = serde_json::from_value(value).map_err(parse)?;
    let told = args.params;
    let config = UNetConfig::try_from(args).map_err(config_error)?;
    sound(path, &config)?;
    let count = parameter_count(&config).map_err(config_error)?;
    match told {
        Some(told) if told != count => Err(refuse(format!(
            "it says {told} parameters and its network has {count}: correct `params` or leave it out"
        ))),
        _ => Ok(config),
    }
}

/// Holds an architecture of unknown origin to bounds within which no size overflows, and to itself.
fn sound(path: &Path, config: &UNetConfig) -> Result<(), ImportError> {
    let mult = config
        .channel_mult
        .iter()
        .fold(0.0, |most: f64, mult| most.max(mult.abs()));
    for (what, value, most) in [
        ("image_size", config.image_size, 1 << 14),
        ("in_channels", config.in_channels, 1 << 10),
        ("model_channels", config.model_channels, 1 << 14),
        ("out_channels", config.out_channels, 1 << 20),
        ("num_res_blocks", config.num_res_blocks, 1 << 6),
        ("num_classes", config.num_classes.unwrap_or(1), 1 << 24),
        ("the number of levels", config.channel_mult.len(), 12),
        ("the largest multiplier", mult.ceil() as usize, 64),
    ] {
        if !(1..=most).contains(&value) {
            let reason = format!("{what} is {value}: expected 1 to {most}");
            return Err(ImportError::Arch {
                path: path.into(),
                reason,
            });
        }
    }
    config.blocks().map_err(|source| ImportError::Config {
        path: path.into(),
        source,
    })?;
    Ok(())
}

/// A network in a few words.
pub(crate) fn describe(config: &UNetConfig) -> String {
    let kind = match config.kind {
        diffrep_unet::Kind::UNet => "a U-Net".to_string(),
        diffrep_unet::Kind::Encoder(pool) => {
            format!(
                "an encoder classifier ({} pool)",
                format!("{pool:?}").to_lowercase()
            )
        }
    };
    let classes = config
        .num_classes
        .map_or(String::new(), |count| format!(", {count} classes"));
    format!(
        "{kind} with {} channels x {:?}, {} residual blocks a level{classes}, {} -> {} channels",
        config.model_channels,
        config.channel_mult,
        config.num_res_blocks,
        config.in_channels,
        config.out_channels
    )
}
