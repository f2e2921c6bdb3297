//! The `UNet2DModel` of diffusers: its `config.json`, and what its tensors tell without one.

use std::collections::BTreeMap;

use diffrep_unet::{AttentionOrder, Details, Heads, Kind, Resample, UNetConfig};
use serde::Deserialize;

use crate::infer::multiplier;
use crate::{Inferred, TensorInfo, Unknown};

/// The constructor's arguments, with its defaults, as far as they change the network. Sizes beside
/// them (`_diffusers_version` and the like) are of no concern.
#[derive(Deserialize)]
#[serde(default)]
struct Written {
    sample_size: Option<Side>,
    in_channels: usize,
    out_channels: usize,
    center_input_sample: bool,
    time_embedding_type: String,
    time_embedding_dim: Option<usize>,
    freq_shift: f64,
    flip_sin_to_cos: bool,
    down_block_types: Vec<String>,
    mid_block_type: Option<String>,
    up_block_types: Vec<String>,
    block_out_channels: Vec<usize>,
    layers_per_block: usize,
    mid_block_scale_factor: f64,
    downsample_padding: usize,
    downsample_type: String,
    upsample_type: String,
    act_fn: String,
    attention_head_dim: Option<usize>,
    norm_num_groups: Option<usize>,
    attn_norm_num_groups: Option<usize>,
    norm_eps: f64,
    resnet_time_scale_shift: String,
    add_attention: bool,
    class_embed_type: Option<String>,
    num_class_embeds: Option<usize>,
}

/// One side for both, or height and width.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Side {
    Both(usize),
    Each([usize; 2]),
}

impl Default for Written {
    fn default() -> Self {
        let words = |words: [&str; 4]| words.map(String::from).to_vec();
        Self {
            sample_size: None,
            in_channels: 3,
            out_channels: 3,
            center_input_sample: false,
            time_embedding_type: "positional".into(),
            time_embedding_dim: None,
            freq_shift: 0.0,
            flip_sin_to_cos: true,
            down_block_types: words([
                "DownBlock2D",
                "AttnDownBlock2D",
                "AttnDownBlock2D",
                "AttnDownBlock2D",
            ]),
            mid_block_type: Some("UNetMidBlock2D".into()),
            up_block_types: words([
                "AttnUpBlock2D",
                "AttnUpBlock2D",
                "AttnUpBlock2D",
                "UpBlock2D",
            ]),
            block_out_channels: vec![224, 448, 672, 896],
            layers_per_block: 2,
            mid_block_scale_factor: 1.0,
            downsample_padding: 1,
            downsample_type: "conv".into(),
            upsample_type: "conv".into(),
            act_fn: "silu".into(),
            attention_head_dim: Some(8),
            norm_num_groups: Some(32),
            attn_norm_num_groups: None,
            norm_eps: 1e-5,
            resnet_time_scale_shift: "default".into(),
            add_attention: true,
            class_embed_type: None,
            num_class_embeds: None,
        }
    }
}

