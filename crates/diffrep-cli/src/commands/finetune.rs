//! Training with the diffusion model in the loop.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Device;
use clap::{Args, ValueEnum};
use diffrep_artifact::{Lock, create_dir_all, remove_stale_temps, write_json_atomic};
use diffrep_datasets::{Dataset, Preprocess, Split, View, balanced_subset};
use diffrep_heads::FeedbackSpec;
use diffrep_import::{is_latent, load, read_arch};
use diffrep_latent::Latent;
use diffrep_pool::PoolSize;
use diffrep_probe::{
    AnyRecipe, Augment, COMPUTES, ClassifierInfo, Images, Metrics, ProbeError, Reading, Recipe,
    SavedClassifier, Trainable, TunableEncoder, Tune, TuneProgress, Tuned, Tuning,
};
use diffrep_report::{Cell, Column, Table, to_terminal_table};
use diffrep_schedule::{ProcessSpec, Schedule, ScheduleKind};
use diffrep_stats::{Interval, wilson};
use diffrep_taps::BlockIndex;
use diffrep_unet::{UNet, training_memory};
use serde::Serialize;

use crate::commands::data::{DataArgs, Missing};
use crate::commands::encoder::{LatentSettings, OpenLatent};
use crate::commands::input::{
    FitArg, HeadWord, PrecisionArg, encoder_name, preprocess_of, process_of, training_record,
};
use crate::device::DeviceSpec;
use crate::printer::{Printer, human_duration};

/// Train a head together with the diffusion model, with feedback layers or a text, or on fresh noise.
///
/// Images go through the network in each epoch, with another noise and another flip. `encoder` moves
/// the network up to the last block that is read (Table 2 of the paper), `feedback` adds the maps of
/// late blocks to early ones in a second pass (DifFeed), `prompt` learns what Stable Diffusion is told (Table 4),
/// `head` leaves everything else frozen. Each
/// epoch is saved; the same command goes on where it stopped. The best grid point on the validation
/// split reads the test split once, and is written as `classifier.safetensors` for `diffrep classify`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep finetune fixtures/fashion-mnist --checkpoint fixtures/mini/model.safetensors \\\n      \
    --t 0 --block 5 --pool 8 --recipe mini-finetune --per-class 200 --out runs/finetune\n  \
    diffrep finetune imagenet/ --checkpoint 256x256_diffusion_uncond.pt --t 90 --block 24 --pool 2 \\\n      \
    --recompute --parts 4 --device cuda:0 --out runs/table2\n  \
    diffrep finetune photos/ --checkpoint model.pt --t 90 --block 24 --pool 16 --head fusion \\\n      \
    --train feedback --out runs/feedback\n  \
    diffrep finetune photos/ --checkpoint stable-diffusion-v1-5/ --t 150 --block 18 --pool 1 --train prompt \\\n      \
    --recipe ablation --out runs/prompt")]
