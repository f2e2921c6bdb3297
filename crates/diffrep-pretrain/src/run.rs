use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor, TensorData};
use diffrep_datasets::{Dataset, DatasetError, load_batch};
use diffrep_rng::{Key, Stream};
use diffrep_train::{
    AdamW, Checkpoint, Ema, SideBySide, TrainError, metrics, parameters, with_parameters,
};
use serde::{Deserialize, Serialize};

use crate::config::PretrainConfig;
use crate::task::{Batch, Course, Task};

/// Images a batch when the held-out loss is taken.
const HELD_OUT_BATCH: usize = 64;
/// Draw number of the noise on held-out images, which no epoch uses.
const HELD_OUT_DRAW: u32 = u32::MAX;

/// Why a run stops.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PretrainError {
    /// An image cannot be read.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The network cannot be built.
    #[error(transparent)]
    Config(#[from] diffrep_unet::ConfigError),
    /// The backbone cannot be built.
    #[error(transparent)]
    Backbone(#[from] diffrep_backbones::ConfigError),
    /// A checkpoint cannot be read or written.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The folder holds a run with other settings.
    #[error("{} belongs to a run with another configuration: choose another folder, or delete it to start anew", path.display())]
    OtherRun {
        /// The checkpoint found.
        path: PathBuf,
    },
    /// There are too few images.
    #[error("{images} images are too few: {held_out} are held out and a batch takes {batch}")]
    TooFew {
        /// Images in the data set.
        images: usize,
        /// Images held out.
        held_out: usize,
        /// Images a batch.
        batch: usize,
    },
    /// A classifier for another number of classes.
    #[error(
        "the network tells {network} classes apart, and the images are of {data}: set its out_channels (or the \
         classes of a backbone) to {data}"
    )]
    Classes {
        /// Outputs of the network.
        network: usize,
        /// Classes of the images.
        data: usize,
    },
    /// The system gives no threads.
    #[error("cannot start threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// The loss or the gradients left the finite numbers.
    #[error(
        "the training diverged at step {step} (loss {loss}, gradient norm {norm}): lower the learning rate or the clipping norm; the last checkpoint is still good"
    )]
    Diverged {
        /// The step.
        step: u64,
        /// Its loss.
        loss: f64,
        /// Its gradient norm.
        norm: f64,
    },
}

/// Where a run stands: everything before this is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Epochs finished.
    pub epoch: u32,
    /// Steps finished in the current epoch.
    pub batch: usize,
    /// Steps finished in all.
    pub step: u64,
}

/// A point of the loss curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossPoint {
    /// Steps finished.
    pub step: u64,
    /// Images seen.
    pub images: u64,
    /// Mean training loss since the last point.
    pub train: f64,
    /// Mean squared error of the averaged weights on held-out images (fixed noise and timesteps);
    /// of a classifier its cross entropy (nats).
    pub held_out: f64,
    /// Of a classifier the share of held-out images that it is right about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
}

/// What is written beside the weights, so that a reader knows where they come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainingRecord<C = PretrainConfig> {
    /// Settings.
    pub config: C,
    /// Fingerprint of the images.
    pub data: String,
    /// Where the run stands.
    pub position: Position,
    /// The loss curve.
    pub curve: Vec<LossPoint>,
    /// Seconds spent training, over all restarts; absent in the record inside a model file, whose
    /// hash depends on what was trained alone.
    #[serde(default)]
    pub seconds: f64,
}

/// What a run tells while it goes.
#[derive(Debug)]
pub enum Event<'a, T: Task = PretrainConfig> {
    /// A step is done.
    Step {
        /// Where the run stands.
        position: Position,
        /// Steps the whole run takes.
        steps: u64,
        /// Loss of the batch.
        loss: f64,
        /// Learning rate used.
        rate: f64,
    },
    /// A checkpoint was written; the averaged network can be sampled.
    Checkpoint {
        /// The network with averaged weights.
        network: &'a T::Network,
        /// The record so far.
        record: &'a TrainingRecord<T>,
    },
}

