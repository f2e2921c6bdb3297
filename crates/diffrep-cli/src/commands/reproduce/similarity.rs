//! `kind = "similarity"`: layers compared by CKA (Figure 6 of the paper).

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use diffrep_artifact::{Record, Sha256Hex};
use diffrep_backbones::{Backbone, Normalised};
use diffrep_cka::{Layer, Matrix, Options, between, within};
use diffrep_datasets::Preprocess;
use diffrep_extract::Setting;
use diffrep_import::load;
use diffrep_plan::{Described, Experiment, PlannedDiffusion, SimilarityScale};
use diffrep_pool::PoolSize;
use diffrep_probe::TunableEncoder;
use diffrep_report::{
    Best, Block, Cell, Column, Figure, Heatmap, Report, Section, Table, to_terminal_table,
};
use diffrep_taps::{Encoder, TapInfo};
use diffrep_unet::{UNet, random_network};
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::finished::Finished;
use super::jobs::hint;
use super::protocol::{PROTOCOL, made_from};
use super::reader::{self, Own, Use};
use super::told::{self, Found, Known};
use super::{Ground, Place, splits};
use crate::commands::cka::layers::Blocks;
use crate::commands::encoder::OpenBackbone;
use crate::commands::extract::spread;

pub(super) const SCHEMA: (&str, u32) = ("diffrep.similarity", 1);

/// What `results.json` holds. Nothing is printed or plotted that is not in here.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Results {
    scale: String,
    settings: SimilarityScale,
    /// What the experiment says of itself, where it is none of this program's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    experiment: Option<Described>,
    images: usize,
    estimator: String,
    comparisons: Vec<Comparison>,
    /// Models that were not there, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<String>,
}

/// The standard blocks, as rows, against the layers of something else.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Comparison {
    name: String,
    rows: Vec<String>,
    columns: Vec<String>,
    values: Vec<Vec<f64>>,
}

/// Layers by name.
struct Named {
    names: Vec<String>,
    values: Vec<Array2<f32>>,
}

impl Named {
    fn layers(&self) -> Vec<Layer<'_>> {
        let named = self.names.iter().zip(&self.values);
        named
            .map(|(name, values)| Layer::new(name, values.view()))
            .collect()
    }
}

/// How features are read.
#[derive(Clone, Copy)]
struct Reader<'a> {
    ground: &'a Ground,
    blocks: Blocks<'a>,
    place: &'a Place<'a>,
}

impl Reader<'_> {
    /// The same of blocks that `blocks` does not say how to reach: of a network of another kind.
    fn other<E: Encoder>(
        &self,
        open: &reader::Reader<'_, E>,
        t: usize,
        dim: usize,
        title: &str,
    ) -> Result<Named> {
        let reader = Reader {
            blocks: Blocks {
                schedule: open.study.schedule,
                ..self.blocks
            },
            ..*self
        };
        let preprocess = open.study.preprocess;
        reader.read(open.subject.encoder, Some(t), dim, title, preprocess)
    }

    /// Every block of a network at a timestep, pooled to vectors of about `dim`.
    fn read<E: Encoder>(
        &self,
        encoder: &E,
        t: Option<usize>,
        dim: usize,
        title: &str,
        preprocess: Preprocess,
    ) -> Result<Named> {
        let taps = encoder.taps();
        let read: Vec<Setting> = taps
            .iter()
            .map(|tap| {
                Ok(Setting {
                    t,
                    block: tap.block,
                    pool: PoolSize::new(side(tap, dim))?,
                })
            })
            .collect::<Result<_>>()?;
        let blocks = Blocks {
            preprocess,
            ..self.blocks
        };
        Ok(Named {
            names: taps
                .iter()
                .map(|tap| format!("block {}", tap.block))
                .collect(),
            values: blocks.read(encoder, &read, title, self.place.printer)?,
        })
    }

    fn diffusion(&self, network: &UNet, t: usize, dim: usize, title: &str) -> Result<Named> {
        self.read(network, Some(t), dim, title, self.ground.preprocess)
    }

    fn backbone(
        &self,
        network: &Normalised<Backbone>,
        dim: usize,
        preprocess: Preprocess,
        title: &str,
    ) -> Result<Named> {
        let names = network.taps().into_iter().map(|tap| tap.name);
        Ok(Named {
            names: names.collect(),
            ..self.read(network, None, dim, title, preprocess)?
        })
    }
}

