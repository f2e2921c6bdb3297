//! `diffrep report`: one page over finished experiments.

mod claims;
mod page;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use diffrep_artifact::{
    Host, Provenance, Record, Sha256Hex, create_dir_all, unix_now, write_bytes_atomic, write_record,
};
use diffrep_report::Report;
use diffrep_stats::{PairedDifference, Spread};
use serde::Serialize;

use self::claims::{Judged, judge};
use crate::commands::reproduce::cost::RunCost;
use crate::commands::reproduce::told::{RESULTS, Told};
use crate::printer::Printer;

/// Collect finished experiments into one page.
///
/// Reads the records (`results.json`) that `reproduce` left, runs nothing, and writes one page that needs
/// nothing beside itself: which of the paper's claims hold, the paper's values beside those measured,
/// controls, every experiment's tables and figures, what it cost, and where each number comes from.
/// Beside it go the same as Markdown (with its figures in a folder) and as JSON.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep report runs\n  \
    diffrep report docs/results/*-mini --out page.html\n  \
    diffrep report runs/table1-mini runs/figure1-mini --out heads.html --summary")]
pub(crate) struct ReportArgs {
    /// Folders of experiments, or folders of such folders; what holds no record is passed over.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// The page; FILE.md, FILE.json and FILE-figures/ are written beside it.
    #[arg(long, value_name = "FILE.html", default_value = "runs/report.html")]
    out: PathBuf,
    /// Leave out the tables and figures of the single experiments, and link to their own reports.
    #[arg(long)]
    summary: bool,
}

/// How much of each experiment is on the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All its tables and figures.
    Whole,
    /// A link to its own report.
    Summary,
}

pub(crate) fn run(args: &ReportArgs, printer: Printer) -> Result<()> {
    ensure!(
        args.out
            .extension()
            .is_some_and(|extension| extension == "html"),
        "{} does not end in .html",
        args.out.display()
    );
    let mut told = Vec::new();
    for dir in folders(&args.runs)? {
        told.push(Told::read(&dir, &[])?);
    }
    let extent = if args.summary {
        Extent::Summary
    } else {
        Extent::Whole
    };
    let written = write(&mut told, &args.out, extent)?;
    printer.result(if printer.json() {
        &written.json
    } else {
        &written.text
    });
    printer.say(&format!("page: {}", written.page.display()));
    Ok(())
}

/// The folders that hold a record, of those given and of those one level below.
pub(crate) fn folders(given: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in given {
        ensure!(path.exists(), "there is no {}", path.display());
        if path.join(RESULTS).exists() {
            found.push(path.clone());
            continue;
        }
        if !path.is_dir() {
            continue;
        }
        let entries =
            std::fs::read_dir(path).with_context(|| format!("reading {}", path.display()))?;
        let mut below = Vec::new();
        for entry in entries {
            let dir = entry?.path();
            if dir.join(RESULTS).exists() {
                below.push(dir);
            }
        }
        below.sort();
        found.extend(below);
    }
    if found.is_empty() {
        bail!(
            "no folder with a {RESULTS}: name those of finished experiments, such as runs/table1-mini, or the \
             folder they lie in"
        );
    }
    Ok(found)
}

/// What was written, and how a terminal shows it.
pub(crate) struct Written {
    pub(crate) page: PathBuf,
    pub(crate) text: String,
    json: String,
}

/// Everything on the page, as JSON.
#[derive(Debug, Serialize)]
struct Collected {
    claims: Vec<Judged>,
    published: Vec<Against>,
    controls: Vec<Control>,
    experiments: Vec<Entry>,
}

/// A value that the paper prints beside the one measured.
#[derive(Debug, Serialize)]
struct Against {
    experiment: String,
    scale: String,
    name: String,
    /// In percent, as printed.
    paper: f64,
    /// What was measured for the same contender, as a share.
    measured: Option<Spread>,
    /// Points that are allowed between them at the scale `paper`.
    allowed_gap: Option<f64>,
    /// Whether they are that close; absent at scales that are not held to the paper's values.
    within: Option<bool>,
}

/// Something that no one would call the method, on the same images.
#[derive(Debug, Serialize)]
struct Control {
    experiment: String,
    scale: String,
    name: String,
    test: Spread,
    /// By how much the method is ahead.
    ahead: PairedDifference,
}

/// An experiment and its record.
#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    scale: String,
    folder: PathBuf,
    results_sha256: Sha256Hex,
    created_unix: u64,
    provenance: Provenance,
    standings: Vec<Accuracy>,
    cost: Option<RunCost>,
    parts: Vec<Entry>,
}

/// A contender's accuracy.
#[derive(Debug, Serialize)]
struct Accuracy {
    name: String,
    /// As a share, over seeds.
    test: Spread,
}

/// Writes the page at `page` and its kin beside it. Experiments are brought into the order of the paper.
///
/// # Errors
///
/// When a record does not hold what a claim is about, or a file cannot be written.
pub(crate) fn write(told: &mut [Told], page: &Path, extent: Extent) -> Result<Written> {
    // The paper's tables, its figures, what is this project's own.
    let rank = |name: &str| match name {
        _ if name.starts_with("table") => 0,
        _ if name.starts_with("figure") => 1,
        _ => 2,
    };
    told.sort_by_key(|told| (rank(&told.name), told.name.clone(), told.scale.clone()));
    let base = page.parent().unwrap_or(Path::new(""));
    let collected = collect(told, base)?;
    let figures = page.file_stem().unwrap_or_default().to_string_lossy() + "-figures";
    let record = Record {
        schema: "diffrep.collected".into(),
        version: 1,
        created_unix: unix_now(),
        provenance: Provenance {
            diffrep_version: env!("CARGO_PKG_VERSION").into(),
            command: std::env::args().collect(),
            config_sha256: sources(&collected.experiments)?,
            checkpoint_sha256: None,
            data_sha256: None,
            seed: None,
            device: "none: records were read".into(),
            host: Host::current(),
        },
        data: &collected,
    };
    let report = page::build(told, &collected, base, extent);
    diffrep_report::check(&report)?;
    if base != Path::new("") {
        create_dir_all(base)?;
    }
    write_bytes_atomic(page, diffrep_report::to_html(&report).as_bytes())?;
    let markdown = diffrep_report::to_markdown(&report, &figures);
    write_bytes_atomic(page.with_extension("md"), markdown.as_bytes())?;
    write_pictures(&report, &base.join(&*figures))?;
    write_record(page.with_extension("json"), &record)?;
    Ok(Written {
        page: page.to_path_buf(),
        text: page::terminal(&collected),
        json: serde_json::to_string_pretty(&record)?,
    })
}

/// Writes the pictures of a report's Markdown into a folder, and deletes those of an earlier report.
///
/// # Errors
///
/// When a file cannot be written or deleted.
pub(crate) fn write_pictures(report: &Report, folder: &Path) -> Result<()> {
    let pictures = diffrep_report::assets(report);
    if !pictures.is_empty() {
        create_dir_all(folder)?;
    }
    for (name, bytes) in &pictures {
        write_bytes_atomic(folder.join(name), bytes)?;
    }
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_ours =
            name.starts_with("figure-") && [".svg", ".png"].iter().any(|end| name.ends_with(end));
        if is_ours && pictures.iter().all(|(kept, _)| **kept != *name) {
            let path = entry.path();
            std::fs::remove_file(&path).with_context(|| format!("deleting {}", path.display()))?;
        }
    }
    Ok(())
}

/// One hash for all records that went in.
fn sources(entries: &[Entry]) -> Result<Sha256Hex> {
    let hashes: Vec<String> = entries
        .iter()
        .map(|entry| entry.results_sha256.to_string())
        .collect();
    Ok(Sha256Hex::hash_json(&hashes)?)
}

fn collect(told: &[Told], base: &Path) -> Result<Collected> {
    let mut collected = Collected {
        claims: Vec::new(),
        published: Vec::new(),
        controls: Vec::new(),
        experiments: told.iter().map(|one| entry(one, base)).collect(),
    };
    for one in told {
        collected.claims.extend(judge(one)?);
        collected.published.extend(against(one));
        for one in std::iter::once(one).chain(&one.parts) {
            collected.controls.extend(controls(one));
        }
    }
    Ok(collected)
}

fn entry(told: &Told, base: &Path) -> Entry {
    let standings = told.found.standings.iter().map(|one| Accuracy {
        name: one.name.clone(),
        test: one.test,
    });
    Entry {
        name: told.name.clone(),
        scale: told.scale.clone(),
        folder: relative(&told.dir, base),
        results_sha256: told.sha256.clone(),
        created_unix: told.created_unix,
        provenance: told.provenance.clone(),
        standings: standings.collect(),
        cost: told.cost.total(),
        parts: told.parts.iter().map(|part| entry(part, base)).collect(),
    }
}

/// A folder as seen from the page, where it lies below it; else as it was given.
fn relative(dir: &Path, base: &Path) -> PathBuf {
    let whole = |path: &Path| {
        let path = if path == Path::new("") {
            Path::new(".")
        } else {
            path
        };
        path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
    };
    whole(dir)
        .strip_prefix(whole(base))
        .map_or_else(|_| dir.to_path_buf(), Path::to_path_buf)
}

fn against(told: &Told) -> impl Iterator<Item = Against> + '_ {
    told.published.iter().map(|published| {
        let named = |name: &String| told.found.standings.iter().find(|one| one.name == *name);
        let measured = published
            .contender
            .as_ref()
            .and_then(named)
            .map(|one| one.test);
        let gap = measured.map(|test| test.mean * 100.0 - published.top1);
        Against {
            experiment: told.name.clone(),
            scale: told.scale.clone(),
            name: published.name.clone(),
            paper: published.top1,
            measured,
            allowed_gap: published.allowed_gap,
            within: match (told.scale.as_str(), gap, published.allowed_gap) {
                (diffrep_plan::PAPER, Some(gap), Some(allowed)) => Some(gap.abs() <= allowed),
                _ => None,
            },
        }
    })
}

fn controls(told: &Told) -> impl Iterator<Item = Control> + '_ {
    told.found.standings.iter().filter_map(|one| {
        Some(Control {
            experiment: told.name.clone(),
            scale: told.scale.clone(),
            name: one.name.clone(),
            test: one.test,
            ahead: one.control?,
        })
    })
}
