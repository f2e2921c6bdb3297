//! `diffrep compare`: what changed between two runs.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use diffrep_artifact::Sha256Hex;
use diffrep_report::{Cell, Column, Table, to_terminal_table};
use diffrep_stats::{PairedDifference, Spread, paired_bootstrap_seeds};
use serde::Serialize;
use serde_json::Value;

use crate::commands::report::folders;
use crate::commands::reproduce::told::{RESULTS, Standing, Told};
use crate::printer::Printer;

const RESAMPLES: usize = 10_000;
const LEVEL: f64 = 0.95;
const PERCENT: f64 = 100.0;

/// Say what changed between two runs.
///
/// Compares accuracies contender by contender, settings, versions, devices, checkpoints and data. A change
/// is beyond the spread if its 95 % interval (paired over the test images, where both runs had the same ones) does
/// not hold zero and the ranges over seeds, where there are several, do not overlap.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep compare before/table1-mini/results.json runs/table1-mini/results.json\n  \
    diffrep compare docs/results runs --json")]
pub(crate) struct CompareArgs {
    /// A results.json, the folder of an experiment, or a folder of such folders.
    first: PathBuf,
    /// The same of the other run.
    second: PathBuf,
}

/// What changed between two runs of one or several experiments.
#[derive(Debug, Serialize)]
struct Comparison {
    experiments: Vec<Change>,
    /// Experiments that only one side has.
    only_first: Vec<String>,
    only_second: Vec<String>,
}

/// What changed in one experiment.
#[derive(Debug, Serialize)]
struct Change {
    name: String,
    first: Side,
    second: Side,
    /// Whether both records are the same file, byte for byte.
    same_record: bool,
    /// Versions, devices, checkpoints and data that differ.
    provenance: Vec<Changed>,
    settings: Vec<Changed>,
    accuracies: Vec<AccuracyChange>,
}

#[derive(Debug, Serialize)]
struct Side {
    folder: PathBuf,
    scale: String,
    results_sha256: Sha256Hex,
    created_unix: u64,
}

/// A value that differs; absent on the side that lacks it.
#[derive(Debug, PartialEq, Serialize)]
struct Changed {
    what: String,
    first: Option<Value>,
    second: Option<Value>,
}

/// A contender's accuracy on both sides.
#[derive(Debug, Serialize)]
struct AccuracyChange {
    name: String,
    first: Option<Spread>,
    second: Option<Spread>,
    /// Second minus first, as a share, with the interval where both classified the same test images.
    change: Option<f64>,
    interval: Option<PairedDifference>,
    /// Absent where there is neither an interval nor more than one seed on each side.
    beyond_spread: Option<bool>,
}

