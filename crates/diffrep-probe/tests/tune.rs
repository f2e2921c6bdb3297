//! Training with the encoder in the loop.

use std::path::Path;

use burn::tensor::{Device, TensorData};
use diffrep_datasets::{Channels, Dataset, Fit, Pixels, Preprocess, Split, View};
use diffrep_heads::HeadSpec;
use diffrep_probe::{
    Augment, EpochScore, HeadTraining, Images, Point, ProbeError, Reading, Recipe, Tune, Tuned,
    Tuning,
};
use diffrep_schedule::{Schedule, ScheduleKind};
use diffrep_train::parameters;
use diffrep_unet::{UNet, UNetConfig, random_network};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn from<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// Pictures of a bright square on the left or on the right, with a pattern of their own.
fn dataset(split: Split, count: usize) -> Dataset {
    let pixel = |i: usize| {
        let (image, y, x) = (i / 784, i / 28 % 28, i % 28);
        let from = if image % 2 == 0 { 4 } else { 16 };
        let inside = (8..20).contains(&y) && (from..from + 8).contains(&x);
        (i * (image + 7) % 89) as u8 + if inside { 120 } else { 0 }
    };
    Dataset::from_pixels(
        split,
        vec!["left".into(), "right".into()],
        (0..count as u32).map(|i| i % 2).collect(),
        (0..count as u64).collect(),
        Pixels {
            height: 28,
            width: 28,
            channels: 1,
            data: (0..count * 784).map(pixel).collect(),
        },
    )
}

struct Bench {
    device: Device,
    schedule: Schedule,
    train: Dataset,
    validation: Dataset,
    network: UNet,
    reading: Reading,
    spec: HeadSpec,
    recipe: Recipe,
    augment: Augment,
}

const POINT: Point = Point {
    learning_rate: 3e-3,
    weight_decay: 0.01,
};

impl Bench {
    fn new() -> Self {
        let device = Device::flex();
        Self {
            schedule: Schedule::new(ScheduleKind::Linear, 1000),
            train: dataset(Split::Train, 24),
            validation: dataset(Split::Validation, 10),
            network: random_network(&UNetConfig::mini(), 1, &device).unwrap(),
            reading: from(json!({"t": 30, "blocks": [7], "pool": 4})),
            spec: from(json!({"head": "linear", "pool": 4})),
            recipe: Recipe {
                epochs: 3,
                batch: 8,
                step_every: 2,
                standardize: true,
                ..Recipe::named("paper").unwrap()
            },
            augment: Augment::default(),
            device,
        }
    }

    fn images<'a>(&'a self, dataset: &'a Dataset) -> Images<'a> {
        Images {
            dataset,
            preprocess: Preprocess {
                size: 32,
                channels: Channels::Grey,
                fit: Fit::PadTo,
            },
            schedule: &self.schedule,
            seed: 5,
            augment: self.augment,
        }
    }

    fn tuning<'a>(&'a self, tune: &'a Tune) -> Tuning<'a> {
        Tuning {
            tune,
            reading: &self.reading,
            spec: &self.spec,
            classes: 2,
            recipe: &self.recipe,
            ema: None,
            parts: 2,
            workers: 2,
            seed: 3,
            device: &self.device,
        }
    }

    fn run(
        &self,
        tuning: &Tuning<'_>,
        point: Point,
        checkpoint: Option<(&Path, &Value)>,
    ) -> Result<Tuned, ProbeError> {
        tuning.run(
            point,
            self.network.clone(),
            &self.images(&self.train),
            &self.images(&self.validation),
            checkpoint,
            |_| (),
        )
    }

    fn tuned(&self, tune: &Tune) -> Tuned {
        self.run(&self.tuning(tune), POINT, None).unwrap()
    }
}

fn losses(curve: &[EpochScore]) -> Vec<f64> {
    let both = |score: &EpochScore| [score.train_loss, score.validation_loss];
    curve.iter().flat_map(both).collect()
}

fn near(one: &[EpochScore], other: &[EpochScore], tolerance: f64) {
    assert_eq!(one.len(), other.len());
    for (one, other) in losses(one).into_iter().zip(losses(other)) {
        assert!((one - other).abs() < tolerance, "{one} and {other}");
    }
}

fn bits(tuned: &Tuned) -> Vec<TensorData> {
    let weights = parameters(&tuned.classifier.network).into_values();
    weights.map(|weight| weight.into_data()).collect()
}

