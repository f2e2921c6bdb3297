//! Training with the encoder in the loop: heads on streamed features, feedback (DifFeed) and
//! fine-tuning (section 4.1 and Table 2 of the paper).

mod in_the_loop;

use std::path::Path;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use diffrep_heads::{Feedback, FeedbackSpec, Head, HeadSpec, Pooled};
use diffrep_schedule::Schedule;
use diffrep_taps::{BlockIndex, Condition, Encoder, TapInfo, TapSet, Taps};
use diffrep_train::{Ema, SideBySide, metrics, with_parameters};
use diffrep_unet::UNet;
use serde::{Deserialize, Serialize};

use self::in_the_loop::InTheLoop;
use crate::descent::{Descent, EpochScore, Kept, Weights};
use crate::maps::{Each, Moments};
use crate::train_head::validation_of;
use crate::{Images, Point, ProbeError, Reading, Recipe, TunableEncoder};

/// Images scored at a time.
const SCORE_ROWS: usize = 64;
/// Training images whose maps give the means and deviations of a standardised head.
const MOMENT_ROWS: usize = 1024;
/// What the paths of the encoder's parameters begin with.
const ENCODER: &str = "encoder.";
/// What the paths of the head's parameters begin with.
const HEAD: &str = "head.";
/// The path of the text's embeddings.
const PROMPT: &str = "prompt";

/// What is trained beside the head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "tune", rename_all = "snake_case", deny_unknown_fields)]
pub enum Tune {
    /// Nothing: the encoder is frozen, its maps are computed anew in each epoch.
    Head,
    /// The feedback layers (DifFeed); the encoder is frozen, its maps are those of a second pass.
    Feedback {
        /// Decoder blocks whose maps are fed back.
        blocks: Vec<BlockIndex>,
    },
    /// The encoder up to the last block that is read (Table 2 of the paper).
    Encoder {
        /// Its learning rate as a share of the head's.
        rate: f64,
        /// Whether blocks are computed again on the way back, which keeps the inside of one block in
        /// memory instead of all and costs a second forward pass.
        #[serde(default)]
        recompute: bool,
    },
    /// The text that the network is told about every image (the learnable condition of Table 4 of the
    /// paper): the embeddings of its tokens, one set for all images and classes, which start as those of the
    /// text that it was told. The encoder is frozen, and the gradient goes through it.
    Prompt {
        /// Its learning rate as a share of the head's.
        rate: f64,
    },
}

/// A training with the encoder in the loop.
#[derive(Clone, Copy, Debug)]
pub struct Tuning<'a> {
    /// What is trained beside the head.
    pub tune: &'a Tune,
    /// What of the encoder the head reads.
    pub reading: &'a Reading,
    /// Which head.
    pub spec: &'a HeadSpec,
    /// How many classes there are.
    pub classes: usize,
    /// Epochs, batch, steps of the rate, standardisation, patience. With `standardize` channels are
    /// shifted and scaled by means and deviations of the untrained encoder's maps.
    pub recipe: &'a Recipe,
    /// Decay of a moving average of the weights, which is then what is scored.
    pub ema: Option<f64>,
    /// Parts of a batch that are computed side by side or one after another, their gradients summed
    /// in order. Batch normalisation of feedback layers sees a part at a time.
    pub parts: usize,
    /// How many parts are computed at once.
    pub workers: usize,
    /// Names initial weights and batch order.
    pub seed: u64,
    /// Where to compute.
    pub device: &'a Device,
}

/// An encoder and what reads it.
#[derive(Clone, Debug)]
pub struct Classifier<E: TunableEncoder = UNet> {
    /// All weights.
    pub network: Network<E>,
    /// Means and deviations of what the head reads.
    pub moments: Option<Moments>,
    reading: Reading,
    wanted: TapSet,
    /// The head's shape, whose weights are the network's.
    pooled: Pooled,
}

/// The weights of a classifier.
#[derive(Module, Debug)]
pub struct Network<E: Module = UNet> {
    /// The encoder, up to the last block that is needed.
    pub encoder: E,
    /// What a second pass adds.
    pub feedback: Option<Feedback>,
    /// The text that is learned, `[1, tokens, width]`.
    pub prompt: Option<Param<Tensor<3>>>,
    /// The head.
    pub head: Head,
}

