use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use burn::tensor::{DType, Device, Tensor, TensorData};
use diffrep_artifact::{ArtifactError, Sha256Hex};
use diffrep_datasets::{Dataset, DatasetError, Preprocess, load_batch};
use diffrep_plan::{Place, ShardList};
use diffrep_pool::pyramid;
use diffrep_rng::{Key, Stream};
use diffrep_schedule::{Schedule, noise_batch, q_sample};
use diffrep_store::{
    ColumnSpec, FeatureDtype, NOTE, ShardData, ShardRange, StoreError, StoreSpec, StoreWriter,
};
use diffrep_taps::{Condition, Encoder};
use serde::Serialize;

use crate::batch::{Batch, micro_batch};
use crate::crew::Crew;
use crate::noise::Noise;
use crate::rows::{DRAW, FLIP, Row, Views};
use crate::setting::{SettingError, Settings};

/// Version of the arithmetic of features, raised when kernels give other bits for the same network:
/// 2 since wide convolutions are computed with packed weights, 3 since GELU is vectorised, 4
/// since every pool is computed from the map.
pub const ARITHMETIC: u32 = 4;

/// Why an extraction stops.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractError {
    /// A block, timestep or pool is out of range.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// An image cannot be read.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A shard cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of noise is not what the job needs.
    #[error("{} is no noise for these images: {reason}", path.display())]
    NoiseFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The job cannot be described.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
}

/// What names the noise of an image, beside its id and the timestep.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Noising {
    /// The run's seed.
    pub seed: u64,
    /// Which of several noises per image; the first one where [`Views`] say that there are more.
    pub draw: u32,
}

/// A job: everything that determines the numbers but the encoder's weights, which `encoder_hash`
/// stands for.
#[derive(Clone, Debug)]
pub struct Extraction<'a> {
    /// The images, in the order of the store.
    pub dataset: &'a Dataset,
    /// How an image becomes the network's input.
    pub preprocess: Preprocess,
    /// The diffusion process.
    pub schedule: &'a Schedule,
    /// Timesteps, blocks and pools.
    pub settings: &'a Settings,
    /// Names the noise.
    pub noising: Noising,
    /// Where the noise comes from.
    pub noise: Noise<'a>,
    /// Which rows an image has.
    pub views: Views,
    /// Whether images are mirrored left to right.
    pub flip: bool,
    /// Hash of the encoder's checkpoint, or another name of its weights.
    pub encoder_hash: String,
    /// How features are stored.
    pub dtype: FeatureDtype,
    /// Rows a shard.
    pub shard_rows: usize,
    /// What is missing from the images, for those who read the store; null where nothing is known
    /// to be. Changes no number.
    pub missing: serde_json::Value,
    /// How many rows go through the network together.
    pub batch: Batch,
    /// Batches computed side by side, each on one thread: fills a CPU where single operators
    /// do not. Changes no number; 1 on a GPU. Without effect for images so large that they go one
    /// at a time.
    pub workers: usize,
}

/// Whether this version of the program computes the numbers that are in a store: the same arithmetic, pixels
/// and random numbers. What another version stored can be read, but is not continued.
pub fn is_current(spec: &StoreSpec) -> bool {
    let told = |name: &str| spec.info.get(name);
    spec.contract == diffrep_rng::CONTRACT
        && told("arithmetic") == Some(&ARITHMETIC.into())
        && told("pixels") == Some(&serde_json::json!(diffrep_datasets::PIXELS))
}

/// See [`forwards`].
static FORWARDS: AtomicU64 = AtomicU64::new(0);

/// How many images this process has had an encoder read so far, each counted once for every timestep; raw
/// pixels count as an encoder, images that only fill a micro-batch do not count.
pub fn forwards() -> u64 {
    FORWARDS.load(Ordering::Relaxed)
}

