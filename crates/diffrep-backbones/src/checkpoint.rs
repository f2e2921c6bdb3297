//! From the names in published checkpoints to the names of torchvision and timm. Trainers wrap the
//! network they train in others (`module.encoder_q.`, `backbone.`) and save projection heads,
//! momentum encoders and optimisers beside it. Every name is either used or left for a reason that
//! is told.

use std::collections::BTreeMap;

use crate::names::NamedTensor;

/// Modules in which trainers wrap a network, and keys under which files keep it.
const WRAPPERS: [&str; 18] = [
    "_feature_blocks", // VISSL
    "backbone",        // DINO, mmcv
    "base_encoder",    // MoCo v3
    "base_model",      // VISSL
    "classy_state_dict",
    "encoder",
    "encoder_q", // MoCo v1 and v2
    "model",
    "model_state_dict",
    "module", // DistributedDataParallel
    "net",
    "network",
    "online_encoder", // BYOL
    "state_dict",
    "teacher", // DINO
    "trunk",   // VISSL
    "vision_model",
    "visual", // CLIP
];

/// What stands beside a network in a file, by the first part of its name that is no wrapper, and why
/// it is left there.
const BESIDE: [(&str, &str); 39] = [
    ("amp", TRAINING),
    ("amp_scaler", TRAINING),
    ("args", TRAINING),
    ("center", TRAINING),
    ("criterion", TRAINING),
    ("dino_loss", TRAINING),
    ("epoch", TRAINING),
    ("fp16_scaler", TRAINING),
    ("iteration", TRAINING),
    ("loss", TRAINING),
    ("lr_scheduler", TRAINING),
    ("optimizer", TRAINING),
    ("queue", TRAINING),
    ("queue2", TRAINING),
    ("queue_ptr", TRAINING),
    ("scaler", TRAINING),
    ("scheduler", TRAINING),
    ("classifier", HEAD),
    ("fc", HEAD),
    ("head", HEAD),
    ("heads", HEAD),
    ("online_projector", HEAD),
    ("predictor", HEAD),
    ("prediction_head", HEAD),
    ("projection_head", HEAD),
    ("projector", HEAD),
    ("prototypes", HEAD),
    ("encoder_k", OTHER),
    ("momentum_encoder", OTHER),
    ("student", OTHER),
    ("target_encoder", OTHER),
    ("target_projector", OTHER),
    ("ln_final", TEXT),
    ("logit_scale", TEXT),
    ("positional_embedding", TEXT),
    ("text_model", TEXT),
    ("text_projection", TEXT),
    ("token_embedding", TEXT),
    ("transformer", TEXT),
];

const TRAINING: &str = "state of the training";
const HEAD: &str = "a classifier or projection head";
const OTHER: &str = "another encoder of the same training";
const TEXT: &str = "the text tower";
const COUNTER: &str = "a counter of batches, which no output depends on";
const DECODER: &str = "a part that only pre-training uses";
const INTO_TEXT: &str = "the projection into the space of texts";

/// How a file names the parts of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    ResNet,
    Inception,
    /// timm, DINO, MAE and MoCo v3.
    Timm,
    /// OpenAI's CLIP.
    Clip,
    /// CLIP in Hugging Face's transformers.
    ClipOfTransformers,
}

