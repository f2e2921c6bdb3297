//! `kind = "heads"`: heads of several kinds on the same frozen maps.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use burn::tensor::Device;
use diffrep_artifact::{Lock, Record, Sha256Hex, create_dir_all, write_record};
use diffrep_extract::{Setting, Settings};
use diffrep_heads::{HeadSpec, TransformerConfig};
use diffrep_plan::{Experiment, HeadsScale, PlannedHead, Published};
use diffrep_pool::PoolSize;
use diffrep_probe::{Candidate, Contender, HeadScore, Recipe, Study, Subject};
use diffrep_report::{
    Answer, Axis, Block, Cell, Column, DifferencePlot, DifferenceRow, Figure, LineChart, LineStyle,
    NoteKind, Point, Report, Scale as AxisScale, Section, Series, Table, VerdictLine,
    to_terminal_table,
};
use diffrep_stats::{PairedDifference, Spread, Verdict, paired_bootstrap_seeds, verdict};
use diffrep_taps::Encoder;
use serde::{Deserialize, Serialize};

use super::{Ground, orientation, setting, splits, watched, write_report};
use crate::device::DeviceSpec;
use crate::printer::{Printer, human_duration};

const SCHEMA: &str = "diffrep.heads";
const VERSION: u32 = 1;
const RESAMPLES: usize = 10_000;
const LEVEL: f64 = 0.95;
const PERCENT: f64 = 100.0;

/// What `results.json` holds. Nothing is printed or plotted that is not in here.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Results {
    scale: String,
    settings: HeadsScale,
    published: Vec<Published>,
    data: Counts,
    resamples: usize,
    contenders: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counts {
    classes: usize,
    train: usize,
    validation: usize,
    test: usize,
}

/// A head with its scores and its lead over the first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    recipe: Recipe,
    scores: Vec<HeadScore>,
    test: Spread,
    ahead: Option<PairedDifference>,
    verdict: Option<Verdict>,
}

pub(super) fn run(
    experiment: &Experiment<HeadsScale>,
    scale_name: &str,
    dir: &Path,
    device: &Device,
    spec: DeviceSpec,
    printer: Printer,
) -> Result<()> {
    let start = Instant::now();
    let scale = experiment.scale(scale_name)?;
    let ground = Ground::open(&scale.checkpoint, scale_name, device)?;
    create_dir_all(dir)?;
    let _lock = Lock::acquire(dir)?;
    let splits = splits(&scale.data, scale.train_per_class, scale.test_per_class)?;
    let contenders = contenders(scale)?;
    let wanted: BTreeSet<Setting> = contenders
        .iter()
        .flat_map(|(_, read)| read)
        .copied()
        .collect();
    let settings = Settings::new(wanted, &ground.network.taps(), &ground.schedule)?;
    let study = Study {
        dir,
        preprocess: ground.preprocess,
        schedule: &ground.schedule,
        device,
        workers: spec.workers(),
    };
    let subject = Subject {
        name: "diffusion".into(),
        encoder: &ground.network,
        hash: ground.sha256.to_string(),
    };
    let mut entries: Vec<Entry> = Vec::new();
    for (contender, _) in &contenders {
        let scores = watched(printer, |on| {
            study.compete(&subject, &splits, &settings, contender, &scale.seeds, on)
        })?;
        let right = |scores: &[HeadScore]| -> Vec<Vec<bool>> {
            scores.iter().map(|score| score.correct.0.clone()).collect()
        };
        let ahead = entries
            .first()
            .map(|first| {
                let (ours, theirs) = (right(&scores), right(&first.scores));
                paired_bootstrap_seeds(&ours, &theirs, RESAMPLES, LEVEL, 0)
            })
            .transpose()?;
        let accuracies: Vec<f64> = scores.iter().map(|score| score.test).collect();
        entries.push(Entry {
            name: contender.name.clone(),
            recipe: contender.recipe.clone(),
            test: Spread::of(&accuracies)?,
            verdict: ahead.map(|ahead| verdict(&ahead, 0.0)),
            ahead,
            scores,
        });
    }
    let results = Results {
        scale: scale_name.into(),
        settings: scale.clone(),
        published: experiment.published.clone(),
        data: Counts {
            classes: splits.train.class_names().len(),
            train: splits.train.len(),
            validation: splits.validation.len(),
            test: splits.test.len(),
        },
        resamples: RESAMPLES,
        contenders: entries,
    };
    let record = ground.record(
        (SCHEMA, VERSION),
        Sha256Hex::hash_json(scale)?,
        &splits,
        scale.seeds.first().copied(),
        spec,
        results,
    )?;
    write_record(dir.join("results.json"), &record)?;
    write_report(&report(experiment, &record), dir)?;
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&record)?);
    } else {
        printer.result(&to_terminal_table(&table(&record.data)));
    }
    printer.say(&format!(
        "report: {} ({})",
        dir.join("report.html").display(),
        human_duration(start.elapsed().as_secs_f64())
    ));
    Ok(())
}

