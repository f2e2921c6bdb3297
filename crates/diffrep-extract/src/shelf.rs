//! Columns of the same images gathered over several jobs, so that no job computes what an earlier one has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use diffrep_artifact::{ArtifactError, Sha256Hex, create_dir_all};
use diffrep_plan::Place;
use diffrep_store::{Store, Survey};
use diffrep_taps::Encoder;

use crate::{ExtractError, Extraction, Setting, Settings};

/// Characters of a hash that name a folder: 64 bits.
const NAME: usize = 16;

/// The stores of one job's images that together hold its columns.
#[derive(Debug)]
pub struct Gathered {
    stores: Vec<Store>,
}

impl Gathered {
    /// The store that holds a column.
    pub fn store(&self, column: &str) -> Option<&Store> {
        let has = |store: &&Store| store.spec().columns.iter().any(|spec| spec.name == column);
        self.stores.iter().find(has)
    }

    /// All stores.
    pub fn stores(&self) -> &[Store] {
        &self.stores
    }
}

impl Extraction<'_> {
    /// Names of this job's columns that are on the shelf at `dir`, whole.
    ///
    /// # Errors
    ///
    /// When the data set's fingerprint cannot be taken, or the folder cannot be read.
    pub fn on_shelf(&self, dir: &Path) -> Result<BTreeSet<String>, ExtractError> {
        let images = self.shelf_of_images(dir)?;
        if !images.exists() {
            return Ok(BTreeSet::new());
        }
        let (whole, _) = stores_in(&images)?;
        let there = whole.iter().flat_map(|store| &store.spec().columns);
        let there: BTreeSet<&str> = there.map(|column| column.name.as_str()).collect();
        let wanted = self.settings.columns().iter().map(|(s, _)| s.column());
        Ok(wanted
            .filter(|name| there.contains(name.as_str()))
            .collect())
    }

    /// Puts the columns of this job on the shelf at `dir` as one of several workers, in any number of processes,
    /// that were all given the same job; gives the number of images that others still work on. When all workers
    /// have ended well, [`gather`](Self::gather) finds every column.
    ///
    /// # Errors
    ///
    /// As [`Extraction::run_as`].
    pub fn gather_as<E: Encoder + Sync>(
        &self,
        place: &Place,
        encoder: &E,
        dir: &Path,
        device: &Device,
        progress: impl FnMut(usize, usize),
    ) -> Result<usize, ExtractError> {
        let images = self.shelf_of_images(dir)?;
        create_dir_all(&images)?;
        let (missing, _) = self.missing_of(stores_in(&images)?.0);
        if missing.is_empty() {
            return Ok(0);
        }
        let dir = images.join(store_name(&missing)?);
        create_dir_all(&dir)?;
        let settings = Settings::new(missing, &encoder.taps(), self.schedule)?;
        let job = Extraction {
            settings: &settings,
            ..self.clone()
        };
        job.run_as(place, encoder, &dir, device, progress)
    }

    /// Settings whose columns none of some stores has, and those stores that have others of this job.
    fn missing_of(&self, whole: Vec<Store>) -> (BTreeSet<Setting>, Vec<Store>) {
        let wanted = self.settings.columns().iter().map(|(setting, _)| *setting);
        let mut missing: BTreeSet<Setting> = wanted.collect();
        let mut stores = Vec::new();
        for store in whole {
            let before = missing.len();
            for spec in &store.spec().columns {
                missing.retain(|setting| setting.column() != spec.name);
            }
            if missing.len() < before {
                stores.push(store);
            }
        }
        (missing, stores)
    }

    /// The part of a shelf for these images.
    fn shelf_of_images(&self, dir: &Path) -> Result<PathBuf, ExtractError> {
        Ok(dir.join(&self.images_key()?.to_string()[..NAME]))
    }

    /// Deletes what lies on the shelf at `dir` of these images, from this network and with this noise; all else
    /// stays.
    ///
    /// # Errors
    ///
    /// When the data set's fingerprint cannot be taken, or a folder cannot be deleted.
    pub fn clear_shelf(&self, dir: &Path) -> Result<(), ExtractError> {
        let images = self.shelf_of_images(dir)?;
        match std::fs::remove_dir_all(&images) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(ArtifactError::Write {
                    path: images,
                    source: error,
                }
                .into());
            }
            _ => {}
        }
        // It goes too if nothing of others is there.
        let _ = std::fs::remove_dir(dir);
        Ok(())
    }

    /// The columns of this job, of which only those are computed that are on the shelf at `dir` for no
    /// other job. Jobs share a column when everything that determines its numbers is the same; which
    /// other columns they ask for is not part of that.
    ///
    /// The shelf has a folder for each set of images, and in it a store for each job that found
    /// something missing. A job that was stopped goes on where it was, unless other jobs have computed some
    /// of its columns meanwhile: it then computes the others in a new store. Half-done stores all of whose
    /// columns are on the shelf are removed.
    ///
    /// # Errors
    ///
    /// As [`Extraction::run`].
    pub fn gather<E: Encoder + Sync>(
        &self,
        encoder: &E,
        dir: &Path,
        device: &Device,
        progress: impl FnMut(usize, usize),
    ) -> Result<Gathered, ExtractError> {
        let images = self.shelf_of_images(dir)?;
        create_dir_all(&images)?;
        let (whole, half) = stores_in(&images)?;
        let columns = whole.iter().flat_map(|store| &store.spec().columns);
        let mut there: BTreeSet<String> = columns.map(|spec| spec.name.clone()).collect();
        let (missing, mut stores) = self.missing_of(whole);
        if !missing.is_empty() {
            let dir = images.join(store_name(&missing)?);
            let settings = Settings::new(missing, &encoder.taps(), self.schedule)?;
            let job = Extraction {
                settings: &settings,
                ..self.clone()
            };
            job.run(encoder, &dir, device, progress)?;
            let store = Store::open(&dir)?;
            there.extend(store.spec().columns.iter().map(|spec| spec.name.clone()));
            stores.push(store);
        }
        for folder in half {
            remove_if_needless(&folder, &there);
        }
        Ok(Gathered { stores })
    }
}