impl Dialect {
    /// Those in which a network with these tensors may be written.
    fn of(wanted: &[NamedTensor]) -> &'static [Self] {
        let has = |key: &str| wanted.iter().any(|tensor| tensor.key == key);
        if has("patch_embed.proj.weight") {
            &[Self::Timm, Self::Clip, Self::ClipOfTransformers]
        } else if has("Conv2d_1a_3x3.conv.weight") {
            &[Self::Inception]
        } else {
            &[Self::ResNet]
        }
    }

    /// The name of a tensor that every network has once.
    fn anchor(self) -> &'static str {
        match self {
            Self::ResNet => "conv1.weight",
            Self::Inception => "Conv2d_1a_3x3.conv.weight",
            Self::Timm => "patch_embed.proj.weight",
            Self::Clip => "class_embedding",
            Self::ClipOfTransformers => "embeddings.patch_embedding.weight",
        }
    }

    /// Our name for a tensor, and which part of it this is where a file keeps queries, keys and
    /// values apart.
    fn translate(self, name: &str) -> (String, usize) {
        let (swaps, parts): (&[(&str, &str)], &[&str]) = match self {
            Self::ResNet | Self::Inception | Self::Timm => return (name.into(), 0),
            Self::Clip => (&CLIP, &[]),
            Self::ClipOfTransformers => (&CLIP_OF_TRANSFORMERS, &["q_proj", "k_proj", "v_proj"]),
        };
        for (part, separate) in parts.iter().enumerate() {
            if name.contains(&format!(".self_attn.{separate}.")) {
                let fused = name.replace(&format!("self_attn.{separate}"), "attn.qkv");
                return (fused.replace("encoder.layers.", "blocks."), part);
            }
        }
        let translated = swaps
            .iter()
            .fold(name.to_owned(), |name, (from, to)| name.replace(from, to));
        (translated, 0)
    }

    /// Why a tensor of the network itself is left in the file, if that is known to be right.
    fn left(self, name: &str) -> Option<&'static str> {
        let first = name.split('.').next().unwrap_or(name);
        if name.ends_with(".num_batches_tracked") {
            return Some(COUNTER);
        }
        let beside = || {
            let heads = BESIDE.iter().filter(|(_, reason)| *reason == HEAD);
            heads.clone().find(|(part, _)| *part == first)
        };
        match self {
            Self::Inception => None,
            Self::ResNet => beside().map(|(_, reason)| *reason),
            Self::Timm if first == "mask_token" || first.starts_with("decoder_") => Some(DECODER),
            Self::Timm => beside().map(|(_, reason)| *reason),
            Self::Clip if name == "proj" => Some(INTO_TEXT),
            Self::ClipOfTransformers if name == "embeddings.position_ids" => {
                Some(COUNTER_OF_PLACES)
            }
            Self::Clip | Self::ClipOfTransformers => None,
        }
    }
}

const COUNTER_OF_PLACES: &str = "the numbers of the positions, which are known";

/// OpenAI's names to timm's, in this order.
const CLIP: [(&str, &str); 11] = [
    ("conv1.", "patch_embed.proj."),
    ("class_embedding", "cls_token"),
    ("positional_embedding", "pos_embed"),
    ("transformer.resblocks.", "blocks."),
    ("ln_pre", "norm_pre"),
    ("ln_post", "norm"),
    ("ln_", "norm"),
    ("attn.in_proj_", "attn.qkv."),
    ("attn.out_proj", "attn.proj"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
];

/// transformers' names to timm's, in this order. The misspelling is theirs.
const CLIP_OF_TRANSFORMERS: [(&str, &str); 8] = [
    ("embeddings.class_embedding", "cls_token"),
    ("embeddings.patch_embedding.", "patch_embed.proj."),
    ("embeddings.position_embedding.weight", "pos_embed"),
    ("pre_layrnorm", "norm_pre"),
    ("post_layernorm", "norm"),
    ("encoder.layers.", "blocks."),
    ("layer_norm", "norm"),
    ("self_attn.out_proj", "attn.proj"),
];

/// A tensor of a file that is not loaded, and why that is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Its name in the file.
    pub name: String,
    /// Why it is not loaded.
    pub reason: &'static str,
}

/// Where the tensors of a network lie in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What stands before the names of the network's tensors in the file.
    pub prefix: String,
    /// For each tensor of the network the names of the tensors in the file that make it up, to be
    /// stacked along the first axis; mostly one. Axes of length 1 in front may be missing in the file.
    pub sources: BTreeMap<String, Vec<String>>,
    /// Tensors that are not loaded, by name.
    pub left: Vec<Left>,
}