/// A training that ended.
#[derive(Clone, Debug)]
pub struct Tuned<E: TunableEncoder = UNet> {
    /// The weights that were kept.
    pub classifier: Classifier<E>,
    /// Scores after each epoch.
    pub curve: Vec<EpochScore>,
    /// The epoch whose weights were kept, counted from 1.
    pub epoch: usize,
    /// Share of validation images classified right with them.
    pub validation: f64,
}

/// How many parameters are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trainable {
    /// Of the head.
    pub head: usize,
    /// Of the feedback layers.
    pub feedback: usize,
    /// Of the encoder.
    pub encoder: usize,
    /// Of the text.
    #[serde(default)]
    pub prompt: usize,
}

impl Trainable {
    /// All together.
    pub fn all(self) -> usize {
        let Self {
            head,
            feedback,
            encoder,
            prompt,
        } = self;
        head + feedback + encoder + prompt
    }
}

impl Tune {
    /// That an encoder of this kind can be trained so.
    fn check<E: TunableEncoder>(&self) -> Result<(), ProbeError> {
        match self {
            Self::Encoder {
                recompute: true, ..
            } if !E::RECOMPUTES => Err(ProbeError::NoRecomputation),
            _ => Ok(()),
        }
    }

    /// Whether the encoder's weights are trained.
    fn moves_encoder(&self) -> bool {
        matches!(self, Self::Encoder { .. })
    }

    fn feedback(&self) -> Option<FeedbackSpec> {
        match self {
            Self::Feedback { blocks } => Some(FeedbackSpec {
                blocks: blocks.clone(),
            }),
            _ => None,
        }
    }
}

impl Tuning<'_> {
    /// What of some weights a training can change: a frozen encoder is not among it, whose file is there.
    fn changing(&self, mut weights: Weights) -> Weights {
        if !self.tune.moves_encoder() {
            weights.retain(|path, _| !path.starts_with(ENCODER));
        }
        weights
    }

    /// Trains from the encoder's weights. A checkpoint, if given, is written after each epoch and
    /// taken up again; on one device the weights are then the same as without a stop.
    ///
    /// # Errors
    ///
    /// When an image or the checkpoint cannot be read or written, something does not fit, or the
    /// training diverges.
    pub fn run<E: TunableEncoder>(
        &self,
        point: Point,
        encoder: E,
        train: &Images<'_>,
        validation: &Images<'_>,
        checkpoint: Option<(&Path, &serde_json::Value)>,
        mut on: impl FnMut(TuneProgress),
    ) -> Result<Tuned<E>, ProbeError> {
        for (split, images) in [("training", train), ("validation", validation)] {
            if images.dataset.is_empty() {
                return Err(ProbeError::Empty { split });
            }
            let labels = images.dataset.labels().iter();
            if let Some(&label) = labels.clone().find(|l| **l as usize >= self.classes) {
                return Err(ProbeError::Label {
                    label: label.into(),
                    classes: self.classes,
                });
            }
        }
        let start = self.start(encoder, train)?;
        let mut network = start.network.clone();
        if !self.tune.moves_encoder() {
            network.encoder = network.encoder.no_grad();
        }
        let network = network.train();
        let mut learner = InTheLoop {
            tuning: self,
            stepper: self.recipe.optimizer.start(point.weight_decay),
            ema: self.ema.map(|decay| {
                let mut ema = Ema::new(&network, decay);
                ema.values = self.changing(ema.values);
                ema
            }),
            crew: SideBySide::new(self.workers)?,
            moments: start.moments(self.device),
            classifier: &start,
            network,
            steps: 0,
            train,
            validation,
            on: &mut on,
        };
        let descent = Descent {
            recipe: self.recipe,
            rate: point.learning_rate,
            seed: self.seed,
            samples: train.dataset.len(),
            checkpoint: checkpoint.map(|(path, determines)| Kept { path, determines }),
        };
        let _span = metrics::training(&format!(
            "in-the-loop rate={} decay={} seed={}",
            point.learning_rate, point.weight_decay, self.seed
        ));
        let done = descent.run(&mut learner, |_| ())?;
        if let Some(at) = done.diverged {
            let good = match (checkpoint, done.epoch) {
                (Some((path, _)), 1..) => format!("{} holds the epoch before", path.display()),
                _ => "no epoch was finished that could be kept".into(),
            };
            return Err(ProbeError::DivergedAt {
                epoch: at.epoch,
                step: at.step,
                samples: at.rows.iter().map(|&row| train.dataset.id(row)).collect(),
                good,
            });
        }
        Ok(Tuned {
            validation: validation_of(&done.curve, done.epoch),
            curve: done.curve,
            epoch: done.epoch,
            classifier: Classifier {
                network: with_parameters(start.network.clone(), |path| {
                    done.weights.get(path).cloned()
                }),
                ..start
            },
        })
    }

    /// The untrained classifier: its encoder is cut off after the last block that is needed.
    ///
    /// # Errors
    ///
    /// When the blocks, the pool or the head do not fit the encoder, or an image cannot be read.
    pub fn start<E: TunableEncoder>(
        &self,
        encoder: E,
        train: &Images<'_>,
    ) -> Result<Classifier<E>, ProbeError> {
        let mut built = Classifier::untrained(
            self.tune,
            self.reading,
            self.spec,
            self.classes,
            self.seed,
            encoder,
            train.schedule,
            self.device,
        )?;
        if self.recipe.standardize {
            // Spread over the data set, whose samples may be sorted by class.
            let count = train.dataset.len();
            let step = count.div_ceil(MOMENT_ROWS).max(1);
            let rows: Vec<usize> = (0..count).step_by(step).collect();
            let encoder = &built.network.encoder;
            // As the first epoch shows them: moments of images that are not cropped would not fit crops.
            let maps = train.maps_of(encoder, self.reading, &rows, Some(0), self.device)?;
            built.moments = Some(maps.moments(self.standardizes(&maps.taps())));
        }
        Ok(built)
    }

    /// As for stored maps: a head that reads the whole map as a vector has every value standardised.
    fn standardizes(&self, taps: &[TapInfo]) -> Each {
        match self.spec {
            HeadSpec::Linear { pool } | HeadSpec::Mlp { pool, .. }
                if taps.iter().all(|tap| tap.height == pool.get()) =>
            {
                Each::Value
            }
            _ => Each::Channel,
        }
    }

    /// How many parameters are trained.
    ///
    /// # Errors
    ///
    /// When the blocks or the head do not fit the encoder.
    pub fn trainable<E: TunableEncoder>(&self, encoder: &E) -> Result<Trainable, ProbeError> {
        self.tune.check::<E>()?;
        let taps = encoder.taps();
        let last = self.reading.blocks.iter().max();
        Ok(Trainable {
            head: self
                .spec
                .parameters(&self.reading.pooled_taps(&taps), 1, self.classes)?,
            feedback: match self.tune.feedback() {
                None => 0,
                Some(spec) => spec.parameters(&taps)?,
            },
            encoder: match (self.tune, last) {
                (Tune::Encoder { .. }, Some(last)) => encoder.parameters_up_to(*last),
                _ => 0,
            },
            prompt: match self.tune {
                Tune::Prompt { .. } => context(encoder)?.dims().iter().product(),
                _ => 0,
            },
        })
    }
}

