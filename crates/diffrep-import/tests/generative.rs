//! Networks of other families than ADM: weights and descriptions as their libraries wrote them, and
//! the output of every block that those computed (fixtures/generative/README.md).
#![allow(clippy::print_stdout, reason = "the errors found are worth reading")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use diffrep_import::{
    ArchSource, ImportError, PROCESS_KEY, RawCheckpoint, WeightDtype, check, infer, load, preset,
    read_arch, resolve, write,
};
use diffrep_schedule::{ProcessSpec, ScheduleKind, Target};
use diffrep_taps::{Condition, Encoder, TapSet};
use diffrep_unet::{Resample, UNet, UNetConfig, state_dict};

/// Allowed largest error of a block, relative to its largest value. Both sides compute in f32 with
/// sums in different orders.
const TOLERANCE: f32 = 1e-4;

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/generative")
        .join(case)
}

/// Copies a case's files, so that they can be changed.
fn copied(case: &str) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let target = to.join(path.file_name().unwrap());
            match path.is_dir() {
                true => copy(&path, &target),
                false => drop(std::fs::copy(&path, &target).unwrap()),
            }
        }
    }
    let out = tempfile::tempdir().unwrap();
    copy(&folder(case), out.path());
    out
}

fn rewrite(path: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

fn relative_error(found: Tensor<4>, expected: &TensorData) -> f32 {
    let found: Vec<f32> = found.into_data().try_into_vec().unwrap();
    let expected = expected.as_slice::<f32>().unwrap();
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(0f32, |most, v| most.max(v.abs()));
    let error = found
        .iter()
        .zip(expected)
        .fold(0f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(found.iter().all(|value| value.is_finite()) && scale > 0.0);
    error / scale
}

/// Every block and the output of the network, packed and not.
fn hold(case: &str, network: &UNet) {
    let device = Device::flex();
    let golden = RawCheckpoint::open(&folder(case).join("golden.safetensors")).unwrap();
    let has = |name: &str| golden.tensors().iter().any(|tensor| tensor.name == name);
    let t = Tensor::from_data(golden.values("t").unwrap(), &device);
    let mut condition = Condition {
        t: Some(t),
        ..Condition::default()
    };
    if has("y") {
        let label: Tensor<1> = Tensor::from_data(golden.values("y").unwrap(), &device);
        condition = condition.with_label(label.int() as Tensor<1, Int>);
    }
    let image = Tensor::from_data(golden.values("x").unwrap(), &device);
    let all = TapSet::all(&network.taps()).unwrap();
    for (kind, network) in [
        ("plain", network.clone()),
        ("packed", network.clone().packed()),
    ] {
        let (taps, out) = network.forward_with_taps(image.clone(), &condition, &all);
        let blocks = golden
            .tensors()
            .iter()
            .filter(|tensor| tensor.name.starts_with("block_"));
        assert_eq!(
            taps.len(),
            blocks.count(),
            "{case}: every block is compared"
        );
        let mut worst = 0f32;
        for (info, (block, map)) in network.taps().iter().zip(taps) {
            let [_, channels, height, width] = map.dims();
            assert_eq!(
                (info.block, info.channels, info.height, info.width),
                (block, channels, height, width)
            );
            let name = format!("block_{block:02}", block = block.get());
            let error = relative_error(map, &golden.values(&name).unwrap());
            assert!(error <= TOLERANCE, "{case}, {kind}, {name}: {error:e}");
            worst = worst.max(error);
        }
        let error = relative_error(out, &golden.values("out").unwrap());
        assert!(error <= TOLERANCE, "{case}, {kind}, out: {error:e}");
        worst = worst.max(error);
        println!(
            "{case}, {kind}: {} blocks, worst relative error {worst:.1e}",
            all.len()
        );
    }
}

fn process(metadata: &BTreeMap<String, String>) -> ProcessSpec {
    serde_json::from_str(&metadata[PROCESS_KEY]).unwrap()
}

#[test]
fn ddpm_as_diffusers_computes_it() {
    let imported = load(&folder("ddpm"), None, &Device::flex()).unwrap();
    assert_eq!(imported.report.source, ArchSource::Described);
    assert!(imported.report.is_complete());
    assert_eq!(imported.network.taps().len(), 19);
    assert_eq!(process(&imported.metadata), ScheduleKind::Linear.into());
    hold("ddpm", &imported.network);
}

#[test]
fn a_pipeline_with_residual_resampling_classes_and_v_prediction() {
    let imported = load(&folder("unet2d"), None, &Device::flex()).unwrap();
    let config = imported.network.config();
    assert_eq!(
        (config.resample, config.num_classes),
        (Resample::Residual, Some(5))
    );
    assert_eq!(
        process(&imported.metadata),
        ProcessSpec {
            predicts: Target::Velocity,
            ..ScheduleKind::Cosine.into()
        }
    );
    hold("unet2d", &imported.network);
    // The U-Net's own folder, and the file in it, are the same network.
    for path in ["unet", "unet/diffusion_pytorch_model.safetensors"] {
        let again = load(&folder("unet2d").join(path), None, &Device::flex()).unwrap();
        assert_eq!(again.sha256, imported.sha256, "{path}");
        assert_eq!(again.network.config(), config);
    }
}

#[test]
fn improved_diffusion_with_fractional_timesteps() {
    let arch = read_arch(&folder("improved").join("arch.json")).unwrap();
    let path = folder("improved").join("model.pt");
    let imported = load(&path, Some(arch), &Device::flex()).unwrap();
    hold("improved", &imported.network);
}

/// What is written after an import says all that the folder said.
#[test]
fn an_imported_network_is_written_as_one_file() {
    let device = Device::flex();
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("network.safetensors");
    let imported = load(&folder("unet2d"), None, &device).unwrap();
    write(
        &path,
        &imported.network,
        WeightDtype::F32,
        &imported.metadata,
    )
    .unwrap();
    let again = load(&path, None, &device).unwrap();
    assert_eq!(again.report.source, ArchSource::Metadata);
    assert_eq!(again.network.config(), imported.network.config());
    assert_eq!(process(&again.metadata), process(&imported.metadata));
    let values = |network: &UNet| state_dict(network);
    assert_eq!(values(&again.network), values(&imported.network));
}

#[test]
fn tensors_alone_tell_sizes_and_ask_for_the_rest() {
    let home = copied("ddpm");
    let path = home.path().join("diffusion_pytorch_model.bin");
    let described = load(home.path(), None, &Device::flex()).unwrap();
    let described = described.network.config().clone();
    std::fs::remove_file(home.path().join("config.json")).unwrap();
    let raw = RawCheckpoint::open(&path).unwrap();
    let found = infer(&path, raw.tensors()).unwrap().config;
    // It guesses DDPM's details, which are these, but for the groups that nothing tells.
    let like = UNetConfig {
        image_size: described.image_size,
        details: described.details,
        ..found
    };
    assert_eq!(like, described);
    let error = resolve(&raw, None).unwrap_err();
    assert!(matches!(error, ImportError::Underdetermined { .. }));
    assert!(error.to_string().contains("config.json"), "{error}");
    // The description may also be named.
    let arch = read_arch(&folder("ddpm").join("config.json")).unwrap();
    let given = load(&path, Some(arch.clone()), &Device::flex()).unwrap();
    assert_eq!(given.network.config(), &arch);
    assert_eq!(
        read_arch(Path::new("ddpm-cifar10-32")).unwrap(),
        preset("ddpm-cifar10-32").unwrap()
    );
}

#[test]
fn the_identity_of_a_folder_covers_its_descriptions() {
    let device = Device::flex();
    let home = copied("ddpm");
    let hash = || load(home.path(), None, &device).unwrap().sha256;
    let before = hash();
    rewrite(&home.path().join("scheduler_config.json"), |config| {
        config["beta_end"] = 0.03.into();
    });
    let after = hash();
    assert_ne!(before, after);
    rewrite(&home.path().join("config.json"), |config| {
        config["freq_shift"] = 0.into();
    });
    assert_ne!(after, hash());
}

#[test]
fn every_tensor_is_accounted_for_in_the_files_own_names() {
    let device = Device::flex();
    let home = copied("ddpm");
    rewrite(&home.path().join("config.json"), |config| {
        config["down_block_types"] =
            serde_json::json!(["AttnDownBlock2D", "AttnDownBlock2D", "DownBlock2D"]);
        config["up_block_types"] =
            serde_json::json!(["UpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D"]);
    });
    let error = load(home.path(), None, &device).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("50 missing (down_blocks.0.attentions.0.group_norm.bias"),
        "{text}"
    );
    let home = copied("ddpm");
    rewrite(&home.path().join("config.json"), |config| {
        config["down_block_types"] =
            serde_json::json!(["DownBlock2D", "DownBlock2D", "DownBlock2D"]);
        config["up_block_types"] = serde_json::json!(["UpBlock2D", "UpBlock2D", "UpBlock2D"]);
    });
    let raw = RawCheckpoint::open(home.path()).unwrap();
    let (config, source) = resolve(&raw, None).unwrap();
    let report = check(&raw, &config, source).unwrap();
    assert_eq!(report.counts()["unused"], 50);
}

#[test]
fn folders_without_a_network_are_refused_in_a_sentence() {
    let refused = |home: &Path| load(home, None, &Device::flex()).unwrap_err();
    let told = |home: &Path, word: &str| {
        let error = refused(home);
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            text = format!("{text}: {inner}");
            source = inner.source();
        }
        assert!(text.contains(word), "{text}");
    };
    let empty = tempfile::tempdir().unwrap();
    told(empty.path(), "it has no `config.json`");
    let home = copied("ddpm");
    std::fs::remove_file(home.path().join("diffusion_pytorch_model.bin")).unwrap();
    told(
        home.path(),
        "it has no diffusion_pytorch_model.safetensors or",
    );
    let index = home
        .path()
        .join("diffusion_pytorch_model.safetensors.index.json");
    std::fs::write(index, "{}").unwrap();
    told(home.path(), "in several files");
    let home = copied("ddpm");
    rewrite(&home.path().join("scheduler_config.json"), |config| {
        config["_class_name"] = "EDMEulerScheduler".into();
    });
    told(home.path(), "measures noise by sigma");
    let home = copied("ddpm");
    rewrite(&home.path().join("config.json"), |config| {
        config["_class_name"] = "UNet2DConditionModel".into();
    });
    told(home.path(), "Stable Diffusion");
    std::fs::write(home.path().join("config.json"), "no json").unwrap();
    told(home.path(), "does not describe a network");
    let home = copied("ddpm");
    rewrite(&home.path().join("config.json"), |config| {
        config["norm_num_groups"] = 5.into();
    });
    told(home.path(), "5 groups");
}

