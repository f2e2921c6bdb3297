//! `kind = "transfer"`: the same heads on several data sets (Figures 4 and 7 of the paper).

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use diffrep_artifact::{Record, Sha256Hex, create_dir_all};
use diffrep_extract::{Pixels, Setting, Settings};
use diffrep_heads::HeadSpec;
use diffrep_plan::{Described, Experiment, PAPER, Published, RAW_PIXELS, TransferScale};
use diffrep_probe::{Candidate, Contender, Recipe, Splits, Study, Subject};
use diffrep_report::{Block, Cell, Column, NoteKind, Report, Section, Table, to_terminal_table};
use diffrep_stats::{PairedDifference, Spread};
use diffrep_taps::Encoder;
use serde::{Deserialize, Serialize};

use super::contest::Contest;
use super::finished::Finished;
use super::heads::HeadsPlan;
use super::protocol::{PROTOCOL, made_from};
use super::told::{self, Found, Known};
use super::{Ground, Place, orientation, setting, splits, watched};
use crate::commands::encoder::OpenBackbone;

pub(super) const SCHEMA: (&str, u32) = ("diffrep.transfer", 1);
const PERCENT: f64 = 100.0;

/// What `results.json` holds: a summary of the contests, whose own records lie in folders beside it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Results {
    scale: String,
    settings: TransferScale,
    /// What the experiment says of itself, where it is none of this program's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    experiment: Option<Described>,
    data: Vec<Summary>,
}

/// How the contenders did on one data set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Summary {
    name: String,
    classes: usize,
    train: usize,
    test: usize,
    contenders: Vec<Row>,
}

/// A contender on one data set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    test: Spread,
    ahead: Option<PairedDifference>,
}

pub(super) fn run(
    experiment: &Experiment<TransferScale>,
    scale_name: &str,
    place: &Place<'_>,
) -> Result<()> {
    let start = Instant::now();
    let scale = experiment.scale(scale_name)?;
    let ground = Ground::open(&scale.checkpoint, scale_name, place)?;
    let mut summaries = Vec::new();
    let mut hashes = Vec::new();
    let mut last = None;
    for named in &scale.data {
        let begin = Instant::now();
        let splits = splits(
            &named.data,
            place,
            scale.train_per_class,
            scale.test_per_class,
        )?;
        hashes.push(splits.train.fingerprint()?.to_string());
        let mut contest = contest(scale, &ground, &splits, place)?;
        if let Some(note) = &scale.note {
            contest.note(note);
        }
        summaries.push(Summary {
            name: named.name.clone(),
            classes: splits.train.class_names().len(),
            train: splits.train.len(),
            test: splits.test.len(),
            contenders: contest
                .standings()
                .map(|(name, test, ahead)| Row {
                    name: name.into(),
                    test: *test,
                    ahead: ahead.copied(),
                })
                .collect(),
        });
        let dir = place.dir.join(named.folder());
        create_dir_all(&dir)?;
        contest.finish(experiment, scale_name, &ground, &splits, place, &dir, begin)?;
        last = Some(splits);
    }
    let Some(splits) = last else {
        return Ok(());
    };
    let mut record = ground.record(
        SCHEMA,
        Sha256Hex::hash_json(scale)?,
        &splits,
        scale.seeds.first().copied(),
        place.spec,
        Results {
            scale: scale_name.into(),
            settings: scale.clone(),
            experiment: place.words.clone(),
            data: summaries,
        },
    )?;
    record.provenance.data_sha256 = Some(Sha256Hex::hash_json(&hashes)?);
    let shown = to_terminal_table(&table(&record.data));
    let report = report(&experiment.title, &experiment.published, &record);
    Finished::write(&record, &report, shown, place.dir, start)?.show(place.printer);
    Ok(())
}

/// All heads on one data set, and a linear probe on its raw pixels.
fn contest<'a>(
    scale: &'a TransferScale,
    ground: &Ground,
    splits: &Splits,
    place: &Place<'_>,
) -> Result<Contest<'a>> {
    let plan = HeadsPlan::from(scale);
    let mut contest = plan.contest(ground, splits, place)?;
    if scale.pixels {
        let pixels = Pixels {
            channels: ground.network.config().in_channels,
            size: ground.network.config().image_size,
        };
        let subject = Subject {
            name: "pixels".into(),
            encoder: &pixels,
            hash: "pixels".into(),
        };
        let read = pixel_settings(&pixels)?;
        let probe = LinearProbe {
            name: RAW_PIXELS,
            study: ground.study(place),
            subject,
            read: &read,
        };
        probe.enter(&mut contest, scale, splits, place)?;
    }
    for network in &scale.networks {
        let open = OpenBackbone::planned(&place.network(network), place.device)?;
        let taps = open.network.taps();
        let last = taps.last().context("a network without layers")?;
        let probe = LinearProbe {
            name: &network.name,
            study: Study {
                preprocess: open.preprocess,
                ..ground.study(place)
            },
            subject: Subject {
                name: network.file_name(),
                encoder: &open.network,
                hash: open.name,
            },
            read: &[setting(None, last.block.get(), 1)?],
        };
        probe.enter(&mut contest, scale, splits, place)?;
    }
    Ok(contest)
}

/// Whole images, and those of half and a quarter of the side.
pub(super) fn pixel_settings(pixels: &Pixels) -> Result<Vec<Setting>> {
    let sides = [pixels.size, pixels.size / 2, pixels.size / 4];
    sides
        .iter()
        .filter(|side| **side > 0)
        .map(|&side| setting(None, 1, side))
        .collect()
}

