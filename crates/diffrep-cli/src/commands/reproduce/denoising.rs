//! `kind = "denoising"`: noised images (Figure 3 of the paper), and what one step of the network makes of them.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use burn::tensor::{Device, Tensor, TensorData};
use diffrep_artifact::{Record, Sha256Hex};
use diffrep_datasets::{Dataset, load_batch};
use diffrep_plan::{DenoisingScale, Described, Experiment};
use diffrep_probe::{Progress, Splits, StepKey, step};
use diffrep_report::{
    Axis, Block, Cell, Column, Figure, ImageGrid, LineChart, Point, ReferenceLine, Report,
    Scale as AxisScale, Section, Series, Table, to_terminal_table,
};
use diffrep_rng::{Key, Stream};
use diffrep_sample::to_bytes;
use diffrep_schedule::{noise_batch, predict_x0, q_sample};
use diffrep_stats::Spread;
use diffrep_taps::Condition;
use diffrep_unet::UNet;
use serde::{Deserialize, Serialize};

use super::finished::Finished;
use super::protocol::{PROTOCOL, made_from};
use super::told::{self, Found, Known};
use super::{Ground, Place, pictures, splits, watched};
use crate::commands::extract::spread;
use crate::commands::input::check_predicts_noise;
use crate::commands::pretrain::grid_png;

pub(super) const SCHEMA: (&str, u32) = ("diffrep.denoising", 1);
const CAPTION: &str = "Test images noised to timestep t (Figure 3 of the paper), and below each the clean image as the \
    network predicts it in one step from what is above.";
/// Images that go through the network together.
const BATCH: usize = 32;

/// What `results.json` holds. Nothing is printed or plotted that is not in here.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Results {
    scale: String,
    settings: DenoisingScale,
    /// What the experiment says of itself, where it is none of this program's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    experiment: Option<Described>,
    /// Test images that errors were measured on.
    images: usize,
    /// Mean squared error of the mean training image, taken for each test image.
    mean_image: Spread,
    timesteps: Vec<Entry>,
}

/// One timestep. Errors are mean squares over an image's values, which lie within -1 and 1.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    t: usize,
    /// What the image and the noise are multiplied by.
    signal: f64,
    noise: f64,
    /// Errors of the prediction over test images.
    error: Spread,
}

/// Images and the network that sees them noised.
struct Denoiser<'a> {
    ground: &'a Ground,
    network: &'a UNet,
    seed: u64,
    device: &'a Device,
}

impl Denoiser<'_> {
    fn clean(&self, dataset: &Dataset, indices: &[usize]) -> Result<Tensor<4>> {
        let preprocess = &self.ground.preprocess;
        let mut values = vec![0.0; indices.len() * preprocess.len()];
        load_batch(dataset, preprocess, indices, None, &mut values)?;
        let (channels, size) = (preprocess.channels.count(), preprocess.size);
        let data = TensorData::new(values, [indices.len(), channels, size, size]);
        Ok(Tensor::from_data(data, self.device))
    }

    /// Clean images noised to `t`, with the noise by which their features are read.
    fn noised(
        &self,
        dataset: &Dataset,
        indices: &[usize],
        clean: Tensor<4>,
        t: usize,
    ) -> Tensor<4> {
        let key = |&index: &usize| {
            let key = Key::new(self.seed, Stream::Noise);
            key.sample(dataset.noise_id(index)).t(t as u32)
        };
        let keys: Vec<Key> = indices.iter().map(key).collect();
        let [_, channels, height, width] = clean.dims();
        let noise = noise_batch(&keys, [channels, height, width], self.device);
        q_sample(&self.ground.schedule, clean, &vec![t; indices.len()], noise)
    }

    /// The clean image as the network predicts it in one step, kept within -1 and 1 as in sampling.
    fn predicted(&self, noised: Tensor<4>, t: usize) -> Tensor<4> {
        let [batch, channels, ..] = noised.dims();
        let condition = Condition::timestep(t as f32, self.device);
        let output = self.network.forward(noised.clone(), &condition);
        let eps = output.narrow(1, 0, channels);
        predict_x0(&self.ground.schedule, noised, &vec![t; batch], eps).clamp(-1.0, 1.0)
    }

    /// Squared errors of predictions at `t`, the mean over each image.
    fn errors(&self, dataset: &Dataset, t: usize, mut on: impl FnMut(usize)) -> Result<Vec<f64>> {
        let all: Vec<usize> = (0..dataset.len()).collect();
        let mut errors = Vec::with_capacity(all.len());
        for part in all.chunks(BATCH) {
            let clean = self.clean(dataset, part)?;
            let noised = self.noised(dataset, part, clean.clone(), t);
            errors.extend(squares(self.predicted(noised, t) - clean));
            on(errors.len());
        }
        Ok(errors)
    }

    /// The mean of some images, `[1, channels, height, width]`.
    fn mean(&self, dataset: &Dataset) -> Result<Tensor<4>> {
        let all: Vec<usize> = (0..dataset.len()).collect();
        let mut sum: Option<Tensor<4>> = None;
        for part in all.chunks(BATCH) {
            let images = self.clean(dataset, part)?.sum_dim(0);
            sum = Some(match sum {
                Some(sum) => sum + images,
                None => images,
            });
        }
        let sum = sum.ok_or_else(|| anyhow::anyhow!("there are no training images"))?;
        Ok(sum / all.len() as f64)
    }
}