/// The features of some rows, one `[rows, features]` buffer for each column of `settings`. A row is an image
/// where the job's views say nothing else: row `i * views.count() + k` is the k-th of image i.
///
/// # Errors
///
/// When an image cannot be read, or a file of noise does not fit.
pub fn features<E: Encoder>(
    encoder: &E,
    job: &Extraction<'_>,
    rows: &[usize],
    device: &Device,
) -> Result<Vec<Vec<f32>>, ExtractError> {
    job.check_noise()?;
    let (channels, size) = (job.preprocess.channels.count(), job.preprocess.size);
    let shape = [channels, size, size];
    let together = job.together();
    let mut columns: Vec<Vec<f32>> = job
        .settings
        .columns()
        .iter()
        .map(|(_, dim)| Vec::with_capacity(dim * rows.len()))
        .collect();
    for part in rows.chunks(together) {
        let _span = tracing::debug_span!("extract.micro_batch", images = part.len()).entered();
        let last = part[part.len() - 1];
        let padded: Vec<Row> = part
            .iter()
            .copied()
            .chain(std::iter::repeat(last))
            .take(together)
            .map(|row| job.views.row(row))
            .collect();
        let pixels = job.pixels(&padded)?;
        let [c, h, w] = shape;
        let image = Tensor::<4>::from_data(TensorData::new(pixels, [together, c, h, w]), device);
        let keys: Vec<Key> = padded.iter().map(|row| job.noise_key(*row)).collect();
        let x0 = encoder.first_stage(image, &keys);
        let mut next = columns.iter_mut().zip(job.settings.columns());
        for (t, taps, blocks) in job.settings.groups() {
            let image = match t {
                None => x0.clone(),
                Some(t) => job.noised(&padded, &keys, x0.clone(), t, device)?,
            };
            let condition = match t {
                None => Condition::default(),
                Some(t) => Condition::timestep(job.schedule.told(t), device),
            };
            FORWARDS.fetch_add(part.len() as u64, Ordering::Relaxed);
            let mut maps = encoder.forward_taps(image, &condition, taps, None);
            for (&block, pools) in blocks {
                let map = maps
                    .remove(block)
                    .expect("the encoder returns every wanted block");
                for pooled in pyramid(map.cast(DType::F32), pools) {
                    let (column, (_, dim)) = next.next().expect("one column for each pool");
                    let values: Vec<f32> = pooled
                        .into_data()
                        .convert::<f32>()
                        .try_into_vec()
                        .expect("features are f32");
                    column.extend_from_slice(&values[..dim * part.len()]);
                }
            }
        }
    }
    Ok(columns)
}

