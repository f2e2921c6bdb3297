//! The page over several experiments: what a reader wants to know first stands first.

use std::path::Path;

use diffrep_artifact::Provenance;
use diffrep_report::{
    Answer, Axis, Block, Cell, Column, DifferencePlot, DifferenceRow, Figure, NoteKind, Report,
    Scale, Section, Table, VerdictLine, anchor, escape_inline, to_terminal_table,
};
use diffrep_stats::{PairedDifference, Spread, Verdict};

use super::claims::{Judged, Pair};
use super::{Against, Collected, Extent, relative};
use crate::commands::reproduce::protocol::{PROTOCOL, PROVENANCE};
use crate::commands::reproduce::told::Told;
use crate::printer::human_duration;

const PERCENT: f64 = 100.0;

pub(super) fn build(told: &[Told], all: &Collected, base: &Path, extent: Extent) -> Report {
    let scales = distinct(told.iter().map(|one| one.scale.as_str()));
    let mut sections = vec![claims_section(told, all), published_section(all)];
    sections.extend(controls_section(all));
    match extent {
        Extent::Whole => sections.extend(told.iter().map(|one| experiment_section(one, base))),
        Extent::Summary => sections.push(list_section(told, base)),
    }
    sections.push(cost_section(told));
    sections.retain(|section| !section.blocks.is_empty());
    Report {
        title: "How good a classifier is hidden inside a diffusion model?".into(),
        subtitle: format!(
            "{} at the scale {}. {}",
            many(told.len(), "experiment"),
            scales.join(", "),
            tally(&all.claims)
        ),
        verdicts: all
            .claims
            .iter()
            .map(|judged| VerdictLine {
                claim: escape_inline(&judged.claim),
                answer: shown(judged.verdict),
                evidence: evidence(judged, told, base, extent),
            })
            .collect(),
        sections,
    }
}

/// What the command prints: every claim with its answer, and the paper's values.
pub(super) fn terminal(all: &Collected) -> String {
    let mut text = format!("{}\n", tally(&all.claims));
    for judged in &all.claims {
        let decided = judged.decisive().map_or_else(String::new, sentence);
        text.push_str(&format!(
            "{:>9}  {} ({}, {}): {decided}\n",
            shown(judged.verdict).word().to_lowercase(),
            judged.claim,
            judged.experiment,
            judged.scale
        ));
    }
    let measured = all.published.iter().filter(|one| one.measured.is_some());
    let table = against_table(measured.collect());
    if !table.rows.is_empty() {
        text.push('\n');
        text.push_str(&to_terminal_table(&table));
    }
    text.trim_end().to_owned()
}

fn shown(verdict: Verdict) -> Answer {
    match verdict {
        Verdict::Yes => Answer::Yes,
        Verdict::No => Answer::No,
        Verdict::Undecided => Answer::Undecided,
    }
}

fn tally(claims: &[Judged]) -> String {
    let count = |verdict| {
        claims
            .iter()
            .filter(|judged| judged.verdict == verdict)
            .count()
    };
    format!(
        "Of {} that these records decide {} hold, {} do not, {} are undecided.",
        many(claims.len(), "claim"),
        count(Verdict::Yes),
        count(Verdict::No),
        count(Verdict::Undecided)
    )
}

