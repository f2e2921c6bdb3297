use burn::tensor::Device;

use super::dialect::{COUNTER, HEAD, INTO_TEXT, OTHER, TEXT, TRAINING};
use super::*;
use crate::{
    BackboneConfig, DiTConfig, InceptionConfig, ResNetConfig, Stem, ViTConfig, named_tensors,
};

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
fn planned(prefix: &str, wanted: &[NamedTensor], beside: &[&str]) -> Result<Plan, CheckpointError> {
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
            ["weight", "bias"].map(|end| format!("vision_model.encoder.layers.{n}.{part}.{end}"))
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

#[test]
fn of_a_training_of_dit_the_averages_are_read() {
    let config = DiTConfig {
        depth: 1,
        ..DiTConfig::preset("dit_s_2_256").unwrap()
    };
    let wanted = config.tensors();
    let under = |prefix: &'static str| {
        wanted
            .iter()
            .map(move |tensor| format!("{prefix}{}", tensor.key))
    };
    let mut names: Vec<String> = under("model.").collect();
    let alone = plan(names.iter().map(String::as_str), &wanted).unwrap();
    assert_eq!((alone.prefix.as_str(), alone.left.len()), ("model.", 0));
    names.extend(under("ema."));
    names.push("opt.state.0.exp_avg".into());
    let found = plan(names.iter().map(String::as_str), &wanted).unwrap();
    assert_eq!(
        (found.prefix.as_str(), found.left.len()),
        ("ema.", wanted.len() + 1)
    );
}