/// The network of a `config.json` of `UNet2DModel`, or in a sentence why there is none.
pub(crate) fn config(json: &serde_json::Value) -> Result<UNetConfig, String> {
    let class = json.get("_class_name").and_then(|class| class.as_str());
    match class {
        Some("UNet2DModel") => {}
        Some("UNet2DConditionModel") => {
            return Err("it is a `UNet2DConditionModel`, which reads a text: a network of Stable Diffusion's kind, not a \
                        UNet2DModel"
                .into());
        }
        Some(other) => return Err(format!("it is a `{other}`: expected a UNet2DModel")),
        None => return Err("it has no `_class_name`: expected that of a UNet2DModel".into()),
    }
    let written: Written =
        serde_json::from_value(json.clone()).map_err(|error| error.to_string())?;
    let image_size = match written.sample_size {
        Some(Side::Both(side)) => side,
        Some(Side::Each([height, width])) if height == width => height,
        Some(Side::Each([height, width])) => {
            return Err(format!(
                "its images are {height} x {width}, and only square ones are supported"
            ));
        }
        None => {
            return Err(
                "it has no `sample_size`: add the side of the images, in pixels, to the file"
                    .into(),
            );
        }
    };
    for (setting, usual, found) in [
        (
            "time_embedding_type",
            "positional",
            written.time_embedding_type.as_str(),
        ),
        (
            "mid_block_type",
            "UNetMidBlock2D",
            written.mid_block_type.as_deref().unwrap_or("null"),
        ),
        (
            "class_embed_type",
            "null",
            written.class_embed_type.as_deref().unwrap_or("null"),
        ),
    ] {
        if found != usual {
            let why = match found {
                "fourier" => " (it measures noise by sigma, on a scale without timesteps)",
                _ => "",
            };
            return Err(format!(
                "its `{setting}` is {found}{why}, which is not supported: expected {usual}"
            ));
        }
    }
    for (what, odd) in [
        ("center_input_sample", written.center_input_sample),
        ("no add_attention", !written.add_attention),
        (
            "a mid_block_scale_factor that is not 1",
            written.mid_block_scale_factor != 1.0,
        ),
        (
            "an activation that is not silu",
            !["silu", "swish"].contains(&written.act_fn.as_str()),
        ),
        (
            "attn_norm_num_groups",
            written
                .attn_norm_num_groups
                .is_some_and(|groups| Some(groups) != written.norm_num_groups),
        ),
        ("no norm_num_groups", written.norm_num_groups.is_none()),
        // diffusers' way to say so.
        (
            "no normalisation before the attention in its middle (scale_shift without attn_norm_num_groups)",
            written.resnet_time_scale_shift == "scale_shift"
                && written.attn_norm_num_groups.is_none(),
        ),
    ] {
        if odd {
            return Err(format!("it has {what}, which is not supported"));
        }
    }
    let channels = &written.block_out_channels;
    let Some(&base) = channels.first() else {
        return Err("it has no `block_out_channels`".into());
    };
    if written
        .time_embedding_dim
        .is_some_and(|dim| dim != 4 * base)
    {
        return Err(format!(
            "its `time_embedding_dim` is not {}, four times the first channels, which is not supported",
            4 * base
        ));
    }
    let (attends, resample) = levels(&written)?;
    let channel_mult: Option<Vec<f64>> = channels
        .iter()
        .map(|width| multiplier(*width, base))
        .collect();
    Ok(UNetConfig {
        kind: Kind::UNet,
        image_size,
        in_channels: written.in_channels,
        model_channels: base,
        out_channels: written.out_channels,
        num_res_blocks: written.layers_per_block,
        attention_resolutions: (0..channels.len())
            .filter(|level| attends[*level])
            .map(|level| 1 << level)
            .collect(),
        channel_mult: channel_mult.ok_or("its `block_out_channels` do not relate to each other")?,
        heads: match written.attention_head_dim {
            None => Heads::Count(1),
            Some(size) => Heads::Channels(size),
        },
        num_classes: written.num_class_embeds,
        use_scale_shift_norm: match written.resnet_time_scale_shift.as_str() {
            "default" => false,
            "scale_shift" => true,
            other => {
                return Err(format!(
                    "its `resnet_time_scale_shift` is {other}: expected default or scale_shift"
                ));
            }
        },
        resample,
        // Queries, keys and values come apart and are stacked.
        attention_order: AttentionOrder::New,
        details: Details {
            norm_groups: written.norm_num_groups.unwrap_or(32),
            norm_eps: written.norm_eps,
            sines_first: !written.flip_sin_to_cos,
            frequency_shift: written.freq_shift,
            pads_after: match written.downsample_padding {
                0 => true,
                1 => false,
                other => {
                    return Err(format!(
                        "its `downsample_padding` is {other}: expected 0 or 1"
                    ));
                }
            },
        },
    })
}

/// At which levels there is attention, and how resolution changes between them.
fn levels(written: &Written) -> Result<(Vec<bool>, Resample), String> {
    let (down, up) = (&written.down_block_types, &written.up_block_types);
    let count = written.block_out_channels.len();
    if down.len() != count || up.len() != count || count > 16 {
        return Err(format!(
            "it has {count} `block_out_channels`, {} `down_block_types` and {} `up_block_types`: expected as many of \
             each, and at most 16",
            down.len(),
            up.len()
        ));
    }
    let mut attends = Vec::new();
    let mut changes = Vec::new();
    for (level, (down, up)) in down.iter().zip(up.iter().rev()).enumerate() {
        let attention = match (down.as_str(), up.as_str()) {
            ("DownBlock2D" | "ResnetDownsampleBlock2D", "UpBlock2D" | "ResnetUpsampleBlock2D") => {
                false
            }
            ("AttnDownBlock2D", "AttnUpBlock2D") => true,
            _ => {
                return Err(format!(
                    "level {} goes down by {down} and up by {up}: supported are (Attn)DownBlock2D with \
                     (Attn)UpBlock2D and ResnetDownsampleBlock2D with ResnetUpsampleBlock2D",
                    level + 1
                ));
            }
        };
        attends.push(attention);
        // The last level does not go down, and the first does not go up.
        if level + 1 < count {
            changes.push(match attention {
                true => written.downsample_type.as_str(),
                false if down.starts_with("Resnet") => "resnet",
                false => "conv",
            });
        }
        if level > 0 {
            changes.push(match attention {
                true => written.upsample_type.as_str(),
                false if up.starts_with("Resnet") => "resnet",
                false => "conv",
            });
        }
    }
    let all = |how: &str| changes.iter().all(|change| *change == how);
    match (all("conv"), all("resnet")) {
        (true, _) => Ok((attends, Resample::Convolution)),
        (false, true) => Ok((attends, Resample::Residual)),
        (false, false) => Err(
            "some of its levels change resolution by a convolution and some by a residual block, which is not supported"
                .into(),
        ),
    }
}

