//! Where labelled features come from.

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
    labels: Vec<u32>,
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
        Ok(Self {
            path: path.into(),
            kind,
            labels,
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
            (Kind::Store(first), Kind::Store(second)) => {
                let (first, second) = (&first.spec().info, &second.spec().info);
                for part in ["encoder", "preprocess", "pixels", "schedule", "noising"] {
                    ensure!(
                        first.get(part) == second.get(part),
                        "the features in {earlier} and {later} are not of the same kind: their \
                         `{part}` differs (manifest.json in each folder tells it)"
                    );
                }
                ensure!(
                    first.get("data") != second.get("data"),
                    "{earlier} and {later} hold the same images: a score must be on images that \
                     nothing was fitted or chosen on"
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

/// Some rows of a source.
#[derive(Clone)]
pub(super) struct Part<'a> {
    pub(super) source: &'a Source,
    /// All of them without it.
    pub(super) rows: Option<Vec<usize>>,
}

impl<'a> Part<'a> {
    pub(super) fn all(source: &'a Source) -> Self {
        Self { source, rows: None }
    }

    /// A fifth of each class of `source` to choose on, and the rest to train on; the same for every
    /// seed.
    pub(super) fn hold_out(source: &'a Source) -> Result<(Self, Self)> {
        let held_out = HoldOut::Fraction(HELD_OUT);
        let (train, validation) = hold_out(source.labels(), held_out, 0).with_context(|| {
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
        let part = |rows| Self {
            source,
            rows: Some(rows),
        };
        Ok((part(train), part(validation)))
    }

    /// As `few` says, another draw for each seed.
    pub(super) fn few(&self, few: Few, seed: u64) -> Result<Self> {
        let labels = self.labels();
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
        let rows = match &self.rows {
            None => chosen,
            Some(rows) => chosen.into_iter().map(|index| rows[index]).collect(),
        };
        Ok(Self {
            rows: Some(rows),
            ..*self
        })
    }

    pub(super) fn labels(&self) -> Vec<u32> {
        let labels = self.source.labels();
        match &self.rows {
            None => labels.to_vec(),
            Some(rows) => rows.iter().map(|&row| labels[row]).collect(),
        }
    }

    pub(super) fn features(&self, column: &str) -> Result<Features> {
        let features = self.source.features(column)?;
        Ok(match &self.rows {
            None => features,
            Some(rows) => features.select(rows),
        })
    }

    pub(super) fn maps(&self, columns: &[String]) -> Result<Maps> {
        let maps = self.source.maps(columns)?;
        Ok(match &self.rows {
            None => maps,
            Some(rows) => maps.select(rows),
        })
    }
}

/// How many of the training samples are used.
#[derive(Clone, Copy)]
pub(super) enum Few {
    All,
    PerClass(usize),
    /// Of each class.
    Share(f64),
}
