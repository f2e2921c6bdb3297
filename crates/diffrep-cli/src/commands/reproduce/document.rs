//! From results to the report: what a reader sees first is the answer, then the table, then the
//! curves, then everything needed to check them.

use diffrep_artifact::Record;
use diffrep_plan::{Experiment, Scale};
use diffrep_probe::{Cell, choose};
use diffrep_report::{
    Align, Answer, Axis, Best, Block, Cell as TableCell, Column, DifferencePlot, DifferenceRow,
    Figure, Heatmap, ImageGrid, LineChart, LineStyle, NoteKind, Point, ReferenceLine, Report,
    Scale as AxisScale, Section, Series, Table, VerdictLine, to_terminal_table,
};
use diffrep_stats::Verdict;

use super::results::{Claim, Results, Summary};

const PERCENT: f64 = 100.0;

/// The whole report.
pub(super) fn build(
    experiment: &Experiment,
    scale: &Scale,
    record: &Record<Results>,
    noised: ImageGrid,
    samples: Option<ImageGrid>,
) -> Report {
    let results = &record.data;
    Report {
        title: experiment.title.clone(),
        subtitle: subtitle(results),
        verdicts: results.claims.iter().map(verdict_line).collect(),
        sections: vec![
            accuracy_section(results),
            sweep_section(results),
            pictures_section(noised, samples),
            protocol_section(results, scale),
            provenance_section(record),
        ],
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
            "Top-1 accuracy on the {} test images. Settings were chosen on {} validation images; the \
             test images were read once a seed. The difference is diffusion minus the row, with a \
             95 % bootstrap interval over images, paired.",
            results.data.test, results.data.validation
        ),
        columns: vec![
            Column {
                name: "features".into(),
                align: Align::Left,
                unit: None,
            },
            Column {
                name: "setting".into(),
                align: Align::Left,
                unit: None,
            },
            Column {
                name: "length".into(),
                align: Align::Right,
                unit: None,
            },
            Column {
                name: "top-1".into(),
                align: Align::Right,
                unit: Some("%".into()),
            },
            Column {
                name: "range".into(),
                align: Align::Right,
                unit: Some("%".into()),
            },
            Column {
                name: "seeds".into(),
                align: Align::Right,
                unit: None,
            },
            Column {
                name: "diffusion ahead by".into(),
                align: Align::Right,
                unit: Some("points".into()),
            },
        ],
        rows: results.summary.iter().map(row).collect(),
        highlight: vec![0],
    }
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
    let published: Vec<String> = results
        .published
        .iter()
        .map(|value| format!("{}: {:.2} %", value.name, value.top1))
        .collect();
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
    if !published.is_empty() {
        blocks.push(Block::Note {
            kind: NoteKind::Info,
            text: format!(
                "For orientation only, another model on other data: {}. The numbers of this page \
                 say nothing about ImageNet.",
                diffrep_report::escape_inline(&published.join("; "))
            ),
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
        results.settings.sweep_validation_per_class * results.data.classes,
    ))];
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

fn pictures_section(noised: ImageGrid, samples: Option<ImageGrid>) -> Section {
    let mut blocks = vec![Block::Images(noised)];
    blocks.extend(samples.map(Block::Images));
    Section {
        title: "What the network sees and makes".into(),
        blocks,
    }
}

