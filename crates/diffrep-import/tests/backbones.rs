//! Backbones from files as torch.save writes them for MoCo and VISSL, and from our own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use diffrep_backbones::{
    Backbone, BackboneConfig, InceptionConfig, ResNetConfig, Stem, ViTConfig, state_dict,
};
use diffrep_import::{
    ImportError, RawCheckpoint, WeightDtype, load_backbone, write_backbone, write_tensors,
};

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/backbones");
    folder.join(name)
}

/// The small network of the wrapped files.
fn wrapped() -> BackboneConfig {
    BackboneConfig::ResNet(ResNetConfig {
        image_size: 32,
        width: 2,
        depths: vec![1, 1],
        stem: Stem::ImageNet,
        ..ResNetConfig::resnet50()
    })
}

#[test]
fn moco_and_vissl_files_load_and_compute_what_pytorch_computed() {
    let device = Device::flex();
    let golden = RawCheckpoint::open(&fixture("wrapped.safetensors")).unwrap();
    let image: Tensor<4> = Tensor::from_data(golden.values("x").unwrap(), &device);
    let expected: Tensor<2> = Tensor::from_data(golden.values("features").unwrap(), &device);
    for (file, prefix, left, ignored) in [
        (
            "wrapped_moco.pth.tar",
            "state_dict.module.encoder_q.",
            17,
            1,
        ),
        (
            "wrapped_vissl.torch",
            "classy_state_dict.base_model.model.trunk._feature_blocks.",
            11,
            0,
        ),
    ] {
        let imported = load_backbone(&fixture(file), &wrapped(), &device).unwrap();
        assert_eq!(imported.prefix, prefix);
        assert_eq!(imported.left.len(), left, "{:?}", imported.left);
        assert_eq!(imported.ignored.len(), ignored, "{:?}", imported.ignored);
        let Backbone::ResNet(network) = &imported.network else {
            panic!("a ResNet was asked for");
        };
        let off = (network.features(image.clone()) - expected.clone())
            .abs()
            .max();
        let scale = expected.clone().abs().max().into_scalar::<f32>();
        let off = off.into_scalar::<f32>();
        assert!(off < 1e-4 * scale, "{file}: {off} of {scale}");
    }
}

fn small() -> [BackboneConfig; 3] {
    [
        BackboneConfig::ResNet(ResNetConfig {
            width: 2,
            ..ResNetConfig::small(3)
        }),
        BackboneConfig::ViT(ViTConfig {
            width: 6,
            depth: 2,
            ..ViTConfig::tiny(3)
        }),
        BackboneConfig::Inception(InceptionConfig {
            divisor: 16,
            ..InceptionConfig::fid()
        }),
    ]
}

/// Writes a random network with `change` made to its names and values.
fn written(
    folder: &Path,
    config: &BackboneConfig,
    change: impl Fn(String, TensorData) -> Option<(String, TensorData)>,
) -> PathBuf {
    let network = config.init(5, &Device::flex()).unwrap();
    let tensors: Vec<_> = state_dict(&network)
        .into_iter()
        .filter_map(|(name, data)| change(name, data))
        .collect();
    let path = folder.join("network.safetensors");
    write_tensors(&path, &tensors, &BTreeMap::new()).unwrap();
    path
}

#[test]
fn what_was_written_is_read_back_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    for config in small() {
        let path = written(folder.path(), &config, |name, data| {
            Some((format!("module.{name}"), data))
        });
        let imported = load_backbone(&path, &config, &device).unwrap();
        assert_eq!(imported.prefix, "module.");
        assert!(imported.left.is_empty());
        let expected = state_dict(&config.init(5, &device).unwrap());
        assert_eq!(state_dict(&imported.network), expected);
    }
}

