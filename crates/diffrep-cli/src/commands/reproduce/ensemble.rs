//! `kind = "ensemble"`: several noises of one image, to train on and to classify by.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use diffrep_artifact::{Record, Sha256Hex};
use diffrep_plan::{Described, EnsembleScale, Experiment};
use diffrep_probe::{Draws, EnsembleScore, EnsembleScores, Recipe, Subject};
use diffrep_report::{
    Answer, Axis, Block, Cell, Column, Figure, LineChart, LineStyle, Point, Report,
    Scale as AxisScale, Section, Series, Table, VerdictLine, to_terminal_table,
};
use diffrep_stats::{PairedDifference, Spread, Verdict, paired_bootstrap_seeds, verdict};
use serde::{Deserialize, Serialize};

use super::finished::Finished;
use super::protocol::{PROTOCOL, made_from};
use super::told::{self, Found, Known, Standing};
use super::{Ground, Place, setting, splits, watched};

pub(super) const SCHEMA: (&str, u32) = ("diffrep.ensemble", 2);
const RESAMPLES: usize = 10_000;
const PERCENT: f64 = 100.0;

/// What `results.json` holds. Nothing is printed or plotted that is not in here.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Results {
    scale: String,
    settings: EnsembleScale,
    /// What the experiment says of itself, where it is none of this program's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    experiment: Option<Described>,
    images: [usize; 3],
    resamples: usize,
    probes: Vec<Entry>,
}

/// A probe with its ensembles.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    scores: EnsembleScores,
    /// The largest ensemble minus a single draw, on the same images, each the mean of all there are.
    ahead: PairedDifference,
    /// A single draw of this probe minus one of the probe with the fewest training draws, the same way.
    by_rows: Option<PairedDifference>,
}

pub(super) fn run(
    experiment: &Experiment<EnsembleScale>,
    scale_name: &str,
    place: &Place<'_>,
) -> Result<()> {
    let start = Instant::now();
    let &Place {
        dir, spec, printer, ..
    } = place;
    let scale = experiment.scale(scale_name)?;
    let ground = Ground::open(&scale.checkpoint, scale_name, place)?;
    let splits = splits(
        &scale.data,
        place,
        scale.train_per_class,
        scale.test_per_class,
    )?;
    let recipe = Recipe::named(&scale.recipe)?;
    let study = ground.study(place);
    let subject = Subject {
        name: "diffusion".into(),
        encoder: &ground.network,
        hash: ground.sha256.to_string(),
    };
    let mut probes: Vec<Entry> = Vec::new();
    for &t in &scale.timesteps {
        let setting = setting(Some(t), scale.block, scale.pool)?;
        let mut fewest: Option<Vec<Vec<bool>>> = None;
        for &train in &scale.train_draws {
            let draws = Draws {
                train,
                train_flips: scale.train_flips && train > 1,
                test: scale.test_draws.clone(),
                test_flips: scale.test_flips,
            };
            let scores = watched(printer, |on| {
                study.ensemble(&subject, &splits, setting, &draws, &recipe, scale.seed, on)
            })?;
            let compare = |one: &[Vec<bool>], other: &[Vec<bool>]| {
                paired_bootstrap_seeds(one, other, RESAMPLES, 0.95, 0)
            };
            let right = |size: Option<&EnsembleScore>| -> Vec<Vec<bool>> {
                let all = size.iter().flat_map(|size| &size.correct);
                all.map(|bits| bits.0.clone()).collect()
            };
            let (first, last) = (right(scores.sizes.first()), right(scores.sizes.last()));
            let by_rows = fewest
                .as_ref()
                .map(|fewest| compare(&first, fewest))
                .transpose()?;
            let ahead = compare(&last, &first)?;
            fewest.get_or_insert(first);
            probes.push(Entry {
                ahead,
                by_rows,
                scores,
            });
        }
    }
    let results = Results {
        scale: scale_name.into(),
        settings: scale.clone(),
        experiment: place.words.clone(),
        images: [
            splits.train.len(),
            splits.validation.len(),
            splits.test.len(),
        ],
        resamples: RESAMPLES,
        probes,
    };
    let record = ground.record(
        SCHEMA,
        Sha256Hex::hash_json(scale)?,
        &splits,
        Some(scale.seed),
        spec,
        results,
    )?;
    let report = report(&experiment.title, &record)?;
    let table = to_terminal_table(&table(&record.data)?);
    Finished::write(&record, &report, table, dir, start)?.show(printer);
    Ok(())
}

