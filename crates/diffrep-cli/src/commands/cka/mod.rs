//! How alike the layers of networks are.

pub(crate) mod layers;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use diffrep_artifact::{create_dir_all, write_bytes_atomic, write_json_atomic};
use diffrep_cka::{
    Alignment, Estimator, Features, Kernel, Layer, Matrix, Options, Precision, Streaming,
    align_between, align_within, between, within,
};
use diffrep_datasets::Split;
use diffrep_import::is_latent;
use diffrep_report::{
    Best, Block, Cell, Chart, Column, Figure, Heatmap, Report, Section, Table, heatmap_png, to_csv,
    to_html, to_svg, to_terminal_table,
};
use ndarray::Array2;
use serde::Serialize;

use crate::commands::data::DataArgs;
use crate::device::DeviceSpec;
use crate::printer::{Printer, human_duration};
use layers::{Layers, OnImages};

/// Layers up to which the whole matrix is printed.
const PRINTED: usize = 8;

/// Compare layers by CKA, or by their nearest neighbours.
///
/// A and B are feature stores, whose columns are the layers; safetensors files, whose tensors of two
/// axes are (samples, features); or with --images checkpoints of diffusion models (Stable Diffusion's folders
/// too), whose blocks are the layers. Without B the layers of A are compared with one another. --out receives the matrix as JSON
/// and CSV and a heat map as SVG, PNG and HTML.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep cka features/t90 features/t300 --out runs/cka\n  \
    diffrep cka ours.safetensors resnet.safetensors --estimator minibatch --batch-size 256 --json\n  \
    diffrep cka fixtures/mini/model.safetensors --images fixtures/fashion-mnist --split test \\\n      \
    --limit 500 --t 100 --out runs/cka-blocks\n  \
    diffrep cka model.pt stable-diffusion-v1-5/ --images photos/ --t 150 --size 512 --out runs/cka-sd\n  \
    diffrep cka a.safetensors b.safetensors --key features --neighbours 10 --measure cknna")]
