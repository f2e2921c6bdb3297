use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use diffrep_artifact::write_bytes_atomic;
use diffrep_datasets::{
    Completeness, Dataset, Image, InspectOptions, Inspection, KnownDataset, RefusedSplit,
    SheetOptions, Split, SplitInspection, available_splits, contact_sheet, inspect,
    inspect_datasets, open, open_known,
};
use diffrep_report::{Cell, Column, Table, to_terminal_table};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

use crate::printer::Printer;

/// Look into data sets, and list those that are known.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep dataset list\n  \
    diffrep dataset inspect fixtures/fashion-mnist --sheet sheet.png\n  \
    diffrep dataset inspect CUB_200_2011 --dataset cub --json\n  \
    diffrep dataset inspect ilsvrc/ --dataset imagenet")]
pub(crate) struct DatasetArgs {
    #[command(subcommand)]
    command: DatasetCommand,
}

#[derive(Debug, Subcommand)]
enum DatasetCommand {
    /// The data sets of the paper's Table 5, with their classes and official counts.
    List,
    /// Recognise the layout, and count splits, classes, sizes, unreadable files and duplicates.
    Inspect(InspectArgs),
}

#[derive(Debug, Args)]
struct InspectArgs {
    /// A folder, or WebDataset shards such as `name-{000..146}.tar`.
    path: PathBuf,
    /// Hold it to a known data set: aircraft, cars, cub, dogs, flowers, nabirds, imagenet,
    /// imagenet-50 or fashion-mnist.
    #[arg(long, value_name = "NAME")]
    dataset: Option<KnownDataset>,
    /// Take what there is of a known data set.
    #[arg(long, requires = "dataset")]
    allow_partial: bool,
    /// Write a sheet of thumbnails of the first split, a few of each class, as PNG.
    #[arg(long, value_name = "FILE.png")]
    sheet: Option<PathBuf>,
    /// Thumbnails of each class on the sheet.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1000))]
    per_class: u64,
    /// How many unreadable files and duplicates are listed; all are counted.
    #[arg(long, default_value_t = 20)]
    list: usize,
}

pub(crate) fn run(args: &DatasetArgs, printer: Printer) -> Result<()> {
    match &args.command {
        DatasetCommand::List => list(printer),
        DatasetCommand::Inspect(args) => look(args, printer),
    }
}

fn list(printer: Printer) -> Result<()> {
    let count = |known: KnownDataset, split| known.expected(split).unwrap_or_default();
    if printer.json() {
        let all: Vec<_> = KnownDataset::ALL
            .into_iter()
            .map(|known| {
                serde_json::json!({
                    "name": known.name(),
                    "title": known.title(),
                    "classes": known.classes(),
                    "train": count(known, Split::Train),
                    "test": count(known, Split::Test),
                    "source": known.source(),
                })
            })
            .collect();
        printer.result(&serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    let rows = KnownDataset::ALL
        .into_iter()
        .map(|known| {
            vec![
                Cell::text(known.name()),
                Cell::text(known.title()),
                Cell::text(known.classes().to_string()),
                Cell::text(count(known, Split::Train).to_string()),
                Cell::text(count(known, Split::Test).to_string()),
                Cell::text(known.source()),
            ]
        })
        .collect();
    printer.result(&to_terminal_table(&Table {
        caption: "Data sets that are known; `diffrep fetch NAME` gets one or says how".into(),
        columns: vec![
            Column::text("name"),
            Column::text("title"),
            Column::number("classes"),
            Column::number("train"),
            Column::number("test"),
            Column::text("source"),
        ],
        rows,
        highlight: Vec::new(),
    }));
    Ok(())
}

fn look(args: &InspectArgs, printer: Printer) -> Result<()> {
    if let Some(sheet) = &args.sheet {
        // Wherever either is said from, links included.
        let whole = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path));
        let folder = whole(
            sheet
                .parent()
                .filter(|folder| *folder != "")
                .unwrap_or(Path::new(".")),
        )?;
        let inside = args.path.is_dir() && folder.starts_with(whole(&args.path)?);
        ensure!(
            sheet.extension().is_some_and(|end| end == "png") && !inside,
            "{} does not end in .png or lies in the data set: choose another name for the sheet",
            sheet.display()
        );
    }
    // A sheet that cannot be written is better known before all images are read.
    if let Some(folder) = args.sheet.as_deref().and_then(Path::parent) {
        diffrep_artifact::create_dir_all(folder)?;
    }
    let progress = Mutex::new((None, None));
    let on = |at: diffrep_datasets::InspectProgress| {
        let mut held = progress.lock().expect("progress does not panic");
        let (split, shown) = &mut *held;
        if *split != Some(at.split) {
            *split = Some(at.split);
            *shown = Some(printer.progress(&format!("inspect {}", at.split), at.total as u64));
        }
        if let Some(shown) = shown {
            shown.at(at.done as u64, "");
        }
    };
    let options = InspectOptions {
        most_listed: args.list,
        progress: Some(&on),
    };
    let (inspection, first) = match args.dataset {
        None => {
            let inspection = inspect(&args.path, &options)?;
            let first = args.sheet.as_ref().map(|_| first_split(&args.path));
            (inspection, first.transpose()?)
        }
        Some(known) => {
            let completeness = match args.allow_partial {
                true => Completeness::AllowPartial,
                false => Completeness::Full,
            };
            let (mut splits, mut refused) = (Vec::new(), Vec::new());
            for split in [Split::Train, Split::Test] {
                match open_known(known, &args.path, split, completeness) {
                    Ok(dataset) => splits.push(dataset),
                    Err(error) => refused.push((split, error)),
                }
            }
            if splits.is_empty()
                && let Some((_, error)) = refused.pop()
            {
                return Err(error.into());
            }
            let mut inspection = inspect_datasets(known.title(), &splits, &options);
            let refused = refused.into_iter().map(|(split, error)| RefusedSplit {
                split,
                reason: format!("{:#}", anyhow::Error::new(error)),
            });
            inspection.refused.extend(refused);
            (inspection, splits.into_iter().next())
        }
    };
    if let (_, Some(shown)) = progress.into_inner().expect("progress does not panic") {
        shown.finish();
    }
    if let (Some(path), Some(dataset)) = (&args.sheet, first) {
        let options = SheetOptions {
            per_class: args.per_class as usize,
            ..SheetOptions::default()
        };
        write_png(path, &contact_sheet(&dataset, &options)?)?;
        printer.say(&format!("wrote {}", path.display()));
    }
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&inspection)?);
    } else {
        tell(&inspection, printer);
    }
    Ok(())
}

