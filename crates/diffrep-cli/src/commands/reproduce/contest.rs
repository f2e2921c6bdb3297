//! Contenders on the same test images: how they are compared, and the report.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use diffrep_artifact::{Record, Sha256Hex};
use diffrep_plan::{Described, Experiment, Published, RAW_PIXELS, Settings};
use diffrep_probe::{HeadScore, Recipe, Splits};
use diffrep_report::{
    Answer, Axis, Block, Cell, Column, DifferencePlot, DifferenceRow, Figure, ImageGrid, LineChart,
    LineStyle, NoteKind, Point, Report, Scale as AxisScale, Section, Series, Table, VerdictLine,
    to_terminal_table,
};
use diffrep_stats::{PairedDifference, Spread, Verdict, paired_bootstrap_seeds, verdict};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::finished::Finished;
use super::generation::{Generated, Generation};
use super::protocol::{PROTOCOL, ends_of_grid, made_from};
use super::told::{self, Found, Known, Standing};
use super::{Ground, Place, against_published, heads, orientation, pictures, tune};

const RESAMPLES: usize = 10_000;
const LEVEL: f64 = 0.95;
const PERCENT: f64 = 100.0;

/// What `results.json` holds. Nothing is printed or plotted that is not in here.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Results<S> {
    scale: String,
    settings: S,
    /// What the experiment says of itself, where it is none of this program's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    experiment: Option<Described>,
    published: Vec<Published>,
    data: Counts,
    resamples: usize,
    contenders: Vec<Entry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    generation: Option<Generation>,
    /// What a reader must know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counts {
    classes: usize,
    train: usize,
    validation: usize,
    test: usize,
    /// What the test images are; absent in records of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    test_sha256: Option<Sha256Hex>,
}

/// A head with its scores and its lead over the first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    /// The network that it reads, where that is its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network: Option<String>,
    recipe: Recipe,
    scores: Vec<HeadScore>,
    test: Spread,
    ahead: Option<PairedDifference>,
    verdict: Option<Verdict>,
}

/// What differs between contests in the words of their reports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    /// Schema and version of `results.json`.
    pub(super) schema: (&'static str, u32),
    /// What a contender is, and several of them.
    pub(super) one: &'static str,
    pub(super) many: &'static str,
    /// What they stand on.
    pub(super) on: &'static str,
    /// How features reach the heads.
    pub(super) features: &'static str,
    /// How the contest was held.
    pub(super) protocol: &'static str,
}

/// Contenders so far; the first is the one that the others are compared with.
pub(super) struct Contest<'a> {
    words: Words,
    seeds: &'a [u64],
    entries: Vec<Entry>,
    generated: Option<Generated>,
    note: Option<String>,
}

impl<'a> Contest<'a> {
    pub(super) fn new(words: Words, seeds: &'a [u64]) -> Self {
        Self {
            words,
            seeds,
            entries: Vec::new(),
            generated: None,
            note: None,
        }
    }

    /// Takes in what a reader must know.
    pub(super) fn note(&mut self, note: &str) {
        self.note = Some(note.into());
    }

    /// Says which network the contender that came last reads, which is not that of the others.
    pub(super) fn on_network(&mut self, told: String) {
        if let Some(entry) = self.entries.last_mut() {
            entry.network = Some(told);
        }
    }

    /// Takes in what the network draws, beside what is read from it.
    pub(super) fn generate(&mut self, generated: Generated) {
        self.generated = Some(generated);
    }

    /// Takes the scores of a contender in, one for each seed.
    pub(super) fn enter(
        &mut self,
        name: &str,
        recipe: &Recipe,
        scores: Vec<HeadScore>,
    ) -> Result<()> {
        let right = |scores: &[HeadScore]| -> Vec<Vec<bool>> {
            scores.iter().map(|score| score.correct.0.clone()).collect()
        };
        let ahead = self
            .entries
            .first()
            .map(|first| {
                let (ours, theirs) = (right(&scores), right(&first.scores));
                paired_bootstrap_seeds(&ours, &theirs, RESAMPLES, LEVEL, 0)
            })
            .transpose()?;
        let accuracies: Vec<f64> = scores.iter().map(|score| score.test).collect();
        self.entries.push(Entry {
            name: name.into(),
            network: None,
            recipe: recipe.clone(),
            test: Spread::of(&accuracies)?,
            verdict: ahead.map(|ahead| verdict(&ahead, 0.0)),
            ahead,
            scores,
        });
        Ok(())
    }

