//! The architecture of an ADM network from its tensors' names and shapes.
//!
//! Sizes are read where they show directly. How many levels there are does not always show (a
//! residual block that halves the resolution looks like any other), so every count of levels that
//! divides the encoder is tried, and the one whose network has exactly the file's tensors is taken.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use diffrep_unet::{
    AttentionOrder, ClassifierPool, Details, Heads, Kind, Resample, UNetConfig, parameter_shapes,
};
use serde::Serialize;

use crate::names::Dialect;
use crate::presets::recognise;
use crate::sniff::looks_like;
use crate::{ImportError, TensorInfo, diffusers};

/// Something that names and shapes do not tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unknown {
    /// What is open.
    pub what: &'static str,
    /// Values that would fit, as an architecture file writes them.
    pub options: Vec<String>,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} ({})", self.what, self.options.join(" or "))
    }
}

/// What names and shapes tell about a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Inferred {
    /// The architecture; what is unknown holds the first option.
    pub config: UNetConfig,
    /// The published network with these sizes, which settled what would be unknown.
    pub preset: Option<&'static str>,
    /// What neither the tensors nor a publication tell.
    pub unknown: Vec<Unknown>,
}

/// More elements than any axis of a tensor in such a network has.
const LARGEST_AXIS: usize = 1 << 24;

/// Shapes by name.
type Shapes<'a> = BTreeMap<&'a str, &'a [usize]>;

/// The architecture whose network has these tensors, or the nearest one if none has exactly them.
///
/// `path` is only named in errors.
///
/// # Errors
///
/// When they are not the tensors of an ADM network, or those of a super-resolution network.
pub fn infer(path: &Path, tensors: &[TensorInfo]) -> Result<Inferred, ImportError> {
    let shapes: Shapes<'_> = tensors
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice()))
        .collect();
    let not_adm = |reason| ImportError::NotAdm {
        path: path.into(),
        reason,
    };
    // Keeps every product below within bounds, whatever a file claims.
    let within = |axis: &usize| (1..=LARGEST_AXIS).contains(axis);
    if let Some(odd) = tensors.iter().find(|t| !t.shape.iter().all(within)) {
        return Err(not_adm(format!(
            "tensor `{}` has shape {:?}, and axes go from 1 to {LARGEST_AXIS}",
            odd.name, odd.shape
        )));
    }
    if let Dialect::Diffusers(_) = Dialect::of(tensors) {
        return diffusers::infer(tensors).map_err(not_adm);
    }
    let facts = facts(&shapes).map_err(|reason| {
        not_adm(match looks_like(tensors) {
            Some(other) => format!("{reason}; it looks like {other}"),
            None => reason,
        })
    })?;
    if facts.kind == Kind::UNet && facts.in_channels == 6 && facts.model_channels == 192 {
        return Err(ImportError::Unsupported {
            path: path.into(),
            what: "a super-resolution network (its 6 input channels are an image and a smaller one)",
            reason: "it needs a low-resolution image beside the noised one",
        });
    }
    let mut candidates: Vec<(usize, UNetConfig)> = facts
        .candidates(&shapes)
        .into_iter()
        .filter_map(|config| Some((differences(&config, &shapes)?, config)))
        .collect();
    candidates.sort_by_key(|(differences, _)| *differences);
    let Some((fewest, best)) = candidates.first().cloned() else {
        return Err(not_adm(
            "no number of levels and residual blocks fits its encoder".into(),
        ));
    };
    if let (0, Some((name, config))) = (fewest, recognise(&best)) {
        return Ok(Inferred {
            config,
            preset: Some(name),
            unknown: Vec::new(),
        });
    }
    let mut unknown = unknowns(&best);
    let equal: Vec<_> = candidates
        .iter()
        .take_while(|(count, _)| *count == fewest && fewest == 0)
        .collect();
    if equal.len() > 1 {
        let options = equal.iter().map(|(_, config)| {
            format!(
                "num_res_blocks {} with channel_mult {:?}",
                config.num_res_blocks, config.channel_mult
            )
        });
        unknown.push(Unknown {
            what: "number of levels",
            options: options.collect(),
        });
    }
    Ok(Inferred {
        config: best,
        preset: None,
        unknown,
    })
}

