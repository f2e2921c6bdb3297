//! `config.json` files of diffusers and transformers: what is read of them, and what they may say
//! without another network than the ones here being meant.

use std::path::{Path, PathBuf};

use diffrep_artifact::read_json;
use diffrep_latent::{FirstStageConfig, TextConfig, TextGelu, UNetConfig};
use diffrep_schedule::{ProcessSpec, Schedule, SpecError, Target};
use serde_json::{Map, Value, json};

use crate::ImportError;

/// A JSON object and the keys of it that were read.
struct Settings {
    path: PathBuf,
    values: Map<String, Value>,
}

impl Settings {
    fn open(path: &Path) -> Result<Self, ImportError> {
        let values: Map<String, Value> = read_json(path)?;
        Ok(Self {
            path: path.into(),
            values,
        })
    }

    fn refuse(&self, reason: String) -> ImportError {
        ImportError::NotStableDiffusion {
            path: self.path.clone(),
            reason,
        }
    }

    /// A value that is there and not null.
    fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    fn number(&self, key: &str) -> Result<usize, ImportError> {
        self.number_or(key, None)
    }

    fn number_or(&self, key: &str, default: Option<usize>) -> Result<usize, ImportError> {
        let wrong =
            |what: &str| self.refuse(format!("its `{key}` {what}, a whole number is wanted"));
        match self.get(key) {
            None => default.ok_or_else(|| wrong("is missing")),
            Some(value) => {
                let number = value.as_u64().and_then(|n| usize::try_from(n).ok());
                number.ok_or_else(|| wrong(&format!("is {value}")))
            }
        }
    }

    fn float_or(&self, key: &str, default: f64) -> Result<f64, ImportError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value
                .as_f64()
                .ok_or_else(|| self.refuse(format!("its `{key}` is {value}, a number is wanted"))),
        }
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    /// A list of numbers, or one that stands for `levels` equal ones.
    fn numbers(&self, key: &str, levels: Option<usize>) -> Result<Vec<usize>, ImportError> {
        match (self.get(key), levels) {
            (Some(Value::Array(values)), _) => {
                let numbers = values
                    .iter()
                    .map(|value| value.as_u64().map(|n| n as usize));
                numbers.collect::<Option<_>>()
            }
            (Some(value), Some(levels)) => value.as_u64().map(|n| vec![n as usize; levels]),
            _ => None,
        }
        .ok_or_else(|| self.refuse(format!("its `{key}` is no list of whole numbers")))
    }

    fn words(&self, key: &str) -> Result<Vec<&str>, ImportError> {
        let list = self.get(key).and_then(Value::as_array);
        let words = list.and_then(|list| list.iter().map(Value::as_str).collect());
        words.ok_or_else(|| self.refuse(format!("its `{key}` is no list of names")))
    }

    /// Refuses what would be another network. A key may be missing or null, have the value of
    /// `fixed`, or be one of `free`; one that is in neither list may only say no.
    fn hold(&self, fixed: &[(&str, Value)], free: &[&str]) -> Result<(), ImportError> {
        for (key, value) in &self.values {
            if key.starts_with('_') || free.contains(&key.as_str()) {
                continue;
            }
            let expected = fixed.iter().find(|(name, _)| name == key);
            let same = |expected: &Value| match (value.as_f64(), expected.as_f64()) {
                (Some(a), Some(b)) => a == b,
                _ => value == expected,
            };
            match expected {
                Some((_, expected)) if value.is_null() || same(expected) => {}
                Some((_, expected)) => {
                    return Err(self.refuse(format!(
                        "its `{key}` is {value}, and Stable Diffusion 1 and 2 have {expected}"
                    )));
                }
                None if value.is_null() || *value == Value::Bool(false) => {}
                None => {
                    return Err(self.refuse(format!(
                        "its `{key}` is {value}, which nothing is known about"
                    )));
                }
            }
        }
        Ok(())
    }
}

/// The U-Net of `unet/config.json`.
///
/// # Errors
///
/// When the file cannot be read or describes another network than those of Stable Diffusion 1 and 2.
pub fn read_unet_config(path: &Path) -> Result<UNetConfig, ImportError> {
    let settings = Settings::open(path)?;
    settings.hold(
        &[
            ("act_fn", json!("silu")),
            ("attention_type", json!("default")),
            ("conv_in_kernel", json!(3)),
            ("conv_out_kernel", json!(3)),
            ("downsample_padding", json!(1)),
            ("dropout", json!(0)),
            ("flip_sin_to_cos", json!(true)),
            ("freq_shift", json!(0)),
            ("mid_block_scale_factor", json!(1)),
            ("mid_block_type", json!("UNetMidBlock2DCrossAttn")),
            ("norm_eps", json!(1e-5)),
            ("resnet_out_scale_factor", json!(1)),
            ("resnet_time_scale_shift", json!("default")),
            ("time_embedding_type", json!("positional")),
            ("transformer_layers_per_block", json!(1)),
        ],
        &[
            "addition_embed_type_num_heads",
            "attention_head_dim",
            "block_out_channels",
            "cross_attention_dim",
            "down_block_types",
            "in_channels",
            "layers_per_block",
            "norm_num_groups",
            "num_attention_heads",
            "out_channels",
            "sample_size",
            "up_block_types",
            "upcast_attention",
            "use_linear_projection",
        ],
    )?;
    let block_out_channels = settings.numbers("block_out_channels", None)?;
    let levels = block_out_channels.len();
    let attention = attention(&settings, levels)?;
    // What diffusers calls `attention_head_dim` is the number of heads in these networks.
    let heads = match settings.get("num_attention_heads") {
        Some(_) => "num_attention_heads",
        None => "attention_head_dim",
    };
    Ok(UNetConfig {
        sample_size: settings.number("sample_size")?,
        in_channels: settings.number("in_channels")?,
        out_channels: settings.number("out_channels")?,
        layers_per_block: settings.number("layers_per_block")?,
        heads: settings.numbers(heads, Some(levels))?,
        cross_attention_dim: settings.number("cross_attention_dim")?,
        norm_num_groups: settings.number_or("norm_num_groups", Some(32))?,
        attention,
        block_out_channels,
    })
}

