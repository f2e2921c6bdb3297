//! Sizes as published, early exit, feedback, and what is refused.

use burn::tensor::{Device, Tensor, TensorData};
use diffrep_backbones::{
    Backbone, BackboneConfig, ConfigError, InceptionConfig, ResNetConfig, TapTokens, ViTConfig,
    named_tensors, parameter_count, state_dict, with_state_dict,
};
use diffrep_rng::{Key, Stream};
use diffrep_taps::{BlockIndex, Condition, Encoder, Feedback, TapSet};

/// Counts of torchvision, timm, pytorch-fid and plain PyTorch.
#[test]
fn full_size_networks_have_the_published_numbers_of_parameters() {
    let device = Device::flex();
    let classes = |name: &str| {
        let config = BackboneConfig::preset(name).unwrap();
        config.with_classes(Some(1000))
    };
    for (name, count, tensors) in [
        ("resnet18", 11_689_512, None),
        ("resnet34", 21_797_672, None),
        ("resnet50", 25_557_032, Some(320 - 53)),
        ("resnet101", 44_549_160, None),
        ("wide_resnet50_2", 68_883_240, None),
        ("vit_small_patch16", 22_050_664, None),
        ("vit_base_patch16", 86_567_656, Some(152)),
        ("vit_large_patch16", 304_326_632, None),
        ("fid_inception_v3", 23_850_960, Some(566 - 94)),
        // As `fixtures/parity/generative.py --counts` has it: without the parts that encoding leaves.
        ("mage_vit_base", 110_847_360, Some(230)),
        ("mage_vit_large", 328_687_488, Some(374)),
    ] {
        let network = classes(name).blank(&device).unwrap();
        assert_eq!(parameter_count(&network), count, "{name}");
        if let Some(tensors) = tensors {
            assert_eq!(named_tensors(&network).len(), tensors, "{name}");
        }
    }
    let body = BackboneConfig::preset("resnet50").unwrap();
    assert_eq!(parameter_count(&body.blank(&device).unwrap()), 23_508_032);
    let body = BackboneConfig::preset("vit_base_patch16").unwrap();
    assert_eq!(parameter_count(&body.blank(&device).unwrap()), 85_798_656);
}

#[test]
fn every_preset_says_what_it_puts_out() {
    for name in BackboneConfig::preset_names() {
        let config = BackboneConfig::preset(name).unwrap();
        assert!(!config.taps().unwrap().is_empty(), "{name}");
    }
    assert_eq!(BackboneConfig::preset("resnet51"), None);
    let taps = ResNetConfig::resnet50().taps().unwrap();
    let shapes: Vec<_> = taps.iter().map(|tap| (tap.channels, tap.height)).collect();
    let expected = [(256, 56), (512, 28), (1024, 14), (2048, 7)];
    let counts = [3, 4, 6, 3];
    let expected: Vec<_> = expected
        .into_iter()
        .zip(counts)
        .flat_map(|(shape, count)| vec![shape; count])
        .collect();
    assert_eq!(shapes, expected);
    assert_eq!(ResNetConfig::resnet18().taps().unwrap().len(), 8);
    let taps = ViTConfig::base_16().taps().unwrap();
    assert_eq!((taps.len(), taps[11].name.as_str()), (13, "blocks.11"));
    let taps = InceptionConfig::fid().taps().unwrap();
    let shapes: Vec<_> = taps.iter().map(|tap| (tap.channels, tap.height)).collect();
    assert_eq!(shapes[0], (64, 73));
    assert_eq!(shapes[8], (768, 17));
    assert_eq!(shapes[12], (2048, 8));
}