/// A training run in memory.
#[derive(Debug)]
pub struct Pretraining<T: Task = PretrainConfig> {
    network: T::Network,
    optimizer: AdamW,
    ema: Ema,
    record: TrainingRecord<T>,
    course: Course,
    device: Device,
    train: Vec<usize>,
    held_out: Vec<usize>,
    /// Threads for the micro-batches.
    crew: SideBySide,
}

impl<T: Task> Pretraining<T> {
    /// Whether these images can be trained on under these settings. [`open`](Self::open) asks the same; this is for
    /// those who make a folder for the run first.
    ///
    /// # Errors
    ///
    /// [`PretrainError::TooFew`] or [`PretrainError::Classes`].
    pub fn check(config: &T, dataset: &Dataset) -> Result<(), PretrainError> {
        let course = config.course();
        let images = dataset.len();
        if images < course.held_out + course.batch || course.batch == 0 {
            return Err(PretrainError::TooFew {
                images,
                held_out: course.held_out,
                batch: course.batch,
            });
        }
        let data = dataset.class_names().len();
        if let Some(network) = config.classes().filter(|&classes| classes != data) {
            return Err(PretrainError::Classes { network, data });
        }
        Ok(())
    }

    /// Builds the network, or takes up the run whose checkpoint lies at `checkpoint`.
    ///
    /// # Errors
    ///
    /// When the settings do not fit, or the checkpoint is damaged or of another run.
    pub fn open(
        config: T,
        dataset: &Dataset,
        fingerprint: String,
        checkpoint: &Path,
        device: &Device,
    ) -> Result<Self, PretrainError> {
        Self::check(&config, dataset)?;
        let course = config.course();
        let images = dataset.len();
        let plain = device.clone().without_autodiff();
        let network = config.network(&plain)?.train();
        let mut train: Vec<usize> = (0..images).collect();
        Key::new(course.seed, Stream::Split)
            .generator()
            .shuffle(&mut train);
        let mut held_out = train.split_off(images - course.held_out);
        held_out.sort_unstable();
        train.sort_unstable();
        let crew = SideBySide::new(course.micro_batches)?;
        let mut run = Self {
            optimizer: AdamW::new(course.optimizer),
            ema: Ema::new(&network, course.ema_decay),
            record: TrainingRecord {
                config,
                data: fingerprint,
                position: Position::default(),
                curve: Vec::new(),
                seconds: 0.0,
            },
            course,
            network,
            device: plain,
            train,
            held_out,
            crew,
        };
        if checkpoint.exists() {
            run.restore(checkpoint)?;
        }
        Ok(run)
    }

    fn restore(&mut self, path: &Path) -> Result<(), PretrainError> {
        let checkpoint = Checkpoint::read(path, &self.device)?;
        let malformed = |reason: String| TrainError::Malformed {
            path: path.into(),
            reason,
        };
        let record: TrainingRecord<T> = serde_json::from_str(&checkpoint.state)
            .map_err(|error| malformed(error.to_string()))?;
        if record.config != self.record.config || record.data != self.record.data {
            return Err(PretrainError::OtherRun { path: path.into() });
        }
        let expected = parameters(&self.network);
        let statistics = T::statistics(&self.network);
        for prefix in ["model", "ema", "mean", "square"] {
            let found = checkpoint.get(prefix);
            for (name, value) in &expected {
                // The optimiser keeps nothing for what no gradient moves.
                let moments = matches!(prefix, "mean" | "square");
                match found.get(name) {
                    Some(other) if other.dims() == value.dims() => {}
                    None if moments && statistics.contains_key(name) => {}
                    _ => {
                        return Err(malformed(format!(
                            "`{prefix}.{name}` is missing or misshapen"
                        ))
                        .into());
                    }
                }
            }
        }
        let weights = checkpoint.get("model");
        self.network = with_parameters(self.network.clone(), |path| weights.get(path).cloned());
        self.ema.values = checkpoint.get("ema");
        self.optimizer.restore(&checkpoint, record.position.step);
        self.record = record;
        Ok(())
    }