/// The side to which a map is pooled so that its vector has at most `dim` features, if it can.
fn side(tap: &TapInfo, dim: usize) -> usize {
    (dim / tap.channels)
        .isqrt()
        .clamp(1, tap.height.min(tap.width))
}

pub(super) fn run(
    experiment: &Experiment<SimilarityScale>,
    scale_name: &str,
    place: &Place<'_>,
) -> Result<()> {
    let start = Instant::now();
    let scale = experiment.scale(scale_name)?;
    let ground = Ground::open(&scale.checkpoint, scale_name, place)?;
    let splits = splits(&scale.data, place, None, None)?;
    let images = match scale.images {
        None => splits.test.clone(),
        Some(count) => splits.test.subset(&spread(splits.test.len(), count)),
    };
    let network = ground.network.clone().packed();
    let reader = Reader {
        ground: &ground,
        blocks: Blocks {
            dataset: &images,
            preprocess: ground.preprocess,
            schedule: &ground.schedule,
            seed: scale.seed,
            device: place.device,
        },
        place,
    };
    let options = Options::default();
    let (t, dim) = (scale.timestep, scale.dim);
    let standard = reader.diffusion(&network, t, dim, "diffusion")?;
    let mut comparisons = vec![comparison(
        &format!("blocks of the diffusion model, t = {t}"),
        within(&standard.layers(), &options)?,
    )];
    let mut against = |name: String, other: Named| -> Result<()> {
        let matrix = between(&standard.layers(), &other.layers(), &options)
            .with_context(|| format!("against {name}"))?;
        comparisons.push(comparison(&name, matrix));
        Ok(())
    };
    for &other in &scale.timesteps {
        let title = format!("diffusion, t = {other}");
        let layers = reader.diffusion(&network, other, dim, &title)?;
        against(format!("the same at t = {other}"), layers)?;
    }
    for &other in &scale.dims {
        let title = format!("diffusion, {other} features");
        let layers = reader.diffusion(&network, t, other, &title)?;
        against(
            format!("the same pooled to at most {other} features"),
            layers,
        )?;
    }
    if let Some(path) = &scale.classifier {
        let classifier = load(&place.roots.find(path), None, place.device)?.network;
        let layers = reader.diffusion(&classifier, t, dim, "classifier")?;
        against("an encoder trained to classify".into(), layers)?;
    }
    if scale.random {
        let random = random_network(network.config(), 0, place.device)?;
        let layers = reader.diffusion(&random, t, dim, "random weights")?;
        against("the same network with random weights".into(), layers)?;
    }
    for planned in &scale.networks {
        let open = OpenBackbone::planned(&place.network(planned), place.device)?;
        let layers = reader.backbone(&open.network, dim, open.preprocess, &planned.name)?;
        against(planned.name.clone(), layers)?;
    }
    let mut left_out = Vec::new();
    for planned in &scale.diffusion_models {
        let (name, written) = (&planned.name, &planned.encoder.checkpoint);
        let path = place.roots.find(written);
        if !path.exists() {
            let way = hint(&path, written).map_or_else(String::new, |way| format!(" ({way})"));
            let path = path.display();
            place
                .printer
                .say(&format!("{name} is left out: there is no {path}{way}"));
            left_out.push(name.clone());
            continue;
        }
        let layers = Own::open(&planned.encoder, place)?.with(
            place,
            Reading {
                reader: &reader,
                planned,
                dim,
            },
        )?;
        against(planned.name.clone(), layers)?;
    }
    let record = ground.record(
        SCHEMA,
        Sha256Hex::hash_json(scale)?,
        &splits,
        Some(scale.seed),
        place.spec,
        Results {
            scale: scale_name.into(),
            settings: scale.clone(),
            experiment: place.words.clone(),
            images: images.len(),
            estimator: "linear CKA by the unbiased HSIC_1, f64".into(),
            comparisons,
            left_out,
        },
    )?;
    let shown = to_terminal_table(&table(&record.data));
    let report = report(&experiment.title, &record);
    Finished::write(&record, &report, shown, place.dir, start)?.show(place.printer);
    Ok(())
}

/// Another diffusion model on its way into a comparison.
struct Reading<'r, 'a> {
    reader: &'r Reader<'a>,
    planned: &'r PlannedDiffusion,
    dim: usize,
}

impl Use for Reading<'_, '_> {
    type Made = Named;

    fn on<E: TunableEncoder>(self, open: &reader::Reader<'_, E>) -> Result<Named> {
        let PlannedDiffusion { name, timestep, .. } = self.planned;
        self.reader.other(open, *timestep, self.dim, name)
    }
}

