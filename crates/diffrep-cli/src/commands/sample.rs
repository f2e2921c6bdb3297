//! Images drawn from a diffusion model.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use clap::{Args, ValueEnum};
use diffrep_artifact::{Lock, create_dir_all, read_json, write_bytes_atomic, write_json_atomic};
use diffrep_import::{load, read_arch};
use diffrep_rng::{Key, Stream};
use diffrep_sample::{Guide, SampleOptions, Sampler, sample, to_bytes};
use diffrep_schedule::{ProcessSpec, ScheduleKind, Spacing, Target, VarianceKind, respaced};
use diffrep_taps::Condition;
use diffrep_unet::{Kind, UNet, UNetConfig};
use serde::{Deserialize, Serialize};

use crate::commands::input::{PrecisionArg, encoder_name, process_of};
use crate::commands::pretrain::grid_png;
use crate::device::DeviceSpec;
use crate::printer::{Printer, human_duration};

/// Images of the grid.
const GRID: u64 = 64;

/// Draw images from a diffusion model.
///
/// Image number i is a function of --seed and i: a stop in the middle does not change it, --batch only in
/// the last digits, and the same command draws only what is missing. --out holds one PNG for each image,
/// `grid.png` with the first 64, and `sampling.json` with all that determined them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep sample --checkpoint fixtures/mini/model.safetensors --count 64 --out runs/samples\n  \
    diffrep sample --checkpoint fixtures/mini/model.safetensors --sampler dpm-solver --steps ddim20 \\\n      \
    --count 2000 --out runs/fast\n  \
    diffrep sample --checkpoint 256x256_diffusion_uncond.pt --steps 250 --sampler ddpm --device cuda:0 \\\n      \
    --classifier 256x256_classifier.pt --guidance 10 --label random --count 50000 --out runs/imagenet")]
pub(crate) struct SampleArgs {
    /// The diffusion model.
    #[arg(long)]
    checkpoint: PathBuf,
    /// Its architecture as the reference's constructor arguments, where the file does not tell.
    #[arg(long)]
    arch: Option<PathBuf>,
    /// Folder for the images.
    #[arg(long)]
    out: PathBuf,
    /// How many images.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// The number of the first, for several processes that share a job.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Images drawn together.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// ddpm, ddim, ddim:ETA or dpm-solver (DPM-Solver++ 2M).
    #[arg(long, default_value = "ddim")]
    sampler: Sampler,
    /// Which timesteps are visited, in the reference's words: ddim50, 250, or 10,15,20 for so many in
    /// each third.
    #[arg(long, default_value = "ddim50")]
    steps: String,
    /// Names the noise.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How wide the noise of a ddpm step is: auto (learned where the network has a channel for it),
    /// learned, small or large.
    #[arg(long, default_value = "auto")]
    variance: VarianceArg,
    /// The class of all images by number, `cycle` for one class after another, or `random`; for a
    /// network that is conditioned on classes, or with --classifier.
    #[arg(long)]
    label: Option<LabelArg>,
    /// A classifier of noised images that guides towards the label.
    #[arg(long, requires = "label")]
    classifier: Option<PathBuf>,
    /// How strongly the classifier guides.
    #[arg(long, default_value_t = 1.0, requires = "classifier", value_parser = finite)]
    guidance: f64,
    /// Noise schedule of the model, as for `diffrep extract`: linear, cosine, scaled_linear; without it the
    /// one written in the checkpoint or beside it, or else linear.
    #[arg(long)]
    schedule: Option<ProcessSpec>,
    /// Where to compute: flex, cuda:N, tch.
    #[arg(long, default_value = "flex")]
    device: DeviceSpec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum VarianceArg {
    Auto,
    Learned,
    Small,
    Large,
}

/// Which class an image is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LabelArg {
    One(u32),
    Cycle,
    Random,
}

impl std::str::FromStr for LabelArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cycle" => Ok(Self::Cycle),
            "random" => Ok(Self::Random),
            _ => text
                .parse()
                .map(Self::One)
                .map_err(|_| "a label is a number from 0, `cycle` or `random`".into()),
        }
    }
}

