//! One side of a comparison: images, features or statistics.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use diffrep_datasets::{
    Channels, Dataset, Fit, Image, Preprocess, Split, available_splits, decode, open,
};
use diffrep_fid::{
    FEATURES, FeatureFile, FeatureMatrix, Features, INCEPTION_SPLIT, ImageFile, InceptionScore,
    InceptionScorer, Moments, Source, Statistics, StatisticsFile,
};
use diffrep_rng::{Key, Stream};

use super::extractor::{Extractor, Found};
use crate::printer::Printer;

/// Images that are in memory at a time.
const CHUNK: usize = 64;

/// What is known of one side.
pub(crate) struct Side {
    /// Of the features of FID.
    pub(crate) pool: Statistics,
    /// Of the features of sFID.
    pub(crate) spatial: Option<Statistics>,
    /// The features themselves, where there is more than statistics.
    pub(crate) features: Option<FeatureMatrix<f32>>,
    /// Of the samples alone.
    pub(crate) score: Option<InceptionScore>,
}

/// How a side is read.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'a> {
    /// What makes features of images.
    pub(crate) extractor: Option<&'a Extractor>,
    /// Only so many images.
    pub(crate) limit: Option<usize>,
    /// Images are cropped and resized to this side first.
    pub(crate) size: Option<usize>,
    /// Which split of a data set; the test split, or else the training split, without it.
    pub(crate) split: Option<Split>,
    pub(crate) printer: Printer,
}

impl Reading<'_> {
    /// Images, features or statistics; `score` asks for the Inception score too.
    pub(crate) fn open(&self, path: &Path, score: bool) -> Result<Side> {
        if !path.is_dir() {
            let whole = |side: Side| {
                ensure!(
                    self.limit.is_none() && self.size.is_none(),
                    "--limit is for images, as is --size, and this holds features or statistics"
                );
                Ok(side)
            };
            if let Ok(found) = StatisticsFile::read(path) {
                return whole(Side {
                    pool: found.pool,
                    spatial: found.spatial,
                    features: None,
                    score: None,
                });
            }
            if let Ok(file) = FeatureFile::open(path, FEATURES) {
                return whole(Side {
                    pool: file.statistics()?,
                    spatial: None,
                    features: Some(file.read()?),
                    score: None,
                });
            }
        }
        let images = Images::open(path, self.split)?;
        self.images(&images, &path.display().to_string(), score)
    }

    /// Features of images.
    pub(crate) fn images(&self, images: &Images, title: &str, score: bool) -> Result<Side> {
        let extractor = self.extractor.context(
            "images are compared by a network's features: give --inception or --classifier",
        )?;
        let total = images.len().min(self.limit.unwrap_or(usize::MAX));
        ensure!(
            total >= 2,
            "a covariance needs at least 2 images, and there are {total}"
        );
        let mut gathering = Gathering::new(extractor, score);
        let mut progress = self.printer.progress(title, total as u64);
        images.for_each(total, self.size, |images, first| {
            let count = images.len();
            gathering.push(extractor.read(images, first)?, count)?;
            progress.at((first + count) as u64, "");
            Ok(())
        })?;
        progress.finish();
        gathering.finish(self.size)
    }
}

/// Where images come from.
pub(crate) enum Images {
    Files(Vec<PathBuf>),
    Data(Dataset),
    Archive(ImageFile),
    /// What a sampler begins with: normal numbers of deviation 1, as pixels.
    Noise {
        count: usize,
        size: usize,
        channels: usize,
        seed: u64,
    },
}

impl Images {
    fn open(path: &Path, split: Option<Split>) -> Result<Self> {
        let is = |extension: &str| {
            let found = path.extension();
            found.is_some_and(|found| found.eq_ignore_ascii_case(extension))
        };
        let archive = is("npz") || is("safetensors");
        if path.is_file() && (archive || !(is("parquet") || is("tar"))) {
            return Ok(Self::Archive(ImageFile::open(path)?));
        }
        if path.is_dir() {
            let files = pictures(path)?;
            if !files.is_empty() {
                return Ok(Self::Files(files));
            }
        }
        let split = match split {
            Some(split) => split,
            None if available_splits(path)?.contains(&Split::Test) => Split::Test,
            None => Split::Train,
        };
        Ok(Self::Data(open(path, split)?))
    }

    fn len(&self) -> usize {
        match self {
            Self::Files(files) => files.len(),
            Self::Data(dataset) => dataset.len(),
            Self::Archive(file) => file.count(),
            Self::Noise { count, .. } => *count,
        }
    }

