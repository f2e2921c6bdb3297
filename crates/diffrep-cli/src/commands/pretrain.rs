use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::tensor::Device;
use clap::Args;
use diffrep_artifact::{Lock, create_dir_all, write_bytes_atomic, write_json_atomic};
use diffrep_datasets::{Dataset, Split};
use diffrep_import::{WeightDtype, read_arch};
use diffrep_pretrain::{Event, PretrainConfig, Pretraining};
use diffrep_sample::{SampleOptions, Sampler, sample, to_bytes};
use diffrep_schedule::{Schedule, ScheduleKind, Spacing, respaced};
use diffrep_taps::Condition;
use diffrep_train::{AdamWConfig, LearningRate};
use diffrep_unet::{ClassifierPool, Kind, UNet, UNetConfig};

use crate::commands::data::DataArgs;
use crate::commands::input::{FitArg, preprocess};
use crate::device::DeviceSpec;
use crate::printer::{Printer, human_duration};

/// Train a diffusion model on a folder of images, or a classifier of noised images.
///
/// The run lives in --out: `checkpoint.safetensors` (from which it resumes when the same command is
/// given again), `training.json` (settings, loss curve), `samples-EPOCH.png`, and at the end the
/// averaged weights as `model.safetensors`, ready for every other command.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep pretrain /data/fashion-mnist --out runs/mini --epochs 5\n  \
    diffrep pretrain photos/ --arch net.json --batch 32 --device cuda:0 --out runs/photos\n  \
    diffrep pretrain fixtures/fashion-mnist --classifier --epochs 20 --out runs/classifier")]
pub(crate) struct PretrainArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Folder of the run.
    #[arg(long)]
    out: PathBuf,
    /// Network as the reference's constructor arguments in JSON; the mini network without it.
    #[arg(long)]
    arch: Option<PathBuf>,
    /// Train the encoder half of the mini network to classify noised images (the U-Net encoder of
    /// Table 1 of the paper); --arch may name an EncoderUNetModel.
    #[arg(long, conflicts_with = "arch")]
    classifier: bool,
    /// Height and width of the mini network's input; --arch names its own.
    #[arg(long, default_value_t = 32, conflicts_with = "arch")]
    size: usize,
    /// How images are brought to the network's size.
    #[arg(long, default_value = "pad")]
    fit: FitArg,
    /// Passes over the images.
    #[arg(long, default_value_t = 5)]
    epochs: u32,
    /// Images a step.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Parts of a batch computed side by side (by default 2 on a CPU, 1 on a GPU).
    #[arg(long)]
    micro_batches: Option<usize>,
    /// Highest learning rate; it rises over --warmup steps and falls as a cosine to 0.
    #[arg(long, default_value_t = 1e-3)]
    learning_rate: f64,
    /// Steps of rising learning rate.
    #[arg(long, default_value_t = 200)]
    warmup: u64,
    /// Decay of the moving average of weights.
    #[arg(long, default_value_t = 0.999)]
    ema: f64,
    /// Noise schedule: linear or cosine.
    #[arg(long, default_value = "linear", value_parser = parse_schedule)]
    schedule: ScheduleKind,
    /// Do not flip images left to right.
    #[arg(long)]
    no_flip: bool,
    /// Images kept out of training, for the loss curve.
    #[arg(long, default_value_t = 512)]
    held_out: usize,
    /// Names every random number of the run.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Steps between checkpoints.
    #[arg(long, default_value_t = 200)]
    checkpoint_every: u64,
    /// Where to compute: flex, cuda:N, tch.
    #[arg(long, default_value = "flex")]
    device: DeviceSpec,
}

pub(crate) fn parse_schedule(text: &str) -> Result<ScheduleKind, String> {
    match text {
        "linear" => Ok(ScheduleKind::Linear),
        "cosine" => Ok(ScheduleKind::Cosine),
        _ => Err("schedules are linear and cosine".into()),
    }
}

pub(crate) fn run(args: &PretrainArgs, printer: Printer) -> Result<()> {
    let device = args.device.open()?;
    let dataset = args.data.open(Split::Train)?;
    let (dataset, missing) = args.data.look_at(dataset, printer)?;
    let config = configure(args, &dataset)?;
    create_dir_all(&args.out)?;
    let _lock = Lock::acquire(&args.out)?;
    let checkpoint = args.out.join("checkpoint.safetensors");
    let fingerprint = dataset.fingerprint()?.to_string();
    let mut run = Pretraining::open(config.clone(), &dataset, fingerprint, &checkpoint, &device)?;
    let per_epoch = run.steps_per_epoch() as u64;
    let steps = per_epoch * u64::from(config.epochs);
    let position = run.record().position;
    if position.step > 0 {
        printer.say(&format!("resuming at step {} of {steps}", position.step));
    }
    let grid = |epoch: u32| args.out.join(format!("samples-{epoch:03}.png"));
    // A classifier has nothing to draw.
    let draws = !config.is_classifier();
    // A run that was stopped between a checkpoint and its picture.
    if draws && position.epoch > 0 && position.batch == 0 && !grid(position.epoch).exists() {
        draw_samples(&run.averaged(), &config, &device, &grid(position.epoch))?;
    }
    let mut progress = printer.progress("pretrain", steps);
    let mut failed = None;
    let mut smooth = f64::NAN;
    run.run(
        &dataset,
        &checkpoint,
        args.checkpoint_every,
        |event| match event {
            Event::Step {
                position,
                loss,
                rate,
                ..
            } => {
                smooth = if smooth.is_nan() {
                    loss
                } else {
                    0.98 * smooth + 0.02 * loss
                };
                progress.at(position.step, &format!("loss {smooth:.4} rate {rate:.1e}"));
            }
            Event::Checkpoint { network, record } => {
                let written = write_json_atomic(args.out.join("training.json"), record);
                let epoch_ends = draws && record.position.batch == 0;
                let drawn = match (written, epoch_ends) {
                    (Err(error), _) => Err(error.into()),
                    (Ok(()), false) => Ok(()),
                    (Ok(()), true) => {
                        let path = grid(record.position.epoch);
                        draw_samples(network, &config, &device, &path)
                    }
                };
                if let Err(error) = drawn {
                    failed.get_or_insert(error);
                }
                if let Some(point) = record.curve.last() {
                    printer.say(&format!(
                        "step {}: training loss {:.4}, held out {:.4}, {} so far",
                        point.step,
                        point.train,
                        point.held_out,
                        human_duration(record.seconds)
                    ));
                }
            }
        },
    )?;
    progress.finish();
    if let Some(error) = failed {
        return Err(error);
    }
    let model = args.out.join("model.safetensors");
    let mut training = serde_json::to_value(run.record())?;
    // The file's hash names the encoder: what differs between two equal runs stays out of it.
    if let Some(training) = training.as_object_mut() {
        training.remove("seconds");
    }
    let metadata = BTreeMap::from([("diffrep.training".to_string(), training.to_string())]);
    let hash = diffrep_import::write(&model, &run.averaged(), WeightDtype::F16, &metadata)?;
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&serde_json::json!({
            "model": model,
            "sha256": hash,
            "training": training,
            "missing": missing,
        }))?);
    } else {
        printer.result(&format!("{}: SHA-256 {hash}", model.display()));
        if let Some(sentence) = missing.sentence() {
            printer.result(&sentence);
        }
    }
    Ok(())
}

