//! Configurations of the original release's parts from the names and shapes of their tensors.

use std::collections::BTreeMap;

use diffrep_latent::{FirstStageConfig, TextConfig, TextGelu, UNetConfig};

/// More elements than any axis of a tensor in such a network has.
const LARGEST_AXIS: usize = 1 << 24;
/// Channels a head in Stable Diffusion 2, and in CLIP.
const HEAD: usize = 64;
/// Heads in Stable Diffusion 1, whatever the channels.
const HEADS: usize = 8;

/// Shapes by name.
pub(super) struct Shapes(BTreeMap<String, Vec<usize>>);

impl Shapes {
    /// Of the tensors whose names begin with `prefix`, without it.
    pub(super) fn of<'a>(
        tensors: impl Iterator<Item = (&'a str, &'a [usize])>,
        prefix: &str,
    ) -> Self {
        let own = tensors.filter_map(|(name, shape)| {
            let sane = shape.iter().all(|axis| (1..=LARGEST_AXIS).contains(axis));
            let name = name.strip_prefix(prefix)?;
            sane.then(|| (name.to_string(), shape.to_vec()))
        });
        Self(own.collect())
    }

    fn get(&self, name: &str) -> Option<&[usize]> {
        self.0.get(name).map(Vec::as_slice)
    }

    fn axis(&self, name: &str, axis: usize) -> Result<usize, String> {
        let shape = self
            .get(name)
            .ok_or_else(|| format!("it has no `{name}`"))?;
        let length = shape.get(axis).copied();
        length.ok_or_else(|| format!("its `{name}` has shape {shape:?}"))
    }

    /// How many numbers from 0 on follow `prefix`.
    fn count(&self, prefix: &str) -> usize {
        let number = |name: &String| {
            let (number, _) = name.strip_prefix(prefix)?.split_once('.')?;
            number.parse::<usize>().ok()
        };
        let last = self.0.keys().filter_map(number).max();
        last.map_or(0, |last| last.saturating_add(1).min(1 << 10))
    }
}

pub(super) fn unet(shapes: &Shapes) -> Result<UNetConfig, String> {
    let blocks = shapes.count("input_blocks.");
    let halves = |block: &usize| {
        let name = format!("input_blocks.{block}.0.op.weight");
        shapes.get(&name).is_some()
    };
    let stride = (0..blocks).find(halves).unwrap_or(blocks).max(2);
    let (layers_per_block, levels) = (stride - 1, blocks / stride);
    let mut block_out_channels = Vec::new();
    let mut attention = Vec::new();
    for level in 0..levels {
        let first = 1 + level * stride;
        let name = format!("input_blocks.{first}.0.in_layers.2.weight");
        block_out_channels.push(shapes.axis(&name, 0)?);
        let name = format!("input_blocks.{first}.1.proj_in.weight");
        attention.push(shapes.get(&name).is_some());
    }
    let proj = "middle_block.1.proj_in.weight";
    let linear = shapes
        .get(proj)
        .ok_or_else(|| format!("it has no `{proj}`"))?;
    // Both publications go with one form: 8 heads with convolutions, heads of 64 channels with
    // linear layers.
    let heads = match linear.len() {
        2 => {
            let whole = block_out_channels.iter().map(|channels| {
                let fits = channels.is_multiple_of(HEAD);
                fits.then_some(channels / HEAD)
            });
            whole.collect::<Option<Vec<_>>>().ok_or_else(|| {
                format!(
                    "its tensors do not tell how many attention heads it has, and heads of {HEAD} \
                     channels do not divide its {block_out_channels:?}: give a \
                     diffusers folder that describes it as its architecture (--arch)"
                )
            })?
        }
        _ => vec![HEADS; levels],
    };
    let to_k = "middle_block.1.transformer_blocks.0.attn2.to_k.weight";
    Ok(UNetConfig {
        sample_size: UNetConfig::stable_diffusion_1().sample_size,
        in_channels: shapes.axis("input_blocks.0.0.weight", 1)?,
        out_channels: shapes.axis("out.2.weight", 0)?,
        layers_per_block,
        heads,
        cross_attention_dim: shapes.axis(to_k, 1)?,
        norm_num_groups: UNetConfig::stable_diffusion_1().norm_num_groups,
        attention,
        block_out_channels,
    })
}

pub(super) fn first_stage(shapes: &Shapes) -> Result<FirstStageConfig, String> {
    let levels = shapes.count("encoder.down.");
    let channels = (0..levels).map(|level| {
        let name = format!("encoder.down.{level}.block.0.conv1.weight");
        shapes.axis(&name, 0)
    });
    let base = FirstStageConfig::kl_f8();
    let block_out_channels: Vec<usize> = channels.collect::<Result<_, _>>()?;
    // Normalisations of fewer channels than groups are of small models that try things out.
    let least = block_out_channels.iter().copied().min().unwrap_or(1);
    Ok(FirstStageConfig {
        image_size: 1 << (levels.clamp(1, 9) - 1),
        in_channels: shapes.axis("encoder.conv_in.weight", 1)?,
        layers_per_block: shapes.count("encoder.down.0.block."),
        latent_channels: shapes.axis("encoder.conv_out.weight", 0)? / 2,
        norm_num_groups: base.norm_num_groups.min(least),
        quant_conv: shapes.get("quant_conv.weight").is_some(),
        block_out_channels,
        ..base
    })
}

pub(super) fn text(shapes: &Shapes) -> Result<TextConfig, String> {
    let open_clip = shapes.get("token_embedding.weight").is_some();
    let clip = ["text_model.", ""]
        .into_iter()
        .find(|prefix| {
            let name = format!("{prefix}embeddings.token_embedding.weight");
            shapes.get(&name).is_some()
        })
        .unwrap_or("text_model.");
    let (tokens, places, layers, hidden) = match open_clip {
        true => (
            "token_embedding.weight".to_string(),
            "positional_embedding".to_string(),
            "transformer.resblocks.".to_string(),
            "transformer.resblocks.0.mlp.c_fc.weight".to_string(),
        ),
        false => (
            format!("{clip}embeddings.token_embedding.weight"),
            format!("{clip}embeddings.position_embedding.weight"),
            format!("{clip}encoder.layers."),
            format!("{clip}encoder.layers.0.mlp.fc1.weight"),
        ),
    };
    let hidden_size = shapes.axis(&tokens, 1)?;
    Ok(TextConfig {
        vocab_size: shapes.axis(&tokens, 0)?,
        hidden_size,
        intermediate_size: shapes.axis(&hidden, 0)?,
        // Stable Diffusion 2 reads the input of OpenCLIP's last layer.
        num_hidden_layers: shapes.count(&layers).saturating_sub(usize::from(open_clip)),
        num_attention_heads: (hidden_size / HEAD).max(1),
        max_position_embeddings: shapes.axis(&places, 0)?,
        hidden_act: match open_clip {
            true => TextGelu::Gelu,
            false => TextGelu::QuickGelu,
        },
        layer_norm_eps: 1e-5,
    })
}
