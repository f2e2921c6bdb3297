//! The text that a latent diffusion model is told, learned with the head through the frozen network
//! (fixtures/latent/README.md).

use std::path::{Path, PathBuf};

use burn::module::{Module, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{Device, Tensor, TensorData};
use diffrep_datasets::{Channels, Dataset, Fit, Pixels, Preprocess, Split};
use diffrep_heads::HeadSpec;
use diffrep_import::{RawCheckpoint, load_latent};
use diffrep_latent::{Latent, Latents, UNet};
use diffrep_probe::{
    Augment, Classifier, ClassifierInfo, Images, Optimizer, Point, ProbeError, Reading, Recipe,
    SavedClassifier, Tune, Tuned, Tuning,
};
use diffrep_schedule::{Schedule, ScheduleKind};
use diffrep_taps::{BlockIndex, Condition, Encoder, TapSet};
use diffrep_train::parameters;
use diffrep_unet::{UNetConfig, random_network};
use serde_json::{Value, json};

/// As for the taps of these models: sums in other orders.
const TOLERANCE: f32 = 1e-4;

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/latent");
    folder.join(name)
}

struct Golden(RawCheckpoint);

impl Golden {
    fn open(name: &str) -> Self {
        Self(RawCheckpoint::open(&fixture(name)).unwrap())
    }

    fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        Tensor::from_data(self.0.values(name).unwrap(), &Device::flex())
    }
}

#[test]
fn the_gradient_of_the_text_agrees_with_diffusers() {
    for (model, block) in [("sd1", 7), ("sd2", 15)] {
        let inputs = Golden::open(&format!("{model}/expected.safetensors"));
        let golden = Golden::open(&format!("{model}/prompt_gradient.safetensors"));
        let device = Device::flex();
        let imported = load_latent(&fixture(model), None, None, &device).unwrap();
        let network = imported.network.no_grad().train();
        let text = Tensor::from_inner(inputs.tensor::<3>("text_null")).require_grad();
        let condition = Condition {
            t: Some(Tensor::from_inner(Tensor::full([1], 150.0, &device))),
            context: Some(text.clone()),
            ..Condition::default()
        };
        let wanted = TapSet::new([block], &network.taps()).unwrap();
        let image = Tensor::from_inner(inputs.tensor::<4>("noised"));
        let mut taps = network.forward_taps(image, &condition, &wanted, None);
        let map = taps.remove(BlockIndex::new(block).unwrap()).unwrap();
        let features = adaptive_avg_pool2d(map, [2, 2]).flatten::<2>(1, 3);
        let weight = Tensor::from_inner(golden.tensor::<2>("head_weight"));
        let bias = Tensor::from_inner(golden.tensor::<1>("head_bias"));
        let logits = features.matmul(weight.transpose()) + bias.unsqueeze();
        let chosen = Tensor::from_inner(golden.tensor::<2>("one_hot"));
        let loss = -(log_softmax(logits, 1) * chosen).sum() / 2.0;
        let found = loss.clone().into_scalar::<f32>();
        let expected = golden.tensor::<1>("loss").into_scalar::<f32>();
        assert!((found - expected).abs() < TOLERANCE * expected, "{found}");
        let gradient = text.grad(&loss.backward()).unwrap();
        let expected = golden.tensor::<3>("gradient");
        assert_eq!(gradient.dims(), expected.dims());
        let largest = expected.clone().abs().max().into_scalar::<f32>();
        let off = (gradient - expected).abs().max().into_scalar::<f32>() / largest;
        assert!(off < TOLERANCE, "{model}: off by {off:e}");
    }
}

/// Pictures of 16 x 16 colours, brighter on the left or on the right.
fn dataset(split: Split, count: usize) -> Dataset {
    let value = |i: usize| {
        let (image, x) = (i / 768, i / 3 % 16);
        let bright = (image % 2 == 0) == (x < 8);
        (i * (image + 7) % 89) as u8 + if bright { 120 } else { 0 }
    };
    Dataset::from_pixels(
        split,
        vec!["left".into(), "right".into()],
        (0..count as u32).map(|i| i % 2).collect(),
        (0..count as u64).collect(),
        Pixels {
            height: 16,
            width: 16,
            channels: 3,
            data: (0..count * 768).map(value).collect(),
        },
    )
}

struct Bench {
    device: Device,
    schedule: Schedule,
    network: Latent<UNet>,
    train: Dataset,
    validation: Dataset,
    reading: Reading,
    spec: HeadSpec,
    recipe: Recipe,
    augment: Augment,
}

