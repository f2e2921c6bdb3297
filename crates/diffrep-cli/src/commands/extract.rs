mod batch;
mod plan;
mod reader;

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use clap::{Args, ValueEnum};
use diffrep_extract::{
    Batch, ExtractError, Extraction, Noise, NoiseFile, Noising, Setting, Settings, Views,
};
use diffrep_plan::{Place, PlanError, Source};
use diffrep_pool::PoolSize;
use diffrep_schedule::ProcessSpec;
use diffrep_store::FeatureDtype;
use diffrep_taps::{BlockIndex, Encoder, TapInfo};

use crate::commands::data::{DataArgs, SplitArg};
use crate::commands::encoder::{LatentsArg, NormaliseArg, up_to};
use crate::commands::input::{FitArg, PrecisionArg};
use crate::device::DeviceSpec;
use crate::memory::{self, Bytes};
use crate::printer::{Printer, human_duration};
use batch::{BatchArg, Search};
use plan::Plan;
use reader::Reader;

/// Write features of images for any set of timesteps, blocks and pools.
///
/// One forward a timestep serves every block and pool, and nothing past the last block is computed.
/// The store is a folder of safetensors shards with labels and sample ids; a second run of the same
/// command computes only what is missing. Several workers, on one machine or many, may fill one store
/// (docs/scale-out.md).
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep extract fixtures/fashion-mnist --checkpoint fixtures/mini/model.safetensors \\\n      \
    --t 10 --block 7 --pool 4 --out runs/features-train\n  \
    diffrep extract photos/ --checkpoint model.pt --t 90 --block 24 --out f --dry-run\n  \
    diffrep extract photos/ --split test --checkpoint model.pt --t 90,150 --block 19,24 --pool 1,2 --out f\n  \
    diffrep extract photos/ --checkpoint model.pt --t 90 --block all --pool 1 --worker 0/4 --out f\n  \
    diffrep extract photos/ --checkpoint model.pt --t 90 --block 24 --draws 4 --flips --out f\n  \
    diffrep extract photos/ --checkpoint stable-diffusion-v1-5/ --t 150 --block 18 --pool 2 --out f\n  \
    diffrep extract photos/ --checkpoint stable-diffusion-v1-5/ --size 256 --prompt \"a photo of a bird\" \\\n      \
    --t 150 --block 15 --out f\n  \
    diffrep extract photos/ --checkpoint DiT-XL-2-256x256.pt --vae sd-vae-ft-ema/ --t 90 --block 14 --out f\n  \
    diffrep extract photos/ --backbone resnet50 --checkpoint swav_800ep.pth.tar --block 16 --pool 1 --out f")]
