//! Files that are not what they should be: one clear sentence each, never a panic.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{Device, TensorData};
use diffrep_import::{
    ARCH_KEY, ImportError, Imported, RawCheckpoint, WeightDtype, load, read_arch, write,
    write_tensors,
};
use diffrep_unet::{UNetConfig, state_dict, with_state_dict};

fn small() -> UNetConfig {
    UNetConfig {
        image_size: 8,
        channel_mult: vec![1.0, 1.0],
        attention_resolutions: vec![2],
        ..UNetConfig::mini()
    }
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/golden")
        .join(name)
}

/// Writes `bytes` to a file and loads it; the error must name the file and be one line.
fn refused(bytes: &[u8], arch: Option<UNetConfig>) -> ImportError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.pt");
    std::fs::write(&path, bytes).unwrap();
    told(load(&path, arch, &Device::flex()))
}

fn told(outcome: Result<Imported, ImportError>) -> ImportError {
    let error = outcome.map(|_| ()).unwrap_err();
    let text = error.to_string();
    assert!(!text.contains('\n') && text.len() < 900, "{text}");
    assert!(text.contains("file.pt"), "{text}");
    error
}

/// A whole file of a small network, and its tensors.
fn whole() -> (Vec<u8>, Vec<(String, TensorData)>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let network = small().init(&Device::flex()).unwrap();
    write(&path, &network, WeightDtype::F32, &BTreeMap::new()).unwrap();
    (std::fs::read(&path).unwrap(), state_dict(&network))
}

/// Loads a file with these tensors.
fn refused_tensors(tensors: &[(String, TensorData)], arch: Option<UNetConfig>) -> ImportError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.pt");
    write_tensors(&path, tensors, &BTreeMap::new()).unwrap();
    told(load(&path, arch, &Device::flex()))
}

#[test]
fn paths_that_are_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let error = told(load(&folder.path().join("file.pt"), None, &device));
    assert!(matches!(error, ImportError::Artifact(_)), "{error:?}");
    std::fs::create_dir(folder.path().join("file.pt")).unwrap();
    let error = told(load(&folder.path().join("file.pt"), None, &device));
    assert!(
        matches!(error, ImportError::NotANetworkFolder { .. }),
        "{error:?}"
    );
}

