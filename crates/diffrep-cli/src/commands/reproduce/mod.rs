//! `diffrep reproduce`: runs an experiment file and writes its report.

mod contest;
pub(crate) mod cost;
mod denoising;
mod document;
mod ensemble;
mod finished;
mod generation;
mod heads;
mod pictures;
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
use diffrep_artifact::{Host, Lock, Provenance, Record, Sha256Hex, create_dir_all, unix_now};
use diffrep_datasets::{Dataset, Preprocess, Split, balanced_subset};
use diffrep_extract::Setting;
use diffrep_import::load;
use diffrep_plan::{DataSource, PAPER, Plan, Published};
use diffrep_pool::PoolSize;
use diffrep_pretrain::TrainingRecord;
use diffrep_probe::{Progress, Splits, Study, Subject};
use diffrep_report::{Cell, Column, Table};
use diffrep_schedule::{ProcessSpec, Schedule};
use diffrep_unet::UNet;

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
    diffrep reproduce my-experiment.toml --scale mine")]
pub(crate) struct ReproduceArgs {
    /// Experiments by name (figure1 to figure7, table1 to table4, table6, ensemble,
    /// select), or TOML files of your own; all that have the scale without it. `smoke` is
    /// `figure2` at a scale that proves the pipeline in under a minute.
    experiments: Vec<String>,
    /// Which scale of the experiments.
    #[arg(long, default_value = "mini")]
    scale: String,
    /// The quick version of the scale (`mini-quick`).
    #[arg(long)]
    quick: bool,
    /// Folder under which runs lie.
    #[arg(long, default_value = "runs")]
    runs: PathBuf,
    /// Where to compute: flex, cuda:N, tch.
    #[arg(long, default_value = "flex")]
    device: DeviceSpec,
}

/// Where an experiment runs.
struct Place<'a> {
    /// Folder of its results.
    dir: &'a Path,
    /// Folder of the steps and features of all experiments.
    shared: &'a Path,
    device: &'a Device,
    spec: DeviceSpec,
    printer: Printer,
}

pub(crate) fn run(args: &ReproduceArgs, printer: Printer) -> Result<()> {
    let (plans, lacking) = with_assets(plans(args)?)?;
    if plans.is_empty() {
        bail!("nothing can be run:\n{}", lacking.join("\n"));
    }
    for lacking in &lacking {
        printer.say(lacking);
    }
    let device = args.device.open()?;
    create_dir_all(&args.runs)?;
    let _lock = Lock::acquire(&args.runs)?;
    for (plan, scale) in &plans {
        let dir = args.runs.join(format!("{}-{scale}", plan.name()));
        create_dir_all(&dir)?;
        let place = Place {
            dir: &dir,
            shared: &args.runs,
            device: &device,
            spec: args.device,
            printer,
        };
        if plans.len() > 1 {
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
    if plans.len() > 1 {
        collate(&plans, &args.runs, printer)?;
    }
    if !lacking.is_empty() {
        bail!(
            "{} of {} experiments were left out for what they lack (above)",
            lacking.len(),
            lacking.len() + plans.len()
        );
    }
    Ok(())
}

/// One page over all experiments of this run.
fn collate(plans: &[(Plan, String)], runs: &Path, printer: Printer) -> Result<()> {
    let known: Vec<&Plan> = plans.iter().map(|(plan, _)| plan).collect();
    let told = plans.iter().map(|(plan, scale)| {
        let dir = runs.join(format!("{}-{scale}", plan.name()));
        told::Told::read(&dir, &known)
    });
    let mut told: Vec<told::Told> = told.collect::<Result<_>>()?;
    let pages = report::write(&mut told, &runs.join("report.html"), report::Extent::Whole)?;
    printer.say(&format!("all of them: {}", pages.page.display()));
    Ok(())
}

/// The experiments whose files are all there, and what the others lack, a sentence each.
fn with_assets(plans: Vec<(Plan, String)>) -> Result<(Vec<(Plan, String)>, Vec<String>)> {
    let (mut ready, mut lacking) = (Vec::new(), Vec::new());
    for (plan, scale) in plans {
        let assets = plan.assets(&scale)?;
        let absent = assets.into_iter().filter(|path| !path.exists());
        let absent: Vec<String> = absent.map(hint).collect();
        match absent.as_slice() {
            [] => ready.push((plan, scale)),
            _ => lacking.push(format!(
                "{}: there is no {}",
                plan.name(),
                absent.join(", no ")
            )),
        }
    }
    Ok((ready, lacking))
}

/// A path that is not there, with the way to it.
fn hint(path: &Path) -> String {
    let shown = path.display();
    if path.starts_with("fixtures") {
        return format!(
            "{shown} (paths in experiments start at the folder in which the command runs: run it in the root of the \
             clone)"
        );
    }
    let Some(asset) = diffrep_fetch::find_path(path) else {
        return shown.to_string();
    };
    let folder = match asset.kind {
        diffrep_fetch::Kind::DataSet => path,
        diffrep_fetch::Kind::Checkpoint => path.parent().unwrap_or(path),
    };
    format!(
        "{shown} (`diffrep fetch {} --out {}`)",
        asset.name,
        folder.display()
    )
}

/// The experiments asked for, each with its scale.
fn plans(args: &ReproduceArgs) -> Result<Vec<(Plan, String)>> {
    let scale = if args.quick {
        format!("{}-quick", args.scale)
    } else {
        args.scale.clone()
    };
    if !args.experiments.is_empty() {
        if args.experiments.iter().any(|name| name == "smoke") && scale != "mini" {
            bail!(
                "`smoke` is a scale by itself: leave --scale and --quick out, or name an experiment"
            );
        }
        let named = args.experiments.iter().map(|name| match name.as_str() {
            "smoke" => Ok((Plan::named("figure2")?, "smoke".into())),
            _ => Ok((Plan::named(name)?, scale.clone())),
        });
        return named.collect();
    }
    let mut plans = Vec::new();
    for name in diffrep_plan::known() {
        plans.push((Plan::named(name)?, scale.clone()));
    }
    let has_scale = |(plan, scale): &(Plan, String)| plan.scales().contains(&scale.as_str());
    if plans.iter().any(has_scale) {
        plans.retain(has_scale);
    }
    Ok(plans)
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
    fn open(checkpoint: &Path, scale: &str, device: &Device) -> Result<Self> {
        let encoder = load(checkpoint, None, device).with_context(|| {
            let hint = if checkpoint.is_relative() && !checkpoint.exists() {
                " (paths in experiments start at the folder in which the command runs: run it in the \
                 root of the clone)"
            } else {
                ""
            };
            format!("the diffusion model of scale {scale}{hint}")
        })?;
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
    train_per_class: Option<usize>,
    test_per_class: Option<usize>,
) -> Result<Splits> {
    let data = DataArgs::planned(source.path(), source.known())?;
    if !data.has_test()? {
        bail!(
            "{} has no test split: add t10k-* files or a test folder",
            source.path().display()
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

/// So many validation images a class and no more.
fn fewer_to_validate(splits: &mut Splits, per_class: usize) -> Result<()> {
    let rows = balanced_subset(splits.validation.labels(), per_class, 0)?;
    splits.validation = splits.validation.subset(&rows);
    Ok(())
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