/// Every head with its candidates, and the settings that these read.
fn contenders(scale: &HeadsScale) -> Result<Vec<(Contender, Vec<Setting>)>> {
    let pool = PoolSize::new(scale.pool)?;
    let singles = scale
        .blocks
        .iter()
        .map(|&block| setting(Some(scale.timestep), block, scale.pool))
        .collect::<Result<Vec<_>>>()?;
    let mut names: Vec<String> = Vec::new();
    scale
        .heads
        .iter()
        .map(|head| {
            let (spec, groups) = match head {
                PlannedHead::Linear { pool: own } => {
                    let pool = own.map_or(Ok(pool), PoolSize::new)?;
                    (HeadSpec::Linear { pool }, None)
                }
                PlannedHead::Mlp { hidden } => {
                    let hidden = hidden.clone();
                    (HeadSpec::Mlp { pool, hidden }, None)
                }
                &PlannedHead::Cnn { channels } => (HeadSpec::Cnn { channels }, None),
                &PlannedHead::Attention {
                    window,
                    heads,
                    mlp_ratio,
                    depth,
                } => {
                    let transformer = TransformerConfig {
                        heads,
                        mlp_ratio,
                        depth,
                    };
                    let spec = HeadSpec::Attention {
                        window,
                        transformer,
                    };
                    (spec, None)
                }
                PlannedHead::Fusion {
                    blocks,
                    timesteps,
                    pool,
                    width,
                    heads,
                    mlp_ratio,
                    depth,
                } => {
                    let mut read = Vec::new();
                    for &t in timesteps {
                        for &block in blocks {
                            read.push(setting(Some(t), block, *pool)?);
                        }
                    }
                    let spec = HeadSpec::Fusion {
                        pool: PoolSize::new(*pool)?,
                        width: *width,
                        transformer: TransformerConfig {
                            heads: *heads,
                            mlp_ratio: *mlp_ratio,
                            depth: *depth,
                        },
                    };
                    (spec, Some(read))
                }
            };
            let groups = match groups {
                Some(read) => vec![read],
                None => singles.iter().map(|&single| vec![single]).collect(),
            };
            let recipe = match head {
                PlannedHead::Linear { .. } => &scale.linear_recipe,
                _ => &scale.recipe,
            };
            let plain = match head {
                PlannedHead::Linear { pool: Some(pool) } => format!("linear-pool{pool}"),
                _ => head.name().to_string(),
            };
            let alike = names.iter().filter(|name| **name == plain).count();
            names.push(plain.clone());
            let name = match alike {
                0 => plain,
                before => format!("{plain}-{}", before + 1),
            };
            let candidates = groups.iter().map(|group| Candidate {
                head: spec.clone(),
                columns: group.iter().map(Setting::column).collect(),
            });
            let contender = Contender {
                name,
                candidates: candidates.collect(),
                recipe: Recipe::named(recipe)?,
            };
            Ok((contender, groups.concat()))
        })
        .collect()
}