/// What a training tells while it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TuneProgress {
    /// A batch is done.
    Trained {
        /// The epoch, counted from 1.
        epoch: usize,
        /// Images of the batch.
        images: usize,
    },
    /// Some validation images are scored.
    Scored {
        /// How many.
        images: usize,
    },
}

/// The text that an encoder is told, where one is to be learned.
fn context<E: TunableEncoder>(encoder: &E) -> Result<Tensor<3>, ProbeError> {
    encoder.context().ok_or(ProbeError::NoText)
}

/// Mean and deviation of each map that a head reads, ready to broadcast.
type MomentTensors = Option<Vec<[Tensor<4>; 2]>>;

impl<E: TunableEncoder> Classifier<E> {
    /// A classifier with the head's and the feedback layers' initial weights, a function of `seed`.
    /// Its encoder is cut off after the last block that is needed.
    ///
    /// # Errors
    ///
    /// When the blocks, the timestep, the pool or the head do not fit the encoder.
    #[allow(
        clippy::too_many_arguments,
        reason = "all that a classifier is made of"
    )]
    pub(crate) fn untrained(
        tune: &Tune,
        reading: &Reading,
        spec: &HeadSpec,
        classes: usize,
        seed: u64,
        encoder: E,
        schedule: &Schedule,
        device: &Device,
    ) -> Result<Self, ProbeError> {
        tune.check::<E>()?;
        let prompt = match tune {
            Tune::Prompt { .. } => Some(Param::from_tensor(context(&encoder)?)),
            _ => None,
        };
        let taps = encoder.taps();
        let wanted = reading.check(&taps, schedule)?;
        let feedback = tune
            .feedback()
            .map(|spec| spec.build(&taps, seed, device))
            .transpose()?;
        let sources = feedback.iter().flat_map(Feedback::pairs);
        let last = sources
            .map(|(source, _)| *source)
            .fold(wanted.last(), Ord::max);
        let pooled = spec.build(&reading.pooled_taps(&taps), 1, classes, seed, device)?;
        Ok(Self {
            network: Network {
                encoder: encoder.up_to(last),
                feedback,
                prompt,
                head: pooled.head().clone(),
            },
            moments: None,
            reading: reading.clone(),
            wanted,
            pooled,
        })
    }

    /// The blocks that the head reads, ascending.
    pub(crate) fn blocks(&self) -> Vec<BlockIndex> {
        self.wanted.iter().collect()
    }

    /// How many channels and how many values each map has that the head reads.
    pub(crate) fn lengths(&self) -> Vec<[usize; 2]> {
        let taps = self.reading.pooled_taps(&self.network.encoder.taps());
        let lengths = taps.iter();
        lengths
            .map(|tap| [tap.channels, tap.channels * tap.height * tap.width])
            .collect()
    }

    fn moments(&self, device: &Device) -> MomentTensors {
        let maps = self.moments.as_ref()?.0.iter().zip(self.wanted.iter());
        let taps = self.network.encoder.taps();
        let tensors = maps.map(|((mean, deviation), block)| {
            let channels = taps[block.position()].channels;
            // One value a channel, or one for each pixel of a square map.
            let side = (mean.len() / channels).isqrt();
            [mean, deviation].map(|values| {
                let data = TensorData::new(values.clone(), [1, channels, side, side]);
                Tensor::from_data(data, device)
            })
        });
        Some(tensors.collect())
    }

    /// Logits of pooled, standardised maps.
    fn read(&self, head: &Head, moments: &MomentTensors, maps: Vec<Tensor<4>>) -> Tensor<2> {
        let mut maps: Vec<Tensor<4>> = maps.into_iter().map(|m| self.reading.pooled(m)).collect();
        if let Some(moments) = moments {
            for (map, moments) in maps.iter_mut().zip(moments) {
                let [mean, deviation] = moments.clone().map(|moment| match map.is_autodiff() {
                    true => Tensor::from_inner(moment),
                    false => moment,
                });
                *map = (map.clone() - mean) / deviation;
            }
        }
        self.pooled.clone().map(|_| head.clone()).forward(maps)
    }

    /// Logits of each image, `[images, classes]`, by weights off the autodiff graph.
    fn logits_by(
        &self,
        network: &Network<E>,
        images: &Images<'_>,
        device: &Device,
        mut on: impl FnMut(usize),
    ) -> Result<Vec<f32>, ProbeError> {
        let moments = self.moments(device);
        let rows: Vec<usize> = (0..images.dataset.len()).collect();
        let mut all = Vec::new();
        for rows in rows.chunks(SCORE_ROWS) {
            let (image, condition) =
                images.batch(&network.encoder, rows, self.reading.t, None, device)?;
            let condition = Condition {
                context: network.prompt.as_ref().map(Param::val),
                ..condition
            };
            let addends = network.feedback.as_ref().map(|layers| {
                let first = first_pass(&network.encoder, layers, image.clone(), &condition);
                layers.forward(&first, false).0
            });
            let maps =
                network
                    .encoder
                    .forward_taps(image, &condition, &self.wanted, addends.as_ref());
            let logits = self.read(&network.head, &moments, in_order(maps));
            let values = logits.into_data().convert::<f32>().try_into_vec::<f32>();
            all.extend(values.expect("logits are f32"));
            on(rows.len());
        }
        Ok(all)
    }

    /// Logits of each image, row-major `[images, classes]`, with the noise of stored features.
    ///
    /// # Errors
    ///
    /// When an image cannot be read.
    pub fn logits(
        &self,
        images: &Images<'_>,
        device: &Device,
        on: impl FnMut(usize),
    ) -> Result<Vec<f32>, ProbeError> {
        self.logits_by(&self.network, images, device, on)
    }
}

fn in_order(taps: Taps) -> Vec<Tensor<4>> {
    taps.into_iter().map(|(_, map)| map).collect()
}

/// The maps that are fed back, of a network off the autodiff graph.
fn first_pass<E: Encoder>(
    encoder: &E,
    layers: &Feedback,
    image: Tensor<4>,
    condition: &Condition,
) -> Taps {
    let sources = layers.pairs().iter().map(|(source, _)| source.get());
    let sources = TapSet::new(sources, &encoder.taps()).expect("blocks that were checked");
    encoder.forward_taps(image, condition, &sources, None)
}
