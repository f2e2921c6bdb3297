//! Choosing timestep, block and pool for a data set.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use diffrep_artifact::{Lock, create_dir_all, remove_stale_temps, write_json_atomic};
use diffrep_import::{load, read_arch};
use diffrep_probe::{Recipe, Search, Selected, Splits, Study, Subject};
use diffrep_report::{Cell, Column, Table, to_terminal_table};
use diffrep_schedule::ProcessSpec;
use diffrep_taps::Encoder;
use serde::Serialize;

use super::reproduce::{select::grid, watched};
use crate::commands::data::{DataArgs, Missing};
use crate::commands::input::{
    FitArg, PrecisionArg, encoder_name, preprocess_of, process_of, training_record,
};
use crate::device::DeviceSpec;
use crate::printer::{Printer, human_duration};

/// Settings shown.
const SHOWN: usize = 5;

/// Choose timestep, block and pool for a data set, by linear probes on its validation images.
///
/// The best setting depends on the data set. `halving` reads few images at most settings and more at
/// few, and spends a quarter of the grid's forwards; `grid` tries every setting on all images. A
/// search that was stopped is done anew, a finished one is not done again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep select fixtures/fashion-mnist --checkpoint fixtures/mini/model.safetensors \\\n      \
    --t 0,10,30,60,100,200,500,900 --pool 1,2,4,8 --per-class 300 --recipe mini-sweep --out runs/select\n  \
    diffrep select photos/ --checkpoint model.pt --t 10,30,60,90,150,300 --block 13,19,22,24,26,30 \\\n      \
    --pool 1,2 --search grid --out runs/select --json")]
pub(crate) struct SelectArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The diffusion model.
    #[arg(long)]
    checkpoint: PathBuf,
    /// Its architecture as the reference's constructor arguments, where the file does not tell.
    #[arg(long)]
    arch: Option<PathBuf>,
    /// Timesteps, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "10,30,60,90,150,300")]
    t: Vec<usize>,
    /// Blocks, counted from 1, separated by commas; every block without it.
    #[arg(long, value_delimiter = ',')]
    block: Vec<usize>,
    /// Pooled sides, separated by commas; those larger than a block's map are left out.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4")]
    pool: Vec<usize>,
    /// How the setting is searched.
    #[arg(long, default_value = "halving")]
    search: SearchArg,
    /// Training images of each class; as many as the smallest class has without it.
    #[arg(long, value_name = "N")]
    per_class: Option<usize>,
    /// Validation images of each class; as many as the smallest class has without it.
    #[arg(long, value_name = "N")]
    validation_per_class: Option<usize>,
    /// Recipe of the probes, by name or a TOML file.
    #[arg(long, default_value = "ablation")]
    recipe: String,
    /// Folder for the search and its `select.json`.
    #[arg(long)]
    out: PathBuf,
    /// Noise schedule of the model, as for `diffrep extract`: linear, cosine, scaled_linear; without it the
    /// one written in the checkpoint or beside it, or else linear.
    #[arg(long)]
    schedule: Option<ProcessSpec>,
    /// How images are brought to the network's size; without it as in the network's training, or
    /// else crop.
    #[arg(long)]
    fit: Option<FitArg>,
    /// Names the noise, the draw of images and the probes' first weights.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where to compute: flex, cuda:N, tch.
    #[arg(long, default_value = "flex")]
    device: DeviceSpec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SearchArg {
    /// Few images at most settings, more at few.
    Halving,
    /// Every setting on all images.
    Grid,
}

/// What `select.json` holds.
#[derive(Debug, Serialize)]
struct Outcome<'a> {
    search: Search,
    recipe: &'a Recipe,
    seed: u64,
    per_class: [usize; 2],
    /// Of training and validation images.
    missing: [Missing; 2],
    settings_in_grid: usize,
    forwards_of_grid: usize,
    selected: &'a Selected,
    seconds: f64,
}