pub(crate) struct CkaArgs {
    /// A feature store, a safetensors file, or with --images a checkpoint.
    a: PathBuf,
    /// Another; without it A is compared with itself.
    b: Option<PathBuf>,
    /// linear (CKA), rbf (CKA with a Gaussian kernel), mutual-knn or cknna.
    #[arg(long, default_value = "linear")]
    measure: Measure,
    /// How CKA is estimated: biased (the plain formula, too high for wide layers), unbiased (may be
    /// negative) or minibatch (unbiased, in bounded memory).
    #[arg(long, default_value = "unbiased")]
    estimator: EstimatorArg,
    /// Samples of a batch of --estimator minibatch.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(8..))]
    batch_size: u64,
    /// Width of the Gaussian kernel, as a fraction of the median distance.
    #[arg(long, default_value_t = 0.5)]
    bandwidth: f64,
    /// Neighbours of mutual-knn and cknna.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    neighbours: u64,
    /// What products are taken in: double, or single (over twice as fast, off by about 1e-7).
    #[arg(long, default_value = "double")]
    precision: PrecisionArg,
    /// Layers by name, separated by commas; all without it.
    #[arg(long, value_delimiter = ',')]
    key: Vec<String>,
    /// Images to run checkpoints on, in any layout that `diffrep dataset inspect` recognises.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Which split of the images: train, validation or test.
    #[arg(long, default_value = "test", requires = "images")]
    split: SplitArg,
    /// Only N images, spread evenly over the split.
    #[arg(long, value_name = "N", requires = "images", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Timestep that images are noised to, 0 for almost no noise; needed with checkpoints.
    #[arg(long, requires = "images")]
    t: Option<usize>,
    /// Side that maps are pooled to; smaller maps stay as they are.
    #[arg(long, default_value_t = 2, requires = "images")]
    pool: usize,
    /// Names the noise.
    #[arg(long, default_value_t = 0, requires = "images")]
    seed: u64,
    /// Height and width of images for Stable Diffusion, in pixels; those of its training without it.
    #[arg(long, value_name = "PIXELS", requires = "images")]
    size: Option<usize>,
    /// What Stable Diffusion is told about every image; nothing without it.
    #[arg(long, value_name = "TEXT", requires = "images")]
    prompt: Option<String>,
    /// Folder for matrix and heat map.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Where to compute features: flex, cuda:N, tch.
    #[arg(long, default_value = "flex")]
    device: DeviceSpec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measure {
    Linear,
    Rbf,
    MutualKnn,
    Cknna,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EstimatorArg {
    Biased,
    Unbiased,
    Minibatch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PrecisionArg {
    Double,
    Single,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SplitArg {
    Train,
    Validation,
    Test,
}

/// The images that checkpoints were run on.
#[derive(Debug, Serialize)]
struct OnWhat {
    images: PathBuf,
    split: &'static str,
    limit: Option<u64>,
    t: Option<usize>,
    pool: usize,
    seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
}

/// What is told and written.
#[derive(Debug, Serialize)]
struct Outcome {
    a: PathBuf,
    b: PathBuf,
    measure: String,
    /// Absent for features that were there.
    on: Option<OnWhat>,
    samples: usize,
    batches: usize,
    precision: &'static str,
    rows: Vec<String>,
    columns: Vec<String>,
    values: Vec<Vec<f64>>,
    seconds: f64,
}

pub(crate) fn run(args: &CkaArgs, printer: Printer) -> Result<()> {
    let device = args.device.open()?;
    let dataset = args
        .images
        .as_deref()
        .map(|path| images(args, path))
        .transpose()?;
    let on_images = dataset.as_ref().map(|dataset| OnImages {
        dataset,
        t: args.t,
        pool: args.pool,
        seed: args.seed,
        size: args.size,
        prompt: args.prompt.as_deref().unwrap_or_default(),
        device: &device,
    });
    ensure!(
        (args.size.is_none() && args.prompt.is_none())
            || [Some(&args.a), args.b.as_ref()]
                .into_iter()
                .flatten()
                .any(|path| is_latent(path)),
        "--size and --prompt are for Stable Diffusion, which none of the networks is"
    );
    let open = |path: &Path| Layers::open(path, &args.key, on_images.as_ref(), printer);
    let a = open(&args.a)?;
    let b = args.b.as_deref().map(open).transpose()?;
    if let Some(b) = &b {
        a.same_samples(b)?;
    }
    let start = Instant::now();
    let matrix = args.compare(&a, b.as_ref())?;
    let seconds = start.elapsed().as_secs_f64();
    let outcome = Outcome {
        a: args.a.clone(),
        b: args.b.clone().unwrap_or_else(|| args.a.clone()),
        measure: args.measure_in_words(),
        on: args.images.clone().map(|images| OnWhat {
            images,
            split: match args.split {
                SplitArg::Train => "train",
                SplitArg::Validation => "validation",
                SplitArg::Test => "test",
            },
            limit: args.limit,
            t: args.t,
            pool: args.pool,
            seed: args.seed,
            size: args.size,
            prompt: args.prompt.clone(),
        }),
        samples: matrix.samples,
        batches: matrix.batches,
        precision: match args.precision {
            PrecisionArg::Double => "f64",
            PrecisionArg::Single => "f32 products, f64 sums",
        },
        values: matrix
            .values
            .rows()
            .into_iter()
            .map(|row| row.to_vec())
            .collect(),
        rows: matrix.rows,
        columns: matrix.columns,
        seconds,
    };
    if let Some(dir) = &args.out {
        outcome.write(dir)?;
    }
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&outcome)?);
        return Ok(());
    }
    printer.result(&outcome.in_words());
    if let Some(dir) = &args.out {
        printer.say(&format!("heat map: {}", dir.join("cka.html").display()));
    }
    Ok(())
}

fn images(args: &CkaArgs, path: &Path) -> Result<diffrep_datasets::Dataset> {
    let split = match args.split {
        SplitArg::Train => Split::Train,
        SplitArg::Validation => Split::Validation,
        SplitArg::Test => Split::Test,
    };
    let dataset = DataArgs::of(path).open(split)?;
    Ok(match args.limit {
        None => dataset,
        Some(limit) => dataset.subset(&super::extract::spread(dataset.len(), limit as usize)),
    })
}

impl CkaArgs {
    fn options(&self) -> Options {
        Options {
            estimator: match self.estimator {
                EstimatorArg::Biased => Estimator::Biased,
                EstimatorArg::Unbiased => Estimator::Unbiased,
                EstimatorArg::Minibatch => Estimator::Minibatch {
                    rows: self.batch_size as usize,
                },
            },
            kernel: match self.measure {
                Measure::Rbf => Kernel::Rbf {
                    fraction: self.bandwidth,
                },
                _ => Kernel::Linear,
            },
            precision: self.precision(),
            ..Options::default()
        }
    }

