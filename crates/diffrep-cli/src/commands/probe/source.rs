//! Where labelled features come from.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use diffrep_datasets::{HoldOut, balanced_subset, hold_out};
use diffrep_extract::Setting;
use diffrep_probe::{FeatureFile, Features, MapColumn, Maps};
use diffrep_store::Store;

use crate::commands::data::Missing;

/// Share of the training samples of each class that is held out to choose on, where nothing else is
/// given for that.
const HELD_OUT: f64 = 0.2;

/// The name of the one column of a file.
const FILE_COLUMN: &str = "features";

/// Labelled features: a folder that `diffrep extract` wrote, or a safetensors file of any origin.
pub(super) struct Source {
    pub(super) path: PathBuf,
    kind: Kind,
    /// Of every row.
    labels: Vec<u32>,
    /// How many rows an image has, one behind the other.
    pub(super) rows_each: usize,
}

enum Kind {
    Store(Store),
    File(FeatureFile),
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (kind, labels) = if path.is_file() {
            let file = Features::from_file(path)?;
            let labels = file.features.labels.clone();
            (Kind::File(file), labels)
        } else {
            let store = Store::open(path)?;
            store.verify()?;
            let labels = store.labels().iter().map(|&label| u32::try_from(label));
            let labels: Result<Vec<u32>, _> = labels.collect();
            let labels = labels
                .with_context(|| format!("{} has a label that is no class", path.display()))?;
            (Kind::Store(store), labels)
        };
        ensure!(!labels.is_empty(), "{} has no samples", path.display());
        let rows_each = match &kind {
            Kind::Store(store) if !store.spec().tags.is_empty() => rows_each(store.ids())
                .with_context(|| {
                    format!(
                        "the rows of {} are not those of images one behind the other, as many of each",
                        path.display()
                    )
                })?,
            Kind::File(FeatureFile { ids: Some(ids), .. }) => {
                rows_each(ids).with_context(|| {
                    format!(
                        "the `ids` of {} name images whose samples do not lie one behind the other, as many of each: \
                         sort them so, or leave `ids` out where every sample is of another image",
                        path.display()
                    )
                })?
            }
            _ => 1,
        };
        ensure!(
            labels
                .chunks(rows_each)
                .all(|rows| rows.iter().all(|label| *label == rows[0])),
            "{} has samples of one image (by its `ids`) in several classes: leave `ids` out, or give each image one class",
            path.display()
        );
        Ok(Self {
            path: path.into(),
            kind,
            labels,
            rows_each,
        })
    }

    /// What is missing from its images, as far as a store tells.
    pub(super) fn missing(&self) -> Missing {
        let told = self
            .store()
            .map(|store| store.spec().info["missing"].clone());
        told.and_then(|told| serde_json::from_value(told).ok())
            .unwrap_or_default()
    }

    pub(super) fn labels(&self) -> &[u32] {
        &self.labels
    }

    pub(super) fn store(&self) -> Option<&Store> {
        match &self.kind {
            Kind::Store(store) => Some(store),
            Kind::File(_) => None,
        }
    }

    pub(super) fn columns(&self) -> Vec<String> {
        match &self.kind {
            Kind::Store(store) => {
                let columns = store.spec().columns.iter();
                columns.map(|column| column.name.clone()).collect()
            }
            Kind::File(_) => vec![FILE_COLUMN.into()],
        }
    }

    fn features(&self, column: &str) -> Result<Features> {
        Ok(match &self.kind {
            Kind::Store(store) => Features::read(store, column)?,
            Kind::File(file) => {
                self.only(column)?;
                file.features.clone()
            }
        })
    }

    /// The maps of a file are of no known block: they are named as the first block of a clean image.
    fn maps(&self, columns: &[String]) -> Result<Maps> {
        let (features, shape) = match &self.kind {
            Kind::Store(store) => return Ok(Maps::read(store, columns)?),
            Kind::File(file) => (&file.features, file.shape.as_slice()),
        };
        for column in columns {
            self.only(column)?;
        }
        let [channels, side] = match *shape {
            [dim] => [dim, 1],
            [channels, height, width] if height == width => [channels, height],
            _ => anyhow::bail!("the maps in {} are not square", self.path.display()),
        };
        let setting: Setting =
            serde_json::from_value(serde_json::json!({ "t": null, "block": 1, "pool": side }))?;
        let column = MapColumn {
            setting,
            channels,
            values: features.values.clone(),
        };
        Ok(Maps::new(vec![column], features.labels.clone())?)
    }

    fn only(&self, column: &str) -> Result<()> {
        ensure!(
            column == FILE_COLUMN,
            "{} is a file, whose one column is `{FILE_COLUMN}`: it has no {column}",
            self.path.display()
        );
        Ok(())
    }

    /// That another source holds other images seen through the same encoder, schedule, preprocessing
    /// and noise. Of a file it is known only how long its features are, and which images they are of if it has `ids`.
    pub(super) fn same_kind(&self, other: &Self) -> Result<()> {
        let (earlier, later) = (self.path.display(), other.path.display());
        match (&self.kind, &other.kind) {
            (Kind::Store(one), Kind::Store(another)) => {
                let (first, second) = (&one.spec().info, &another.spec().info);
                for part in [
                    "encoder",
                    "preprocess",
                    "pixels",
                    "schedule",
                    "timestep_scale",
                    "noising",
                    "noise",
                ] {
                    // Files of noise are of other images, as the images are.
                    let both_given = [first, second].map(|info| info["noise"].is_object());
                    ensure!(
                        first.get(part) == second.get(part)
                            || (part == "noise" && both_given == [true; 2]),
                        "the features in {earlier} and {later} are not of the same kind: their \
                         `{part}` differs (manifest.json in each folder tells it)"
                    );
                }
                let classes = [first, second].map(|info| info.get("classes"));
                ensure!(
                    classes[0] == classes[1],
                    "the classes of {earlier} and {later} differ, so that their labels do not mean the same: extract \
                     both from data sets with the same classes ({})",
                    classes
                        .map(|names| names.map_or_else(|| "none".into(), ToString::to_string))
                        .join(" and ")
                );
                ensure!(
                    first.get("data") != second.get("data"),
                    "{earlier} and {later} hold the same images: a score must be on images that \
                     nothing was fitted or chosen on"
                );
                let apart = of_stores(one, another)?;
                apart.require(&self.path, &other.path)?;
            }
            (Kind::File(one), Kind::File(another)) => {
                let (shape, other_shape) = (&one.shape, &another.shape);
                ensure!(
                    shape == other_shape,
                    "a sample in {earlier} has shape {shape:?}, in {later} {other_shape:?}"
                );
                ensure!(
                    one.features != another.features,
                    "{earlier} and {later} hold the same features: a score must be on samples that \
                     nothing was fitted or chosen on"
                );
                if let (Some(ours), Some(theirs)) = (&one.ids, &another.ids) {
                    let read =
                        |file: &FeatureFile, rows: &[usize]| Ok(file.features.select(rows).values);
                    let apart = Shared::of(ours, theirs).compare(
                        one.features.dim,
                        |rows| read(one, rows),
                        |rows| read(another, rows),
                    )?;
                    apart.require(&self.path, &other.path)?;
                }
            }
            _ => anyhow::bail!(
                "{earlier} and {later} are not of the same kind: one is a feature store, the other \
                 a file"
            ),
        }
        Ok(())
    }
}

