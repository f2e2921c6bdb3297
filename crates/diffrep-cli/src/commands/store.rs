//! `diffrep store`: what feature stores hold, whether their bytes are those that were written, and which
//! of them may go.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use diffrep_artifact::{Lock, unix_now};
use diffrep_report::{Cell, Column, Table, to_terminal_table};
use diffrep_store::{ShardState, StoreError, Survey, is_store};
use serde::Serialize;

use crate::printer::{Printer, human_duration};

/// List, verify and clear away feature stores.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep store ls\n  \
    diffrep store verify features/train\n  \
    diffrep store gc runs --older-than 7\n  \
    diffrep store gc runs --older-than 7 --delete")]
pub(crate) struct StoreArgs {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// What each store holds: columns, rows, size, whether it is finished, and its age.
    Ls(Roots),
    /// Read every shard and compare it with the checksum that was taken when it was written.
    Verify(Roots),
    /// Remove stores that nothing needs; without --delete only say which.
    ///
    /// These are half-done stores, stores all of whose columns lie in others beside them, and stores on a shelf
    /// of `reproduce` that this version of the program does not read. A store that a process is at stays.
    Gc(GcArgs),
}

#[derive(Debug, Args)]
struct Roots {
    /// Stores, or folders below which they lie.
    #[arg(default_value = "runs")]
    paths: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct GcArgs {
    #[command(flatten)]
    roots: Roots,
    /// Remove them.
    #[arg(long)]
    delete: bool,
    /// Only stores that were last written at least so many days ago.
    #[arg(long, value_name = "DAYS", default_value_t = 0.0)]
    older_than: f64,
    /// Finished stores on the shelves of `reproduce` too: it computes them again when it needs them.
    #[arg(long)]
    shelves: bool,
}

pub(crate) fn run(args: &StoreArgs, printer: Printer) -> Result<()> {
    match &args.command {
        StoreCommand::Ls(roots) => list(&look(&roots.paths)?, printer),
        StoreCommand::Verify(roots) => verify(&look(&roots.paths)?, printer),
        StoreCommand::Gc(args) => collect(args, printer),
    }
}

/// A folder with the manifest of a store, and what is in it if this program can read it.
struct Found {
    dir: PathBuf,
    survey: Result<Survey, StoreError>,
}

/// All stores in and below some folders.
fn look(roots: &[PathBuf]) -> Result<Vec<Found>> {
    let mut dirs = Vec::new();
    for root in roots {
        ensure!(
            root.is_dir(),
            "{} is no folder: name a store, or a folder below which stores lie",
            root.display()
        );
        descend(root, &mut dirs)?;
    }
    let mut seen = BTreeSet::new();
    dirs.retain(|dir| seen.insert(dir.clone()));
    let found = dirs.into_iter().map(|dir| Found {
        survey: Survey::of(&dir),
        dir,
    });
    Ok(found.collect())
}

/// Stores are not looked for inside of stores, in hidden folders and behind links.
fn descend(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    if is_store(dir) {
        found.push(dir.to_path_buf());
        return Ok(());
    }
    let mut below = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !hidden && entry.file_type()?.is_dir() {
            below.push(entry.path());
        }
    }
    below.sort();
    below.iter().try_for_each(|dir| descend(dir, found))
}

/// A store as it is listed.
#[derive(Debug, Serialize)]
struct Line {
    folder: PathBuf,
    columns: Vec<String>,
    rows: usize,
    dtype: String,
    bytes: u64,
    shards: usize,
    whole_shards: usize,
    /// Of shards that are there but not as they must be.
    damaged: Vec<String>,
    finished: bool,
    /// Since a file of it was last written.
    age_seconds: Option<u64>,
}

impl Line {
    fn of(survey: &Survey) -> Self {
        let damaged = survey.shards.iter().filter_map(|shard| match shard {
            ShardState::Damaged(what) => Some(what.clone()),
            ShardState::Whole | ShardState::Missing => None,
        });
        Self {
            folder: survey.dir.clone(),
            columns: names(survey),
            rows: survey.spec.samples,
            dtype: survey.spec.dtype.to_string(),
            bytes: survey.bytes,
            shards: survey.shards.len(),
            whole_shards: survey.whole_shards(),
            damaged: damaged.collect(),
            finished: survey.is_whole(),
            age_seconds: age(survey),
        }
    }

    fn state(&self) -> String {
        match (self.finished, self.damaged.len()) {
            (true, _) => "finished".into(),
            (false, 0) => format!("half done, {} of {} shards", self.whole_shards, self.shards),
            (false, damaged) => format!(
                "half done, {} of {} shards, {damaged} damaged",
                self.whole_shards, self.shards
            ),
        }
    }
}

fn names(survey: &Survey) -> Vec<String> {
    survey
        .spec
        .columns
        .iter()
        .map(|column| column.name.clone())
        .collect()
}

