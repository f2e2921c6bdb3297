//! Images drawn from a diffusion model.

mod archive;
mod draw;
mod guide;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};
use diffrep_artifact::{
    ArtifactError, Lock, create_dir_all, remove_stale_temps, write_bytes_atomic,
};
use diffrep_import::{load, read_arch};
use diffrep_sample::{SampleOptions, Sampler};
use diffrep_schedule::{ProcessSpec, Spacing, VarianceKind, respaced};
use diffrep_unet::{Kind, UNetConfig};
use serde::Serialize;

pub(crate) use archive::fill as fill_archive;
pub(crate) use draw::{Drawing, Grid, square};
use draw::{LabelArg, grid, picture};
use guide::Classifier;

use crate::commands::input::{PrecisionArg, check_predicts_noise, encoder_name, process_of};
use crate::device::DeviceSpec;
use crate::printer::{Printer, human_duration};

/// Images of the grid.
const GRID: u64 = 64;

/// Draw images from a diffusion model.
///
/// Image number i is a function of --seed and i: a stop in the middle does not change it, --batch only in
/// the last digits, and the same command draws only what is missing. --out holds one PNG for each image,
/// `grid.png` with the first 64, and `sampling.json` with all that determined them; or it is one file that
/// ends in `.npz`, with `arr_0` u8 `[count, height, width, 3]` and, with --label, `arr_1` of as many, as
/// guided-diffusion's evaluator reads them. Until that file is whole its images lie in a folder beside it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep sample --checkpoint fixtures/mini/model.safetensors --count 64 --out runs/samples\n  \
    diffrep sample --checkpoint fixtures/mini/model.safetensors --sampler dpm-solver --steps ddim20 \\\n      \
    --count 2000 --out runs/fast.npz\n  \
    diffrep sample --checkpoint 256x256_diffusion_uncond.pt --steps 250 --sampler ddpm --device cuda:0 \\\n      \
    --classifier 256x256_classifier.pt --guidance 10 --label random --count 50000 --out runs/imagenet")]
pub(crate) struct SampleArgs {
    /// The diffusion model.
    #[arg(long)]
    checkpoint: PathBuf,
    /// Its architecture as the reference's constructor arguments, where the file does not tell.
    #[arg(long)]
    arch: Option<PathBuf>,
    /// Folder for the images, or a file that ends in `.npz`.
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

fn finite(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "a number is wanted".to_string())?;
    value
        .is_finite()
        .then_some(value)
        .ok_or_else(|| "a finite number is wanted".into())
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
    check_predicts_noise(&process, &args.checkpoint.display().to_string())?;
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
    let Some(last) = args.first.checked_add(args.count) else {
        bail!(
            "--first {} leaves no numbers for {} images",
            args.first,
            args.count
        );
    };
    let network = imported.network.packed();
    let drawing = Drawing {
        checkpoint: encoder_name(
            &imported.sha256,
            args.arch.as_ref().map(|_| &config),
            PrecisionArg::F32,
        )?,
        network: &network,
        kind: process.schedule,
        timesteps,
        steps: &args.steps,
        schedule: &schedule,
        options: SampleOptions {
            seed: args.seed,
            shape: [config.in_channels, config.image_size, config.image_size],
            sampler: args.sampler,
            variance,
        },
        batch: args.batch,
        labels: args.label.zip(classes),
        guide: guide.as_ref(),
        device: &device,
        spec: args.device,
    };
    let wanted = args.first..last;
    let drawn = match archive::is_archive(&args.out) {
        true => archive::fill(&drawing, &args.out, wanted, printer)?,
        false => {
            create_dir_all(&args.out)?;
            // Several processes may draw into one folder, each its own numbers.
            let _lock = join(&args.out)?;
            let drawn = drawing.fill(&args.out, wanted.clone(), printer)?;
            let shown = wanted.take(GRID as usize).map(|id| picture(&args.out, id));
            let grid = grid(shown)?;
            write_bytes_atomic(args.out.join("grid.png"), &grid.png)?;
            drawn
        }
    };
    let steps = schedule.steps();
    let done = Done {
        images: args.count,
        drawn,
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

/// Takes a folder together with whoever else draws into it. If nobody does, what a process that was killed had
/// begun to write is removed first.
fn join(folder: &Path) -> Result<Lock> {
    if let Ok(_alone) = Lock::acquire(folder) {
        remove_stale_temps(folder)?;
    }
    let mut tries = 0;
    loop {
        match Lock::share(folder) {
            // Another process may be removing such files, which takes no time.
            Err(ArtifactError::Locked { .. }) if tries < 100 => tries += 1,
            lock => return Ok(lock?),
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
