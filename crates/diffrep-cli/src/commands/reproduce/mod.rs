//! `diffrep reproduce`: runs an experiment file and writes its report.

mod contest;
pub(crate) mod cost;
mod denoising;
mod document;
mod ensemble;
mod features;
mod finished;
mod generation;
mod heads;
mod jobs;
mod launcher;
mod pictures;
mod plan;
mod probe;
pub(crate) mod protocol;
mod reader;
mod results;
pub(crate) mod select;
mod similarity;
pub(crate) mod told;
mod transfer;
mod tune;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use clap::Args;
use diffrep_artifact::{
    Host, Lock, Provenance, Record, Sha256Hex, create_dir_all, remove_stale_temps, unix_now,
};
use diffrep_datasets::{Dataset, Preprocess, Split, balanced_subset};
use diffrep_extract::Setting;
use diffrep_import::load;
use diffrep_plan::{DataSource, Described, PAPER, Plan, PlannedBackbone, Published, Roots};
use diffrep_pool::PoolSize;
use diffrep_pretrain::TrainingRecord;
use diffrep_probe::{Progress, Splits, Study, Subject};
use diffrep_report::{Cell, Column, Table};
use diffrep_schedule::{ProcessSpec, Schedule};
use diffrep_unet::UNet;

use self::jobs::Job;
use self::launcher::LauncherArgs;
use crate::commands::data::DataArgs;
use crate::commands::input::{preprocess_of, process_of, training_record};
use crate::commands::report;
use crate::device::DeviceSpec;
use crate::printer::Printer;

/// Run experiments of the paper and write their reports.
///
/// Results of each lie in runs/NAME-SCALE: `report.html`, `report.md`, `results.json`, and for a probe
/// its head as `head.safetensors` for `diffrep classify`. Features and finished steps lie in runs/features
/// and runs/steps, where experiments share them: what two of them need is computed once, and nothing when
/// the same command is given again. After several experiments, runs/report.html, runs/report.md and
/// runs/results.json are about all of them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep reproduce --quick\n  \
    diffrep reproduce table1 figure1\n  \
    diffrep reproduce table1 --scale paper --device cuda:0\n  \
    diffrep reproduce --scale paper --dry-run --rate 20\n  \
    diffrep reproduce --scale paper --data /sets --checkpoints /models --device cuda:0\n  \
    diffrep reproduce figure1 --scale paper --device cuda:0 --launcher local --workers 4\n  \
    diffrep reproduce --scale paper --device cuda:0 --launcher slurm --workers 16 --gpus 1 --submit")]
pub(crate) struct ReproduceArgs {
    /// Experiments by name (figure1 to figure7, table1 to table4, table6, ensemble, select), or TOML
    /// files of your own, as for `diffrep run`; all that have the scale without it.
    /// `smoke` is `figure2` at a scale that proves the pipeline in under a minute.
    experiments: Vec<String>,
    /// Which scale of the experiments.
    #[arg(long, default_value = "mini")]
    scale: String,
    /// The quick version of the scale (`mini-quick`).
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    how: HowArgs,
}

/// Run experiments of your own: TOML files that name your data and your checkpoint.
///
/// A file is written like those of the paper's experiments, its kinds and keys are theirs, and it is run as
/// they are by `diffrep reproduce`: results lie in runs/NAME-SCALE, what is done is not done again, and what
/// lacks a file is left out with the way to it. Paths in a file begin at its folder. Claims of the file
/// (`[[claims]]`) stay with its results, where `diffrep report` judges them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep run mine.toml\n  \
    diffrep run mine.toml --scale first --device cuda:0\n  \
    diffrep run mine.toml --data /sets --checkpoints /models\n\n\
    A file of the least length:\n\n  \
    kind = \"probe\"\n  \
    name = \"mine\"\n  \
    title = \"How good a classifier is hidden in my network?\"\n\n  \
    [scales.first]\n  \
    checkpoint = \"model.pt\"\n  \
    data = \"photos\"\n  \
    timesteps = [10, 30, 90, 300]\n  \
    blocks = []\n  \
    pools = [1, 2, 4]\n  \
    sweep_train_per_class = 100\n  \
    sweep_validation_per_class = 50\n  \
    pixel_pools = [8, 16]\n  \
    random_networks = 1\n  \
    random_networks_swept = 1\n  \
    seeds = [0, 1, 2]\n  \
    recipe = \"mini\"\n  \
    sweep_recipe = \"mini-sweep\"")]
pub(crate) struct RunArgs {
    /// The files.
    #[arg(required = true, value_name = "FILE.toml")]
    files: Vec<PathBuf>,
    /// Which scale of the files; the only one without it.
    #[arg(long)]
    scale: Option<String>,
    #[command(flatten)]
    how: HowArgs,
}