/// Samples of the same ids in two sources: the place of each in the one and in the other.
///
/// Ids alone tell nothing: those of other splits and folders may be the same. What tells is the same features.
struct Shared {
    ours: Vec<usize>,
    theirs: Vec<usize>,
}

/// Of samples with the same ids, how many have the same features to the bit.
struct Apart {
    same: usize,
    compared: usize,
}

impl Shared {
    /// Some of them, of several rows of an image the first.
    fn of(ours: &[u64], theirs: &[u64]) -> Self {
        /// Enough to find a part of one source in the other.
        const COMPARED: usize = 256;
        let first_rows = |ids: &[u64]| -> HashMap<u64, usize> {
            (0..ids.len()).rev().map(|row| (ids[row], row)).collect()
        };
        let (ours, theirs) = (first_rows(ours), first_rows(theirs));
        let mut shared: Vec<u64> = ours
            .keys()
            .copied()
            .filter(|id| theirs.contains_key(id))
            .collect();
        shared.sort_unstable();
        let step = shared.len().div_ceil(COMPARED).max(1);
        let shared: Vec<u64> = shared.into_iter().step_by(step).collect();
        let places = |of: &HashMap<u64, usize>| shared.iter().map(|id| of[id]).collect();
        Self {
            ours: places(&ours),
            theirs: places(&theirs),
        }
    }

