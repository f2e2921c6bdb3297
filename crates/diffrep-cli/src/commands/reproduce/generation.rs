//! What the diffusion model draws, scored against real images: the generation column of Table 1.

use anyhow::{Context, Result};
use diffrep_artifact::{Sha256Hex, create_dir_all};
use diffrep_backbones::FidInput;
use diffrep_datasets::Fit;
use diffrep_fid::{ImageFile, Subsets};
use diffrep_plan::{Judge, PlannedGeneration};
use diffrep_probe::{Progress, Splits, StepKey, step};
use diffrep_report::{Block, Cell, Column, ImageGrid, NoteKind, Section, Table};
use diffrep_sample::{SampleOptions, Sampler};
use diffrep_schedule::{Schedule, Spacing, VarianceKind, respaced};
use serde::{Deserialize, Serialize};

use super::{Ground, Place, watched};
use crate::commands::extract::spread;
use crate::commands::fid::Scores;
use crate::commands::fid::extractor::Extractor;
use crate::commands::fid::side::{Images, Reading, Side};
use crate::commands::input::{PrecisionArg, check_predicts_noise, encoder_name};
use crate::commands::sample::{Drawing, Grid, fill_archive, square};

/// Images of the grid.
const GRID: usize = 64;

/// What was drawn, and what it is worth.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Generation {
    settings: PlannedGeneration,
    /// The network in whose features distances are, and how images reach it.
    extractor: String,
    resize: String,
    /// Images drawn, and what they are compared with.
    drawn: Scores,
    real: Scores,
    noise: Scores,
}

/// The same with pictures.
pub(super) struct Generated {
    pub(super) generation: Generation,
    pub(super) grid: ImageGrid,
}

/// A generation whose words were understood, before hours of other work.
pub(super) struct Planned<'a> {
    planned: &'a PlannedGeneration,
    sampler: Sampler,
    schedule: Schedule,
}

impl<'a> Planned<'a> {
    pub(super) fn read(planned: &'a PlannedGeneration, ground: &Ground) -> Result<Self> {
        check_predicts_noise(&ground.process, "the diffusion model of the experiment")?;
        let spacing = Spacing::parse(&planned.steps, ground.schedule.steps())?;
        Ok(Self {
            planned,
            sampler: planned.sampler.parse()?,
            schedule: respaced(&ground.schedule, &spacing)?,
        })
    }

    /// Draws, unless an earlier run has, and scores.
    pub(super) fn run(
        &self,
        ground: &Ground,
        splits: &Splits,
        place: &Place<'_>,
    ) -> Result<Generated> {
        let planned = self.planned;
        let config = ground.network.config();
        let network = ground.network.clone().packed();
        let drawing = Drawing {
            checkpoint: encoder_name(&ground.sha256, None, PrecisionArg::F32)?,
            network: &network,
            kind: ground.process.schedule,
            timesteps: ground.process.steps,
            steps: &planned.steps,
            schedule: &self.schedule,
            options: SampleOptions {
                seed: planned.seed,
                shape: [config.in_channels, config.image_size, config.image_size],
                sampler: self.sampler,
                variance: match config.out_channels == 2 * config.in_channels {
                    true => VarianceKind::LearnedRange,
                    false => VarianceKind::FixedSmall,
                },
            },
            batch: planned.batch,
            labels: None,
            guide: None,
            device: place.device,
            spec: place.spec,
        };
        let key = Sha256Hex::hash_json(&(drawing.determines(), planned.samples, planned.batch))?;
        let folder = place.shared.join("samples");
        create_dir_all(&folder)?;
        let path = folder.join(format!("diffusion-{}.npz", key.short()));
        if fill_archive(&drawing, &path, 0..planned.samples, place.printer)? == 0 {
            place.printer.say("samples: done before");
        }
        let archive = ImageFile::open(&path)?;
        let grid = grid(&archive, planned.samples)?;
        let generation = self.scored(ground, splits, place, &key, archive)?;
        Ok(Generated { generation, grid })
    }