fn small() -> Vec<Backbone> {
    let device = Device::flex();
    let resnet = ResNetConfig {
        width: 4,
        ..ResNetConfig::small(3)
    };
    let vit = ViTConfig {
        width: 12,
        depth: 3,
        mlp: 24,
        ..ViTConfig::tiny(3)
    };
    let inception = InceptionConfig {
        image_size: 75,
        divisor: 16,
        classes: 3,
    };
    let class = vit.clone().tapping(TapTokens::Class);
    [
        BackboneConfig::ResNet(resnet),
        BackboneConfig::ViT(vit),
        BackboneConfig::ViT(class),
        BackboneConfig::Inception(inception),
    ]
    .into_iter()
    .map(|config| config.init(1, &device).unwrap())
    .collect()
}

fn image(network: &Backbone) -> Tensor<4> {
    let (size, channels) = network.input();
    let mut values = vec![0.0f32; 2 * channels * size * size];
    Key::new(1, Stream::Noise).fill_normal(&mut values);
    let data = TensorData::new(values, [2, channels, size, size]);
    Tensor::from_data(data, &Device::flex())
}

/// NaN in every weight past a tap changes no bit of it, and NaN in the tap's own block shows.
#[test]
fn what_comes_after_a_tap_does_not_reach_it() {
    for network in small() {
        let infos = network.taps();
        let image = image(&network);
        let place = infos.len() / 2;
        let wanted = TapSet::new([place + 1], &infos).unwrap();
        let block = wanted.last();
        let condition = Condition::default();
        let tap = |network: &Backbone| {
            let mut taps = network.forward_taps(image.clone(), &condition, &wanted, None);
            taps.remove(block).unwrap().into_data()
        };
        let before = tap(&network);
        let spoil = |network: Backbone, names: &[&str]| {
            let shapes = named_tensors(&network);
            with_state_dict(network, |key| {
                let hit = names
                    .iter()
                    .any(|name| key.starts_with(&format!("{name}.")));
                let tensor = shapes.iter().find(|tensor| tensor.key == key).unwrap();
                let count = tensor.shape.iter().product();
                hit.then(|| TensorData::new(vec![f32::NAN; count], tensor.shape.clone()))
            })
        };
        let mut past: Vec<&str> = infos[place + 1..]
            .iter()
            .map(|tap| tap.name.as_str())
            .collect();
        past.extend(["fc", "head"]);
        let network = spoil(network, &past);
        assert!(
            before
                .as_slice::<f32>()
                .unwrap()
                .iter()
                .all(|v| v.is_finite())
        );
        assert_eq!(tap(&network), before);
        let network = spoil(network, &[infos[place].name.as_str()]);
        assert!(
            tap(&network)
                .as_slice::<f32>()
                .unwrap()
                .iter()
                .any(|v| v.is_nan())
        );
    }
}

#[test]
fn feedback_is_added_to_the_output_and_seen_by_what_follows() {
    for network in small() {
        let infos = network.taps();
        let image = image(&network);
        let wanted = TapSet::all(&infos).unwrap();
        let run = |feedback: Option<&Feedback>| {
            network.forward_taps(image.clone(), &Condition::default(), &wanted, feedback)
        };
        let plain = run(None);
        let second = BlockIndex::at(1);
        // Of another size, so that it has to be resized.
        let addend = Tensor::full([2, infos[1].channels, 2, 2], 0.5, &Device::flex());
        let feedback = Feedback {
            addends: [(second, addend)].into(),
        };
        let fed = run(Some(&feedback));
        let moved = |block: BlockIndex| {
            (fed.get(block).unwrap().clone() - plain.get(block).unwrap().clone())
                .abs()
                .mean()
                .into_scalar::<f32>()
        };
        assert_eq!(moved(BlockIndex::at(0)), 0.0);
        assert!((moved(second) - 0.5).abs() < 1e-5);
        assert!(moved(BlockIndex::at(2)) > 0.0);
    }
}

