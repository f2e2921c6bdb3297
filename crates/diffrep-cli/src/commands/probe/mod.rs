//! Classifiers on stored features.

mod bench;
mod source;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use diffrep_artifact::Sha256Hex;
use diffrep_extract::Setting;
use diffrep_probe::{
    AnyRecipe, ClassifierInfo, HeadInfo, Loss, Metrics, Reading, SavedClassifier, SavedHead, Tune,
};
use diffrep_report::{Cell, Column, Table, to_terminal_table};
use diffrep_schedule::ProcessSpec;
use diffrep_stats::{
    Interval, McNemar, PairedDifference, Spread, mcnemar, paired_bootstrap_seeds, wilson,
};
use diffrep_store::Store;
use serde::Serialize;

use crate::commands::data::Missing;
use crate::device::DeviceSpec;
use crate::printer::Printer;
use bench::{Bench, Chosen, Fit, Fitted, Scored, Wanted};
use source::{Few, Part, Source};

/// Resamples of the test images behind an interval.
const RESAMPLES: usize = 10_000;

/// Train classifiers on stored features and score the best one.
///
/// Features are folders that `diffrep extract` wrote, or safetensors files of any origin with
/// `features` of shape (n, d), or maps of shape (n, c, h, w), `labels` of shape (n) and, if it is known which
/// image a sample is of, `ids` of shape (n). The recipe's
/// whole grid is trained on each column. Column and grid point are chosen on the validation samples,
/// or on a fifth of TRAIN held out; only the chosen one reads TEST, once a seed. Heads other than
/// linear read a column as maps of the side that it was pooled to; the fusion head reads all columns.
/// Of images with several rows (`extract --draws`, `--flips`) all rows train, the first one is chosen
/// on, and the scores of all are averaged for the test; whatever is cut or counted are images.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep probe f/train f/test --validation f/validation --recipe paper --seeds 3\n  \
    diffrep probe train.safetensors test.safetensors --head logistic --json\n  \
    diffrep probe f/train f/test --head knn --per-class 10 --seeds 5\n  \
    diffrep probe f/train --validation f/validation --column t90_b24_p2 --save head.safetensors\n  \
    diffrep probe f/train f/test --column t90_b24_p16 --head attention --recipe mini-heads\n  \
    diffrep probe --print-recipe paper > my.toml")]
pub(crate) struct ProbeArgs {
    /// Features to train on: a folder, or a safetensors file.
    #[arg(required_unless_present = "print_recipe")]
    train: Option<PathBuf>,
    /// Features to score the chosen head on.
    test: Option<PathBuf>,
    /// Features to choose on; a fifth of each class of TRAIN is held out without it.
    #[arg(long)]
    validation: Option<PathBuf>,
    /// Columns, such as t10_b07_p4, separated by commas; all of them without it.
    #[arg(long, value_delimiter = ',')]
    column: Vec<String>,
    /// linear, ridge, logistic, knn, mlp, cnn, attention, fusion (in the paper's proportions), or a
    /// TOML file such as `head = "cnn"`, `channels = [512, 256]`.
    #[arg(long, default_value = "linear")]
    head: String,
    /// Recipe by name or a TOML file; paper without it, and ridge, logistic and knn for those.
    #[arg(long)]
    recipe: Option<String>,
    /// Print a recipe as TOML, to copy and edit, and do nothing else.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["train", "test", "recipe", "save"])]
    print_recipe: Option<String>,
    /// Train on so many samples of each class, another draw for each seed. Choices are still made on all
    /// validation samples, which few-shot numbers of others may not have: cut these with
    /// --validation-per-class.
    #[arg(long, value_name = "N", conflicts_with = "share")]
    per_class: Option<usize>,
    /// Choose on so many validation samples of each class, the same draw (by --seed) for all seeds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    validation_per_class: Option<u64>,
    /// Train on such a share of each class, such as 0.01, another draw for each seed.
    #[arg(long)]
    share: Option<f64>,
    /// File for the head with the highest validation accuracy, for `diffrep classify`; not for knn.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Names initial weights, batch order and the draw of few samples.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many seeds are trained on the chosen column, from --seed on.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Where to compute: flex, cuda:N, tch.
    #[arg(long, default_value = "flex")]
    device: DeviceSpec,
}

