//! The steps of a training whose network is in the loop.

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Gradients, Tensor, TensorData};
use diffrep_heads::BatchStatistics;
use diffrep_taps::{Condition, Taps};
use diffrep_train::{Checkpoint, Ema, Pace, Parameter, SideBySide, parameters, with_parameters};

use super::{
    Classifier, ENCODER, HEAD, MomentTensors, Network, PROMPT, Tune, TuneProgress, Tuning,
    first_pass, in_order,
};
use crate::descent::{Learner, Weights};
use crate::recipe::Stepper;
use crate::train_head::{cross_entropy, decays, right, share};
use crate::{Images, ProbeError, TunableEncoder};

/// A classifier in training.
pub(super) struct InTheLoop<'a, E: TunableEncoder, F> {
    pub(super) tuning: &'a Tuning<'a>,
    /// The classifier at its start, for everything but the weights.
    pub(super) classifier: &'a Classifier<E>,
    /// The weights, on the autodiff device.
    pub(super) network: Network<E>,
    pub(super) moments: MomentTensors,
    pub(super) stepper: Stepper,
    pub(super) ema: Option<Ema>,
    pub(super) crew: SideBySide,
    pub(super) steps: u64,
    pub(super) train: &'a Images<'a>,
    pub(super) validation: &'a Images<'a>,
    pub(super) on: &'a mut F,
}

/// A part of a batch, free of what threads may not share.
struct Part<'a, E: TunableEncoder> {
    tuning: &'a Tuning<'a>,
    classifier: &'a Classifier<E>,
    network: &'a Network<E>,
    moments: &'a MomentTensors,
    train: &'a Images<'a>,
    epoch: usize,
    batch: usize,
}

/// Its loss and gradients, weighted by its share of the batch.
struct PartDone {
    loss: f64,
    gradients: GradientsParams,
    statistics: Vec<BatchStatistics>,
}

impl<E: TunableEncoder> Part<'_, E> {
    fn run(&self, rows: &[usize]) -> Result<PartDone, ProbeError> {
        let device = self.tuning.device.clone().autodiff();
        // Leaves of its own: parts of a batch share no autodiff graph.
        let plain = self.network.valid();
        let network = plain.clone().train();
        let t = self.classifier.reading.t;
        let wanted = &self.classifier.wanted;
        let epoch = Some(self.epoch);
        let (image, condition) =
            self.train
                .batch(&plain.encoder, rows, t, epoch, self.tuning.device)?;
        let labels = rows.iter().map(|&row| self.train.dataset.label(row));
        let labels: Vec<u32> = labels.collect();
        let weight = rows.len() as f64 / self.batch as f64;
        let loss = |maps: Vec<Tensor<4>>| -> (Gradients, f64) {
            let logits = self.classifier.read(&network.head, self.moments, maps);
            let loss = cross_entropy(logits, &labels, &device).mean() * weight;
            let value = f64::from(loss.clone().into_scalar::<f32>());
            (loss.backward(), value)
        };
        let tracked_condition = Condition {
            t: condition.t.clone().map(Tensor::from_inner),
            context: match &network.prompt {
                Some(prompt) => Some(prompt.val()),
                None => plain.encoder.context().map(Tensor::from_inner),
            },
            ..Condition::default()
        };
        let tracked = |image: Tensor<4>| Tensor::from_inner(image);
        let mut statistics = Vec::new();
        let (mut gradients, loss) = match (self.tuning.tune, &network.feedback) {
            (
                Tune::Encoder {
                    recompute: true, ..
                },
                _,
            ) => {
                let (of_encoder, (of_head, loss)) = network.encoder.gradients_block_by_block(
                    tracked(image),
                    &tracked_condition,
                    wanted,
                    |maps| {
                        let (mut gradients, value) = loss(maps);
                        let of_head = GradientsParams::from_module(&mut gradients, &network.head);
                        (gradients, (of_head, value))
                    },
                );
                let mut both = GradientsAccumulator::new();
                both.accumulate(&network, of_encoder);
                both.accumulate(&network, of_head);
                return Ok(PartDone {
                    loss,
                    gradients: both.grads(),
                    statistics,
                });
            }
            // What is learned lies in the encoder, or in what it is told.
            (Tune::Encoder { .. } | Tune::Prompt { .. }, _) => {
                let encoder = &network.encoder;
                loss(in_order(encoder.forward_taps(
                    tracked(image),
                    &tracked_condition,
                    wanted,
                    None,
                )))
            }
            (Tune::Feedback { .. }, Some(layers)) => {
                let mut first = Taps::new();
                for (block, map) in first_pass(&plain.encoder, layers, image.clone(), &condition) {
                    first.insert(block, Tensor::from_inner(map));
                }
                let (addends, found) = layers.forward(&first, true);
                statistics = found;
                let encoder = &network.encoder;
                loss(in_order(encoder.forward_taps(
                    tracked(image),
                    &tracked_condition,
                    wanted,
                    Some(&addends),
                )))
            }
            _ => {
                let maps = plain.encoder.forward_taps(image, &condition, wanted, None);
                loss(in_order(maps).into_iter().map(Tensor::from_inner).collect())
            }
        };
        Ok(PartDone {
            loss,
            gradients: GradientsParams::from_module(&mut gradients, &network),
            statistics,
        })
    }
}