mod dit {
    use diffrep_artifact::read_json;
    use diffrep_backbones::{Backbone, BackboneConfig, DiT, blocks_evaluated};
    use diffrep_import::{infer_dit, is_dit, load_backbone};

    use super::*;

    fn checkpoint() -> PathBuf {
        folder("dit").join("checkpoint.pt")
    }

    fn network() -> DiT {
        let config: BackboneConfig = read_json(folder("dit").join("config.json")).unwrap();
        let imported = load_backbone(&checkpoint(), &config, &Device::flex()).unwrap();
        // The averages are read, and the weights that were stepped (here all zero) are left.
        assert_eq!(imported.prefix, "ema.");
        assert!(
            imported
                .left
                .iter()
                .all(|left| left.name.starts_with("model."))
        );
        assert_eq!(imported.left.len(), 42);
        let Backbone::DiT(network) = imported.network else {
            panic!("a transformer was asked for")
        };
        network
    }

    #[test]
    fn every_block_is_that_of_plain_pytorch() {
        let device = Device::flex();
        let network = network();
        let golden = RawCheckpoint::open(&folder("dit").join("golden.safetensors")).unwrap();
        let value = |name: &str| golden.values(name).unwrap();
        let label: Tensor<1> = Tensor::from_data(value("y"), &device);
        let t: Tensor<1> = Tensor::from_data(value("t"), &device);
        let x: Tensor<4> = Tensor::from_data(value("x"), &device);
        let condition = Condition {
            t: Some(t.clone()),
            ..Condition::default()
        };
        let labelled = condition.clone().with_label(label.int() as Tensor<1, Int>);
        let all = TapSet::all(&network.taps()).unwrap();
        let (taps, out) = network.forward_with_taps(x.clone(), &labelled, Some(&all));
        let mut worst = 0f32;
        for (info, (block, map)) in network.taps().iter().zip(taps) {
            assert_eq!(map.dims(), [2, info.channels, info.height, info.width]);
            let name = format!("block_{block:02}", block = block.get());
            worst = worst.max(relative_error(map, &value(&name)));
        }
        worst = worst.max(relative_error(out.clone(), &value("out")));
        println!(
            "dit: {} blocks, worst relative error {worst:.1e}",
            all.len()
        );
        assert!(worst <= TOLERANCE, "{worst:e}");
        assert_eq!(
            network.forward(x.clone(), &labelled).into_data(),
            out.into_data()
        );

        // The second latent is of the null class, which is what an absent label means.
        let unlabelled = network.forward_taps(x.clone(), &condition, &all, None);
        for (block, map) in unlabelled.iter() {
            let name = format!("block_{block:02}", block = block.get());
            let expected: Tensor<4> = Tensor::from_data(value(&name), &device);
            let second = |map: Tensor<4>| map.narrow(0, 1, 1);
            let error = relative_error(second(map.clone()), &second(expected).into_data());
            assert!(error <= TOLERANCE, "{name}: {error:e}");
        }

        // Early exit evaluates what it needs and no more.
        let before = blocks_evaluated();
        let two = TapSet::new([2], &network.taps()).unwrap();
        let early = network.forward_taps(x, &condition, &two, None);
        assert_eq!(blocks_evaluated() - before, 2);
        assert_eq!(
            early.get(two.last()).unwrap().to_data(),
            unlabelled.get(two.last()).unwrap().to_data()
        );
    }

