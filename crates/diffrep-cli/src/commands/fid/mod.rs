//! How good generated images are: FID and its kin.

pub(crate) mod extractor;
pub(crate) mod side;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use diffrep_backbones::FidInput;
use diffrep_fid::{
    Frechet, INCEPTION_SPLIT, InceptionScore, Kid, NEIGHBOURS, PrecisionRecall, StatisticsFile,
    Subsets, frechet_distance, kid, precision_recall,
};
use diffrep_report::{Cell, Column, Table, to_terminal_table};
use serde::{Deserialize, Serialize};

use crate::commands::data::SplitArg;
use crate::device::DeviceSpec;
use crate::printer::{Printer, human_duration};
use extractor::Extractor;
use side::{Reading, Side};

/// Score generated images against real ones: FID, sFID, Inception score, KID, precision and recall.
///
/// SAMPLES and REFERENCE are folders of images, data sets in any layout (class folders, IDX files, Parquet
/// and tar files; their test split), `.npz` files of images as guided-diffusion's evaluator reads them, files
/// of features or statistics (`.npz`, safetensors). Images need an extractor: --inception with the published weights of FID's Inception-v3, or --classifier with a
/// classifier that `diffrep pretrain` made. Distances in a classifier's features are Frechet distances but
/// not FID, and are named so. Every number is printed with what it depends on.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep fid runs/samples fixtures/fashion-mnist --classifier fixtures/mini/classifier.safetensors\n  \
    diffrep fid samples.npz VIRTUAL_imagenet256.npz --inception pt_inception-2015-12-05-6726825d.pth \\\n      \
    --resize tensorflow --device cuda:0 --json\n  \
    diffrep fid samples.npz imagenet/ --split train --size 256 --inception weights.pth\n  \
    diffrep fid ours.npz reference-statistics.npz\n  \
    diffrep fid photos/ photos/ --inception weights.pth --save-statistics photos.npz")]
pub(crate) struct FidArgs {
    /// The generated images.
    samples: PathBuf,
    /// The real ones.
    reference: PathBuf,
    /// Weights of FID's Inception-v3 as pytorch-fid publishes them.
    #[arg(long, conflicts_with = "classifier")]
    inception: Option<PathBuf>,
    /// How images are brought to Inception's 299 pixels: pytorch-fid or tensorflow (the evaluator of
    /// guided-diffusion). Distances by one are not comparable with distances by the other.
    #[arg(long, default_value = "pytorch-fid", requires = "inception")]
    resize: ResizeArg,
    /// A classifier whose last map, averaged over pixels, takes Inception's place.
    #[arg(long)]
    classifier: Option<PathBuf>,
    /// Which split of a data set; test, or else train, without it.
    #[arg(long)]
    split: Option<SplitArg>,
    /// Crop images at the centre and resize them to N pixels first, as guided-diffusion does; for images of
    /// several sizes.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=8192))]
    size: Option<u64>,
    /// Only the first N images of each side.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    limit: Option<u64>,
    /// Images of each side in a subset of KID, at most; fewer images make it smaller.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(2..))]
    kid_size: u64,
    /// Leave out KID, precision and recall, which compare all pairs of images.
    #[arg(long)]
    only_frechet: bool,
    /// File for mean and covariance of REFERENCE (`.npz` or safetensors), to be given in its place later.
    #[arg(long, value_name = "FILE")]
    save_statistics: Option<PathBuf>,
    /// Names the subsets of KID.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where to compute: flex, cuda:N, tch.
    #[arg(long, default_value = "flex")]
    device: DeviceSpec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ResizeArg {
    PytorchFid,
    Tensorflow,
}

/// Everything that was computed.
#[derive(Debug, Serialize)]
struct Outcome {
    samples: PathBuf,
    reference: PathBuf,
    /// `fid` in Inception's features, `frechet` in any other's.
    name: &'static str,
    #[serde(flatten)]
    scores: Scores,
    seconds: f64,
}

/// What one side is worth against another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Scores {
    pub(crate) frechet: Frechet,
    pub(crate) sfid: Option<Frechet>,
    pub(crate) inception_score: Option<InceptionScore>,
    pub(crate) kid: Option<Kid>,
    pub(crate) precision_recall: Option<PrecisionRecall>,
}