pub(crate) fn run(args: &ProbeArgs, printer: Printer) -> Result<()> {
    if let Some(name) = &args.print_recipe {
        let text = AnyRecipe::text(name).with_context(|| {
            let known = AnyRecipe::names().collect::<Vec<_>>().join(", ");
            format!("there is no recipe `{name}`: use one of {known}")
        })?;
        printer.result(text.trim_end());
        return Ok(());
    }
    let device = args.device.open()?;
    let (head, usual) = Wanted::read(&args.head)?;
    let recipe = AnyRecipe::named(args.recipe.as_deref().unwrap_or(usual))?;
    let loss = match args.head.as_str() {
        "ridge" => Some(Loss::Squared),
        "logistic" => Some(Loss::CrossEntropy),
        _ => None,
    };
    if let Some(loss) = loss {
        ensure!(
            matches!(&recipe, AnyRecipe::Convex(recipe) if recipe.loss == loss),
            "recipe {} is not one for --head {}: leave --recipe out, or use --head linear",
            recipe.name(),
            args.head
        );
    }
    let path = args
        .train
        .as_deref()
        .context("features to train on are missing")?;
    let train = Source::open(path)?;
    let validation = args.validation.as_deref().map(Source::open).transpose()?;
    let test = args.test.as_deref().map(Source::open).transpose()?;
    let sources: Vec<&Source> = [Some(&train), validation.as_ref(), test.as_ref()]
        .into_iter()
        .flatten()
        .collect();
    for (i, later) in sources.iter().enumerate() {
        sources[..i]
            .iter()
            .try_for_each(|first| first.same_kind(later))?;
    }
    let classes = train.labels().iter().max().map_or(0, |label| label + 1) as usize;
    ensure!(
        train
            .labels()
            .iter()
            .any(|label| *label != train.labels()[0]),
        "all samples of {} are of one class: nothing can be told apart",
        train.path.display()
    );
    let (train_part, validation_part) = match &validation {
        Some(validation) => (Part::all(&train), Part::to_choose_on(validation)),
        None => Part::hold_out(&train)?,
    };
    let validation_part = match args.validation_per_class {
        None => validation_part,
        Some(count) => validation_part.few(Few::PerClass(count as usize), args.seed)?,
    };
    let chosen_on = validation_part.len();
    let few = match (args.per_class, args.share) {
        (Some(count), _) => {
            ensure!(count > 0, "--per-class must be at least 1");
            Few::PerClass(count)
        }
        (None, Some(share)) => {
            ensure!(
                share > 0.0 && share < 1.0,
                "--share must lie between 0 and 1"
            );
            Few::Share(share)
        }
        (None, None) => Few::All,
    };
    let bench = Bench {
        train: train_part,
        few,
        validation: validation_part,
        test: test.as_ref().map(Part::all),
        classes,
        recipe: &recipe,
        head,
        device: &device,
        workers: args.device.workers(),
        printer,
    };
    let seeds = args.seed..args.seed.saturating_add(args.seeds);
    bench.check(seeds.clone())?;
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
    let paired = paired(&bench, &fits, &groups, best, args.seed)?;
    if let Some(path) = &args.save {
        let store = train.store().with_context(|| {
            format!(
                "a head on the file {} cannot be saved: it tells no encoder",
                train.path.display()
            )
        })?;
        save(path, store, group, &fits[best], &bench)
            .with_context(|| format!("a head on {} cannot be saved", train.path.display()))?;
        printer.say(&format!("{}: head on {}", path.display(), group.join(" ")));
    }
    let mut runs = Vec::new();
    let mut right = Vec::new();
    for seed in seeds {
        let again;
        let fit = if seed == args.seed {
            &fits[best]
        } else {
            again = bench.fit(group, seed, &format!("{}, seed {seed}", group.join(" ")))?;
            &again
        };
        let test = match bench.score(fit, group, seed)? {
            None => None,
            Some(scored) => {
                let Scored {
                    right: hits,
                    metrics,
                } = scored;
                let count = hits.iter().filter(|hit| **hit).count() as u64;
                let interval = wilson(count, hits.len() as u64, 0.95)?;
                right.push(hits);
                Some(TestScore { interval, metrics })
            }
        };
        runs.push(Run {
            seed,
            point: fit.point,
            trained_on: fit.trained_on,
            rows_each: train.rows_each,
            validation: fit.validation,
            gradient_norm: fit.gradient,
            test,
        });
    }
    let missing = sources
        .iter()
        .filter_map(|source| {
            let missing = source.missing();
            let sentence = missing.sentence()?;
            Some((source.path.clone(), missing, sentence))
        })
        .collect();
    let outcome = Outcome {
        args,
        missing,
        recipe: &recipe,
        groups: &groups,
        fits: &fits,
        paired,
        best,
        test: Whole::of(&runs, &right)?,
        runs,
        chosen_on,
        rows_each: train.rows_each,
        tested_on: test.as_ref().map_or(1, |test| test.rows_each),
    };
    if printer.json() {
        printer.result(&outcome.json()?);
    } else {
        printer.result(&outcome.table());
        for (path, _, sentence) in &outcome.missing {
            printer.result(&format!("{}: {sentence}", path.display()));
        }
    }
    Ok(())
}

