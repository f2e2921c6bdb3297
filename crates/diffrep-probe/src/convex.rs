//! Linear heads fitted to their optimum: ridge regression in closed form, multinomial logistic
//! regression by L-BFGS. Neither has a learning rate, a batch order or a seed.

use std::sync::{Mutex, PoisonError};

use argmin::core::{CostFunction, Executor, Gradient, TerminationReason, TerminationStatus};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;
use burn::tensor::Device;
use faer::linalg::matmul::matmul;
use faer::linalg::solvers::Solve;
use faer::{Accum, Mat, MatMut, MatRef, Par, Side};
use serde::{Deserialize, Serialize};

use crate::linear::check;
use crate::train_head::share;
use crate::{Features, Point, ProbeError, Trained, correct};

/// Rows whose logits are in memory at a time.
const ROWS: usize = 4096;
/// Steps that L-BFGS remembers.
const MEMORY: usize = 10;
/// Where no step of a line search lowers the loss any more, which are the last bits of sums, a gradient
/// norm up to so many times the tolerance is accepted, with a warning. A fit that its limit of steps ended
/// has no such excuse.
const SLACK: f64 = 100.0;

/// What is minimised, over the training samples, plus penalty / 2 times the squared norm of the
/// weights (the bias goes free).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Half the mean squared error of one-hot targets (ridge regression).
    Squared,
    /// The mean cross entropy (multinomial logistic regression).
    CrossEntropy,
}

/// How a linear head is fitted to its optimum, over a grid of penalties.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvexRecipe {
    /// Its name, printed next to every result.
    pub name: String,
    /// What is minimised.
    pub loss: Loss,
    /// Whether features are shifted and scaled to mean 0 and deviation 1 over the training set, which
    /// is folded into the head.
    pub standardize: bool,
    /// Penalties tried.
    pub penalties: Vec<f64>,
    /// Norm of the gradient at which L-BFGS stops; ridge regression has no use for it.
    pub tolerance: f64,
    /// Most steps of L-BFGS for a penalty.
    pub iterations: u64,
}

impl ConvexRecipe {
    pub(crate) fn check(&self) -> Result<(), String> {
        let positive = |value: &f64| value.is_finite() && *value > 0.0;
        if self.penalties.is_empty() || !self.penalties.iter().all(positive) {
            return Err("penalties must be positive numbers, at least one".into());
        }
        if !positive(&self.tolerance) || self.iterations == 0 {
            return Err("tolerance must be positive and iterations at least 1".into());
        }
        Ok(())
    }
}

