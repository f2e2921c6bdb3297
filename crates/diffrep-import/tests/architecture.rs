//! What names and shapes tell, and what they do not.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use diffrep_import::{
    ArchSource, Container, Dtype, Fate, ImportError, RawCheckpoint, TensorInfo, WeightDtype, infer,
    load, preset, preset_names, read_arch, write, write_tensors,
};
use diffrep_unet::{
    AttentionOrder, ClassifierPool, Heads, Kind, Resample, UNetConfig, parameter_shapes, state_dict,
};

fn tensors(config: &UNetConfig) -> Vec<TensorInfo> {
    let shapes = parameter_shapes(config).unwrap();
    let info = |p: diffrep_unet::ParameterShape| TensorInfo {
        name: p.key,
        dtype: Dtype::F32,
        shape: p.shape,
    };
    shapes.into_iter().map(info).collect()
}

/// What cannot be told, set to what `from` has.
fn with_unknown_of(config: UNetConfig, from: &UNetConfig) -> UNetConfig {
    UNetConfig {
        image_size: from.image_size,
        heads: from.heads,
        attention_order: from.attention_order,
        ..config
    }
}

#[test]
fn published_networks_are_recognised() {
    for name in preset_names() {
        let config = preset(name).unwrap();
        if !config.details.are_usual() {
            // Of diffusers, whose files have other names and a description beside them.
            continue;
        }
        let found = infer(Path::new("a.pt"), &tensors(&config)).unwrap();
        assert_eq!((found.preset, &found.config), (Some(name), &config));
        assert!(found.unknown.is_empty());
    }
}

#[test]
fn sizes_are_told_by_tensors_alone() {
    let base = UNetConfig::mini();
    let mut configs = vec![
        base.clone(),
        UNetConfig {
            num_classes: Some(10),
            use_scale_shift_norm: false,
            ..base.clone()
        },
        UNetConfig {
            num_res_blocks: 3,
            channel_mult: vec![1.0, 2.0, 2.0, 4.0],
            ..base.clone()
        },
        UNetConfig {
            channel_mult: vec![0.5, 1.0],
            model_channels: 64,
            attention_resolutions: vec![],
            ..base.clone()
        },
    ];
    for resample in [Resample::Convolution, Resample::Plain] {
        configs.push(UNetConfig {
            resample,
            attention_resolutions: vec![1, 4],
            ..base.clone()
        });
    }
    use ClassifierPool::{Adaptive, Attention, Spatial, SpatialV2};
    for pool in [Adaptive, Attention, Spatial, SpatialV2] {
        let attention_resolutions = vec![2, 4];
        configs.push(UNetConfig {
            kind: Kind::Encoder(pool),
            attention_resolutions,
            ..base.clone()
        });
    }
    for config in configs {
        let found = infer(Path::new("a.pt"), &tensors(&config)).unwrap();
        assert_eq!(found.preset, None);
        if config.kind == Kind::Encoder(Attention) {
            assert_eq!(
                found.config.image_size, config.image_size,
                "the pool has a place for every pixel"
            );
        }
        assert_eq!(with_unknown_of(found.config, &config), config);
        let open: Vec<_> = found.unknown.iter().map(|unknown| unknown.what).collect();
        assert!(
            open.contains(&"number of heads")
                && open.contains(&"order of the attention projections")
        );
        assert!(
            found
                .unknown
                .iter()
                .all(|unknown| unknown.options.len() > 1),
            "{:?}",
            found.unknown
        );
    }
}

#[test]
fn other_networks_are_refused_by_name() {
    let upsampler = UNetConfig {
        in_channels: 6,
        model_channels: 192,
        ..UNetConfig::adm_256_uncond()
    };
    let error = infer(Path::new("up.pt"), &tensors(&upsampler)).unwrap_err();
    assert!(matches!(error, ImportError::Unsupported { .. }));
    assert!(
        error
            .to_string()
            .contains("up.pt holds a super-resolution network"),
        "{error}"
    );

    let resnet = TensorInfo {
        name: "layer1.0.conv1.weight".into(),
        dtype: Dtype::F32,
        shape: vec![64, 64, 3, 3],
    };
    let error = infer(Path::new("r.pt"), &[resnet]).unwrap_err();
    assert!(matches!(error, ImportError::NotAdm { .. }));
    assert!(
        error.to_string().contains("it looks like a ResNet"),
        "{error}"
    );

    // An index beyond all bounds costs nothing.
    let mut far = tensors(&UNetConfig::mini());
    far[20].name = format!("input_blocks.{}.0.op.weight", usize::MAX);
    assert!(matches!(
        infer(Path::new("f.pt"), &far),
        Err(ImportError::NotAdm { .. })
    ));
}

fn small() -> UNetConfig {
    UNetConfig {
        image_size: 8,
        channel_mult: vec![1.0, 1.0],
        attention_resolutions: vec![2],
        ..UNetConfig::mini()
    }
}

