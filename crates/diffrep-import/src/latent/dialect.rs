//! Names of published files, and the names that the networks here have: those of diffusers and
//! transformers.

/// How the tensors of a part are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `UNet2DConditionModel`: our own names.
    Unet,
    /// `openaimodel.UNetModel`, with so many residual blocks a level.
    OriginalUnet {
        /// Going down.
        layers: usize,
    },
    /// `AutoencoderKL`, also with the names that its attention had before version 0.18.
    FirstStage,
    /// `ldm.models.autoencoder.AutoencoderKL`.
    OriginalFirstStage,
    /// `CLIPTextModel`, with `text_model.` before its names or without.
    Clip,
    /// The text side of OpenCLIP, of which so many layers are used.
    OpenClip {
        /// From the first.
        layers: usize,
    },
}

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A parameter of the network.
    Parameter(String),
    /// Parameters that lie one after another along the first axis.
    Stacked(Vec<String>),
    /// Not needed, with the reason.
    Left(&'static str),
    /// Nothing is known about it.
    Unknown,
}

const DECODER: &str = "the VAE's decoder, which features do not need";
const POSITIONS: &str = "numbers of positions";
const PROJECTION: &str = "what projects a text to be compared with images";
const LAST_LAYER: &str = "the last layer, of which Stable Diffusion reads the input";
const TRAINING: &str = "the loss of the VAE's training";

impl Dialect {
    pub(super) fn meaning(&self, name: &str) -> Meaning {
        match self {
            Self::Unet => Meaning::Parameter(name.into()),
            Self::OriginalUnet { layers } => parameter(unet(name, *layers)),
            Self::FirstStage => first_stage(name),
            Self::OriginalFirstStage => original_first_stage(name),
            Self::Clip => clip(name),
            Self::OpenClip { layers } => open_clip(name, *layers),
        }
    }
}

fn parameter(name: Option<String>) -> Meaning {
    name.map_or(Meaning::Unknown, Meaning::Parameter)
}

/// The name of a layer in a residual block.
fn res_layer(rest: &str) -> Option<String> {
    const NAMES: [(&str, &str); 6] = [
        ("in_layers.0.", "norm1."),
        ("in_layers.2.", "conv1."),
        ("emb_layers.1.", "time_emb_proj."),
        ("out_layers.0.", "norm2."),
        ("out_layers.3.", "conv2."),
        ("skip_connection.", "conv_shortcut."),
    ];
    renamed(rest, &NAMES)
}

/// `name` with the first of the beginnings that it has replaced.
fn renamed(name: &str, table: &[(&str, &str)]) -> Option<String> {
    table
        .iter()
        .find_map(|(old, new)| Some(format!("{new}{}", name.strip_prefix(old)?)))
}

