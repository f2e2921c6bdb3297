//! Every tap against torchvision, timm, transformers and pytorch-fid (fixtures/backbones/README.md).

mod common;

use burn::tensor::{Device, Tensor, TensorData};
use common::{Golden, assert_near, error};
use diffrep_backbones::{
    BlockKind, FidInput, Gelu, InceptionConfig, ResNetConfig, Stem, TapTokens, ViTConfig,
    blocks_evaluated, fid_input, state_dict,
};
use diffrep_taps::{Condition, Encoder, TapSet};

fn resnets() -> [(&'static str, ResNetConfig); 3] {
    let base = ResNetConfig {
        image_size: 45,
        width: 4,
        depths: vec![2, 1, 2],
        classes: Some(5),
        ..ResNetConfig::resnet50()
    };
    let wide = ResNetConfig {
        image_size: 33,
        depths: vec![1, 1],
        inner: 2,
        ..base.clone()
    };
    let basic = ResNetConfig {
        image_size: 28,
        in_channels: 1,
        block: BlockKind::Basic,
        stem: Stem::Small,
        ..base.clone()
    };
    [
        ("resnet_bottleneck", base),
        ("resnet_wide", wide),
        ("resnet_basic", basic),
    ]
}

fn vits() -> [(&'static str, ViTConfig); 3] {
    let base = ViTConfig {
        image_size: 16,
        in_channels: 1,
        patch: 4,
        width: 24,
        depth: 3,
        heads: 3,
        mlp: 96,
        classes: Some(5),
        ..ViTConfig::base_16()
    };
    let patches = ViTConfig {
        in_channels: 2,
        mlp: 48,
        class_token: false,
        qkv_bias: false,
        ..base.clone()
    };
    let prenorm = ViTConfig {
        in_channels: 3,
        depth: 2,
        pre_norm: true,
        patch_bias: false,
        gelu: Gelu::Quick,
        eps: 1e-5,
        ..base.clone()
    };
    [
        ("vit", base),
        ("vit_patches", patches),
        ("vit_prenorm", prenorm),
    ]
}

fn small_inception() -> InceptionConfig {
    InceptionConfig {
        image_size: 107,
        divisor: 16,
        classes: 7,
    }
}

/// Every tap of an encoder whose taps are the reference's outputs; stopping early changes no bit
/// and evaluates no block too many.
fn hold_taps(golden: &Golden, network: &impl Encoder) {
    let device = Device::flex();
    let image: Tensor<4> = golden.tensor("x", &device);
    let infos = network.taps();
    let all = TapSet::all(&infos).unwrap();
    let condition = Condition::default();
    let taps = network.forward_taps(image.clone(), &condition, &all, None);
    assert_eq!(taps.len(), infos.len());
    for info in &infos {
        let found = taps.get(info.block).unwrap();
        let [_, channels, height, width] = found.dims();
        assert_eq!(
            [channels, height, width],
            [info.channels, info.height, info.width]
        );
        let expected = golden.tensor(&format!("tap_{:02}", info.block.get()), &device);
        assert_near(&info.name, found, &expected);

        let before = blocks_evaluated();
        let alone = TapSet::new([info.block.get()], &infos).unwrap();
        let tap = network.forward_taps(image.clone(), &condition, &alone, None);
        assert_eq!(blocks_evaluated() - before, info.block.get());
        let tap = tap.get(info.block).unwrap();
        assert_eq!(tap.to_data(), found.to_data(), "{}", info.name);
    }
}

#[test]
fn resnets_agree_with_torchvision() {
    let device = Device::flex();
    for (case, config) in resnets() {
        let golden = Golden::open(case);
        let network = golden.fill(config.blank(&device).unwrap());
        hold_taps(&golden, &network);
        let logits = network.forward(golden.tensor("x", &device));
        assert_near(case, &logits, &golden.tensor("logits", &device));
    }
}

/// A packed network computes the same up to rounding, and has its normalisations folded away.
#[test]
fn packed_networks_agree_with_the_reference_too() {
    let device = Device::flex();
    for (case, config) in resnets() {
        let golden = Golden::open(case);
        let network = golden.fill(config.blank(&device).unwrap()).packed();
        hold_taps(&golden, &network);
    }
    let golden = Golden::open("inception");
    let network = golden.fill(small_inception().blank(&device).unwrap());
    hold_taps(&golden, &network.packed());
    // Wide enough for the packed kernels.
    let config = ResNetConfig {
        image_size: 24,
        width: 128,
        depths: vec![1, 1],
        ..resnets()[0].1.clone()
    };
    let network = config.init(1, &device).unwrap();
    let image = pattern(24, 24, &device) / 255.0;
    let plain = network.features(image.clone());
    let packed = network.packed();
    assert_near("packed", &packed.features(image), &plain);
    assert!(
        state_dict(&packed)
            .iter()
            .any(|(_, data)| data.num_elements() == 0)
    );
}

/// timm's hooks see all tokens; a tap shows the patches as a map or the class token alone.
#[test]
fn transformers_agree_with_timm() {
    let device = Device::flex();
    for (case, config) in vits() {
        let golden = Golden::open(case);
        let network = golden.fill(config.blank(&device).unwrap());
        let image: Tensor<4> = golden.tensor("x", &device);
        let logits = network.forward(image.clone());
        assert_near(case, &logits, &golden.tensor("logits", &device));
        let infos = network.taps();
        let all = TapSet::all(&infos).unwrap();
        let tokens = network.forward_tokens(image.clone(), &all);
        let maps = network.forward_taps(image.clone(), &Condition::default(), &all, None);
        for info in &infos {
            let expected: Tensor<3> =
                golden.tensor(&format!("tap_{:02}", info.block.get()), &device);
            assert_near(&info.name, &tokens[&info.block], &expected);
            let first = usize::from(config.class_token);
            let map = maps.get(info.block).unwrap();
            assert_eq!(map.dims(), [2, 24, 4, 4]);
            // Row 2, column 3 of the map is patch 2 * 4 + 3.
            let pixel = map
                .clone()
                .slice([0..2, 0..24, 2..3, 3..4])
                .reshape([2, 24]);
            let token = tokens[&info.block].clone().narrow(1, first + 11, 1);
            assert_eq!(pixel.to_data(), token.reshape([2, 24]).to_data());

            let before = blocks_evaluated();
            let alone = TapSet::new([info.block.get()], &infos).unwrap();
            let tap = network.forward_taps(image.clone(), &Condition::default(), &alone, None);
            assert_eq!(blocks_evaluated() - before, info.block.get());
            assert_eq!(tap.get(info.block).unwrap().to_data(), map.to_data());
        }
        if !config.class_token {
            continue;
        }
        let classes = golden.fill(config.tapping(TapTokens::Class).blank(&device).unwrap());
        let taps = classes.forward_taps(image, &Condition::default(), &all, None);
        for (block, tap) in taps.iter() {
            assert_eq!(tap.dims(), [2, 24, 1, 1]);
            let expected = tokens[&block].clone().narrow(1, 0, 1);
            assert_eq!(
                tap.clone().reshape([2, 24]).to_data(),
                expected.reshape([2, 24]).to_data()
            );
        }
    }
}

/// The names, the fused projections and the numbers of CLIP as transformers has it.
#[test]
fn clip_agrees_with_transformers() {
    let device = Device::flex();
    let golden = Golden::open("vit_clip");
    let config = ViTConfig {
        classes: None,
        ..vits()[2].1.clone()
    };
    let network = golden.fill(config.blank(&device).unwrap());
    let wanted = TapSet::new(1..=2, &network.taps()).unwrap();
    let tokens = network.forward_tokens(golden.tensor("x", &device), &wanted);
    for (block, tokens) in tokens {
        let expected = golden.tensor(&format!("tap_{:02}", block.get()), &device);
        assert_near(&format!("layer {block}"), &tokens, &expected);
    }
}

#[test]
fn inception_agrees_with_pytorch_fid() {
    let device = Device::flex();
    let golden = Golden::open("inception");
    let network = golden.fill(small_inception().blank(&device).unwrap());
    hold_taps(&golden, &network);
    let found = network.fid_features(golden.tensor("x", &device));
    assert_near("pool3", &found.pool3, &golden.tensor("pool3", &device));
    assert_near(
        "spatial",
        &found.spatial,
        &golden.tensor("spatial", &device),
    );
    let logits = network.logits(found.pool3.clone());
    assert_near("logits", &logits, &golden.tensor("logits", &device));
    let probabilities = network.score_probabilities(found.pool3);
    let expected = golden.tensor("probabilities", &device);
    assert_near("probabilities", &probabilities, &expected);
}

/// The image that the script computes too.
fn pattern(height: usize, width: usize, device: &Device) -> Tensor<4> {
    let mut pixels = Vec::new();
    for c in 0..3 {
        for i in 0..height {
            for j in 0..width {
                pixels.push(((7 * i + 13 * j + 29 * c + i * j) % 256) as f32);
            }
        }
    }
    Tensor::from_data(TensorData::new(pixels, [1, 3, height, width]), device)
}

#[test]
fn images_are_prepared_as_by_pytorch_fid_and_by_tensorflow() {
    let device = Device::flex();
    let golden = Golden::open("fid_input");
    for [height, width] in [[32, 32], [20, 37], [512, 301]] {
        for (how, name) in [
            (FidInput::PytorchFid, "pytorch_fid"),
            (FidInput::TensorFlow, "tensorflow"),
        ] {
            let input = fid_input(pattern(height, width, &device), how);
            assert_eq!(input.dims(), [1, 3, 299, 299]);
            let rows = Tensor::from_ints(
                (0..13).map(|i| 23 * i).collect::<Vec<i32>>().as_slice(),
                &device,
            );
            let columns = Tensor::from_ints(
                (0..11).map(|i| 29 * i).collect::<Vec<i32>>().as_slice(),
                &device,
            );
            let sampled = input
                .select(2, rows)
                .select(3, columns)
                .reshape([3, 13, 11]);
            let name = format!("{name}.{height}.{width}");
            let expected: Tensor<3> = golden.tensor(&name, &device);
            assert_near(&name, &sampled, &expected);
        }
    }
    // They are not the same way.
    let ways = [FidInput::PytorchFid, FidInput::TensorFlow]
        .map(|how| fid_input(pattern(32, 32, &device), how));
    assert!(error(&ways[0], &ways[1]) > 0.1);
}