const POINT: Point = Point {
    learning_rate: 3e-3,
    weight_decay: 0.01,
};
const LEARNED: Tune = Tune::Prompt { rate: 1.0 };

impl Bench {
    fn new() -> Self {
        let device = Device::flex();
        let model = load_latent(&fixture("sd1"), None, None, &device).unwrap();
        let tokens = model.tokenizer.encode("", 77, model.padding).unwrap();
        Self {
            schedule: model.schedule,
            network: Latent {
                first_stage: model.first_stage.packed(),
                latents: Latents::Mean,
                network: model.network,
                condition: Condition {
                    context: Some(model.text.forward(&tokens.ids, &device)),
                    ..Condition::default()
                },
            },
            train: dataset(Split::Train, 12),
            validation: dataset(Split::Validation, 6),
            reading: serde_json::from_value(json!({"t": 150, "blocks": [7], "pool": 2})).unwrap(),
            spec: serde_json::from_value(json!({"head": "linear", "pool": 2})).unwrap(),
            recipe: Recipe {
                epochs: 3,
                batch: 4,
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
                size: 16,
                channels: Channels::Rgb,
                fit: Fit::CenterCrop,
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
    ) -> Result<Tuned<Latent<UNet>>, ProbeError> {
        tuning.run(
            point,
            self.network.clone(),
            &self.images(&self.train),
            &self.images(&self.validation),
            checkpoint,
            |_| (),
        )
    }

    /// Mean cross entropy over the training images, in f64.
    fn loss(&self, classifier: &Classifier<Latent<UNet>>) -> f64 {
        let logits = classifier
            .logits(&self.images(&self.train), &self.device, |_| ())
            .unwrap();
        let rows = logits.chunks_exact(2).zip(self.train.labels());
        let losses = rows.map(|(row, &label)| {
            let sum: f64 = row.iter().map(|&value| f64::from(value).exp()).sum();
            sum.ln() - f64::from(row[label as usize])
        });
        losses.sum::<f64>() / self.train.len() as f64
    }
}

fn prompt(classifier: &Classifier<Latent<UNet>>) -> Tensor<3> {
    let prompt = classifier.network.prompt.as_ref().unwrap();
    prompt.val().without_autodiff()
}

#[test]
fn a_step_follows_the_slope_of_the_loss() {
    let mut bench = Bench::new();
    let (rate, share) = (1.0, 100.0);
    bench.recipe = Recipe {
        optimizer: Optimizer::Sgd {
            momentum: 0.0,
            nesterov: false,
        },
        epochs: 1,
        batch: bench.train.len(),
        ..bench.recipe
    };
    let tune = Tune::Prompt { rate: share };
    let point = Point {
        learning_rate: rate,
        weight_decay: 0.0,
    };
    let start = bench
        .tuning(&tune)
        .start(bench.network.clone(), &bench.images(&bench.train))
        .unwrap();
    let stepped = bench.run(&bench.tuning(&tune), point, None).unwrap();
    let before = prompt(&start);
    let gradient = (before.clone() - prompt(&stepped.classifier)) / (rate * share);
    let length = gradient.clone().square().sum().into_scalar::<f32>().sqrt();
    assert!(length > 0.0);
    let at = |distance: f32| {
        let mut moved = start.clone();
        let value = before.clone() + gradient.clone() * (distance / length);
        moved.network.prompt = Some(Param::from_tensor(value));
        bench.loss(&moved)
    };
    // Central difference: the third derivative and the rounding of f32 are what is left.
    let distance = 0.05;
    let slope = (at(distance) - at(-distance)) / (2.0 * f64::from(distance));
    let error = (slope / f64::from(length) - 1.0).abs();
    assert!(error < 0.02, "{slope} and {length}");
}

#[test]
fn a_killed_training_goes_on_to_the_same_bits_and_keeps_no_frozen_weight() {
    let mut bench = Bench::new();
    bench.augment = Augment {
        fresh_noise: true,
        flip: true,
        view: None,
    };
    let tuning = bench.tuning(&LEARNED);
    let whole = bench.run(&tuning, POINT, None).unwrap();
    assert_ne!(
        prompt(&whole.classifier).into_data(),
        bench.network.condition.context.clone().unwrap().into_data()
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint.safetensors");
    let determines = json!({"seed": 3});
    let short = Recipe {
        epochs: 1,
        ..bench.recipe.clone()
    };
    let first = Tuning {
        recipe: &short,
        ..tuning
    };
    bench
        .run(&first, POINT, Some((&path, &determines)))
        .unwrap();
    let kept = RawCheckpoint::open(&path).unwrap();
    let names: Vec<_> = kept.tensors().iter().map(|one| &one.name).collect();
    assert!(
        names.iter().any(|name| name.contains("prompt")),
        "{names:?}"
    );
    assert!(
        names.iter().all(|name| !name.contains("encoder")),
        "{names:?}"
    );
    let resumed = bench.run(&tuning, POINT, Some((&path, &determines)));
    let resumed = resumed.unwrap();
    assert_eq!(resumed.curve, whole.curve);
    let bits = |tuned: &Tuned<Latent<UNet>>| -> Vec<TensorData> {
        let weights = parameters(&tuned.classifier.network).into_values();
        weights.map(|weight| weight.into_data()).collect()
    };
    assert_eq!(bits(&resumed), bits(&whole));
    // The frozen network is as it was.
    let still = parameters(&whole.classifier.network.encoder);
    let before = parameters(&bench.network);
    for (path, weight) in still {
        assert_eq!(weight.into_data(), before[&path].to_data(), "{path}");
    }
    let count = tuning.trainable(&bench.network).unwrap();
    assert_eq!((count.prompt, count.encoder), (77 * 24, 0));
}

#[test]
fn a_learned_text_is_kept_with_its_head() {
    let bench = Bench::new();
    let tuned = bench.run(&bench.tuning(&LEARNED), POINT, None).unwrap();
    let info = ClassifierInfo {
        classes: bench.train.class_names().to_vec(),
        encoder_sha256: "0".repeat(64),
        tune: LEARNED,
        reading: bench.reading.clone(),
        head: bench.spec.clone(),
        schedule: ScheduleKind::ScaledLinear {
            first: 0.00085,
            last: 0.012,
        },
        timesteps: 1000,
        rescaled: false,
        preprocess: bench.images(&bench.train).preprocess,
        noise_seed: 5,
        recipe: bench.recipe.clone(),
        point: POINT,
        validation_accuracy: tuned.validation,
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("classifier.safetensors");
    SavedClassifier::new(&tuned.classifier, info)
        .write(&path)
        .unwrap();
    let read = SavedClassifier::read(&path).unwrap();
    let again = read
        .classifier(bench.network.clone(), &bench.device)
        .unwrap();
    let logits = |classifier: &Classifier<Latent<UNet>>| {
        let images = bench.images(&bench.validation);
        classifier.logits(&images, &bench.device, |_| ()).unwrap()
    };
    assert_eq!(logits(&again), logits(&tuned.classifier));
    let mut untold = again.clone();
    untold.network.prompt = None;
    assert_ne!(logits(&untold), logits(&again), "the text counts");
    // A network of texts of another width.
    let other = load_latent(&fixture("sd2"), None, None, &bench.device).unwrap();
    let mut narrow = bench.network.clone();
    narrow.condition.context = Some(Tensor::zeros([1, 77, 20], &bench.device));
    narrow.network = other.network;
    assert!(read.classifier(narrow, &bench.device).is_err());
}

#[test]
fn what_a_network_cannot_is_refused() {
    let bench = Bench::new();
    let recompute = Tune::Encoder {
        rate: 0.1,
        recompute: true,
    };
    let refused = bench.run(&bench.tuning(&recompute), POINT, None);
    let told = refused.unwrap_err().to_string();
    assert!(told.contains("leave `recompute` out"), "{told}");
    let pixels = random_network(&UNetConfig::mini(), 1, &bench.device).unwrap();
    let refused = bench.tuning(&LEARNED).trainable(&pixels);
    let told = refused.unwrap_err().to_string();
    assert!(told.contains("this one reads none"), "{told}");
}

#[test]
fn the_network_itself_may_move() {
    let bench = Bench::new();
    let tune = Tune::Encoder {
        rate: 0.1,
        recompute: false,
    };
    let moved = bench.run(&bench.tuning(&tune), POINT, None).unwrap();
    let frozen = bench.run(&bench.tuning(&Tune::Head), POINT, None).unwrap();
    assert!(moved.curve[2].train_loss < frozen.curve[2].train_loss);
    let before = parameters(&bench.network);
    for (path, weight) in parameters(&moved.classifier.network.encoder) {
        assert_ne!(weight.into_data(), before[&path].to_data(), "{path}");
    }
}
