//! `diffrep reproduce`: runs an experiment file and writes its report.

mod document;
mod pictures;
mod protocol;
mod results;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use clap::Args;
use diffrep_artifact::{
    Host, Lock, Provenance, Record, Sha256Hex, create_dir_all, unix_now, write_bytes_atomic,
    write_record,
};
use diffrep_datasets::{
    Dataset, HoldOut, Preprocess, Split, available_splits, balanced_subset, hold_out, open,
};
use diffrep_extract::{Pixels, Setting, Settings};
use diffrep_import::load;
use diffrep_plan::{Experiment, Scale};
use diffrep_pool::PoolSize;
use diffrep_probe::{
    Cell, Final, HeadInfo, Progress, Recipe, SavedHead, Splits, Study, Subject, Trained, choose,
};
use diffrep_schedule::{Schedule, ScheduleKind};
use diffrep_taps::{Encoder, TapInfo};
use diffrep_unet::{UNet, random_network};

use crate::commands::input::{preprocess_of, schedule_of, training_record};
use crate::device::DeviceSpec;
use crate::printer::{Printer, human_duration};
use results::{Encoding, RESULTS_SCHEMA, RESULTS_VERSION, Results, SubjectResult};

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
    /// Experiments by name, or TOML files of your own; all that exist without it. `smoke` is the
    /// first experiment at a scale that proves the pipeline in under a minute.
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
    let named: Vec<(String, String)> = match args.experiments.as_slice() {
        [] => diffrep_plan::known()
            .map(|name| (name.to_string(), scale.clone()))
            .collect(),
        names => names
            .iter()
            .map(|name| match name.as_str() {
                "smoke" => ("probe".into(), "smoke".into()),
                _ => (name.clone(), scale.clone()),
            })
            .collect(),
    };
    let device = args.device.open()?;
    for (name, scale) in &named {
        let experiment = Experiment::named(name)?;
        let dir = if experiment.name == "probe" {
            args.runs.join(scale)
        } else {
            args.runs.join(format!("{}-{scale}", experiment.name))
        };
        one(&experiment, scale, &dir, &device, args.device, printer)?;
    }
    Ok(())
}

/// Runs one experiment at one scale and writes its results and report.
fn one(
    experiment: &Experiment,
    scale_name: &str,
    dir: &Path,
    device: &Device,
    spec: DeviceSpec,
    printer: Printer,
) -> Result<()> {
    let start = Instant::now();
    let scale = experiment.scale(scale_name)?;
    create_dir_all(dir)?;
    let _lock = Lock::acquire(dir)?;
    let encoder = load(&scale.checkpoint, None, device)
        .with_context(|| format!("the diffusion model of scale {scale_name}"))?;
    let network = encoder.network;
    let training = training_record(&encoder.metadata)?;
    let preprocess = preprocess_of(training.as_ref(), network.config(), None)?;
    let kind = schedule_of(training.as_ref(), network.config());
    let schedule = Schedule::new(kind, 1000);
    let (splits, sweep_splits) = read_splits(scale)?;
    let (recipe, sweep_recipe) = (
        Recipe::named(&scale.recipe)?,
        Recipe::named(&scale.sweep_recipe)?,
    );
    let study = Study {
        dir,
        preprocess,
        schedule: &schedule,
        device,
        workers: spec.workers(),
    };
    let runner = Runner {
        study,
        scale,
        splits,
        sweep_splits,
        recipe,
        sweep_recipe,
        printer,
    };

    let subject = Subject {
        name: "diffusion".into(),
        encoder: &network,
        hash: encoder.sha256.to_string(),
    };
    let (diffusion, heads) = runner.subject(&subject, &runner.swept(&network.taps())?)?;

    let size = network.config().image_size;
    let pixels = Pixels {
        channels: network.config().in_channels,
        size,
    };
    let subject = Subject {
        name: "pixels".into(),
        encoder: &pixels,
        hash: "pixels".into(),
    };
    let (pixels, _) = runner.subject(&subject, &[runner.pixel_settings(&pixels.taps())?])?;

    let random = runner.random_networks(&network, device)?;

    let results = Results::new(
        scale_name,
        experiment,
        &runner.recipe,
        &runner.sweep_recipe,
        network.taps(),
        Encoding {
            preprocess,
            schedule: kind,
            timesteps: schedule.timestep_map.len(),
            training,
        },
        vec![diffusion, pixels, random],
        &runner.splits,
    )?;
    save_head(
        results
            .subjects
            .first()
            .and_then(|subject| subject.finals.first())
            .zip(heads.first()),
        &runner.splits.train,
        &encoder.sha256,
        (preprocess, kind),
        &runner.recipe,
        dir,
    )?;
    let record = Record {
        schema: RESULTS_SCHEMA.into(),
        version: RESULTS_VERSION,
        created_unix: unix_now(),
        provenance: Provenance {
            diffrep_version: env!("CARGO_PKG_VERSION").into(),
            command: std::env::args().collect(),
            config_sha256: Sha256Hex::hash_json(scale)?,
            checkpoint_sha256: Some(encoder.sha256.clone()),
            data_sha256: Some(runner.splits.train.fingerprint()?),
            seed: scale.seeds.first().copied(),
            device: spec.to_string(),
            host: Host::current(),
        },
        data: results,
    };
    write_record(dir.join("results.json"), &record)?;
    let noised = pictures::noised(
        &runner.splits.train,
        &preprocess,
        &schedule,
        &scale.timesteps,
    )?;
    let samples = pictures::samples(&scale.checkpoint);
    let report = document::build(experiment, scale, &record, noised, samples);
    diffrep_report::check(&report)?;
    write_bytes_atomic(
        dir.join("report.html"),
        diffrep_report::to_html(&report).as_bytes(),
    )?;
    write_bytes_atomic(
        dir.join("report.md"),
        diffrep_report::to_markdown(&report, "figures").as_bytes(),
    )?;
    create_dir_all(dir.join("figures"))?;
    for (name, bytes) in diffrep_report::assets(&report) {
        write_bytes_atomic(dir.join("figures").join(name), &bytes)?;
    }
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&record)?);
    } else {
        printer.result(&document::terminal(&record.data));
    }
    printer.say(&format!(
        "report: {} ({})",
        dir.join("report.html").display(),
        human_duration(start.elapsed().as_secs_f64())
    ));
    Ok(())
}

