use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};
use clap::Args;
use diffrep_artifact::{Sha256Hex, read_bytes};
use diffrep_datasets::{Channels, Dataset, Fit, Pixels, Preprocess, Split, decode};
use diffrep_extract::{Batch, Extraction, Noise, Noising, Settings, Views, features};
use diffrep_import::{load, read_arch};
use diffrep_probe::{Augment, Images, ProbeError, SavedClassifier, SavedHead};
use diffrep_report::{Cell, Column, Table, to_terminal_table};
use diffrep_schedule::Schedule;
use diffrep_store::FeatureDtype;
use diffrep_taps::Encoder;
use diffrep_unet::UNet;
use serde::Serialize;

use crate::device::DeviceSpec;
use crate::printer::Printer;

/// Images that go through the network between two reports of progress.
const CHUNK: usize = 64;

/// Classify images with a saved head.
///
/// Each image is noised to the head's timestep (the noise is a function of the file's content and
/// the head's seed), goes through the diffusion model up to the head's block, and the head gives the
/// probabilities. An image that cannot be read is told; the others are classified.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep classify shoe.png --head runs/figure2-mini-quick/head.safetensors\n  \
    diffrep classify *.jpg --head head.safetensors --checkpoint model.safetensors --json")]
pub(crate) struct ClassifyArgs {
    /// PNG or JPEG files.
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// The head, as `reproduce`, `probe --save` and `finetune` write it.
    #[arg(long, default_value = "runs/figure2-mini-quick/head.safetensors")]
    head: PathBuf,
    /// The diffusion model that the head was trained on.
    #[arg(long, default_value = "fixtures/mini/model.safetensors")]
    checkpoint: PathBuf,
    /// Its architecture as the reference's constructor arguments, where the file does not tell.
    #[arg(long)]
    arch: Option<PathBuf>,
    /// How many classes are shown, at least 1.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    top: u64,
    /// Where to compute: flex, cuda:N, tch.
    #[arg(long, default_value = "flex")]
    device: DeviceSpec,
}

/// What is said of one image.
#[derive(Debug, Serialize)]
struct Classified {
    image: PathBuf,
    #[serde(flatten)]
    found: Found,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Found {
    /// The classes, most probable first.
    Top(Vec<Probability>),
    Error(String),
}

#[derive(Clone, Debug, Serialize)]
struct Probability {
    class: String,
    probability: f64,
}

pub(crate) fn run(args: &ClassifyArgs, printer: Printer) -> Result<()> {
    let device = args.device.open()?;
    let saved = Saved::read(&args.head)
        .context("no head to classify with (`diffrep reproduce --quick` makes one)")?;
    let trained_on = saved.encoder_sha256();
    let arch = args.arch.as_deref().map(read_arch).transpose()?;
    let encoder = load(&args.checkpoint, arch, &device)?;
    if encoder.sha256.as_str() != trained_on {
        bail!(
            "{} is not the encoder of this head: its SHA-256 is {}, the head was trained on {}",
            args.checkpoint.display(),
            encoder.sha256.short(),
            trained_on.get(..12).unwrap_or_default()
        );
    }

    // By id, so that a file given twice is computed once.
    let mut inputs = BTreeMap::new();
    let ids: Vec<Result<u64>> = args
        .images
        .iter()
        .map(|path| {
            let (id, pixels) = read_image(path, &saved.preprocess())?;
            inputs.insert(id, pixels);
            Ok(id)
        })
        .collect();
    let probabilities = classify(encoder.network, &saved, inputs, &device, printer)?;
    let said: Vec<Classified> = args
        .images
        .iter()
        .zip(ids)
        .map(|(image, id)| Classified {
            image: image.clone(),
            found: match id {
                Ok(id) => {
                    let mut top = probabilities.get(&id).cloned().unwrap_or_default();
                    top.truncate(args.top as usize);
                    Found::Top(top)
                }
                Err(error) => Found::Error(format!("{error:#}")),
            },
        })
        .collect();
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&said)?);
    }
    let mut failed = Vec::new();
    for Classified { image, found } in &said {
        match found {
            Found::Top(_) if printer.json() => {}
            Found::Top(top) => printer.result(&table(image, top)),
            Found::Error(error) => failed.push(error.as_str()),
        }
    }
    if !failed.is_empty() {
        bail!(
            "{} of {} images cannot be classified: {}",
            failed.len(),
            said.len(),
            failed.join("; ")
        );
    }
    Ok(())
}

/// The id of an image, which names its noise and is the start of its file's hash, and its pixels
/// at the size and with the channels of the network.
fn read_image(path: &Path, preprocess: &Preprocess) -> Result<(u64, Vec<u8>)> {
    let bytes = read_bytes(path)?;
    let fitted = preprocess
        .apply(&decode(path, &bytes)?)
        .with_context(|| path.display().to_string())?;
    let digest = Sha256Hex::hash_bytes(&bytes);
    let id = u64::from_str_radix(&digest.as_str()[..15], 16)?;
    Ok((id, fitted.pixels().to_vec()))
}

/// What classifies.
enum Saved {
    /// A linear probe on stored features.
    Linear(SavedHead),
    /// Any other head, feedback layers, or a tuned encoder.
    Any(SavedClassifier),
}

impl Saved {
    fn read(path: &Path) -> Result<Self, ProbeError> {
        if SavedClassifier::is_in(path) {
            SavedClassifier::read(path).map(Self::Any)
        } else {
            SavedHead::read(path).map(Self::Linear)
        }
    }

    fn encoder_sha256(&self) -> &str {
        match self {
            Self::Linear(head) => &head.info.encoder_sha256,
            Self::Any(saved) => &saved.info.encoder_sha256,
        }
    }

