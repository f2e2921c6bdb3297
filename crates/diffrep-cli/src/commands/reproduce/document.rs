//! From results to the report: what a reader sees first is the answer, then the table, then the
//! curves, then everything needed to check them.

use diffrep_artifact::Record;
use diffrep_probe::{Cell, choose};
use diffrep_report::{
    Answer, Axis, Best, Block, Cell as TableCell, Column, DifferencePlot, DifferenceRow, Figure,
    Heatmap, ImageGrid, LineChart, LineStyle, NoteKind, Point, ReferenceLine, Report,
    Scale as AxisScale, Section, Series, Table, VerdictLine, to_terminal_table,
};
use diffrep_stats::Verdict;

use super::protocol::{protocol_section, provenance_section};
use super::results::{Choice, Claim, Results, Summary};
use super::{against_published, orientation};

pub(super) const PERCENT: f64 = 100.0;

/// The whole report.
pub(super) fn build(title: &str, record: &Record<Results>, pictures: Vec<ImageGrid>) -> Report {
    let results = &record.data;
    let mut sections = vec![accuracy_section(results), sweep_section(results)];
    if !pictures.is_empty() {
        sections.push(Section {
            title: "What the network sees and makes".into(),
            blocks: pictures.into_iter().map(Block::Images).collect(),
        });
    }
    sections.push(protocol_section(results));
    sections.push(provenance_section(record));
    Report {
        title: title.into(),
        subtitle: subtitle(results),
        verdicts: results.claims.iter().map(verdict_line).collect(),
        sections,
    }
}

/// What the command prints: the table and the verdicts.
pub(super) fn terminal(results: &Results) -> String {
    let mut text = to_terminal_table(&accuracy_table(results));
    text.push('\n');
    for claim in &results.claims {
        let line = verdict_line(claim);
        let answer = match line.answer {
            Answer::Yes => "yes",
            Answer::No => "no",
            Answer::Undecided => "undecided",
        };
        text.push_str(&format!("{answer:>9}  {}: {}\n", line.claim, line.evidence));
    }
    text.trim_end().to_string()
}

fn subtitle(results: &Results) -> String {
    let Some(row) = results.summary.first() else {
        return String::new();
    };
    format!(
        "A linear probe on frozen features of a diffusion model trained without labels reaches \
         **{:.2} %** top-1 on {} test images of {} classes ({}, {} seeds).",
        row.test.mean * PERCENT,
        results.data.test,
        results.data.classes,
        row.settings
            .first()
            .map(ToString::to_string)
            .unwrap_or_default(),
        row.test.n,
    )
}

fn verdict_line(claim: &Claim) -> VerdictLine {
    let d = &claim.difference;
    VerdictLine {
        claim: claim.text.clone(),
        answer: match claim.verdict {
            Verdict::Yes => Answer::Yes,
            Verdict::No => Answer::No,
            Verdict::Undecided => Answer::Undecided,
        },
        evidence: format!(
            "{:+.2} points, {:.0} % interval {:+.2} to {:+.2}, on {} {}",
            d.difference * PERCENT,
            d.level * PERCENT,
            d.low * PERCENT,
            d.high * PERCENT,
            d.n,
            claim.measured_on
        ),
    }
}

fn title(name: &str) -> &str {
    match name {
        "diffusion" => "diffusion model, linear probe",
        "pixels" => "control: raw pixels",
        "random" => "control: same network, random weights",
        other => other,
    }
}

fn accuracy_table(results: &Results) -> Table {
    let row = |row: &Summary| -> Vec<TableCell> {
        let settings: Vec<String> = row.settings.iter().map(ToString::to_string).collect();
        let range = format!(
            "{:.2} to {:.2}",
            row.test.min * PERCENT,
            row.test.max * PERCENT
        );
        let behind = row.behind.as_ref().map_or_else(TableCell::missing, |d| {
            TableCell::text(format!(
                "{:+.2} [{:+.2}, {:+.2}]",
                d.difference * PERCENT,
                d.low * PERCENT,
                d.high * PERCENT
            ))
        });
        let accuracy = TableCell::number(row.test.mean * PERCENT, 2);
        vec![
            TableCell::text(title(&row.name)),
            TableCell::text(settings.join("; ")),
            TableCell::text(row.features.to_string()),
            if row.name == "diffusion" {
                accuracy.best()
            } else {
                accuracy
            },
            TableCell::text(range),
            TableCell::text(row.test.n.to_string()),
            behind,
        ]
    };
    Table {
        caption: format!(
            "Top-1 accuracy on the {} test images, which were read once a seed. {} The difference is \
             diffusion minus the row, with a 95 % bootstrap interval over images, paired.",
            results.data.test,
            chosen_on(results),
        ),
        columns: vec![
            Column::text("features"),
            Column::text("setting"),
            Column::number("length"),
            Column::number("top-1").with_unit("%"),
            Column::number("range").with_unit("%"),
            Column::number("seeds"),
            Column::number("diffusion ahead by").with_unit("points"),
        ],
        rows: results.summary.iter().map(row).collect(),
        highlight: vec![0],
    }
}