    #[test]
    fn sizes_are_told_by_tensors_and_heads_by_publication() {
        let raw = RawCheckpoint::open(&checkpoint()).unwrap();
        assert!(is_dit(&raw));
        let error = infer_dit(&raw).unwrap_err().to_string();
        assert!(
            error.contains("3 blocks of width 32") && error.contains("--arch"),
            "{error}"
        );
        let other = RawCheckpoint::open(&folder("improved").join("model.pt")).unwrap();
        assert!(!is_dit(&other));
        assert!(infer_dit(&other).is_err());
        let error = load(&checkpoint(), None, &Device::flex())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("looks like a diffusion transformer"),
            "{error}"
        );
    }

    #[test]
    fn another_transformer_is_refused_with_the_names_that_differ() {
        let config: BackboneConfig = read_json(folder("dit").join("config.json")).unwrap();
        let BackboneConfig::DiT(config) = config else {
            panic!("a transformer is described")
        };
        for (changed, word) in [
            (
                diffrep_backbones::DiTConfig {
                    depth: 4,
                    ..config.clone()
                },
                "blocks.3.attn.qkv.weight",
            ),
            (
                diffrep_backbones::DiTConfig {
                    classes: 9,
                    ..config.clone()
                },
                "embedding_table.weight [6, 32] instead of [10, 32]",
            ),
        ] {
            let error = load_backbone(
                &checkpoint(),
                &BackboneConfig::DiT(changed),
                &Device::flex(),
            );
            let error = error.unwrap_err();
            let source = std::error::Error::source(&error).map(ToString::to_string);
            let text = format!("{error} {}", source.unwrap_or_default());
            assert!(text.contains(word), "{text}");
        }
    }
}