pub(crate) fn run(args: &CompareArgs, printer: Printer) -> Result<()> {
    let first = read(&args.first)?;
    let second = read(&args.second)?;
    let comparison = compare(&first, &second)?;
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&comparison)?);
    } else {
        printer.result(&text(&comparison));
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<Told>> {
    let file = path.file_name().is_some_and(|name| name == RESULTS);
    let dir = match path.parent() {
        Some(dir) if file && dir == Path::new("") => Path::new("."),
        Some(dir) if file => dir,
        _ => path,
    };
    let dirs = folders(&[dir.to_path_buf()])?;
    dirs.iter().map(|dir| Told::read(dir, &[])).collect()
}

/// Experiments are matched by name and scale; one on each side are compared whatever they are called.
fn compare(first: &[Told], second: &[Told]) -> Result<Comparison> {
    let mut comparison = Comparison {
        experiments: Vec::new(),
        only_first: Vec::new(),
        only_second: Vec::new(),
    };
    let title = |told: &Told| format!("{}, {}", told.name, told.scale);
    if let ([one], [other]) = (first, second) {
        enter(one, other, &mut comparison)?;
        return Ok(comparison);
    }
    for one in first {
        match second.iter().find(|other| title(other) == title(one)) {
            Some(other) => enter(one, other, &mut comparison)?,
            None => comparison.only_first.push(title(one)),
        }
    }
    let unmatched = second
        .iter()
        .filter(|other| first.iter().all(|one| title(one) != title(other)));
    comparison.only_second.extend(unmatched.map(title));
    if comparison.experiments.is_empty() {
        bail!(
            "the two have no experiment in common: the first has {}; the second has {}",
            comparison.only_first.join("; "),
            comparison.only_second.join("; ")
        );
    }
    Ok(comparison)
}

/// Compares two experiments, and their data sets where they are on several.
fn enter(one: &Told, other: &Told, comparison: &mut Comparison) -> Result<()> {
    comparison.experiments.push(change(one, other)?);
    for part in &one.parts {
        match other.parts.iter().find(|twin| twin.name == part.name) {
            Some(twin) => comparison.experiments.push(change(part, twin)?),
            None => comparison.only_first.push(part.name.clone()),
        }
    }
    let new = other
        .parts
        .iter()
        .filter(|part| one.parts.iter().all(|twin| twin.name != part.name));
    comparison
        .only_second
        .extend(new.map(|part| part.name.clone()));
    Ok(())
}

fn change(one: &Told, other: &Told) -> Result<Change> {
    let side = |told: &Told| Side {
        folder: told.dir.clone(),
        scale: told.scale.clone(),
        results_sha256: told.sha256.clone(),
        created_unix: told.created_unix,
    };
    let mut provenance = Vec::new();
    let sources = [&one.provenance, &other.provenance].map(serde_json::to_value);
    if let [Ok(first), Ok(second)] = &sources {
        differences("", first, second, &mut provenance);
    }
    // How the command was written decides nothing that the settings do not tell.
    provenance.retain(|changed| !changed.what.starts_with("command"));
    let mut settings = Vec::new();
    differences("", &one.settings, &other.settings, &mut settings);
    // Of one record with itself there is nothing to resample.
    let same_record = one.sha256 == other.sha256;
    let paired = !same_record && same_test_images(one, other);
    let standings = |told: &'_ Told| told.found.standings.clone();
    let (first, second) = (standings(one), standings(other));
    let mut accuracies = Vec::new();
    for standing in &first {
        let twin = second.iter().find(|twin| twin.name == standing.name);
        accuracies.push(accuracy(Some(standing), twin, paired)?);
    }
    for standing in &second {
        if first.iter().all(|twin| twin.name != standing.name) {
            accuracies.push(accuracy(None, Some(standing), paired)?);
        }
    }
    Ok(Change {
        name: match one.name == other.name {
            true => one.name.clone(),
            false => format!("{} against {}", one.name, other.name),
        },
        first: side(one),
        second: side(other),
        same_record,
        provenance,
        settings,
        accuracies,
    })
}

/// Whether two records are about the same test images: by what they say of these, or else, where one of them says
/// nothing, by the training images, which come from the same place.
fn same_test_images(one: &Told, other: &Told) -> bool {
    match (&one.test_sha256, &other.test_sha256) {
        (Some(one), Some(other)) => one == other,
        _ => one.provenance.data_sha256 == other.provenance.data_sha256,
    }
}

fn accuracy(
    first: Option<&Standing>,
    second: Option<&Standing>,
    paired: bool,
) -> Result<AccuracyChange> {
    let both = first.zip(second);
    let interval = match both {
        Some((one, other)) if paired && pairs(&one.correct, &other.correct) => Some(
            paired_bootstrap_seeds(&other.correct, &one.correct, RESAMPLES, LEVEL, 0)?,
        ),
        _ => None,
    };
    Ok(AccuracyChange {
        name: first
            .or(second)
            .map(|one| one.name.clone())
            .unwrap_or_default(),
        first: first.map(|one| one.test),
        second: second.map(|one| one.test),
        change: both.map(|(one, other)| other.test.mean - one.test.mean),
        beyond_spread: both
            .and_then(|(one, other)| beyond(&one.test, &other.test, interval.as_ref())),
        interval,
    })
}

/// Whether all seeds of both sides classified the same number of images.
fn pairs(one: &[Vec<bool>], other: &[Vec<bool>]) -> bool {
    let images = one.first().map(Vec::len);
    images.is_some()
        && !other.is_empty()
        && one.iter().chain(other).all(|run| Some(run.len()) == images)
}

fn beyond(one: &Spread, other: &Spread, interval: Option<&PairedDifference>) -> Option<bool> {
    let apart = one.max < other.min || other.max < one.min;
    let several = one.n > 1 && other.n > 1;
    match interval {
        Some(d) => {
            let excludes_zero = d.low > 0.0 || d.high < 0.0;
            Some(excludes_zero && (apart || !several))
        }
        None => several.then_some(apart),
    }
}

/// All values that differ, with their paths.
fn differences(path: &str, first: &Value, second: &Value, found: &mut Vec<Changed>) {
    let below = |key: &str| match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    };
    match (first, second) {
        _ if first == second => {}
        (Value::Object(one), Value::Object(other)) => {
            for (key, value) in one {
                match other.get(key) {
                    Some(twin) => differences(&below(key), value, twin, found),
                    None => found.push(Changed {
                        what: below(key),
                        first: Some(value.clone()),
                        second: None,
                    }),
                }
            }
            for (key, value) in other.iter().filter(|(key, _)| !one.contains_key(*key)) {
                found.push(Changed {
                    what: below(key),
                    first: None,
                    second: Some(value.clone()),
                });
            }
        }
        (Value::Array(one), Value::Array(other))
            if one.len() == other.len() && one.iter().all(Value::is_object) =>
        {
            for (index, (value, twin)) in one.iter().zip(other).enumerate() {
                differences(&below(&index.to_string()), value, twin, found);
            }
        }
        _ => found.push(Changed {
            what: path.to_owned(),
            first: Some(first.clone()),
            second: Some(second.clone()),
        }),
    }
}