/// What shows directly.
struct Facts {
    kind: Kind,
    in_channels: usize,
    model_channels: usize,
    out_channels: usize,
    num_classes: Option<usize>,
    scale_shift: bool,
    /// Blocks of the encoder.
    input_blocks: usize,
    /// How resolution changes, where it changes at all.
    resample: Resample,
    /// Pixels that the attention pool reads.
    pooled: Option<usize>,
}

fn facts(shapes: &Shapes<'_>) -> Result<Facts, String> {
    let shape = |name: &str| shapes.get(name).copied();
    let axis = |name: &str, axis: usize| {
        shape(name)
            .and_then(|shape| shape.get(axis).copied())
            .ok_or_else(|| format!("it has no tensor `{name}` with at least {} axes", axis + 1))
    };
    let has = |start: &str| {
        shapes
            .range(start..)
            .next()
            .is_some_and(|(name, _)| name.starts_with(start))
    };
    let rank = |name: &str| shape(name).map_or(0, <[usize]>::len);
    let (kind, logits) = if has("output_blocks.") {
        (Kind::UNet, "out.2.weight")
    } else if rank("out.2.positional_embedding") == 2 {
        (
            Kind::Encoder(ClassifierPool::Attention),
            "out.2.c_proj.weight",
        )
    } else if rank("out.3.weight") == 4 {
        (Kind::Encoder(ClassifierPool::Adaptive), "out.3.weight")
    } else if rank("out.3.weight") == 2 {
        (Kind::Encoder(ClassifierPool::SpatialV2), "out.3.weight")
    } else {
        (Kind::Encoder(ClassifierPool::Spatial), "out.2.weight")
    };
    let model_channels = axis("time_embed.0.weight", 1)?;
    let blocks: Vec<usize> = shapes
        .range("input_blocks."..)
        .map_while(|(name, _)| {
            name.strip_prefix("input_blocks.")?
                .split('.')
                .next()?
                .parse()
                .ok()
        })
        .collect();
    let last = blocks.iter().copied().max().unwrap_or(0);
    let strided = shapes
        .keys()
        .any(|name| name.starts_with("input_blocks.") && name.ends_with(".0.op.weight"));
    // Pooling has no weights, so its number is skipped.
    let gap = (1..last.min(blocks.len())).any(|i| !blocks.contains(&i));
    if last >= blocks.len() && last > 0 {
        return Err(format!(
            "its encoder names block {last} and has {} tensors",
            blocks.len()
        ));
    }
    let modulation = axis("input_blocks.1.0.emb_layers.1.weight", 0)?;
    Ok(Facts {
        kind,
        in_channels: axis("input_blocks.0.0.weight", 1)?,
        model_channels,
        out_channels: axis(logits, 0)?,
        num_classes: shape("label_emb.weight").and_then(|shape| shape.first().copied()),
        scale_shift: modulation == 2 * axis("input_blocks.1.0.out_layers.3.weight", 0)?,
        input_blocks: last + 1,
        resample: match (strided, gap) {
            (true, _) => Resample::Convolution,
            (false, true) => Resample::Plain,
            (false, false) => Resample::Residual,
        },
        pooled: shape("out.2.positional_embedding").and_then(|shape| shape.get(1)?.checked_sub(1)),
    })
}

impl Facts {
    /// A configuration for every count of levels that divides the encoder. It has a first
    /// convolution and, at each level, residual blocks and (but for the last) a change of resolution.
    fn candidates(&self, shapes: &Shapes<'_>) -> Vec<UNetConfig> {
        let blocks = self.input_blocks;
        let lengths = (2..=blocks).filter(|length| blocks.is_multiple_of(*length));
        lengths
            .filter_map(|length| self.candidate(blocks / length, length - 1, shapes))
            .collect()
    }