mod mage {
    use diffrep_artifact::read_json;
    use diffrep_backbones::{Backbone, BackboneConfig};
    use diffrep_import::load_backbone;

    use super::*;

    #[test]
    fn tokens_and_every_block_are_those_of_plain_pytorch() {
        let device = Device::flex();
        let config: BackboneConfig = read_json(folder("mage").join("config.json")).unwrap();
        let path = folder("mage").join("checkpoint.pt");
        let imported = load_backbone(&path, &config, &device).unwrap();
        // What encoding does not use is left, and nothing else is in the file.
        assert_eq!(imported.left.len(), 8, "{:?}", imported.left);
        let Backbone::Mage(network) = imported.network else {
            panic!("MAGE was asked for")
        };
        let golden = RawCheckpoint::open(&folder("mage").join("golden.safetensors")).unwrap();
        let x: Tensor<4> = Tensor::from_data(golden.values("x").unwrap(), &device);
        let tokens = network.tokens(x.clone()).float().into_data();
        assert_eq!(
            tokens.try_to_vec::<f32>().unwrap(),
            golden
                .values("tokens")
                .unwrap()
                .try_to_vec::<f32>()
                .unwrap()
        );
        let all = TapSet::all(&network.taps()).unwrap();
        let taps = network.forward_taps(x, &Condition::default(), &all, None);
        assert_eq!(taps.len(), 3);
        let mut worst = 0f32;
        for (block, map) in taps {
            let name = format!("block_{block:02}", block = block.get());
            worst = worst.max(relative_error(map, &golden.values(&name).unwrap()));
        }
        println!(
            "mage: {} blocks, worst relative error {worst:.1e}",
            all.len()
        );
        assert!(worst <= TOLERANCE, "{worst:e}");
    }
}