/// A probe in a few words.
fn name(entry: &Entry) -> String {
    let t = entry.scores.setting.t.unwrap_or(0);
    let flips = if entry.scores.draws.train_flips {
        " and mirrored"
    } else {
        ""
    };
    match entry.scores.draws.train {
        1 => format!("t = {t}, 1 training draw{flips}"),
        many => format!("t = {t}, {many} training draws{flips}"),
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

fn report(title: &str, record: &Record<Results>) -> Result<Report> {
    let results = &record.data;
    let line = |claim: String, d: &PairedDifference| VerdictLine {
        claim,
        answer: match verdict(d, 0.0) {
            Verdict::Yes => Answer::Yes,
            Verdict::No => Answer::No,
            Verdict::Undecided => Answer::Undecided,
        },
        evidence: format!(
            "{} points, 95 % interval, on {} test images",
            points(d),
            d.n
        ),
    };
    let mut verdicts = Vec::new();
    for entry in &results.probes {
        let largest = entry.scores.sizes.last().map_or(1, |size| size.draws);
        let claim = format!("{}: {largest} draws classify better than one", name(entry));
        verdicts.push(line(claim, &entry.ahead));
        if let Some(by_rows) = &entry.by_rows {
            let claim = format!("{} train a better probe than fewer", name(entry));
            verdicts.push(line(claim, by_rows));
        }
    }
    let best = results
        .probes
        .iter()
        .max_by(|a, b| a.ahead.difference.total_cmp(&b.ahead.difference));
    let subtitle = best.map_or_else(String::new, |best| {
        format!(
            "The largest gain of an ensemble over a single draw is {} points ({}).",
            points(&best.ahead),
            name(best)
        )
    });
    let series = results.probes.iter().map(|entry| {
        let points = entry.scores.sizes.iter().map(|size| {
            let mean = size.test.iter().sum::<f64>() / size.test.len().max(1) as f64;
            Point::new(size.draws as f64, mean * PERCENT)
        });
        Series {
            style: LineStyle::Solid,
            ..Series::new(name(entry), points.collect())
        }
    });
    let chart = LineChart {
        title: "Accuracy by size of the ensemble".into(),
        x: Axis::new("draws of noise", AxisScale::Log),
        y: Axis::new("top-1 (%)", AxisScale::Linear),
        series: series.collect(),
        reference_lines: Vec::new(),
        annotations: Vec::new(),
    };
    Ok(Report {
        title: title.into(),
        subtitle,
        verdicts,
        sections: vec![
            Section {
                title: "Accuracy".into(),
                blocks: vec![
                    Block::Table(table(results)?),
                    Block::Figure(Figure {
                        caption: "Mean over disjoint ensembles of the same size.".into(),
                        chart: chart.into(),
                    }),
                ],
            },
            protocol(record),
        ],
    })
}

fn table(results: &Results) -> Result<Table> {
    let mut rows = Vec::new();
    for entry in &results.probes {
        for (place, size) in entry.scores.sizes.iter().enumerate() {
            let spread = Spread::of(&size.test)?;
            let last = place + 1 == entry.scores.sizes.len();
            rows.push(vec![
                Cell::text(entry.scores.setting.to_string()),
                Cell::text(entry.scores.draws.train.to_string()),
                Cell::text(size.draws.to_string()),
                Cell::number(spread.mean * PERCENT, 2),
                match size.test.len() {
                    1 => Cell::missing(),
                    _ => Cell::text(format!(
                        "{:.2} to {:.2}",
                        spread.min * PERCENT,
                        spread.max * PERCENT
                    )),
                },
                size.disagreement
                    .map_or_else(Cell::missing, |share| Cell::number(share * PERCENT, 2)),
                if last && place > 0 {
                    Cell::text(points(&entry.ahead))
                } else {
                    Cell::missing()
                },
            ]);
        }
    }
    Ok(Table {
        caption: format!(
            "Linear probes on {} training images, classifying {} test images by the mean logits of \
             several draws of noise; mean and range over disjoint ensembles; the lead over one draw is \
             over the mean of all single draws, paired, with a 95 % bootstrap interval over images.",
            results.images[0], results.images[2]
        ),
        columns: vec![
            Column::text("setting"),
            Column::number("training draws"),
            Column::number("draws"),
            Column::number("top-1").with_unit("%"),
            Column::number("range").with_unit("%"),
            Column::number("two disagree on").with_unit("%"),
            Column::number("ahead of one").with_unit("points"),
        ],
        rows,
        highlight: Vec::new(),
    })
}

fn protocol(record: &Record<Results>) -> Section {
    let results = &record.data;
    let s = &results.settings;
    let mut pairs = vec![
        ("recipe".to_string(), s.recipe.clone()),
        ("seed".into(), s.seed.to_string()),
        ("mirrored test draws".into(), s.test_flips.to_string()),
        (
            "intervals".into(),
            format!("95 %, {} bootstrap resamples of images", results.resamples),
        ),
    ];
    pairs.extend(made_from(&record.provenance));
    Section {
        title: PROTOCOL.into(),
        blocks: vec![
            Block::Paragraph(
                "Rate and decay are chosen on validation images, one draw each. Training draws are \
                 rows of their own, with the same number of epochs, so more draws are also more steps. \
                 Test draws are noises that no training image had. For a linear probe the mean of \
                 logits over draws is the probe on the mean of the features."
                    .into(),
            ),
            Block::KeyValues(pairs),
        ],
    }
}

/// What a record tells.
pub(super) fn found(path: &Path, known: Known<'_>) -> Result<Found> {
    let record: Record<Results> = told::record(path, SCHEMA)?;
    let mut standings = Vec::new();
    for entry in &record.data.probes {
        for size in &entry.scores.sizes {
            standings.push(Standing {
                name: format!("{}, mean of {}", name(entry), size.draws),
                test: Spread::of(&size.test)?,
                correct: Vec::new(),
                control: None,
            });
        }
    }
    Ok(Found {
        standings,
        ..report(known.title, &record)?.into()
    })
}
