//! `diffrep reproduce`: runs an experiment file and writes its report.

mod contest;
mod document;
mod ensemble;
mod heads;
mod pictures;
mod probe;
mod protocol;
mod results;
pub(crate) mod select;
mod tune;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use clap::Args;
use diffrep_artifact::{
    Host, Provenance, Record, Sha256Hex, create_dir_all, unix_now, write_bytes_atomic,
};
use diffrep_datasets::{Dataset, Preprocess, Split, available_splits, balanced_subset, open};
use diffrep_extract::Setting;
use diffrep_import::load;
use diffrep_plan::{Plan, Published};
use diffrep_pool::PoolSize;
use diffrep_pretrain::TrainingRecord;
use diffrep_probe::{Progress, Splits};
use diffrep_report::Report;
use diffrep_schedule::{Schedule, ScheduleKind};
use diffrep_unet::UNet;

use crate::commands::data::DataArgs;
use crate::commands::input::{preprocess_of, schedule_of, training_record};
use crate::device::DeviceSpec;
use crate::printer::Printer;

/// Run an experiment of the paper and write its report.
///
/// Results lie in runs/NAME: `report.html`, `report.md`, `results.json`, and the best linear probe
/// as `head.safetensors` for `diffrep classify`. Finished steps are skipped when the same command is
/// given again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep reproduce --quick\n  \
    diffrep reproduce probe --scale mini\n  \
    diffrep reproduce my-experiment.toml --scale mine --device cuda:0")]
pub(crate) struct ReproduceArgs {
    /// Experiments by name (probe, heads, table2, select, ensemble), or TOML files of your own; those
    /// that fit half an hour at the mini scale (probe, heads, ensemble) without it. `smoke` is the first
    /// experiment at a scale that proves the pipeline in under a minute.
    experiments: Vec<String>,
    /// Which scale of the experiment.
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

pub(crate) fn run(args: &ReproduceArgs, printer: Printer) -> Result<()> {
    let scale = if args.quick {
        format!("{}-quick", args.scale)
    } else {
        args.scale.clone()
    };
    let mut plans = Vec::new();
    if args.experiments.is_empty() {
        for name in diffrep_plan::known() {
            plans.push((Plan::named(name)?, scale.clone()));
        }
        // What has no such scale is left out, unless nothing has it.
        if plans
            .iter()
            .any(|(plan, scale)| plan.scales().contains(&scale.as_str()))
        {
            plans.retain(|(plan, scale)| plan.scales().contains(&scale.as_str()));
        }
        let (usual, others): (Vec<_>, Vec<_>) = plans
            .into_iter()
            .partition(|(plan, _)| diffrep_plan::USUAL.contains(&plan.name()));
        // A scale that only the others have is asked for them.
        if usual.is_empty() {
            plans = others;
        } else {
            plans = usual;
            if !others.is_empty() {
                let names: Vec<&str> = others.iter().map(|(plan, _)| plan.name()).collect();
                printer.say(&format!(
                    "run by name only, for their time: {}",
                    names.join(", ")
                ));
            }
        }
    }
    for name in &args.experiments {
        plans.push(match name.as_str() {
            "smoke" => (Plan::named("probe")?, "smoke".into()),
            _ => (Plan::named(name)?, scale.clone()),
        });
    }
    let device = args.device.open()?;
    for (plan, scale) in &plans {
        match plan {
            Plan::Probe(experiment) => {
                let dir = match experiment.name.as_str() {
                    "probe" => args.runs.join(scale),
                    name => args.runs.join(format!("{name}-{scale}")),
                };
                probe::run(experiment, scale, &dir, &device, args.device, printer)?;
            }
            Plan::Heads(experiment) => {
                let dir = args.runs.join(format!("{}-{scale}", experiment.name));
                heads::run(experiment, scale, &dir, &device, args.device, printer)?;
            }
            Plan::Tune(experiment) => {
                let dir = args.runs.join(format!("{}-{scale}", experiment.name));
                tune::run(experiment, scale, &dir, &device, args.device, printer)?;
            }
            Plan::Ensemble(experiment) => {
                let dir = args.runs.join(format!("{}-{scale}", experiment.name));
                ensemble::run(experiment, scale, &dir, &device, args.device, printer)?;
            }
            Plan::Select(experiment) => {
                let dir = args.runs.join(format!("{}-{scale}", experiment.name));
                select::run(experiment, scale, &dir, &device, args.device, printer)?;
            }
        }
    }
    Ok(())
}

/// What every experiment stands on: the frozen network and how images reach it.
struct Ground {
    network: UNet,
    sha256: Sha256Hex,
    training: Option<TrainingRecord>,
    preprocess: Preprocess,
    kind: ScheduleKind,
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
        let kind = schedule_of(training.as_ref(), network.config());
        Ok(Self {
            preprocess: preprocess_of(training.as_ref(), network.config(), None)?,
            sha256: encoder.sha256,
            network,
            training,
            kind,
            schedule: Schedule::new(kind, 1000),
        })
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
    data: &Path,
    train_per_class: Option<usize>,
    test_per_class: Option<usize>,
) -> Result<Splits> {
    let available = available_splits(data)?;
    if !available.contains(&Split::Test) {
        bail!(
            "{} has no test split: add t10k-* files or a test folder",
            data.display()
        );
    }
    let (train, validation) = DataArgs::of(data).train_and_validation()?;
    let test = open(data, Split::Test)?;
    let cut = |dataset: Dataset, per_class: Option<usize>| -> Result<Dataset> {
        Ok(match per_class {
            None => dataset,
            Some(n) => dataset.subset(&balanced_subset(dataset.labels(), n, 0)?),
        })
    };
    Ok(Splits {
        train: cut(train, train_per_class)?,
        validation,
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
pub(crate) fn watched<T>(
    printer: Printer,
    step: impl FnOnce(&mut (dyn FnMut(Progress<'_>) + Send)) -> Result<T, diffrep_probe::ProbeError>,
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
    Ok(result?)
}

/// `report.html`, `report.md` and the figures of the latter.
fn write_report(report: &Report, dir: &Path) -> Result<()> {
    diffrep_report::check(report)?;
    write_bytes_atomic(
        dir.join("report.html"),
        diffrep_report::to_html(report).as_bytes(),
    )?;
    write_bytes_atomic(
        dir.join("report.md"),
        diffrep_report::to_markdown(report, "figures").as_bytes(),
    )?;
    create_dir_all(dir.join("figures"))?;
    for (name, bytes) in diffrep_report::assets(report) {
        write_bytes_atomic(dir.join("figures").join(name), &bytes)?;
    }
    Ok(())
}

/// What papers print, in a sentence.
fn orientation(published: &[Published]) -> String {
    let values: Vec<String> = published
        .iter()
        .map(|value| format!("{}: {:.2} %", value.name, value.top1))
        .collect();
    format!(
        "For orientation only, another model on other data: {}.",
        values.join("; ")
    )
}
