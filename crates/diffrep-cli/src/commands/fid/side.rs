//! One side of a comparison: images, features or statistics.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use diffrep_datasets::{Dataset, Image, Split, available_splits, decode, open};
use diffrep_fid::{
    FEATURES, FeatureFile, FeatureMatrix, Features, INCEPTION_SPLIT, ImageFile, InceptionScore,
    InceptionScorer, Moments, Statistics, StatisticsFile,
};

use super::extractor::{Extractor, Found};
use crate::printer::Printer;

/// Images that are in memory at a time.
const CHUNK: usize = 64;

/// What is known of one side.
pub(super) struct Side {
    /// Of the features of FID.
    pub(super) pool: Statistics,
    /// Of the features of sFID.
    pub(super) spatial: Option<Statistics>,
    /// The features themselves, where there is more than statistics.
    pub(super) features: Option<FeatureMatrix<f32>>,
    /// Of the samples alone.
    pub(super) score: Option<InceptionScore>,
}

impl Side {
    pub(super) fn open(
        path: &Path,
        extractor: Option<&Extractor>,
        limit: Option<usize>,
        score: bool,
        printer: Printer,
    ) -> Result<Self> {
        if !path.is_dir() {
            let whole = |side: Self| {
                ensure!(
                    limit.is_none(),
                    "--limit is for images, and this holds features or statistics"
                );
                Ok(side)
            };
            if let Ok(found) = StatisticsFile::read(path) {
                return whole(Self {
                    pool: found.pool,
                    spatial: found.spatial,
                    features: None,
                    score: None,
                });
            }
            if let Ok(file) = FeatureFile::open(path, FEATURES) {
                return whole(Self {
                    pool: file.statistics()?,
                    spatial: None,
                    features: Some(file.read()?),
                    score: None,
                });
            }
        }
        let source = Images::open(path)?;
        let extractor = extractor.context(
            "images are compared by a network's features: give --inception or --classifier",
        )?;
        let total = source.len().min(limit.unwrap_or(usize::MAX));
        ensure!(
            total >= 2,
            "a covariance needs at least 2 images, and there are {total}"
        );
        let mut gathering = Gathering::new(extractor, score);
        let mut progress = printer.progress(&path.display().to_string(), total as u64);
        source.for_each(total, |images, first| {
            let count = images.len();
            gathering.push(extractor.read(images, first)?, count)?;
            progress.at((first + count) as u64, "");
            Ok(())
        })?;
        progress.finish();
        gathering.finish()
    }
}

/// Where images come from.
enum Images {
    Files(Vec<PathBuf>),
    Data(Dataset),
    Archive(ImageFile),
}

impl Images {
    fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Ok(Self::Archive(ImageFile::open(path)?));
        }
        let files = pictures(path)?;
        if !files.is_empty() {
            return Ok(Self::Files(files));
        }
        let splits = available_splits(path)?;
        let split = if splits.contains(&Split::Test) {
            Split::Test
        } else {
            Split::Train
        };
        Ok(Self::Data(open(path, split)?))
    }

    fn len(&self) -> usize {
        match self {
            Self::Files(files) => files.len(),
            Self::Data(dataset) => dataset.len(),
            Self::Archive(file) => file.count(),
        }
    }

    /// The first `total` images in chunks of equal size, each with the number of its first.
    fn for_each(
        &self,
        total: usize,
        mut each: impl FnMut(Vec<Image>, usize) -> Result<()>,
    ) -> Result<()> {
        if let Self::Archive(file) = self {
            return file.for_each(CHUNK, |batch| {
                let size = batch.height * batch.width * 3;
                let wanted = total.saturating_sub(batch.first).min(batch.count);
                let images = batch.pixels.chunks_exact(size).take(wanted);
                let image =
                    |pixels: &[u8]| Image::new(batch.width, batch.height, 3, pixels.to_vec());
                match wanted {
                    0 => Ok(()),
                    _ => each(images.map(image).collect(), batch.first),
                }
            });
        }
        let mut size = None;
        for first in (0..total).step_by(CHUNK) {
            let part = first..(first + CHUNK).min(total);
            let images: Vec<Image> = part.map(|index| self.image(index)).collect::<Result<_>>()?;
            for image in &images {
                let found = (image.width(), image.height());
                let expected = *size.get_or_insert(found);
                ensure!(
                    found == expected,
                    "images of {} x {} and of {} x {} pixels lie together: statistics are of images of one size",
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

    fn finish(self) -> Result<Side> {
        let source = || Some(self.extractor.source());
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