/// Why the names in a file are not those of a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// No name is that of the network's first layer.
    #[error("no tensor is called {}, with or without a known wrapper before it", anchors.join(" or "))]
    NotFound {
        /// The names looked for.
        anchors: Vec<&'static str>,
    },
    /// Several networks are in the file.
    #[error("there are several networks, under {}: keep one of them", prefixes.join(", "))]
    Ambiguous {
        /// What stands before their names.
        prefixes: Vec<String>,
    },
    /// Names of the network are missing, or others are in the file that nothing is known about.
    #[error("{} missing ({}); {} unknown ({})", missing.len(), some(missing), unknown.len(), some(unknown))]
    Mismatch {
        /// What stands before the names of the network's tensors.
        prefix: String,
        /// Tensors of the network that the file lacks.
        missing: Vec<String>,
        /// Tensors of the file that are neither the network's nor known to stand beside it.
        unknown: Vec<String>,
    },
}

/// The first few names, for a message.
fn some(names: &[String]) -> String {
    match names {
        [] => "none".into(),
        [first @ .., _] if names.len() > 5 => format!("{}, ...", first[..5].join(", ")),
        names => names.join(", "),
    }
}

/// Finds a network of the `wanted` tensors in a file with tensors of these `names`.
///
/// # Errors
///
/// When the network is not there, is there more than once, or is incomplete, or when the file has
/// names that nothing is known about.
pub fn plan<'a>(
    names: impl IntoIterator<Item = &'a str>,
    wanted: &[NamedTensor],
) -> Result<Plan, CheckpointError> {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    let (dialect, prefix) = find(&names, Dialect::of(wanted))?;
    let mut found: BTreeMap<String, BTreeMap<usize, &str>> = BTreeMap::new();
    let mut left = Vec::new();
    let mut unknown = Vec::new();
    for name in names {
        let inside = name.strip_prefix(prefix);
        if let Some(inside) = inside {
            let (key, part) = dialect.translate(inside);
            let free = !found
                .get(&key)
                .is_some_and(|parts| parts.contains_key(&part));
            if free && wanted.iter().any(|tensor| tensor.key == key) {
                found.entry(key).or_default().insert(part, name);
                continue;
            }
        }
        match inside
            .and_then(|inside| dialect.left(inside))
            .or(beside(name, prefix))
        {
            Some(reason) => left.push(Left {
                name: name.into(),
                reason,
            }),
            None => unknown.push(name.into()),
        }
    }
    let parts = |key: &str| match dialect {
        Dialect::ClipOfTransformers if key.contains(".attn.qkv.") => 3,
        _ => 1,
    };
    let missing: Vec<String> = wanted
        .iter()
        .filter(|tensor| found.get(&tensor.key).map_or(0, BTreeMap::len) < parts(&tensor.key))
        .map(|tensor| tensor.key.clone())
        .collect();
    if !missing.is_empty() || !unknown.is_empty() {
        return Err(CheckpointError::Mismatch {
            prefix: prefix.into(),
            missing,
            unknown,
        });
    }
    let sources = found
        .into_iter()
        .map(|(key, parts)| (key, parts.into_values().map(String::from).collect()))
        .collect();
    Ok(Plan {
        prefix: prefix.into(),
        sources,
        left,
    })
}

/// In which dialect the network is written and what stands before its names.
fn find<'a>(
    names: &[&'a str],
    dialects: &[Dialect],
) -> Result<(Dialect, &'a str), CheckpointError> {
    let mut candidates = Vec::new();
    for dialect in dialects {
        for name in names {
            let prefix = name.strip_suffix(dialect.anchor());
            candidates.extend(prefix.filter(|prefix| wraps(prefix)).map(|p| (*dialect, p)));
        }
    }
    match candidates.as_slice() {
        [one] => Ok(*one),
        [] => Err(CheckpointError::NotFound {
            anchors: dialects.iter().map(|dialect| dialect.anchor()).collect(),
        }),
        several => Err(CheckpointError::Ambiguous {
            prefixes: several.iter().map(|(_, p)| format!("`{p}`")).collect(),
        }),
    }
}

