use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Device;
use clap::Args;
use diffrep_artifact::Sha256Hex;
use diffrep_heads::HeadSpec;
use diffrep_probe::{
    Features, HeadInfo, HeadTraining, Maps, Point, Recipe, SavedHead, Trained, TrainedHead, best,
    best_head, correct, train_linear,
};
use diffrep_report::{Cell, Column, Table, to_terminal_table};
use diffrep_schedule::{Schedule, ScheduleKind};
use diffrep_stats::{Interval, Spread, wilson};
use diffrep_store::Store;
use serde::Serialize;

use crate::device::DeviceSpec;
use crate::printer::Printer;

/// Train heads on stored features and score the best one.
///
/// The recipe's whole grid is trained on each column, for linear heads in one pass. The column and the
/// head are chosen on the validation store; only they read the test store, once a seed. Heads other
/// than linear read a column as maps of the side that it was pooled to; the fusion head reads all
/// columns at once.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep probe --train f/train --validation f/validation --test f/test --recipe paper\n  \
    diffrep probe --train f/train --validation f/validation --column t90_b24_p2 --recipe my.toml --json\n  \
    diffrep probe --train f/train --validation f/validation --save head.safetensors\n  \
    diffrep probe --train f/train --validation f/validation --test f/test --column t90_b24_p16 \\\n      \
    --head attention --recipe mini-heads")]
pub(crate) struct ProbeArgs {
    /// Store to train on.
    #[arg(long)]
    train: PathBuf,
    /// Store to choose on.
    #[arg(long)]
    validation: PathBuf,
    /// Store to score the chosen head on.
    #[arg(long)]
    test: Option<PathBuf>,
    /// Columns, such as t10_b07_p4, separated by commas; all of them without it.
    #[arg(long, value_delimiter = ',')]
    column: Vec<String>,
    /// linear, mlp, cnn, attention, fusion (in the paper's proportions), or a TOML file such as
    /// `head = "cnn"`, `channels = [512, 256]`.
    #[arg(long, default_value = "linear")]
    head: String,
    /// Recipe by name (paper, ablation, mini, mini-heads, mini-sweep) or a TOML file.
    #[arg(long, default_value = "paper")]
    recipe: String,
    /// File for the head with the highest validation accuracy, for `diffrep classify`.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Names initial weights and batch order.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many seeds are trained on the chosen column, from --seed on.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Where to compute: flex, cuda:N, tch.
    #[arg(long, default_value = "flex")]
    device: DeviceSpec,
}

/// That two stores hold other images seen through the same encoder, schedule, preprocessing and
/// noise.
fn same_features((earlier, first): (&Path, &Store), (path, second): (&Path, &Store)) -> Result<()> {
    let (first, second) = (&first.spec().info, &second.spec().info);
    for part in ["encoder", "preprocess", "schedule", "noising"] {
        ensure!(
            first.get(part) == second.get(part),
            "the features in {} and {} are not of the same kind: their `{part}` differs \
             (manifest.json in each folder tells it)",
            earlier.display(),
            path.display()
        );
    }
    ensure!(
        first.get("data") != second.get("data"),
        "{} and {} hold the same images: a score must be on images that nothing was fitted or \
         chosen on",
        earlier.display(),
        path.display()
    );
    Ok(())
}