fn age(survey: &Survey) -> Option<u64> {
    let written = survey.modified?.duration_since(UNIX_EPOCH).ok()?;
    Some(unix_now().saturating_sub(written.as_secs()))
}

fn age_in_words(seconds: Option<u64>) -> String {
    match seconds {
        None => "unknown".into(),
        Some(seconds) if seconds >= 2 * 86_400 => format!("{} days", seconds / 86_400),
        Some(seconds) => human_duration(seconds as f64),
    }
}

/// Bytes as a person says them.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

fn list(found: &[Found], printer: Printer) -> Result<()> {
    let lines: Vec<Line> = found
        .iter()
        .filter_map(|found| Some(Line::of(found.survey.as_ref().ok()?)))
        .collect();
    for found in found {
        if let Err(error) = &found.survey {
            printer.say(&format!("{}: {error}", found.dir.display()));
        }
    }
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&lines)?);
        return Ok(());
    }
    let rows = lines.iter().map(|line| {
        vec![
            Cell::text(line.folder.display().to_string()),
            Cell::text(few(&line.columns)),
            Cell::text(line.rows.to_string()),
            Cell::text(line.dtype.clone()),
            Cell::text(size(line.bytes)),
            Cell::text(line.state()),
            Cell::text(age_in_words(line.age_seconds)),
        ]
    });
    let total: u64 = lines.iter().map(|line| line.bytes).sum();
    let table = Table {
        caption: format!("{} stores, {}", lines.len(), size(total)),
        columns: vec![
            Column::text("store"),
            Column::text("columns"),
            Column::number("rows"),
            Column::text("type"),
            Column::number("size"),
            Column::text("state"),
            Column::number("last written"),
        ],
        rows: rows.collect(),
        highlight: Vec::new(),
    };
    printer.result(to_terminal_table(&table).trim_end());
    Ok(())
}

/// The first names, and how many there are beside them.
fn few(names: &[String]) -> String {
    const NAMED: usize = 2;
    let first = names
        .iter()
        .take(NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join(" ");
    match names.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// A store as it was verified.
#[derive(Debug, Serialize)]
struct Verified {
    folder: PathBuf,
    shards: usize,
    bytes: u64,
    /// What is wrong with shards that are missing, damaged or changed.
    wrong: Vec<String>,
}

fn verify(found: &[Found], printer: Printer) -> Result<()> {
    let mut verified = Vec::new();
    let total: u64 = found
        .iter()
        .filter_map(|one| Some(one.survey.as_ref().ok()?.bytes))
        .sum();
    let mut progress = printer.bytes("verifying", Some(total));
    let mut read = 0;
    for found in found {
        let (shards, bytes, wrong) = match &found.survey {
            Err(error) => (0, 0, vec![error.to_string()]),
            Ok(survey) => {
                let wrong = diffrep_store::verify(&found.dir)?;
                let wrong = wrong.iter().map(ToString::to_string).collect();
                (survey.shards.len(), survey.bytes, wrong)
            }
        };
        read += bytes;
        progress.at(read, "");
        verified.push(Verified {
            folder: found.dir.clone(),
            shards,
            bytes,
            wrong,
        });
    }
    progress.finish();
    let bad = verified.iter().filter(|one| !one.wrong.is_empty()).count();
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&verified)?);
    } else {
        let lines = verified.iter().map(|one| match one.wrong.as_slice() {
            [] => format!(
                "{}: {} shards, {}, as they were written",
                one.folder.display(),
                one.shards,
                size(one.bytes)
            ),
            wrong => format!("{}: {}", one.folder.display(), wrong.join("; ")),
        });
        printer.result(&lines.collect::<Vec<_>>().join("\n"));
    }
    if bad > 0 {
        bail!(
            "{bad} of {} stores are not as they were written",
            verified.len()
        );
    }
    Ok(())
}

/// Why a store may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Reason {
    /// All its columns lie in finished stores beside it.
    Superseded,
    /// It is not finished.
    HalfDone,
    /// It lies on a shelf, and this version of the program computes other numbers.
    OtherVersion,
    /// It lies on a shelf, and was asked for.
    Shelf,
}

impl Reason {
    fn words(self) -> &'static str {
        match self {
            Self::Superseded => "all its columns are in finished stores beside it",
            Self::HalfDone => "half done",
            Self::OtherVersion => "of another version of the program",
            Self::Shelf => "on a shelf, can be computed again",
        }
    }
}

/// A store that may go.
#[derive(Debug, Serialize)]
struct Removal {
    folder: PathBuf,
    reason: Reason,
    bytes: u64,
    age_seconds: Option<u64>,
    removed: bool,
    /// Why it was not removed although it should have been.
    kept: Option<String>,
}

