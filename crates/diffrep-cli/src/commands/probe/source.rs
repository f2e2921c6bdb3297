//! Where labelled features come from.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use diffrep_datasets::{HoldOut, balanced_subset, hold_out};
use diffrep_extract::Setting;
use diffrep_probe::{Features, MapColumn, Maps};
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
    File {
        features: Features,
        shape: Vec<usize>,
    },
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (kind, labels) = if path.is_file() {
            let (features, shape) = Features::from_file(path)?;
            let labels = features.labels.clone();
            (Kind::File { features, shape }, labels)
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
            _ => 1,
        };
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
            Kind::File { .. } => None,
        }
    }

    pub(super) fn columns(&self) -> Vec<String> {
        match &self.kind {
            Kind::Store(store) => {
                let columns = store.spec().columns.iter();
                columns.map(|column| column.name.clone()).collect()
            }
            Kind::File { .. } => vec![FILE_COLUMN.into()],
        }
    }

    fn features(&self, column: &str) -> Result<Features> {
        Ok(match &self.kind {
            Kind::Store(store) => Features::read(store, column)?,
            Kind::File { features, .. } => {
                self.only(column)?;
                features.clone()
            }
        })
    }

    /// The maps of a file are of no known block: they are named as the first block of a clean image.
    fn maps(&self, columns: &[String]) -> Result<Maps> {
        let (features, shape) = match &self.kind {
            Kind::Store(store) => return Ok(Maps::read(store, columns)?),
            Kind::File { features, shape } => (features, shape.as_slice()),
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
    /// and noise. Of a file it is known only how long its features are.
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
                let (same, compared) = same_images(one, another)?;
                ensure!(
                    same == 0,
                    "{earlier} and {later} share images: of {compared} ids that are in both, {same} have the same \
                     features to the bit; a score must be on images that nothing was fitted or chosen on"
                );
            }
            (
                Kind::File { features, shape },
                Kind::File {
                    features: others,
                    shape: other_shape,
                },
            ) => {
                ensure!(
                    shape == other_shape,
                    "a sample in {earlier} has shape {shape:?}, in {later} {other_shape:?}"
                );
                ensure!(
                    features != others,
                    "{earlier} and {later} hold the same features: a score must be on samples that \
                     nothing was fitted or chosen on"
                );
            }
            _ => anyhow::bail!(
                "{earlier} and {later} are not of the same kind: one is a feature store, the other \
                 a file"
            ),
        }
        Ok(())
    }
}

/// Of some of the ids that are in two stores, how many have the same features in both, and how many were compared. Ids
/// alone tell nothing: those of other splits and folders may be the same.
fn same_images(one: &Store, other: &Store) -> Result<(usize, usize)> {
    /// Enough to find a part of one store in the other.
    const COMPARED: usize = 256;
    let columns = one.spec().columns.iter().map(|column| column.name.as_str());
    let Some(column) = columns
        .clone()
        .find(|name| other.spec().columns.iter().any(|c| c.name == *name))
    else {
        return Ok((0, 0));
    };
    // Of several rows of an image the first.
    let first_rows = |store: &Store| -> HashMap<u64, usize> {
        let ids = store.ids();
        (0..ids.len()).rev().map(|row| (ids[row], row)).collect()
    };
    let (ours, theirs) = (first_rows(one), first_rows(other));
    let mut shared: Vec<u64> = ours
        .keys()
        .copied()
        .filter(|id| theirs.contains_key(id))
        .collect();
    shared.sort_unstable();
    let step = shared.len().div_ceil(COMPARED).max(1);
    let shared: Vec<u64> = shared.into_iter().step_by(step).collect();
    let read = |store: &Store, places: &HashMap<u64, usize>| -> Result<Vec<Vec<u32>>> {
        let column = store.column(column)?;
        let rows: Vec<usize> = shared.iter().map(|id| places[id]).collect();
        let mut values = vec![0.0; rows.len() * column.dim()];
        column.read_rows(&rows, &mut values)?;
        let bits = |row: &[f32]| row.iter().map(|value| value.to_bits()).collect();
        Ok(values.chunks(column.dim()).map(bits).collect())
    };
    let (ours, theirs) = (read(one, &ours)?, read(other, &theirs)?);
    let same = ours.iter().zip(&theirs).filter(|(a, b)| a == b).count();
    Ok((same, shared.len()))
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
            kind: Kind::File {
                features,
                shape: vec![1],
            },
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