pub(crate) fn run(args: &ProbeArgs, printer: Printer) -> Result<()> {
    let device = args.device.open()?;
    let recipe = Recipe::named(&args.recipe)?;
    let (train, validation) = (Store::open(&args.train)?, Store::open(&args.validation)?);
    let test = args.test.as_deref().map(Store::open).transpose()?;
    let mut stores = vec![(&args.train, &train), (&args.validation, &validation)];
    stores.extend(args.test.iter().zip(&test));
    for (i, &(path, store)) in stores.iter().enumerate() {
        store.verify()?;
        for &(earlier, first) in &stores[..i] {
            same_features((earlier, first), (path, store))?;
        }
    }
    let classes = train
        .labels()
        .iter()
        .max()
        .context("the training store is empty")?
        + 1;
    ensure!(
        train
            .labels()
            .iter()
            .any(|label| *label != train.labels()[0]),
        "all images of {} are of one class: nothing can be told apart",
        args.train.display()
    );
    let bench = Bench {
        train: &train,
        validation: &validation,
        test: test.as_ref(),
        classes: classes as usize,
        recipe: &recipe,
        head: Wanted::read(&args.head)?,
        device: &device,
        workers: args.device.workers(),
        printer,
    };
    let mut fits = Vec::new();
    let groups = bench.groups(&args.column);
    for (index, group) in groups.iter().enumerate() {
        let title = format!("{} ({} of {})", group.join(" "), index + 1, groups.len());
        fits.push(bench.fit(group, args.seed, &title)?);
    }
    let best = (0..fits.len())
        .rev()
        .max_by(|&a, &b| fits[a].validation.total_cmp(&fits[b].validation))
        .context("there is no column to choose from")?;
    let group = &groups[best];
    if let Some(path) = &args.save {
        let (Fitted::Linear(head), [column]) = (&fits[best].head, group.as_slice()) else {
            bail!(
                "--save is for linear heads; {} heads cannot be saved yet",
                args.head
            );
        };
        let info = head_info(&train, column, head, &recipe, classes as usize)
            .with_context(|| format!("a head on {} cannot be saved", args.train.display()))?;
        SavedHead::new(head, info).write(path)?;
        printer.say(&format!("{}: head on {column}", path.display()));
    }
    let mut runs = Vec::new();
    for seed in args.seed..args.seed.saturating_add(args.seeds) {
        let again;
        let fit = if seed == args.seed {
            &fits[best]
        } else {
            again = bench.fit(group, seed, &format!("{}, seed {seed}", group.join(" ")))?;
            &again
        };
        let test = bench.score(fit, group, seed)?;
        runs.push(Run {
            seed,
            point: fit.point,
            validation: fit.validation,
            test,
        });
    }
    let accuracies: Vec<f64> = runs
        .iter()
        .filter_map(|run| Some(run.test?.estimate))
        .collect();
    let spread = match accuracies.as_slice() {
        [] => None,
        accuracies => Some(Spread::of(accuracies)?),
    };
    if printer.json() {
        let columns: Vec<_> = groups
            .iter()
            .zip(&fits)
            .map(|(group, fit)| {
                serde_json::json!({
                    "columns": group,
                    "point": fit.point,
                    "validation": fit.validation,
                })
            })
            .collect();
        printer.result(&serde_json::to_string_pretty(&serde_json::json!({
            "head": fits[best].spec,
            "parameters": fits[best].parameters,
            "recipe": recipe,
            "tried": columns,
            "chosen": group,
            "runs": runs,
            "test": spread,
        }))?);
        return Ok(());
    }
    let rows = groups
        .iter()
        .zip(&fits)
        .enumerate()
        .map(|(index, (group, fit))| {
            let test = match (index == best, spread, runs.as_slice()) {
                (
                    true,
                    Some(_),
                    [
                        Run {
                            test: Some(score), ..
                        },
                    ],
                ) => Cell::text(format!(
                    "{:.2} [{:.2}, {:.2}]",
                    score.estimate * 100.0,
                    score.low * 100.0,
                    score.high * 100.0
                )),
                (true, Some(s), _) => Cell::text(format!(
                    "{:.2} ({:.2} to {:.2})",
                    s.mean * 100.0,
                    s.min * 100.0,
                    s.max * 100.0
                )),
                _ => Cell::missing(),
            };
            vec![
                Cell::text(group.join(" ")),
                Cell::text(format!("{:.0e}", fit.point.learning_rate)),
                Cell::text(fit.point.weight_decay.to_string()),
                Cell::number(fit.validation * 100.0, 2),
                test,
            ]
        });
    let test = match args.seeds {
        1 => "with its 95 % Wilson interval".to_string(),
        n => format!("mean and range of {n} seeds"),
    };
    printer.result(&to_terminal_table(&Table {
        caption: format!(
            "{} head, recipe {}; test of the best column on validation, {test}",
            args.head, recipe.name
        ),
        columns: vec![
            Column::text("column"),
            Column::number("rate"),
            Column::number("decay"),
            Column::number("validation").with_unit("%"),
            Column::number("test").with_unit("%"),
        ],
        rows: rows.collect(),
        highlight: vec![best],
    }));
    Ok(())
}