fn text(comparison: &Comparison) -> String {
    let mut parts = Vec::new();
    for change in &comparison.experiments {
        let mut lines = vec![format!("{}, {}", change.name, change.second.scale)];
        if change.same_record {
            lines.push("  the same record, byte for byte".into());
            parts.push(lines.join("\n"));
            continue;
        }
        let value = |value: &Option<Value>| match value {
            None => "absent".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        };
        for changed in change.provenance.iter().chain(&change.settings) {
            lines.push(format!(
                "  {}: {} -> {}",
                changed.what,
                value(&changed.first),
                value(&changed.second)
            ));
        }
        if change.provenance.is_empty() && change.settings.is_empty() {
            lines.push("  the same settings, versions, checkpoint and data".into());
        }
        let mut text = lines.join("\n");
        if !change.accuracies.is_empty() {
            text.push_str("\n\n");
            text.push_str(to_terminal_table(&table(change)).trim_end());
        }
        parts.push(text);
    }
    for (side, names) in [
        ("first", &comparison.only_first),
        ("second", &comparison.only_second),
    ] {
        if !names.is_empty() {
            parts.push(format!("only in the {side}: {}", names.join("; ")));
        }
    }
    let beyond = comparison
        .experiments
        .iter()
        .flat_map(|change| &change.accuracies)
        .filter(|change| change.beyond_spread == Some(true))
        .count();
    let changes = comparison
        .experiments
        .iter()
        .flat_map(|change| &change.accuracies);
    let (total, open) = changes.fold((0, 0), |(total, open), change| {
        (
            total + 1,
            open + usize::from(change.beyond_spread.is_none()),
        )
    });
    if total > open {
        parts.push(match beyond {
            0 => "No accuracy changed beyond the spread.".to_owned(),
            1 => "1 accuracy changed beyond the spread.".to_owned(),
            many => format!("{many} accuracies changed beyond the spread."),
        });
    }
    if open > 0 {
        parts.push(format!(
            "{open} of {total} could not be judged: they have no spread and no pairs, or are on one side only."
        ));
    }
    parts.join("\n\n")
}

