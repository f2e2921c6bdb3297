//! The study of one encoder against controls: a sweep over settings on training and validation
//! images, the chosen setting scored on the test split once a seed. Every finished step is a record
//! on disk under the hash of what determined it, so a second run skips it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;

use burn::tensor::Device;
use diffrep_datasets::{Dataset, Preprocess};
use diffrep_extract::{Batch, Extraction, Gathered, Noise, Noising, Setting, Settings, Views};
use diffrep_schedule::Schedule;
use diffrep_store::FeatureDtype;
use diffrep_taps::Encoder;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::step::{StepKey, step};
use crate::{Features, Point, ProbeError, Recipe, Trained, best, correct, train_linear};

/// Rows a shard of a study's stores.
const SHARD_ROWS: usize = 500;

/// The images of a study. A study never mixes the roles.
#[derive(Clone, Debug)]
pub struct Splits {
    /// Heads are trained on these.
    pub train: Dataset,
    /// Every choice is made on these.
    pub validation: Dataset,
    /// Scored once a seed with the chosen head.
    pub test: Dataset,
}

/// What all steps of a study share.
#[derive(Clone, Debug)]
pub struct Study<'a> {
    /// Folder of finished steps and of features. Several studies may share one: what two of them need is
    /// done once.
    pub dir: &'a Path,
    /// How an image becomes an input.
    pub preprocess: Preprocess,
    /// The diffusion process.
    pub schedule: &'a Schedule,
    /// Where to compute.
    pub device: &'a Device,
    /// Micro-batches extracted side by side; 1 on a GPU.
    pub workers: usize,
}

/// An encoder under study.
#[derive(Clone, Debug)]
pub struct Subject<'a, E> {
    /// Its short name, used in file names: `diffusion`, `random-0`, `pixels`.
    pub name: String,
    /// The network.
    pub encoder: &'a E,
    /// What its weights are: a checkpoint's hash, or how they were drawn.
    pub hash: String,
}

/// The validation score of one setting in a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// Timestep, block, pool.
    pub setting: Setting,
    /// Length of a feature vector.
    pub dim: usize,
    /// The grid point that won.
    pub point: Point,
    /// Share of validation samples classified right.
    pub accuracy: f64,
    /// Which validation samples were classified right.
    pub correct: Bits,
}

/// The score of the chosen setting with one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Final {
    /// Timestep, block, pool.
    pub setting: Setting,
    /// Seed of initial weights, batch order and noise.
    pub seed: u64,
    /// Hash of the encoder's weights.
    pub encoder: String,
    /// Length of a feature vector.
    pub dim: usize,
    /// The grid point that won on the validation split.
    pub point: Point,
    /// Share of validation samples classified right.
    pub validation: f64,
    /// Share of test samples classified right.
    pub test: f64,
    /// Which test samples were classified right.
    pub correct: Bits,
    /// How many samples trained it.
    pub trained_on: usize,
}

/// A list of yes and no, written as one character each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Bits(pub Vec<bool>);

impl From<String> for Bits {
    fn from(text: String) -> Self {
        Self(text.bytes().map(|byte| byte == b'1').collect())
    }
}

impl From<Bits> for String {
    fn from(bits: Bits) -> Self {
        bits.0
            .into_iter()
            .map(|bit| if bit { '1' } else { '0' })
            .collect()
    }
}

impl Bits {
    /// Share of yes.
    pub fn share(&self) -> f64 {
        self.0.iter().filter(|bit| **bit).count() as f64 / self.0.len().max(1) as f64
    }
}

/// What a study tells while it goes.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// `done` of `total` items of the step `name` are done.
    At {
        /// The step.
        name: &'a str,
        /// Items done.
        done: usize,
        /// Items in all.
        total: usize,
    },
    /// The step was done by an earlier run.
    Skipped {
        /// The step.
        name: &'a str,
    },
}

/// The cell with the highest validation accuracy; of equals the one with the shortest vector.
pub fn choose(cells: &[Cell]) -> Option<&Cell> {
    cells
        .iter()
        .max_by(|a, b| a.accuracy.total_cmp(&b.accuracy).then(b.dim.cmp(&a.dim)))
}