/// Each column's classifier against the best one's, on the validation samples: an exact McNemar test.
fn paired(
    bench: &Bench<'_>,
    fits: &[Fit],
    groups: &[Vec<String>],
    best: usize,
    seed: u64,
) -> Result<Vec<Option<McNemar>>> {
    let right = |index: usize| bench.right_on_validation(&fits[index], &groups[index], seed);
    if fits.len() < 2 {
        return Ok(vec![None; fits.len()]);
    }
    let first = right(best)?;
    let against = |index: usize| match index {
        _ if index == best => Ok(None),
        _ => Ok(Some(mcnemar(&first, &right(index)?)?)),
    };
    (0..fits.len()).map(against).collect()
}

/// A training on the chosen column.
#[derive(Debug, Serialize)]
struct Run {
    seed: u64,
    point: Chosen,
    /// Images, each in so many rows.
    trained_on: usize,
    rows_each: usize,
    validation: f64,
    /// Of the loss at the head, where steps went to an optimum (logistic regression).
    #[serde(skip_serializing_if = "Option::is_none")]
    gradient_norm: Option<f64>,
    test: Option<TestScore>,
}

/// A head on the test samples.
#[derive(Debug, Serialize)]
struct TestScore {
    /// Top-1 with its 95 % Wilson interval.
    #[serde(flatten)]
    interval: Interval,
    #[serde(flatten)]
    metrics: Metrics,
}

/// All seeds together.
#[derive(Debug, Serialize)]
struct Whole {
    /// Top-1 over the seeds.
    #[serde(flatten)]
    spread: Spread,
    /// 95 % bootstrap interval over the test samples, each sample's hits averaged over the seeds.
    low: f64,
    high: f64,
}

impl Whole {
    fn of(runs: &[Run], right: &[Vec<bool>]) -> Result<Option<Self>> {
        let scores = runs.iter().filter_map(|run| run.test.as_ref());
        let accuracies: Vec<f64> = scores.map(|test| test.interval.estimate).collect();
        let Some(first) = right.first() else {
            return Ok(None);
        };
        // Against a classifier that is never right the difference is the accuracy.
        let never = [vec![false; first.len()]];
        let PairedDifference { low, high, .. } =
            paired_bootstrap_seeds(right, &never, RESAMPLES, 0.95, 0)?;
        Ok(Some(Self {
            spread: Spread::of(&accuracies)?,
            low,
            high,
        }))
    }
}

/// What is told at the end.
struct Outcome<'a> {
    args: &'a ProbeArgs,
    /// What is missing from the images of a store, and the same as a sentence.
    missing: Vec<(PathBuf, Missing, String)>,
    recipe: &'a AnyRecipe,
    groups: &'a [Vec<String>],
    fits: &'a [Fit],
    /// Each column against the best on the validation samples; none for the best.
    paired: Vec<Option<McNemar>>,
    best: usize,
    runs: Vec<Run>,
    test: Option<Whole>,
    /// Images that choices were made on.
    chosen_on: usize,
    /// Rows of a training image, and of a test image.
    rows_each: usize,
    tested_on: usize,
}

