//! Training of a head of any kind on maps in memory, by gradient descent through the head.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};
use diffrep_heads::{HeadError, HeadSpec, Pooled};
use diffrep_train::{Checkpoint, Pace, Parameter, metrics, parameters, with_parameters};

use crate::descent::{Descent, EpochScore, Learner, Weights};
use crate::maps::{Each, Maps, Moments};
use crate::recipe::Stepper;
use crate::study::all;
use crate::{Point, ProbeError, Recipe};

/// Samples scored at a time.
const SCORE_ROWS: usize = 256;

/// A head with the weights that its training kept.
#[derive(Clone, Debug)]
pub struct TrainedHead {
    /// The grid point it was trained with.
    pub point: Point,
    /// Scores after each epoch.
    pub curve: Vec<EpochScore>,
    /// The epoch whose weights were kept, counted from 1.
    pub epoch: usize,
    /// Share of validation samples classified right with them.
    pub validation: f64,
    weights: Weights,
    moments: Option<Moments>,
}

/// What is trained and how; the grid's points differ in rate and decay alone.
#[derive(Clone, Copy, Debug)]
pub struct HeadTraining<'a> {
    /// Which head.
    pub spec: &'a HeadSpec,
    /// How many classes there are.
    pub classes: usize,
    /// Epochs, batch, steps of the rate, standardisation, patience.
    pub recipe: &'a Recipe,
    /// Names initial weights and batch order.
    pub seed: u64,
    /// Where to compute.
    pub device: &'a Device,
}

