//! How good generated images are: FID and its kin.

mod extractor;
mod side;

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
use serde::Serialize;

use crate::device::DeviceSpec;
use crate::printer::{Printer, human_duration};
use extractor::Extractor;
use side::Side;

/// Score generated images against real ones: FID, sFID, Inception score, KID, precision and recall.
///
/// SAMPLES and REFERENCE are folders of images, data sets (their test split), `.npz` files of images as
/// guided-diffusion's evaluator reads them, files of features or statistics (`.npz`, safetensors). Images
/// need an extractor: --inception with the published weights of FID's Inception-v3, or --classifier with a
/// classifier that `diffrep pretrain` made. Distances in a classifier's features are Frechet distances but
/// not FID, and are named so. Every number is printed with what it depends on.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep fid runs/samples fixtures/fashion-mnist --classifier fixtures/mini/classifier.safetensors\n  \
    diffrep fid samples.npz VIRTUAL_imagenet256.npz --inception pt_inception-2015-12-05-6726825d.pth \\\n      \
    --resize tensorflow --device cuda:0 --json\n  \
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
    frechet: Frechet,
    sfid: Option<Frechet>,
    inception_score: Option<InceptionScore>,
    kid: Option<Kid>,
    precision_recall: Option<PrecisionRecall>,
    seconds: f64,
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
    let limit = args.limit.map(|limit| limit as usize);
    let open = |path: &PathBuf, score: bool| -> Result<Side> {
        Side::open(path, extractor.as_ref(), limit, score, printer)
            .with_context(|| path.display().to_string())
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
    let spatial = samples.spatial.as_ref().zip(reference.spatial.as_ref());
    let pairs = samples.features.as_ref().zip(reference.features.as_ref());
    let pairs = pairs.filter(|_| !args.only_frechet);
    let sources = (samples.pool.source(), reference.pool.source());
    let fewest = pairs.map_or(0, |(a, b)| a.view().count().min(b.view().count()));
    let subsets = Subsets {
        size: fewest.min(args.kid_size as usize),
        seed: args.seed,
        ..Subsets::default()
    };
    let outcome = Outcome {
        samples: args.samples.clone(),
        reference: args.reference.clone(),
        name: if extractor.as_ref().is_some_and(Extractor::is_inception) {
            "fid"
        } else {
            "frechet"
        },
        frechet: frechet_distance(&samples.pool, &reference.pool)?,
        sfid: spatial.map(|(a, b)| frechet_distance(a, b)).transpose()?,
        inception_score: samples.score,
        kid: pairs
            .map(|(a, b)| kid(a.view(), b.view(), sources, subsets))
            .transpose()?,
        precision_recall: pairs
            .map(|(a, b)| precision_recall(a.view(), b.view(), sources, NEIGHBOURS))
            .transpose()?,
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
        let mut rows = vec![(distance.to_string(), self.frechet.distance)];
        if let Some(sfid) = &self.sfid {
            rows.push(("sFID".into(), sfid.distance));
        }
        if let Some(score) = &self.inception_score {
            rows.push((
                format!("Inception score, splits of {INCEPTION_SPLIT}"),
                score.score,
            ));
        }
        if let Some(kid) = &self.kid {
            rows.push((
                format!("KID x 1000, subsets of {}", kid.subsets.size),
                kid.mean * 1000.0,
            ));
        }
        if let Some(found) = &self.precision_recall {
            rows.push(("precision".into(), found.precision));
            rows.push(("recall".into(), found.recall));
        }
        let rows = rows
            .into_iter()
            .map(|(name, value)| vec![Cell::text(name), Cell::number(value, 4)]);
        let count =
            |count: Option<u64>| count.map_or("an unknown number of".into(), |n| n.to_string());
        let made = match &self.frechet.samples.source {
            Some(source) => format!("{}; {}", source.extractor, source.resize),
            None => "features of unknown origin".into(),
        };
        let few = match self.frechet.rank_deficient {
            true => {
                "; fewer images than features, or constant ones: the distance is biased upwards"
            }
            false => "",
        };
        let table = to_terminal_table(&Table {
            caption: format!(
                "{} images against {}; {made}{few}",
                count(self.frechet.samples.count),
                count(self.frechet.reference.count)
            ),
            columns: vec![Column::text("score"), Column::number("value")],
            rows: rows.collect(),
            highlight: Vec::new(),
        });
        format!("{table}\n({})", human_duration(self.seconds))
    }
}
