//! What publishers call the parts of a network, and what they keep beside it.

use diffrep_state::NamedTensor;

/// Modules in which trainers wrap a network, and keys under which files keep it.
pub(super) const WRAPPERS: [&str; 18] = [
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
pub(super) const BESIDE: [(&str, &str); 40] = [
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
    ("opt", TRAINING),
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

pub(super) const TRAINING: &str = "state of the training";
pub(super) const HEAD: &str = "a classifier or projection head";
pub(super) const OTHER: &str = "another encoder of the same training";
pub(super) const TEXT: &str = "the text tower";
pub(super) const COUNTER: &str = "a counter of batches, which no output depends on";
const DECODER: &str = "a part that only pre-training uses";
pub(super) const INTO_TEXT: &str = "the projection into the space of texts";

/// How a file names the parts of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    ResNet,
    Inception,
    /// timm, DINO, MAE and MoCo v3.
    Timm,
    /// OpenAI's CLIP.
    Clip,
    /// CLIP in Hugging Face's transformers.
    ClipOfTransformers,
    /// facebookresearch/DiT.
    DiT,
    /// LTH14/mage.
    Mage,
}

impl Dialect {
    /// Those in which a network with these tensors may be written.
    pub(super) fn of(wanted: &[NamedTensor]) -> &'static [Self] {
        let has = |key: &str| wanted.iter().any(|tensor| tensor.key == key);
        if has("patch_embed.proj.weight") {
            &[Self::Timm, Self::Clip, Self::ClipOfTransformers]
        } else if has("x_embedder.proj.weight") {
            &[Self::DiT]
        } else if has("token_emb.word_embeddings.weight") {
            &[Self::Mage]
        } else if has("Conv2d_1a_3x3.conv.weight") {
            &[Self::Inception]
        } else {
            &[Self::ResNet]
        }
    }

    /// The name of a tensor that every network has once.
    pub(super) fn anchor(self) -> &'static str {
        match self {
            Self::ResNet => "conv1.weight",
            Self::Inception => "Conv2d_1a_3x3.conv.weight",
            Self::Timm => "patch_embed.proj.weight",
            Self::DiT => "x_embedder.proj.weight",
            Self::Mage => "token_emb.word_embeddings.weight",
            Self::Clip => "class_embedding",
            Self::ClipOfTransformers => "embeddings.patch_embedding.weight",
        }
    }

    /// Our name for a tensor, and which part of it this is where a file keeps queries, keys and
    /// values apart.
    pub(super) fn translate(self, name: &str) -> (String, usize) {
        let (swaps, parts): (&[(&str, &str)], &[&str]) = match self {
            Self::ResNet | Self::Inception | Self::Timm | Self::DiT | Self::Mage => {
                return (name.into(), 0);
            }
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
    pub(super) fn left(self, name: &str) -> Option<&'static str> {
        let first = name.split('.').next().unwrap_or(name);
        if name.ends_with(".num_batches_tracked") {
            return Some(COUNTER);
        }
        let beside = || {
            let heads = BESIDE.iter().filter(|(_, reason)| *reason == HEAD);
            heads.clone().find(|(part, _)| *part == first)
        };
        match self {
            Self::Inception | Self::DiT => None,
            Self::Mage if MAGE_UNUSED.contains(&first) => Some(UNUSED),
            Self::Mage if name == "token_emb.position_ids" => Some(COUNTER_OF_PLACES),
            Self::Mage
                if first.starts_with("decoder_")
                    || ["mask_token", "mlm_layer"].contains(&first)
                    || name.starts_with("vqgan.decoder.") =>
            {
                Some(DECODER)
            }
            Self::Mage => beside().map(|(_, reason)| *reason),
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

/// Before the weights that a training of DiT steps, beside their moving averages.
pub(super) const STEPPED: (&str, &str) = ("model.", "weights without a moving average");
/// Before the averages.
pub(super) const AVERAGED: &str = "ema.";

/// What MAGE inherits from timm and does not use.
const MAGE_UNUSED: [&str; 3] = ["cls_token", "patch_embed", "pos_embed"];
const UNUSED: &str = "a part that its own forward pass does not use";

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