/// A linear probe that chooses among settings.
pub(super) fn linear(name: &str, read: &[Setting], recipe: &str) -> Result<Contender> {
    let candidates = read.iter().map(|setting| Candidate {
        head: HeadSpec::Linear { pool: setting.pool },
        columns: vec![setting.column()],
    });
    Ok(Contender {
        name: name.into(),
        candidates: candidates.collect(),
        recipe: Recipe::named(recipe)?,
    })
}

/// A linear probe on what another encoder makes of the clean image.
struct LinearProbe<'a, E> {
    name: &'a str,
    study: Study<'a>,
    subject: Subject<'a, E>,
    /// Blocks and pools that it chooses among.
    read: &'a [Setting],
}

impl<E: Encoder + Sync> LinearProbe<'_, E> {
    fn enter(
        &self,
        contest: &mut Contest<'_>,
        scale: &TransferScale,
        splits: &Splits,
        place: &Place<'_>,
    ) -> Result<()> {
        let taps = self.subject.encoder.taps();
        let settings = Settings::new(self.read.iter().copied(), &taps, self.study.schedule)?;
        let contender = linear(self.name, self.read, &scale.linear_recipe)?;
        let scores = watched(place.printer, |on| {
            self.study.compete(
                &self.subject,
                splits,
                &settings,
                &contender,
                &scale.seeds,
                on,
            )
        })?;
        contest.enter(&contender.name, &contender.recipe, scores)
    }
}

/// A row for each data set, a column for each contender.
fn table(results: &Results) -> Table {
    let names: Vec<&str> = results
        .data
        .first()
        .map_or(&[][..], |summary| &summary.contenders)
        .iter()
        .map(|row| row.name.as_str())
        .collect();
    let mut columns = vec![
        Column::text("data set"),
        Column::number("classes"),
        Column::number("training images"),
        Column::number("test images"),
    ];
    columns.extend(
        names
            .iter()
            .map(|name| Column::number(*name).with_unit("%")),
    );
    let rows = results.data.iter().map(|summary| {
        let best = summary
            .contenders
            .iter()
            .map(|row| row.test.mean)
            .fold(0.0, f64::max);
        let mut cells = vec![
            Cell::text(summary.name.clone()),
            Cell::text(summary.classes.to_string()),
            Cell::text(summary.train.to_string()),
            Cell::text(summary.test.to_string()),
        ];
        cells.extend(summary.contenders.iter().map(|row| {
            let cell = Cell::number(row.test.mean * PERCENT, 2);
            if row.test.mean == best {
                cell.best()
            } else {
                cell
            }
        }));
        cells
    });
    Table {
        caption: "Top-1 accuracy on the test images of each data set, mean over seeds; every head is trained on \
            each data set anew."
            .into(),
        columns,
        rows: rows.collect(),
        highlight: Vec::new(),
    }
}

fn report(title: &str, published: &[Published], record: &Record<Results>) -> Report {
    let note = record.data.settings.note.as_ref();
    let mut blocks: Vec<Block> = note
        .map(|note| Block::Note {
            kind: NoteKind::Warning,
            text: diffrep_report::escape_inline(note),
        })
        .into_iter()
        .collect();
    blocks.push(Block::Table(table(&record.data)));
    if !published.is_empty() && record.data.scale != PAPER {
        blocks.push(Block::Paragraph(diffrep_report::escape_inline(
            &orientation(&record.data.scale, published),
        )));
    }
    let leads = record.data.data.iter().map(|summary| {
        let first = summary
            .contenders
            .first()
            .map_or("", |row| row.name.as_str());
        let leads: Vec<String> = summary
            .contenders
            .iter()
            .filter_map(|row| {
                let d = row.ahead?;
                Some(format!(
                    "{} {:+.2} ({:+.2} to {:+.2})",
                    row.name,
                    d.difference * PERCENT,
                    d.low * PERCENT,
                    d.high * PERCENT
                ))
            })
            .collect();
        let text = format!("over {first}, in points: {}", leads.join("; "));
        (summary.name.clone(), text)
    });
    blocks.push(Block::KeyValues(leads.collect()));
    let details = "each data set has a report and a record of its own in a folder beside this one";
    let mut pairs = vec![("details".to_string(), details.to_string())];
    pairs.extend(made_from(&record.provenance));
    Report {
        title: title.into(),
        subtitle: format!(
            "{} data sets, the same frozen diffusion model.",
            record.data.data.len()
        ),
        verdicts: Vec::new(),
        sections: vec![
            Section {
                title: "Accuracy".into(),
                blocks,
            },
            Section {
                title: PROTOCOL.into(),
                blocks: vec![
                    Block::Paragraph(
                        "Choices are made on validation images of each data set with the first seed; the test images \
                         are read once a seed. Leads are paired on the test images, with 95 % bootstrap intervals."
                            .into(),
                    ),
                    Block::KeyValues(pairs),
                ],
            },
        ],
    }
}

/// What a record tells; its data sets have records of their own.
pub(super) fn found(path: &Path, known: Known<'_>) -> Result<Found> {
    let record: Record<Results> = told::record(path, SCHEMA)?;
    let data = record.data.settings.data.iter();
    Ok(Found {
        parts: data
            .map(|named| (named.name.clone(), named.folder()))
            .collect(),
        ..report(known.title, known.published, &record).into()
    })
}