/// Fits a head for each penalty on `train` and scores each on `validation`, from the largest penalty
/// to the smallest. `progress` hears how many are done, of how many.
///
/// # Errors
///
/// When a split is empty, widths differ, a label is out of range, or a fit does not converge.
pub fn fit_convex(
    train: &Features,
    validation: &Features,
    classes: usize,
    recipe: &ConvexRecipe,
    device: &Device,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<Trained>, ProbeError> {
    check(train, validation, classes)?;
    let (mean, mut deviation) = train.moments();
    if !recipe.standardize {
        deviation.fill(1.0);
    }
    // Centred even where not standardised: the optimum is the same, since the bias goes free.
    let mut inputs = train.values.clone();
    for row in inputs.chunks_exact_mut(train.dim) {
        for ((value, mean), deviation) in row.iter_mut().zip(&mean).zip(&deviation) {
            *value = (*value - mean) / deviation;
        }
    }
    let inputs = MatRef::from_row_major_slice(&inputs, train.len(), train.dim);
    let mut penalties = recipe.penalties.clone();
    penalties.sort_by(|a, b| b.total_cmp(a));
    penalties.dedup();
    let mut problem = Logistic::new(inputs, &train.labels, classes);
    let mut ridge = None;
    let mut heads = Vec::with_capacity(penalties.len());
    for (index, &penalty) in penalties.iter().enumerate() {
        let (weight, bias, gradient) = match recipe.loss {
            Loss::Squared => {
                let (weight, bias) = ridge
                    .get_or_insert_with(|| Ridge::new(inputs, &train.labels, classes))
                    .solve(penalty)?;
                (weight, bias, None)
            }
            Loss::CrossEntropy => {
                let (weight, bias, gradient) = problem.solve(penalty, recipe)?;
                (weight, bias, Some(gradient))
            }
        };
        let mut head = fold(&weight, &bias, &mean, &deviation);
        head.point.weight_decay = penalty;
        head.gradient = gradient;
        head.validation = share(&correct(&head, validation, device));
        heads.push(head);
        progress(index + 1, penalties.len());
    }
    Ok(heads)
}

/// The head on raw features of one on `(x - mean) / deviation`; weights are `[dim, classes]`.
fn fold(weight: &Mat<f64>, bias: &[f64], mean: &[f32], deviation: &[f32]) -> Trained {
    let mut folded = Vec::with_capacity(mean.len() * bias.len());
    let mut shifts = Vec::with_capacity(bias.len());
    for (class, &bias) in bias.iter().enumerate() {
        let mut shift = bias;
        for feature in 0..mean.len() {
            let value = weight[(feature, class)] / f64::from(deviation[feature]);
            shift -= value * f64::from(mean[feature]);
            folded.push(value as f32);
        }
        shifts.push(shift as f32);
    }
    Trained {
        point: Point {
            learning_rate: 0.0,
            weight_decay: 0.0,
        },
        weight: folded,
        bias: shifts,
        validation: 0.0,
        gradient: None,
    }
}

/// Rows of f32 in blocks of f64: the first row of each and its values.
fn blocks(inputs: MatRef<'_, f32>) -> impl Iterator<Item = (usize, Mat<f64>)> + '_ {
    (0..inputs.nrows()).step_by(ROWS).map(move |start| {
        let rows = ROWS.min(inputs.nrows() - start);
        let block = Mat::from_fn(rows, inputs.ncols(), |i, j| {
            f64::from(inputs[(start + i, j)])
        });
        (start, block)
    })
}

/// Ridge regression in f64, through the Gram matrix of the features or, where there are fewer of
/// them, of the samples.
struct Ridge<'a> {
    inputs: MatRef<'a, f32>,
    gram: Mat<f64>,
    right: Mat<f64>,
    /// Share of each class.
    bias: Vec<f64>,
}

impl<'a> Ridge<'a> {
    fn new(inputs: MatRef<'a, f32>, labels: &[u32], classes: usize) -> Self {
        let (samples, dim) = (inputs.nrows(), inputs.ncols());
        let share = 1.0 / samples as f64;
        let mut bias = vec![0.0; classes];
        for &label in labels {
            bias[label as usize] += share;
        }
        let targets = Mat::from_fn(samples, classes, |row, class| {
            f64::from(u8::from(labels[row] as usize == class)) - bias[class]
        });
        let mut gram = Mat::zeros(samples.min(dim), samples.min(dim));
        let all = Par::rayon(0);
        if samples < dim {
            let wide = Mat::from_fn(samples, dim, |i, j| f64::from(inputs[(i, j)]));
            matmul(
                &mut gram,
                Accum::Replace,
                &wide,
                wide.transpose(),
                share,
                all,
            );
            let right = targets * faer::Scale(share);
            return Self {
                inputs,
                gram,
                right,
                bias,
            };
        }
        let mut right = Mat::zeros(dim, classes);
        for (start, block) in blocks(inputs) {
            let targets = targets.subrows(start, block.nrows());
            matmul(&mut gram, Accum::Add, block.transpose(), &block, share, all);
            matmul(
                &mut right,
                Accum::Add,
                block.transpose(),
                targets,
                share,
                all,
            );
        }
        Self {
            inputs,
            gram,
            right,
            bias,
        }
    }

    fn solve(&self, penalty: f64) -> Result<(Mat<f64>, Vec<f64>), ProbeError> {
        let mut gram = self.gram.clone();
        for i in 0..gram.nrows() {
            gram[(i, i)] += penalty;
        }
        let factor = gram
            .llt(Side::Lower)
            .map_err(|error| ProbeError::Unconverged {
                what: "ridge regression",
                penalty,
                reason: format!("its matrix has no Cholesky factor: {error:?}"),
            })?;
        let found = factor.solve(&self.right);
        if found.nrows() == self.inputs.ncols() {
            return Ok((found, self.bias.clone()));
        }
        let mut weight = Mat::zeros(self.inputs.ncols(), found.ncols());
        for (start, block) in blocks(self.inputs) {
            let part = found.subrows(start, block.nrows());
            let (left, all) = (block.transpose(), Par::rayon(0));
            matmul(&mut weight, Accum::Add, left, part, 1.0, all);
        }
        Ok((weight, self.bias.clone()))
    }
}

/// A value with its gradient at some weights, `[dim + 1, classes]` in one row, the bias last.
#[derive(Clone, Debug)]
struct Evaluation {
    at: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
}

impl Evaluation {
    fn norm(&self) -> f64 {
        self.gradient.iter().map(|g| g * g).sum::<f64>().sqrt()
    }
}

/// Multinomial logistic regression; products in f32, sums in f64.
struct Logistic<'a> {
    inputs: MatRef<'a, f32>,
    labels: &'a [u32],
    classes: usize,
    /// Where the fit before ended.
    start: Vec<f64>,
}