/// On how many images what was chosen.
fn chosen_on(results: &Results) -> String {
    let (sweep, all) = (sweep_validation(results), results.data.validation);
    if sweep == all {
        return format!("Settings were chosen on {all} validation images.");
    }
    format!(
        "Timestep, block and pool were chosen on {sweep} validation images, learning rate and decay \
         on {all}."
    )
}

fn sweep_validation(results: &Results) -> usize {
    results.settings.sweep_validation_per_class * results.data.classes
}

/// How firm the choice is, as sentences.
fn choice_note(choice: &Choice) -> String {
    /// How many cells are named.
    const NAMED: usize = 6;
    let mut text = if choice.near.is_empty() {
        "Every other cell is told apart from the best".to_string()
    } else {
        let mut near: Vec<String> = choice.near.iter().map(ToString::to_string).collect();
        let more = near.len().saturating_sub(NAMED);
        near.truncate(NAMED);
        let more = if more > 0 {
            format!("; and {more} more")
        } else {
            String::new()
        };
        format!(
            "{} of {} other cells cannot be told apart from the best ({}{more})",
            choice.near.len(),
            choice.cells - 1,
            near.join("; "),
        )
    };
    text.push_str(
        " on these images (exact McNemar test, p at least 0.05, not corrected for many tests).",
    );
    if !choice.edges.is_empty() {
        text.push_str(&format!(
            " The choice lies at an end of what was tried: {}.",
            choice.edges.join("; ")
        ));
    }
    text
}

fn accuracy_section(results: &Results) -> Section {
    let differences = results
        .claims
        .iter()
        .map(|claim| DifferenceRow {
            label: claim.text.clone(),
            difference: claim.difference.difference * PERCENT,
            low: claim.difference.low * PERCENT,
            high: claim.difference.high * PERCENT,
        })
        .collect();
    let plot = DifferencePlot {
        title: "How much better, and how sure".into(),
        axis: Axis::new("difference in top-1 (points)", AxisScale::Linear),
        below: "worse".into(),
        above: "better".into(),
        rows: differences,
        decimals: 2,
    };
    let mut blocks = vec![
        Block::Table(accuracy_table(results)),
        Block::Figure(Figure {
            caption:
                "Each claim as a paired difference with its 95 % interval; a claim holds where \
                      the interval lies right of zero."
                    .into(),
            chart: plot.into(),
        }),
    ];
    let measured: Vec<(&str, f64)> = results
        .summary
        .iter()
        .map(|row| (row.name.as_str(), row.test.mean))
        .collect();
    blocks
        .extend(against_published(&results.scale, &results.published, &measured).map(Block::Table));
    blocks.extend(results.settings.note.as_ref().map(|note| Block::Note {
        kind: NoteKind::Warning,
        text: diffrep_report::escape_inline(note),
    }));
    let orientation = orientation(&results.scale, &results.published);
    if !orientation.is_empty() {
        blocks.push(Block::Note {
            kind: NoteKind::Info,
            text: diffrep_report::escape_inline(&format!(
                "{orientation} The numbers of this page say nothing about ImageNet."
            )),
        });
    }
    Section {
        title: "Accuracy".into(),
        blocks,
    }
}

/// The highest accuracy among the cells that `keep` lets through.
fn best_where(cells: &[Cell], keep: impl Fn(&Cell) -> bool) -> Option<f64> {
    let kept: Vec<Cell> = cells.iter().filter(|cell| keep(cell)).cloned().collect();
    choose(&kept).map(|cell| cell.accuracy * PERCENT)
}