    /// Every contender by name, with its accuracy and its lead over the first.
    pub(super) fn standings(
        &self,
    ) -> impl Iterator<Item = (&str, &Spread, Option<&PairedDifference>)> {
        let entries = self.entries.iter();
        entries.map(|entry| (entry.name.as_str(), &entry.test, entry.ahead.as_ref()))
    }

    /// Writes results and report.
    #[allow(clippy::too_many_arguments, reason = "what an experiment runs with")]
    pub(super) fn finish<S: Settings + Clone + Serialize>(
        self,
        experiment: &Experiment<S>,
        scale_name: &str,
        ground: &Ground,
        splits: &Splits,
        place: &Place<'_>,
        dir: &Path,
        start: Instant,
    ) -> Result<Finished> {
        let scale = experiment.scale(scale_name)?;
        let (generation, grid) = self
            .generated
            .map(|generated| (generated.generation, generated.grid))
            .unzip();
        let results = Results {
            scale: scale_name.into(),
            settings: scale.clone(),
            experiment: place.words.clone(),
            published: experiment.published.clone(),
            data: Counts {
                classes: splits.train.class_names().len(),
                train: splits.train.len(),
                validation: splits.validation.len(),
                test: splits.test.len(),
                test_sha256: Some(splits.test.fingerprint()?),
            },
            resamples: RESAMPLES,
            contenders: self.entries,
            generation,
            note: self.note,
        };
        let record = ground.record(
            self.words.schema,
            Sha256Hex::hash_json(scale)?,
            splits,
            self.seeds.first().copied(),
            place.spec,
            results,
        )?;
        let shown = Shown {
            words: self.words,
            seeds: self.seeds,
            results: &record.data,
        };
        let report = shown.report(&experiment.title, &record, grid);
        let table = to_terminal_table(&shown.table());
        Finished::write(&record, &report, table, dir, start)
    }
}

/// What the record of a contest tells.
pub(super) fn found(path: &Path, known: Known<'_>) -> Result<Found> {
    let (schema, record) = match told::record::<Results<Value>>(path, tune::SCHEMA) {
        Ok(record) => (tune::SCHEMA, record),
        Err(_) => (heads::SCHEMA, told::record(path, heads::SCHEMA)?),
    };
    let results = &record.data;
    let streamed = results.settings["feed"].get("streamed").is_some();
    let own = results.contenders.iter().any(|one| one.network.is_some());
    let words = match schema {
        tune::SCHEMA => tune::WORDS,
        _ => heads::words(streamed, own),
    };
    let seeds: Vec<u64> = serde_json::from_value(results.settings["seeds"].clone())
        .context("`settings.seeds` of the record")?;
    let shown = Shown {
        words,
        seeds: &seeds,
        results,
    };
    let right = |entry: &Entry| -> Vec<Vec<bool>> {
        entry
            .scores
            .iter()
            .map(|score| score.correct.0.clone())
            .collect()
    };
    let standings = results.contenders.iter().map(|entry| Standing {
        name: entry.name.clone(),
        test: entry.test,
        correct: right(entry),
        control: None,
    });
    let mut standings: Vec<Standing> = standings.collect();
    if let Some(pixels) = standings.iter().position(|one| one.name == RAW_PIXELS) {
        let (ours, theirs) = (&standings[0].correct, &standings[pixels].correct);
        let ahead = paired_bootstrap_seeds(ours, theirs, RESAMPLES, LEVEL, 0)?;
        standings[pixels].control = Some(ahead);
    }
    let grid = results
        .generation
        .as_ref()
        .and_then(|_| pictures::kept(known.dir).pop());
    Ok(Found {
        standings,
        ..shown.report(known.title, &record, grid).into()
    })
}

/// A contest as a reader sees it.
struct Shown<'a, S> {
    words: Words,
    seeds: &'a [u64],
    results: &'a Results<S>,
}