impl<'a> Logistic<'a> {
    fn new(inputs: MatRef<'a, f32>, labels: &'a [u32], classes: usize) -> Self {
        let start = vec![0.0; (inputs.ncols() + 1) * classes];
        Self {
            inputs,
            labels,
            classes,
            start,
        }
    }

    fn evaluate(&self, at: &[f64], penalty: f64) -> Evaluation {
        let (classes, dim) = (self.classes, self.inputs.ncols());
        let (weight, bias) = at.split_at(dim * classes);
        let plain: Vec<f32> = weight.iter().map(|w| *w as f32).collect();
        let plain = MatRef::from_row_major_slice(&plain, dim, classes);
        let share = 1.0 / self.inputs.nrows() as f64;
        let mut value = 0.5 * penalty * weight.iter().map(|w| w * w).sum::<f64>();
        let mut gradient: Vec<f64> = weight.iter().map(|w| penalty * w).collect();
        gradient.resize(at.len(), 0.0);
        let all = Par::rayon(0);
        for start in (0..self.inputs.nrows()).step_by(ROWS) {
            let rows = ROWS.min(self.inputs.nrows() - start);
            let block = self.inputs.subrows(start, rows);
            let mut errors = vec![0.0f32; rows * classes];
            let logits = MatMut::from_row_major_slice_mut(&mut errors, rows, classes);
            matmul(logits, Accum::Replace, block, plain, 1.0, all);
            for (row, &label) in errors.chunks_exact_mut(classes).zip(&self.labels[start..]) {
                let logit = |class: usize| f64::from(row[class]) + bias[class];
                let top = (0..classes).map(logit).fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = (0..classes).map(|class| (logit(class) - top).exp()).sum();
                let log_sum = top + sum.ln();
                value += (log_sum - logit(label as usize)) * share;
                for (class, slot) in row.iter_mut().enumerate() {
                    let chance = (f64::from(*slot) + bias[class] - log_sum).exp();
                    let error = chance - f64::from(u8::from(class == label as usize));
                    gradient[dim * classes + class] += error * share;
                    *slot = error as f32;
                }
            }
            let mut part = vec![0.0f32; dim * classes];
            let sums = MatMut::from_row_major_slice_mut(&mut part, dim, classes);
            let errors = MatRef::from_row_major_slice(&errors, rows, classes);
            matmul(sums, Accum::Replace, block.transpose(), errors, 1.0, all);
            for (slot, part) in gradient.iter_mut().zip(&part) {
                *slot += f64::from(*part) * share;
            }
        }
        Evaluation {
            at: at.to_vec(),
            value,
            gradient,
        }
    }

    /// Weights and bias at the optimum, and the norm of the gradient there.
    fn solve(
        &mut self,
        penalty: f64,
        recipe: &ConvexRecipe,
    ) -> Result<(Mat<f64>, Vec<f64>, f64), ProbeError> {
        let objective = Objective {
            problem: self,
            penalty,
            seen: Mutex::new(Seen::default()),
        };
        let solver = LBFGS::new(MoreThuenteLineSearch::new(), MEMORY)
            .with_tolerance_grad(recipe.tolerance)
            .and_then(|solver| solver.with_tolerance_cost(0.0));
        let ended = solver.and_then(|solver| {
            Executor::new(&objective, solver)
                .configure(|state| state.param(self.start.clone()).max_iters(recipe.iterations))
                .run()
        });
        // Whether it ended on a line search that found nothing lower.
        let ended = ended.map(|ended| {
            let state = ended.state;
            let exited = matches!(
                state.termination_status,
                TerminationStatus::Terminated(TerminationReason::SolverExit(_))
            );
            exited || state.cost >= state.prev_cost
        });
        let ended = ended.map_err(|error| error.to_string());
        let seen = objective.seen.into_inner();
        let best = seen.unwrap_or_else(PoisonError::into_inner).lowest;
        let unconverged = |reason: String| ProbeError::Unconverged {
            what: "logistic regression",
            penalty,
            reason,
        };
        let best = match (best, ended) {
            (Some(best), _) if best.norm() <= recipe.tolerance => best,
            (Some(best), Ok(true)) if best.norm() <= SLACK * recipe.tolerance => {
                tracing::warn!(
                    "logistic regression with penalty {penalty}: no step lowers the loss any more at a \
                     gradient of {:.1e}, above the tolerance of {:.1e}; it is taken as the optimum",
                    best.norm(),
                    recipe.tolerance
                );
                best
            }
            (_, Err(error)) => return Err(unconverged(error)),
            (best, Ok(stuck)) => {
                let norm = best.map_or(f64::INFINITY, |best| best.norm());
                let tolerance = recipe.tolerance;
                return Err(unconverged(match stuck {
                    true => format!(
                        "no step lowers the loss any more and its gradient is {norm:.1e}, not \
                         {tolerance:.1e}; raise `tolerance` or standardize"
                    ),
                    false => format!(
                        "after {} steps its gradient is {norm:.1e}, not {tolerance:.1e}; raise \
                         `iterations` or standardize",
                        recipe.iterations
                    ),
                }));
            }
        };
        let gradient = best.norm();
        tracing::debug!("penalty {penalty}: gradient {gradient:.1e}");
        let (classes, dim) = (self.classes, self.inputs.ncols());
        let weight = Mat::from_fn(dim, classes, |i, j| best.at[i * classes + j]);
        let bias = best.at[dim * classes..].to_vec();
        self.start = best.at;
        Ok((weight, bias, gradient))
    }
}