impl HeadTraining<'_> {
    /// The head with its initial weights.
    fn build(&self, maps: &Maps) -> Result<Pooled, HeadError> {
        let (taps, steps) = (maps.taps(), maps.steps());
        self.spec
            .build(&taps, steps, self.classes, self.seed, self.device)
    }

    /// Trains a head for each point on `train`, `workers` side by side, and scores each after every
    /// epoch on `validation`. With patience in the recipe a head stops when the validation loss has
    /// not fallen for so many epochs and keeps the weights of its lowest; otherwise it keeps the
    /// last. A head that diverges ends with the weights it had, or with a validation of 0.
    ///
    /// # Errors
    ///
    /// When the head does not fit the maps, a split is empty or a label is out of range.
    pub fn grid(
        &self,
        points: &[Point],
        train: &Maps,
        validation: &Maps,
        workers: usize,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Vec<TrainedHead>, ProbeError> {
        self.check(train, validation)?;
        let moments = self
            .recipe
            .standardize
            .then(|| train.moments(self.standardizes(train)));
        let (mut train, mut validation) = (train.clone(), validation.clone());
        if let Some(moments) = &moments {
            train.standardize(moments);
            validation.standardize(moments);
        }
        let next = AtomicUsize::new(0);
        let done = AtomicUsize::new(0);
        let total = points.len() * self.recipe.epochs;
        let found = Mutex::new(Vec::new());
        // Threads know nothing of the span that this one is in.
        let span = tracing::Span::current();
        let work = || -> Result<(), ProbeError> {
            let _inside = span.enter();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(&point) = points.get(index) else {
                    return Ok(());
                };
                let mut epochs = 0;
                let fresh = self.build(&train)?;
                let mut head = self.one(point, fresh, &train, &validation, || {
                    epochs += 1;
                    progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
                })?;
                done.fetch_add(self.recipe.epochs - epochs, Ordering::Relaxed);
                head.moments.clone_from(&moments);
                found
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .push((index, head));
            }
        };
        // Each worker computes alone: no operator waits for another's thread. Threads that no point
        // needs go to the operators.
        let used = workers.clamp(1, points.len().max(1));
        let threads = (workers / used).max(1);
        let pools = (0..used)
            .map(|_| rayon::ThreadPoolBuilder::new().num_threads(threads).build())
            .collect::<Result<Vec<_>, _>>()?;
        std::thread::scope(|scope| {
            all(pools
                .iter()
                .map(|pool| scope.spawn(|| pool.install(work)))
                .collect())
        })?;
        let mut found = found
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        found.sort_by_key(|(index, _)| *index);
        Ok(found.into_iter().map(|(_, head)| head).collect())
    }

    /// Heads that read the whole map as a vector have every value standardised, as the linear probe
    /// has; others every channel, so that neighbouring pixels stay comparable.
    fn standardizes(&self, maps: &Maps) -> Each {
        match self.spec {
            HeadSpec::Linear { pool } | HeadSpec::Mlp { pool, .. }
                if maps
                    .columns()
                    .iter()
                    .all(|column| column.setting.pool == *pool) =>
            {
                Each::Value
            }
            _ => Each::Channel,
        }
    }

    fn check(&self, train: &Maps, validation: &Maps) -> Result<(), ProbeError> {
        for (split, maps) in [("training", train), ("validation", validation)] {
            if maps.is_empty() {
                return Err(ProbeError::Empty { split });
            }
            let out = |label: &&u32| **label as usize >= self.classes;
            if let Some(&label) = maps.labels().iter().find(out) {
                return Err(ProbeError::Label {
                    label: label.into(),
                    classes: self.classes,
                });
            }
        }
        let settings = |maps: &Maps| -> Vec<_> {
            let columns = maps.columns().iter();
            columns.map(|c| (c.setting, c.channels)).collect()
        };
        if settings(train) != settings(validation) {
            return Err(ProbeError::OtherMaps);
        }
        self.spec
            .check(&train.taps(), train.steps(), self.classes)?;
        Ok(())
    }

    /// Trains one head from the weights it comes with.
    fn one(
        &self,
        point: Point,
        head: Pooled,
        train: &Maps,
        validation: &Maps,
        mut epoch_done: impl FnMut(),
    ) -> Result<TrainedHead, ProbeError> {
        let mut learner = OnMaps {
            head: head.map(|head| head.train()),
            stepper: self.recipe.optimizer.start(point.weight_decay),
            train,
            validation,
            device: self.device,
        };
        let descent = Descent {
            recipe: self.recipe,
            rate: point.learning_rate,
            seed: self.seed,
            samples: train.len(),
            checkpoint: None,
        };
        let _span = metrics::training(&format!(
            "{} rate={} decay={} seed={}",
            self.spec.name(),
            point.learning_rate,
            point.weight_decay,
            self.seed
        ));
        let done = descent.run(&mut learner, |_| epoch_done())?;
        if let Some(at) = done.diverged {
            tracing::warn!(
                "a {} head diverged in epoch {} at step {} at rate {}",
                self.spec.name(),
                at.epoch,
                at.step,
                point.learning_rate
            );
        }
        Ok(TrainedHead {
            point,
            validation: validation_of(&done.curve, done.epoch),
            curve: done.curve,
            epoch: done.epoch,
            weights: done.weights,
            moments: None,
        })
    }

    /// Whether a trained head classifies each sample right.
    ///
    /// # Errors
    ///
    /// When the maps are not of the kind it was trained on.
    pub fn correct(&self, head: &TrainedHead, maps: &Maps) -> Result<Vec<bool>, ProbeError> {
        Ok(right(&self.logits(head, maps)?, maps.labels()))
    }

    /// Logits that a trained head gives each sample, row-major `[samples, classes]`.
    ///
    /// # Errors
    ///
    /// When the maps are not of the kind it was trained on.
    pub fn logits(&self, head: &TrainedHead, maps: &Maps) -> Result<Vec<f32>, ProbeError> {
        let mut maps = maps.clone();
        if let Some(moments) = &head.moments {
            if moments.0.len() != maps.columns().len() {
                return Err(ProbeError::OtherMaps);
            }
            maps.standardize(moments);
        }
        let weights = &head.weights;
        let pooled = self
            .build(&maps)?
            .map(|fresh| with_parameters(fresh, |path| weights.get(path).cloned()));
        Ok(logits(&pooled, &maps, self.device).0)
    }

    /// The parameters of a trained head by the authors' names, and the means and deviations that its
    /// maps are standardised with.
    ///
    /// # Errors
    ///
    /// When the maps are not of the kind it was trained on.
    pub fn state<'h>(
        &self,
        head: &'h TrainedHead,
        maps: &Maps,
    ) -> Result<(BTreeMap<String, TensorData>, Option<&'h Moments>), ProbeError> {
        let blocks: Vec<_> = maps.taps().iter().map(|tap| tap.block).collect();
        let weights = &head.weights;
        let pooled = self
            .build(maps)?
            .map(|fresh| with_parameters(fresh, |path| weights.get(path).cloned()));
        let state = diffrep_heads::parameters(pooled.head(), &blocks);
        Ok((state, head.moments.as_ref()))
    }

    /// How many parameters the head has on these maps.
    ///
    /// # Errors
    ///
    /// When it does not fit them.
    pub fn parameters(&self, maps: &Maps) -> Result<usize, ProbeError> {
        Ok(self
            .spec
            .parameters(&maps.taps(), maps.steps(), self.classes)?)
    }
}