/// The number at the beginning and what follows its dot.
fn numbered(name: &str) -> Option<(usize, &str)> {
    let (number, rest) = name.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

fn unet(name: &str, layers: usize) -> Option<String> {
    const ENDS: [(&str, &str); 5] = [
        ("time_embed.0.", "time_embedding.linear_1."),
        ("time_embed.2.", "time_embedding.linear_2."),
        ("input_blocks.0.0.", "conv_in."),
        ("out.0.", "conv_norm_out."),
        ("out.2.", "conv_out."),
    ];
    if let Some(name) = renamed(name, &ENDS) {
        return Some(name);
    }
    if let Some(rest) = name.strip_prefix("middle_block.") {
        return match numbered(rest)? {
            (0, rest) => Some(format!("mid_block.resnets.0.{}", res_layer(rest)?)),
            (1, rest) => Some(format!("mid_block.attentions.0.{rest}")),
            (2, rest) => Some(format!("mid_block.resnets.1.{}", res_layer(rest)?)),
            _ => None,
        };
    }
    if let Some(rest) = name.strip_prefix("input_blocks.") {
        let (block, rest) = numbered(rest)?;
        let place = block.checked_sub(1)?;
        let (level, place) = (place / (layers + 1), place % (layers + 1));
        let prefix = format!("down_blocks.{level}");
        let (part, rest) = numbered(rest)?;
        return match (part, place == layers) {
            (0, true) => {
                let rest = rest.strip_prefix("op.")?;
                Some(format!("{prefix}.downsamplers.0.conv.{rest}"))
            }
            (0, false) => Some(format!("{prefix}.resnets.{place}.{}", res_layer(rest)?)),
            (1, false) => Some(format!("{prefix}.attentions.{place}.{rest}")),
            _ => None,
        };
    }
    let (block, rest) = numbered(name.strip_prefix("output_blocks.")?)?;
    let (level, place) = (block / (layers + 1), block % (layers + 1));
    let prefix = format!("up_blocks.{level}");
    match numbered(rest)? {
        (0, rest) => Some(format!("{prefix}.resnets.{place}.{}", res_layer(rest)?)),
        // Where a level has no attention, what enlarges the map takes its place.
        (1 | 2, rest) if rest.starts_with("conv.") => Some(format!("{prefix}.upsamplers.0.{rest}")),
        (1, rest) => Some(format!("{prefix}.attentions.{place}.{rest}")),
        _ => None,
    }
}

fn first_stage(name: &str) -> Meaning {
    if name.starts_with("decoder.") || name.starts_with("post_quant_conv.") {
        return Meaning::Left(DECODER);
    }
    const OLD: [(&str, &str); 4] = [
        (".query.", ".to_q."),
        (".key.", ".to_k."),
        (".value.", ".to_v."),
        (".proj_attn.", ".to_out.0."),
    ];
    let old = OLD
        .iter()
        .find(|(old, _)| name.contains(".attentions.") && name.contains(old));
    Meaning::Parameter(match old {
        Some((old, new)) => name.replace(old, new),
        None => name.into(),
    })
}

fn original_first_stage(name: &str) -> Meaning {
    if name.starts_with("decoder.") || name.starts_with("post_quant_conv.") {
        return Meaning::Left(DECODER);
    }
    if name.starts_with("loss.") {
        return Meaning::Left(TRAINING);
    }
    parameter(encoder(name))
}

fn encoder(name: &str) -> Option<String> {
    const NAMES: [(&str, &str); 11] = [
        ("encoder.conv_in.", "encoder.conv_in."),
        ("encoder.conv_out.", "encoder.conv_out."),
        ("encoder.norm_out.", "encoder.conv_norm_out."),
        ("quant_conv.", "quant_conv."),
        (
            "encoder.mid.attn_1.norm.",
            "encoder.mid_block.attentions.0.group_norm.",
        ),
        (
            "encoder.mid.attn_1.q.",
            "encoder.mid_block.attentions.0.to_q.",
        ),
        (
            "encoder.mid.attn_1.k.",
            "encoder.mid_block.attentions.0.to_k.",
        ),
        (
            "encoder.mid.attn_1.v.",
            "encoder.mid_block.attentions.0.to_v.",
        ),
        (
            "encoder.mid.attn_1.proj_out.",
            "encoder.mid_block.attentions.0.to_out.0.",
        ),
        ("encoder.mid.block_1.", "encoder.mid_block.resnets.0."),
        ("encoder.mid.block_2.", "encoder.mid_block.resnets.1."),
    ];
    let name = match renamed(name, &NAMES) {
        Some(name) => name,
        None => {
            let (level, rest) = numbered(name.strip_prefix("encoder.down.")?)?;
            let prefix = format!("encoder.down_blocks.{level}");
            match rest.strip_prefix("downsample.") {
                Some(rest) => format!("{prefix}.downsamplers.0.{rest}"),
                None => format!("{prefix}.resnets.{}", rest.strip_prefix("block.")?),
            }
        }
    };
    Some(name.replace(".nin_shortcut.", ".conv_shortcut."))
}

fn clip(name: &str) -> Meaning {
    let rest = name.strip_prefix("text_model.").unwrap_or(name);
    match rest {
        "embeddings.position_ids" => Meaning::Left(POSITIONS),
        "text_projection.weight" | "logit_scale" => Meaning::Left(PROJECTION),
        rest => Meaning::Parameter(format!("text_model.{rest}")),
    }
}

fn open_clip(name: &str, layers: usize) -> Meaning {
    const ENDS: [(&str, &str); 3] = [
        ("token_embedding.", "text_model.embeddings.token_embedding."),
        (
            "positional_embedding",
            "text_model.embeddings.position_embedding.weight",
        ),
        ("ln_final.", "text_model.final_layer_norm."),
    ];
    const LAYER: [(&str, &str); 5] = [
        ("ln_1.", "layer_norm1."),
        ("ln_2.", "layer_norm2."),
        ("mlp.c_fc.", "mlp.fc1."),
        ("mlp.c_proj.", "mlp.fc2."),
        ("attn.out_proj.", "self_attn.out_proj."),
    ];
    if matches!(name, "text_projection" | "logit_scale") {
        return Meaning::Left(PROJECTION);
    }
    if name == "attn_mask" {
        return Meaning::Left(POSITIONS);
    }
    if let Some(name) = renamed(name, &ENDS) {
        return Meaning::Parameter(name);
    }
    let numbered = name
        .strip_prefix("transformer.resblocks.")
        .and_then(numbered);
    let Some((layer, rest)) = numbered else {
        return Meaning::Unknown;
    };
    if layer >= layers {
        return Meaning::Left(LAST_LAYER);
    }
    let prefix = format!("text_model.encoder.layers.{layer}");
    match rest.strip_prefix("attn.in_proj_") {
        Some(kind @ ("weight" | "bias")) => {
            let part = |part: &str| format!("{prefix}.self_attn.{part}_proj.{kind}");
            Meaning::Stacked(["q", "k", "v"].map(part).to_vec())
        }
        Some(_) => Meaning::Unknown,
        None => parameter(renamed(rest, &LAYER).map(|rest| format!("{prefix}.{rest}"))),
    }
}