fn first_split(path: &Path) -> Result<Dataset> {
    let splits = available_splits(path)?;
    let first = splits.first().context("the data set has no split")?;
    Ok(open(path, *first)?)
}

/// A picture of 1 or 3 channels as PNG.
fn write_png(path: &Path, picture: &Image) -> Result<()> {
    let mut bytes = Cursor::new(Vec::new());
    let kind = match picture.channels() {
        1 => ExtendedColorType::L8,
        _ => ExtendedColorType::Rgb8,
    };
    PngEncoder::new(&mut bytes).write_image(
        picture.pixels(),
        picture.width() as u32,
        picture.height() as u32,
        kind,
    )?;
    Ok(write_bytes_atomic(path, bytes.get_ref())?)
}

fn tell(inspection: &Inspection, printer: Printer) {
    printer.result(&format!(
        "{}, {} classes",
        inspection.layout,
        inspection.class_names.len()
    ));
    for refused in &inspection.refused {
        printer.result(&format!(
            "the {} split cannot be opened: {}",
            refused.split, refused.reason
        ));
    }
    let rows = inspection.splits.iter().map(row).collect();
    printer.result(&to_terminal_table(&Table {
        caption: "Splits".into(),
        columns: vec![
            Column::text("split"),
            Column::number("images"),
            Column::text("images a class"),
            Column::text("width x height (smallest, median, largest sides)"),
            Column::text("most common size"),
            Column::text("kinds"),
            Column::number("unreadable"),
        ],
        rows,
        highlight: Vec::new(),
    }));
    for split in &inspection.splits {
        for unreadable in &split.unreadable_listed {
            printer.result(&format!("unreadable: {}", unreadable.reason));
        }
        let untold = split.unreadable - split.unreadable_listed.len();
        if untold > 0 {
            printer.result(&format!("and {untold} more of the {} split", split.split));
        }
    }
    tell_duplicates(inspection, printer);
}

fn row(split: &SplitInspection) -> Vec<Cell> {
    let classes = &split.classes;
    let a_class = match classes.fewest == classes.most {
        true => classes.most.to_string(),
        false => format!(
            "{} ({}) to {} ({})",
            classes.fewest,
            few(&classes.fewest_names),
            classes.most,
            few(&classes.most_names)
        ),
    };
    let (sides, common) = match &split.sizes {
        None => (String::new(), String::new()),
        Some(inspected) => {
            let (width, height) = (&inspected.width, &inspected.height);
            let sides = format!(
                "{}x{}, {}x{}, {}x{}",
                width.min, height.min, width.median, height.median, width.max, height.max
            );
            let common = &inspected.most_common;
            let common = format!("{}x{} ({})", common.width, common.height, common.images);
            (sides, common)
        }
    };
    let kinds: Vec<String> = split
        .kinds
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    vec![
        Cell::text(split.split.to_string()),
        Cell::text(split.samples.to_string()),
        Cell::text(a_class),
        Cell::text(sides),
        Cell::text(common),
        Cell::text(kinds.join("; ")),
        Cell::text(split.unreadable.to_string()),
    ]
}

/// The first names, and how many more there are.
fn few(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [one, two] => format!("{one}, {two}"),
        [one, two, rest @ ..] => format!("{one}, {two} and {} more", rest.len()),
    }
}

fn tell_duplicates(inspection: &Inspection, printer: Printer) {
    let duplicates = &inspection.duplicates;
    if duplicates.groups == 0 {
        printer.result("no image occurs twice");
        return;
    }
    printer.result(&format!(
        "{} images occur more than once ({} copies): {} within a split, {} across splits, {} with \
         different labels",
        duplicates.groups,
        duplicates.surplus,
        duplicates.within_splits,
        duplicates.across_splits,
        duplicates.with_different_labels
    ));
    for group in &duplicates.listed {
        let samples: Vec<String> = group
            .samples
            .iter()
            .map(|one| format!("{} ({}, {})", one.name, one.split, one.class))
            .collect();
        printer.result(&format!("the same image: {}", samples.join(", ")));
    }
}