pub(crate) struct ExtractArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Which split: train, validation or test.
    #[arg(long, default_value = "train")]
    split: SplitArg,
    /// The diffusion model: a .pt, .ckpt or .safetensors file, or a folder that diffusers wrote.
    #[arg(long)]
    checkpoint: PathBuf,
    /// Its architecture as the reference's constructor arguments, where the file does not tell; for
    /// one file of Stable Diffusion a diffusers folder that describes it.
    #[arg(long)]
    arch: Option<PathBuf>,
    /// What Stable Diffusion is told about every image; nothing without it. What has no place among
    /// its 77 tokens is left out.
    #[arg(long, value_name = "TEXT", conflicts_with = "backbone")]
    prompt: Option<String>,
    /// Height and width of images for Stable Diffusion, in pixels, a multiple of 64; those of its
    /// training without it.
    #[arg(long, value_name = "PIXELS", conflicts_with = "backbone")]
    size: Option<usize>,
    /// The VAE that a diffusion transformer (DiT) was trained behind: a folder of diffusers with an
    /// AutoencoderKL, such as sd-vae-ft-ema, or a pipeline's.
    #[arg(long, value_name = "FOLDER", conflicts_with = "backbone")]
    vae: Option<PathBuf>,
    /// Latents of Stable Diffusion or a DiT: the mean of their distribution, or a sample drawn by seed, image
    /// and draw.
    #[arg(long, default_value = "mean", conflicts_with = "backbone")]
    latents: LatentsArg,
    /// Folder of a store in which latents are kept, in f32, and found again: by other timesteps, blocks and
    /// prompts on the same images.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["backbone", "flips"])]
    keep_latents: Option<PathBuf>,
    /// Read features from another kind of network than a diffusion model, from clean images: resnet50,
    /// vit_base_patch16, mage_vit_base and others, or a JSON file that describes one. --checkpoint is then what
    /// torchvision, timm, VISSL, SwAV, MoCo, DINO, MAE, CLIP or MAGE published.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["t", "arch", "precision", "schedule"])]
    backbone: Option<String>,
    /// What a backbone's pixels are shifted and scaled by; clip for CLIP and imagenet for others without
    /// it, half for the supervised ViTs of timm.
    #[arg(long, requires = "backbone")]
    normalise: Option<NormaliseArg>,
    /// Timesteps, separated by commas.
    #[arg(long, value_delimiter = ',', required_unless_present = "backbone")]
    t: Vec<usize>,
    /// Blocks, counted from 1, separated by commas, or `all`, whose maps are pooled to their own side where
    /// that is smaller.
    #[arg(long, value_delimiter = ',', required = true)]
    block: Vec<BlockArg>,
    /// Pooled sides, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "2")]
    pool: Vec<usize>,
    /// Folder of the store.
    #[arg(long)]
    out: PathBuf,
    /// How features are stored.
    #[arg(long, default_value = "f16")]
    dtype: DtypeArg,
    /// What the network computes with; f16 and bf16 are for GPUs, and slower than f32 on a CPU.
    #[arg(long, default_value = "f32")]
    precision: PrecisionArg,
    /// Noise schedule of the model: linear, cosine or scaled_linear, with :STEPS where it has not 1000
    /// timesteps and :rescaled where it is told thousandths, as in cosine:4000:rescaled. Without it the
    /// one written in the checkpoint or beside it, or else linear.
    #[arg(long)]
    schedule: Option<ProcessSpec>,
    /// How images are brought to the network's size; without it as in the network's training, or
    /// else crop.
    #[arg(long)]
    fit: Option<FitArg>,
    /// Names the noise.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Which of several noises per image; the first of them with --draws.
    #[arg(long, default_value_t = 0)]
    draw: u32,
    /// How many noises each image gets, each a row of its own; a head trained on all of them sees more than
    /// one noise of an image, as the paper's training does.
    #[arg(long, value_name = "K", default_value = "1", conflicts_with = "backbone",
        value_parser = clap::value_parser!(u32).range(1..=65_536))]
    draws: u32,
    /// Where noise comes from: drawn by seed, image, draw and timestep, or none at all, where a timestep only
    /// scales the image.
    #[arg(
        long,
        value_name = "KIND",
        default_value = "seeded",
        conflicts_with = "backbone"
    )]
    noise: NoiseArg,
    /// Noise from a safetensors file, to compare with another program: a tensor `noise` of shape (n, c, h, w)
    /// in f32, row i * K + k for draw k of image i, the same at every timestep.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["backbone", "noise"])]
    noise_file: Option<PathBuf>,
    /// Mirror images left to right.
    #[arg(long)]
    flip: bool,
    /// Add a row of the mirrored image to every row, for the flips of the paper's training.
    #[arg(long, conflicts_with = "flip")]
    flips: bool,
    /// Rows a shard; images, where each has one row.
    #[arg(long, default_value_t = 1000)]
    shard_rows: usize,
    /// Images that go through the network together, for each worker: a number, or `auto` for as many as fit into
    /// the memory that is free (on a CPU no more than usual, which is as fast). Without it 16 images of 32 pixels
    /// a side and fewer of larger ones. Changes no number on a CPU.
    #[arg(long, value_name = "N")]
    batch: Option<BatchArg>,
    /// Memory that may be in use at the peak, such as 8G, at least 64MiB: of this process, or of the GPU. A batch
    /// that would take more is refused.
    #[arg(long, value_name = "SIZE", value_parser = memory::limit)]
    memory_limit: Option<Bytes>,
    /// Only N images, spread evenly over the split and so over its classes.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Which worker of several this is: k/K, counted from 0; `auto` asks the environment (Slurm arrays,
    /// srun, torchrun, MPI, Kubernetes), `none` takes the store alone. Workers share one --out.
    #[arg(long, value_name = "K/N", default_value = "auto")]
    worker: WorkerArg,
    /// Say what would be done, with the time that one micro-batch tells, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Where to compute: flex, cuda:N, tch.
    #[arg(long, default_value = "flex")]
    device: DeviceSpec,
}

/// Which worker of several.
#[derive(Clone, Debug)]
enum WorkerArg {
    Auto,
    Alone,
    Given(Place),
}

impl std::str::FromStr for WorkerArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::Alone),
            _ => text
                .parse()
                .map(Self::Given)
                .map_err(|error: PlanError| error.to_string()),
        }
    }
}