/// How experiments are run, whosever they are.
#[derive(Debug, Args)]
struct HowArgs {
    /// The folder that stands for `data` at the beginning of paths in experiments.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The folder that stands for `checkpoints` at the beginning of paths in experiments.
    #[arg(long, value_name = "DIR")]
    checkpoints: Option<PathBuf>,
    /// Folder under which runs lie.
    #[arg(long, default_value = "runs")]
    runs: PathBuf,
    /// Where to compute: flex, cuda:N, tch.
    #[arg(long, default_value = "flex")]
    device: DeviceSpec,
    /// Seeds 0 to N - 1 in place of those that experiments name (a search draws its images by them). Experiments
    /// that name none are what they are.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: Option<u64>,
    /// Print the plan and do nothing: all that is missing with the way to it, every step with its key, what
    /// is on disk or shared, forwards, operations, hours and disk.
    #[arg(long)]
    dry_run: bool,
    /// Images a second for the hours of the plan, up to the block that it names; measured without it.
    #[arg(long, value_name = "IMAGES_PER_S", requires = "dry_run", value_parser = rate)]
    rate: Option<f64>,
    #[command(flatten)]
    launcher: LauncherArgs,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text
        .parse()
        .ok()
        .filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "images a second are a number above 0".into())
}

/// Where an experiment runs.
struct Place<'a> {
    /// Folder of its results.
    dir: &'a Path,
    /// Folder of the steps and features of all experiments.
    shared: &'a Path,
    /// Where its files are.
    roots: &'a Roots,
    /// Its own words, for its record, if it is none of this program's.
    words: Option<Described>,
    device: &'a Device,
    spec: DeviceSpec,
    printer: Printer,
}

impl ReproduceArgs {
    /// Whether several of this command may be started to share its work.
    pub(crate) fn shares_work(&self) -> bool {
        self.how.launcher.features_only
    }
}

impl RunArgs {
    /// Whether several of this command may be started to share its work.
    pub(crate) fn shares_work(&self) -> bool {
        self.how.launcher.features_only
    }
}

impl Place<'_> {
    /// A network of another kind with paths that can be opened.
    fn network(&self, planned: &PlannedBackbone) -> PlannedBackbone {
        let mut network = planned.clone();
        network.checkpoint = self.roots.find(&planned.checkpoint);
        if let Some(file) = planned.description() {
            network.backbone = self.roots.find(file).display().to_string();
        }
        network
    }
}

/// `diffrep reproduce`; `tensorboard` is the folder of event files, for what a cluster is told.
pub(crate) fn run(
    args: &ReproduceArgs,
    tensorboard: Option<&Path>,
    printer: Printer,
) -> Result<()> {
    perform(jobs::reproduced(args)?, &args.how, tensorboard, printer)
}

/// `diffrep run`; `tensorboard` as for [`run`].
pub(crate) fn run_own(args: &RunArgs, tensorboard: Option<&Path>, printer: Printer) -> Result<()> {
    perform(jobs::own(args)?, &args.how, tensorboard, printer)
}

fn perform(
    jobs: Vec<Job>,
    how: &HowArgs,
    tensorboard: Option<&Path>,
    printer: Printer,
) -> Result<()> {
    jobs::apart(&jobs)?;
    if how.dry_run {
        return plan::show(&jobs, how, printer);
    }
    let (ready, lacking) = jobs::with_assets(jobs)?;
    if ready.is_empty() {
        bail!("nothing can be run:\n{}", lacking.join("\n"));
    }
    for lacking in &lacking {
        printer.say(lacking);
    }
    if how.launcher.features_only {
        return share_features(&ready, how, printer);
    }
    if !launcher::launch(&ready, how, tensorboard, printer)? {
        return Ok(());
    }
    let device = how.device.open()?;
    create_dir_all(&how.runs)?;
    let _lock = Lock::acquire(&how.runs)?;
    clean(&how.runs, &["", "steps", "trainings", "samples"])?;
    for job in &ready {
        let (plan, scale) = (&job.plan, &job.scale);
        let dir = job.dir(&how.runs);
        create_dir_all(&dir)?;
        clean(&dir, &["", "figures"])?;
        let place = Place {
            dir: &dir,
            shared: &how.runs,
            roots: &job.roots,
            words: plan.own_words(),
            device: &device,
            spec: how.device,
            printer,
        };
        if ready.len() > 1 {
            printer.say(&format!("{}: {}", plan.name(), plan.title()));
        }
        let meter = cost::Meter::begin();
        match plan {
            Plan::Probe(experiment) => probe::run(experiment, scale, &place)?,
            Plan::Heads(experiment) => heads::run(experiment, scale, &place)?,
            Plan::Tune(experiment) => tune::run(experiment, scale, &place)?,
            Plan::Ensemble(experiment) => ensemble::run(experiment, scale, &place)?,
            Plan::Select(experiment) => select::run(experiment, scale, &place)?,
            Plan::Transfer(experiment) => transfer::run(experiment, scale, &place)?,
            Plan::Similarity(experiment) => similarity::run(experiment, scale, &place)?,
            Plan::Denoising(experiment) => denoising::run(experiment, scale, &place)?,
        }
        meter.end(&dir)?;
    }
    if ready.len() > 1 {
        collate(&ready, &how.runs, printer)?;
    }
    if !lacking.is_empty() {
        bail!(
            "{} of {} experiments were left out for what they lack (above)",
            lacking.len(),
            lacking.len() + ready.len()
        );
    }
    Ok(())
}