/// Which levels have spatial transformers, the same ones down and up.
fn attention(settings: &Settings, levels: usize) -> Result<Vec<bool>, ImportError> {
    let read = |key: &str, with: &str, without: &str| {
        let words = settings.words(key)?;
        let known = words.iter().map(|&word| match word {
            word if word == with => Ok(true),
            word if word == without => Ok(false),
            other => Err(settings.refuse(format!(
                "its `{key}` has {other}, and Stable Diffusion 1 and 2 have {with} and {without}"
            ))),
        });
        known.collect::<Result<Vec<bool>, _>>()
    };
    let down = read("down_block_types", "CrossAttnDownBlock2D", "DownBlock2D")?;
    let mut up = read("up_block_types", "CrossAttnUpBlock2D", "UpBlock2D")?;
    up.reverse();
    match down == up && down.len() == levels {
        true => Ok(down),
        false => Err(settings.refuse(format!(
            "its blocks going down and up are not the same for each of its {levels} levels"
        ))),
    }
}

/// The VAE of `vae/config.json`.
pub(super) fn first_stage(path: &Path) -> Result<FirstStageConfig, ImportError> {
    let settings = Settings::open(path)?;
    settings.hold(
        &[
            ("act_fn", json!("silu")),
            ("mid_block_add_attention", json!(true)),
        ],
        &[
            "block_out_channels",
            "down_block_types",
            "force_upcast",
            "in_channels",
            "latent_channels",
            "layers_per_block",
            "norm_num_groups",
            "out_channels",
            "sample_size",
            "scaling_factor",
            "up_block_types",
            "use_post_quant_conv",
            "use_quant_conv",
        ],
    )?;
    let kinds = settings.words("down_block_types")?;
    if let Some(other) = kinds.iter().find(|kind| **kind != "DownEncoderBlock2D") {
        return Err(settings.refuse(format!(
            "its `down_block_types` has {other}, and this VAE has DownEncoderBlock2D alone"
        )));
    }
    let block_out_channels = settings.numbers("block_out_channels", None)?;
    Ok(FirstStageConfig {
        // Set when the size of the images is known.
        image_size: 1 << (block_out_channels.len().clamp(1, 9) - 1),
        in_channels: settings.number("in_channels")?,
        layers_per_block: settings.number("layers_per_block")?,
        latent_channels: settings.number("latent_channels")?,
        norm_num_groups: settings.number_or("norm_num_groups", Some(32))?,
        // Files older than the key are of Stable Diffusion 1.
        scaling_factor: settings.float_or("scaling_factor", 0.18215)?,
        quant_conv: settings.get("use_quant_conv") != Some(&Value::Bool(false)),
        block_out_channels,
    })
}

/// The text encoder of `text_encoder/config.json`.
pub(super) fn text(path: &Path) -> Result<TextConfig, ImportError> {
    let settings = Settings::open(path)?;
    // Beside the sizes there is what training and generation need, in every version of transformers
    // something else.
    let hidden_act = match settings.text("hidden_act") {
        Some("quick_gelu") | None => TextGelu::QuickGelu,
        Some("gelu") => TextGelu::Gelu,
        Some(other) => {
            return Err(settings.refuse(format!(
                "its `hidden_act` is {other}: CLIP has quick_gelu and OpenCLIP gelu"
            )));
        }
    };
    if let Some(kind) = settings.text("model_type")
        && !matches!(kind, "clip_text_model" | "clip")
    {
        return Err(settings.refuse(format!(
            "its `model_type` is {kind}: Stable Diffusion 1 and 2 read texts by clip_text_model"
        )));
    }
    Ok(TextConfig {
        vocab_size: settings.number("vocab_size")?,
        hidden_size: settings.number("hidden_size")?,
        intermediate_size: settings.number("intermediate_size")?,
        num_hidden_layers: settings.number("num_hidden_layers")?,
        num_attention_heads: settings.number("num_attention_heads")?,
        max_position_embeddings: settings.number_or("max_position_embeddings", Some(77))?,
        hidden_act,
        layer_norm_eps: settings.float_or("layer_norm_eps", 1e-5)?,
    })
}

/// The diffusion process of `scheduler/scheduler_config.json`, and what the network predicts.
pub(super) fn scheduler(path: &Path) -> Result<(Schedule, String), ImportError> {
    let settings = Settings::open(path)?;
    let refuse = |error: SpecError| settings.refuse(error.reason);
    let bytes = diffrep_artifact::read_bytes(path)?;
    let process = ProcessSpec::from_scheduler_config(&bytes).map_err(refuse)?;
    let prediction = match process.predicts {
        Target::Noise => "epsilon",
        Target::Velocity => "v_prediction",
        Target::Image => "sample",
    };
    Ok((process.schedule().map_err(refuse)?, prediction.into()))
}
