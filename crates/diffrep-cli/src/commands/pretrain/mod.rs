mod backbone;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::tensor::Device;
use clap::Args;
use diffrep_artifact::{
    Lock, Sha256Hex, create_dir_all, remove_stale_temps, write_bytes_atomic, write_json_atomic,
};
use diffrep_datasets::{Dataset, Split};
use diffrep_import::{WeightDtype, read_arch};
use diffrep_pretrain::{Course, Event, PretrainConfig, Pretraining, Task};
use diffrep_sample::{SampleOptions, Sampler, sample, to_bytes};
use diffrep_schedule::{Schedule, ScheduleKind, Spacing, respaced};
use diffrep_taps::Condition;
use diffrep_train::{AdamWConfig, LearningRate};
use diffrep_unet::{ClassifierPool, Kind, UNet, UNetConfig};

use crate::commands::data::{DataArgs, Missing};
use crate::commands::input::{FitArg, TRAINING_KEY, preprocess};
use crate::device::DeviceSpec;
use crate::printer::{Printer, human_duration};

/// Train a diffusion model on a folder of images, or a classifier of noised images, or a ResNet or vision
/// transformer on clean ones.
///
/// The run lives in --out: `checkpoint.safetensors` (from which it resumes when the same command is
/// given again), `training.json` (settings, loss curve), `samples-EPOCH.png`, and at the end the
/// averaged weights as `model.safetensors`, ready for every other command.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep pretrain /data/fashion-mnist --out runs/mini --epochs 5\n  \
    diffrep pretrain photos/ --arch net.json --batch 32 --device cuda:0 --out runs/photos\n  \
    diffrep pretrain fixtures/fashion-mnist --classifier --epochs 20 --out runs/classifier\n  \
    diffrep pretrain fixtures/fashion-mnist --backbone fixtures/mini/resnet.json --epochs 20 --out runs/resnet")]
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
    /// Train another kind of network to classify clean images, for comparison: resnet18, vit_small_patch16
    /// and others, or a JSON file that describes one. Its classifier gets the classes of the images.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["arch", "classifier", "size", "schedule"])]
    backbone: Option<String>,
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
    /// Parts of a batch computed side by side (by default 2 on a CPU, 1 on a GPU); a ResNet normalises by
    /// the statistics of a part.
    #[arg(long)]
    micro_batches: Option<usize>,
    /// Highest learning rate; it rises over --warmup steps and falls as a cosine to 0.
    #[arg(long, default_value_t = 1e-3)]
    learning_rate: f64,
    /// Steps of rising learning rate.
    #[arg(long, default_value_t = 200)]
    warmup: u64,
    /// Decay of weights, by AdamW.
    #[arg(long, default_value_t = 0.0)]
    weight_decay: f64,
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
    let job = Job {
        args,
        dataset: &dataset,
        missing: &missing,
        device: &device,
        printer,
    };
    if let Some(kind) = &args.backbone {
        return backbone::run(&job, kind);
    }
    let config = configure(args, &dataset)?;
    let draw = |network: &UNet, path: &Path| draw_samples(network, &config, &device, path);
    // A classifier has nothing to draw.
    let draw = (!config.is_classifier()).then_some(&draw as Draw<'_, UNet>);
    job.train(config.clone(), draw, |path, network, metadata| {
        Ok(diffrep_import::write(
            path,
            network,
            WeightDtype::F16,
            metadata,
        )?)
    })
}

/// Draws what a network makes into a file.
type Draw<'a, N> = &'a dyn Fn(&N, &Path) -> Result<()>;

/// What is trained on, and where.
struct Job<'a> {
    args: &'a PretrainArgs,
    dataset: &'a Dataset,
    missing: &'a Missing,
    device: &'a Device,
    printer: Printer,
}