#[test]
fn weights_are_a_function_of_the_seed_and_spread_as_kaiming_says() {
    let device = Device::flex();
    let config = ResNetConfig::small(10);
    let dict = |seed| state_dict(&config.init(seed, &device).unwrap());
    let (first, again, other) = (dict(1), dict(1), dict(2));
    assert_eq!(first, again);
    let convolutions = |dict: &[(String, TensorData)]| -> Vec<_> {
        let wide = dict.iter().filter(|(_, data)| data.shape().num_dims() > 1);
        wide.cloned().collect()
    };
    for ((key, a), (_, b)) in convolutions(&first).iter().zip(convolutions(&other)) {
        assert_ne!(*a, b, "{key}");
    }
    let (_, data) = first
        .iter()
        .find(|(key, _)| key == "layer4.1.conv2.weight")
        .unwrap();
    let values = data.as_slice::<f32>().unwrap();
    let variance = values.iter().map(|v| f64::from(v * v)).sum::<f64>() / values.len() as f64;
    let expected = 2.0 / (128.0 * 9.0);
    assert!(
        (variance / expected - 1.0).abs() < 0.02,
        "{variance} {expected}"
    );
}

#[test]
fn descriptions_of_no_network_are_refused() {
    let resnet = ResNetConfig::resnet50();
    for config in [
        ResNetConfig {
            image_size: 0,
            ..resnet.clone()
        },
        ResNetConfig {
            width: usize::MAX,
            ..resnet.clone()
        },
        ResNetConfig {
            depths: vec![],
            ..resnet.clone()
        },
        ResNetConfig {
            depths: vec![1; 64],
            ..resnet.clone()
        },
        ResNetConfig {
            depths: vec![1, 0],
            ..resnet.clone()
        },
        ResNetConfig {
            inner: 2,
            ..ResNetConfig::resnet18()
        },
        ResNetConfig {
            classes: Some(0),
            ..resnet
        },
    ] {
        let error = config.taps().unwrap_err();
        assert!(matches!(error, ConfigError::OutOfRange { .. }), "{error}");
    }
    let vit = ViTConfig::base_16();
    for (config, message) in [
        (
            ViTConfig {
                patch: 15,
                ..vit.clone()
            },
            "`patch` is 15, which does not divide `image_size` of 224",
        ),
        (
            ViTConfig {
                heads: 7,
                ..vit.clone()
            },
            "`heads` is 7, which does not divide `width` of 768",
        ),
        (
            ViTConfig {
                eps: f64::NAN,
                ..vit.clone()
            },
            "`eps` is NaN",
        ),
        (
            ViTConfig {
                depth: 0,
                ..vit.clone()
            },
            "`depth` is 0: expected 1 to 512",
        ),
        (
            ViTConfig {
                class_token: false,
                ..vit.tapping(TapTokens::Class)
            },
            "has none",
        ),
    ] {
        let error = config.blank(&Device::flex()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let inception = InceptionConfig::fid();
    assert!(
        InceptionConfig {
            image_size: 74,
            ..inception.clone()
        }
        .taps()
        .is_err()
    );
    assert!(
        InceptionConfig {
            divisor: 3,
            ..inception
        }
        .taps()
        .is_err()
    );
}

/// A description is part of a record: it is read back as it was, and what it does not know is an
/// error.
#[test]
fn descriptions_are_written_and_read() {
    for name in BackboneConfig::preset_names() {
        let config = BackboneConfig::preset(name).unwrap();
        let text = serde_json::to_string(&config).unwrap();
        let read: BackboneConfig = serde_json::from_str(&text).unwrap();
        assert_eq!(read, config, "{text}");
        let more = text.replacen('{', "{\"dropout\":0.1,", 1);
        let error = serde_json::from_str::<BackboneConfig>(&more).unwrap_err();
        assert!(error.to_string().contains("dropout"), "{error}");
    }
}

#[test]
#[should_panic(expected = "this network takes images of 3 x 224 x 224")]
fn an_image_of_another_size_panics() {
    let network = ViTConfig {
        depth: 1,
        ..ViTConfig::small_16()
    };
    let network = network.blank(&Device::flex()).unwrap();
    let wanted = TapSet::new([1], &network.taps()).unwrap();
    let image = Tensor::zeros([1, 3, 32, 32], &Device::flex());
    network.forward_taps(image, &Condition::default(), &wanted, None);
}