/// Vectors stay whole: biases, and what a normalisation multiplies by, adds and has measured.
#[test]
fn a_network_is_written_whole_or_with_half_matrices() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let path = folder.path().join("network.safetensors");
    let metadata = BTreeMap::from([("note".to_string(), "here".to_string())]);
    for config in small() {
        let network = config.init(5, &device).unwrap();
        for dtype in [WeightDtype::F32, WeightDtype::F16] {
            let hash = write_backbone(&path, &network, dtype, &metadata).unwrap();
            let again = write_backbone(&path, &network, dtype, &metadata).unwrap();
            assert_eq!(hash, again, "the same network, the same bytes");
            let imported = load_backbone(&path, &config, &device).unwrap();
            assert_eq!((&imported.sha256, &imported.metadata), (&hash, &metadata));
            for ((name, data), (_, found)) in state_dict(&network)
                .iter()
                .zip(state_dict(&imported.network))
            {
                if dtype == WeightDtype::F32 || data.shape().num_dims() == 1 {
                    assert_eq!(*data, found, "{name}");
                    continue;
                }
                let expected = data.try_to_vec::<f32>().unwrap().into_iter();
                let expected = expected.map(|value| half::f16::from_f32(value).to_f32());
                assert_eq!(
                    found.try_to_vec::<f32>().unwrap(),
                    expected.collect::<Vec<_>>()
                );
            }
        }
    }
}

/// CLIP's class token is `[width]` and ours `[1, 1, width]`.
#[test]
fn axes_of_length_one_may_be_missing_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let config = &small()[1];
    let reshaped = |key: &'static str, shape: &'static [usize]| {
        written(folder.path(), config, move |name, data| {
            let data = match name == key {
                true => TensorData::new(data.try_to_vec::<f32>().unwrap(), shape.to_vec()),
                false => data,
            };
            Some((name, data))
        })
    };
    let path = reshaped("cls_token", &[6]);
    assert!(load_backbone(&path, config, &device).is_ok());
    let path = reshaped("pos_embed", &[65, 6]);
    assert!(load_backbone(&path, config, &device).is_ok());
    for (key, shape) in [("pos_embed", [6, 65].as_slice()), ("norm.weight", &[2, 3])] {
        let path = reshaped(key, shape);
        let error = load_backbone(&path, config, &device).unwrap_err();
        assert!(matches!(&error, ImportError::Mismatch { misshapen, .. } if misshapen.len() == 1));
        assert!(error.to_string().contains(key), "{error}");
    }
}

#[test]
fn a_file_of_another_network_is_refused_with_names() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let [resnet, vit, _] = &small();
    let whole = |name: String, data: TensorData| Some((name, data));
    let path = written(folder.path(), resnet, whole);
    let error = load_backbone(&path, vit, &device).unwrap_err();
    assert!(
        matches!(error, ImportError::NotThisBackbone { .. }),
        "{error}"
    );

    let without = |name: String, data: TensorData| {
        (name != "layer4.1.bn2.running_var").then_some((name, data))
    };
    let path = written(folder.path(), resnet, without);
    let error = load_backbone(&path, resnet, &device).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        cause.contains("1 missing (layer4.1.bn2.running_var)"),
        "{cause}"
    );

    let more = |name: String, data: TensorData| {
        let name = name.replace("layer4.1.bn2.bias", "layer4.1.bn2.offset");
        Some((name, data))
    };
    let path = written(folder.path(), resnet, more);
    let error = load_backbone(&path, resnet, &device).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("1 unknown (layer4.1.bn2.offset)"), "{cause}");

    let path = written(folder.path(), resnet, whole);
    let other = resnet.clone().with_classes(Some(4));
    let error = load_backbone(&path, &other, &device)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("fc.weight [3, 16] instead of [4, 16]"),
        "{error}"
    );
    let none = resnet.clone().with_classes(None);
    let imported = load_backbone(&path, &none, &device).unwrap();
    assert_eq!(imported.left.len(), 2);
}

#[test]
fn a_description_of_no_network_is_refused() {
    let config = BackboneConfig::ResNet(ResNetConfig {
        width: usize::MAX,
        ..ResNetConfig::resnet50()
    });
    let path = fixture("wrapped_moco.pth.tar");
    let error = load_backbone(&path, &config, &Device::flex()).unwrap_err();
    assert!(
        matches!(error, ImportError::BackboneConfig { .. }),
        "{error}"
    );
}