/// A count with its noun.
fn many(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

fn points(d: &PairedDifference) -> String {
    format!(
        "{:+.2} [{:+.2}, {:+.2}]",
        d.difference * PERCENT,
        d.low * PERCENT,
        d.high * PERCENT
    )
}

/// A comparison in words.
fn sentence(pair: &Pair) -> String {
    let d = &pair.difference;
    let sides = match pair.sides.as_slice() {
        [one, other] => format!("{one} against {other}: "),
        _ => String::new(),
    };
    format!(
        "{sides}{:+.2} points, {:.0} % interval {:+.2} to {:+.2}",
        d.difference * PERCENT,
        d.level * PERCENT,
        d.low * PERCENT,
        d.high * PERCENT
    )
}

fn evidence(judged: &Judged, told: &[Told], base: &Path, extent: Extent) -> String {
    let Some(decisive) = judged.decisive() else {
        return String::new();
    };
    let of = match judged.pairs.len() {
        1 => String::new(),
        all => format!(" (of {all} comparisons the one that decides)"),
    };
    let name = judged.experiment.split('/').next().unwrap_or_default();
    let source = told
        .iter()
        .find(|one| one.name == name && one.scale == judged.scale);
    let from = source.map_or_else(String::new, |one| link(one, base, extent));
    let by = match source.is_some_and(|one| one.own) {
        true => "claimed",
        false => "the paper",
    };
    format!(
        "{}{of}, on {} {}; measured by {from}; {by}: {}",
        escape_inline(&sentence(decisive)),
        decisive.difference.n,
        escape_inline(&judged.on),
        escape_inline(&judged.at)
    )
}

/// A link to where the page, or another one, says more about an experiment.
fn link(told: &Told, base: &Path, extent: Extent) -> String {
    let words = escape_inline(&format!("{} at the scale {}", told.name, told.scale));
    match extent {
        Extent::Whole => format!("[{words}](#{})", anchor(&heading(told))),
        Extent::Summary => {
            let name = ["report.md", "report.html"]
                .into_iter()
                .find(|name| told.dir.join(name).exists());
            match name {
                Some(name) => format!(
                    "[{words}]({})",
                    relative(&told.dir, base).join(name).display()
                ),
                None => words,
            }
        }
    }
}

fn heading(told: &Told) -> String {
    format!("{}, {}: {}", told.name, told.scale, told.title)
}

fn claims_section(told: &[Told], all: &Collected) -> Section {
    let rows = all.claims.iter().filter_map(|judged| {
        let d = judged.decisive()?.difference;
        Some(DifferenceRow {
            label: judged.claim.clone(),
            difference: d.difference * PERCENT,
            low: d.low * PERCENT,
            high: d.high * PERCENT,
        })
    });
    let rows: Vec<DifferenceRow> = rows.collect();
    if rows.is_empty() {
        return Section::default();
    }
    let pairs = all.claims.iter().flat_map(|judged| {
        judged.pairs.iter().map(move |pair| {
            let side = |i: usize| {
                pair.sides
                    .get(i)
                    .map_or_else(Cell::missing, |s| Cell::text(s.clone()))
            };
            vec![
                Cell::text(judged.experiment.clone()),
                Cell::text(judged.claim.clone()),
                side(0),
                side(1),
                Cell::text(points(&pair.difference)),
                Cell::text(pair.difference.n.to_string()),
                Cell::text(shown(pair.verdict).word().to_lowercase()),
            ]
        })
    });
    let table = Table {
        caption: "Every comparison behind the claims. A claim holds if all of its comparisons say so, and does not \
            if one speaks against it."
            .into(),
        columns: vec![
            Column::text("experiment"),
            Column::text("claim"),
            Column::text("first"),
            Column::text("second"),
            Column::number("first ahead by").with_unit("points"),
            Column::number("images"),
            Column::text("answer"),
        ],
        rows: pairs.collect(),
        highlight: Vec::new(),
    };
    let plot = DifferencePlot {
        title: "The comparison that decides each claim".into(),
        axis: Axis::new(
            "difference in top-1 (points, logarithmic away from zero)",
            Scale::SymLog,
        ),
        below: "against".into(),
        above: "in favour".into(),
        rows,
        decimals: 2,
    };
    Section {
        title: match told.iter().all(|one| one.own) {
            true => "Claims".into(),
            false => "The paper's claims".into(),
        },
        blocks: vec![
            Block::Paragraph(
                "Answers are computed from the records, image by image: seeds are averaged, and test images are \
                 resampled 10,000 times for an interval of 95 %. Intervals are not corrected for the number of \
                 claims, and do not cover another training of the diffusion model. Claims about networks that no \
                 experiment here runs (BigBiGAN, MAGE, SimCLR, Stable Diffusion) are not decided, nor are those \
                 about which layers see alike, where no accuracy is measured."
                    .into(),
            ),
            Block::Figure(Figure {
                caption: "A claim that something is better holds where the interval lies right of zero; one that \
                    nothing changes, where it lies within its margin."
                    .into(),
                chart: plot.into(),
            }),
            Block::Details {
                summary: "Every comparison".into(),
                blocks: vec![Block::Table(table)],
            },
        ],
    }
}

fn published_section(all: &Collected) -> Section {
    let (measured, absent): (Vec<&Against>, Vec<&Against>) =
        all.published.iter().partition(|one| one.measured.is_some());
    let mut blocks = Vec::new();
    if all
        .published
        .iter()
        .any(|one| one.scale != diffrep_plan::PAPER)
    {
        blocks.push(Block::Note {
            kind: NoteKind::Warning,
            text: "Only the scale `paper` is held to the paper's values. At any other scale another model classifies \
                other images: both columns are shown, and their gap says nothing about the paper."
                .into(),
        });
    }
    if !measured.is_empty() {
        blocks.push(Block::Table(against_table(measured)));
    }
    if !absent.is_empty() {
        blocks.push(Block::Details {
            summary: format!(
                "{} that nothing here measured",
                many(absent.len(), "published value")
            ),
            blocks: vec![Block::Table(against_table(absent))],
        });
    }
    if all.published.is_empty() {
        blocks.clear();
    }
    Section {
        title: "Paper against measured".into(),
        blocks,
    }
}

fn range(test: &Spread) -> Cell {
    match test.n {
        1 => Cell::text("1 seed"),
        n => Cell::text(format!(
            "{:.2} to {:.2}, {n} seeds",
            test.min * PERCENT,
            test.max * PERCENT
        )),
    }
}

fn against_table(all: Vec<&Against>) -> Table {
    let rows = all.into_iter().map(|one| {
        let gap = one.measured.map(|test| test.mean * PERCENT - one.paper);
        vec![
            Cell::text(format!("{}, {}", one.experiment, one.scale)),
            Cell::text(one.name.clone()),
            Cell::number(one.paper, 2),
            one.measured
                .map_or_else(Cell::missing, |test| Cell::number(test.mean * PERCENT, 2)),
            one.measured.as_ref().map_or_else(Cell::missing, range),
            gap.map_or_else(Cell::missing, |gap| Cell::text(format!("{gap:+.2}"))),
            one.allowed_gap
                .map_or_else(Cell::missing, |allowed| Cell::number(allowed, 2)),
            match one.within {
                Some(true) => Cell::text("yes"),
                Some(false) => Cell::text("no"),
                None => Cell::missing(),
            },
        ]
    });
    Table {
        caption: "Top-1 accuracy as published and as measured; the gap is judged at the scale `paper` only.".into(),
        columns: vec![
            Column::text("experiment"),
            Column::text("published"),
            Column::number("paper").with_unit("%"),
            Column::number("measured").with_unit("%"),
            Column::number("range").with_unit("%"),
            Column::number("gap").with_unit("points"),
            Column::number("allowed").with_unit("points"),
            Column::text("within"),
        ],
        rows: rows.collect(),
        highlight: Vec::new(),
    }
}

fn controls_section(all: &Collected) -> Option<Section> {
    let rows: Vec<_> = all
        .controls
        .iter()
        .map(|control| {
            vec![
                Cell::text(format!("{}, {}", control.experiment, control.scale)),
                Cell::text(control.name.clone()),
                Cell::number(control.test.mean * PERCENT, 2),
                range(&control.test),
                Cell::text(points(&control.ahead)),
            ]
        })
        .collect();
    let table = Table {
        caption: "What the same probe reaches without the diffusion model: on raw pixels, and on the same network \
            with random weights. The lead of the diffusion model is paired on the test images, with a 95 % \
            interval."
            .into(),
        columns: vec![
            Column::text("experiment"),
            Column::text("control"),
            Column::number("top-1").with_unit("%"),
            Column::number("range").with_unit("%"),
            Column::number("diffusion ahead by").with_unit("points"),
        ],
        rows,
        highlight: Vec::new(),
    };
    (!table.rows.is_empty()).then(|| Section {
        title: "Controls".into(),
        blocks: vec![Block::Table(table)],
    })
}

fn experiment_section(told: &Told, base: &Path) -> Section {
    let mut blocks = experiment_blocks(told, base);
    for part in &told.parts {
        let name = part.name.rsplit('/').next().unwrap_or_default();
        blocks.push(Block::Details {
            summary: escape_inline(&format!("The data set {name}")),
            blocks: experiment_blocks(part, base),
        });
    }
    Section {
        title: heading(told),
        blocks,
    }
}

/// An experiment's own report, with what is for checking folded.
fn experiment_blocks(told: &Told, base: &Path) -> Vec<Block> {
    let report = &told.found.report;
    let mut blocks = vec![Block::Paragraph(report.subtitle.clone())];
    if !report.verdicts.is_empty() {
        blocks.push(Block::Details {
            summary: format!(
                "What it decides by itself: {}",
                many(report.verdicts.len(), "statement")
            ),
            blocks: vec![Block::Verdicts(report.verdicts.clone())],
        });
    }
    let (folded, open): (Vec<&Section>, Vec<&Section>) = report
        .sections
        .iter()
        .filter(|section| !section.blocks.is_empty())
        .partition(|section| [PROTOCOL, PROVENANCE].contains(&section.title.as_str()));
    for section in open {
        blocks.push(Block::Heading(section.title.clone()));
        blocks.extend(section.blocks.iter().cloned());
    }
    if let Some(protocol) = folded.iter().find(|section| section.title == PROTOCOL) {
        blocks.push(Block::Details {
            summary: PROTOCOL.into(),
            blocks: protocol.blocks.clone(),
        });
    }
    blocks.push(Block::Details {
        summary: PROVENANCE.into(),
        blocks: vec![Block::KeyValues(provenance(told, base))],
    });
    blocks
}

fn provenance(told: &Told, base: &Path) -> Vec<(String, String)> {
    let Provenance {
        diffrep_version,
        command,
        config_sha256,
        checkpoint_sha256,
        data_sha256,
        seed,
        device,
        host,
    } = &told.provenance;
    let record = relative(&told.dir, base).join("results.json");
    let or_none = |hash: &Option<diffrep_artifact::Sha256Hex>| {
        hash.as_ref()
            .map_or_else(|| "none".into(), ToString::to_string)
    };
    let pairs = [
        ("record", record.display().to_string()),
        ("its SHA-256", told.sha256.to_string()),
        ("made", date(told.created_unix)),
        ("by", command.join(" ")),
        ("diffrep", diffrep_version.clone()),
        ("device", device.clone()),
        (
            "machine",
            format!("{} {}, {} processors", host.os, host.arch, host.cpus),
        ),
        ("checkpoint SHA-256", or_none(checkpoint_sha256)),
        ("training images SHA-256", or_none(data_sha256)),
        ("settings SHA-256", config_sha256.to_string()),
        (
            "first seed",
            seed.map_or_else(|| "none".into(), |seed| seed.to_string()),
        ),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

/// A moment as `2026-11-28 03:05 UTC`.
fn date(unix: u64) -> String {
    let (days, seconds) = (unix / 86_400, unix % 86_400);
    // The calendar repeats every 400 years, which begin in March so that the leap day ends a year.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!(
        "{:04}-{month:02}-{day:02} {:02}:{:02} UTC",
        year + era * 400 + next,
        seconds / 3600,
        seconds / 60 % 60
    )
}

fn list_section(told: &[Told], base: &Path) -> Section {
    let mut blocks = Vec::new();
    for one in told {
        blocks.push(Block::Heading(heading(one)));
        let subtitle = &one.found.report.subtitle;
        blocks.push(Block::Paragraph(format!(
            "{subtitle} Its report: {}.",
            link(one, base, Extent::Summary)
        )));
        blocks.push(Block::Details {
            summary: PROVENANCE.into(),
            blocks: vec![Block::KeyValues(provenance(one, base))],
        });
    }
    Section {
        title: "The experiments".into(),
        blocks,
    }
}

fn cost_section(told: &[Told]) -> Section {
    let rows = told.iter().filter_map(|one| {
        let total = one.cost.total()?;
        Some(vec![
            Cell::text(format!("{}, {}", one.name, one.scale)),
            Cell::text(human_duration(total.seconds)),
            total
                .processor_seconds
                .map_or_else(Cell::missing, |seconds| Cell::text(human_duration(seconds))),
            Cell::text(total.forwards.to_string()),
            Cell::text(one.cost.runs.len().to_string()),
        ])
    });
    let rows: Vec<_> = rows.collect();
    let unknown = told.len() - rows.len();
    let mut blocks = Vec::new();
    if !rows.is_empty() {
        blocks.push(Block::Table(Table {
            caption: "Time of all runs of the command that ended, on a machine that may have had other work. \
                Forwards are images through an encoder when features were extracted, once for each timestep; \
                trainings with the network in the loop are not counted, and what experiments share counts for the \
                one that needed it first."
                .into(),
            columns: vec![
                Column::text("experiment"),
                Column::number("time"),
                Column::number("processor time"),
                Column::number("forwards"),
                Column::number("runs"),
            ],
            rows,
            highlight: Vec::new(),
        }));
    }
    if unknown > 0 {
        blocks.push(Block::Paragraph(format!(
            "Of {} no cost was recorded: it was run before costs were, or its `cost.json` is not beside its \
             record.",
            many(unknown, "experiment")
        )));
    }
    Section {
        title: "Cost".into(),
        blocks,
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_795_834_998), "2026-11-28 03:03 UTC");
        assert_eq!(date(4_107_542_399), "2100-02-28 23:59 UTC");
    }
}
