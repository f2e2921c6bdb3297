//! A killed training goes on to the same bits, and training lowers the loss.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use burn::tensor::{Device, TensorData};
use diffrep_backbones::{BackboneConfig, ResNetConfig, ViTConfig};
use diffrep_datasets::{Channels, Dataset, Fit, Pixels, Preprocess, Split};
use diffrep_pretrain::{
    BackboneTraining, Course, Event, LossPoint, PretrainConfig, Pretraining, Task,
};
use diffrep_schedule::ScheduleKind;
use diffrep_train::{AdamWConfig, LearningRate};
use diffrep_unet::{ClassifierPool, Kind, UNetConfig, state_dict};

const CHECKPOINT_EVERY: u64 = 4;

fn dataset() -> Dataset {
    let images = 64;
    let data = (0..images * 28 * 28)
        .map(|i| {
            if (i / 28) % 28 > 6 + i / 784 % 9 {
                200
            } else {
                10
            }
        })
        .collect();
    let pixels = Pixels {
        height: 28,
        width: 28,
        channels: 1,
        data,
    };
    let ids = (0..images as u64).collect();
    Dataset::from_pixels(
        Split::Train,
        vec!["one".into()],
        vec![0; images],
        ids,
        pixels,
    )
}

fn config(out_channels: usize) -> PretrainConfig {
    PretrainConfig {
        network: UNetConfig {
            out_channels,
            ..UNetConfig::mini()
        },
        preprocess: Preprocess {
            size: 32,
            channels: Channels::Grey,
            fit: Fit::PadTo,
        },
        schedule: ScheduleKind::Linear,
        timesteps: 1000,
        epochs: 2,
        batch: 8,
        micro_batches: 2,
        learning_rate: LearningRate::Cosine {
            rate: 2e-3,
            warmup: 2,
            steps: 12,
        },
        optimizer: AdamWConfig::default(),
        ema_decay: 0.9,
        flip: true,
        held_out: 16,
        seed: 5,
    }
}

/// Trains to the end, or until `stop` says so by panicking; the averaged weights and the curve.
fn train(config: PretrainConfig, path: &Path, stop: impl Fn(u64)) -> (Vec<Vec<u32>>, Vec<f64>) {
    let dataset = dataset();
    let device = Device::flex();
    let mut run = Pretraining::open(config, &dataset, "data".into(), path, &device).unwrap();
    run.run(&dataset, path, CHECKPOINT_EVERY, |event| {
        if let Event::Step { position, .. } = event {
            stop(position.step);
        }
    })
    .unwrap();
    let weights = state_dict(&run.averaged())
        .into_iter()
        .map(|(_, data)| {
            data.try_to_vec::<f32>()
                .unwrap()
                .into_iter()
                .map(f32::to_bits)
                .collect()
        })
        .collect();
    (
        weights,
        run.record()
            .curve
            .iter()
            .map(|point| point.held_out)
            .collect(),
    )
}

#[test]
fn a_killed_training_goes_on_to_the_same_bits() {
    // One and two output channels: the plain loss and the hybrid loss with learned variance.
    for outputs in [1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
        let (expected, curve) = train(config(outputs), &whole, |_| {});
        let died = catch_unwind(AssertUnwindSafe(|| {
            train(config(outputs), &cut, |step| assert!(step < 7, "killed"));
        }));
        assert!(died.is_err());
        let (found, resumed) = train(config(outputs), &cut, |step| {
            assert!(step > 4, "began anew")
        });
        assert!(found == expected, "{outputs} outputs: the weights differ");
        assert_eq!(resumed, curve);
        assert!(
            curve.last() < curve.first(),
            "the loss did not fall: {curve:?}"
        );
    }
}

/// Pictures whose upper part is dark, and such with a dark left part.
fn two_classes() -> Dataset {
    let pixel = |i: usize| {
        let (image, place) = (
            i / 784,
            if (i / 784).is_multiple_of(2) {
                i / 28 % 28
            } else {
                i % 28
            },
        );
        if place > 6 + image % 9 { 200 } else { 10 }
    };
    Dataset::from_pixels(
        Split::Train,
        vec!["upper".into(), "left".into()],
        (0..64).map(|i| i % 2).collect(),
        (0..64).collect(),
        Pixels {
            height: 28,
            width: 28,
            channels: 1,
            data: (0..64 * 784).map(pixel).collect(),
        },
    )
}

/// Trains in a fresh folder to the end, once in one go and once killed after step 6: both have the same
/// curve and weights. Returns the curve.
fn same_after_a_kill<T: Task>(
    config: &T,
    dataset: &Dataset,
    weights: impl Fn(&T::Network) -> Vec<(String, TensorData)>,
) -> Vec<LossPoint> {
    let device = Device::flex();
    let dir = tempfile::tempdir().unwrap();
    let train = |name: &str, stop: u64| {
        let path = dir.path().join(name);
        let mut run =
            Pretraining::open(config.clone(), dataset, "data".into(), &path, &device).unwrap();
        run.run(dataset, &path, CHECKPOINT_EVERY, |event| {
            if let Event::Step { position, .. } = event {
                assert!(position.step < stop, "killed");
            }
        })
        .unwrap();
        (run.record().curve.clone(), weights(&run.averaged()))
    };
    assert!(catch_unwind(AssertUnwindSafe(|| train("cut", 7))).is_err());
    let (resumed, found) = train("cut", u64::MAX);
    let (curve, expected) = train("whole", u64::MAX);
    assert_eq!(resumed, curve);
    assert!(found == expected, "the weights differ");
    curve
}