    /// The scores of images drawn under `key`, unless an earlier run has them.
    fn scored(
        &self,
        ground: &Ground,
        splits: &Splits,
        place: &Place<'_>,
        key: &Sha256Hex,
        archive: ImageFile,
    ) -> Result<Generation> {
        let planned = self.planned;
        let config = ground.network.config();
        let extractor = match &planned.judge {
            Judge::Classifier(path) => Extractor::classifier(&place.roots.find(path), place.device),
            // What the published distances were measured with.
            Judge::Inception(path) => {
                let path = place.roots.find(path);
                Extractor::inception(&path, FidInput::TensorFlow, place.device)
            }
        };
        let extractor = extractor.context("the judge of what is drawn")?;
        let test = match planned.images {
            None => splits.test.clone(),
            Some(count) => splits.test.subset(&spread(splits.test.len(), count)),
        };
        let samples = planned.samples as usize;
        let others = splits.train.subset(&spread(splits.train.len(), samples));
        let reference = planned.reference.as_deref();
        let reference = reference.map(|path| place.roots.find(path));
        let published = reference.as_ref().map(Sha256Hex::hash_file).transpose()?;
        let determines = (
            key,
            (&planned.judge, extractor.source()),
            (test.fingerprint()?, others.fingerprint()?, published),
            env!("CARGO_PKG_VERSION"),
        );
        let reading = Reading {
            extractor: Some(&extractor),
            limit: None,
            // Real images are cropped as the network's own training images were.
            size: (ground.preprocess.fit == Fit::CenterCrop).then_some(config.image_size),
            split: None,
            printer: place.printer,
        };
        let compute = |_: &mut (dyn FnMut(Progress<'_>) + Send)| -> Result<Generation> {
            let against = match &reference {
                Some(path) => Reading {
                    size: None,
                    ..reading
                }
                .open(path, false)?,
                None => reading.images(&Images::Data(test), "test images", false)?,
            };
            let noise = Images::Noise {
                count: samples,
                size: config.image_size,
                channels: config.in_channels,
                seed: planned.seed,
            };
            let pairs = Some(Subsets::default());
            let score = |side: Side| Scores::of(&side, &against, pairs);
            let source = extractor.source();
            Ok(Generation {
                settings: planned.clone(),
                extractor: source.extractor,
                resize: source.resize,
                drawn: score(reading.images(&Images::Archive(archive), "images drawn", true)?)?,
                real: score(reading.images(&Images::Data(others), "other photographs", true)?)?,
                noise: score(reading.images(&noise, "noise", true)?)?,
            })
        };
        let key = StepKey::new("generation", &determines)?;
        watched(place.printer, |on| step(place.shared, &key, on, compute))
    }
}

/// The first images of a file, none chosen.
fn grid(archive: &ImageFile, samples: u64) -> Result<ImageGrid> {
    let mut images: Vec<Vec<u8>> = Vec::new();
    let (height, width) = (archive.height(), archive.width());
    archive.for_each(GRID, |batch| {
        let more = batch.pixels.chunks_exact(height * width * 3);
        images.extend(more.take(GRID - images.len()).map(<[u8]>::to_vec));
        Ok::<_, anyhow::Error>(())
    })?;
    let Grid { png, width, height } = square(&images, width, 3)?;
    Ok(ImageGrid {
        caption: format!(
            "The first {} of the {samples} images drawn, none of them chosen.",
            images.len()
        ),
        columns: 1,
        row_labels: Vec::new(),
        column_labels: Vec::new(),
        png,
        width: width as u32,
        height: height as u32,
        scale: if width <= 300 { 2 } else { 1 },
    })
}

impl Generation {
    /// What the distance is called.
    pub(super) fn distance_name(&self) -> &'static str {
        match self.settings.judge {
            Judge::Classifier(_) => "Frechet distance (not FID)",
            Judge::Inception(_) => "FID",
        }
    }

    /// The distance of what the diffusion model draws.
    pub(super) fn distance(&self) -> f64 {
        self.drawn.frechet.distance
    }

    fn table(&self) -> Table {
        let row = |name: &str, scores: &Scores| {
            let count = scores.frechet.samples.count;
            let number = |value: Option<f64>, decimals| {
                value.map_or_else(Cell::missing, |value| Cell::number(value, decimals))
            };
            let found = scores.precision_recall.as_ref();
            let kid = scores.kid.as_ref().map(|kid| kid.mean * 1000.0);
            vec![
                Cell::text(name),
                count.map_or_else(Cell::missing, |count| Cell::text(count.to_string())),
                Cell::number(scores.frechet.distance, 2),
                number(kid, 2),
                number(found.map(|found| found.precision), 2),
                number(found.map(|found| found.recall), 2),
            ]
        };
        let reference = match &self.settings.reference {
            Some(path) => path.display().to_string(),
            None => {
                let count = self.drawn.frechet.reference.count.unwrap_or_default();
                format!("{count} test images")
            }
        };
        Table {
            caption: format!(
                "Against {reference}. Features: {}; {}.",
                self.extractor, self.resize
            ),
            columns: vec![
                Column::text("images"),
                Column::number("count"),
                Column::number(self.distance_name()),
                Column::number("KID x 1000"),
                Column::number("precision"),
                Column::number("recall"),
            ],
            rows: vec![
                row("other photographs (training images)", &self.real),
                row("drawn by the diffusion model", &self.drawn),
                row("noise", &self.noise),
            ],
            highlight: vec![1],
        }
    }

    /// What the numbers may be compared with.
    fn note(&self) -> String {
        let mut text = match self.settings.judge {
            Judge::Classifier(_) => "Distances are measured in the features of a classifier that this project \
                 trained, and not in those of FID's Inception-v3: they are no FID, and are not to be compared with \
                 published ones. Real images and noise are the two ends of their scale."
                .to_string(),
            Judge::Inception(_) => "FID with the resizing of TensorFlow, as the evaluator of guided diffusion has \
                 it."
            .to_string(),
        };
        if let Some(published) = self.settings.published {
            text.push_str(&format!(
                " Published for this network: {published:.2}; the difference here is {:+.2}.",
                self.distance() - published
            ));
        }
        if self.drawn.frechet.rank_deficient {
            text.push_str(
                " There are fewer images than features, or constant ones: distances are biased upwards.",
            );
        }
        text
    }
}

impl Generation {
    /// The part of the report; the pictures are not in the record, and may be missing.
    pub(super) fn section(&self, grid: Option<ImageGrid>) -> Section {
        let settings = &self.settings;
        let blocks = [
            Block::Paragraph(diffrep_report::escape_inline(&format!(
                "The same network drew {} images: sampler {}, steps {}, seed {}.",
                settings.samples, settings.sampler, settings.steps, settings.seed
            ))),
            Block::Table(self.table()),
            Block::Note {
                kind: NoteKind::Info,
                text: diffrep_report::escape_inline(&self.note()),
            },
        ];
        Section {
            title: "And it generates".into(),
            blocks: blocks.into_iter().chain(grid.map(Block::Images)).collect(),
        }
    }
}