    fn precision(&self) -> Precision {
        match self.precision {
            PrecisionArg::Double => Precision::Double,
            PrecisionArg::Single => Precision::Single,
        }
    }

    fn measure_in_words(&self) -> String {
        let estimator = match self.estimator {
            EstimatorArg::Biased => "biased".to_string(),
            EstimatorArg::Unbiased => "unbiased".into(),
            EstimatorArg::Minibatch => format!("unbiased, batches of {}", self.batch_size),
        };
        match self.measure {
            Measure::Linear => format!("linear CKA, {estimator}"),
            Measure::Rbf => format!("RBF CKA, {estimator}, bandwidth {}", self.bandwidth),
            Measure::MutualKnn => format!("mutual {} nearest neighbours", self.neighbours),
            Measure::Cknna => format!("CKNNA, {} neighbours", self.neighbours),
        }
    }

    fn compare(&self, a: &Layers, b: Option<&Layers>) -> Result<Matrix> {
        let alignment = match self.measure {
            Measure::MutualKnn => Some(Alignment::MutualKnn),
            Measure::Cknna => Some(Alignment::Cknna),
            Measure::Linear | Measure::Rbf => None,
        };
        if alignment.is_none() && self.estimator == EstimatorArg::Minibatch {
            return self.streamed(a, b);
        }
        let read = |layers: &Layers| layers.rows(0..layers.samples);
        let (ours, theirs) = (read(a)?, b.map(read).transpose()?);
        let ours = views(a, &ours);
        let theirs = b.zip(theirs.as_ref()).map(|(b, values)| views(b, values));
        let k = self.neighbours as usize;
        Ok(match (alignment, theirs) {
            (Some(alignment), None) => align_within(&ours, alignment, k, self.precision())?,
            (Some(alignment), Some(theirs)) => {
                align_between(&ours, &theirs, alignment, k, self.precision())?
            }
            (None, None) => within(&ours, &self.options())?,
            (None, Some(theirs)) => between(&ours, &theirs, &self.options())?,
        })
    }

    /// Batch by batch, so that memory does not grow with the samples of a store.
    fn streamed(&self, a: &Layers, b: Option<&Layers>) -> Result<Matrix> {
        let options = self.options();
        let mut streaming = match b {
            None => Streaming::within(&a.names, &options)?,
            Some(b) => Streaming::between(&a.names, &b.names, &options)?,
        };
        let size = self.batch_size as usize;
        // Batches of nearly equal size, none below the 4 that the estimator needs.
        let count = a.samples.div_ceil(size).max(1);
        for batch in 0..count {
            let rows = batch * a.samples / count..(batch + 1) * a.samples / count;
            let ours = a.rows(rows.clone())?;
            let theirs = match b {
                None => Vec::new(),
                Some(b) => b.rows(rows)?,
            };
            let [ours, theirs] = [&ours, &theirs].map(|layers| -> Vec<Features<'_>> {
                layers.iter().map(|layer| layer.view().into()).collect()
            });
            streaming.push(&ours, &theirs)?;
        }
        Ok(streaming.finish()?)
    }
}