fn comparison(name: &str, matrix: Matrix) -> Comparison {
    Comparison {
        name: name.into(),
        values: matrix
            .values
            .rows()
            .into_iter()
            .map(|row| row.to_vec())
            .collect(),
        rows: matrix.rows,
        columns: matrix.columns,
    }
}

impl Comparison {
    /// The mean similarity of blocks of the same number, if both have the same.
    fn diagonal(&self) -> Option<f64> {
        let same = self.rows == self.columns;
        let values = self
            .values
            .iter()
            .enumerate()
            .map(|(index, row)| row[index]);
        same.then(|| values.sum::<f64>() / self.rows.len() as f64)
    }

    /// The pair that is most alike; within one network, of different blocks.
    fn most_alike(&self, itself: bool) -> Option<(&str, &str, f64)> {
        let rows = self.rows.iter().zip(&self.values).enumerate();
        let pairs = rows.flat_map(|(i, (row, values))| {
            let columns = self.columns.iter().zip(values).enumerate();
            let columns = columns.filter(move |(j, _)| !itself || i != *j);
            columns.map(move |(_, (column, value))| (row.as_str(), column.as_str(), *value))
        });
        pairs.max_by(|a, b| a.2.total_cmp(&b.2))
    }
}

fn table(results: &Results) -> Table {
    let rows = results
        .comparisons
        .iter()
        .enumerate()
        .map(|(index, comparison)| {
            let (row, column, value) =
                comparison
                    .most_alike(index == 0)
                    .unwrap_or(("", "", f64::NAN));
            vec![
                Cell::text(comparison.name.clone()),
                comparison
                    .diagonal()
                    .filter(|_| index > 0)
                    .map_or_else(Cell::missing, |mean| Cell::number(mean, 3)),
                Cell::text(format!("{row}, {column}")),
                Cell::number(value, 3),
            ]
        });
    Table {
        caption: format!(
            "The blocks of the diffusion model at t = {}, pooled to at most {} features, against others; {}, {} test \
             images.",
            results.settings.timestep, results.settings.dim, results.estimator, results.images
        ),
        columns: vec![
            Column::text("against"),
            Column::number("mean of same blocks"),
            Column::text("most alike"),
            Column::number("CKA"),
        ],
        rows: rows.collect(),
        highlight: Vec::new(),
    }
}

fn report(title: &str, record: &Record<Results>) -> Report {
    let results = &record.data;
    let maps = results.comparisons.iter().map(|comparison| {
        let values = comparison.values.iter();
        let chart = Heatmap {
            title: comparison.name.clone(),
            x_label: comparison.name.clone(),
            y_label: format!("diffusion model, t = {}", results.settings.timestep),
            columns: comparison.columns.clone(),
            rows: comparison.rows.clone(),
            value_label: "CKA".into(),
            values: values
                .map(|row| row.iter().copied().map(Some).collect())
                .collect(),
            decimals: 2,
            best: Best::Unmarked,
        };
        Block::Figure(Figure {
            caption: "Linear CKA; values show on hover.".into(),
            chart: chart.into(),
        })
    });
    let mut pairs = vec![
        (
            "images".to_string(),
            format!("{} of the test split", results.images),
        ),
        ("estimator".into(), results.estimator.clone()),
        (
            "features".into(),
            format!(
                "maps averaged to the largest square that keeps to {} features, f32",
                results.settings.dim
            ),
        ),
        (
            "noise".into(),
            "one draw an image, another at each timestep".into(),
        ),
    ];
    if !results.left_out.is_empty() {
        let names = results.left_out.join(", ");
        pairs.push(("left out, since not there".into(), names));
    }
    pairs.extend(made_from(&record.provenance));
    Report {
        title: title.into(),
        subtitle: format!(
            "{} comparisons by linear CKA on {} test images.",
            results.comparisons.len(),
            results.images
        ),
        verdicts: Vec::new(),
        sections: vec![
            Section {
                title: "Summary".into(),
                blocks: vec![Block::Table(table(results))],
            },
            Section {
                title: "Every pair of layers".into(),
                blocks: maps.collect(),
            },
            Section {
                title: PROTOCOL.into(),
                blocks: vec![Block::KeyValues(pairs)],
            },
        ],
    }
}

/// What a record tells.
pub(super) fn found(path: &Path, known: Known<'_>) -> Result<Found> {
    let record: Record<Results> = told::record(path, SCHEMA)?;
    Ok(report(known.title, &record).into())
}