/// A training on the chosen column.
#[derive(Debug, Serialize)]
struct Run {
    seed: u64,
    point: Point,
    validation: f64,
    test: Option<Interval>,
}

/// Which head is trained.
enum Wanted {
    /// Linear, a whole grid in one pass.
    Linear,
    /// By name, in the paper's proportions for the maps at hand.
    Named(String),
    /// As a file says.
    Written(HeadSpec),
}

impl Wanted {
    fn read(head: &str) -> Result<Self> {
        if head == "linear" {
            return Ok(Self::Linear);
        }
        if Path::new(head).extension().is_none_or(|end| end != "toml") {
            return Ok(Self::Named(head.into()));
        }
        let text = diffrep_artifact::read_bytes(head)?;
        let text = String::from_utf8_lossy(&text);
        let spec = toml::from_str(&text).with_context(|| format!("{head} describes no head"))?;
        Ok(Self::Written(spec))
    }

    fn fuses(&self) -> bool {
        match self {
            Self::Linear => false,
            Self::Named(name) => name == "fusion",
            Self::Written(spec) => matches!(spec, HeadSpec::Fusion { .. }),
        }
    }

    fn spec(&self, maps: &Maps) -> Result<HeadSpec> {
        Ok(match self {
            Self::Linear => HeadSpec::named("linear", &maps.taps())?,
            Self::Named(name) => HeadSpec::named(name, &maps.taps())?,
            Self::Written(spec) => spec.clone(),
        })
    }
}

/// The best head of a grid, by validation.
struct Fit {
    head: Fitted,
    spec: HeadSpec,
    parameters: usize,
    point: Point,
    validation: f64,
}

enum Fitted {
    Linear(Trained),
    Other(TrainedHead),
}

/// What every training of the command shares.
struct Bench<'a> {
    train: &'a Store,
    validation: &'a Store,
    test: Option<&'a Store>,
    classes: usize,
    recipe: &'a Recipe,
    head: Wanted,
    device: &'a Device,
    workers: usize,
    printer: Printer,
}