fn views<'a>(layers: &Layers, values: &'a [Array2<f32>]) -> Vec<Layer<'a>> {
    let named = layers.names.iter().zip(values);
    named
        .map(|(name, values)| Layer::new(name, values.view()))
        .collect()
}

impl Outcome {
    /// The measure and what it was taken on.
    fn what(&self) -> String {
        let t = self.on.as_ref().and_then(|on| on.t);
        let t = t.map_or_else(String::new, |t| format!(", t = {t}"));
        format!("{}, {} samples{t}", self.measure, self.samples)
    }

    fn heatmap(&self) -> Heatmap {
        Heatmap {
            title: format!("rows: {}, columns: {}", self.a.display(), self.b.display()),
            x_label: self.b.display().to_string(),
            y_label: self.a.display().to_string(),
            columns: self.columns.clone(),
            rows: self.rows.clone(),
            value_label: self.what(),
            values: self
                .values
                .iter()
                .map(|row| row.iter().copied().map(Some).collect())
                .collect(),
            decimals: 2,
            best: Best::Unmarked,
        }
    }

    fn table(&self) -> Table {
        let mut columns = vec![Column::text("layer")];
        columns.extend(self.columns.iter().map(|name| Column::number(name.clone())));
        let rows = self.rows.iter().zip(&self.values).map(|(name, row)| {
            let mut cells = vec![Cell::text(name.clone())];
            cells.extend(row.iter().map(|value| Cell::number(*value, 4)));
            cells
        });
        Table {
            caption: self.what(),
            columns,
            rows: rows.collect(),
            highlight: Vec::new(),
        }
    }

    /// The matrix where it is small, or else for each layer the one that is most like it.
    fn in_words(&self) -> String {
        if self.columns.len() <= PRINTED {
            return to_terminal_table(&self.table());
        }
        let itself = self.a == self.b;
        let rows = self.rows.iter().zip(&self.values).map(|(name, row)| {
            let others = self.columns.iter().zip(row);
            let others = others.filter(|(other, _)| !itself || *other != name);
            let best = others.max_by(|a, b| a.1.total_cmp(b.1));
            let (other, value) =
                best.map_or(("", f64::NAN), |(other, value)| (other.as_str(), *value));
            vec![
                Cell::text(name.clone()),
                Cell::text(other),
                Cell::number(value, 4),
            ]
        });
        let table = to_terminal_table(&Table {
            caption: format!(
                "{}, {} samples, {} x {} layers: the most alike for each; the whole matrix with --json or --out",
                self.measure,
                self.samples,
                self.rows.len(),
                self.columns.len()
            ),
            columns: vec![
                Column::text("layer"),
                Column::text("most alike"),
                Column::number("similarity"),
            ],
            rows: rows.collect(),
            highlight: Vec::new(),
        });
        format!("{table}\n({})", human_duration(self.seconds))
    }

    fn write(&self, dir: &Path) -> Result<()> {
        ensure!(!self.rows.is_empty(), "there is no layer to draw");
        create_dir_all(dir)?;
        write_json_atomic(dir.join("cka.json"), self)?;
        write_bytes_atomic(dir.join("cka.csv"), to_csv(&self.table()).as_bytes())?;
        let chart: Chart = self.heatmap().into();
        write_bytes_atomic(dir.join("cka.svg"), to_svg(&chart).as_bytes())?;
        write_bytes_atomic(dir.join("cka.png"), &heatmap_png(&self.heatmap()))?;
        let report = Report {
            title: "How alike are the layers?".into(),
            subtitle: diffrep_report::escape_inline(&format!(
                "{} of {} samples: {} against {}.",
                self.measure,
                self.samples,
                self.a.display(),
                self.b.display()
            )),
            verdicts: Vec::new(),
            sections: vec![Section {
                title: "Similarity".into(),
                blocks: vec![Block::Figure(Figure {
                    caption:
                        "Rows are layers of the first, columns of the second; values show on hover."
                            .into(),
                    chart,
                })],
            }],
        };
        diffrep_report::check(&report)?;
        write_bytes_atomic(dir.join("cka.html"), to_html(&report).as_bytes())?;
        Ok(())
    }
}