/// Removes from some folders in `dir` what a process that was killed had begun to write.
fn clean(dir: &Path, folders: &[&str]) -> Result<()> {
    for folder in folders {
        let folder = dir.join(folder);
        if folder.exists() {
            remove_stale_temps(&folder)?;
        }
    }
    Ok(())
}

/// Extracts what experiments store, as one of several workers.
fn share_features(jobs: &[Job], how: &HowArgs, printer: Printer) -> Result<()> {
    let worker = how.launcher.place()?;
    printer.say(&worker.to_string());
    let device = how.device.open()?;
    create_dir_all(&how.runs)?;
    let _lock = Lock::share(&how.runs)?;
    let mut others = 0;
    for job in jobs {
        let dir = job.dir(&how.runs);
        let place = Place {
            dir: &dir,
            shared: &how.runs,
            roots: &job.roots,
            words: None,
            device: &device,
            spec: how.device,
            printer,
        };
        others += features::extract(&job.plan, &job.scale, &worker, &place)?;
    }
    if printer.json() {
        let said =
            serde_json::json!({ "worker": worker.to_string(), "with_other_workers": others });
        printer.result(&serde_json::to_string_pretty(&said)?);
    } else if others > 0 {
        printer.result(&format!("{others} images are with other workers"));
    }
    Ok(())
}

/// One page over all experiments of this run.
fn collate(jobs: &[Job], runs: &Path, printer: Printer) -> Result<()> {
    let known: Vec<&Plan> = jobs.iter().map(|job| &job.plan).collect();
    let told = jobs
        .iter()
        .map(|job| told::Told::read(&job.dir(runs), &known));
    let mut told: Vec<told::Told> = told.collect::<Result<_>>()?;
    let pages = report::write(&mut told, &runs.join("report.html"), report::Extent::Whole)?;
    printer.say(&format!("all of them: {}", pages.page.display()));
    Ok(())
}

/// What every experiment stands on: the frozen network and how images reach it.
struct Ground {
    network: UNet,
    sha256: Sha256Hex,
    training: Option<TrainingRecord>,
    preprocess: Preprocess,
    process: ProcessSpec,
    schedule: Schedule,
}

impl Ground {
    fn open(checkpoint: &Path, scale: &str, place: &Place<'_>) -> Result<Self> {
        let encoder = load(&place.roots.find(checkpoint), None, place.device)
            .with_context(|| format!("the diffusion model of scale {scale}"))?;
        let training = training_record(&encoder.metadata)?;
        let network = encoder.network;
        let process = process_of(&encoder.metadata, network.config())?;
        Ok(Self {
            preprocess: preprocess_of(training.as_ref(), network.config(), None)?,
            sha256: encoder.sha256,
            network,
            training,
            process,
            schedule: process.schedule()?,
        })
    }

    /// It, as a network that is studied.
    fn reader<'a>(&'a self, place: &Place<'a>) -> reader::Reader<'a, UNet> {
        reader::Reader {
            study: self.study(place),
            subject: Subject {
                name: "diffusion".into(),
                encoder: &self.network,
                hash: self.sha256.to_string(),
            },
        }
    }

    /// A study on it, whose steps and features are shared with other experiments.
    fn study<'a>(&'a self, place: &Place<'a>) -> Study<'a> {
        Study {
            dir: place.shared,
            preprocess: self.preprocess,
            schedule: &self.schedule,
            device: place.device,
            workers: place.spec.workers(),
        }
    }

    /// Results with everything that produced them.
    fn record<T>(
        &self,
        (schema, version): (&str, u32),
        config_sha256: Sha256Hex,
        splits: &Splits,
        seed: Option<u64>,
        device: DeviceSpec,
        data: T,
    ) -> Result<Record<T>> {
        Ok(Record {
            schema: schema.into(),
            version,
            created_unix: unix_now(),
            provenance: Provenance {
                diffrep_version: env!("CARGO_PKG_VERSION").into(),
                command: std::env::args().collect(),
                config_sha256,
                checkpoint_sha256: Some(self.sha256.clone()),
                data_sha256: Some(splits.train.fingerprint()?),
                seed,
                device: device.to_string(),
                host: Host::current(),
            },
            data,
        })
    }
}