impl Extraction<'_> {
    /// How many rows the images have together.
    pub fn rows(&self) -> usize {
        self.dataset.len() * self.views.count()
    }

    /// The pixels of some rows, `[rows.len(), channels, height, width]`. What rows share is decoded once.
    fn pixels(&self, rows: &[Row]) -> Result<Vec<f32>, ExtractError> {
        let len = self.preprocess.len();
        let (mut images, mut flips) = (Vec::new(), Vec::new());
        let mut places = Vec::with_capacity(rows.len());
        for row in rows {
            let wanted = (row.image, self.mirrors(*row));
            let mut known = images.iter().copied().zip(flips.iter().copied());
            places.push(known.position(|known| known == wanted).unwrap_or_else(|| {
                images.push(wanted.0);
                flips.push(wanted.1);
                images.len() - 1
            }));
        }
        let mut pixels = vec![0.0; rows.len() * len];
        let loaded = &mut pixels[..images.len() * len];
        load_batch(
            self.dataset,
            &self.preprocess,
            &images,
            Some(&flips),
            loaded,
        )?;
        // From the back, where nothing is overwritten that is still to be copied: no image lies behind its row.
        for (row, place) in places.into_iter().enumerate().rev() {
            pixels.copy_within(place * len..(place + 1) * len, row * len);
        }
        Ok(pixels)
    }

    fn mirrors(&self, row: Row) -> bool {
        self.flip != row.flip
    }

    fn noised(
        &self,
        rows: &[Row],
        keys: &[Key],
        x0: Tensor<4>,
        t: usize,
        device: &Device,
    ) -> Result<Tensor<4>, ExtractError> {
        let [batch, channels, height, width] = x0.dims();
        let shape = [channels, height, width];
        let noise = match self.noise {
            Noise::Zero => x0.zeros_like(),
            Noise::Seeded => {
                let keys: Vec<Key> = keys.iter().map(|key| key.t(t as u32)).collect();
                noise_batch(&keys, shape, device)
            }
            Noise::Given(file) => {
                let draws = self.views.draws.get() as usize;
                let places = rows.iter().map(|row| row.image * draws + row.draw as usize);
                file.batch(&places.collect::<Vec<_>>(), shape, device)?
            }
        };
        Ok(q_sample(self.schedule, x0, &vec![t; batch], noise))
    }

    /// Names the noise of a row, whatever its timestep.
    pub(crate) fn noise_key(&self, row: Row) -> Key {
        Key::new(self.noising.seed, Stream::Noise)
            .sample(self.dataset.noise_id(row.image))
            .draw(self.noising.draw.wrapping_add(row.draw))
    }

    /// That a file of noise is for these images.
    fn check_noise(&self) -> Result<(), ExtractError> {
        match self.noise {
            Noise::Given(file) => {
                file.check_rows(self.dataset.len(), self.views.draws.get() as usize)
            }
            Noise::Seeded | Noise::Zero => Ok(()),
        }
    }

    /// Everything that determines the numbers of a column but the column itself.
    fn determines(&self) -> Result<serde_json::Value, ExtractError> {
        let mut determines = serde_json::json!({
            "encoder": self.encoder_hash,
            "data": self.dataset.fingerprint()?.to_string(),
            "split": self.dataset.split().to_string(),
            "preprocess": self.preprocess,
            "schedule": Sha256Hex::hash_json(&self.schedule.betas)?.to_string(),
            "timestep_map": self.schedule.timestep_map.len(),
            "noising": self.noising,
            "noise_of": "split and id",
            "pixels": diffrep_datasets::PIXELS,
            "arithmetic": ARITHMETIC,
            "micro_batch": micro_batch(self.preprocess.size),
        });
        if self.schedule.timestep_scale != 1.0 {
            determines["timestep_scale"] = self.schedule.timestep_scale.into();
        }
        if self.flip {
            determines["flip"] = true.into();
        }
        match self.noise {
            Noise::Seeded => {}
            Noise::Zero => determines["noise"] = "none".into(),
            Noise::Given(file) => {
                determines["noise"] = serde_json::json!({"file": file.sha256().to_string()});
            }
        }
        if self.batch.in_key {
            determines["batch"] = self.together().into();
        }
        if self.views != Views::default() {
            determines["rows"] = serde_json::json!(self.views);
        }
        Ok(determines)
    }

    /// A hash of what all columns of these images have in common: everything that determines numbers but
    /// the settings, and how they are stored. Jobs with the same one may share columns.
    ///
    /// # Errors
    ///
    /// When the data set's fingerprint cannot be taken.
    pub fn images_key(&self) -> Result<Sha256Hex, ExtractError> {
        let stored = (self.dtype, self.shard_rows, diffrep_rng::CONTRACT);
        Ok(Sha256Hex::hash_json(&(self.determines()?, stored))?)
    }

    /// What a store of this job holds. Its key is the hash of everything that determines the
    /// numbers.
    ///
    /// # Errors
    ///
    /// When the data set's fingerprint cannot be taken, or a file of noise is for other images.
    pub fn store_spec(&self) -> Result<StoreSpec, ExtractError> {
        self.check_noise()?;
        let settings: Vec<_> = self
            .settings
            .columns()
            .iter()
            .map(|(setting, _)| setting)
            .collect();
        let mut determines = self.determines()?;
        determines["settings"] = serde_json::json!(settings);
        // The fingerprint of the data covers the names, so they need not be in the key.
        let mut info = determines.clone();
        info["missing"] = self.missing.clone();
        if !self.batch.note.is_null() {
            info[NOTE] = self.batch.note.clone();
        }
        info["classes"] = serde_json::json!(self.dataset.class_names());
        let columns = self
            .settings
            .columns()
            .iter()
            .map(|(setting, dim)| ColumnSpec {
                meta: serde_json::json!(setting),
                ..ColumnSpec::new(setting.column(), *dim)
            })
            .collect();
        Ok(StoreSpec {
            columns,
            dtype: self.dtype,
            tags: match self.views.count() {
                1 => Vec::new(),
                _ => vec![DRAW.into(), FLIP.into()],
            },
            samples: self.rows(),
            shard_rows: self.shard_rows,
            key: Sha256Hex::hash_json(&determines)?.to_string(),
            info,
            contract: diffrep_rng::CONTRACT,
        })
    }

    /// Extracts what is missing in the store at `dir`; `progress` is told how many rows of how many are
    /// done.
    ///
    /// # Errors
    ///
    /// When an image cannot be read, a feature is not finite, the folder holds another job or a
    /// shard cannot be written. Shards already written stay.
    pub fn run<E: Encoder + Sync>(
        &self,
        encoder: &E,
        dir: &Path,
        device: &Device,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<(), ExtractError> {
        let mut writer = StoreWriter::open(dir, self.store_spec()?)?;
        let crew = self.crew();
        let missing = writer.missing_shards();
        let total = self.rows();
        let mut done = total - missing.iter().map(|shard| shard.rows()).sum::<usize>();
        for shard in missing {
            let data = self.shard(encoder, &crew, shard, device, |images| {
                done += images;
                progress(done, total);
            })?;
            writer.write_shard(shard, &data)?;
        }
        Ok(writer.finish()?)
    }

    /// Extracts as one of several workers, in any number of processes, what is missing in the store at
    /// `dir` and no other worker is at; gives the number of rows that others still work on. `progress` is
    /// told how many rows are done by this worker, and how many were missing when it began.
    ///
    /// # Errors
    ///
    /// As [`Extraction::run`], and when the file system has no locks.
    pub fn run_as<E: Encoder + Sync>(
        &self,
        place: &Place,
        encoder: &E,
        dir: &Path,
        device: &Device,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<usize, ExtractError> {
        let spec = self.store_spec()?;
        let mut writer = StoreWriter::join(dir, spec.clone())?;
        let crew = self.crew();
        let missing: usize = writer
            .missing_shards()
            .iter()
            .map(|shard| shard.rows())
            .sum();
        let mut done = 0;
        let order = ShardList::new(spec.samples, spec.shard_rows).claim_order(place);
        for shard in order.map(|index| spec.shard(index)) {
            if !writer.claim(shard)? {
                continue;
            }
            let data = self.shard(encoder, &crew, shard, device, |images| {
                done += images;
                progress(done, missing);
            })?;
            writer.write_shard(shard, &data)?;
        }
        Ok(writer.leave()?.iter().map(|shard| shard.rows()).sum())
    }

    /// The features of one shard; `on` hears of the rows of each micro-batch.
    fn shard<E: Encoder + Sync>(
        &self,
        encoder: &E,
        crew: &Crew,
        shard: ShardRange,
        device: &Device,
        mut on: impl FnMut(usize),
    ) -> Result<ShardData, ExtractError> {
        let rows: Vec<usize> = (shard.start..shard.end).collect();
        let parts: Vec<&[usize]> = rows.chunks(self.together()).collect();
        let found = crew.map(
            &parts,
            |part| features(encoder, self, part, device),
            |part| on(part.len()),
        )?;
        let mut columns: Vec<Vec<f32>> = vec![Vec::new(); self.settings.columns().len()];
        for part in found {
            for (column, values) in columns.iter_mut().zip(part) {
                column.extend(values);
            }
        }
        let rows: Vec<Row> = rows.iter().map(|&row| self.views.row(row)).collect();
        let tag = |value: &dyn Fn(&Row) -> i64| rows.iter().map(value).collect::<Vec<i64>>();
        Ok(ShardData {
            ids: rows.iter().map(|row| self.dataset.id(row.image)).collect(),
            labels: tag(&|row| i64::from(self.dataset.label(row.image))),
            tags: match self.views.count() {
                1 => Vec::new(),
                _ => vec![
                    tag(&|row| i64::from(self.noising.draw) + i64::from(row.draw)),
                    tag(&|row| i64::from(self.mirrors(*row))),
                ],
            },
            columns,
        })
    }
}