impl Study<'_> {
    pub(crate) fn step<T: Serialize + DeserializeOwned>(
        &self,
        key: &StepKey,
        on: &mut (dyn FnMut(Progress<'_>) + Send),
        compute: impl FnOnce(&mut (dyn FnMut(Progress<'_>) + Send)) -> Result<T, ProbeError>,
    ) -> Result<T, ProbeError> {
        step(self.dir, key, on, compute)
    }

    /// The extraction of features of some images, of which a study has many.
    pub fn extraction<'b>(
        &'b self,
        dataset: &'b Dataset,
        settings: &'b Settings,
        hash: &str,
        seed: u64,
    ) -> Extraction<'b> {
        Extraction {
            dataset,
            preprocess: self.preprocess,
            schedule: self.schedule,
            settings,
            noising: Noising { seed, draw: 0 },
            noise: Noise::Seeded,
            views: Views::default(),
            flip: false,
            encoder_hash: hash.into(),
            dtype: FeatureDtype::F16,
            shard_rows: SHARD_ROWS,
            missing: serde_json::Value::Null,
            batch: Batch::default(),
            workers: self.workers,
        }
    }

    /// Gathers the features of two or three splits on the shelves `dir/features/name-*` and reports one
    /// progress for all.
    pub(crate) fn extract<E: Encoder + Sync>(
        &self,
        subject: &Subject<'_, E>,
        name: &str,
        splits: &[(&str, &Dataset)],
        settings: &Settings,
        seed: u64,
        on: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<Vec<Gathered>, ProbeError> {
        let total = all_images(splits);
        let mut before = 0;
        let title = format!("{name}: features");
        let mut gathered = Vec::new();
        for (split, dataset) in splits {
            let job = self.extraction(dataset, settings, &subject.hash, seed);
            let start = before;
            let shelf = self.shelf(name, split);
            gathered.push(job.gather(subject.encoder, &shelf, self.device, |done, _| {
                on(Progress::At {
                    name: &title,
                    done: start + done,
                    total,
                });
            })?);
            before += dataset.len();
        }
        Ok(gathered)
    }

    /// Names of the columns of `settings` that earlier runs have extracted of these images.
    ///
    /// # Errors
    ///
    /// When the data set's fingerprint cannot be taken, or a folder cannot be read.
    pub fn on_shelf<E>(
        &self,
        subject: &Subject<'_, E>,
        split: &str,
        dataset: &Dataset,
        settings: &Settings,
        seed: u64,
    ) -> Result<BTreeSet<String>, ProbeError> {
        let job = self.extraction(dataset, settings, &subject.hash, seed);
        Ok(job.on_shelf(&self.shelf(&subject.name, split))?)
    }

    /// The folder in which the features of a split lie that a step of a name reads.
    pub fn shelf(&self, name: &str, split: &str) -> PathBuf {
        self.dir.join("features").join(format!("{name}-{split}"))
    }

    /// Deletes what a job put on the shelf of a name and a split, once it has served its purpose; what jobs of other
    /// images or networks put there stays.
    pub(crate) fn clear(&self, name: &str, split: &str, job: &Extraction<'_>) {
        if let Err(error) = job.clear_shelf(&self.shelf(name, split)) {
            tracing::warn!("{error}; the features stay");
        }
    }

    /// The name of a sweep's step and of the shelf of its features.
    pub fn sweep_name(subject: &str, settings: &Settings) -> String {
        let steps: Vec<String> = settings
            .groups()
            .map(|(t, ..)| t.map_or("clean".into(), |t| format!("t{t}")))
            .collect();
        format!("sweep-{subject}-{}", steps.join("-"))
    }

    /// The step of [`sweep`](Self::sweep).
    ///
    /// # Errors
    ///
    /// When a data set's fingerprint cannot be taken.
    pub fn sweep_key<E>(
        &self,
        subject: &Subject<'_, E>,
        splits: &Splits,
        settings: &Settings,
        recipe: &Recipe,
    ) -> Result<StepKey, ProbeError> {
        let name = Self::sweep_name(&subject.name, settings);
        let spec = |dataset| {
            self.extraction(dataset, settings, &subject.hash, 0)
                .store_spec()
        };
        let (train, validation) = (spec(&splits.train)?, spec(&splits.validation)?);
        let determines = (&train, &validation, recipe, crate::COMPUTES);
        StepKey::new(name, &determines)
    }

    /// The step of [`score`](Self::score).
    ///
    /// # Errors
    ///
    /// When a data set's fingerprint cannot be taken.
    pub fn score_key<E>(
        &self,
        subject: &Subject<'_, E>,
        splits: &Splits,
        settings: &Settings,
        recipe: &Recipe,
        seed: u64,
    ) -> Result<StepKey, ProbeError> {
        let spec = |dataset| {
            self.extraction(dataset, settings, &subject.hash, seed)
                .store_spec()
        };
        let specs = (
            spec(&splits.train)?,
            spec(&splits.validation)?,
            spec(&splits.test)?,
        );
        let name = format!("final-{}-seed{seed}", subject.name);
        StepKey::new(name, &(&specs, recipe, crate::COMPUTES))
    }

    /// Validation scores of every block and pool at one timestep (`None`: the clean image), from a
    /// single forward of each image. The features are deleted once their scores are on disk.
    ///
    /// # Errors
    ///
    /// When an image, a shard or a probe fails.
    pub fn sweep<E: Encoder + Sync>(
        &self,
        subject: &Subject<'_, E>,
        splits: &Splits,
        settings: &Settings,
        recipe: &Recipe,
        on: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<Vec<Cell>, ProbeError> {
        let classes = splits.train.class_names().len();
        let key = self.sweep_key(subject, splits, settings, recipe)?;
        let name = key.name.clone();
        let parts = [("train", &splits.train), ("validation", &splits.validation)];
        let cells = self.step(&key, on, |on| {
            let stores = self.extract(subject, &name, &parts, settings, 0, on)?;
            let read = |setting: &Setting| {
                let column = setting.column();
                let [train, validation] = [0, 1].map(|i| Features::gathered(&stores[i], &column));
                Ok((train?, validation?))
            };
            let wanted: Vec<Setting> = settings.columns().iter().map(|(s, _)| *s).collect();
            let title = format!("{name}: probes");
            let cells = self.cells(&wanted, &read, classes, recipe, 0, &title, on)?;
            Ok(cells)
        })?;
        for (split, dataset) in parts {
            let job = self.extraction(dataset, settings, &subject.hash, 0);
            self.clear(&name, split, &job);
        }
        Ok(cells)
    }

    /// Trains the recipe's grid on the features of each setting and scores the best on the validation
    /// samples; in order of the settings.
    #[allow(
        clippy::too_many_arguments,
        reason = "a probe, what it reads and how it is told"
    )]
    pub(crate) fn cells(
        &self,
        wanted: &[Setting],
        read: &(dyn Fn(&Setting) -> Result<(Features, Features), ProbeError> + Sync),
        classes: usize,
        recipe: &Recipe,
        seed: u64,
        title: &str,
        on: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<Vec<Cell>, ProbeError> {
        let next = AtomicUsize::new(0);
        let found = Mutex::new((Vec::with_capacity(wanted.len()), on));
        let work = || -> Result<(), ProbeError> {
            while let Some(setting) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                let (train, validation) = read(setting)?;
                let heads = train_linear(
                    &train,
                    &validation,
                    classes,
                    recipe,
                    seed,
                    self.device,
                    |_, _| {},
                )?;
                let head = best(&heads, &recipe.name)?;
                let right = Bits(correct(head, &validation, self.device));
                let cell = Cell {
                    setting: *setting,
                    dim: train.dim,
                    point: head.point,
                    accuracy: right.share(),
                    correct: right,
                };
                let mut found = found
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                let (cells, on) = &mut *found;
                cells.push(cell);
                on(Progress::At {
                    name: title,
                    done: cells.len(),
                    total: wanted.len(),
                });
            }
            Ok(())
        };
        side_by_side(self.workers, work)?;
        let (mut cells, _) = found
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        cells.sort_by_key(|cell: &Cell| cell.setting);
        Ok(cells)
    }

    /// Trains the recipe's grid on all training images at one setting, chooses a head on the
    /// validation split, and scores it on the test split: the one place that reads the test split.
    /// Gives the score and the head.
    ///
    /// # Errors
    ///
    /// When an image, a shard or a probe fails.
    pub fn score<E: Encoder + Sync>(
        &self,
        subject: &Subject<'_, E>,
        splits: &Splits,
        settings: &Settings,
        recipe: &Recipe,
        seed: u64,
        on: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<(Final, Trained), ProbeError> {
        let classes = splits.train.class_names().len();
        let [(setting, dim)] = *settings.columns() else {
            return Err(ProbeError::OneSetting {
                found: settings.columns().len(),
            });
        };
        let key = self.score_key(subject, splits, settings, recipe, seed)?;
        let name = key.name.clone();
        self.step(&key, on, |on| {
            let parts = [
                ("train", &splits.train),
                ("validation", &splits.validation),
                ("test", &splits.test),
            ];
            let stores = self.extract(subject, &subject.name, &parts, settings, seed, on)?;
            let read = |i: usize| Features::gathered(&stores[i], &setting.column());
            let (train, validation, test) = (read(0)?, read(1)?, read(2)?);
            let title = format!("{name}: probe");
            let heads = train_linear(
                &train,
                &validation,
                classes,
                recipe,
                seed,
                self.device,
                |done, total| {
                    on(Progress::At {
                        name: &title,
                        done,
                        total,
                    });
                },
            )?;
            let chosen = best(&heads, &recipe.name)?;
            let right = Bits(correct(chosen, &test, self.device));
            let score = Final {
                setting,
                seed,
                encoder: subject.hash.clone(),
                dim,
                point: chosen.point,
                validation: chosen.validation,
                test: right.share(),
                correct: right,
                trained_on: train.len(),
            };
            Ok((score, chosen.clone()))
        })
    }
}

/// How many images some splits have together.
pub(crate) fn all_images(splits: &[(&str, &Dataset)]) -> usize {
    splits.iter().map(|(_, dataset)| dataset.len()).sum()
}

/// Runs `work` on some threads until each is done; the first error wins.
fn side_by_side(
    threads: usize,
    work: impl Fn() -> Result<(), ProbeError> + Sync,
) -> Result<(), ProbeError> {
    std::thread::scope(|scope| all((0..threads.max(1)).map(|_| scope.spawn(&work)).collect()))
}

/// Waits for every thread; the first error or panic wins.
pub(crate) fn all(
    running: Vec<ScopedJoinHandle<'_, Result<(), ProbeError>>>,
) -> Result<(), ProbeError> {
    let ended: Vec<_> = running.into_iter().map(ScopedJoinHandle::join).collect();
    ended
        .into_iter()
        .try_for_each(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}
