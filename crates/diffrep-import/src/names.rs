//! What the parameters of a network are called in a file: as in guided diffusion, or as in the
//! `UNet2DModel` of diffusers, which has the same parameters under other names.

use std::collections::BTreeMap;

use diffrep_unet::{ConfigError, Kind, UNetConfig, parameter_shapes};

use crate::TensorInfo;

/// Whose names a file uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// guided-diffusion's and improved-diffusion's, which are also ours.
    Reference,
    /// diffusers', with these names of an attention's projections.
    Diffusers(Projections),
}

/// Names of an attention's projections in diffusers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Projections {
    /// `to_q`, `to_k`, `to_v`, `to_out.0`.
    Now,
    /// `query`, `key`, `value`, `proj_attn`: files from before 2023.
    Before,
}

impl Projections {
    fn inputs(self) -> [&'static str; 3] {
        match self {
            Self::Now => ["to_q", "to_k", "to_v"],
            Self::Before => ["query", "key", "value"],
        }
    }

    fn output(self) -> &'static str {
        match self {
            Self::Now => "to_out.0",
            Self::Before => "proj_attn",
        }
    }
}

impl Dialect {
    /// The dialect of a file with these tensors. A `UNet2DModel` is told from the networks of Stable
    /// Diffusion by its attention, which reads no text.
    pub(crate) fn of(tensors: &[TensorInfo]) -> Self {
        let has = |test: &dyn Fn(&str) -> bool| tensors.iter().any(|tensor| test(&tensor.name));
        let diffusers = has(&|name| name == "time_embedding.linear_1.weight")
            && has(&|name| name.starts_with("down_blocks.0.resnets.0."))
            && !has(&|name| name.contains("transformer_blocks."));
        match diffusers {
            false => Self::Reference,
            true if has(&|name| name.ends_with(".query.weight")) => {
                Self::Diffusers(Projections::Before)
            }
            true => Self::Diffusers(Projections::Now),
        }
    }
}

/// A parameter with the tensors of a file that make it up.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Key in the reference's state dict.
    pub(crate) key: String,
    /// The parameter's shape.
    pub(crate) shape: Vec<usize>,
    /// Names and shapes in the file; several are stacked along the first axis.
    pub(crate) parts: Vec<(String, Vec<usize>)>,
}

/// Every parameter of a network with its tensors in a file of the given dialect.
pub(crate) fn wanted(dialect: Dialect, config: &UNetConfig) -> Result<Vec<Wanted>, ConfigError> {
    if let (Dialect::Diffusers(_), Kind::Encoder(_)) = (dialect, config.kind) {
        return Err(ConfigError {
            reason: "diffusers has no names for a classifier of guided diffusion".into(),
        });
    }
    let parameters = parameter_shapes(config)?.into_iter();
    Ok(parameters
        .map(|parameter| {
            let parts = match dialect {
                Dialect::Reference => vec![(parameter.key.clone(), parameter.shape.clone())],
                Dialect::Diffusers(names) => {
                    translated(&parameter.key, &parameter.shape, names, config)
                }
            };
            Wanted {
                key: parameter.key,
                shape: parameter.shape,
                parts,
            }
        })
        .collect())
}

/// The same by key.
pub(crate) fn wanted_by_key(
    dialect: Dialect,
    config: &UNetConfig,
) -> Result<BTreeMap<String, Wanted>, ConfigError> {
    let all = wanted(dialect, config)?.into_iter();
    Ok(all.map(|wanted| (wanted.key.clone(), wanted)).collect())
}

/// Layers of a residual block.
const RESIDUAL: [(&str, &str); 6] = [
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
];