fn finite(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "a number is wanted".to_string())?;
    value
        .is_finite()
        .then_some(value)
        .ok_or_else(|| "a finite number is wanted".into())
}

impl LabelArg {
    fn of(self, seed: u64, id: u64, classes: u32) -> u32 {
        match self {
            Self::One(label) => label,
            Self::Cycle => (id % u64::from(classes)) as u32,
            Self::Random => {
                let mut generator = Key::new(seed, Stream::Label).sample(id).generator();
                generator.below(u64::from(classes)) as u32
            }
        }
    }
}

/// Everything that determines an image beside its number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Determines {
    checkpoint: String,
    sampler: String,
    steps: String,
    seed: u64,
    variance: String,
    label: Option<LabelArg>,
    classifier: Option<String>,
    guidance: Option<f64>,
    schedule: ScheduleKind,
    /// Timesteps of the schedule, where there are not 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timesteps: Option<usize>,
    version: String,
}

/// What `sampling.json` holds.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    determines: Determines,
    device: String,
}

/// What is told at the end.
#[derive(Debug, Serialize)]
struct Done<'a> {
    images: u64,
    drawn: u64,
    steps: usize,
    seconds: f64,
    out: &'a Path,
}

pub(crate) fn run(args: &SampleArgs, printer: Printer) -> Result<()> {
    let start = Instant::now();
    let device = args.device.open()?;
    let arch = args.arch.as_deref().map(read_arch).transpose()?;
    let imported = load(&args.checkpoint, arch, &device)?;
    let config = imported.network.config().clone();
    ensure!(
        config.kind == Kind::UNet,
        "{} classifies and draws no images: give the diffusion model, and this as --classifier",
        args.checkpoint.display()
    );
    let process = match args.schedule {
        Some(process) => process,
        None => process_of(&imported.metadata, &config)?,
    };
    ensure!(
        process.predicts == Target::Noise,
        "{} does not predict noise ({process}): its features can be read, and drawing from it is not supported",
        args.checkpoint.display()
    );
    ensure!(
        !process.rescaled,
        "{} is told thousandths of timesteps ({process}): its features can be read, and drawing from it is not \
         supported",
        args.checkpoint.display()
    );
    let timesteps = process.steps;
    let full = process.schedule()?;
    let schedule = respaced(&full, &Spacing::parse(&args.steps, timesteps)?)?;
    let variance = variance(args.variance, &config)?;
    let guide = args
        .classifier
        .as_deref()
        .map(|path| Classifier::open(path, args.guidance, &config, &device))
        .transpose()?;
    let classes = classes(args, &config, guide.as_ref())?;

    ensure!(
        args.first.checked_add(args.count).is_some(),
        "--first {} leaves no numbers for {} images",
        args.first,
        args.count
    );
    create_dir_all(&args.out)?;
    // Several processes may draw into one folder, each its own numbers.
    let _lock = Lock::share(&args.out)?;
    let determines = Determines {
        checkpoint: encoder_name(
            &imported.sha256,
            args.arch.as_ref().map(|_| &config),
            PrecisionArg::F32,
        )?,
        sampler: args.sampler.to_string(),
        steps: args.steps.clone(),
        seed: args.seed,
        // Steps of other samplers do not look at it.
        variance: match (args.sampler, variance) {
            (Sampler::Ddpm, VarianceKind::LearnedRange) => "learned",
            (Sampler::Ddpm, VarianceKind::FixedSmall) => "small",
            (Sampler::Ddpm, VarianceKind::FixedLarge) => "large",
            _ => "unused",
        }
        .into(),
        label: args.label,
        classifier: guide.as_ref().map(|guide| guide.sha256.clone()),
        guidance: guide.as_ref().map(|guide| guide.scale),
        schedule: process.schedule,
        timesteps: (timesteps != 1000).then_some(timesteps),
        version: env!("CARGO_PKG_VERSION").into(),
    };
    claim(&args.out, &determines, args.device)?;
    let path = |id: u64| args.out.join(format!("{id:06}.png"));
    let wanted = args.first..args.first.saturating_add(args.count);
    let missing: Vec<u64> = wanted.clone().filter(|&id| !path(id).exists()).collect();

    let network = imported.network.packed();
    let size = config.image_size;
    let options = SampleOptions {
        seed: args.seed,
        shape: [config.in_channels, size, size],
        sampler: args.sampler,
        variance,
    };
    let steps = schedule.steps();
    // An image takes so many steps, and each is some progress.
    let mut progress = printer.progress("sample: steps", args.count * steps as u64);
    let there = args.count - missing.len() as u64;
    for (part, ids) in missing.chunks(args.batch as usize).enumerate() {
        let before = there + part as u64 * args.batch;
        // Filled up with the last, so that every image meets the same arithmetic after a stop too.
        let last = ids.last().copied().unwrap_or_default();
        let filled: Vec<u64> = ids
            .iter()
            .copied()
            .chain(std::iter::repeat(last))
            .take(args.batch.min(args.count) as usize)
            .collect();
        let labels = args.label.zip(classes).map(|(label, classes)| {
            let of = |&id: &u64| i64::from(label.of(args.seed, id, classes));
            let labels: Vec<i64> = filled.iter().map(of).collect();
            Tensor::<1, Int>::from_data(TensorData::new(labels, [filled.len()]), &device)
        });
        let conditioned = config.num_classes.and(labels.clone());
        let predict = |x: Tensor<4>, t: &[usize]| {
            let condition = Condition::timestep(t[0] as f32, &device);
            let condition = match conditioned.clone() {
                None => condition,
                Some(labels) => condition.with_label(labels),
            };
            network.forward(x, &condition)
        };
        let towards = guide.as_ref().zip(labels.as_ref());
        let towards = towards
            .map(|(guide, labels)| move |x: Tensor<4>, t: &[usize]| guide.gradient(x, t, labels));
        let towards = towards.as_ref().map(|towards| towards as Guide<'_>);
        let images = sample(
            &schedule,
            &options,
            &filled,
            &device,
            predict,
            towards,
            |step, of| {
                let done = before * of as u64 + step as u64 * ids.len() as u64;
                progress.at(done, &format!("{before} of {} images", args.count));
            },
        );
        for (&id, image) in ids.iter().zip(to_bytes(images)) {
            let png = grid_png(&[image], 1, size, config.in_channels)?;
            write_bytes_atomic(path(id), &png)?;
        }
    }
    progress.finish();
    grid(&args.out, wanted.clone().take(GRID as usize).map(path))?;
    let done = Done {
        images: args.count,
        drawn: missing.len() as u64,
        steps,
        seconds: start.elapsed().as_secs_f64(),
        out: &args.out,
    };
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&done)?);
    } else {
        printer.result(&format!(
            "{} images of {} steps in {}, {} drawn now ({})",
            done.images,
            done.steps,
            args.out.display(),
            done.drawn,
            human_duration(done.seconds)
        ));
    }
    Ok(())
}