fn report(experiment: &Experiment<HeadsScale>, record: &Record<Results>) -> Report {
    let results = &record.data;
    let first = results
        .contenders
        .first()
        .map_or("", |entry| entry.name.as_str());
    let best = results
        .contenders
        .iter()
        .max_by(|a, b| a.test.mean.total_cmp(&b.test.mean));
    let subtitle = best.map_or_else(String::new, |best| {
        format!(
            "Of {} heads on the same frozen features the **{}** head is best: {:.2} % top-1 on {} \
             test images (mean of {} seeds).",
            results.contenders.len(),
            best.name,
            best.test.mean * PERCENT,
            results.data.test,
            best.test.n
        )
    });
    let verdicts = results
        .contenders
        .iter()
        .filter_map(|entry| {
            let ahead = entry.ahead?;
            Some(VerdictLine {
                claim: format!("The {} head beats the {first} head", entry.name),
                answer: match entry.verdict? {
                    Verdict::Yes => Answer::Yes,
                    Verdict::No => Answer::No,
                    Verdict::Undecided => Answer::Undecided,
                },
                evidence: format!(
                    "{:+.2} points, {:.0} % interval {:+.2} to {:+.2}, on {} test images, each seed \
                     averaged",
                    ahead.difference * PERCENT,
                    ahead.level * PERCENT,
                    ahead.low * PERCENT,
                    ahead.high * PERCENT,
                    ahead.n
                ),
            })
        })
        .collect();
    Report {
        title: experiment.title.clone(),
        subtitle,
        verdicts,
        sections: vec![accuracy(results, first), curves(results), protocol(record)],
    }
}

fn table(results: &Results) -> Table {
    let best = results
        .contenders
        .iter()
        .map(|entry| entry.test.mean)
        .fold(0.0, f64::max);
    let rows = results.contenders.iter().map(|entry| {
        let chosen = entry.scores.first();
        let accuracy = Cell::number(entry.test.mean * PERCENT, 2);
        vec![
            Cell::text(entry.name.clone()),
            chosen.map_or_else(Cell::missing, |s| Cell::text(s.candidate.columns.join(" "))),
            chosen.map_or_else(Cell::missing, |s| Cell::text(s.parameters.to_string())),
            chosen.map_or_else(Cell::missing, |s| {
                Cell::text(format!("{:.0e}", s.point.learning_rate))
            }),
            if entry.test.mean == best {
                accuracy.best()
            } else {
                accuracy
            },
            Cell::text(format!(
                "{:.2} to {:.2}",
                entry.test.min * PERCENT,
                entry.test.max * PERCENT
            )),
            entry.ahead.map_or_else(Cell::missing, |d| {
                Cell::text(format!(
                    "{:+.2} [{:+.2}, {:+.2}]",
                    d.difference * PERCENT,
                    d.low * PERCENT,
                    d.high * PERCENT
                ))
            }),
        ]
    });
    Table {
        caption: format!(
            "Top-1 accuracy on the {} test images, read once a seed ({} seeds). Block, rate and decay \
             were chosen on {} validation images with the first seed. The lead over the first row \
             is paired, with a 95 % bootstrap interval over images.",
            results.data.test,
            results.settings.seeds.len(),
            results.data.validation
        ),
        columns: vec![
            Column::text("head"),
            Column::text("reads"),
            Column::number("parameters"),
            Column::number("rate"),
            Column::number("top-1").with_unit("%"),
            Column::number("range").with_unit("%"),
            Column::number("ahead by").with_unit("points"),
        ],
        rows: rows.collect(),
        highlight: Vec::new(),
    }
}

fn accuracy(results: &Results, first: &str) -> Section {
    let rows = results.contenders.iter().filter_map(|entry| {
        let d = entry.ahead?;
        Some(DifferenceRow {
            label: entry.name.clone(),
            difference: d.difference * PERCENT,
            low: d.low * PERCENT,
            high: d.high * PERCENT,
        })
    });
    let plot = DifferencePlot {
        title: format!("Lead over the {first} head"),
        axis: Axis::new("difference in top-1 (points)", AxisScale::Linear),
        below: "worse".into(),
        above: "better".into(),
        rows: rows.collect(),
        decimals: 2,
    };
    let mut blocks = vec![Block::Table(table(results))];
    if !plot.rows.is_empty() {
        blocks.push(Block::Figure(Figure {
            caption: "Paired differences with their 95 % intervals.".into(),
            chart: plot.into(),
        }));
    }
    blocks.push(Block::Note {
        kind: NoteKind::Info,
        text: diffrep_report::escape_inline(&format!(
            "{} {}",
            orientation(&results.published),
            ordering(results)
        )),
    });
    Section {
        title: "Accuracy".into(),
        blocks,
    }
}