fn configure(args: &PretrainArgs, dataset: &Dataset) -> Result<PretrainConfig> {
    let network = match &args.arch {
        None if args.classifier => UNetConfig {
            image_size: args.size,
            kind: Kind::Encoder(ClassifierPool::Attention),
            out_channels: dataset.class_names().len(),
            ..UNetConfig::mini()
        },
        None => UNetConfig {
            image_size: args.size,
            ..UNetConfig::mini()
        },
        Some(path) => read_arch(path)?,
    };
    network.blocks()?;
    anyhow::ensure!(
        args.held_out > 0,
        "--held-out is 0: expected at least 1 image for the loss curve"
    );
    anyhow::ensure!(args.epochs > 0, "--epochs is 0: expected at least 1");
    anyhow::ensure!(args.batch > 0, "--batch is 0: expected at least 1");
    let rate = args.learning_rate;
    anyhow::ensure!(
        rate.is_finite() && rate > 0.0,
        "--learning-rate is {rate}: expected a number above 0"
    );
    let ema = args.ema;
    anyhow::ensure!(
        (0.0..1.0).contains(&ema),
        "--ema is {ema}: expected 0 to below 1"
    );
    let per_epoch = dataset.len().saturating_sub(args.held_out) / args.batch.max(1);
    Ok(PretrainConfig {
        preprocess: preprocess(&network, args.fit.into())?,
        network,
        schedule: args.schedule,
        timesteps: 1000,
        epochs: args.epochs,
        batch: args.batch,
        micro_batches: args.micro_batches.unwrap_or(match args.device {
            DeviceSpec::Flex => 2,
            _ => 1,
        }),
        learning_rate: LearningRate::Cosine {
            rate: args.learning_rate,
            warmup: args.warmup,
            steps: per_epoch as u64 * u64::from(args.epochs),
        },
        optimizer: AdamWConfig::default(),
        ema_decay: args.ema,
        flip: !args.no_flip,
        held_out: args.held_out,
        seed: args.seed,
    })
}

/// Draws an 8 x 8 grid of samples (50 DDIM steps) into a PNG file.
fn draw_samples(
    network: &UNet,
    config: &PretrainConfig,
    device: &Device,
    path: &Path,
) -> Result<()> {
    const SIDE: usize = 8;
    let schedule = Schedule::new(config.schedule, config.timesteps);
    let schedule = respaced(&schedule, &Spacing::parse("ddim50", config.timesteps)?)?;
    let (channels, size) = (config.network.in_channels, config.network.image_size);
    let options = SampleOptions {
        seed: config.seed,
        shape: [channels, size, size],
        sampler: Sampler::Ddim { eta: 0.0 },
        variance: config.variance(),
    };
    let ids: Vec<u64> = (0..(SIDE * SIDE) as u64).collect();
    let images = sample(
        &schedule,
        &options,
        &ids,
        device,
        |x, t| network.forward(x, &Condition::timestep(t[0] as f32, device)),
        None,
        |_, _| {},
    );
    let png = grid_png(&to_bytes(images), SIDE, size, channels)?;
    Ok(write_bytes_atomic(path, &png)?)
}

/// Equally sized square images, `columns` in a row, as one PNG.
pub(crate) fn grid_png(
    images: &[Vec<u8>],
    columns: usize,
    size: usize,
    channels: usize,
) -> Result<Vec<u8>> {
    let rows = images.len().div_ceil(columns);
    let (width, height) = (columns * size, rows * size);
    let mut pixels = vec![0u8; width * height * channels];
    for (i, image) in images.iter().enumerate() {
        let (left, top) = (i % columns * size, i / columns * size);
        for (y, row) in image.chunks(size * channels).enumerate() {
            let start = ((top + y) * width + left) * channels;
            pixels[start..start + row.len()].copy_from_slice(row);
        }
    }
    let colour = if channels == 1 {
        image::ExtendedColorType::L8
    } else {
        image::ExtendedColorType::Rgb8
    };
    let mut png = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut png);
    image::ImageEncoder::write_image(encoder, &pixels, width as u32, height as u32, colour)?;
    Ok(png)
}