    fn preprocess(&self) -> Preprocess {
        match self {
            Self::Linear(head) => head.info.preprocess,
            Self::Any(saved) => saved.info.preprocess,
        }
    }

    fn classes(&self) -> &[String] {
        match self {
            Self::Linear(head) => &head.info.classes,
            Self::Any(saved) => &saved.info.classes,
        }
    }

    fn schedule(&self) -> Schedule {
        match self {
            Self::Linear(head) => Schedule::new(head.info.schedule, head.info.timesteps)
                .with_rescaled(head.info.rescaled),
            Self::Any(saved) => Schedule::new(saved.info.schedule, saved.info.timesteps)
                .with_rescaled(saved.info.rescaled),
        }
    }
}

/// The probabilities of all classes, most probable first, of images that have the network's size.
fn classify(
    network: UNet,
    saved: &Saved,
    inputs: BTreeMap<u64, Vec<u8>>,
    device: &Device,
    printer: Printer,
) -> Result<BTreeMap<u64, Vec<Probability>>> {
    let schedule = saved.schedule();
    let (ids, pixels): (Vec<u64>, Vec<Vec<u8>>) = inputs.into_iter().unzip();
    let Preprocess { size, channels, .. } = saved.preprocess();
    let dataset = Dataset::from_pixels(
        Split::Test,
        vec!["unknown".into()],
        vec![0; ids.len()],
        ids.clone(),
        Pixels {
            height: size,
            width: size,
            channels: channels.count(),
            data: pixels.concat(),
        },
    );
    // The images were fitted when they were read.
    let preprocess = Preprocess {
        size,
        channels: match channels {
            Channels::GreyFromColour => Channels::Grey,
            channels => channels,
        },
        fit: Fit::Exact,
    };
    let mut progress = printer.progress("classify", ids.len() as u64);
    let logits = match saved {
        Saved::Linear(head) => {
            let network = network.up_to(head.info.setting.block).packed();
            linear(head, &network, &dataset, preprocess, device, |done| {
                progress.at(done as u64, "");
            })?
        }
        Saved::Any(saved) => {
            let images = Images {
                dataset: &dataset,
                preprocess,
                schedule: &schedule,
                seed: saved.info.noise_seed,
                augment: Augment::default(),
            };
            let mut done = 0;
            let classifier = saved.classifier(network, device)?;
            classifier.logits(&images, device, |count| {
                done += count as u64;
                progress.at(done, "");
            })?
        }
    };
    progress.finish();
    let classes = saved.classes();
    let x = Tensor::<2>::from_data(TensorData::new(logits, [ids.len(), classes.len()]), device);
    let chances: Vec<f32> = softmax(x, 1)
        .into_data()
        .convert::<f32>()
        .try_into_vec()
        .map_err(|error| anyhow::anyhow!("the probabilities cannot be read: {error:?}"))?;
    let mut found = BTreeMap::new();
    for (id, chances) in ids.into_iter().zip(chances.chunks(classes.len())) {
        let mut top: Vec<Probability> = classes
            .iter()
            .zip(chances)
            .map(|(class, &chance)| Probability {
                class: class.clone(),
                probability: f64::from(chance),
            })
            .collect();
        top.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        found.insert(id, top);
    }
    Ok(found)
}

/// Logits of a linear probe, `[images, classes]`.
fn linear(
    saved: &SavedHead,
    network: &UNet,
    dataset: &Dataset,
    preprocess: Preprocess,
    device: &Device,
    mut on: impl FnMut(usize),
) -> Result<Vec<f32>> {
    let info = &saved.info;
    let schedule = Schedule::new(info.schedule, info.timesteps).with_rescaled(info.rescaled);
    let taps = network.taps();
    let settings = Settings::new([info.setting], &taps, &schedule)?;
    let head = saved.head(device)?;
    head.check(&taps[info.setting.block.position()], info.setting.pool)?;
    let job = Extraction {
        dataset,
        preprocess,
        schedule: &schedule,
        settings: &settings,
        noising: Noising {
            seed: info.noise_seed,
            draw: 0,
        },
        noise: Noise::Seeded,
        views: Views::default(),
        flip: false,
        encoder_hash: info.encoder_sha256.clone(),
        dtype: FeatureDtype::F32,
        shard_rows: CHUNK,
        missing: serde_json::Value::Null,
        batch: Batch::default(),
        workers: 1,
    };
    let mut all = Vec::new();
    let indices: Vec<usize> = (0..dataset.len()).collect();
    for (part, chunk) in indices.chunks(CHUNK).enumerate() {
        let vectors = features(network, &job, chunk, device)?.concat();
        let shape = [chunk.len(), vectors.len() / chunk.len()];
        let x = Tensor::<2>::from_data(TensorData::new(vectors, shape), device);
        let logits: Vec<f32> = head
            .forward(x)
            .into_data()
            .convert::<f32>()
            .try_into_vec()
            .map_err(|error| anyhow::anyhow!("the logits cannot be read: {error:?}"))?;
        all.extend(logits);
        on(part * CHUNK + chunk.len());
    }
    Ok(all)
}

fn table(image: &Path, top: &[Probability]) -> String {
    let rows = top
        .iter()
        .map(|p| {
            vec![
                Cell::text(p.class.clone()),
                Cell::number(p.probability * 100.0, 2),
            ]
        })
        .collect();
    to_terminal_table(&Table {
        caption: image.display().to_string(),
        columns: vec![
            Column::text("class"),
            Column::number("probability").with_unit("%"),
        ],
        rows,
        highlight: Vec::new(),
    })
}