/// The encoder half of the network.
#[test]
fn a_classifier_learns_and_goes_on_to_the_same_bits() {
    let network = UNetConfig {
        kind: Kind::Encoder(ClassifierPool::Attention),
        out_channels: 2,
        ..UNetConfig::mini()
    };
    let config = PretrainConfig {
        network,
        epochs: 4,
        flip: false,
        ..config(1)
    };
    let dataset = two_classes();
    let curve = same_after_a_kill(&config, &dataset, state_dict);
    let (first, last) = (curve.first().unwrap(), curve.last().unwrap());
    // ln 2 is the cross entropy of a guess.
    assert!(
        last.held_out < 0.69 && last.held_out < first.held_out,
        "{curve:?}"
    );
    assert!(last.accuracy.unwrap() > 0.5, "{curve:?}");

    let ten = PretrainConfig {
        network: UNetConfig {
            out_channels: 10,
            ..config.network.clone()
        },
        ..config
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint");
    let error = Pretraining::open(ten, &dataset, "data".into(), &path, &Device::flex());
    let told = error.unwrap_err().to_string();
    assert!(
        told.contains("tells 10 classes apart, and the images are of 2"),
        "{told}"
    );
}

/// A ResNet, whose running statistics are no parameters, and a vision transformer, which has none.
#[test]
fn backbones_learn_and_go_on_to_the_same_bits() {
    let resnet = ResNetConfig {
        width: 4,
        depths: vec![1, 1],
        ..ResNetConfig::small(2)
    };
    let vit = ViTConfig {
        patch: 8,
        width: 24,
        depth: 2,
        mlp: 48,
        ..ViTConfig::tiny(2)
    };
    let base = config(1);
    for network in [BackboneConfig::ResNet(resnet), BackboneConfig::ViT(vit)] {
        let config = BackboneTraining {
            network,
            preprocess: base.preprocess,
            course: Course {
                epochs: 8,
                flip: false,
                learning_rate: LearningRate::Cosine {
                    rate: 1e-2,
                    warmup: 4,
                    steps: 48,
                },
                ..base.course()
            },
        };
        let dataset = two_classes();
        let curve = same_after_a_kill(&config, &dataset, diffrep_backbones::state_dict);
        let (first, last) = (curve.first().unwrap(), curve.last().unwrap());
        assert!(last.held_out < first.held_out, "{curve:?}");
        assert!(last.accuracy.unwrap() >= 0.75, "{curve:?}");
        let seven = BackboneTraining {
            network: config.network.clone().with_classes(Some(7)),
            ..config.clone()
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        let error = Pretraining::open(seven, &dataset, "data".into(), &path, &Device::flex());
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("tells 7 classes apart")
        );
    }
}

/// Batch normalisation keeps what it has seen: after training its running means are those of images, and
/// in evaluation it uses them.
#[test]
fn running_statistics_follow_the_training_images() {
    let config = BackboneTraining {
        network: BackboneConfig::ResNet(ResNetConfig {
            width: 4,
            depths: vec![1],
            ..ResNetConfig::small(2)
        }),
        preprocess: config(1).preprocess,
        course: Course {
            epochs: 8,
            ema_decay: 0.0,
            ..config(1).course()
        },
    };
    let dataset = two_classes();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint");
    let device = Device::flex();
    let mut run = Pretraining::open(config, &dataset, "data".into(), &path, &device).unwrap();
    run.run(&dataset, &path, 100, |_| {}).unwrap();
    let dict = diffrep_backbones::state_dict(&run.averaged());
    let value = |key: &str| {
        let (_, data) = dict.iter().find(|(name, _)| name == key).unwrap();
        data.try_to_vec::<f32>().unwrap()
    };
    // 48 steps of momentum 0.1 leave 0.6 % of where the statistics began: 0 and 1.
    assert!(
        value("bn1.running_mean")
            .iter()
            .all(|mean| mean.abs() > 1e-3)
    );
    assert!(
        value("bn1.running_var")
            .iter()
            .all(|var| (var - 1.0).abs() > 1e-3)
    );
}

#[test]
fn another_run_and_a_damaged_checkpoint_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint");
    let short = PretrainConfig {
        epochs: 1,
        ..config(1)
    };
    train(short.clone(), &path, |_| {});
    let (dataset, device) = (dataset(), Device::flex());
    let open = |config, data: &str| {
        Pretraining::open(config, &dataset, data.into(), &path, &device).map(|_| ())
    };
    let name = path.display().to_string();
    for error in [
        open(
            PretrainConfig {
                seed: 6,
                ..short.clone()
            },
            "data",
        )
        .unwrap_err(),
        open(short.clone(), "other data").unwrap_err(),
    ] {
        let error = error.to_string();
        assert!(
            error.contains(&name) && error.contains("another"),
            "{error}"
        );
    }
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = open(short.clone(), "data").unwrap_err().to_string();
    assert!(
        error.contains("not a usable training checkpoint"),
        "{error}"
    );
    let few = PretrainConfig {
        held_out: 60,
        ..short
    };
    let error = open(few, "data").unwrap_err().to_string();
    assert!(error.contains("too few"), "{error}");
}
