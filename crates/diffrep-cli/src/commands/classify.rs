use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};
use clap::Args;
use diffrep_artifact::{Sha256Hex, read_bytes};
use diffrep_datasets::{Channels, Dataset, Fit, Pixels, Preprocess, Split, decode};
use diffrep_extract::{Batch, Extraction, Noise, Noising, Settings, Views, features};
use diffrep_import::{is_latent, load, read_arch};
use diffrep_latent::Latent;
use diffrep_probe::{Augment, Images, ProbeError, SavedClassifier, SavedHead, TunableEncoder};
use diffrep_report::{Cell, Column, Table, to_terminal_table};
use diffrep_schedule::Schedule;
use diffrep_store::FeatureDtype;
use diffrep_taps::{BlockIndex, Encoder};
use diffrep_unet::UNet;
use serde::Serialize;

use crate::commands::encoder::{LatentSettings, OpenLatent};
use crate::device::DeviceSpec;
use crate::printer::Printer;

/// Images that go through the network between two reports of progress.
const CHUNK: usize = 64;

/// What `diffrep reproduce --quick` writes, in a clone of the repository.
const QUICK_HEAD: &str = "runs/figure2-mini-quick/head.safetensors";
/// What it was trained on.
const MINIATURE: &str = "fixtures/mini/model.safetensors";

/// Classify images with a saved head.
///
/// Each image (or its latents) is noised to the head's timestep (the noise is a function of the file's content and
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
    /// The head, as `reproduce`, `probe --save` and `finetune` write it; that of `reproduce --quick` without it.
    #[arg(long)]
    head: Option<PathBuf>,
    /// The diffusion model that the head was trained on; in a clone of the repository its miniature without it.
    #[arg(long)]
    checkpoint: Option<PathBuf>,
    /// Its architecture as the reference's constructor arguments, where the file does not tell; for
    /// one file of Stable Diffusion a diffusers folder that describes it.
    #[arg(long)]
    arch: Option<PathBuf>,
    /// What Stable Diffusion was told when the head was trained (or what a learned text started from); nothing
    /// without it.
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
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
    let saved = Saved::read(args.head()?).context("no head to classify with")?;
    let trained_on = saved.encoder_sha256();
    let checkpoint = args.checkpoint(trained_on)?;
    let encoder = args.encoder(checkpoint, &saved, &device)?;
    if encoder.name != trained_on {
        let path = checkpoint.display();
        let (ours, theirs) = (&encoder.name, trained_on);
        if short(ours) == short(theirs) {
            bail!(
                "{path} is the encoder of this head, but was told another text, makes other latents or has another \
                 --arch: the head was trained on {theirs}, and this is {ours}"
            );
        }
        bail!(
            "{path} is not the encoder of this head: its SHA-256 is {}, the head was trained on {}{}",
            short(ours),
            short(theirs),
            match args.checkpoint {
                Some(_) => "",
                None => ": give that one with --checkpoint",
            }
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
    let schedule = &encoder.schedule;
    let probabilities = match encoder.network {
        Network::Pixels(network) => {
            let packed = |network: UNet, last| network.up_to(last).packed();
            classify(network, packed, schedule, &saved, inputs, &device, printer)?
        }
        Network::Latent(network) => {
            let packed = |network: Latent<_>, last| {
                network.map(|network: diffrep_latent::UNet| network.up_to(last).packed())
            };
            classify(network, packed, schedule, &saved, inputs, &device, printer)?
        }
    };
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

/// The network of a head.
struct Opened {
    network: Network,
    /// What stands for it in the head's file.
    name: String,
    schedule: Schedule,
}

#[allow(clippy::large_enum_variant, reason = "there is one")]
enum Network {
    Pixels(UNet),
    Latent(Latent<diffrep_latent::UNet>),
}

/// The beginning of what stands for an encoder.
fn short(name: &str) -> &str {
    name.get(..12).unwrap_or_default()
}

impl ClassifyArgs {
    fn head(&self) -> Result<&Path> {
        let usual = Path::new(QUICK_HEAD);
        match &self.head {
            Some(path) => Ok(path),
            None if usual.is_file() => Ok(usual),
            None => bail!(
                "there is no head to classify with: give --head a file that `diffrep probe --save`, `finetune` or \
                 `reproduce` wrote"
            ),
        }
    }

    /// The network to read with, where the head was trained on `trained_on`.
    fn checkpoint(&self, trained_on: &str) -> Result<&Path> {
        let usual = Path::new(MINIATURE);
        match &self.checkpoint {
            Some(path) => Ok(path),
            None if usual.is_file() => Ok(usual),
            None => bail!(
                "a head reads what its diffusion model makes of an image: give --checkpoint the one that this head \
                 was trained on (its SHA-256 begins with {})",
                short(trained_on)
            ),
        }
    }

    fn encoder(&self, checkpoint: &Path, saved: &Saved, device: &Device) -> Result<Opened> {
        if !is_latent(checkpoint) {
            ensure!(
                self.prompt.is_none(),
                "--prompt is for Stable Diffusion, which {} is not",
                checkpoint.display()
            );
            let arch = self.arch.as_deref().map(read_arch).transpose()?;
            let encoder = load(checkpoint, arch, device)?;
            return Ok(Opened {
                network: Network::Pixels(encoder.network),
                name: encoder.sha256.to_string(),
                schedule: saved.schedule(),
            });
        }
        let settings = LatentSettings {
            arch: self.arch.as_deref(),
            size: Some(saved.preprocess().size),
            prompt: self.prompt.as_deref().unwrap_or_default(),
            ..LatentSettings::default()
        };
        let open = OpenLatent::load(checkpoint, &settings, device)?;
        Ok(Opened {
            network: Network::Latent(open.network),
            name: open.name,
            schedule: open.schedule,
        })
    }
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
fn classify<E: TunableEncoder>(
    network: E,
    packed: impl FnOnce(E, BlockIndex) -> E,
    schedule: &Schedule,
    saved: &Saved,
    inputs: BTreeMap<u64, Vec<u8>>,
    device: &Device,
    printer: Printer,
) -> Result<BTreeMap<u64, Vec<Probability>>> {
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
            let network = packed(network, head.info.setting.block);
            let read = (&dataset, preprocess, schedule);
            linear(head, &network, read, device, |done| {
                progress.at(done as u64, "");
            })?
        }
        Saved::Any(saved) => {
            let images = Images {
                dataset: &dataset,
                preprocess,
                schedule,
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
fn linear<E: Encoder>(
    saved: &SavedHead,
    network: &E,
    (dataset, preprocess, schedule): (&Dataset, Preprocess, &Schedule),
    device: &Device,
    mut on: impl FnMut(usize),
) -> Result<Vec<f32>> {
    let info = &saved.info;
    let taps = network.taps();
    let settings = Settings::new([info.setting], &taps, schedule)?;
    let head = saved.head(device)?;
    head.check(&taps[info.setting.block.position()], info.setting.pool)?;
    let job = Extraction {
        dataset,
        preprocess,
        schedule,
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