    /// The first `total` images in chunks of equal size, each with the number of its first.
    fn for_each(
        &self,
        total: usize,
        size: Option<usize>,
        mut each: impl FnMut(Vec<Image>, usize) -> Result<()>,
    ) -> Result<()> {
        let fitted = |image: Image| match size {
            None => Ok(image),
            Some(size) => Ok(Preprocess {
                size,
                channels: match image.channels() {
                    1 => Channels::Grey,
                    _ => Channels::Rgb,
                },
                fit: Fit::CenterCrop,
            }
            .apply(&image)?),
        };
        if let Self::Archive(file) = self {
            return file.for_each(CHUNK, |batch| {
                let samples = batch.height * batch.width * 3;
                let wanted = total.saturating_sub(batch.first).min(batch.count);
                let images = batch.pixels.chunks_exact(samples).take(wanted);
                let image = |pixels: &[u8]| {
                    fitted(Image::new(batch.width, batch.height, 3, pixels.to_vec()))
                };
                match wanted {
                    0 => Ok(()),
                    _ => each(images.map(image).collect::<Result<_>>()?, batch.first),
                }
            });
        }
        let mut together = None;
        for first in (0..total).step_by(CHUNK) {
            let part = first..(first + CHUNK).min(total);
            let images: Vec<Image> = part
                .map(|index| fitted(self.image(index)?))
                .collect::<Result<_>>()?;
            for image in &images {
                let found = (image.width(), image.height());
                let expected = *together.get_or_insert(found);
                ensure!(
                    found == expected,
                    "images of {} x {} and of {} x {} pixels lie together: statistics are of images of one size; \
                     --size N crops and resizes them",
                    expected.0,
                    expected.1,
                    found.0,
                    found.1
                );
            }
            each(images, first)?;
        }
        Ok(())
    }

    fn image(&self, index: usize) -> Result<Image> {
        match self {
            Self::Files(files) => {
                let bytes = diffrep_artifact::read_bytes(&files[index])?;
                Ok(decode(&files[index], &bytes)?)
            }
            Self::Data(dataset) => Ok(dataset.image(index)?),
            Self::Archive(_) => bail!("images of an archive are read in order"),
            &Self::Noise {
                size,
                channels,
                seed,
                ..
            } => {
                let mut values = vec![0.0f32; size * size * channels];
                Key::new(seed, Stream::SampleInit)
                    .sample(index as u64)
                    .fill_normal(&mut values);
                let pixel = |value: f32| ((value + 1.0) * 127.5).clamp(0.0, 255.0) as u8;
                let pixels = values.into_iter().map(pixel).collect();
                Ok(Image::new(size, size, channels, pixels))
            }
        }
    }
}

/// The PNG and JPEG files of a folder, by name; of what `diffrep sample` wrote the numbered ones alone.
fn pictures(dir: &Path) -> Result<Vec<PathBuf>> {
    let drawn = dir.join("sampling.json").exists();
    let entries = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is = |extension: &str| {
            path.extension()
                .is_some_and(|found| found.eq_ignore_ascii_case(extension))
        };
        let numbered = path.file_stem().is_some_and(|stem| {
            stem.to_string_lossy()
                .bytes()
                .all(|byte| byte.is_ascii_digit())
        });
        if (is("png") || is("jpg") || is("jpeg")) && (numbered || !drawn) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Features on their way to statistics.
struct Gathering<'a> {
    extractor: &'a Extractor,
    scores: bool,
    pool: Option<Moments>,
    spatial: Option<Moments>,
    scorer: Option<InceptionScorer>,
    features: Vec<f32>,
}

impl<'a> Gathering<'a> {
    fn new(extractor: &'a Extractor, scores: bool) -> Self {
        Self {
            extractor,
            scores,
            pool: None,
            spatial: None,
            scorer: None,
            features: Vec::new(),
        }
    }

    fn push(&mut self, found: Found, images: usize) -> Result<()> {
        push(&mut self.pool, &found.pool, images)?;
        if let Some(spatial) = &found.spatial {
            push(&mut self.spatial, spatial, images)?;
        }
        if let Some(probabilities) = found.probabilities.filter(|_| self.scores) {
            let classes = probabilities.len() / images;
            if self.scorer.is_none() {
                self.scorer = Some(InceptionScorer::new(classes, INCEPTION_SPLIT)?);
            }
            if let Some(scorer) = &mut self.scorer {
                scorer.push(Features::new(&probabilities, classes)?)?;
            }
        }
        self.features.extend(found.pool);
        Ok(())
    }

    /// `size` is what images were brought to before the extractor saw them.
    fn finish(self, size: Option<usize>) -> Result<Side> {
        let source = || {
            let source = self.extractor.source();
            Some(match size {
                None => source,
                Some(size) => Source {
                    resize: format!("centre crop to {size}, {}", source.resize),
                    ..source
                },
            })
        };
        let pool = self.pool.context("there are no images")?.finish(source())?;
        let spatial = self
            .spatial
            .map(|moments| moments.finish(source()))
            .transpose()?;
        let score = self
            .scorer
            .map(|scorer| scorer.finish(source()))
            .transpose()?;
        Ok(Side {
            features: Some(FeatureMatrix::new(self.features, pool.dim())?),
            pool,
            spatial,
            score,
        })
    }
}

fn push(moments: &mut Option<Moments>, values: &[f32], images: usize) -> Result<()> {
    let dim = values.len() / images;
    if moments.is_none() {
        *moments = Some(Moments::new(dim)?);
    }
    if let Some(moments) = moments {
        moments.push(Features::new(values, dim)?)?;
    }
    Ok(())
}