/// Whether a parameter of a head decays: weights do, biases and scales do not, as in the linear probe.
pub(crate) fn decays(parameter: Parameter<'_>) -> bool {
    parameter.axes > 1
}

/// A head on maps in memory.
struct OnMaps<'a> {
    head: Pooled,
    stepper: Stepper,
    train: &'a Maps,
    validation: &'a Maps,
    device: &'a Device,
}

impl Learner for OnMaps<'_> {
    fn step(&mut self, rows: &[usize], _: usize, rate: f64) -> Result<Option<f64>, ProbeError> {
        let autodiff = self.device.clone().autodiff();
        let logits = self.head.forward(self.train.batch(rows, &autodiff));
        let loss = cross_entropy(logits, &labels(self.train, rows), &autodiff).mean();
        let value = f64::from(loss.clone().into_scalar::<f32>());
        let gradients = GradientsParams::from_grads(loss.backward(), self.head.head());
        let mut applied = value.is_finite();
        let stepper = &mut self.stepper;
        self.head = self.head.clone().map(|head| {
            let (head, report) = stepper.update(head, gradients, &|parameter| Pace {
                learning_rate: rate,
                decays: decays(parameter),
            });
            applied &= report.applied;
            head
        });
        Ok(applied.then_some(value))
    }

    fn validate(&mut self) -> Result<(f64, f64), ProbeError> {
        let plain = self.head.clone().map(|head| head.valid());
        let (logits, loss) = logits(&plain, self.validation, self.device);
        Ok((share(&right(&logits, self.validation.labels())), loss))
    }

    fn weights(&self) -> Weights {
        parameters(self.head.head())
    }

    fn save(&self, checkpoint: &mut Checkpoint) {
        checkpoint.put("head", &self.weights());
        self.stepper.save(checkpoint);
    }

    fn restore(&mut self, checkpoint: &Checkpoint, steps: u64) {
        let weights = checkpoint.get("head");
        let head = self.head.clone();
        self.head = head.map(|head| with_parameters(head, |path| weights.get(path).cloned()));
        self.stepper.restore(checkpoint, steps);
    }
}

/// The validation accuracy after an epoch counted from 1; 0 after none.
pub(crate) fn validation_of(curve: &[EpochScore], epoch: usize) -> f64 {
    let kept = epoch.checked_sub(1).and_then(|index| curve.get(index));
    kept.map_or(0.0, |score| score.validation)
}

