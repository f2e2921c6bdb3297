//! A killed training goes on to the same bits, and training lowers the loss.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use burn::tensor::Device;
use diffrep_datasets::{Channels, Dataset, Fit, Pixels, Preprocess, Split};
use diffrep_pretrain::{Event, PretrainConfig, Pretraining};
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

/// The encoder half of the network, to tell pictures whose upper part is dark from those with a dark
/// left part.
#[test]
fn a_classifier_learns_and_goes_on_to_the_same_bits() {
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
    let dataset = Dataset::from_pixels(
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
    );
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
    let device = Device::flex();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint");
    let train = |stop: u64| {
        let open = |config| Pretraining::open(config, &dataset, "data".into(), &path, &device);
        let mut run = open(config.clone()).unwrap();
        let done = run.run(&dataset, &path, CHECKPOINT_EVERY, |event| {
            if let Event::Step { position, .. } = event {
                assert!(position.step < stop, "killed");
            }
        });
        done.unwrap();
        (run.record().curve.clone(), state_dict(&run.averaged()))
    };
    assert!(catch_unwind(AssertUnwindSafe(|| train(7))).is_err());
    let (curve, weights) = train(u64::MAX);
    std::fs::remove_file(&path).unwrap();
    let (whole, expected) = train(u64::MAX);
    assert_eq!((&curve, &weights), (&whole, &expected));
    let (first, last) = (curve.first().unwrap(), curve.last().unwrap());
    // ln 2 is the cross entropy of a guess.
    assert!(
        last.held_out < 0.69 && last.held_out < first.held_out,
        "{curve:?}"
    );

    let ten = PretrainConfig {
        network: UNetConfig {
            out_channels: 10,
            ..config.network.clone()
        },
        ..config
    };
    let error = Pretraining::open(ten, &dataset, "data".into(), &path, &device);
    let told = error.unwrap_err().to_string();
    assert!(
        told.contains("tells 10 classes apart, and the images are of 2"),
        "{told}"
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