/// Whether all that stands before a name are known wrappers.
fn wraps(prefix: &str) -> bool {
    match prefix.strip_suffix('.') {
        None => prefix.is_empty(),
        Some(parts) => parts.split('.').all(|part| WRAPPERS.contains(&part)),
    }
}

/// Why a tensor outside the network is left in the file, if that is known to be right.
fn beside(name: &str, prefix: &str) -> Option<&'static str> {
    if name.starts_with(prefix) && !prefix.is_empty() {
        return None;
    }
    let first = name.split('.').find(|part| !WRAPPERS.contains(part))?;
    let known = BESIDE.iter().find(|(part, _)| *part == first);
    match first {
        "visual_projection" => Some(INTO_TEXT),
        _ => known.map(|(_, reason)| *reason),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{BackboneConfig, InceptionConfig, ResNetConfig, Stem, ViTConfig, named_tensors};

    fn wanted(config: &BackboneConfig) -> Vec<NamedTensor> {
        named_tensors(&config.blank(&Device::flex()).unwrap())
    }

    fn resnet() -> Vec<NamedTensor> {
        wanted(&BackboneConfig::ResNet(ResNetConfig {
            width: 2,
            depths: vec![1, 1],
            stem: Stem::ImageNet,
            ..ResNetConfig::resnet50()
        }))
    }

    fn vit(config: ViTConfig) -> Vec<NamedTensor> {
        wanted(&BackboneConfig::ViT(ViTConfig {
            width: 4,
            heads: 2,
            depth: 2,
            mlp: 4,
            ..config
        }))
    }

    /// The network's names behind a prefix, with others beside them.
    fn planned(
        prefix: &str,
        wanted: &[NamedTensor],
        beside: &[&str],
    ) -> Result<Plan, CheckpointError> {
        let own = wanted
            .iter()
            .map(|tensor| format!("{prefix}{}", tensor.key));
        let names: Vec<String> = own
            .chain(beside.iter().map(|name| (*name).into()))
            .collect();
        plan(names.iter().map(String::as_str), wanted)
    }

    /// How each publisher wraps the network, with names from its files.
    #[test]
    fn every_publisher_s_wrapping_is_undone_and_what_is_left_has_a_reason() {
        let vissl = "classy_state_dict.base_model.model.trunk._feature_blocks.";
        let cases: [(&str, &[(&str, &str)]); 8] = [
            (
                "",
                &[
                    ("fc.weight", HEAD),
                    ("fc.bias", HEAD),
                    ("bn1.num_batches_tracked", COUNTER),
                ],
            ),
            (
                vissl,
                &[
                    (
                        "classy_state_dict.base_model.model.heads.0.clf.0.weight",
                        HEAD,
                    ),
                    (
                        "classy_state_dict.optimizer.state.0.momentum_buffer",
                        TRAINING,
                    ),
                ],
            ),
            (
                "module.", // SwAV
                &[
                    ("module.projection_head.0.weight", HEAD),
                    ("module.projection_head.1.num_batches_tracked", COUNTER),
                    ("module.prototypes.weight", HEAD),
                ],
            ),
            (
                "state_dict.module.encoder_q.",
                &[
                    ("state_dict.module.encoder_q.fc.0.weight", HEAD),
                    ("state_dict.module.encoder_k.conv1.weight", OTHER),
                    ("state_dict.module.queue", TRAINING),
                    ("state_dict.module.queue_ptr", TRAINING),
                    ("optimizer.state.0.momentum_buffer", TRAINING),
                ],
            ),
            (
                "module.base_encoder.", // MoCo v3
                &[
                    ("module.base_encoder.fc.0.weight", HEAD),
                    ("module.momentum_encoder.conv1.weight", OTHER),
                    ("module.predictor.0.weight", HEAD),
                ],
            ),
            (
                "teacher.backbone.", // DINO
                &[
                    ("teacher.head.mlp.0.weight", HEAD),
                    ("student.module.backbone.conv1.weight", OTHER),
                    ("dino_loss.center", TRAINING),
                ],
            ),
            ("backbone.", &[]),
            ("encoder.", &[("projector.0.weight", HEAD)]),
        ];
        for (prefix, beside) in cases {
            let wanted = resnet();
            let names: Vec<&str> = beside.iter().map(|(name, _)| *name).collect();
            let plan = planned(prefix, &wanted, &names).unwrap();
            assert_eq!(plan.prefix, prefix);
            assert_eq!(plan.sources.len(), wanted.len());
            for (key, sources) in &plan.sources {
                assert_eq!(sources, &[format!("{prefix}{key}")]);
            }
            let mut left: Vec<_> = plan
                .left
                .iter()
                .map(|l| (l.name.as_str(), l.reason))
                .collect();
            let mut expected = beside.to_vec();
            left.sort_unstable();
            expected.sort_unstable();
            assert_eq!(left, expected);
        }
    }

    #[test]
    fn a_wanted_classifier_is_not_left() {
        let with_fc = wanted(&BackboneConfig::ResNet(ResNetConfig::small(10)));
        let plan = planned("module.", &with_fc, &[]).unwrap();
        assert_eq!(plan.sources["fc.weight"], ["module.fc.weight"]);
        assert!(plan.left.is_empty());
    }

    #[test]
    fn transformers_of_dino_mae_and_moco_are_found() {
        let wanted = vit(ViTConfig::base_16());
        let cases: [(&str, &[&str]); 4] = [
            (
                "model.",
                &[
                    "model.mask_token",
                    "model.decoder_embed.weight",
                    "model.decoder_blocks.0.x",
                ],
            ),
            ("", &["head.weight", "head.bias"]),
            (
                "teacher.backbone.",
                &[
                    "student.module.backbone.pos_embed",
                    "teacher.head.last_layer.weight_v",
                ],
            ),
            (
                "module.base_encoder.",
                &["module.base_encoder.head.0.weight"],
            ),
        ];
        for (prefix, beside) in cases {
            let plan = planned(prefix, &wanted, beside).unwrap();
            assert_eq!(
                (plan.prefix.as_str(), plan.left.len()),
                (prefix, beside.len())
            );
        }
    }

    #[test]
    fn clip_is_translated_from_openai_and_from_transformers() {
        let wanted = vit(ViTConfig::clip_base_16());
        let layer = |n: usize| {
            let parts = [
                "ln_1.weight",
                "ln_1.bias",
                "attn.in_proj_weight",
                "attn.in_proj_bias",
                "attn.out_proj.weight",
                "attn.out_proj.bias",
                "ln_2.weight",
                "ln_2.bias",
                "mlp.c_fc.weight",
                "mlp.c_fc.bias",
                "mlp.c_proj.weight",
                "mlp.c_proj.bias",
            ];
            parts.map(|part| format!("visual.transformer.resblocks.{n}.{part}"))
        };
        let outer = [
            "conv1.weight",
            "class_embedding",
            "positional_embedding",
            "ln_pre.weight",
            "ln_pre.bias",
            "ln_post.weight",
            "ln_post.bias",
            "proj",
        ];
        let mut names: Vec<String> = outer.map(|name| format!("visual.{name}")).into();
        names.extend([layer(0), layer(1)].concat());
        let text = [
            "positional_embedding",
            "transformer.resblocks.0.ln_1.weight",
            "logit_scale",
        ];
        names.extend(text.map(String::from));
        let found = plan(names.iter().map(String::as_str), &wanted).unwrap();
        assert_eq!(
            found.sources["blocks.1.attn.qkv.bias"],
            ["visual.transformer.resblocks.1.attn.in_proj_bias"]
        );
        assert_eq!(found.sources["norm_pre.weight"], ["visual.ln_pre.weight"]);
        let reasons: Vec<_> = found.left.iter().map(|left| left.reason).collect();
        assert_eq!(reasons, [TEXT, TEXT, TEXT, INTO_TEXT]);

        let layer = |n: usize| {
            let parts = [
                "layer_norm1",
                "self_attn.q_proj",
                "self_attn.k_proj",
                "self_attn.v_proj",
                "self_attn.out_proj",
                "layer_norm2",
                "mlp.fc1",
                "mlp.fc2",
            ];
            let whole = |part| {
                ["weight", "bias"]
                    .map(|end| format!("vision_model.encoder.layers.{n}.{part}.{end}"))
            };
            parts.map(whole).concat()
        };
        let outer = [
            "vision_model.embeddings.class_embedding",
            "vision_model.embeddings.patch_embedding.weight",
            "vision_model.embeddings.position_embedding.weight",
            "vision_model.embeddings.position_ids",
            "vision_model.pre_layrnorm.weight",
            "vision_model.pre_layrnorm.bias",
            "vision_model.post_layernorm.weight",
            "vision_model.post_layernorm.bias",
            "visual_projection.weight",
            "text_model.encoder.layers.0.mlp.fc1.weight",
        ];
        let mut names: Vec<String> = outer.map(String::from).into();
        names.extend([layer(0), layer(1)].concat());
        let found = plan(names.iter().map(String::as_str), &wanted).unwrap();
        let qkv = ["q", "k", "v"]
            .map(|part| format!("vision_model.encoder.layers.0.self_attn.{part}_proj.weight"));
        assert_eq!(found.sources["blocks.0.attn.qkv.weight"], qkv);
        assert_eq!(found.left.len(), 3);

        names.retain(|name| !name.contains("layers.1.self_attn.k_proj.bias"));
        let error = plan(names.iter().map(String::as_str), &wanted).unwrap_err();
        assert!(
            matches!(error, CheckpointError::Mismatch { missing, .. } if missing == ["blocks.1.attn.qkv.bias"])
        );
    }

    #[test]
    fn what_is_missing_unknown_ambiguous_or_absent_is_said() {
        let resnet = resnet();
        let error = planned("module.", &resnet[1..], &[]).unwrap_err();
        assert!(matches!(error, CheckpointError::NotFound { .. }), "{error}");
        let mut shorter: Vec<NamedTensor> = resnet.clone();
        shorter.pop();
        let names: Vec<&str> = shorter.iter().map(|tensor| tensor.key.as_str()).collect();
        let error = plan(names, &resnet).unwrap_err().to_string();
        assert!(error.starts_with("1 missing ("), "{error}");
        for unknown in [
            "layer9.0.conv1.weight",
            "module.layer1.0.se.fc1.weight",
            "ema.conv1.weight",
        ] {
            let error = planned("", &resnet, &[unknown]).unwrap_err().to_string();
            assert!(error.contains(&format!("1 unknown ({unknown})")), "{error}");
        }
        let error = planned("backbone.", &resnet, &["encoder.conv1.weight"]).unwrap_err();
        assert!(
            matches!(error, CheckpointError::Ambiguous { .. }),
            "{error}"
        );
    }

    /// torchvision's Inception has an auxiliary head and another structure: it is not FID's.
    #[test]
    fn the_inception_of_torchvision_is_refused() {
        let config = InceptionConfig {
            divisor: 16,
            ..InceptionConfig::fid()
        };
        let wanted = wanted(&BackboneConfig::Inception(config));
        let counters = ["Conv2d_1a_3x3.bn.num_batches_tracked"];
        assert!(planned("", &wanted, &counters).is_ok());
        let error = planned("", &wanted, &["AuxLogits.fc.weight"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("AuxLogits.fc.weight"), "{error}");
    }
}