    fn save(&self, path: &Path) -> Result<(), PretrainError> {
        let mut checkpoint = Checkpoint {
            state: serde_json::to_string(&self.record).expect("a record is plain data"),
            ..Checkpoint::default()
        };
        checkpoint.put("model", &parameters(&self.network));
        checkpoint.put("ema", &self.ema.values);
        self.optimizer.save(&mut checkpoint);
        Ok(checkpoint.write(path)?)
    }

    /// The record so far.
    pub fn record(&self) -> &TrainingRecord<T> {
        &self.record
    }

    /// The network with averaged weights, without gradients.
    pub fn averaged(&self) -> T::Network {
        self.ema.apply(self.network.valid())
    }

    /// Steps of an epoch; a last incomplete batch is dropped.
    pub fn steps_per_epoch(&self) -> usize {
        self.train.len() / self.course.batch
    }

    /// Trains to the end, writing `checkpoint` every `every` steps and at each epoch's end.
    ///
    /// # Errors
    ///
    /// When an image or the checkpoint cannot be read or written, or the training diverges.
    pub fn run(
        &mut self,
        dataset: &Dataset,
        checkpoint: &Path,
        every: u64,
        mut on: impl FnMut(Event<'_, T>),
    ) -> Result<(), PretrainError> {
        let course = self.course;
        let _span = metrics::training("pretrain");
        let per_epoch = self.steps_per_epoch();
        let steps = per_epoch as u64 * u64::from(course.epochs);
        let (mut losses, mut since) = (Vec::new(), Instant::now());
        while self.record.position.epoch < course.epochs {
            let epoch = self.record.position.epoch;
            let mut order = self.train.clone();
            Key::new(course.seed, Stream::Order)
                .draw(epoch)
                .generator()
                .shuffle(&mut order);
            while self.record.position.batch < per_epoch {
                let start = self.record.position.batch * course.batch;
                let indices = &order[start..start + course.batch];
                let rate = course.learning_rate.at(self.record.position.step);
                let loss = self.step(dataset, indices, epoch, rate)?;
                losses.push(loss);
                self.record.position.batch += 1;
                self.record.position.step += 1;
                metrics::record("loss/train", self.record.position.step, loss);
                metrics::record("rate", self.record.position.step, rate);
                on(Event::Step {
                    position: self.record.position,
                    steps,
                    loss,
                    rate,
                });
                let last = self.record.position.batch == per_epoch;
                if last || self.record.position.step.is_multiple_of(every) {
                    if last {
                        self.record.position = Position {
                            epoch: epoch + 1,
                            batch: 0,
                            ..self.record.position
                        };
                    }
                    let network = self.averaged();
                    let (held_out, accuracy) = self.held_out_loss(dataset, &network)?;
                    let step = self.record.position.step;
                    metrics::record("loss/validation", step, held_out);
                    if let Some(accuracy) = accuracy {
                        metrics::record("accuracy/validation", step, accuracy);
                    }
                    self.record.curve.push(LossPoint {
                        step,
                        images: step * course.batch as u64,
                        train: losses.iter().sum::<f64>() / losses.len() as f64,
                        held_out,
                        accuracy,
                    });
                    self.record.seconds += since.elapsed().as_secs_f64();
                    (losses, since) = (Vec::new(), Instant::now());
                    self.save(checkpoint)?;
                    on(Event::Checkpoint {
                        network: &network,
                        record: &self.record,
                    });
                    if last {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn step(
        &mut self,
        dataset: &Dataset,
        indices: &[usize],
        epoch: u32,
        rate: f64,
    ) -> Result<f64, PretrainError> {
        let parts = self.crew.map(indices, |part| {
            // Leaves of its own: the parts share no autodiff graph.
            let network = self.network.valid().train();
            let device = self.device.clone().autodiff();
            let share = part.len() as f64 / indices.len() as f64;
            let batch = self.batch(dataset, part, epoch, self.course.flip, &device)?;
            let total = self.record.config.losses(&network, batch).mean() * share;
            let value = f64::from(total.clone().into_scalar::<f32>());
            let gradients = GradientsParams::from_grads(total.backward(), &network);
            Ok::<_, DatasetError>((value, gradients, T::statistics(&network), share))
        });
        let mut value = 0.0;
        let mut sum = GradientsAccumulator::new();
        let mut statistics: BTreeMap<String, Tensor<1>> = BTreeMap::new();
        for part in parts {
            let (part, gradients, moved, share) = part?;
            value += part;
            sum.accumulate(&self.network, gradients);
            for (path, moved) in moved {
                let moved = moved * share;
                let sum = match statistics.remove(&path) {
                    Some(sum) => sum + moved,
                    None => moved,
                };
                statistics.insert(path, sum);
            }
        }
        let diverged = |norm| PretrainError::Diverged {
            step: self.record.position.step,
            loss: value,
            norm,
        };
        if !value.is_finite() {
            return Err(diverged(f64::NAN));
        }
        let (network, report) = self
            .optimizer
            .update(self.network.clone(), sum.grads(), rate);
        if !report.applied {
            return Err(diverged(report.gradient_norm));
        }
        self.network = match statistics.is_empty() {
            true => network,
            false => with_parameters(network, |path| statistics.get(path).cloned()),
        };
        self.ema.update(&self.network, self.optimizer.step);
        Ok(value)
    }

    /// Mean loss on the held-out images, and the share that a classifier is right about; their random
    /// numbers are the same at every call.
    fn held_out_loss(
        &self,
        dataset: &Dataset,
        network: &T::Network,
    ) -> Result<(f64, Option<f64>), PretrainError> {
        let (mut sum, mut right) = (0.0, None);
        for indices in self.held_out.chunks(HELD_OUT_BATCH) {
            let batch = self.batch(dataset, indices, HELD_OUT_DRAW, false, &self.device)?;
            let judgement = self.record.config.judge(network, batch);
            sum += f64::from(judgement.losses.sum().into_scalar::<f32>());
            if let Some(more) = judgement.right {
                *right.get_or_insert(0) += more;
            }
        }
        let count = self.held_out.len();
        Ok(match count {
            0 => (f64::NAN, None),
            _ => (
                sum / count as f64,
                right.map(|right| right as f64 / count as f64),
            ),
        })
    }

    /// Some images, flipped at random if wanted. Flips are functions of the image and the epoch, so it
    /// does not matter how a batch is cut.
    fn batch(
        &self,
        dataset: &Dataset,
        indices: &[usize],
        draw: u32,
        flip: bool,
        device: &Device,
    ) -> Result<Batch, DatasetError> {
        let seed = self.course.seed;
        let flips: Vec<bool> = indices
            .iter()
            .map(|&i| {
                let key = Key::new(seed, Stream::Flip)
                    .sample(dataset.id(i))
                    .draw(draw);
                flip && key.generator().next_u32() & 1 == 1
            })
            .collect();
        let preprocess = self.record.config.preprocess();
        let mut values = vec![0.0; indices.len() * preprocess.len()];
        load_batch(dataset, preprocess, indices, Some(&flips), &mut values)?;
        let (channels, size) = (preprocess.channels.count(), preprocess.size);
        let shape = [indices.len(), channels, size, size];
        Ok(Batch {
            images: Tensor::from_data(TensorData::new(values, shape), device),
            labels: indices.iter().map(|&i| dataset.label(i)).collect(),
            names: indices
                .iter()
                .map(|&i| (seed, dataset.id(i), draw))
                .collect(),
        })
    }
}