impl Scores {
    /// All that both sides allow; what compares all pairs of images only with `pairs`, whose subsets are of
    /// that size at most.
    pub(crate) fn of(samples: &Side, reference: &Side, pairs: Option<Subsets>) -> Result<Self> {
        let spatial = samples.spatial.as_ref().zip(reference.spatial.as_ref());
        let features = samples.features.as_ref().zip(reference.features.as_ref());
        let views = features.map(|(a, b)| (a.view(), b.view())).zip(pairs);
        let sources = (samples.pool.source(), reference.pool.source());
        Ok(Self {
            frechet: frechet_distance(&samples.pool, &reference.pool)?,
            sfid: spatial.map(|(a, b)| frechet_distance(a, b)).transpose()?,
            inception_score: samples.score.clone(),
            kid: views
                .map(|((a, b), subsets)| {
                    let size = subsets.size.min(a.count()).min(b.count());
                    kid(a, b, sources, Subsets { size, ..subsets })
                })
                .transpose()?,
            precision_recall: views
                .map(|((a, b), _)| precision_recall(a, b, sources, NEIGHBOURS))
                .transpose()?,
        })
    }
}

pub(crate) fn run(args: &FidArgs, printer: Printer) -> Result<()> {
    let start = Instant::now();
    let device = args.device.open()?;
    let extractor = match (&args.inception, &args.classifier) {
        (Some(path), _) => {
            let how = match args.resize {
                ResizeArg::PytorchFid => FidInput::PytorchFid,
                ResizeArg::Tensorflow => FidInput::TensorFlow,
            };
            Some(Extractor::inception(path, how, &device)?)
        }
        (None, Some(path)) => Some(Extractor::classifier(path, &device)?),
        (None, None) => None,
    };
    let reading = Reading {
        extractor: extractor.as_ref(),
        limit: args.limit.map(|limit| limit as usize),
        size: args.size.map(|size| size as usize),
        split: args.split.map(SplitArg::split),
        printer,
    };
    let open = |path: &PathBuf, score: bool| -> Result<Side> {
        let side = reading.open(path, score);
        side.with_context(|| path.display().to_string())
    };
    let samples = open(&args.samples, true)?;
    let reference = open(&args.reference, false)?;
    if let Some(path) = &args.save_statistics {
        StatisticsFile {
            pool: reference.pool.clone(),
            spatial: reference.spatial.clone(),
        }
        .write(path)?;
        printer.say(&format!("statistics of the reference: {}", path.display()));
    }
    let pairs = match args.only_frechet {
        true => None,
        false => Some(Subsets {
            size: args.kid_size as usize,
            seed: args.seed,
            ..Subsets::default()
        }),
    };
    let outcome = Outcome {
        samples: args.samples.clone(),
        reference: args.reference.clone(),
        name: if extractor.as_ref().is_some_and(Extractor::is_inception) {
            "fid"
        } else {
            "frechet"
        },
        scores: Scores::of(&samples, &reference, pairs)?,
        seconds: start.elapsed().as_secs_f64(),
    };
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&outcome)?);
    } else {
        printer.result(&outcome.in_words());
    }
    Ok(())
}

impl Outcome {
    fn in_words(&self) -> String {
        let distance = match self.name {
            "fid" => "FID",
            _ => "Frechet distance (not FID)",
        };
        let mut rows = vec![(distance.to_string(), self.scores.frechet.distance)];
        if let Some(sfid) = &self.scores.sfid {
            rows.push(("sFID".into(), sfid.distance));
        }
        if let Some(score) = &self.scores.inception_score {
            rows.push((
                format!("Inception score, splits of {INCEPTION_SPLIT}"),
                score.score,
            ));
        }
        if let Some(kid) = &self.scores.kid {
            rows.push((
                format!("KID x 1000, subsets of {}", kid.subsets.size),
                kid.mean * 1000.0,
            ));
        }
        if let Some(found) = &self.scores.precision_recall {
            rows.push(("precision".into(), found.precision));
            rows.push(("recall".into(), found.recall));
        }
        let rows = rows
            .into_iter()
            .map(|(name, value)| vec![Cell::text(name), Cell::number(value, 4)]);
        let count =
            |count: Option<u64>| count.map_or("an unknown number of".into(), |n| n.to_string());
        let made = match &self.scores.frechet.samples.source {
            Some(source) => format!("{}; {}", source.extractor, source.resize),
            None => "features of unknown origin".into(),
        };
        let few = match self.scores.frechet.rank_deficient {
            true => {
                "; fewer images than features, or constant ones: the distance is biased upwards"
            }
            false => "",
        };
        let table = to_terminal_table(&Table {
            caption: format!(
                "{} images against {}; {made}{few}",
                count(self.scores.frechet.samples.count),
                count(self.scores.frechet.reference.count)
            ),
            columns: vec![Column::text("score"), Column::number("value")],
            rows: rows.collect(),
            highlight: Vec::new(),
        });
        format!("{table}\n({})", human_duration(self.seconds))
    }
}