/// The mean square of each image.
fn squares(difference: Tensor<4>) -> Vec<f64> {
    let [batch, channels, height, width] = difference.dims();
    let values = difference
        .square()
        .reshape([batch, channels * height * width])
        .mean_dim(1)
        .into_data()
        .convert::<f32>();
    let values = values
        .as_slice::<f32>()
        .expect("values that were converted to f32");
    values.iter().copied().map(f64::from).collect()
}

/// The step in which errors are measured on `images`, which are some of the test images.
pub(super) fn key(
    ground: &Ground,
    splits: &Splits,
    images: &Dataset,
    scale: &DenoisingScale,
) -> Result<StepKey> {
    let determines = (
        (&ground.sha256, ground.process, ground.preprocess),
        (splits.train.fingerprint()?, images.fingerprint()?),
        (&scale.timesteps, scale.seed, env!("CARGO_PKG_VERSION")),
    );
    Ok(StepKey::new("denoising", &determines)?)
}

pub(super) fn run(
    experiment: &Experiment<DenoisingScale>,
    scale_name: &str,
    place: &Place<'_>,
) -> Result<()> {
    let start = Instant::now();
    let scale = experiment.scale(scale_name)?;
    let ground = Ground::open(&scale.checkpoint, scale_name, place)?;
    check_predicts_noise(&ground.process, "the diffusion model of the experiment")?;
    for &t in &scale.timesteps {
        ground.schedule.check(t)?;
    }
    let splits = splits(&scale.data, place, None, None)?;
    let images = match scale.images {
        None => splits.test.clone(),
        Some(count) => splits.test.subset(&spread(splits.test.len(), count)),
    };
    let network = ground.network.clone().packed();
    let denoiser = Denoiser {
        ground: &ground,
        network: &network,
        seed: scale.seed,
        device: place.device,
    };
    let compute = |on: &mut (dyn FnMut(Progress<'_>) + Send)| -> Result<(Spread, Vec<Entry>)> {
        let mean = denoiser.mean(&splits.train)?;
        let all: Vec<usize> = (0..images.len()).collect();
        let mut trivial = Vec::new();
        for part in all.chunks(BATCH) {
            trivial.extend(squares(denoiser.clean(&images, part)? - mean.clone()));
        }
        let mut entries = Vec::new();
        for (place, &t) in scale.timesteps.iter().enumerate() {
            let errors = denoiser.errors(&images, t, |done| {
                on(Progress::At {
                    name: "denoising",
                    done: place * images.len() + done,
                    total: scale.timesteps.len() * images.len(),
                });
            })?;
            entries.push(Entry {
                t,
                signal: ground.schedule.sqrt_alphas_cumprod[t],
                noise: ground.schedule.sqrt_one_minus_alphas_cumprod[t],
                error: Spread::of(&errors)?,
            });
        }
        Ok((Spread::of(&trivial)?, entries))
    };
    let key = key(&ground, &splits, &images, scale)?;
    let (mean_image, timesteps) =
        watched(place.printer, |on| step(place.shared, &key, on, compute))?;
    let pictures = draw(&denoiser, &splits.test, scale)?;
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
            mean_image,
            timesteps,
        },
    )?;
    let table = table(&record.data);
    let shown = to_terminal_table(&table);
    let report = report(&experiment.title, &record, table, Some(pictures));
    Finished::write(&record, &report, shown, place.dir, start)?.show(place.printer);
    Ok(())
}