/// The final splits, and the smaller training and validation splits of the sweep (its test split is
/// the validation split: the sweep never sees test images).
fn read_splits(scale: &Scale) -> Result<(Splits, Splits)> {
    let available = available_splits(&scale.data)?;
    let all_train = open(&scale.data, Split::Train)?;
    if !available.contains(&Split::Test) {
        bail!(
            "{} has no test split: add t10k-* files or a test folder",
            scale.data.display()
        );
    }
    let (train, validation) = if available.contains(&Split::Validation) {
        (all_train, open(&scale.data, Split::Validation)?)
    } else {
        let (train, validation) = hold_out(all_train.labels(), HoldOut::Fraction(0.1), 0)?;
        (all_train.subset(&train), all_train.subset(&validation))
    };
    let test = open(&scale.data, Split::Test)?;
    let cut = |dataset: &Dataset, per_class: Option<usize>| -> Result<Dataset> {
        Ok(match per_class {
            None => dataset.clone(),
            Some(n) => dataset.subset(&balanced_subset(dataset.labels(), n, 0)?),
        })
    };
    let splits = Splits {
        train: cut(&train, scale.train_per_class)?,
        validation: validation.clone(),
        test: cut(&test, scale.test_per_class)?,
    };
    let validation = cut(&validation, Some(scale.sweep_validation_per_class))?;
    let sweep = Splits {
        train: cut(&train, Some(scale.sweep_train_per_class))?,
        test: validation.clone(),
        validation,
    };
    Ok((splits, sweep))
}

struct Runner<'a> {
    study: Study<'a>,
    scale: &'a Scale,
    splits: Splits,
    sweep_splits: Splits,
    recipe: Recipe,
    sweep_recipe: Recipe,
    printer: Printer,
}