pub(crate) struct FinetuneArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The diffusion model; a folder or a file of Stable Diffusion too.
    #[arg(long)]
    checkpoint: PathBuf,
    /// Its architecture as the reference's constructor arguments, where the file does not tell; for
    /// one file of Stable Diffusion a diffusers folder that describes it.
    #[arg(long)]
    arch: Option<PathBuf>,
    /// What Stable Diffusion is told about every image, or starts from with --train prompt; nothing without
    /// it.
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Height and width of images for Stable Diffusion, in pixels; those of its training without it.
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,
    /// What is trained beside the head.
    #[arg(long, default_value = "encoder")]
    train: TrainArg,
    /// Timestep.
    #[arg(long)]
    t: usize,
    /// Block, counted from 1; several, separated by commas, for --head fusion.
    #[arg(long, value_delimiter = ',', required = true)]
    block: Vec<usize>,
    /// Side that maps are pooled to.
    #[arg(long, default_value_t = 2)]
    pool: usize,
    /// linear, mlp, cnn, attention, fusion (in the paper's proportions), or a TOML file.
    #[arg(long, default_value = "linear")]
    head: String,
    /// Recipe by name or a TOML file; its whole grid is tried.
    #[arg(long, default_value = "finetune")]
    recipe: String,
    /// Learning rate of the encoder as a share of the head's, for --train encoder; 0.1 without it.
    #[arg(long, value_name = "SHARE", value_parser = share_of_a_rate)]
    encoder_rate: Option<f64>,
    /// Learning rate of the text as a share of the head's, for --train prompt; 1 without it.
    #[arg(long, value_name = "SHARE", value_parser = share_of_a_rate)]
    prompt_rate: Option<f64>,
    /// Compute blocks again on the way back, for --train encoder: less memory, one more forward pass.
    #[arg(long)]
    recompute: bool,
    /// Late blocks that are fed back, for --train feedback; every third one without it.
    #[arg(long, value_delimiter = ',')]
    feed_back: Vec<usize>,
    /// Score a moving average of the weights with this decay.
    #[arg(long, value_name = "DECAY")]
    ema: Option<f64>,
    /// Cut each batch into so many parts, whose gradients are summed: less memory.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    parts: u64,
    /// The same noise in each epoch.
    #[arg(long)]
    fixed_noise: bool,
    /// No flips.
    #[arg(long)]
    no_flip: bool,
    /// Which random part of each training image is seen in each epoch: `recipe` (what the recipe says),
    /// `none`, `random` (the authors' release: 0.8 to 1 of the short side) or `resized` (torchvision's
    /// RandomResizedCrop: 0.08 to 1 of the area, as in Figure 7 of the paper).
    #[arg(long, value_name = "KIND", default_value = "recipe")]
    crop: CropArg,
    /// Train on so many images of each class.
    #[arg(long, value_name = "N")]
    per_class: Option<usize>,
    /// Say how much memory --train encoder takes with these blocks, recipe and parts, and stop.
    #[arg(long)]
    memory: bool,
    /// Folder for checkpoints and results.
    #[arg(long, required_unless_present = "memory")]
    out: Option<PathBuf>,
    /// Noise schedule of the model, as for `diffrep extract`: linear, cosine, scaled_linear; without it the
    /// one written in the checkpoint or beside it, or else linear.
    #[arg(long)]
    schedule: Option<ProcessSpec>,
    /// How images are brought to the network's size; without it as in the network's training, or
    /// else crop.
    #[arg(long)]
    fit: Option<FitArg>,
    /// Names initial weights, batch order, noise and flips.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where to compute: flex, cuda:N, tch.
    #[arg(long, default_value = "flex")]
    device: DeviceSpec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CropArg {
    Recipe,
    None,
    Random,
    Resized,
}