impl Outcome<'_> {
    fn json(&self) -> Result<String> {
        let tried = self.groups.iter().zip(self.fits).zip(&self.paired);
        let tried = tried.map(|((group, fit), paired)| {
            serde_json::json!({
                "columns": group,
                "point": fit.point,
                "validation": fit.validation,
                "gradient_norm": fit.gradient,
                "against_best": paired,
                "seconds": fit.seconds,
            })
        });
        let chosen = &self.fits[self.best];
        let head = match (&chosen.spec, &chosen.head) {
            (Some(spec), _) => serde_json::to_value(spec)?,
            (None, Fitted::Neighbours(..)) => serde_json::json!({ "head": "knn" }),
            (None, _) => serde_json::json!({ "head": "linear" }),
        };
        Ok(serde_json::to_string_pretty(&serde_json::json!({
            "head": head,
            "parameters": chosen.parameters,
            "recipe": self.recipe,
            "missing": self
                .missing
                .iter()
                .map(|(path, missing, _)| serde_json::json!({ "store": path, "missing": missing }))
                .collect::<Vec<_>>(),
            "held_out": self.args.validation.is_none(),
            "chosen_on": self.chosen_on,
            "tried": tried.collect::<Vec<_>>(),
            "chosen": self.groups[self.best],
            "runs": self.runs,
            "test": self.test,
        }))?)
    }

    fn table(&self) -> String {
        let rows = self.groups.iter().zip(self.fits).enumerate();
        let rows = rows.map(|(index, (group, fit))| {
            let mut row = vec![Cell::text(group.join(" "))];
            row.push(Cell::text(match fit.point {
                Chosen::Point(point) if point.learning_rate == 0.0 => {
                    format!("penalty {}", point.weight_decay)
                }
                Chosen::Point(point) => {
                    format!(
                        "rate {:.0e}, decay {}",
                        point.learning_rate, point.weight_decay
                    )
                }
                Chosen::Vote(vote) => {
                    format!("k {}, temperature {}", vote.neighbours, vote.temperature)
                }
            }));
            row.push(Cell::number(fit.validation * 100.0, 2));
            if self.fits.len() > 1 {
                let paired = self.paired.get(index).copied().flatten();
                row.push(paired.map_or_else(Cell::missing, |test| Cell::number(test.p_value, 3)));
            }
            row.extend(match &self.test {
                Some(whole) if index == self.best => self.test_cells(whole),
                _ => vec![Cell::missing(), Cell::missing()],
            });
            row
        });
        let chosen = match &self.args.validation {
            Some(_) => "validation samples",
            None => "samples held out of the training samples",
        };
        let seeds = match self.args.seeds {
            1 => "its 95 % Wilson interval".to_string(),
            n => format!("mean and range of {n} seeds, 95 % bootstrap interval over test samples"),
        };
        let pairs = match self.fits.len() {
            0 | 1 => "",
            _ => {
                "; p is McNemar's on the samples of the choice, not corrected for the number of columns"
            }
        };
        let samples = match self.rows_each {
            1 => "samples".to_string(),
            each => format!("images in {each} rows each"),
        };
        let averaged = match self.tested_on {
            1 => String::new(),
            rows => format!("; the scores of a test image's {rows} rows are averaged"),
        };
        to_terminal_table(&Table {
            caption: format!(
                "{} head, recipe {}, {} training {samples}; the best column was chosen on {} {chosen}; \
                 test with {seeds}{averaged}{pairs}",
                self.args.head,
                self.recipe.name(),
                self.fits[self.best].trained_on,
                self.chosen_on,
            ),
            columns: [
                Some(Column::text("column")),
                Some(Column::text("chosen")),
                Some(Column::number("validation").with_unit("%")),
                (self.fits.len() > 1).then(|| Column::number("p against best")),
                Some(Column::number("test top-1").with_unit("%")),
                Some(Column::number("top-5").with_unit("%")),
            ]
            .into_iter()
            .flatten()
            .collect(),
            rows: rows.collect(),
            highlight: vec![self.best],
        })
    }

    fn test_cells(&self, whole: &Whole) -> Vec<Cell> {
        let percent = |share: f64| share * 100.0;
        let tests: Vec<&TestScore> = self
            .runs
            .iter()
            .filter_map(|run| run.test.as_ref())
            .collect();
        let five: f64 = tests.iter().map(|test| test.metrics.top5).sum();
        let five = five / tests.len().max(1) as f64;
        let first = match tests.as_slice() {
            [one] => format!(
                "{:.2} [{:.2}, {:.2}]",
                percent(one.interval.estimate),
                percent(one.interval.low),
                percent(one.interval.high)
            ),
            _ => format!(
                "{:.2} ({:.2} to {:.2}) [{:.2}, {:.2}]",
                percent(whole.spread.mean),
                percent(whole.spread.min),
                percent(whole.spread.max),
                percent(whole.low),
                percent(whole.high)
            ),
        };
        vec![Cell::text(first), Cell::number(percent(five), 2)]
    }
}