impl Job<'_> {
    /// Trains to the end, in a folder from which a stopped run goes on.
    fn train<T: Task>(
        &self,
        config: T,
        draw: Option<Draw<'_, T::Network>>,
        write: impl FnOnce(&Path, &T::Network, &BTreeMap<String, String>) -> Result<Sha256Hex>,
    ) -> Result<()> {
        let (out, printer) = (&self.args.out, self.printer);
        Pretraining::check(&config, self.dataset)?;
        create_dir_all(out)?;
        let _lock = Lock::acquire(out)?;
        remove_stale_temps(out)?;
        let checkpoint = out.join("checkpoint.safetensors");
        let fingerprint = self.dataset.fingerprint()?.to_string();
        let epochs = config.course().epochs;
        let mut run =
            Pretraining::open(config, self.dataset, fingerprint, &checkpoint, self.device)?;
        let steps = run.steps_per_epoch() as u64 * u64::from(epochs);
        let position = run.record().position;
        let log = out.join("training.json");
        if position.step > 0 {
            printer.say(&format!("resuming at step {} of {steps}", position.step));
            // A run that was stopped between a checkpoint and its log, or whose log was damaged.
            write_json_atomic(&log, run.record())?;
        }
        let grid = |epoch: u32| out.join(format!("samples-{epoch:03}.png"));
        // A run that was stopped between a checkpoint and its picture.
        if let Some(draw) = draw
            && position.epoch > 0
            && position.batch == 0
            && !grid(position.epoch).exists()
        {
            draw(&run.averaged(), &grid(position.epoch))?;
        }
        let mut progress = printer.progress("pretrain", steps);
        let mut failed = None;
        let mut smooth = f64::NAN;
        let every = self.args.checkpoint_every;
        run.run(self.dataset, &checkpoint, every, |event| match event {
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
                let written = write_json_atomic(&log, record);
                let drawn = match (written, draw) {
                    (Err(error), _) => Err(error.into()),
                    (Ok(()), Some(draw)) if record.position.batch == 0 => {
                        draw(network, &grid(record.position.epoch))
                    }
                    (Ok(()), _) => Ok(()),
                };
                if let Err(error) = drawn {
                    failed.get_or_insert(error);
                }
                if let Some(point) = record.curve.last() {
                    let right = point.accuracy.map_or_else(String::new, |share| {
                        format!(" ({:.1} % right)", share * 100.0)
                    });
                    printer.say(&format!(
                        "step {}: training loss {:.4}, held out {:.4}{right}, {} so far",
                        point.step,
                        point.train,
                        point.held_out,
                        human_duration(record.seconds)
                    ));
                }
            }
        })?;
        progress.finish();
        if let Some(error) = failed {
            return Err(error);
        }
        let model = out.join("model.safetensors");
        let mut training = serde_json::to_value(run.record())?;
        // The file's hash names the encoder: what differs between two equal runs stays out of it.
        if let Some(training) = training.as_object_mut() {
            training.remove("seconds");
        }
        let metadata = BTreeMap::from([(TRAINING_KEY.to_string(), training.to_string())]);
        let hash = write(&model, &run.averaged(), &metadata)?;
        if printer.json() {
            printer.result(&serde_json::to_string_pretty(&serde_json::json!({
                "model": model,
                "sha256": hash,
                "training": training,
                "missing": self.missing,
            }))?);
        } else {
            printer.result(&format!("{}: SHA-256 {hash}", model.display()));
            if let Some(sentence) = self.missing.sentence() {
                printer.result(&sentence);
            }
        }
        Ok(())
    }
}

/// How the run goes, as asked for.
fn course(args: &PretrainArgs, images: usize) -> Result<Course> {
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
    let decay = args.weight_decay;
    anyhow::ensure!(
        decay.is_finite() && decay >= 0.0,
        "--weight-decay is {decay}: expected a number from 0"
    );
    let ema = args.ema;
    anyhow::ensure!(
        (0.0..1.0).contains(&ema),
        "--ema is {ema}: expected 0 to below 1"
    );
    let per_epoch = images.saturating_sub(args.held_out) / args.batch;
    Ok(Course {
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
        optimizer: AdamWConfig {
            weight_decay: args.weight_decay,
            ..AdamWConfig::default()
        },
        ema_decay: args.ema,
        flip: !args.no_flip,
        held_out: args.held_out,
        seed: args.seed,
    })
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
    let course = course(args, dataset.len())?;
    Ok(PretrainConfig {
        preprocess: preprocess(&network, args.fit.into())?,
        network,
        schedule: args.schedule,
        timesteps: 1000,
        epochs: course.epochs,
        batch: course.batch,
        micro_batches: course.micro_batches,
        learning_rate: course.learning_rate,
        optimizer: course.optimizer,
        ema_decay: course.ema_decay,
        flip: course.flip,
        held_out: course.held_out,
        seed: course.seed,
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
