//! A killed training goes on to the same bits, and training lowers the loss.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use burn::tensor::Device;
use diffrep_datasets::{Channels, Dataset, Fit, Pixels, Preprocess, Split};
use diffrep_pretrain::{Event, PretrainConfig, Pretraining};
use diffrep_schedule::ScheduleKind;
use diffrep_train::{AdamWConfig, LearningRate};
use diffrep_unet::{UNetConfig, state_dict};

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