    fn candidate(&self, levels: usize, depth: usize, shapes: &Shapes<'_>) -> Option<UNetConfig> {
        let factor = 1usize
            .checked_shl(levels as u32 - 1)
            .filter(|factor| *factor <= 1 << 16)?;
        let mut channel_mult = Vec::new();
        let mut attention_resolutions = Vec::new();
        let mut attended = Vec::new();
        for level in 0..levels {
            let first = 1 + level * (depth + 1);
            let key = format!("input_blocks.{first}.0.out_layers.3.weight");
            let width = *shapes.get(key.as_str())?.first()?;
            channel_mult.push(multiplier(width, self.model_channels)?);
            attended.push(width);
            if shapes.contains_key(format!("input_blocks.{first}.1.qkv.weight").as_str()) {
                attention_resolutions.push(1 << level);
            } else if level + 1 < levels {
                attended.pop();
            }
        }
        let image_size = match self.pooled {
            Some(pixels) => pixels.isqrt() * factor,
            None => 8 * factor,
        };
        let config = UNetConfig {
            kind: self.kind,
            image_size,
            in_channels: self.in_channels,
            model_channels: self.model_channels,
            out_channels: self.out_channels,
            num_res_blocks: depth,
            attention_resolutions,
            channel_mult,
            heads: head_options(&attended).into_iter().next()?,
            num_classes: self.num_classes,
            use_scale_shift_norm: self.scale_shift,
            resample: self.resample,
            attention_order: AttentionOrder::Legacy,
            details: Details::default(),
        };
        config.blocks().is_ok().then_some(config)
    }
}

/// The multiplier that makes `base` channels `width`, also after rounding down.
pub(crate) fn multiplier(width: usize, base: usize) -> Option<f64> {
    let ratio = width as f64 / base as f64;
    [ratio, ratio.next_up()]
        .into_iter()
        .find(|mult| (mult * base as f64) as usize == width)
}

/// Heads that divide the channels of every attention block, the commonest first.
fn head_options(attended: &[usize]) -> Vec<Heads> {
    let sizes = [64, 32, 16, 128].map(Heads::Channels);
    let counts = [4, 1, 2, 8].map(Heads::Count);
    let fits = |heads: &Heads| {
        attended.iter().all(|channels| match heads {
            Heads::Channels(by) | Heads::Count(by) => {
                channels.is_multiple_of(*by) && *channels >= *by
            }
        })
    };
    sizes.into_iter().chain(counts).filter(fits).collect()
}

/// What the tensors of a network with this configuration do not tell.
fn unknowns(config: &UNetConfig) -> Vec<Unknown> {
    let levels = config.level_channels();
    let attended: Vec<usize> = levels
        .iter()
        .enumerate()
        .filter(|(level, _)| {
            config.attention_resolutions.contains(&(1 << level)) || level + 1 == levels.len()
        })
        .map(|(_, channels)| *channels)
        .collect();
    let mut unknown = Vec::new();
    if config.kind != Kind::Encoder(ClassifierPool::Attention) {
        let factor = 1usize << (levels.len() - 1);
        let options = [8, 4, 16, 32]
            .map(|side| format!("image_size {}", side * factor))
            .to_vec();
        unknown.push(Unknown {
            what: "image size",
            options,
        });
    }
    let options = head_options(&attended)
        .into_iter()
        .map(|heads| match heads {
            Heads::Channels(size) => format!("num_head_channels {size}"),
            Heads::Count(count) => format!("num_heads {count}"),
        })
        .collect();
    unknown.push(Unknown {
        what: "number of heads",
        options,
    });
    let options = ["false", "true"]
        .map(|order| format!("use_new_attention_order {order}"))
        .to_vec();
    unknown.push(Unknown {
        what: "order of the attention projections",
        options,
    });
    unknown
}

/// How many tensors the network of `config` and the file do not share, by name and shape.
fn differences(config: &UNetConfig, shapes: &Shapes<'_>) -> Option<usize> {
    let wanted = parameter_shapes(config).ok()?;
    let shared = wanted
        .iter()
        .filter(|parameter| {
            shapes
                .get(parameter.key.as_str())
                .is_some_and(|shape| **shape == *parameter.shape)
        })
        .count();
    Some(wanted.len() + shapes.len() - 2 * shared)
}