/// How the network's variance is read.
fn variance(wanted: VarianceArg, config: &UNetConfig) -> Result<VarianceKind> {
    let learned = config.out_channels == 2 * config.in_channels;
    match wanted {
        VarianceArg::Learned if !learned => bail!(
            "this network has {} output channels for {} of its images and has learned no variance: use \
             --variance small or large",
            config.out_channels,
            config.in_channels
        ),
        VarianceArg::Small | VarianceArg::Large if learned => {
            bail!("this network has learned its variance: use --variance learned, or leave it out")
        }
        VarianceArg::Auto if learned => Ok(VarianceKind::LearnedRange),
        VarianceArg::Learned => Ok(VarianceKind::LearnedRange),
        VarianceArg::Auto | VarianceArg::Small => Ok(VarianceKind::FixedSmall),
        VarianceArg::Large => Ok(VarianceKind::FixedLarge),
    }
}

/// How many classes there are to choose from, where a label is wanted.
fn classes(
    args: &SampleArgs,
    config: &UNetConfig,
    guide: Option<&Classifier>,
) -> Result<Option<u32>> {
    let classes = match (config.num_classes, guide) {
        (Some(classes), Some(guide)) if classes != guide.classes => bail!(
            "the network knows {classes} classes and the classifier {}",
            guide.classes
        ),
        (Some(classes), _) => classes,
        (None, Some(guide)) => guide.classes,
        (None, None) => {
            ensure!(
                args.label.is_none(),
                "this network knows no classes: leave --label out, or give a --classifier"
            );
            return Ok(None);
        }
    };
    match args.label {
        None => bail!(
            "this network is conditioned on one of {classes} classes: give --label N, cycle or random"
        ),
        Some(LabelArg::One(label)) if label as usize >= classes => {
            bail!(
                "label {label} is out of range: there are classes 0..={}",
                classes - 1
            )
        }
        Some(_) => Ok(Some(u32::try_from(classes)?)),
    }
}