impl CropArg {
    fn view(self, recipe: &Recipe) -> Option<View> {
        match self {
            Self::Recipe => recipe.view,
            Self::None => None,
            Self::Random => Some(View::Crop {
                fractions: [0.8, 1.0],
            }),
            Self::Resized => Some(View::ResizedCrop { area: [0.08, 1.0] }),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TrainArg {
    /// The head alone.
    Head,
    /// Feedback layers and the head.
    Feedback,
    /// The network up to the last block that is read, and the head.
    Encoder,
    /// The text that Stable Diffusion is told, and the head.
    Prompt,
}

impl TrainArg {
    /// As the user writes it.
    fn word(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// A network on its way into a training.
struct Opened<E> {
    network: E,
    /// What stands for it in a key.
    name: String,
    /// What `classify` is to find again.
    sha256: String,
    preprocess: Preprocess,
    process: ProcessSpec,
    schedule: Schedule,
}

/// What `results.json` holds.
#[derive(Debug, Serialize)]
struct Results<'a> {
    reading: &'a Reading,
    head: &'a diffrep_heads::HeadSpec,
    tune: &'a Tune,
    augment: Augment,
    recipe: &'a Recipe,
    seed: u64,
    trainable: Trainable,
    images: [usize; 3],
    /// Of training, validation and test images.
    missing: [Missing; 3],
    tried: Vec<Tried>,
    /// Points of the grid that were given up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    diverged: Vec<Diverged>,
    chosen: usize,
    test: Option<Score>,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Tried {
    point: diffrep_probe::Point,
    epoch: usize,
    validation: f64,
    curve: Vec<diffrep_probe::EpochScore>,
}

#[derive(Debug, Serialize)]
struct Diverged {
    point: diffrep_probe::Point,
    reason: String,
}

#[derive(Debug, Serialize)]
struct Score {
    #[serde(flatten)]
    interval: Interval,
    #[serde(flatten)]
    metrics: Metrics,
}

fn share_of_a_rate(text: &str) -> Result<f64, String> {
    let share = text.parse().ok();
    let share = share.filter(|share: &f64| share.is_finite() && *share >= 0.0);
    share.ok_or_else(|| "a share of a learning rate is a number of at least 0".into())
}

pub(crate) fn run(args: &FinetuneArgs, printer: Printer) -> Result<()> {
    args.check_train()?;
    let device = args.device.open()?;
    if is_latent(&args.checkpoint) {
        ensure!(
            args.schedule.is_none(),
            "--schedule is for networks that do not say theirs; Stable Diffusion's is in the checkpoint"
        );
        ensure!(
            !args.memory,
            "--memory is for networks on pixels: what Stable Diffusion takes is not known"
        );
        return train(args, latent(args, &device, printer)?, &device, printer);
    }
    ensure!(
        args.prompt.is_none() && args.size.is_none(),
        "--prompt and --size are for Stable Diffusion, which {} is not",
        args.checkpoint.display()
    );
    let opened = pixels(args, &device)?;
    if args.memory {
        return say_memory(args, &opened.network, printer);
    }
    train(args, opened, &device, printer)
}

fn latent(
    args: &FinetuneArgs,
    device: &Device,
    printer: Printer,
) -> Result<Opened<Latent<diffrep_latent::UNet>>> {
    let settings = LatentSettings {
        arch: args.arch.as_deref(),
        size: args.size,
        prompt: args.prompt.as_deref().unwrap_or_default(),
        fit: args.fit,
        ..LatentSettings::default()
    };
    let open = OpenLatent::load(&args.checkpoint, &settings, device)?;
    if let Some(sentence) = open.cut() {
        printer.say(&sentence);
    }
    Ok(Opened {
        network: open.network,
        sha256: open.name.clone(),
        name: open.name,
        preprocess: open.preprocess,
        process: process_between(&open.schedule),
        schedule: open.schedule,
    })
}

/// What the classifier's file says of Stable Diffusion's process; `classify` takes that of the checkpoint.
fn process_between(schedule: &Schedule) -> ProcessSpec {
    let betas = &schedule.betas;
    let end = |beta: Option<&f64>| beta.copied().unwrap_or_default();
    let kind = ScheduleKind::ScaledLinear {
        first: end(betas.first()),
        last: end(betas.last()),
    };
    ProcessSpec {
        steps: betas.len(),
        ..kind.into()
    }
}

fn pixels(args: &FinetuneArgs, device: &Device) -> Result<Opened<UNet>> {
    let arch = args.arch.as_deref().map(read_arch).transpose()?;
    let imported = load(&args.checkpoint, arch.clone(), device)?;
    let record = training_record(&imported.metadata)?;
    let network = imported.network;
    let process = match args.schedule {
        Some(process) => process,
        None => process_of(&imported.metadata, network.config())?,
    };
    Ok(Opened {
        name: encoder_name(&imported.sha256, arch.as_ref(), PrecisionArg::F32)?,
        sha256: imported.sha256.to_string(),
        preprocess: preprocess_of(record.as_ref(), network.config(), args.fit)?,
        schedule: process.schedule()?,
        process,
        network,
    })
}

impl FinetuneArgs {
    /// That no option is given which another --train reads.
    fn check_train(&self) -> Result<()> {
        let given = [
            (
                "--encoder-rate",
                self.encoder_rate.is_some(),
                TrainArg::Encoder,
            ),
            ("--recompute", self.recompute, TrainArg::Encoder),
            ("--memory", self.memory, TrainArg::Encoder),
            (
                "--prompt-rate",
                self.prompt_rate.is_some(),
                TrainArg::Prompt,
            ),
            (
                "--feed-back",
                !self.feed_back.is_empty(),
                TrainArg::Feedback,
            ),
        ];
        for (option, is_given, train) in given {
            ensure!(
                !is_given || self.train == train,
                "{option} is for --train {0}, and this is --train {1}: leave it out, or say --train {0}",
                train.word(),
                self.train.word()
            );
        }
        Ok(())
    }

    fn recipe(&self) -> Result<Recipe> {
        match AnyRecipe::named(&self.recipe)? {
            AnyRecipe::Descent(recipe) => Ok(recipe),
            _ => bail!(
                "recipe {} takes no steps: use finetune, mini-finetune or one of your own",
                self.recipe
            ),
        }
    }

    fn reading(&self) -> Result<Reading> {
        Ok(Reading {
            t: Some(self.t),
            blocks: blocks(&self.block)?,
            pool: PoolSize::new(self.pool)?,
        })
    }
}

fn train<E: TunableEncoder>(
    args: &FinetuneArgs,
    opened: Opened<E>,
    device: &Device,
    printer: Printer,
) -> Result<()> {
    let start = Instant::now();
    let recipe = args.recipe()?;
    if let Some(decay) = args.ema {
        ensure!(
            (0.0..1.0).contains(&decay),
            "--ema must be at least 0 and below 1"
        );
    }
    let Opened {
        network,
        name,
        sha256,
        preprocess,
        process,
        schedule,
    } = opened;
    // The word alone where that says all, as in what was kept before.
    let noise = match process == process.schedule.into() {
        true => serde_json::json!(process.schedule),
        false => serde_json::json!(process),
    };
    let taps = network.taps();
    let reading = args.reading()?;
    reading.check(&taps, &schedule)?;
    let spec = HeadWord::read(&args.head)?.spec(&reading.pooled_taps(&taps))?;
    let tune = match args.train {
        TrainArg::Head => Tune::Head,
        TrainArg::Encoder => Tune::Encoder {
            rate: args.encoder_rate.unwrap_or(0.1),
            recompute: args.recompute,
        },
        TrainArg::Prompt => Tune::Prompt {
            rate: args.prompt_rate.unwrap_or(1.0),
        },
        TrainArg::Feedback if args.feed_back.is_empty() => Tune::Feedback {
            blocks: FeedbackSpec::usual(taps.len()).blocks,
        },
        TrainArg::Feedback => Tune::Feedback {
            blocks: blocks(&args.feed_back)?,
        },
    };
    let (train, validation) = args.data.train_and_validation()?;
    let train = match args.per_class {
        None => train,
        Some(count) => train.subset(&balanced_subset(train.labels(), count, args.seed)?),
    };
    let test = args.data.has_test()?;
    let test = test.then(|| args.data.open(Split::Test)).transpose()?;
    let (train, missing_train) = args.data.look_at(train, printer)?;
    let (validation, missing_validation) = args.data.look_at(validation, printer)?;
    let (test, missing_test) = match test {
        None => (None, Missing::default()),
        Some(test) => {
            let (test, missing) = args.data.look_at(test, printer)?;
            (Some(test), missing)
        }
    };
    let augment = Augment {
        fresh_noise: !args.fixed_noise,
        flip: !args.no_flip,
        view: args.crop.view(&recipe),
    };
    let images = |dataset| Images {
        dataset,
        preprocess,
        schedule: &schedule,
        seed: args.seed,
        augment,
    };
    let tuning = Tuning {
        tune: &tune,
        reading: &reading,
        spec: &spec,
        classes: train.class_names().len(),
        recipe: &recipe,
        ema: args.ema,
        parts: args.parts as usize,
        workers: args.device.workers().min(args.parts as usize),
        seed: args.seed,
        device,
    };
    let trainable = tuning.trainable(&network)?;
    let out = args.out.as_deref().context("--out is missing")?;
    create_dir_all(out)?;
    let _lock = Lock::acquire(out)?;
    remove_stale_temps(out)?;
    let mut determines = serde_json::json!({
        "encoder": name, "schedule": noise, "preprocess": preprocess,
        "training images": train.fingerprint()?, "validation images": validation.fingerprint()?,
        "timestep, blocks or pool": reading, "head": spec, "tuning": tune, "augmentation": augment,
        "recipe": recipe, "moving average": args.ema, "parts": args.parts, "seed": args.seed,
        "arithmetic": COMPUTES,
    });
    let grid = recipe.grid();
    let (mut points, mut tried) = (Vec::new(), Vec::<Tuned<E>>::new());
    let (mut diverged, mut last) = (Vec::new(), None);
    for (index, point) in grid.iter().enumerate() {
        determines["grid point"] = serde_json::json!(point);
        let path = out.join(format!("checkpoint-{index}.safetensors"));
        let title = match grid.len() {
            1 => "train".to_string(),
            of => format!("train {} of {of}", index + 1),
        };
        let per_epoch = train.len() + validation.len();
        let mut progress = printer.progress(&title, (recipe.epochs * per_epoch) as u64);
        let mut done = 0;
        let run = tuning.run(
            *point,
            network.clone(),
            &images(&train),
            &images(&validation),
            Some((&path, &determines)),
            |at| {
                match at {
                    TuneProgress::Trained { epoch, images } => {
                        // A training that was taken up again starts in a later epoch.
                        done = done.max((epoch - 1) * per_epoch) + images;
                    }
                    TuneProgress::Scored { images } => done += images,
                }
                progress.at(done as u64, "");
            },
        );
        progress.finish();
        match run {
            // Of a grid some points may be too much; that all are is an error.
            Err(error @ ProbeError::DivergedAt { .. }) if grid.len() > 1 => {
                tracing::warn!("{title}: {error}");
                diverged.push(Diverged {
                    point: *point,
                    reason: error.to_string(),
                });
                last = Some(error);
            }
            run => {
                tried.push(run?);
                points.push(*point);
            }
        }
    }
    if let (true, Some(error)) = (tried.is_empty(), last) {
        return Err(error).with_context(|| {
            format!(
                "every point of recipe `{}` diverged, the last of them so",
                recipe.name
            )
        });
    }
    let mut chosen = 0;
    for index in 1..tried.len() {
        if tried[index].validation > tried[chosen].validation {
            chosen = index;
        }
    }
    let scored = test
        .as_ref()
        .map(|test| -> Result<Score> {
            let mut progress = printer.progress("test", test.len() as u64);
            let mut done = 0;
            let logits = tried[chosen]
                .classifier
                .logits(&images(test), device, |count| {
                    done += count as u64;
                    progress.at(done, "");
                });
            progress.finish();
            let metrics = Metrics::of(&logits?, test.labels(), tuning.classes);
            let right = (metrics.top1 * test.len() as f64).round() as u64;
            Ok(Score {
                interval: wilson(right, test.len() as u64, 0.95)?,
                metrics,
            })
        })
        .transpose()?;
    let best = &tried[chosen];
    let path = out.join("classifier.safetensors");
    let info = ClassifierInfo {
        classes: train.class_names().to_vec(),
        encoder_sha256: sha256,
        tune: tune.clone(),
        reading: reading.clone(),
        head: spec.clone(),
        schedule: process.schedule,
        timesteps: process.steps,
        rescaled: process.rescaled,
        preprocess,
        noise_seed: args.seed,
        recipe: recipe.clone(),
        point: points[chosen],
        validation_accuracy: best.validation,
    };
    SavedClassifier::new(&best.classifier, info).write(&path)?;
    let results = Results {
        reading: &reading,
        head: &spec,
        tune: &tune,
        augment,
        recipe: &recipe,
        seed: args.seed,
        trainable,
        images: [
            train.len(),
            validation.len(),
            test.as_ref().map_or(0, Dataset::len),
        ],
        missing: [missing_train, missing_validation, missing_test],
        tried: tried
            .into_iter()
            .zip(&points)
            .map(|(tuned, point)| Tried {
                point: *point,
                epoch: tuned.epoch,
                validation: tuned.validation,
                curve: tuned.curve,
            })
            .collect(),
        diverged,
        chosen,
        test: scored,
        seconds: start.elapsed().as_secs_f64(),
    };
    write_json_atomic(out.join("results.json"), &results)?;
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&results)?);
    } else {
        printer.result(&to_terminal_table(&table(&results)));
        printer.say(&format!(
            "classifier: {} ({})",
            path.display(),
            human_duration(results.seconds)
        ));
    }
    Ok(())
}

/// What a training of the encoder would hold at its peak, by the model of `training_memory`.
fn say_memory(args: &FinetuneArgs, network: &UNet, printer: Printer) -> Result<()> {
    let (reading, recipe) = (args.reading()?, args.recipe()?);
    let last = reading.blocks.iter().max().context("no block is read")?;
    // Parts that are computed at once are in memory at once.
    let at_once = args.device.workers().min(args.parts as usize).max(1);
    let part = recipe.batch.div_ceil(args.parts as usize);
    let fused = args.device.workers() > 1;
    let memory = training_memory(network.config(), *last, part * at_once, fused)?;
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&serde_json::json!({
            "images_at_once": part * at_once,
            "parts_of_the_peak": memory,
            "plain": memory.plain(),
            "recomputed": memory.recomputed(),
        }))?);
        return Ok(());
    }
    let gigabytes = |bytes: u64| Cell::number(bytes as f64 / 1e9, 2);
    let row = |name: &str, plain: u64, again: u64| {
        vec![Cell::text(name), gigabytes(plain), gigabytes(again)]
    };
    let fixed = memory.fixed();
    printer.result(&to_terminal_table(&Table {
        caption: format!(
            "Training up to block {last} on {} images at once, f32 and Adam; a moving average costs \
             {:.2} GB more, and the library keeps buffers of its own",
            part * at_once,
            memory.weights as f64 / 1e9
        ),
        columns: vec![
            Column::text("what"),
            Column::number("plain").with_unit("GB"),
            Column::number("--recompute").with_unit("GB"),
        ],
        rows: vec![
            row("weights, gradients, moments, copies", fixed, fixed),
            row(
                "maps",
                memory.inside_all,
                memory.outputs + memory.inside_largest,
            ),
            row("together", memory.plain(), memory.recomputed()),
        ],
        highlight: Vec::new(),
    }));
    Ok(())
}