/// The order of the heads here, from best to worst.
fn ordering(results: &Results) -> String {
    let mut order: Vec<&Entry> = results.contenders.iter().collect();
    order.sort_by(|a, b| b.test.mean.total_cmp(&a.test.mean));
    let names: Vec<&str> = order.iter().map(|entry| entry.name.as_str()).collect();
    format!(
        "The papers' order is fusion, attention, linear; the order here, by mean accuracy, is {}.",
        names.join(", ")
    )
}

fn curves(results: &Results) -> Section {
    let series = results.contenders.iter().filter_map(|entry| {
        let score = entry.scores.first()?;
        let points = score.curve.iter().enumerate();
        let points = points.map(|(i, s)| Point::new((i + 1) as f64, s.validation_loss));
        Some(Series {
            style: LineStyle::Solid,
            ..Series::new(entry.name.clone(), points.collect())
        })
    });
    let chart = LineChart {
        title: "Validation loss".into(),
        x: Axis::new("epoch", AxisScale::Linear),
        y: Axis::new("cross entropy (nats)", AxisScale::Linear),
        series: series.collect(),
        reference_lines: Vec::new(),
        annotations: Vec::new(),
    };
    Section {
        title: "How they learned".into(),
        blocks: vec![Block::Figure(Figure {
            caption: "Loss on the validation images after each epoch, first seed, chosen rate."
                .into(),
            chart: chart.into(),
        })],
    }
}

fn protocol(record: &Record<Results>) -> Section {
    let results = &record.data;
    let p = &record.provenance;
    let mut pairs = vec![
        (
            "training images".to_string(),
            results.data.train.to_string(),
        ),
        (
            "validation images".into(),
            results.data.validation.to_string(),
        ),
        ("test images".into(), results.data.test.to_string()),
        (
            "seeds (weights, order, noise)".into(),
            format!("{:?}", results.settings.seeds),
        ),
        (
            "features".into(),
            "stored as f16, one noise draw a seed".into(),
        ),
        (
            "optimiser".into(),
            "Adam (0.9, 0.999), decoupled weight decay, cross entropy".into(),
        ),
        (
            "intervals".into(),
            format!("95 %, {} bootstrap resamples of images", results.resamples),
        ),
    ];
    let mut told = BTreeSet::new();
    for entry in &results.contenders {
        let r = &entry.recipe;
        if told.insert(r.name.clone()) {
            let patience = r.patience.map_or_else(String::new, |patience| {
                format!(", stops after {patience} epochs without a lower validation loss and keeps the lowest")
            });
            pairs.push((
                format!("recipe {}", r.name),
                format!(
                    "{} epochs{patience}, batch {}, learning rate x {} every {} epochs, rates {:?}, decays {:?}",
                    r.epochs, r.batch, r.step_factor, r.step_every, r.learning_rates, r.weight_decays
                ),
            ));
        }
    }
    pairs.push(("diffrep".into(), p.diffrep_version.clone()));
    pairs.push(("device".into(), p.device.clone()));
    if let Some(hash) = &p.checkpoint_sha256 {
        pairs.push(("checkpoint SHA-256".into(), hash.to_string()));
    }
    if let Some(hash) = &p.data_sha256 {
        pairs.push(("training images SHA-256".into(), hash.to_string()));
    }
    pairs.push(("settings SHA-256".into(), p.config_sha256.to_string()));
    Section {
        title: "Protocol".into(),
        blocks: vec![
            Block::Paragraph(
                "Every head reads the same stored maps of the frozen network. Vectors of the linear \
                 and the MLP head are standardised value by value, maps of the others channel by \
                 channel, with the training images' mean and deviation. Intervals resample test \
                 images: they do not cover another training of the diffusion model."
                    .into(),
            ),
            Block::KeyValues(pairs),
        ],
    }
}