    /// Holds their features to each other, given what reads rows of `dim` values from each source.
    fn compare(
        &self,
        dim: usize,
        one: impl FnOnce(&[usize]) -> Result<Vec<f32>>,
        other: impl FnOnce(&[usize]) -> Result<Vec<f32>>,
    ) -> Result<Apart> {
        let (ours, theirs) = (one(&self.ours)?, other(&self.theirs)?);
        let bits = |row: &[f32]| -> Vec<u32> { row.iter().map(|value| value.to_bits()).collect() };
        let pairs = ours.chunks(dim).zip(theirs.chunks(dim));
        Ok(Apart {
            same: pairs.filter(|(a, b)| bits(a) == bits(b)).count(),
            compared: self.ours.len(),
        })
    }
}

impl Apart {
    /// Errs if any are the same.
    fn require(&self, earlier: &Path, later: &Path) -> Result<()> {
        let Self { same, compared } = self;
        ensure!(
            *same == 0,
            "{} and {} share images: of {compared} ids that are in both, {same} have the same features to the bit; a \
             score must be on images that nothing was fitted or chosen on",
            earlier.display(),
            later.display()
        );
        Ok(())
    }
}

/// Two stores, by the first column that both have.
fn of_stores(one: &Store, other: &Store) -> Result<Apart> {
    let mut columns = one.spec().columns.iter().map(|column| column.name.as_str());
    let Some(name) = columns.find(|name| other.spec().columns.iter().any(|c| c.name == *name))
    else {
        return Ok(Apart {
            same: 0,
            compared: 0,
        });
    };
    let read = |store: &Store, rows: &[usize]| -> Result<Vec<f32>> {
        let column = store.column(name)?;
        let mut values = vec![0.0; rows.len() * column.dim()];
        column.read_rows(rows, &mut values)?;
        Ok(values)
    };
    Shared::of(one.ids(), other.ids()).compare(
        one.column(name)?.dim(),
        |rows| read(one, rows),
        |rows| read(other, rows),
    )
}

/// How many rows an image has, if each has as many and they follow each other.
fn rows_each(ids: &[u64]) -> Option<usize> {
    let first = ids.first()?;
    let each = ids.iter().take_while(|id| *id == first).count();
    let mut images = HashSet::new();
    let whole = ids.chunks(each).all(|rows| {
        rows.len() == each && rows.iter().all(|id| *id == rows[0]) && images.insert(rows[0])
    });
    whole.then_some(each)
}

/// Which rows of an image are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    /// All: what a head is trained on and, their scores averaged, tested on.
    All,
    /// The first: the first draw, not mirrored. Choices are made on these, as on any store with one row an image.
    First,
}

/// Some images of a source. What is cut is cut by image, so that no image has rows on both sides of a cut.
#[derive(Clone)]
pub(super) struct Part<'a> {
    pub(super) source: &'a Source,
    /// All of them without it.
    images: Option<Vec<usize>>,
    rows: Rows,
}

impl<'a> Part<'a> {
    pub(super) fn all(source: &'a Source) -> Self {
        Self {
            source,
            images: None,
            rows: Rows::All,
        }
    }

    /// All images to choose on.
    pub(super) fn to_choose_on(source: &'a Source) -> Self {
        Self {
            rows: Rows::First,
            ..Self::all(source)
        }
    }

    /// A fifth of each class of `source` to choose on, and the rest to train on; the same for every
    /// seed.
    pub(super) fn hold_out(source: &'a Source) -> Result<(Self, Self)> {
        let held_out = HoldOut::Fraction(HELD_OUT);
        let labels = Self::all(source).image_labels();
        let (train, validation) = hold_out(&labels, held_out, 0).with_context(|| {
            format!(
                "no samples of {} can be held out to choose on",
                source.path.display()
            )
        })?;
        ensure!(
            !validation.is_empty(),
            "{} has too few samples to hold some out to choose on: give --validation",
            source.path.display()
        );
        let part = |images, rows| Self {
            source,
            images: Some(images),
            rows,
        };
        Ok((part(train, Rows::All), part(validation, Rows::First)))
    }

    /// As `few` says, another draw for each seed.
    pub(super) fn few(&self, few: Few, seed: u64) -> Result<Self> {
        let labels = self.image_labels();
        let chosen = match few {
            Few::All => return Ok(self.clone()),
            Few::PerClass(count) => balanced_subset(&labels, count, seed),
            Few::Share(share) => {
                hold_out(&labels, HoldOut::Fraction(share), seed).map(|(_, chosen)| chosen)
            }
        };
        let chosen =
            chosen.with_context(|| format!("{} cannot be cut", self.source.path.display()))?;
        ensure!(
            !chosen.is_empty(),
            "so small a share of {} leaves no sample to train on",
            self.source.path.display()
        );
        let images = match &self.images {
            None => chosen,
            Some(images) => chosen.into_iter().map(|index| images[index]).collect(),
        };
        Ok(Self {
            images: Some(images),
            ..*self
        })
    }