impl Bench<'_> {
    /// The columns that a head reads together, for each head.
    fn groups(&self, wanted: &[String]) -> Vec<Vec<String>> {
        let columns: Vec<String> = match wanted {
            [] => {
                let columns = self.train.spec().columns.iter();
                columns.map(|column| column.name.clone()).collect()
            }
            wanted => wanted.to_vec(),
        };
        if self.head.fuses() {
            return vec![columns];
        }
        columns.into_iter().map(|column| vec![column]).collect()
    }

    fn training<'b>(&'b self, spec: &'b HeadSpec, seed: u64) -> HeadTraining<'b> {
        HeadTraining {
            spec,
            classes: self.classes,
            recipe: self.recipe,
            seed,
            device: self.device,
        }
    }

    /// Trains the grid on some columns and keeps the best head.
    fn fit(&self, group: &[String], seed: u64, title: &str) -> Result<Fit> {
        let maps = Maps::read(self.train, group)?;
        let spec = self.head.spec(&maps)?;
        let parameters = self.training(&spec, seed).parameters(&maps)?;
        if let (Wanted::Linear, [column]) = (&self.head, group) {
            let head = self.linear(column, seed, title)?;
            return Ok(Fit {
                point: head.point,
                validation: head.validation,
                head: Fitted::Linear(head),
                spec,
                parameters,
            });
        }
        let total = self.recipe.grid().len() * self.recipe.epochs;
        let progress = Mutex::new(self.printer.progress(title, total as u64));
        let heads = self.training(&spec, seed).grid(
            &self.recipe.grid(),
            &maps,
            &Maps::read(self.validation, group)?,
            self.workers,
            &|done, _| {
                progress
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .at(done as u64, "epochs");
            },
        )?;
        let progress = progress.into_inner();
        progress.unwrap_or_else(PoisonError::into_inner).finish();
        let head = best_head(&heads, self.recipe)?.clone();
        Ok(Fit {
            point: head.point,
            validation: head.validation,
            head: Fitted::Other(head),
            spec,
            parameters,
        })
    }

    fn linear(&self, column: &str, seed: u64, title: &str) -> Result<Trained> {
        ensure!(
            self.recipe.patience.is_none(),
            "recipe {} has patience, which is for other heads than the linear probe: its heads train \
             side by side to the end",
            self.recipe.name
        );
        let mut progress = self.printer.progress(title, self.recipe.epochs as u64);
        let heads = train_linear(
            &Features::read(self.train, column)?,
            &Features::read(self.validation, column)?,
            self.classes,
            self.recipe,
            seed,
            self.device,
            |done, _| progress.at(done as u64, "epochs"),
        )?;
        progress.finish();
        Ok(best(&heads, self.recipe)?.clone())
    }

    /// The share of test samples that a head classifies right, if there is a test store.
    fn score(&self, fit: &Fit, group: &[String], seed: u64) -> Result<Option<Interval>> {
        let Some(test) = self.test else {
            return Ok(None);
        };
        let right = match (&fit.head, group) {
            (Fitted::Linear(head), [column]) => {
                correct(head, &Features::read(test, column)?, self.device)
            }
            (Fitted::Linear(_), _) => bail!("a linear head reads one column"),
            (Fitted::Other(head), _) => self
                .training(&fit.spec, seed)
                .correct(head, &Maps::read(test, group)?)?,
        };
        let count = right.iter().filter(|right| **right).count() as u64;
        Ok(Some(wilson(count, right.len() as u64, 0.95)?))
    }
}

/// What a head on a column of a store must know to classify images, from what the store says.
fn head_info(
    store: &Store,
    column: &str,
    head: &Trained,
    recipe: &Recipe,
    classes: usize,
) -> Result<HeadInfo> {
    let spec = store.spec();
    let info = &spec.info;
    let timesteps = info["timestep_map"]
        .as_u64()
        .context("its manifest tells no timesteps")? as usize;
    let schedule = [ScheduleKind::Linear, ScheduleKind::Cosine]
        .into_iter()
        .find(|&kind| {
            let hash = Sha256Hex::hash_json(&Schedule::new(kind, timesteps).betas);
            hash.is_ok_and(|hash| info["schedule"] == hash.as_str())
        })
        .context("its schedule is neither linear nor cosine")?;
    let setting = spec
        .columns
        .iter()
        .find(|spec| spec.name == column)
        .with_context(|| format!("it has no column {column}"))?;
    let mut names: Vec<String> = serde_json::from_value(info["classes"].clone())
        .context("its manifest tells no class names: extract it anew")?;
    names.truncate(classes);
    Ok(HeadInfo {
        classes: names,
        encoder_sha256: serde_json::from_value(info["encoder"].clone())?,
        setting: serde_json::from_value(setting.meta.clone())?,
        schedule,
        timesteps,
        preprocess: serde_json::from_value(info["preprocess"].clone())?,
        noise_seed: serde_json::from_value(info["noising"]["seed"].clone())?,
        recipe: recipe.clone(),
        point: head.point,
        validation_accuracy: head.validation,
    })
}