impl<S: Serialize> Shown<'_, S> {
    fn report(&self, title: &str, record: &Record<Results<S>>, grid: Option<ImageGrid>) -> Report {
        let results = self.results;
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
                "Of {} {} {} **{}** is best: {:.2} % top-1 on {} test images (mean over {} seeds).",
                results.contenders.len(),
                self.words.many,
                self.words.on,
                best.name,
                best.test.mean * PERCENT,
                results.data.test,
                best.test.n
            )
        });
        let subtitle = match &results.note {
            Some(note) => format!("{subtitle} {}", diffrep_report::escape_inline(note)),
            None => subtitle,
        };
        let verdicts = results
            .contenders
            .iter()
            .filter_map(|entry| {
                let ahead = entry.ahead?;
                let one = self.words.one;
                Some(VerdictLine {
                    claim: format!("The {one} `{}` beats the {one} `{first}`", entry.name),
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
            title: title.into(),
            subtitle,
            verdicts,
            sections: [
                Some(self.accuracy(first)),
                self.sizes(),
                self.curves(),
                results
                    .generation
                    .as_ref()
                    .map(|generation| generation.section(grid)),
                Some(self.protocol(record)),
            ]
            .into_iter()
            .flatten()
            .collect(),
        }
    }

    fn table(&self) -> Table {
        let results = self.results;
        let best = results
            .contenders
            .iter()
            .map(|entry| entry.test.mean)
            .fold(0.0, f64::max);
        let generation = results.generation.as_ref();
        let rows = results.contenders.iter().map(|entry| {
            let chosen = entry.scores.first();
            // What reads no maps of the diffusion model is another network, which draws nothing.
            let draws = chosen.is_some_and(|score| score.candidate.is_some());
            let accuracy = Cell::number(entry.test.mean * PERCENT, 2);
            let mut row = vec![
                Cell::text(entry.name.clone()),
                chosen
                    .and_then(|s| s.candidate.as_ref())
                    .map_or_else(Cell::missing, |read| Cell::text(read.columns.join(" "))),
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
            ];
            row.extend(generation.map(|generation| match draws {
                true => Cell::number(generation.distance(), 2),
                false => Cell::missing(),
            }));
            row
        });
        let mut columns = vec![
            Column::text(self.words.one),
            Column::text("reads"),
            Column::number("parameters"),
            Column::number("rate"),
            Column::number("top-1").with_unit("%"),
            Column::number("range").with_unit("%"),
            Column::number("ahead by").with_unit("points"),
        ];
        columns.extend(generation.map(|generation| Column::number(generation.distance_name())));
        Table {
            caption: format!(
                "Top-1 accuracy on the {} test images, read once a seed ({} seeds). Block, rate and decay \
                 were chosen on {} validation images with the first seed. The lead over the first row \
                 is paired, with a 95 % bootstrap interval over images.",
                results.data.test,
                self.seeds.len(),
                results.data.validation
            ),
            columns,
            rows: rows.collect(),
            highlight: Vec::new(),
        }
    }

    /// What was measured beside what is published, at the scale at which they are to agree.
    fn against_published(&self) -> Option<Table> {
        let contenders = self.results.contenders.iter();
        let measured: Vec<(&str, f64)> = contenders
            .map(|entry| (entry.name.as_str(), entry.test.mean))
            .collect();
        against_published(&self.results.scale, &self.results.published, &measured)
    }

    fn accuracy(&self, first: &str) -> Section {
        let results = self.results;
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
            title: format!("Lead over the {} {first}", self.words.one),
            axis: Axis::new("difference in top-1 (points)", AxisScale::Linear),
            below: "worse".into(),
            above: "better".into(),
            rows: rows.collect(),
            decimals: 2,
        };
        let mut blocks = Vec::new();
        blocks.extend(results.note.as_ref().map(|note| Block::Note {
            kind: NoteKind::Warning,
            text: diffrep_report::escape_inline(note),
        }));
        blocks.push(Block::Table(self.table()));
        blocks.extend(self.against_published().map(Block::Table));
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
                orientation(&results.scale, &results.published),
                self.ordering()
            )),
        });
        blocks.extend(self.ends());
        Section {
            title: "Accuracy".into(),
            blocks,
        }
    }

    /// Whose rate or decay lies at an end of its grid. Those of the first seed were chosen; others take them.
    fn ends(&self) -> Option<Block> {
        let contenders = self.results.contenders.iter();
        let ends = contenders.flat_map(|entry| {
            let chosen = entry.scores.iter().take(1).map(|score| score.point);
            let ends = ends_of_grid(&entry.recipe, chosen).into_iter();
            ends.map(move |(end, _)| format!("{}: {end}", entry.name))
        });
        let ends: Vec<String> = ends.collect();
        (!ends.is_empty()).then(|| Block::Note {
            kind: NoteKind::Warning,
            text: diffrep_report::escape_inline(&format!(
                "Chosen at an end of a recipe's grid, so that what lies beyond was not tried: {}.",
                ends.join("; ")
            )),
        })
    }

    /// The order of the heads here, from best to worst.
    fn ordering(&self) -> String {
        let results = self.results;
        let mut order: Vec<&Entry> = results.contenders.iter().collect();
        order.sort_by(|a, b| b.test.mean.total_cmp(&a.test.mean));
        let names: Vec<&str> = order.iter().map(|entry| entry.name.as_str()).collect();
        // Of most data sets the papers tell none, or another.
        let settings = serde_json::to_value(&results.settings).unwrap_or_default();
        match settings["order"].as_str() {
            Some(papers) => format!(
                "{papers}; the order here, by mean accuracy, is {}.",
                names.join(", ")
            ),
            None => format!("From best to worst: {}.", names.join(", ")),
        }
    }

    fn curves(&self) -> Option<Section> {
        let results = self.results;
        let series = results.contenders.iter().filter_map(|entry| {
            let score = entry.scores.first()?;
            if score.curve.is_empty() {
                return None;
            }
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
        if chart.series.is_empty() {
            return None;
        }
        Some(Section {
            title: "How they learned".into(),
            blocks: vec![Block::Figure(Figure {
                caption: "Loss on the validation images after each epoch, first seed, chosen rate."
                    .into(),
                chart: chart.into(),
            })],
        })
    }

    /// Accuracy over the number of parameters, as in Figure 1 of the paper: a line for each kind of head
    /// of which there are several.
    fn sizes(&self) -> Option<Section> {
        let mut kinds: BTreeMap<&str, Vec<Point>> = BTreeMap::new();
        for entry in &self.results.contenders {
            let score = entry.scores.first()?;
            if let Some(candidate) = &score.candidate {
                let point = Point::with_interval(
                    score.parameters as f64,
                    entry.test.mean * PERCENT,
                    entry.test.min * PERCENT,
                    entry.test.max * PERCENT,
                );
                kinds.entry(candidate.head.name()).or_default().push(point);
            }
        }
        if kinds.len() < 2 || kinds.values().all(|points| points.len() < 2) {
            return None;
        }
        let series = kinds.into_iter().map(|(name, mut points)| {
            points.sort_by(|a, b| a.x.total_cmp(&b.x));
            Series::new(name, points)
        });
        let chart = LineChart {
            title: "Accuracy against size".into(),
            x: Axis::new("parameters of the head", AxisScale::Log),
            y: Axis::new("top-1 (%)", AxisScale::Linear),
            series: series.collect(),
            reference_lines: Vec::new(),
            annotations: Vec::new(),
        };
        Some(Section {
            title: "Which size".into(),
            blocks: vec![Block::Figure(Figure {
                caption:
                    "Test accuracy of the heads over their trainable parameters; ranges over seeds."
                        .into(),
                chart: chart.into(),
            })],
        })
    }

    fn protocol(&self, record: &Record<Results<S>>) -> Section {
        let results = self.results;
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
                format!("{:?}", self.seeds),
            ),
            ("features".into(), self.words.features.into()),
            ("loss".into(), "cross entropy".into()),
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
                let view = r.view.map_or_else(String::new, |view| {
                    format!(", of streamed training images a random part ({view:?})")
                });
                pairs.push((
                    format!("recipe {}", r.name),
                    format!(
                        "{}, {} epochs{patience}{view}, batch {}, learning rate x {} every {} epochs, rates {:?}, decays {:?}",
                        r.optimizer, r.epochs, r.batch, r.step_factor, r.step_every, r.learning_rates, r.weight_decays
                    ),
                ));
            }
        }
        for entry in &results.contenders {
            if let Some(network) = &entry.network {
                pairs.push((format!("network of `{}`", entry.name), network.clone()));
            }
        }
        pairs.extend(made_from(&record.provenance));
        Section {
            title: PROTOCOL.into(),
            blocks: vec![
                Block::Paragraph(self.words.protocol.into()),
                Block::KeyValues(pairs),
            ],
        }
    }
}