    /// How many rows of an image are read.
    pub(super) fn rows_each(&self) -> usize {
        match self.rows {
            Rows::All => self.source.rows_each,
            Rows::First => 1,
        }
    }

    /// How many images there are.
    pub(super) fn len(&self) -> usize {
        let all = self.source.labels().len() / self.source.rows_each;
        self.images.as_ref().map_or(all, Vec::len)
    }

    /// The rows that are read, those of an image one behind the other; none where they are all.
    fn chosen_rows(&self) -> Option<Vec<usize>> {
        let (each, read) = (self.source.rows_each, self.rows_each());
        let of = |image: usize| image * each..image * each + read;
        match &self.images {
            None if read == each => None,
            None => Some((0..self.len()).flat_map(of).collect()),
            Some(images) => Some(images.iter().copied().flat_map(of).collect()),
        }
    }

    /// The class of every image.
    pub(super) fn image_labels(&self) -> Vec<u32> {
        let label = |image: usize| self.source.labels()[image * self.source.rows_each];
        match &self.images {
            None => (0..self.len()).map(label).collect(),
            Some(images) => images.iter().copied().map(label).collect(),
        }
    }

    pub(super) fn features(&self, column: &str) -> Result<Features> {
        let features = self.source.features(column)?;
        Ok(match self.chosen_rows() {
            None => features,
            Some(rows) => features.select(&rows),
        })
    }

    pub(super) fn maps(&self, columns: &[String]) -> Result<Maps> {
        let maps = self.source.maps(columns)?;
        Ok(match self.chosen_rows() {
            None => maps,
            Some(rows) => maps.select(&rows),
        })
    }
}

/// How many of the training images are used.
#[derive(Clone, Copy)]
pub(super) enum Few {
    All,
    PerClass(usize),
    /// Of each class.
    Share(f64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_an_image_are_counted_only_where_all_images_have_as_many() {
        assert_eq!(rows_each(&[7, 7, 3, 3]), Some(2));
        assert_eq!(rows_each(&[7, 3, 5]), Some(1));
        for ids in [
            &[7, 7, 3][..],
            &[7, 3, 7, 3],
            &[7, 7, 3, 5],
            &[7, 7, 3, 3, 7, 7],
            &[],
        ] {
            assert_eq!(rows_each(ids), None, "{ids:?}");
        }
    }

    /// Ten images of two classes in three rows each.
    fn source() -> Source {
        let labels: Vec<u32> = (0..30).map(|row| row / 3 % 2).collect();
        let values = (0..30).map(|row| row as f32).collect();
        let features = Features {
            values,
            dim: 1,
            labels: labels.clone(),
        };
        Source {
            path: "memory".into(),
            kind: Kind::File(FeatureFile {
                features,
                shape: vec![1],
                ids: None,
            }),
            labels,
            rows_each: 3,
        }
    }

    #[test]
    fn cuts_go_between_images_and_choices_see_first_rows() {
        let source = source();
        let read = |part: &Part<'_>| part.features(FILE_COLUMN).unwrap().values;
        let all = Part::all(&source);
        assert_eq!((all.len(), all.rows_each()), (10, 3));
        assert_eq!(all.image_labels()[..4], [0, 1, 0, 1]);
        assert_eq!(
            read(&Part::to_choose_on(&source))[..4],
            [0.0, 3.0, 6.0, 9.0]
        );
        let one = all.few(Few::PerClass(1), 5).unwrap();
        assert_eq!((one.len(), read(&one).len()), (2, 6), "images are counted");
        let (train, validation) = Part::hold_out(&source).unwrap();
        let image = |row: &f32| *row as usize / 3;
        let (seen, held): (Vec<usize>, Vec<usize>) = (
            read(&train).iter().map(image).collect(),
            read(&validation).iter().map(image).collect(),
        );
        assert!(
            seen.iter().all(|image| !held.contains(image)),
            "{seen:?} {held:?}"
        );
        assert_eq!(seen.len(), 3 * train.len());
        assert_eq!((train.len(), validation.len()), (8, 2));
        assert_eq!(held.len(), validation.len());
    }
}