/// The folder of a store for these settings.
fn store_name(settings: &BTreeSet<Setting>) -> Result<String, ExtractError> {
    let mut name = Sha256Hex::hash_json(settings)?.to_string();
    name.truncate(NAME);
    Ok(name)
}

/// Removes a half-done store whose columns are all among those that are `there`, if no process is at it.
fn remove_if_needless(dir: &Path, there: &BTreeSet<String>) {
    let Ok(survey) = Survey::of(dir) else {
        return;
    };
    let needless = survey
        .spec
        .columns
        .iter()
        .all(|column| there.contains(&column.name));
    if survey.is_whole() || survey.is_damaged() || !needless {
        return;
    }
    match diffrep_store::remove(&survey) {
        Ok(()) => {
            tracing::info!(dir = %dir.display(), "removed a half-done store that nothing needs")
        }
        Err(error) => tracing::debug!(%error, "a half-done store stays"),
    }
}

/// The finished stores in a folder, in order of their names, and the folders of all else.
fn stores_in(dir: &Path) -> Result<(Vec<Store>, Vec<PathBuf>), ExtractError> {
    let refuse = |source| ArtifactError::Read {
        path: dir.into(),
        source,
    };
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(refuse)? {
        folders.push(entry.map_err(refuse)?.path());
    }
    folders.sort();
    // What is not whole belongs to a job that was stopped; that job will find it again.
    let (mut whole, mut half) = (Vec::new(), Vec::new());
    for folder in folders {
        match Store::open(&folder) {
            Ok(store) => whole.push(store),
            Err(_) => half.push(folder),
        }
    }
    Ok((whole, half))
}