/// The tensors that make up a parameter, with their shapes. `in_layers.0.weight` of the second layer of
/// `input_blocks.4` and its like follow from how blocks are counted: each level has its residual
/// blocks and then a change of resolution.
fn translated(
    key: &str,
    shape: &[usize],
    names: Projections,
    config: &UNetConfig,
) -> Vec<(String, Vec<usize>)> {
    let one = |name: String| vec![(name, shape.to_vec())];
    let (layer, end) = key.rsplit_once('.').unwrap_or((key, ""));
    let fixed = [
        ("time_embed.0", "time_embedding.linear_1"),
        ("time_embed.2", "time_embedding.linear_2"),
        ("label_emb", "class_embedding"),
        ("input_blocks.0.0", "conv_in"),
        ("out.0", "conv_norm_out"),
        ("out.2", "conv_out"),
    ];
    if let Some((_, name)) = fixed.iter().find(|(known, _)| *known == layer) {
        return one(format!("{name}.{end}"));
    }
    let parts: Vec<&str> = layer.split('.').collect();
    let number = |place: usize| -> usize {
        parts
            .get(place)
            .and_then(|part| part.parse().ok())
            .expect("a block and a layer of it have numbers")
    };
    let run = config.num_res_blocks + 1;
    // What the layer is within its block, and where its block is.
    let (home, within) = match parts[0] {
        "input_blocks" => {
            let (level, place) = ((number(1) - 1) / run, (number(1) - 1) % run);
            let home = match (place + 1 == run, number(2)) {
                (true, _) => format!("down_blocks.{level}.downsamplers.0"),
                (false, 0) => format!("down_blocks.{level}.resnets.{place}"),
                (false, _) => format!("down_blocks.{level}.attentions.{place}"),
            };
            (home, parts[3..].join("."))
        }
        "middle_block" => {
            let home = ["resnets.0", "attentions.0", "resnets.1"][number(1)];
            (format!("mid_block.{home}"), parts[2..].join("."))
        }
        _ => {
            let (level, place) = (number(1) / run, number(1) % run);
            let within = parts[3..].join(".");
            let attends = ["norm", "qkv", "proj_out"].contains(&within.as_str());
            let home = match (number(2), attends) {
                (0, _) => format!("up_blocks.{level}.resnets.{place}"),
                (_, true) => format!("up_blocks.{level}.attentions.{place}"),
                (_, false) => format!("up_blocks.{level}.upsamplers.0"),
            };
            (home, within)
        }
    };
    // Attention's projections are linear there, and queries, keys and values are apart.
    let linear = |rows: usize| match end {
        "weight" => vec![rows, shape[1]],
        _ => vec![rows],
    };
    match within.as_str() {
        "norm" => one(format!("{home}.group_norm.{end}")),
        "qkv" => names
            .inputs()
            .map(|name| (format!("{home}.{name}.{end}"), linear(shape[0] / 3)))
            .to_vec(),
        "proj_out" => vec![(format!("{home}.{}.{end}", names.output()), linear(shape[0]))],
        "op" | "conv" => one(format!("{home}.conv.{end}")),
        other => {
            let known = RESIDUAL.iter().find(|(name, _)| *name == other);
            one(format!(
                "{home}.{}.{end}",
                known.map_or(other, |(_, name)| name)
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use diffrep_unet::Resample;

    use super::*;

    #[test]
    fn names_follow_the_blocks() {
        let config = UNetConfig {
            num_res_blocks: 2,
            attention_resolutions: vec![2],
            resample: Resample::Convolution,
            ..UNetConfig::mini()
        };
        let named = |key: &str, names| -> Vec<String> {
            let shape = [96, 32, 1];
            let parts = translated(key, &shape, names, &config).into_iter();
            parts.map(|(name, _)| name).collect()
        };
        for (key, name) in [
            ("time_embed.2.bias", "time_embedding.linear_2.bias"),
            ("label_emb.weight", "class_embedding.weight"),
            ("input_blocks.0.0.weight", "conv_in.weight"),
            (
                "input_blocks.2.0.in_layers.2.weight",
                "down_blocks.0.resnets.1.conv1.weight",
            ),
            (
                "input_blocks.3.0.op.bias",
                "down_blocks.0.downsamplers.0.conv.bias",
            ),
            (
                "input_blocks.4.1.norm.weight",
                "down_blocks.1.attentions.0.group_norm.weight",
            ),
            (
                "middle_block.1.proj_out.weight",
                "mid_block.attentions.0.to_out.0.weight",
            ),
            (
                "middle_block.2.emb_layers.1.weight",
                "mid_block.resnets.1.time_emb_proj.weight",
            ),
            (
                "output_blocks.2.1.conv.weight",
                "up_blocks.0.upsamplers.0.conv.weight",
            ),
            (
                "output_blocks.5.2.conv.weight",
                "up_blocks.1.upsamplers.0.conv.weight",
            ),
            (
                "output_blocks.5.0.skip_connection.weight",
                "up_blocks.1.resnets.2.conv_shortcut.weight",
            ),
            ("out.2.weight", "conv_out.weight"),
        ] {
            assert_eq!(named(key, Projections::Now), [name]);
        }
        assert_eq!(
            named("output_blocks.3.1.qkv.weight", Projections::Before),
            ["query", "key", "value"].map(|name| format!("up_blocks.1.attentions.0.{name}.weight"))
        );
        let parts = translated(
            "middle_block.1.qkv.weight",
            &[96, 32, 1],
            Projections::Now,
            &config,
        );
        assert!(parts.iter().all(|(_, shape)| *shape == [32, 32]));
    }
}