/// Writes the head with what it must know to classify images, from what the store says.
fn save(path: &Path, store: &Store, group: &[String], fit: &Fit, bench: &Bench<'_>) -> Result<()> {
    let stored = store.spec();
    let info = &stored.info;
    ensure!(
        info.get("noise").is_none(),
        "it was trained on features without drawn noise (`extract --noise` or `--noise-file`), and `classify` \
         draws noise: extract with --noise seeded"
    );
    let timesteps = info["timestep_map"]
        .as_u64()
        .context("its manifest tells no timesteps")? as usize;
    let encoder = info["encoder"].as_str().unwrap_or_default();
    ensure!(
        !encoder.contains(" behind a VAE"),
        "heads on features of diffusion transformers cannot be saved for `classify` yet"
    );
    let rescaled = info.get("timestep_scale").is_some();
    let schedule = ["linear", "cosine", "scaled_linear"]
        .into_iter()
        .filter_map(|name| format!("{name}:{timesteps}").parse::<ProcessSpec>().ok())
        .find(|process| {
            let hash = process
                .schedule()
                .map(|found| Sha256Hex::hash_json(&found.betas));
            hash.is_ok_and(|hash| hash.is_ok_and(|hash| info["schedule"] == hash.as_str()))
        })
        .context("its schedule is none of linear, cosine and scaled_linear")?
        .schedule;
    let setting = |column: &String| -> Result<Setting> {
        let found = stored.columns.iter().find(|spec| spec.name == *column);
        let found = found.with_context(|| format!("it has no column {column}"))?;
        Ok(serde_json::from_value(found.meta.clone())?)
    };
    let mut classes: Vec<String> = serde_json::from_value(info["classes"].clone())
        .context("its manifest tells no class names: extract it anew")?;
    classes.truncate(bench.classes);
    // Behind the hash stands the precision of the features, if it is not f32, or what the network was told,
    // without which it is another one.
    let encoder_sha256 = match encoder.contains(" told ") {
        true => encoder.to_owned(),
        false => encoder.split(' ').next().unwrap_or_default().to_owned(),
    };
    let preprocess = serde_json::from_value(info["preprocess"].clone())?;
    let noise_seed = serde_json::from_value(info["noising"]["seed"].clone())?;
    match (&fit.head, group) {
        (Fitted::Linear(head), [column]) => {
            let info = HeadInfo {
                classes,
                encoder_sha256,
                setting: setting(column)?,
                schedule,
                timesteps,
                rescaled,
                preprocess,
                noise_seed,
                recipe: bench.recipe.clone(),
                point: head.point,
                validation_accuracy: head.validation,
            };
            Ok(SavedHead::new(head, info).write(path)?)
        }
        (Fitted::Other(head), columns) => {
            let settings = columns.iter().map(setting).collect::<Result<Vec<_>>>()?;
            let first = settings.first().context("it has no columns")?;
            let alike = |s: &Setting| (s.t, s.pool) == (first.t, first.pool);
            ensure!(
                settings.iter().all(alike),
                "one timestep and one pool are wanted, not {}: choose columns with --column",
                columns.join(", ")
            );
            let AnyRecipe::Descent(recipe) = bench.recipe else {
                bail!("recipe {} takes no steps", bench.recipe.name());
            };
            let spec = fit.spec.as_ref().context("a head has a shape")?;
            let (state, moments) = bench.state(head, spec, recipe, group)?;
            let info = ClassifierInfo {
                classes,
                encoder_sha256,
                tune: Tune::Head,
                reading: Reading {
                    t: first.t,
                    blocks: settings.iter().map(|setting| setting.block).collect(),
                    pool: first.pool,
                },
                head: spec.clone(),
                schedule,
                timesteps,
                rescaled,
                preprocess,
                noise_seed,
                recipe: recipe.clone(),
                point: head.point,
                validation_accuracy: head.validation,
            };
            Ok(SavedClassifier::of_head(state, moments, info).write(path)?)
        }
        _ => bail!("a k-NN classifier is its training samples: keep those"),
    }
}