/// The first test image of some classes: clean and noised, and below each noised one what the network
/// predicts.
fn draw(denoiser: &Denoiser<'_>, dataset: &Dataset, scale: &DenoisingScale) -> Result<ImageGrid> {
    let names = dataset.class_names();
    let firsts: Vec<usize> = (0..names.len())
        .filter_map(|class| dataset.labels().iter().position(|l| *l as usize == class))
        .take(scale.shown)
        .collect();
    let (size, channels) = (
        denoiser.ground.preprocess.size,
        denoiser.ground.preprocess.channels.count(),
    );
    let clean = denoiser.clean(dataset, &firsts)?;
    let blank = vec![u8::MAX; size * size * channels];
    // Two rows for each image, which grow to the right.
    let mut rows: Vec<[Vec<Vec<u8>>; 2]> = to_bytes(clean.clone())
        .into_iter()
        .map(|image| [vec![image], vec![blank.clone()]])
        .collect();
    for &t in &scale.timesteps {
        let noised = denoiser.noised(dataset, &firsts, clean.clone(), t);
        let predicted = to_bytes(denoiser.predicted(noised.clone(), t));
        let both = to_bytes(noised).into_iter().zip(predicted);
        for ([above, below], (noised, predicted)) in rows.iter_mut().zip(both) {
            above.push(noised);
            below.push(predicted);
        }
    }
    let columns = scale.timesteps.len() + 1;
    let images: Vec<Vec<u8>> = rows.into_iter().flatten().flatten().collect();
    let labels = firsts.iter().flat_map(|&index| {
        let name = &names[dataset.label(index) as usize];
        [format!("{name}, noised"), "predicted".to_string()]
    });
    Ok(ImageGrid {
        caption: CAPTION.into(),
        columns,
        row_labels: labels.collect(),
        column_labels: pictures::steps(&scale.timesteps),
        png: grid_png(&images, columns, size, channels)?,
        width: (columns * size) as u32,
        height: (2 * firsts.len() * size) as u32,
        scale: if size <= 64 { 2 } else { 1 },
    })
}

fn table(results: &Results) -> Table {
    let row = |entry: &Entry| {
        vec![
            Cell::text(entry.t.to_string()),
            Cell::number(entry.signal, 3),
            Cell::number(entry.noise, 3),
            Cell::number(entry.error.mean, 4),
            entry
                .error
                .std
                .map_or_else(Cell::missing, |std| Cell::number(std, 4)),
            Cell::number(entry.error.mean / results.mean_image.mean * 100.0, 1),
        ]
    };
    Table {
        caption: format!(
            "Mean squared error of the clean image as predicted in one step, over {} test images; values of images \
             lie within -1 and 1. The mean training image, taken for each of them, errs by {:.4}.",
            results.images, results.mean_image.mean
        ),
        columns: vec![
            Column::number("t"),
            Column::number("signal"),
            Column::number("noise"),
            Column::number("error"),
            Column::number("deviation over images"),
            Column::number("of the mean image's").with_unit("%"),
        ],
        rows: results.timesteps.iter().map(row).collect(),
        highlight: Vec::new(),
    }
}

/// What a record tells; the pictures are those that lie beside it.
pub(super) fn found(path: &Path, known: Known<'_>) -> Result<Found> {
    let record: Record<Results> = told::record(path, SCHEMA)?;
    let timesteps = &record.data.settings.timesteps;
    let kept = pictures::kept(known.dir).into_iter().next();
    let pictures = kept.map(|kept| ImageGrid {
        caption: CAPTION.into(),
        columns: timesteps.len() + 1,
        column_labels: pictures::steps(timesteps),
        ..kept
    });
    Ok(report(known.title, &record, table(&record.data), pictures).into())
}

fn report(
    title: &str,
    record: &Record<Results>,
    table: Table,
    pictures: Option<ImageGrid>,
) -> Report {
    let results = &record.data;
    let point = |entry: &Entry| Point::new(entry.t as f64, entry.error.mean);
    let chart = LineChart {
        title: "Error of one-step predictions".into(),
        x: Axis::new("timestep t", AxisScale::Linear),
        y: Axis::new("mean squared error", AxisScale::Linear),
        series: vec![Series::new(
            "network",
            results.timesteps.iter().map(point).collect(),
        )],
        reference_lines: vec![ReferenceLine::new(
            "mean training image",
            results.mean_image.mean,
        )],
        annotations: Vec::new(),
    };
    let mut pairs = vec![
        (
            "test images".to_string(),
            format!("{}, spread over the split", results.images),
        ),
        (
            "noise".into(),
            format!(
                "one draw an image and timestep, seed {}: that by which features are read",
                results.settings.seed
            ),
        ),
        (
            "prediction".into(),
            "from the predicted noise, kept within -1 and 1".into(),
        ),
    ];
    pairs.extend(made_from(&record.provenance));
    let most = results.timesteps.last();
    Report {
        title: title.into(),
        subtitle: most.map_or_else(String::new, |most| {
            format!(
                "At t = {} one step of the network errs by {:.0} % of what the mean training image does, on {} test \
                 images.",
                most.t,
                most.error.mean / results.mean_image.mean * 100.0,
                results.images
            )
        }),
        verdicts: Vec::new(),
        sections: pictures
            .map(|pictures| Section {
                title: "What the network sees, and what it sees in it".into(),
                blocks: vec![Block::Images(pictures)],
            })
            .into_iter()
            .chain([
            Section {
                title: "How wrong it is".into(),
                blocks: vec![
                    Block::Table(table),
                    Block::Figure(Figure {
                        caption: "Mean over test images; no image at all is the line of the mean training image."
                            .into(),
                        chart: chart.into(),
                    }),
                ],
            },
            Section {
                title: PROTOCOL.into(),
                blocks: vec![Block::KeyValues(pairs)],
            },
        ])
            .collect(),
    }
}