#[test]
fn a_written_network_comes_back_bit_by_bit() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let config = UNetConfig {
        heads: Heads::Count(2),
        attention_order: AttentionOrder::New,
        ..small()
    };
    let network = config.init(&device).unwrap();
    let [first, second, half] = ["a", "b", "half"].map(|name| folder.path().join(name));
    let metadata = BTreeMap::from([
        ("z".to_string(), "last".to_string()),
        ("a".into(), "first".into()),
    ]);
    let hash = write(&first, &network, WeightDtype::F32, &metadata).unwrap();
    assert_eq!(
        hash,
        write(&second, &network, WeightDtype::F32, &metadata).unwrap()
    );
    assert_eq!(
        std::fs::read(&first).unwrap(),
        std::fs::read(&second).unwrap()
    );

    let back = load(&first, None, &device).unwrap();
    assert_eq!(back.network.config(), &config);
    assert_eq!(
        (back.sha256, back.report.source),
        (hash, ArchSource::Metadata)
    );
    assert_eq!(back.metadata["z"], "last");
    assert_eq!(back.report.container, Container::SafeTensors);
    for ((name, before), (again, after)) in state_dict(&network)
        .into_iter()
        .zip(state_dict(&back.network))
    {
        assert_eq!((name, before.as_bytes()), (again, after.as_bytes()));
    }

    write(&half, &network, WeightDtype::F16, &BTreeMap::new()).unwrap();
    let sizes = [&first, &half].map(|path| std::fs::metadata(path).unwrap().len());
    assert!(sizes[1] < sizes[0] * 7 / 10, "{sizes:?}");
    let back = load(&half, None, &device).unwrap();
    // By the reference's rule, told here by the names that it has for convolutions of blocks.
    let convolution = |name: &str| {
        let ends = [
            "in_layers.2",
            "out_layers.3",
            "skip_connection",
            "qkv",
            "proj_out",
            "input_blocks.0.0",
        ];
        let layer = name.trim_end_matches(".weight").trim_end_matches(".bias");
        ends.iter().any(|end| layer.ends_with(end))
    };
    for tensor in &back.report.tensors {
        let expected = match convolution(&tensor.name) {
            true => Fate::Converted(Dtype::F16),
            false => Fate::Applied,
        };
        assert_eq!(tensor.fate, expected, "{}", tensor.name);
    }
    for ((_, before), (_, after)) in state_dict(&network)
        .into_iter()
        .zip(state_dict(&back.network))
    {
        let pairs = before.iter::<f32>().zip(after.iter::<f32>());
        pairs.for_each(|(a, b)| assert!((a - b).abs() <= a.abs() / 1024.0 + 1e-7, "{a} {b}"));
    }
}

#[test]
fn the_safetensors_crate_reads_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let network = small().init(&Device::flex()).unwrap();
    write(&path, &network, WeightDtype::F32, &BTreeMap::new()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (name, data) in state_dict(&network) {
        assert_eq!(file.tensor(&name).unwrap().data(), data.as_bytes());
    }
}

#[test]
fn wrappers_and_shared_prefixes_are_taken_off() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let network = small().init(&device).unwrap();
    for (prefix, beside) in [("module.", false), ("state_dict.model.", true)] {
        let path = folder.path().join("wrapped");
        let mut tensors: Vec<_> = state_dict(&network)
            .into_iter()
            .map(|(name, data)| (format!("{prefix}{name}"), data))
            .collect();
        if beside {
            tensors.push(("optimizer.exp_avg".into(), tensors[0].1.clone()));
        }
        write_tensors(&path, &tensors, &BTreeMap::new()).unwrap();
        let back = load(&path, Some(small()), &device).unwrap();
        assert_eq!(back.report.prefix, prefix);
        assert_eq!(back.report.ignored.len(), usize::from(beside));
        assert_eq!(
            back.report.counts()["applied"],
            tensors.len() - usize::from(beside)
        );
    }
}

#[test]
fn pytorch_files_tell_their_container_and_architecture() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden");
    for (file, case, container) in [
        ("adm_classcond.pt", "adm_classcond", Container::TorchZip),
        (
            "adm_encoder_attnpool.pt",
            "adm_encoder_attnpool",
            Container::TorchZip,
        ),
        (
            "adm_encoder_adaptive.pt",
            "adm_encoder_adaptive",
            Container::TorchZip,
        ),
        (
            "adm_neworder_legacy.pt",
            "adm_neworder",
            Container::TorchLegacy,
        ),
    ] {
        let raw = RawCheckpoint::open(&golden.join(file)).unwrap();
        assert_eq!(raw.container(), container);
        let config = read_arch(&golden.join(format!("{case}.json"))).unwrap();
        let found = infer(raw.path(), raw.tensors()).unwrap();
        assert_eq!(with_unknown_of(found.config, &config), config);
    }
}