/// The head with the highest validation accuracy; of equals the one with the lower loss.
///
/// # Errors
///
/// When every head diverged.
pub fn best_head<'a>(
    heads: &'a [TrainedHead],
    recipe: &Recipe,
) -> Result<&'a TrainedHead, ProbeError> {
    let loss = |head: &TrainedHead| {
        let kept = head.epoch.checked_sub(1).and_then(|i| head.curve.get(i));
        kept.map_or(f64::INFINITY, |score| score.validation_loss)
    };
    heads
        .iter()
        .filter(|head| head.epoch > 0)
        .max_by(|a, b| {
            let by_accuracy = a.validation.total_cmp(&b.validation);
            by_accuracy.then(loss(b).total_cmp(&loss(a)))
        })
        .ok_or_else(|| ProbeError::Diverged {
            recipe: recipe.name.clone(),
        })
}

fn labels(maps: &Maps, rows: &[usize]) -> Vec<u32> {
    rows.iter().map(|&row| maps.labels()[row]).collect()
}

/// Cross entropy of each sample, `[rows]`.
pub(crate) fn cross_entropy(logits: Tensor<2>, labels: &[u32], device: &Device) -> Tensor<1> {
    let [rows, classes] = logits.dims();
    let mut one_hot = vec![0.0f32; rows * classes];
    for (row, &label) in one_hot.chunks_exact_mut(classes).zip(labels) {
        row[label as usize] = 1.0;
    }
    let one_hot = Tensor::<2>::from_data(TensorData::new(one_hot, [rows, classes]), device);
    (log_softmax(logits, 1) * one_hot)
        .sum_dim(1)
        .neg()
        .reshape([rows])
}

/// Logits of each sample, and the mean loss.
fn logits(pooled: &Pooled, maps: &Maps, device: &Device) -> (Vec<f32>, f64) {
    let rows: Vec<usize> = (0..maps.len()).collect();
    let mut all = Vec::new();
    let mut loss = 0.0;
    for rows in rows.chunks(SCORE_ROWS) {
        let logits = pooled.forward(maps.batch(rows, device));
        let losses = cross_entropy(logits.clone(), &labels(maps, rows), device);
        loss += f64::from(losses.sum().into_scalar::<f32>());
        let logits: Vec<f32> = logits
            .into_data()
            .convert::<f32>()
            .try_into_vec()
            .expect("logits are f32");
        all.extend(logits);
    }
    (all, loss / maps.len().max(1) as f64)
}

/// Which rows of scores `[samples, classes]` are highest at their label; of equals the first class is
/// the higher, and a row with a NaN is not right.
pub fn right(logits: &[f32], labels: &[u32]) -> Vec<bool> {
    let classes = logits.len() / labels.len().max(1);
    logits
        .chunks_exact(classes.max(1))
        .zip(labels)
        .map(|(row, label)| crate::linear::argmax(row) == Some(*label as usize))
        .collect()
}