fn sweep_section(results: &Results) -> Section {
    let cells = |name: &str| -> Vec<Cell> {
        let subject = results.subjects.iter().find(|subject| subject.name == name);
        subject
            .and_then(|subject| subject.cells.first().cloned())
            .unwrap_or_default()
    };
    let (ours, random, pixels) = (cells("diffusion"), cells("random"), cells("pixels"));
    let Some(best) = choose(&ours).map(|cell| cell.setting) else {
        return Section::default();
    };
    let pixel_line = choose(&pixels)
        .map(|cell| ReferenceLine::new("raw pixels, best pool", cell.accuracy * PERCENT));
    let lines: Vec<ReferenceLine> = pixel_line.into_iter().collect();
    let series = |name: &str,
                  cells: &[Cell],
                  style: LineStyle,
                  keys: &[f64],
                  of: &dyn Fn(&Cell) -> f64,
                  keep: &dyn Fn(&Cell) -> bool| {
        let points = keys
            .iter()
            .filter_map(|&x| Some(Point::new(x, best_where(cells, |c| of(c) == x && keep(c))?)))
            .collect();
        Series {
            style,
            ..Series::new(name, points)
        }
    };
    let keys = |of: &dyn Fn(&Cell) -> f64| -> Vec<f64> {
        let mut keys: Vec<f64> = ours.iter().map(of).collect();
        keys.sort_by(f64::total_cmp);
        keys.dedup();
        keys
    };
    let block = |c: &Cell| c.setting.block.get() as f64;
    let step = |c: &Cell| c.setting.t.unwrap_or(0) as f64;
    let pool = |c: &Cell| c.setting.pool.get() as f64;
    let chart = |title: &str,
                 x: Axis,
                 of: &dyn Fn(&Cell) -> f64,
                 keep: &dyn Fn(&Cell) -> bool,
                 split: bool| {
        let keys = keys(of);
        let mut all = Vec::new();
        if split {
            for side in self::pools(&ours) {
                let name = format!("diffusion, pool {side}");
                let only = |c: &Cell| keep(c) && c.setting.pool.get() == side;
                all.push(series(&name, &ours, LineStyle::Solid, &keys, of, &only));
            }
        } else {
            all.push(series(
                "diffusion",
                &ours,
                LineStyle::Solid,
                &keys,
                of,
                keep,
            ));
        }
        all.push(series(
            "random weights",
            &random,
            LineStyle::Dashed,
            &keys,
            of,
            keep,
        ));
        LineChart {
            title: title.into(),
            x,
            y: Axis::new("validation top-1 (%)", AxisScale::Linear),
            series: all,
            reference_lines: lines.clone(),
            annotations: Vec::new(),
        }
    };
    let at_t = |c: &Cell| c.setting.t == best.t;
    let at_block = |c: &Cell| c.setting.block == best.block;
    let at_both = |c: &Cell| at_t(c) && at_block(c);
    let t = best.t.unwrap_or(0);
    let charts = [
        (
            format!(
                "Accuracy against block at t = {t}, for each pool; random weights at their best pool."
            ),
            chart(
                "Block",
                Axis::new("block b", AxisScale::Linear),
                &block,
                &at_t,
                true,
            ),
        ),
        (
            format!(
                "Accuracy against timestep at block {}, best pool of each.",
                best.block
            ),
            chart(
                "Timestep",
                Axis::new("timestep t", AxisScale::SymLog),
                &step,
                &at_block,
                false,
            ),
        ),
        (
            format!(
                "Accuracy against pooled side at t = {t}, block {}.",
                best.block
            ),
            chart(
                "Pooling",
                Axis::new("pooled side", AxisScale::Log),
                &pool,
                &at_both,
                false,
            ),
        ),
    ];
    let mut blocks = vec![Block::Paragraph(format!(
        "Every block and pool of a timestep comes from one forward of each image. The best cell is \
         **{best}**. Curves show the highest validation accuracy over the recipe's grid ({} training, \
         {} validation images).",
        results.settings.sweep_train_per_class * results.data.classes,
        sweep_validation(results),
    ))];
    if let Some(choice) = &results.choice {
        blocks.push(Block::Note {
            kind: NoteKind::Info,
            text: diffrep_report::escape_inline(&choice_note(choice)),
        });
    }
    for (caption, chart) in charts {
        blocks.push(Block::Figure(Figure {
            caption,
            chart: chart.into(),
        }));
    }
    blocks.push(Block::Figure(Figure {
        caption: "Best pool of every block and timestep.".into(),
        chart: heatmap(&ours).into(),
    }));
    Section {
        title: "Where the classifier sits".into(),
        blocks,
    }
}

fn pools(cells: &[Cell]) -> Vec<usize> {
    let mut pools: Vec<usize> = cells.iter().map(|cell| cell.setting.pool.get()).collect();
    pools.sort_unstable();
    pools.dedup();
    pools
}

fn heatmap(cells: &[Cell]) -> Heatmap {
    let mut blocks: Vec<usize> = cells.iter().map(|cell| cell.setting.block.get()).collect();
    blocks.sort_unstable();
    blocks.dedup();
    let mut steps: Vec<Option<usize>> = cells.iter().map(|cell| cell.setting.t).collect();
    steps.sort_unstable();
    steps.dedup();
    let values = steps
        .iter()
        .map(|&t| {
            blocks
                .iter()
                .map(|&b| best_where(cells, |c| c.setting.t == t && c.setting.block.get() == b))
                .collect()
        })
        .collect();
    Heatmap {
        title: "Validation top-1 (%)".into(),
        x_label: "block b".into(),
        y_label: "timestep t".into(),
        columns: blocks.iter().map(ToString::to_string).collect(),
        rows: steps
            .iter()
            .map(|t| t.map_or("clean".into(), |t| t.to_string()))
            .collect(),
        value_label: "top-1 (%)".into(),
        values,
        decimals: 1,
        best: Best::Highest,
    }
}