/// What L-BFGS minimises. It asks for value and gradient of the same weights one after the other.
struct Objective<'a, 'b> {
    problem: &'a Logistic<'b>,
    penalty: f64,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    last: Option<Evaluation>,
    lowest: Option<Evaluation>,
}

impl Objective<'_, '_> {
    fn at<T>(&self, at: &[f64], read: impl Fn(&Evaluation) -> T) -> T {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = seen.last.as_ref().filter(|last| last.at == at) {
            return read(last);
        }
        let found = self.problem.evaluate(at, self.penalty);
        let answer = read(&found);
        let lower = |lowest: &Evaluation| found.norm() < lowest.norm();
        if seen.lowest.as_ref().is_none_or(lower) {
            seen.lowest = Some(found.clone());
        }
        seen.last = Some(found);
        answer
    }
}

impl CostFunction for &Objective<'_, '_> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, at: &Self::Param) -> Result<f64, argmin::core::Error> {
        // After a step of length 0 the next direction is no number, and no line search would end.
        if at.iter().any(|weight| !weight.is_finite()) {
            return Err(argmin::core::Error::msg("the weights are not finite"));
        }
        Ok(self.at(at, |found| found.value))
    }
}

impl Gradient for &Objective<'_, '_> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, at: &Self::Param) -> Result<Vec<f64>, argmin::core::Error> {
        Ok(self.at(at, |found| found.gradient.clone()))
    }
}

#[cfg(test)]
mod tests {
    use diffrep_rng::{Key, Stream};

    use super::*;
    use crate::AnyRecipe;

    fn random(samples: usize, dim: usize, classes: u32, seed: u64) -> Features {
        let mut values = vec![0.0f32; samples * dim];
        Key::new(seed, Stream::Noise).fill_normal(&mut values);
        let labels: Vec<u32> = (0..samples as u32).map(|i| i % classes).collect();
        for (row, &label) in values.chunks_exact_mut(dim).zip(&labels) {
            row[label as usize % dim] += 1.0;
            // Far from the origin and badly scaled.
            row[0] = row[0] * 3.0 + 20.0;
        }
        Features {
            values,
            dim,
            labels,
        }
    }

    fn recipe(name: &str, standardize: bool, penalties: &[f64]) -> ConvexRecipe {
        let AnyRecipe::Convex(recipe) = AnyRecipe::named(name).unwrap() else {
            panic!("{name} is of another kind");
        };
        ConvexRecipe {
            standardize,
            penalties: penalties.to_vec(),
            tolerance: 1e-5,
            ..recipe
        }
    }