/// What the tensors of a `UNet2DModel` tell without its `config.json`: all sizes, and nothing of the
/// image's size, heads, paddings and the timestep's embedding.
pub(crate) fn infer(tensors: &[TensorInfo]) -> Result<Inferred, String> {
    let shapes: BTreeMap<&str, &[usize]> = tensors
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice()))
        .collect();
    let axis = |name: &str, axis: usize| {
        let shape = shapes.get(name).and_then(|shape| shape.get(axis).copied());
        shape.ok_or_else(|| format!("it has no tensor `{name}` with at least {} axes", axis + 1))
    };
    let count = |start: &str| {
        (0..1 << 8)
            .take_while(|i| shapes.contains_key(format!("{start}.{i}.norm1.weight").as_str()))
            .count()
    };
    let mut widths = Vec::new();
    let mut attention_resolutions = Vec::new();
    while let Ok(width) = axis(
        &format!("down_blocks.{}.resnets.0.conv2.weight", widths.len()),
        0,
    ) {
        let level = widths.len();
        let attention = format!("down_blocks.{level}.attentions.0.group_norm.weight");
        if shapes.contains_key(attention.as_str()) {
            attention_resolutions.push(1 << level);
        }
        widths.push(width);
        if widths.len() > 16 {
            return Err("it has more than 16 levels".into());
        }
    }
    let base = axis("conv_in.weight", 0)?;
    let channel_mult: Option<Vec<f64>> = widths
        .iter()
        .map(|width| multiplier(*width, base))
        .collect();
    let modulation = axis("down_blocks.0.resnets.0.time_emb_proj.weight", 0)?;
    let config = UNetConfig {
        kind: Kind::UNet,
        image_size: 8 << widths.len().saturating_sub(1),
        in_channels: axis("conv_in.weight", 1)?,
        model_channels: base,
        out_channels: axis("conv_out.weight", 0)?,
        num_res_blocks: count("down_blocks.0.resnets"),
        attention_resolutions,
        channel_mult: channel_mult.ok_or("its channels do not relate to each other")?,
        heads: Heads::Count(1),
        num_classes: axis("class_embedding.weight", 0).ok(),
        use_scale_shift_norm: modulation == 2 * widths.first().copied().unwrap_or(0),
        resample: match shapes.contains_key("down_blocks.0.downsamplers.0.norm1.weight") {
            true => Resample::Residual,
            false => Resample::Convolution,
        },
        attention_order: AttentionOrder::New,
        // Those of the published DDPM networks.
        details: Details {
            norm_eps: 1e-6,
            sines_first: true,
            frequency_shift: 1.0,
            pads_after: true,
            norm_groups: [32, 16, 8, 4, 2, 1]
                .into_iter()
                .find(|groups| widths.iter().all(|width| width % groups == 0))
                .unwrap_or(1),
        },
    };
    config.blocks().map_err(|error| error.reason)?;
    Ok(Inferred {
        config,
        preset: None,
        unknown: vec![Unknown {
            what: "image size, heads, paddings and embedding of the timestep",
            options: vec![
                "its config.json, beside it or as --arch config.json".into(),
                "a published network, as in --arch ddpm-cifar10-32".into(),
            ],
        }],
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cannot_be_computed_is_refused_in_a_sentence() {
        let usual = json!({
            "_class_name": "UNet2DModel", "_diffusers_version": "0.42.1", "sample_size": 32, "num_train_timesteps": null
        });
        assert!(config(&usual).unwrap().blocks().is_ok());
        for (setting, value, word) in [
            (
                "_class_name",
                json!("UNet2DConditionModel"),
                "Stable Diffusion",
            ),
            ("_class_name", json!("AutoencoderKL"), "`AutoencoderKL`"),
            ("_class_name", json!(null), "no `_class_name`"),
            ("sample_size", json!(null), "no `sample_size`"),
            ("sample_size", json!([32, 64]), "32 x 64"),
            ("time_embedding_type", json!("fourier"), "sigma"),
            ("mid_block_type", json!(null), "`mid_block_type` is null"),
            (
                "class_embed_type",
                json!("timestep"),
                "`class_embed_type` is timestep",
            ),
            ("center_input_sample", json!(true), "center_input_sample"),
            ("add_attention", json!(false), "no add_attention"),
            (
                "mid_block_scale_factor",
                json!(1.5),
                "mid_block_scale_factor",
            ),
            ("act_fn", json!("mish"), "activation"),
            ("downsample_padding", json!(2), "`downsample_padding` is 2"),
            ("downsample_type", json!("resnet"), "some of its levels"),
            (
                "block_out_channels",
                json!([32, 64]),
                "2 `block_out_channels`",
            ),
            ("block_out_channels", json!([]), "no `block_out_channels`"),
            ("resnet_time_scale_shift", json!("ada_group"), "ada_group"),
            (
                "resnet_time_scale_shift",
                json!("scale_shift"),
                "no normalisation before",
            ),
            ("time_embedding_dim", json!(100), "896"),
            ("layers_per_block", json!("two"), "invalid type"),
            (
                "down_block_types",
                json!([
                    "SkipDownBlock2D",
                    "DownBlock2D",
                    "DownBlock2D",
                    "DownBlock2D"
                ]),
                "level 1 goes down by SkipDownBlock2D",
            ),
        ] {
            let mut written = usual.clone();
            written[setting] = value;
            let error = config(&written).unwrap_err();
            assert!(error.contains(word), "{setting}: {error}");
        }
    }
}