const fn encoder(rate: f64, recompute: bool) -> Tune {
    Tune::Encoder { rate, recompute }
}

#[test]
fn streamed_features_give_the_loss_curve_of_stored_ones() {
    let mut bench = Bench::new();
    for (head, blocks) in [
        (json!({"head": "linear", "pool": 4}), json!([7])),
        (json!({"head": "mlp", "pool": 2, "hidden": [8]}), json!([9])),
        (
            json!({"head": "fusion", "pool": 4, "width": 8,
                "transformer": {"heads": 2, "mlp_ratio": 2, "depth": 1}}),
            json!([9, 5]),
        ),
    ] {
        bench.spec = from(head);
        bench.reading = from(json!({"t": 30, "blocks": blocks, "pool": 4}));
        let streamed = bench.tuned(&Tune::Head);
        let maps = |dataset: &Dataset| {
            let rows: Vec<usize> = (0..dataset.len()).collect();
            let images = bench.images(dataset);
            let maps = images.maps(&bench.network, &bench.reading, &rows, &bench.device);
            maps.unwrap()
        };
        let (train, validation) = (maps(&bench.train), maps(&bench.validation));
        let training = HeadTraining {
            spec: &bench.spec,
            classes: 2,
            recipe: &bench.recipe,
            seed: 3,
            device: &bench.device,
        };
        let stored = training.grid(&[POINT], &train, &validation, 1, &|_, _| ());
        let stored = stored.unwrap().remove(0);
        near(&streamed.curve, &stored.curve, 1e-4);
        // With other noise in each epoch the training loss is another one.
        bench.augment.fresh_noise = true;
        let fresh = bench.tuned(&Tune::Head);
        assert!((fresh.curve[1].train_loss - streamed.curve[1].train_loss).abs() > 1e-6);
        bench.augment.fresh_noise = false;
    }
}

#[test]
fn the_encoder_moves_and_blocks_may_be_computed_again() {
    let bench = Bench::new();
    let one = bench.tuned(&encoder(0.1, false));
    let other = bench.tuned(&encoder(0.1, true));
    near(&one.curve, &other.curve, 1e-4);
    let frozen = bench.tuned(&Tune::Head);
    assert!(one.curve[2].train_loss < frozen.curve[2].train_loss);
    // Nothing past block 7 is there.
    assert!(one.classifier.network.encoder.output_blocks.is_empty());
    let before = parameters(&bench.network);
    let after = parameters(&one.classifier.network.encoder);
    let still = parameters(&frozen.classifier.network.encoder);
    // With a rate of its own of 0 the encoder stays, and the head learns.
    let fixed = bench.tuned(&encoder(0.0, false));
    near(&fixed.curve, &frozen.curve, 1e-4);
    let fixed = parameters(&fixed.classifier.network.encoder);
    for (path, weight) in &after {
        let start = before[path].to_data();
        assert_ne!(weight.to_data(), start, "{path}");
        assert_eq!(still[path].to_data(), start, "{path}");
        assert_eq!(fixed[path].to_data(), start, "{path}");
    }
    let tune = encoder(0.1, false);
    let trainable = bench.tuning(&tune).trainable(&bench.network).unwrap();
    let count: usize = after.values().map(|weight| weight.dims()[0]).sum();
    assert_eq!(trainable.encoder, count);
    assert_eq!((trainable.head, trainable.feedback), (64 * 16 * 2 + 2, 0));
}

#[test]
fn weight_decay_is_the_heads_alone() {
    let mut bench = Bench::new();
    // One step, from the same gradients.
    bench.recipe.epochs = 1;
    bench.recipe.batch = bench.train.len();
    let feedback = from(json!({"tune": "feedback", "blocks": [9]}));
    for tune in [encoder(0.1, false), feedback] {
        decays_its_head_alone(&bench, &tune);
    }
}

fn decays_its_head_alone(bench: &Bench, tune: &Tune) {
    let decayed = |weight_decay| {
        let point = Point {
            weight_decay,
            ..POINT
        };
        let tuned = bench.run(&bench.tuning(tune), point, None).unwrap();
        parameters(&tuned.classifier.network)
    };
    let (without, with) = (decayed(0.0), decayed(50.0));
    for (path, weight) in &with {
        let same = weight.to_data() == without[path].to_data();
        let decays = path.starts_with("head.") && path.ends_with("weight");
        assert_eq!(same, !decays, "{path}");
    }
}