impl Runner<'_> {
    /// The settings of the sweep, one group a timestep, so that features of one timestep are on disk
    /// at a time.
    fn swept(&self, taps: &[TapInfo]) -> Result<Vec<Settings>> {
        let blocks: Vec<usize> = match self.scale.blocks.as_slice() {
            [] => taps.iter().map(|tap| tap.block.get()).collect(),
            blocks => blocks.to_vec(),
        };
        self.scale
            .timesteps
            .iter()
            .map(|&t| {
                let mut settings = Vec::new();
                for &block in &blocks {
                    for &pool in &self.scale.pools {
                        let tap = taps.iter().find(|tap| tap.block.get() == block);
                        let fits = tap.is_none_or(|tap| pool <= tap.height.min(tap.width));
                        if fits {
                            settings.push(setting(Some(t), block, pool)?);
                        }
                    }
                }
                Ok(Settings::new(settings, taps, self.study.schedule)?)
            })
            .collect()
    }

    fn pixel_settings(&self, taps: &[TapInfo]) -> Result<Settings> {
        let wanted: Result<Vec<_>> = self
            .scale
            .pixel_pools
            .iter()
            .map(|&pool| setting(None, 1, pool))
            .collect();
        Ok(Settings::new(wanted?, taps, self.study.schedule)?)
    }

    fn sweep<E: Encoder + Sync>(
        &self,
        subject: &Subject<'_, E>,
        groups: &[Settings],
    ) -> Result<Vec<Cell>> {
        let mut cells = Vec::new();
        for settings in groups {
            let found = self.watched(|on| {
                self.study.sweep(
                    subject,
                    &self.sweep_splits,
                    settings,
                    &self.sweep_recipe,
                    on,
                )
            })?;
            cells.extend(found);
        }
        Ok(cells)
    }

    fn score<E: Encoder + Sync>(
        &self,
        subject: &Subject<'_, E>,
        setting: Setting,
        seed: u64,
    ) -> Result<(Final, Trained)> {
        let settings = Settings::new([setting], &subject.encoder.taps(), self.study.schedule)?;
        self.watched(|on| {
            self.study
                .score(subject, &self.splits, &settings, &self.recipe, seed, on)
        })
    }

    /// Sweep, choice, final scores and heads of one encoder.
    fn subject<E: Encoder + Sync>(
        &self,
        subject: &Subject<'_, E>,
        groups: &[Settings],
    ) -> Result<(SubjectResult, Vec<Trained>)> {
        let cells = self.sweep(subject, groups)?;
        let chosen = choose(&cells).context("the sweep has no cell")?.setting;
        let scored: Vec<(Final, Trained)> = self
            .scale
            .seeds
            .iter()
            .map(|&seed| self.score(subject, chosen, seed))
            .collect::<Result<_>>()?;
        let (finals, heads) = scored.into_iter().unzip();
        let result = SubjectResult {
            name: subject.name.clone(),
            cells: vec![cells],
            finals,
        };
        Ok((result, heads))
    }

    /// The same network with random weights, tuned over the same grid; each is scored with a seed of
    /// its own. Networks that are not swept take the best setting of those that are.
    fn random_networks(&self, network: &UNet, device: &Device) -> Result<SubjectResult> {
        let mut result = SubjectResult {
            name: "random".into(),
            cells: Vec::new(),
            finals: Vec::new(),
        };
        let mut shared: Option<Cell> = None;
        for index in 0..self.scale.random_networks {
            let weights_seed = index as u64;
            let control = random_network(network.config(), weights_seed, device)?;
            let config = Sha256Hex::hash_json(network.config())?;
            let subject = Subject {
                name: format!("random-{index}"),
                encoder: &control,
                hash: format!("random:{weights_seed}:{config}"),
            };
            if index < self.scale.random_networks_swept {
                let cells = self.sweep(&subject, &self.swept(&control.taps())?)?;
                let chosen = choose(&cells).context("the sweep has no cell")?.clone();
                if shared
                    .as_ref()
                    .is_none_or(|best| chosen.accuracy > best.accuracy)
                {
                    shared = Some(chosen.clone());
                }
                let seed = self.scale.seeds[index % self.scale.seeds.len()];
                let (score, _) = self.score(&subject, chosen.setting, seed)?;
                result.finals.push(score);
                result.cells.push(cells);
            } else {
                let setting = shared
                    .as_ref()
                    .context("no random network was swept")?
                    .setting;
                let seed = self.scale.seeds[index % self.scale.seeds.len()];
                let (score, _) = self.score(&subject, setting, seed)?;
                result.finals.push(score);
            }
        }
        Ok(result)
    }

    /// Runs a step with its progress shown.
    fn watched<T>(
        &self,
        step: impl FnOnce(&mut (dyn FnMut(Progress<'_>) + Send)) -> Result<T, diffrep_probe::ProbeError>,
    ) -> Result<T> {
        let mut shown: Option<(String, crate::printer::Progress)> = None;
        let printer = self.printer;
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
}

fn setting(t: Option<usize>, block: usize, pool: usize) -> Result<Setting> {
    let block = diffrep_taps::BlockIndex::new(block).context("blocks are counted from 1")?;
    Ok(Setting {
        t,
        block,
        pool: PoolSize::new(pool)?,
    })
}

/// Writes the diffusion probe of the first seed for `diffrep classify`.
fn save_head(
    first: Option<(&Final, &Trained)>,
    train: &Dataset,
    encoder: &Sha256Hex,
    (preprocess, schedule): (Preprocess, ScheduleKind),
    recipe: &Recipe,
    dir: &Path,
) -> Result<()> {
    let Some((chosen, head)) = first else {
        return Ok(());
    };
    let info = HeadInfo {
        classes: train.class_names().to_vec(),
        encoder_sha256: encoder.to_string(),
        setting: chosen.setting,
        schedule,
        timesteps: 1000,
        preprocess,
        noise_seed: chosen.seed,
        recipe: recipe.clone(),
        point: chosen.point,
        validation_accuracy: chosen.validation,
    };
    Ok(SavedHead::new(head, info).write(&dir.join("head.safetensors"))?)
}