fn collect(args: &GcArgs, printer: Printer) -> Result<()> {
    ensure!(
        args.older_than >= 0.0 && args.older_than.is_finite(),
        "--older-than {} is no number of days: use 0 or more",
        args.older_than
    );
    let found = look(&args.roots.paths)?;
    let surveys: Vec<&Survey> = found
        .iter()
        .filter_map(|one| one.survey.as_ref().ok())
        .collect();
    let old = |survey: &Survey| {
        age(survey).is_none_or(|seconds| seconds as f64 >= args.older_than * 86_400.0)
    };
    let mut removals = Vec::new();
    for (survey, reason) in candidates(&surveys, args.shelves) {
        if !old(survey) {
            continue;
        }
        let outcome = args.delete.then(|| remove(survey));
        removals.push(Removal {
            folder: survey.dir.clone(),
            reason,
            bytes: survey.bytes,
            age_seconds: age(survey),
            removed: matches!(outcome, Some(Ok(()))),
            kept: outcome
                .and_then(Result::err)
                .map(|error| format!("{error:#}")),
        });
    }
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&removals)?);
    } else {
        printer.result(&removal_text(&removals, args.delete));
    }
    Ok(())
}

/// Removes a store; one on a shelf only while no `reproduce` is at its folder of runs, whose experiments
/// read it without a lock of its own.
fn remove(survey: &Survey) -> Result<()> {
    let whole = survey.dir.canonicalize()?;
    let runs = match on_shelf(&whole) {
        true => whole
            .ancestors()
            .find(|folder| folder.ends_with("features"))
            .and_then(Path::parent),
        false => None,
    };
    let _lock = runs.map(Lock::acquire).transpose()?;
    Ok(diffrep_store::remove(survey)?)
}

/// Stores that may go, each with the first reason that fits.
fn candidates<'a>(surveys: &[&'a Survey], shelves: bool) -> Vec<(&'a Survey, Reason)> {
    let mut going: Vec<(&Survey, Reason)> = Vec::new();
    for &survey in surveys {
        let stays = |other: &&&Survey| {
            let beside = other.dir.parent() == survey.dir.parent() && other.dir != survey.dir;
            // Of two with the same columns one stays.
            let superseded = |(gone, why): &(&Survey, Reason)| {
                *why == Reason::Superseded && gone.dir == other.dir
            };
            beside && other.is_whole() && !going.iter().any(superseded)
        };
        let shelf = on_shelf(&survey.dir);
        // Folders side by side share columns on a shelf only; elsewhere they are of different images.
        let columns: BTreeSet<String> = match shelf {
            true => surveys
                .iter()
                .filter(stays)
                .flat_map(|other| names(other))
                .collect(),
            false => BTreeSet::new(),
        };
        let reason = if names(survey).iter().all(|name| columns.contains(name)) {
            Reason::Superseded
        } else if survey.is_damaged() {
            // Of what a file system does not let read nothing is known; `verify` tells.
            continue;
        } else if !survey.is_whole() {
            Reason::HalfDone
        } else if shelf && !diffrep_extract::is_current(&survey.spec) {
            Reason::OtherVersion
        } else if shelf && shelves {
            Reason::Shelf
        } else {
            continue;
        };
        going.push((survey, reason));
    }
    going
}

/// Whether a store lies where `reproduce` keeps features: in a folder named by a hash, in one of the images'.
fn on_shelf(dir: &Path) -> bool {
    let hashed = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let whole = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    hashed(&whole) && whole.parent().is_some_and(hashed)
}

fn removal_text(removals: &[Removal], delete: bool) -> String {
    if removals.is_empty() {
        return "nothing to remove".into();
    }
    let mut lines: Vec<String> = removals
        .iter()
        .map(|one| {
            let what = match (&one.kept, one.removed) {
                (Some(why), _) => format!("kept: {why}"),
                (None, true) => "removed".into(),
                (None, false) => "would go".into(),
            };
            format!(
                "{what}  {}  {}, {}, last written {} ago",
                one.folder.display(),
                size(one.bytes),
                one.reason.words(),
                age_in_words(one.age_seconds)
            )
        })
        .collect();
    let sum = |keep: &dyn Fn(&Removal) -> bool| -> u64 {
        removals
            .iter()
            .filter(|one| keep(one))
            .map(|one| one.bytes)
            .sum()
    };
    lines.push(match delete {
        true => format!("{} freed", size(sum(&|one| one.removed))),
        false => format!(
            "{} would be freed; --delete removes them",
            size(sum(&|_| true))
        ),
    });
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1_250_000), "1.2 MB");
        assert_eq!(size(3_400_000_000_000_000), "3400.0 TB");
    }

    #[test]
    fn shelves_are_known_by_their_folders() {
        let hash = "0123456789abcdef";
        assert!(on_shelf(Path::new(&format!(
            "/x/features/diffusion-train/{hash}/{hash}"
        ))));
        assert!(!on_shelf(Path::new(&format!("/x/features/{hash}"))));
        assert!(!on_shelf(Path::new("/x/features/train")));
    }
}