impl WorkerArg {
    /// The place among several workers; none for the only one.
    fn place(&self) -> Result<Option<Place>> {
        let place = match self {
            Self::Alone => return Ok(None),
            Self::Given(place) => place.clone(),
            Self::Auto => Place::detect(|name| std::env::var(name).ok())?,
        };
        Ok((place.source != Source::Alone).then_some(place))
    }
}

/// The blocks asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BlockArg {
    One(usize),
    All,
}

impl std::str::FromStr for BlockArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            _ => text
                .parse()
                .map(Self::One)
                .map_err(|_| "a block is a number from 1, or `all`".into()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NoiseArg {
    Seeded,
    None,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DtypeArg {
    F32,
    F16,
    Bf16,
}

pub(crate) fn run(args: &ExtractArgs, printer: Printer) -> Result<()> {
    args.check_draws()?;
    let device = args.device.open()?;
    let noise_file = args.noise_file.as_deref().map(NoiseFile::open);
    let noise_file = noise_file.transpose()?;
    let dataset = args.data.open(args.split.split())?;
    let dataset = match args.limit {
        Some(limit) => dataset.subset(&spread(dataset.len(), limit as usize)),
        None => dataset,
    };
    let (dataset, missing) = args.data.look_at(dataset, printer)?;
    let Reader {
        network,
        name,
        preprocess,
        schedule,
        first_stage,
    } = args.reader(&device, printer)?;
    let taps = network.taps();
    let settings = Settings::new(args.wanted(&taps)?, &taps, &schedule)?;
    let job = Extraction {
        preprocess,
        dataset: &dataset,
        schedule: &schedule,
        settings: &settings,
        noising: Noising {
            seed: args.seed,
            draw: args.draw,
        },
        noise: match (&noise_file, args.noise) {
            (Some(file), _) => Noise::Given(file),
            (None, NoiseArg::Seeded) => Noise::Seeded,
            (None, NoiseArg::None) => Noise::Zero,
        },
        views: Views {
            draws: NonZeroU32::new(args.draws).context("--draws is at least 1")?,
            flips: args.flips,
        },
        flip: args.flip,
        encoder_hash: name,
        dtype: match args.dtype {
            DtypeArg::F32 => FeatureDtype::F32,
            DtypeArg::F16 => FeatureDtype::F16,
            DtypeArg::Bf16 => FeatureDtype::Bf16,
        },
        shard_rows: args.shard_rows,
        missing: serde_json::to_value(&missing)?,
        batch: Batch::default(),
        workers: args.device.workers(),
    };
    let network = up_to(network, settings.last_block());
    let asked = args.batch.is_some() || args.memory_limit.is_some();
    let search = Search {
        job: &job,
        network: &network,
        device: &device,
        spec: args.device,
        limit: args.memory_limit,
    };
    if asked && let Some(doubt) = search.doubt() {
        printer.say(&doubt);
    }
    let batching = search.batching(args.batch)?;
    let job = Extraction {
        batch: Batch {
            rows: NonZeroUsize::new(batching.batch),
            in_key: batch::in_key(&job, &network, batching.batch),
            note: if asked {
                batching.note()?
            } else {
                serde_json::Value::Null
            },
        },
        workers: batching.workers,
        ..job.clone()
    };
    let mut plan = Plan::of(&job, taps.len(), batching);
    if args.dry_run {
        let seconds = plan.calibrate(&network, &job, &device, args.device)?;
        if printer.json() {
            printer.result(&serde_json::to_string_pretty(&serde_json::json!({
                "plan": plan,
                "estimated_seconds": seconds,
                "missing": missing,
            }))?);
        } else {
            let time = human_duration(seconds);
            printer.result(&format!("{}, about {time}", plan.sentence()));
        }
        return Ok(());
    }
    printer.say(&plan.sentence());
    let start = std::time::Instant::now();
    let place = args.worker.place()?;
    ensure!(
        place.is_none() || args.keep_latents.is_none(),
        "--keep-latents is for one process: without it, or for features of one process first, whose latents others \
         read"
    );
    let kept = args.keep_latents.as_deref().zip(first_stage);
    let kept = kept.map(|(dir, first_stage)| -> Result<_> {
        let mut progress = printer.progress("latents", dataset.len() as u64);
        let on = |done: usize, _: usize| progress.at(done as u64, "");
        let kept = job.with_latents(&network, &first_stage, place.as_ref(), dir, &device, on);
        progress.finish();
        Ok(kept?)
    });
    let kept = kept.transpose()?;
    let mut progress = printer.progress("extract", job.rows() as u64);
    let mut first = None;
    let on = |done: usize, _: usize| {
        first.get_or_insert(done);
        progress.at(done as u64, "");
    };
    if let Some(place) = &place {
        printer.say(&place.to_string());
    }
    let result = match &kept {
        None => all(&job, place.as_ref(), &network, &args.out, &device, on),
        Some(kept) => all(&job, place.as_ref(), kept, &args.out, &device, on),
    };
    progress.finish();
    let with_others = result?;
    let seconds = start.elapsed().as_secs_f64();
    let columns: Vec<String> = settings
        .columns()
        .iter()
        .map(|(setting, _)| setting.column())
        .collect();
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&serde_json::json!({
            "store": args.out,
            "images": dataset.len(),
            "rows": job.rows(),
            "missing": missing,
            "columns": columns,
            "worker": place.as_ref().map(Place::to_string),
            "with_other_workers": with_others,
            "seconds": seconds,
            "peak_bytes": memory::resident().map(|resident| resident.peak),
        }))?);
    } else {
        printer.result(&format!(
            "{}: {}, columns {} ({})",
            args.out.display(),
            plan.images(),
            columns.join(", "),
            human_duration(seconds)
        ));
        if with_others > 0 {
            printer.result(&format!(
                "{with_others} {} are with other workers, or were when one died",
                if job.rows() == dataset.len() {
                    "images"
                } else {
                    "rows"
                }
            ));
        }
        if let Some(sentence) = missing.sentence() {
            printer.result(&sentence);
        }
    }
    Ok(())
}

