//! Diffusion transformers: their architecture from names and shapes.

use std::collections::BTreeMap;

use diffrep_backbones::DiTConfig;

use crate::{ImportError, RawCheckpoint};

/// The first layer, whose name no other network has.
const ANCHOR: &str = "x_embedder.proj.weight";

/// Whether a checkpoint holds a diffusion transformer with the names of facebookresearch/DiT.
pub fn is_dit(raw: &RawCheckpoint) -> bool {
    raw.tensors()
        .iter()
        .any(|tensor| tensor.name.ends_with(ANCHOR))
}

/// The diffusion transformer that a checkpoint holds. Of a training's checkpoint these are the moving
/// averages (`ema`). Heads are those of the published sizes, and the last row of the classes' table is
/// taken for the null class, as in every published network.
///
/// # Errors
///
/// When there is none, a tensor that tells a size is missing, or depth and width are not those of a
/// published size.
pub fn infer_dit(raw: &RawCheckpoint) -> Result<DiTConfig, ImportError> {
    let refuse = |reason: String| ImportError::NotATransformer {
        path: raw.path().into(),
        reason,
    };
    let names = || raw.tensors().iter().map(|tensor| tensor.name.as_str());
    let prefixes: Vec<&str> = names()
        .filter_map(|name| name.strip_suffix(ANCHOR))
        .collect();
    let averaged = prefixes.iter().find(|prefix| **prefix == "ema.");
    let Some(prefix) = averaged.or(prefixes.first()) else {
        return Err(refuse(format!("it has no tensor `{ANCHOR}`")));
    };
    let shapes: BTreeMap<&str, &[usize]> = raw
        .tensors()
        .iter()
        .filter_map(|tensor| Some((tensor.name.strip_prefix(prefix)?, tensor.shape.as_slice())))
        .collect();
    let axis = |name: &str, axis: usize| {
        let found = shapes.get(name).and_then(|shape| shape.get(axis).copied());
        let within = found.filter(|length| (1..1 << 24).contains(length));
        within.ok_or_else(|| refuse(format!("`{name}` does not tell a size along axis {axis}")))
    };
    let depth = (0..1 << 10)
        .take_while(|i| shapes.contains_key(format!("blocks.{i}.attn.qkv.weight").as_str()))
        .count();
    let [width, in_channels, patch] = [0, 1, 2].map(|i| axis(ANCHOR, i));
    let (width, in_channels, patch) = (width?, in_channels?, patch?);
    let tokens = axis("pos_embed", 1)?;
    let outputs = axis("final_layer.linear.weight", 0)?;
    let heads = DiTConfig::usual_heads(depth, width).ok_or_else(|| {
        refuse(format!(
            "its {depth} blocks of width {width} are no published size, and tensors do not tell the number of heads: \
             describe it in a JSON file and give it as --arch (as in fixtures/generative/dit/config.json)"
        ))
    })?;
    Ok(DiTConfig {
        image_size: tokens.isqrt() * patch,
        in_channels,
        patch,
        width,
        depth,
        heads,
        mlp: axis("blocks.0.mlp.fc1.weight", 0)?,
        classes: axis("y_embedder.embedding_table.weight", 0)?
            .checked_sub(1)
            .filter(|classes| *classes > 0)
            .ok_or_else(|| refuse("it has a single class".into()))?,
        null_class: true,
        learn_sigma: outputs == 2 * in_channels * patch * patch,
    })
}