#[test]
fn files_of_other_kinds() {
    let noise: Vec<u8> = (0..4096u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    for (bytes, kind) in [
        (b"".as_slice(), "empty"),
        (b"not a checkpoint at all\n", "a text"),
        (b"\x89PNG\r\n\x1a\nrest", "a PNG image"),
        (b"\xff\xd8\xff\xe0rest", "a JPEG image"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "a Git LFS pointer",
        ),
        (&noise, "of an unknown kind"),
    ] {
        let error = refused(bytes, None);
        assert!(
            matches!(error, ImportError::NotACheckpoint { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains(kind), "{error}");
    }
    let header = b"\x02\0\0\0\0\0\0\0{}";
    let error = refused(header, None);
    assert!(
        error.to_string().contains("a checkpoint without tensors"),
        "{error}"
    );
}

#[test]
fn truncated_and_corrupt_safetensors() {
    let (bytes, _) = whole();
    for keep in [9, 100, bytes.len() / 2, bytes.len() - 1] {
        let error = refused(&bytes[..keep], None);
        assert!(
            matches!(error, ImportError::Damaged { .. }),
            "{keep}: {error:?}"
        );
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(matches!(
        refused(&longer, None),
        ImportError::Damaged { .. }
    ));
    let mut header = bytes.clone();
    header[40] = 0;
    assert!(matches!(
        refused(&header, None),
        ImportError::Damaged { .. }
    ));
}

#[test]
fn a_program_of_pytorch_is_told_from_a_damaged_file() {
    let path = golden("../backbones/torchscript.pt");
    let error = RawCheckpoint::open(&path).unwrap_err();
    assert!(matches!(error, ImportError::TorchScript { .. }), "{error}");
    assert!(error.to_string().contains("torch.jit.load"), "{error}");
}

#[test]
fn truncated_and_corrupt_zip_archives() {
    let bytes = std::fs::read(golden("adm_encoder_adaptive.pt")).unwrap();
    let arch = Some(read_arch(&golden("adm_encoder_adaptive.json")).unwrap());
    for keep in [4, 1000, bytes.len() / 2, bytes.len() - 1] {
        let error = refused(&bytes[..keep], arch.clone());
        assert!(
            matches!(error, ImportError::Damaged { .. }),
            "{keep}: {error:?}"
        );
    }
    // A byte in the middle of some weights: the archive's checksum tells.
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 0x10;
    let error = refused(&flipped, arch);
    assert!(matches!(error, ImportError::Damaged { .. }), "{error:?}");
}

#[test]
fn truncated_legacy_files() {
    let bytes = std::fs::read(golden("adm_neworder_legacy.pt")).unwrap();
    for keep in [64, 5000, bytes.len() / 2, bytes.len() - 1] {
        let error = refused(&bytes[..keep], None);
        assert!(
            matches!(error, ImportError::Damaged { .. }),
            "{keep}: {error:?}"
        );
    }
}

/// Whatever is done to a file's structure, the answer is a result.
#[test]
fn no_change_of_a_byte_panics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.pt");
    let (safe, _) = whole();
    let zip = std::fs::read(golden("adm_encoder_adaptive.pt")).unwrap();
    for original in [zip, safe] {
        let (size, mut state) = (original.len(), 1u64);
        for round in 0..200 {
            let mut bytes = original.clone();
            for _ in 0..3 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let near = (state >> 33) as usize % 12_000;
                // Structure lies at both ends: header or pickle, and the archive's directory.
                let at = if round % 2 == 0 {
                    near
                } else {
                    size - 1 - near
                };
                bytes[at] ^= (state >> 24) as u8 | 1;
            }
            std::fs::write(&path, &bytes).unwrap();
            if let Ok(raw) = RawCheckpoint::open(&path) {
                raw.tensors()
                    .iter()
                    .take(20)
                    .for_each(|tensor| drop(raw.values(&tensor.name)));
            }
        }
    }
}

#[test]
fn missing_unused_and_misshapen_tensors_are_named() {
    let (_, tensors) = whole();
    let error = refused_tensors(&tensors[..tensors.len() - 7], Some(small()));
    let ImportError::Mismatch {
        missing, unused, ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!((missing.len(), unused.len()), (7, 0));
    assert!(
        error.to_string().contains("7 missing") && error.to_string().contains("and 2 more"),
        "{error}"
    );

    let mut more = tensors.clone();
    more.push(("out.9.weight".into(), TensorData::new(vec![0f32], [1])));
    let error = refused_tensors(&more, Some(small()));
    assert!(
        error.to_string().contains("1 unused (out.9.weight)"),
        "{error}"
    );

    let mut bent = tensors.clone();
    bent[1].1 = TensorData::new(vec![0f32; 3], [3]);
    let error = refused_tensors(&bent, Some(small()));
    assert!(
        error
            .to_string()
            .contains("time_embed.0.bias [3] instead of [128]"),
        "{error}"
    );
}

#[test]
fn another_architecture_is_hinted_at() {
    let (_, tensors) = whole();
    let other = UNetConfig {
        num_res_blocks: 2,
        ..small()
    };
    let text = refused_tensors(&tensors, Some(other)).to_string();
    assert!(
        text.contains("its tensors look like a U-Net with 32 channels x [1.0, 1.0], 1 residual"),
        "{text}"
    );
    let error = refused_tensors(&tensors, None);
    assert!(
        matches!(error, ImportError::Underdetermined { .. }),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("num_head_channels 32"),
        "{error}"
    );
    let axis = [(
        "time_embed.0.weight".to_string(),
        TensorData::new(Vec::<f32>::new(), [1usize << 60, 0]),
    )];
    assert!(matches!(
        refused_tensors(&axis, None),
        ImportError::NotAdm { .. }
    ));
    let foreign = [("layer1.0.conv1.weight".to_string(), tensors[0].1.clone())];
    assert!(matches!(
        refused_tensors(&foreign, None),
        ImportError::NotAdm { .. }
    ));
    assert!(
        refused_tensors(&foreign, Some(small()))
            .to_string()
            .contains("it looks like a ResNet")
    );
}

#[test]
fn weights_that_are_not_finite() {
    let (bytes, _) = whole();
    let end = bytes.len() - 4;
    for value in [f32::NAN, f32::INFINITY] {
        let bytes = [&bytes[..end], &value.to_le_bytes()].concat();
        let error = refused(&bytes, None);
        let ImportError::NotFinite { name, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(name, "out.2.bias");
    }
}

#[test]
fn weights_that_are_integers() {
    let (_, tensors) = whole();
    let integers = tensors.iter().map(|(name, data)| {
        let count: usize = data.shape().to_vec().iter().product();
        (name.clone(), data.shape().to_vec(), vec![0u8; count])
    });
    let integers: Vec<_> = integers.collect();
    let views = integers.iter().map(|(name, shape, bytes)| {
        (
            name.as_str(),
            safetensors::tensor::TensorView::new(safetensors::Dtype::I8, shape.clone(), bytes)
                .unwrap(),
        )
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    assert!(matches!(
        refused(&bytes, Some(small())),
        ImportError::Dtype { .. }
    ));

    let big = (1i64 << 40) + 1;
    let bytes = big.to_le_bytes();
    let view =
        safetensors::tensor::TensorView::new(safetensors::Dtype::I64, vec![1], &bytes).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t");
    std::fs::write(&path, safetensors::serialize([("t", view)], None).unwrap()).unwrap();
    let raw = RawCheckpoint::open(&path).unwrap();
    assert!(matches!(raw.values("t"), Err(ImportError::NotExact { .. })));
    let error = raw.values("u").unwrap_err();
    assert!(
        matches!(error, ImportError::NoSuchTensor { .. }) && error.to_string().contains("it has t"),
        "{error}"
    );
}

#[test]
fn values_that_cannot_be_written_leave_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let network = small().init(&Device::flex()).unwrap();
    let with_first = |value: f32| {
        with_state_dict(network.clone(), |key| {
            (key == "out.2.bias").then(|| TensorData::new(vec![value], [1]))
        })
    };
    let metadata = BTreeMap::new();
    let large = with_state_dict(network.clone(), |key| {
        (key == "input_blocks.0.0.bias").then(|| TensorData::new(vec![1e6f32; 32], [32]))
    });
    let error = write(&path, &large, WeightDtype::F16, &metadata).unwrap_err();
    assert!(matches!(error, ImportError::Overflow { .. }), "{error:?}");
    let error = write(&path, &with_first(f32::NAN), WeightDtype::F32, &metadata).unwrap_err();
    assert!(matches!(error, ImportError::NotFinite { .. }), "{error:?}");
    assert!(network.num_params() > 0 && std::fs::read_dir(folder.path()).unwrap().next().is_none());
    assert!(write(&path, &with_first(1e6), WeightDtype::F32, &metadata).is_ok());
}

#[test]
fn architectures_that_are_wrong() {
    let (_, tensors) = whole();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.pt");
    let huge = UNetConfig {
        model_channels: usize::MAX / 2,
        ..small()
    };
    let endless = UNetConfig {
        num_res_blocks: usize::MAX / 2,
        ..small()
    };
    let [huge, endless] = [huge, endless].map(|config| serde_json::to_string(&config).unwrap());
    for arch in ["{\"kind\": 3}", "nonsense", &huge, &endless] {
        let metadata = BTreeMap::from([(ARCH_KEY.to_string(), arch.to_string())]);
        write_tensors(&path, &tensors, &metadata).unwrap();
        let error = told(load(&path, None, &Device::flex()));
        assert!(
            matches!(error, ImportError::Arch { .. } | ImportError::Config { .. }),
            "{error:?}"
        );
    }
    let odd = UNetConfig {
        image_size: 7,
        ..small()
    };
    assert!(matches!(
        told(load(&path, Some(odd), &Device::flex())),
        ImportError::Config { .. }
    ));

    let arch = folder.path().join("file.pt.json");
    for text in [
        "{",
        "{\"class\": \"UNetModel\"}",
        "[1, 2]",
        "{\"kind\": \"UNet\"}",
    ] {
        std::fs::write(&arch, text).unwrap();
        let error = read_arch(&arch).unwrap_err();
        assert!(matches!(error, ImportError::Arch { .. }), "{error:?}");
    }
    let told = std::fs::read_to_string(golden("adm_classcond.json")).unwrap();
    std::fs::write(&arch, told.replace("1004163", "1004164")).unwrap();
    assert!(
        read_arch(&arch)
            .unwrap_err()
            .to_string()
            .contains("1004164 parameters")
    );
}