/// Extracts what is missing, alone or as one of several workers; how many images are with others.
fn all<E: Encoder + Sync>(
    job: &Extraction<'_>,
    place: Option<&Place>,
    encoder: &E,
    out: &Path,
    device: &Device,
    on: impl FnMut(usize, usize),
) -> Result<usize, ExtractError> {
    match place {
        None => job.run(encoder, out, device, on).map(|()| 0),
        Some(place) => job.run_as(place, encoder, out, device, on),
    }
}

impl ExtractArgs {
    /// That several rows of an image differ.
    fn check_draws(&self) -> Result<()> {
        let drawn = self.noise == NoiseArg::Seeded || self.latents == LatentsArg::Sampled;
        ensure!(
            self.draws == 1 || drawn,
            "--noise none has nothing to draw, so that {} draws would be the same row: leave --draws out",
            self.draws
        );
        ensure!(
            self.draw.checked_add(self.draws - 1).is_some(),
            "draws {} to {} of --draw and --draws are too many: the last draw is {}",
            self.draw,
            u64::from(self.draw) + u64::from(self.draws) - 1,
            u32::MAX
        );
        Ok(())
    }

    /// That a scheduler may start several of this command.
    pub(crate) fn check_shared(&self) -> Result<()> {
        ensure!(
            matches!(self.worker, WorkerArg::Auto),
            "leave --worker out: each worker finds its place by what the scheduler tells it"
        );
        ensure!(
            self.keep_latents.is_none(),
            "leave --keep-latents out: it is for one process"
        );
        Ok(())
    }

    /// Every timestep, block and pool.
    fn wanted(&self, taps: &[TapInfo]) -> Result<Vec<Setting>> {
        let mut wanted = Vec::new();
        let steps: Vec<Option<usize>> = match &self.backbone {
            Some(_) => vec![None],
            None => self.t.iter().copied().map(Some).collect(),
        };
        for t in steps {
            for &pool in &self.pool {
                for block in &self.block {
                    match *block {
                        BlockArg::One(block) => {
                            let block = BlockIndex::new(block).with_context(|| {
                                let last = taps.len();
                                format!(
                                    "block 0 does not exist: this network has blocks 1..={last}"
                                )
                            })?;
                            let pool = PoolSize::new(pool)?;
                            wanted.push(Setting { t, block, pool });
                        }
                        BlockArg::All => {
                            for tap in taps {
                                let pool = PoolSize::new(pool.min(tap.height).min(tap.width))?;
                                let block = tap.block;
                                wanted.push(Setting { t, block, pool });
                            }
                        }
                    }
                }
            }
        }
        Ok(wanted)
    }
}

/// `count` of `len` indices, at equal distances from the first on; all of them if there are fewer.
pub(crate) fn spread(len: usize, count: usize) -> Vec<usize> {
    let count = count.min(len);
    (0..count).map(|i| i * len / count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_spreads_over_the_split() {
        assert_eq!(spread(10, 5), [0, 2, 4, 6, 8]);
        assert_eq!(spread(10, 3), [0, 3, 6]);
        assert_eq!(spread(2, 5), [0, 1]);
        assert!(spread(0, 5).is_empty() && spread(5, 0).is_empty());
    }
}
