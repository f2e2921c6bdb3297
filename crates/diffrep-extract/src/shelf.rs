//! Columns of the same images gathered over several jobs, so that no job computes what an earlier one has.

use std::collections::BTreeSet;
use std::path::Path;

use burn::tensor::Device;
use diffrep_artifact::{ArtifactError, Sha256Hex, create_dir_all};
use diffrep_store::Store;
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
    /// The columns of this job, of which only those are computed that are on the shelf at `dir` for no
    /// other job. Jobs share a column when everything that determines its numbers is the same; which
    /// other columns they ask for is not part of that.
    ///
    /// The shelf has a folder for each set of images, and in it a store for each job that found
    /// something missing. A job that was stopped goes on where it was.
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
        let images = dir.join(&self.images_key()?.to_string()[..NAME]);
        create_dir_all(&images)?;
        let mut missing: BTreeSet<Setting> = self
            .settings
            .columns()
            .iter()
            .map(|(setting, _)| *setting)
            .collect();
        let mut stores = Vec::new();
        for store in whole_stores(&images)? {
            let before = missing.len();
            for spec in &store.spec().columns {
                missing.retain(|setting| setting.column() != spec.name);
            }
            if missing.len() < before {
                stores.push(store);
            }
        }
        if !missing.is_empty() {
            let name = Sha256Hex::hash_json(&missing)?.to_string();
            let settings = Settings::new(missing, &encoder.taps(), self.schedule)?;
            let job = Extraction {
                settings: &settings,
                ..self.clone()
            };
            let dir = images.join(&name[..NAME]);
            job.run(encoder, &dir, device, progress)?;
            stores.push(Store::open(&dir)?);
        }
        Ok(Gathered { stores })
    }
}

/// The finished stores in a folder, in order of their names.
fn whole_stores(dir: &Path) -> Result<Vec<Store>, ExtractError> {
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
    Ok(folders
        .iter()
        .filter_map(|folder| Store::open(folder).ok())
        .collect())
}