/// The splits of a data set, with the official validation split or a tenth of the training images,
/// and with so many images a class of training and test split.
fn splits(
    source: &DataSource,
    place: &Place<'_>,
    train_per_class: Option<usize>,
    test_per_class: Option<usize>,
) -> Result<Splits> {
    let path = place.roots.find(source.path());
    let data = DataArgs::planned(&path, source.known())?;
    if !data.has_test()? {
        bail!(
            "{} has no test split: add t10k-* files or a test folder",
            path.display()
        );
    }
    let (train, validation) = data.train_and_validation()?;
    let test = data.open(Split::Test)?;
    let cut = |dataset: Dataset, per_class: Option<usize>| -> Result<Dataset> {
        let dataset = match source.classes() {
            None => dataset,
            Some(classes) => dataset.only_classes(classes)?,
        };
        Ok(match per_class {
            None => dataset,
            Some(n) => dataset.subset(&balanced_subset(dataset.labels(), n, 0)?),
        })
    };
    Ok(Splits {
        train: cut(train, train_per_class)?,
        validation: cut(validation, None)?,
        test: cut(test, test_per_class)?,
    })
}

fn setting(t: Option<usize>, block: usize, pool: usize) -> Result<Setting> {
    let block = diffrep_taps::BlockIndex::new(block).context("blocks are counted from 1")?;
    Ok(Setting {
        t,
        block,
        pool: PoolSize::new(pool)?,
    })
}

/// Runs a step with its progress shown.
pub(crate) fn watched<T, E: Into<anyhow::Error>>(
    printer: Printer,
    step: impl FnOnce(&mut (dyn FnMut(Progress<'_>) + Send)) -> Result<T, E>,
) -> Result<T> {
    let mut shown: Option<(String, crate::printer::Progress)> = None;
    let result = step(&mut |progress| match progress {
        Progress::Skipped { name } => printer.say(&format!("{name}: done before")),
        Progress::At { name, done, total } => {
            if shown.as_ref().is_none_or(|(title, _)| title != name) {
                if let Some((_, old)) = shown.take() {
                    old.finish();
                }
                shown = Some((name.to_string(), printer.progress(name, total as u64)));
            }
            if let Some((_, progress)) = &mut shown {
                progress.at(done as u64, "");
            }
        }
    });
    if let Some((_, progress)) = shown {
        progress.finish();
    }
    result.map_err(Into::into)
}

/// What papers print, in a sentence, where it is not what this scale is held to.
fn orientation(scale: &str, published: &[Published]) -> String {
    if scale == PAPER || published.is_empty() {
        return String::new();
    }
    let values: Vec<String> = published
        .iter()
        .map(|value| format!("{}: {:.2} %", value.name, value.top1))
        .collect();
    format!(
        "For orientation only, another model on other data: {}.",
        values.join("; ")
    )
}

/// What was measured, by contender, beside what is published for it, at the scale at which they are to
/// agree.
fn against_published(
    scale: &str,
    published: &[Published],
    measured: &[(&str, f64)],
) -> Option<Table> {
    if scale != PAPER {
        return None;
    }
    let rows = published.iter().filter_map(|published| {
        let name = published.contender.as_deref()?;
        let (_, measured) = measured.iter().find(|(measured, _)| *measured == name)?;
        let measured = measured * 100.0;
        let gap = measured - published.top1;
        let within = published.allowed_gap.map(|allowed| gap.abs() <= allowed);
        Some(vec![
            Cell::text(published.name.clone()),
            Cell::number(published.top1, 2),
            Cell::number(measured, 2),
            Cell::number(gap, 2),
            published
                .allowed_gap
                .map_or_else(Cell::missing, |allowed| Cell::number(allowed, 2)),
            within.map_or_else(Cell::missing, |yes| {
                Cell::text(if yes { "yes" } else { "no" })
            }),
        ])
    });
    let rows: Vec<_> = rows.collect();
    (!rows.is_empty()).then(|| Table {
        caption: "Measured against published top-1 accuracy.".into(),
        columns: vec![
            Column::text("published"),
            Column::number("top-1").with_unit("%"),
            Column::number("measured").with_unit("%"),
            Column::number("gap").with_unit("points"),
            Column::number("allowed").with_unit("points"),
            Column::text("within"),
        ],
        rows,
        highlight: Vec::new(),
    })
}