fn table(change: &Change) -> Table {
    let spread = |spread: &Option<Spread>| {
        spread.map_or_else(Cell::missing, |one| match one.n {
            1 => Cell::text(format!("{:.2}", one.mean * PERCENT)),
            _ => Cell::text(format!(
                "{:.2} ({:.2} to {:.2})",
                one.mean * PERCENT,
                one.min * PERCENT,
                one.max * PERCENT
            )),
        })
    };
    let rows = change.accuracies.iter().map(|one| {
        vec![
            Cell::text(one.name.clone()),
            spread(&one.first),
            spread(&one.second),
            one.change.map_or_else(Cell::missing, |change| {
                Cell::text(format!("{:+.2}", change * PERCENT))
            }),
            one.interval.map_or_else(Cell::missing, |d| {
                Cell::text(format!(
                    "{:+.2} to {:+.2}",
                    d.low * PERCENT,
                    d.high * PERCENT
                ))
            }),
            one.beyond_spread.map_or_else(Cell::missing, |beyond| {
                Cell::text(if beyond { "yes" } else { "no" })
            }),
        ]
    });
    Table {
        caption: "Test accuracy (%), mean and range over seeds; the change in points with its 95 % interval".into(),
        columns: vec![
            Column::text("contender"),
            Column::number("first"),
            Column::number("second"),
            Column::number("change"),
            Column::number("interval"),
            Column::text("beyond the spread"),
        ],
        rows: rows.collect(),
        highlight: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_have_paths_and_absent_sides() {
        let first =
            json!({"a": 1, "b": {"c": [1, 2], "d": "x"}, "e": [{"n": 1}, {"n": 2}], "gone": 0});
        let second =
            json!({"a": 1, "b": {"c": [1, 3], "d": "x"}, "e": [{"n": 1}, {"n": 5}], "new": null});
        let mut found = Vec::new();
        differences("", &first, &second, &mut found);
        let whats: Vec<&str> = found.iter().map(|changed| changed.what.as_str()).collect();
        assert_eq!(whats, ["b.c", "e.1.n", "gone", "new"]);
        assert_eq!(found[2].second, None);
        assert_eq!(found[3].first, None);
    }

    #[test]
    fn a_change_is_beyond_the_spread_only_if_seeds_and_images_say_so() {
        let standing = |right: &[usize]| {
            let correct: Vec<Vec<bool>> = right
                .iter()
                .map(|&n| (0..200).map(|i| i < n).collect())
                .collect();
            let means: Vec<f64> = right.iter().map(|&n| n as f64 / 200.0).collect();
            Standing {
                name: "probe".into(),
                test: Spread::of(&means).unwrap(),
                correct,
                control: None,
            }
        };
        let beyond = |one: &[usize], other: &[usize], paired| {
            let change = accuracy(Some(&standing(one)), Some(&standing(other)), paired).unwrap();
            (change.beyond_spread, change.interval.is_some())
        };
        assert_eq!(beyond(&[100], &[150], true), (Some(true), true));
        assert_eq!(beyond(&[100], &[101], true), (Some(false), true));
        // The images alone would say yes, the seeds do not.
        assert_eq!(beyond(&[100, 160], &[150, 155], true), (Some(false), true));
        assert_eq!(beyond(&[100, 102], &[150, 155], true), (Some(true), true));
        assert_eq!(beyond(&[100, 102], &[150, 155], false), (Some(true), false));
        assert_eq!(beyond(&[100], &[150], false), (None, false));
    }
}