fn blocks(numbers: &[usize]) -> Result<Vec<BlockIndex>> {
    let index = |&block: &usize| BlockIndex::new(block).context("blocks are counted from 1");
    numbers.iter().map(index).collect()
}

/// What was trained, and on how many images of training, validation and test each of the numbers stands.
fn heading(trained: Trainable, [train, validation, test]: [usize; 3]) -> String {
    let tested = match test {
        0 => String::new(),
        _ => format!("; the best scored on {test} test images, with its 95 % Wilson interval"),
    };
    format!(
        "{} parameters trained ({} of the head, {} of feedback layers, {} of the encoder, {} of the text) on {train} \
         images and chosen on {validation} validation images{tested}",
        trained.all(),
        trained.head,
        trained.feedback,
        trained.encoder,
        trained.prompt,
    )
}

fn table(results: &Results<'_>) -> Table {
    let rows = results.tried.iter().enumerate().map(|(index, tried)| {
        let test = results.test.as_ref().filter(|_| index == results.chosen);
        vec![
            Cell::text(format!("{:.0e}", tried.point.learning_rate)),
            Cell::text(tried.point.weight_decay.to_string()),
            Cell::text(format!("{} of {}", tried.epoch, tried.curve.len())),
            Cell::number(tried.validation * 100.0, 2),
            match test {
                None => Cell::missing(),
                Some(score) => Cell::text(format!(
                    "{:.2} [{:.2}, {:.2}]",
                    score.interval.estimate * 100.0,
                    score.interval.low * 100.0,
                    score.interval.high * 100.0
                )),
            },
        ]
    });
    Table {
        caption: heading(results.trainable, results.images),
        columns: vec![
            Column::text("rate"),
            Column::text("decay"),
            Column::text("epoch kept"),
            Column::number("validation").with_unit("%"),
            Column::number("test top-1").with_unit("%"),
        ],
        rows: rows.collect(),
        highlight: vec![results.chosen],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_score_stands_beside_the_number_of_its_own_images() {
        let trained = Trainable {
            head: 7,
            feedback: 0,
            encoder: 5,
            prompt: 0,
        };
        let said = heading(trained, [100, 20, 30]);
        assert!(said.starts_with("12 parameters trained"), "{said}");
        assert!(
            said.contains("on 100 images and chosen on 20 validation images"),
            "{said}"
        );
        assert!(said.contains("the best scored on 30 test images"), "{said}");
        let untested = heading(trained, [100, 20, 0]);
        assert!(
            untested.ends_with("chosen on 20 validation images"),
            "{untested}"
        );
    }
}
