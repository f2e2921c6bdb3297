use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use diffrep_artifact::Sha256Hex;
use diffrep_heads::HeadSpec;
use diffrep_probe::{
    Features, HeadInfo, HeadTraining, Maps, Point, Recipe, SavedHead, Trained, best, best_head,
    correct, train_linear,
};
use diffrep_report::{Cell, Column, Table, to_terminal_table};
use diffrep_schedule::{Schedule, ScheduleKind};
use diffrep_stats::{Interval, wilson};
use diffrep_store::Store;

use crate::device::DeviceSpec;
use crate::printer::Printer;

/// Train heads on stored features and score the best one.
///
/// The recipe's whole grid is trained, for linear heads in one pass; the head is chosen on the
/// validation store, and only that head reads the test store. Heads other than linear read a column
/// as maps of the side that it was pooled to; the fusion head reads all columns at once.
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
    /// Column, such as t10_b07_p4; each column in turn without it.
    #[arg(long)]
    column: Option<String>,
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
    let columns: Vec<String> = match &args.column {
        Some(column) => vec![column.clone()],
        None => train
            .spec()
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect(),
    };
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
    if args.head != "linear" {
        let stores = [Some(&train), Some(&validation), test.as_ref()];
        return other_heads(args, &columns, stores, classes as usize, &recipe, printer);
    }
    ensure!(
        recipe.patience.is_none(),
        "recipe {} has patience, which is for other heads than the linear probe: its heads train \
         side by side to the end",
        recipe.name
    );
    let mut rows = Vec::new();
    let mut records = Vec::new();
    let mut kept: Option<(String, Trained)> = None;
    for (index, column) in columns.iter().enumerate() {
        let title = format!("probe {column} ({} of {})", index + 1, columns.len());
        let mut progress = printer.progress(&title, recipe.epochs as u64);
        let read = |store: &Store| Features::read(store, column);
        let heads = train_linear(
            &read(&train)?,
            &read(&validation)?,
            classes as usize,
            &recipe,
            args.seed,
            &device,
            |done, _| progress.at(done as u64, "epochs"),
        )?;
        progress.finish();
        let chosen = best(&heads, &recipe)?;
        let scored = test
            .as_ref()
            .map(|test| -> Result<_> {
                let right = correct(chosen, &read(test)?, &device);
                let count = right.iter().filter(|right| **right).count() as u64;
                Ok(wilson(count, right.len() as u64, 0.95)?)
            })
            .transpose()?;
        rows.push(row(
            column,
            chosen.point,
            chosen.validation,
            scored.as_ref(),
        ));
        records.push(serde_json::json!({
            "column": column,
            "recipe": recipe,
            "seed": args.seed,
            "point": chosen.point,
            "validation": chosen.validation,
            "test": scored,
        }));
        let better = |(_, best): &(String, Trained)| chosen.validation > best.validation;
        if kept.as_ref().is_none_or(better) {
            kept = Some((column.clone(), chosen.clone()));
        }
    }
    if let (Some(path), Some((column, head))) = (&args.save, &kept) {
        let info = head_info(&train, column, head, &recipe, classes as usize)
            .with_context(|| format!("a head on {} cannot be saved", args.train.display()))?;
        SavedHead::new(head, info).write(path)?;
        printer.say(&format!("{}: head on {column}", path.display()));
    }
    say(
        &records,
        rows,
        &format!("Linear probe, recipe {}", recipe.name),
        printer,
    )
}

/// The same for heads that read maps: column by column, or all at once for the fusion head.
fn other_heads(
    args: &ProbeArgs,
    columns: &[String],
    [train, validation, test]: [Option<&Store>; 3],
    classes: usize,
    recipe: &Recipe,
    printer: Printer,
) -> Result<()> {
    let (Some(train), Some(validation)) = (train, validation) else {
        bail!("a head needs a training and a validation store");
    };
    ensure!(
        args.save.is_none(),
        "--save is for linear heads; {} heads cannot be saved yet",
        args.head
    );
    let device = args.device.open()?;
    let is_file = Path::new(&args.head)
        .extension()
        .is_some_and(|end| end == "toml");
    let written: Option<HeadSpec> = if is_file {
        let text = diffrep_artifact::read_bytes(&args.head)?;
        let text = String::from_utf8_lossy(&text);
        Some(toml::from_str(&text).with_context(|| format!("{} describes no head", args.head))?)
    } else {
        None
    };
    let fuses = args.head == "fusion" || matches!(written, Some(HeadSpec::Fusion { .. }));
    let groups: Vec<Vec<String>> = if fuses {
        vec![columns.to_vec()]
    } else {
        columns.iter().map(|column| vec![column.clone()]).collect()
    };
    let (mut rows, mut records) = (Vec::new(), Vec::new());
    for (index, group) in groups.iter().enumerate() {
        let maps = Maps::read(train, group)?;
        let head = match &written {
            Some(head) => head.clone(),
            None => HeadSpec::named(&args.head, &maps.taps())?,
        };
        let training = HeadTraining {
            spec: &head,
            classes,
            recipe,
            seed: args.seed,
            device: &device,
        };
        let name = group.join(" ");
        let title = format!(
            "{} on {name} ({} of {})",
            head.name(),
            index + 1,
            groups.len()
        );
        let total = recipe.grid().len() * recipe.epochs;
        let progress = std::sync::Mutex::new(printer.progress(&title, total as u64));
        let heads = training.grid(
            &recipe.grid(),
            &maps,
            &Maps::read(validation, group)?,
            args.device.workers(),
            &|done, _| {
                progress
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .at(done as u64, "epochs");
            },
        )?;
        progress
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .finish();
        let chosen = best_head(&heads, recipe)?;
        let scored = test
            .map(|test| -> Result<_> {
                let right = training.correct(chosen, &Maps::read(test, group)?)?;
                let count = right.iter().filter(|right| **right).count() as u64;
                Ok(wilson(count, right.len() as u64, 0.95)?)
            })
            .transpose()?;
        rows.push(row(&name, chosen.point, chosen.validation, scored.as_ref()));
        records.push(serde_json::json!({
            "columns": group,
            "head": head,
            "parameters": training.parameters(&maps)?,
            "recipe": recipe,
            "seed": args.seed,
            "point": chosen.point,
            "epoch": chosen.epoch,
            "curve": chosen.curve,
            "validation": chosen.validation,
            "test": scored,
        }));
    }
    let what = format!("{} head, recipe {}", args.head, recipe.name);
    say(&records, rows, &what, printer)
}

fn row(column: &str, point: Point, validation: f64, test: Option<&Interval>) -> Vec<Cell> {
    vec![
        Cell::text(column),
        Cell::text(format!("{:.0e}", point.learning_rate)),
        Cell::text(point.weight_decay.to_string()),
        Cell::number(validation * 100.0, 2),
        test.map_or_else(Cell::missing, |score| {
            Cell::text(format!(
                "{:.2} [{:.2}, {:.2}]",
                score.estimate * 100.0,
                score.low * 100.0,
                score.high * 100.0
            ))
        }),
    ]
}

fn say(
    records: &[serde_json::Value],
    rows: Vec<Vec<Cell>>,
    what: &str,
    printer: Printer,
) -> Result<()> {
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(records)?);
    } else {
        printer.result(&to_terminal_table(&Table {
            caption: format!("{what}; test with its 95 % Wilson interval"),
            columns: vec![
                Column::text("column"),
                Column::number("rate"),
                Column::number("decay"),
                Column::number("validation").with_unit("%"),
                Column::number("test").with_unit("%"),
            ],
            rows,
            highlight: Vec::new(),
        }));
    }
    Ok(())
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