#[test]
fn maps_are_standardised_as_the_first_epoch_shows_them() {
    let mut bench = Bench::new();
    let moments = |bench: &Bench| {
        let images = bench.images(&bench.train);
        let tuning = bench.tuning(&Tune::Head);
        let start = tuning.start(bench.network.clone(), &images).unwrap();
        start.moments.unwrap().0.remove(0)
    };
    let (plain, _) = moments(&bench);
    bench.augment.flip = true;
    let (flipped, _) = moments(&bench);
    // Squares on the left and on the right are as often on either side as before, and others of them.
    assert_ne!(flipped, plain);
    bench.augment.view = Some(View::ResizedCrop { area: [0.08, 0.3] });
    let (cut, _) = moments(&bench);
    assert_ne!(cut, flipped);
}

#[test]
fn parts_and_workers_change_nothing_that_matters() {
    let bench = Bench::new();
    let tune = encoder(0.1, false);
    let with = |parts, workers| {
        let tuning = Tuning {
            parts,
            workers,
            ..bench.tuning(&tune)
        };
        bench.run(&tuning, POINT, None).unwrap()
    };
    // The number of workers changes no bit; the number of parts changes the order of sums.
    let two = with(2, 1);
    assert_eq!(bits(&two), bits(&with(2, 2)));
    near(&two.curve, &with(1, 1).curve, 1e-4);
    near(&two.curve, &with(8, 2).curve, 1e-4);
}

#[test]
fn a_killed_training_goes_on_to_the_same_bits() {
    let mut bench = Bench::new();
    bench.augment = Augment {
        fresh_noise: true,
        flip: true,
        view: from(json!({"resized_crop": {"area": [0.3, 1.0]}})),
    };
    let feedback = Tune::Feedback {
        blocks: from(json!([9, 12])),
    };
    let fine = encoder(0.1, false);
    for (tune, ema) in [(&Tune::Head, None), (&feedback, None), (&fine, Some(0.9))] {
        let tuning = Tuning {
            ema,
            ..bench.tuning(tune)
        };
        let whole = bench.run(&tuning, POINT, None).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint.safetensors");
        let determines = json!({"recipe": "one", "seed": 3});
        // A first run that ends after one epoch of three stands for a killed one.
        let short = Recipe {
            epochs: 1,
            ..bench.recipe.clone()
        };
        let first = Tuning {
            recipe: &short,
            ..tuning
        };
        let kept = Some((&*path, &determines));
        bench.run(&first, POINT, kept).unwrap();
        let resumed = bench.run(&tuning, POINT, kept).unwrap();
        assert_eq!(resumed.curve, whole.curve);
        assert_eq!(bits(&resumed), bits(&whole));
        let other = json!({"recipe": "another", "seed": 3});
        let refused = bench
            .run(&tuning, POINT, Some((&path, &other)))
            .unwrap_err();
        let told = refused.to_string();
        assert!(told.contains("a training with another recipe"), "{told}");
    }
}

#[test]
fn a_diverging_training_says_where() {
    let bench = Bench::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint.safetensors");
    let tune = encoder(1.0, false);
    let point = Point {
        learning_rate: 1e30,
        weight_decay: 0.0,
    };
    let error = bench.run(&bench.tuning(&tune), point, Some((&path, &json!({}))));
    let told = error.unwrap_err().to_string();
    assert!(told.contains("diverged in epoch 1 at step 2"), "{told}");
    assert!(told.contains("no epoch was finished"), "{told}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut bench = Bench::new();
    let refused = |bench: &Bench, tune: &Tune| {
        let error = bench.run(&bench.tuning(tune), POINT, None);
        error.unwrap_err().to_string()
    };
    let middle = Tune::Feedback {
        blocks: from(json!([7])),
    };
    let told = refused(&bench, &middle);
    assert!(told.contains("those after block 7 can"), "{told}");
    bench.reading = from(json!({"t": 1000, "blocks": [7], "pool": 4}));
    assert!(refused(&bench, &Tune::Head).contains("1000"));
    bench.reading = from(json!({"t": 30, "blocks": [14], "pool": 4}));
    assert!(refused(&bench, &Tune::Head).contains("14"));
    bench.reading = from(json!({"t": 30, "blocks": [5, 7], "pool": 4}));
    assert!(refused(&bench, &Tune::Head).contains("only `fusion` reads several"));
    bench.reading = from(json!({"t": 30, "blocks": [7], "pool": 4}));
    bench.train = dataset(Split::Train, 0);
    assert!(refused(&bench, &Tune::Head).contains("training split has no samples"));
}