    /// The gradient of the objective at a head on raw features, in f64 and by the definition:
    /// `[classes, dim]` and `[classes]`. The mean cross entropy, or half the mean squared error.
    fn gradient(head: &Trained, features: &Features, loss: Loss) -> (Vec<f64>, Vec<f64>) {
        let (classes, dim) = (head.bias.len(), features.dim);
        let mut weight: Vec<f64> = head.weight.iter().map(|w| f64::from(*w)).collect();
        weight
            .iter_mut()
            .for_each(|w| *w *= head.point.weight_decay);
        let mut bias = vec![0.0; classes];
        for (row, &label) in features.values.chunks_exact(dim).zip(&features.labels) {
            let logits: Vec<f64> = head
                .weight
                .chunks_exact(dim)
                .zip(&head.bias)
                .map(|(weight, bias)| {
                    let products = weight.iter().zip(row);
                    products.map(|(w, x)| f64::from(w * x)).sum::<f64>() + f64::from(*bias)
                })
                .collect();
            let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
            for class in 0..classes {
                let found = match loss {
                    Loss::Squared => logits[class],
                    Loss::CrossEntropy => logits[class].exp() / sum,
                };
                let error = found - f64::from(u8::from(class == label as usize));
                let error = error / features.len() as f64;
                bias[class] += error;
                for (slot, x) in weight[class * dim..][..dim].iter_mut().zip(row) {
                    *slot += error * f64::from(*x);
                }
            }
        }
        (weight, bias)
    }

    #[test]
    fn fits_are_at_their_optimum() {
        let device = Device::flex();
        // More samples than features, and fewer: ridge regression then goes the other way.
        for (samples, dim) in [(90, 5), (12, 40)] {
            let train = random(samples, dim, 3, 1);
            for name in ["ridge", "logistic"] {
                let recipe = recipe(name, false, &[0.1, 0.01]);
                let heads = fit_convex(&train, &train, 3, &recipe, &device, |_, _| {}).unwrap();
                assert_eq!(heads.len(), 2);
                for head in &heads {
                    let (weight, bias) = gradient(head, &train, recipe.loss);
                    for slope in weight.iter().chain(&bias) {
                        assert!(slope.abs() < 2e-4, "{name} {samples} {dim}: {slope}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_standardised_fit_does_not_depend_on_scale_and_place() {
        let device = Device::flex();
        let train = random(60, 4, 3, 2);
        let mut moved = train.clone();
        for row in moved.values.chunks_exact_mut(4) {
            row[1] = row[1] * 100.0 + 7.0;
        }
        for name in ["ridge", "logistic"] {
            let recipe = recipe(name, true, &[0.1]);
            let fit = |features: &Features| {
                let heads = fit_convex(features, features, 3, &recipe, &device, |_, _| {});
                crate::linear::logits(&heads.unwrap()[0], features, &device)
            };
            for (a, b) in fit(&train).iter().zip(fit(&moved)) {
                assert!((a - b).abs() < 1e-3, "{name}: {a} {b}");
            }
        }
    }

    /// However close it is: within the slack it is told as the optimum only where no step helps.
    #[test]
    fn a_fit_cut_short_is_no_optimum() {
        let device = Device::flex();
        let train = random(60, 4, 3, 2);
        let fit = |iterations| {
            let recipe = ConvexRecipe {
                iterations,
                tolerance: 1e-4,
                ..recipe("logistic", true, &[0.1])
            };
            fit_convex(&train, &train, 3, &recipe, &device, |_, _| {})
        };
        let (mut refused, mut found) = (0, None);
        for iterations in 1..500 {
            match fit(iterations) {
                Ok(heads) => {
                    found = heads[0].gradient;
                    break;
                }
                Err(error) => {
                    let error = error.to_string();
                    let steps = format!("after {iterations} steps its gradient is");
                    assert!(error.contains(&steps), "{error}");
                    refused += 1;
                }
            }
        }
        let gradient = found.expect("it ends in fewer than 500 steps");
        assert!(refused > 0 && gradient <= 1e-4, "{refused} {gradient}");
        // Ridge regression is solved, not approached.
        let ridge = recipe("ridge", true, &[0.1]);
        let heads = fit_convex(&train, &train, 3, &ridge, &device, |_, _| {}).unwrap();
        assert_eq!(heads[0].gradient, None);
    }

    #[test]
    fn a_fit_that_cannot_end_says_so() {
        let device = Device::flex();
        let train = random(60, 4, 3, 2);
        let short = ConvexRecipe {
            iterations: 1,
            ..recipe("logistic", false, &[1e-6])
        };
        let error = fit_convex(&train, &train, 3, &short, &device, |_, _| {}).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("penalty 0.000001 found no optimum"),
            "{error}"
        );
        let none = train.select(&[]);
        let recipe = recipe("ridge", true, &[1.0]);
        let error = fit_convex(&none, &train, 3, &recipe, &device, |_, _| {}).unwrap_err();
        assert!(error.to_string().contains("training split has no samples"));
    }
}