pub(crate) fn run(args: &SelectArgs, printer: Printer) -> Result<()> {
    let start = Instant::now();
    let device = args.device.open()?;
    let recipe = Recipe::named(&args.recipe)?;
    let arch = args.arch.as_deref().map(read_arch).transpose()?;
    let imported = load(&args.checkpoint, arch, &device)?;
    let record = training_record(&imported.metadata)?;
    let network = imported.network.packed();
    let process = match args.schedule {
        Some(process) => process,
        None => process_of(&imported.metadata, network.config())?,
    };
    let schedule = process.schedule()?;
    let taps = network.taps();
    for &block in &args.block {
        ensure!(
            (1..=taps.len()).contains(&block),
            "block {block} does not exist: this network has blocks 1..={}",
            taps.len()
        );
    }
    for &t in &args.t {
        schedule.check(t)?;
    }
    let grid = grid(&args.t, &args.block, &args.pool, &taps)?;
    ensure!(
        !grid.is_empty(),
        "every pool is larger than the maps of these blocks: choose smaller ones"
    );
    let (train, validation) = args.data.train_and_validation()?;
    let (train, missing) = args.data.look_at(train, printer)?;
    let (validation, missing_validation) = args.data.look_at(validation, printer)?;
    let per_class = [
        args.per_class
            .map_or_else(|| smallest(train.labels()), Ok)?,
        args.validation_per_class
            .map_or_else(|| smallest(validation.labels()), Ok)?,
    ];
    ensure!(
        per_class.iter().all(|count| *count > 0),
        "at least one image of each class is needed"
    );
    let splits = Splits {
        // A search reads no test images.
        test: validation.subset(&[]),
        train,
        validation,
    };
    create_dir_all(&args.out)?;
    let _lock = Lock::acquire(&args.out)?;
    remove_stale_temps(&args.out)?;
    let study = Study {
        dir: &args.out,
        preprocess: preprocess_of(record.as_ref(), network.config(), args.fit)?,
        schedule: &schedule,
        device: &device,
        workers: args.device.workers(),
    };
    let subject = Subject {
        name: "diffusion".into(),
        encoder: &network,
        hash: encoder_name(
            &imported.sha256,
            args.arch.as_ref().map(|_| network.config()),
            PrecisionArg::F32,
        )?,
    };
    let search = match args.search {
        SearchArg::Halving => Search::Halving,
        SearchArg::Grid => Search::Grid,
    };
    let selected = watched(printer, |on| {
        study.select(
            &subject, &splits, per_class, &grid, search, &recipe, args.seed, on,
        )
    })?;
    let classes = splits.train.class_names().len();
    let mut steps = args.t.clone();
    steps.sort_unstable();
    steps.dedup();
    let outcome = Outcome {
        search,
        recipe: &recipe,
        seed: args.seed,
        per_class,
        missing: [missing, missing_validation],
        settings_in_grid: grid.len(),
        forwards_of_grid: steps.len() * classes * per_class.iter().sum::<usize>(),
        selected: &selected,
        seconds: start.elapsed().as_secs_f64(),
    };
    write_json_atomic(args.out.join("select.json"), &outcome)?;
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&outcome)?);
        return Ok(());
    }
    printer.result(&to_terminal_table(&table(&outcome)));
    let s = selected.setting;
    printer.say(&format!(
        "use: diffrep extract {} --checkpoint {} --t {} --block {} --pool {} ({})",
        args.data.path().display(),
        args.checkpoint.display(),
        s.t.unwrap_or(0),
        s.block,
        s.pool,
        human_duration(outcome.seconds)
    ));
    Ok(())
}

/// How many samples the smallest class has.
fn smallest(labels: &[u32]) -> Result<usize> {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for &label in labels {
        *counts.entry(label).or_default() += 1;
    }
    counts
        .values()
        .copied()
        .min()
        .context("there are no images")
}

/// The best settings of the last round.
fn table(outcome: &Outcome<'_>) -> Table {
    let selected = outcome.selected;
    let last = selected.rounds.last().map_or(&[][..], |round| &round.cells);
    let mut best: Vec<_> = last.iter().collect();
    best.sort_by(|a, b| b.accuracy.total_cmp(&a.accuracy).then(a.dim.cmp(&b.dim)));
    best.truncate(SHOWN);
    let rows = best.into_iter().map(|cell| {
        vec![
            Cell::text(cell.setting.to_string()),
            Cell::text(cell.dim.to_string()),
            Cell::number(cell.accuracy * 100.0, 2),
        ]
    });
    let share = |ours: usize, all: usize| 100.0 * ours as f64 / all.max(1) as f64;
    Table {
        caption: format!(
            "Best settings of {} by linear probes (recipe {}); {} forwards, {:.1} % of the whole grid's, \
             and {} fits ({:.1} %). The scores chose: they are too high by a little.",
            outcome.settings_in_grid,
            outcome.recipe.name,
            selected.forwards,
            share(selected.forwards, outcome.forwards_of_grid),
            selected.fits,
            share(selected.fits, outcome.settings_in_grid),
        ),
        columns: vec![
            Column::text("setting"),
            Column::number("features"),
            Column::number("validation").with_unit("%"),
        ],
        rows: rows.collect(),
        highlight: vec![0],
    }
}