pub(crate) fn share(right: &[bool]) -> f64 {
    right.iter().filter(|right| **right).count() as f64 / right.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use diffrep_extract::Setting;
    use diffrep_heads::load_state;
    use diffrep_rng::{Key, Stream};
    use safetensors::SafeTensors;

    use super::*;
    use crate::MapColumn;

    fn maps(values: Vec<f32>, labels: Vec<u32>, channels: usize, side: usize) -> Maps {
        let setting = serde_json::json!({"t": 10, "block": 7, "pool": side});
        let setting: Setting = serde_json::from_value(setting).unwrap();
        let column = MapColumn {
            setting,
            channels,
            values,
        };
        Maps::new(vec![column], labels).unwrap()
    }

    fn spec(json: &str) -> HeadSpec {
        serde_json::from_str(json).unwrap()
    }

    fn recipe(epochs: usize, batch: usize, patience: Option<usize>) -> Recipe {
        Recipe {
            epochs,
            batch,
            patience,
            standardize: false,
            step_every: 80,
            ..Recipe::named("paper").unwrap()
        }
    }

    /// Bright and dark maps with noise, `count` of them.
    fn two_classes(count: usize, seed: u64) -> Maps {
        let mut values = vec![0.0; count * 3 * 16];
        Key::new(seed, Stream::Noise).fill_normal(&mut values);
        let labels: Vec<u32> = (0..count as u32).map(|i| i % 2).collect();
        for (map, label) in values.chunks_exact_mut(48).zip(&labels) {
            map[..16].iter_mut().for_each(|v| *v += *label as f32);
        }
        maps(values, labels, 3, 4)
    }

    const MLP: &str = r#"{"head": "mlp", "pool": 2, "hidden": [8]}"#;

    fn training<'a>(
        spec: &'a HeadSpec,
        recipe: &'a Recipe,
        device: &'a Device,
    ) -> HeadTraining<'a> {
        HeadTraining {
            spec,
            classes: 2,
            recipe,
            seed: 3,
            device,
        }
    }

    #[test]
    fn losses_follow_pytorchs() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fixtures/golden/head_training.safetensors");
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let f32s = |name: &str| -> Vec<f32> {
            let data = file.tensor(name).unwrap().data();
            let chunks = data.chunks_exact(4);
            chunks
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                .collect()
        };
        let wide = |name: &str| -> Vec<[u8; 8]> {
            let data = file.tensor(name).unwrap().data();
            data.chunks_exact(8)
                .map(|b| b.try_into().unwrap())
                .collect()
        };
        let labels: Vec<u32> = wide("y")
            .into_iter()
            .map(|b| i64::from_le_bytes(b) as u32)
            .collect();
        let all = maps(f32s("x"), labels, 16, 4);
        let device = Device::flex();
        let adam = recipe(200, all.len(), None);
        let sgd = Recipe {
            optimizer: crate::Optimizer::Sgd {
                momentum: 0.9,
                nesterov: true,
            },
            ..adam.clone()
        };
        for (name, rate, head) in [
            ("linear", 1e-2, r#"{"head": "linear", "pool": 2}"#),
            ("mlp", 3e-3, r#"{"head": "mlp", "pool": 2, "hidden": [24]}"#),
            (
                "attention",
                3e-3,
                r#"{"head": "attention", "window": 2,
                    "transformer": {"heads": 4, "mlp_ratio": 2, "depth": 1}}"#,
            ),
        ] {
            let spec = spec(head);
            let prefix = format!("{name}.w.");
            let state: BTreeMap<String, TensorData> = file
                .names()
                .into_iter()
                .filter_map(|key| Some((key, key.strip_prefix(&prefix)?)))
                .map(|(key, short)| {
                    let shape = file.tensor(key).unwrap().shape().to_vec();
                    (short.to_string(), TensorData::new(f32s(key), shape))
                })
                .collect();
            let blocks: Vec<_> = all.taps().iter().map(|tap| tap.block).collect();
            for (kind, recipe, rate, weight_decay) in
                [("adam", &adam, rate, 0.1), ("sgd", &sgd, 10.0 * rate, 5e-4)]
            {
                let training = HeadTraining {
                    classes: 5,
                    ..training(&spec, recipe, &device)
                };
                let start = training.build(&all).unwrap();
                let start = start
                    .try_map(|head| load_state(head, &blocks, state.clone()))
                    .unwrap();
                let point = Point {
                    learning_rate: rate,
                    weight_decay,
                };
                let trained = training.one(point, start, &all, &all, || ()).unwrap();
                let theirs = wide(&format!("{name}.{kind}.losses"));
                assert_eq!(trained.curve.len(), theirs.len());
                for (step, (ours, theirs)) in trained.curve.iter().zip(theirs).enumerate() {
                    let (ours, theirs) = (ours.train_loss, f64::from_le_bytes(theirs));
                    let off = (ours - theirs).abs();
                    assert!(
                        off < 1e-3,
                        "{name}, {kind}, step {step}: {ours} and {theirs}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_head_learns_and_is_scored_as_it_was_trained() {
        let device = Device::flex();
        let (train, validation) = (two_classes(200, 1), two_classes(100, 2));
        let recipe = Recipe {
            standardize: true,
            ..recipe(12, 16, None)
        };
        for head in [
            MLP,
            r#"{"head": "attention", "window": 2,
                "transformer": {"heads": 1, "mlp_ratio": 2, "depth": 1}}"#,
            r#"{"head": "fusion", "pool": 2, "width": 4,
                "transformer": {"heads": 1, "mlp_ratio": 2, "depth": 1}}"#,
        ] {
            let spec = spec(head);
            let training = training(&spec, &recipe, &device);
            let points = [1e-2, 1e-9].map(|learning_rate| Point {
                learning_rate,
                weight_decay: 0.0,
            });
            let heads = training
                .grid(&points, &train, &validation, 2, &|_, _| ())
                .unwrap();
            let best = best_head(&heads, &recipe).unwrap();
            assert_eq!(best.point, points[0]);
            assert!(best.validation > 0.9, "{head}: {}", best.validation);
            assert!(heads[1].validation < 0.8, "{head}: {}", heads[1].validation);
            let right = training.correct(best, &validation).unwrap();
            assert_eq!(share(&right), best.validation);
            // Side by side or one after another, the weights are the same.
            let alone = training
                .grid(&points[..1], &train, &validation, 1, &|_, _| ())
                .unwrap();
            let values = |head: &TrainedHead| -> Vec<TensorData> {
                head.weights.values().map(|w| w.to_data()).collect()
            };
            assert_eq!(values(&alone[0]), values(best));
        }
    }

    #[test]
    fn patience_ends_a_training_and_keeps_the_best_epoch() {
        let device = Device::flex();
        // Few samples and a high rate: the head soon overfits.
        let mut train = two_classes(40, 1);
        train.standardize(&train.moments(Each::Channel));
        let validation = two_classes(100, 2);
        let (spec, recipe) = (spec(MLP), recipe(200, 8, Some(3)));
        let training = training(&spec, &recipe, &device);
        let point = Point {
            learning_rate: 3e-2,
            weight_decay: 0.0,
        };
        let head = training
            .grid(&[point], &train, &validation, 1, &|_, _| ())
            .unwrap()
            .remove(0);
        assert_eq!(head.curve.len(), head.epoch + 3);
        assert!(head.curve.len() < 200);
        let loss = |score: &EpochScore| score.validation_loss;
        let lowest = head.curve.iter().map(loss).fold(f64::INFINITY, f64::min);
        assert_eq!(head.curve[head.epoch - 1].validation_loss, lowest);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let device = Device::flex();
        let (spec, recipe) = (spec(MLP), recipe(1, 8, None));
        let training = training(&spec, &recipe, &device);
        let train = two_classes(8, 1);
        let refused = |train: &Maps, validation: &Maps| {
            let point = recipe.grid()[0];
            let error = training.grid(&[point], train, validation, 1, &|_, _| ());
            error.unwrap_err().to_string()
        };
        let other = maps(vec![0.0; 8 * 4 * 16], vec![0; 8], 4, 4);
        assert!(refused(&train, &other).contains("other timesteps, blocks, pools or channels"));
        let label = maps(vec![0.0; 2 * 48], vec![0, 2], 3, 4);
        assert!(refused(&train, &label).contains("label 2 is out of range"));
        let small = maps(vec![0.0; 8 * 3], vec![0; 8], 3, 1);
        assert!(
            refused(&small, &small).contains("pool"),
            "{}",
            refused(&small, &small)
        );
        let empty = maps(Vec::new(), Vec::new(), 3, 4);
        assert!(refused(&empty, &train).contains("no samples"));
    }

    #[test]
    fn a_diverging_head_is_no_winner() {
        let device = Device::flex();
        let (spec, recipe) = (spec(MLP), recipe(3, 8, None));
        let training = training(&spec, &recipe, &device);
        let nan = maps(vec![f32::NAN; 8 * 48], vec![0, 1, 0, 1, 0, 1, 0, 1], 3, 4);
        let heads = training
            .grid(&recipe.grid(), &nan, &nan, 2, &|_, _| ())
            .unwrap();
        assert!(heads.iter().all(|head| head.validation == 0.0));
        assert!(best_head(&heads, &recipe).is_err());
    }
}