fn protocol_section(results: &Results, scale: &Scale) -> Section {
    let recipe = |recipe: &diffrep_probe::Recipe| {
        format!(
            "{}: {} epochs, batch {}, learning rate x {} every {} epochs, features {}, rates {:?}, decays {:?}",
            recipe.name,
            recipe.epochs,
            recipe.batch,
            recipe.step_factor,
            recipe.step_every,
            if recipe.standardize {
                "standardised"
            } else {
                "as they are"
            },
            recipe.learning_rates,
            recipe.weight_decays
        )
    };
    let swept = format!(
        "{} of {}; networks not swept take the best setting of those that are",
        scale.random_networks_swept, scale.random_networks
    );
    let pairs = [
        ("training images", results.data.train.to_string()),
        ("validation images", results.data.validation.to_string()),
        ("test images", results.data.test.to_string()),
        ("timesteps swept", format!("{:?}", scale.timesteps)),
        ("pools swept", format!("{:?}", scale.pools)),
        ("raw-pixel pools swept", format!("{:?}", scale.pixel_pools)),
        ("random networks swept", swept),
        (
            "seeds (weights, order, noise)",
            format!("{:?}", scale.seeds),
        ),
        ("final recipe", recipe(&results.recipe)),
        ("sweep recipe", recipe(&results.sweep_recipe)),
    ];
    Section {
        title: "Protocol".into(),
        blocks: vec![
            Block::Paragraph(
                "Timestep, block, pool, learning rate and weight decay are chosen on validation \
                 images. Controls are tuned on the same validation images with the same recipe. Raw pixels \
                 carry no noise and are tuned over pools. Intervals resample test images: they do not cover \
                 another training of the diffusion model. A random network has every layer drawn from PyTorch's default \
                 initialisation, those that a training would start at zero included."
                    .into(),
            ),
            Block::KeyValues(pairs.map(|(key, value)| (key.to_string(), value)).to_vec()),
            Block::Details {
                summary: "Every score".into(),
                blocks: vec![Block::Table(scores(results))],
            },
        ],
    }
}

/// One row for each final probe.
fn scores(results: &Results) -> Table {
    let rows = results
        .subjects
        .iter()
        .flat_map(|subject| subject.finals.iter().map(move |score| (subject, score)))
        .map(|(subject, score)| {
            vec![
                TableCell::text(subject.name.clone()),
                TableCell::text(score.setting.to_string()),
                TableCell::text(score.seed.to_string()),
                TableCell::text(format!("{:.0e}", score.point.learning_rate)),
                TableCell::text(score.point.weight_decay.to_string()),
                TableCell::number(score.validation * PERCENT, 2),
                TableCell::number(score.test * PERCENT, 2),
            ]
        })
        .collect();
    let number = |name: &str| Column {
        name: name.into(),
        align: Align::Right,
        unit: None,
    };
    Table {
        caption: "Every probe that read the test images.".into(),
        columns: vec![
            Column {
                name: "encoder".into(),
                align: Align::Left,
                unit: None,
            },
            Column {
                name: "setting".into(),
                align: Align::Left,
                unit: None,
            },
            number("seed"),
            number("rate"),
            number("decay"),
            number("validation %"),
            number("test %"),
        ],
        rows,
        highlight: Vec::new(),
    }
}

fn provenance_section(record: &Record<Results>) -> Section {
    let p = &record.provenance;
    let hash = |hash: &Option<diffrep_artifact::Sha256Hex>| {
        hash.as_ref()
            .map_or_else(|| "none".into(), ToString::to_string)
    };
    let pairs = [
        ("diffrep", p.diffrep_version.clone()),
        ("device", p.device.clone()),
        (
            "machine",
            format!("{} {}, {} processors", p.host.os, p.host.arch, p.host.cpus),
        ),
        ("checkpoint SHA-256", hash(&p.checkpoint_sha256)),
        ("training images SHA-256", hash(&p.data_sha256)),
        (
            "validation images SHA-256",
            record.data.data.validation_sha256.clone(),
        ),
        ("test images SHA-256", record.data.data.test_sha256.clone()),
        ("settings SHA-256", p.config_sha256.to_string()),
        ("noise contract", diffrep_rng::CONTRACT.to_string()),
    ];
    Section {
        title: "Where the numbers come from".into(),
        blocks: vec![
            Block::KeyValues(pairs.map(|(key, value)| (key.to_string(), value)).to_vec()),
            Block::Paragraph("Everything on this page is in `results.json` beside it.".into()),
        ],
    }
}