/// Makes the folder one of these images, or refuses one of others.
fn claim(out: &Path, determines: &Determines, device: DeviceSpec) -> Result<()> {
    let path = out.join("sampling.json");
    if !path.exists() {
        return Ok(write_json_atomic(
            &path,
            &Record {
                determines: determines.clone(),
                device: device.to_string(),
            },
        )?);
    }
    let found: Record = read_json(&path)?;
    if found.determines == *determines {
        return Ok(());
    }
    let [ours, theirs] = [determines, &found.determines].map(serde_json::to_value);
    let (ours, theirs) = (ours?, theirs?);
    let differs: Vec<String> = ours
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| theirs.get(key.as_str()) != Some(value))
        .map(|(key, value)| format!("{key} is {} there and {value} now", theirs[key.as_str()]))
        .collect();
    bail!(
        "{} holds images drawn otherwise: {}; choose another --out",
        out.display(),
        differs.join(", ")
    )
}

/// `grid.png` of the first images of the folder.
fn grid(out: &Path, files: impl Iterator<Item = PathBuf>) -> Result<()> {
    let mut images = Vec::new();
    let mut shape = (0, 0);
    for file in files {
        let image = image::open(&file)
            .with_context(|| format!("{} is damaged: delete it and run again", file.display()))?;
        let channels = usize::from(image.color().channel_count());
        shape = (image.width() as usize, channels);
        images.push(image.into_bytes());
    }
    let columns = (images.len() as f64).sqrt().ceil() as usize;
    let png = grid_png(&images, columns.max(1), shape.0, shape.1)?;
    Ok(write_bytes_atomic(out.join("grid.png"), &png)?)
}

/// A classifier of noised images.
struct Classifier {
    network: UNet,
    sha256: String,
    classes: usize,
    scale: f64,
}

impl Classifier {
    fn open(path: &Path, scale: f64, of: &UNetConfig, device: &Device) -> Result<Self> {
        let imported = load(path, None, device)?;
        let config = imported.network.config();
        ensure!(
            matches!(config.kind, Kind::Encoder(_)),
            "{} draws images and classifies none: it cannot guide",
            path.display()
        );
        ensure!(
            (config.image_size, config.in_channels) == (of.image_size, of.in_channels),
            "{} classifies images of {} pixels and {} channels, the diffusion model draws {} and {}",
            path.display(),
            config.image_size,
            config.in_channels,
            of.image_size,
            of.in_channels
        );
        Ok(Self {
            classes: config.out_channels,
            sha256: imported.sha256.to_string(),
            network: imported.network,
            scale,
        })
    }

    /// The gradient of the log probability of each image's label, scaled.
    fn gradient(&self, x: Tensor<4>, t: &[usize], labels: &Tensor<1, Int>) -> Tensor<4> {
        let device = x.device().autodiff();
        let x = Tensor::from_inner(x).require_grad();
        let network = self.network.clone().train().no_grad();
        let condition = Condition {
            t: Some(Tensor::full([t.len()], t[0] as f32, &device)),
            ..Condition::default()
        };
        let logits = network.forward(x.clone(), &condition);
        let logits = logits.reshape([t.len(), self.classes]);
        let labels = Tensor::<1, Int>::from_data(labels.to_data(), &device);
        let chosen = log_softmax(logits, 1).gather(1, labels.reshape([t.len(), 1]));
        let gradients = chosen.sum().backward();
        x.grad(&gradients)
            .expect("the logits depend on the image")
            .mul_scalar(self.scale)
    }
}