impl<E: TunableEncoder, F: FnMut(TuneProgress)> InTheLoop<'_, E, F> {
    /// The weights that are scored, off the autodiff graph.
    fn scored(&self) -> Network<E> {
        let plain = self.network.valid();
        match &self.ema {
            None => plain,
            Some(ema) => ema.apply(plain),
        }
    }
}

impl<E: TunableEncoder, F: FnMut(TuneProgress)> Learner for InTheLoop<'_, E, F> {
    fn step(&mut self, rows: &[usize], epoch: usize, rate: f64) -> Result<Option<f64>, ProbeError> {
        let part = Part {
            tuning: self.tuning,
            classifier: self.classifier,
            network: &self.network,
            moments: &self.moments,
            train: self.train,
            epoch,
            batch: rows.len(),
        };
        let size = rows.len().div_ceil(self.tuning.parts.max(1)).max(1);
        let parts: Vec<&[usize]> = rows.chunks(size).collect();
        let (mut loss, mut statistics) = (0.0, Vec::new());
        let mut sum = GradientsAccumulator::new();
        // As many at once as there are workers; sums in order, so that their number changes no bit.
        for parts in parts.chunks(self.crew.parts()) {
            let done = self.crew.map(parts, |one| {
                one.iter().map(|rows| part.run(rows)).collect::<Vec<_>>()
            });
            for done in done.into_iter().flatten() {
                let done = done?;
                loss += done.loss;
                sum.accumulate(&self.network, done.gradients);
                statistics.push(done.statistics);
            }
        }
        if !loss.is_finite() {
            return Ok(None);
        }
        let (begins, share) = match self.tuning.tune {
            Tune::Encoder { rate, .. } => (ENCODER, *rate),
            Tune::Prompt { rate } => (PROMPT, *rate),
            Tune::Head | Tune::Feedback { .. } => (ENCODER, 1.0),
        };
        let pace = |parameter: Parameter<'_>| Pace {
            learning_rate: match parameter.path.starts_with(begins) {
                true => rate * share,
                false => rate,
            },
            decays: parameter.path.starts_with(HEAD) && decays(parameter),
        };
        let (network, report) = self
            .stepper
            .update(self.network.clone(), sum.grads(), &pace);
        if !report.applied {
            return Ok(None);
        }
        self.network = network;
        for seen in statistics {
            let layers = self.network.feedback.take();
            self.network.feedback = layers.map(|layers| layers.observe(seen));
        }
        self.steps += 1;
        if let Some(ema) = &mut self.ema {
            ema.update(&self.network, self.steps);
        }
        (self.on)(TuneProgress::Trained {
            epoch: epoch + 1,
            images: rows.len(),
        });
        Ok(Some(loss))
    }

    fn validate(&mut self) -> Result<(f64, f64), ProbeError> {
        let network = self.scored();
        let images = self.validation;
        let on = &mut self.on;
        let logits = self
            .classifier
            .logits_by(&network, images, self.tuning.device, |images| {
                on(TuneProgress::Scored { images });
            })?;
        let labels = images.dataset.labels();
        let device = self.tuning.device;
        let data = TensorData::new(logits.clone(), [labels.len(), self.tuning.classes]);
        let loss = cross_entropy(Tensor::from_data(data, device), labels, device).mean();
        Ok((
            share(&right(&logits, labels)),
            f64::from(loss.into_scalar::<f32>()),
        ))
    }

    fn weights(&self) -> Weights {
        self.tuning.changing(parameters(&self.scored()))
    }

    fn save(&self, checkpoint: &mut Checkpoint) {
        checkpoint.put("network", &self.tuning.changing(parameters(&self.network)));
        self.stepper.save(checkpoint);
        if let Some(ema) = &self.ema {
            checkpoint.put("ema", &ema.values);
        }
    }

    fn restore(&mut self, checkpoint: &Checkpoint, steps: u64) {
        let weights = checkpoint.get("network");
        let network = self.network.clone();
        self.network = with_parameters(network, |path| weights.get(path).cloned());
        self.stepper.restore(checkpoint, steps);
        self.steps = steps;
        if let Some(ema) = &mut self.ema {
            ema.values = checkpoint.get("ema");
        }
    }
}
