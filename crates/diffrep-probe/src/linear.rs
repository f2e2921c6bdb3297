//! Many linear heads in one pass: their weights lie side by side in one matrix `[dim, heads *
//! classes]`, so that a batch of features is read once for all of them.

use burn::tensor::{Device, Int, Tensor, TensorData, activation::softmax};
use diffrep_rng::{Key, Stream};
use serde::{Deserialize, Serialize};

mod optimizer;

use crate::{Features, Point, ProbeError, Recipe};
use optimizer::State;

/// Rows scored at a time.
const SCORE_ROWS: usize = 1024;

/// A trained linear head on raw features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// The grid point it was trained with.
    pub point: Point,
    /// `[classes, dim]`, row-major.
    pub weight: Vec<f32>,
    /// `[classes]`
    pub bias: Vec<f32>,
    /// Share of validation samples classified right.
    pub validation: f64,
    /// Norm of the loss's gradient at this head, where steps went to an optimum ([`fit_convex`](crate::fit_convex)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient: Option<f64>,
}

/// Trains a head for each point of the recipe's grid on `train` and scores each on `validation`.
/// Order of batches and initial weights are functions of `seed`. Heads that diverge score 0.
/// `progress` hears of each epoch: how many are done, of how many.
///
/// # Errors
///
/// When a split is empty, widths differ or a label is out of range.
pub fn train_linear(
    train: &Features,
    validation: &Features,
    classes: usize,
    recipe: &Recipe,
    seed: u64,
    device: &Device,
    progress: impl FnMut(usize, usize),
) -> Result<Vec<Trained>, ProbeError> {
    let grid = recipe.grid();
    train_linear_at(
        &grid, train, validation, classes, recipe, seed, device, progress,
    )
}

/// [`train_linear`] at some points in place of the recipe's grid.
///
/// # Errors
///
/// As [`train_linear`].
#[allow(
    clippy::too_many_arguments,
    reason = "what is trained, on what and how it is told"
)]
pub(crate) fn train_linear_at(
    grid: &[Point],
    train: &Features,
    validation: &Features,
    classes: usize,
    recipe: &Recipe,
    seed: u64,
    device: &Device,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<Trained>, ProbeError> {
    check(train, validation, classes)?;
    let (heads, dim) = (grid.len(), train.dim);
    let (mean, deviation) = if recipe.standardize {
        train.moments()
    } else {
        (vec![0.0; dim], vec![1.0; dim])
    };
    let standardized = |features: &Features| {
        let mut values = features.values.clone();
        for row in values.chunks_exact_mut(dim) {
            for ((value, mean), deviation) in row.iter_mut().zip(&mean).zip(&deviation) {
                *value = (*value - mean) / deviation;
            }
        }
        Tensor::<2>::from_data(TensorData::new(values, [features.len(), dim]), device)
    };
    let inputs = standardized(train);
    let targets = one_hot(&train.labels, classes, device);
    let columns = heads * classes;
    let per_column = |f: &dyn Fn(&Point) -> f64| {
        let values: Vec<f32> = grid
            .iter()
            .flat_map(|point| std::iter::repeat_n(f(point) as f32, classes))
            .collect();
        Tensor::<2>::from_data(TensorData::new(values, [1, columns]), device)
    };
    let rates = per_column(&|point| point.learning_rate);
    let decays = per_column(&|point| point.weight_decay);
    let mut weight = initial(dim, heads, classes, seed, device);
    let mut bias = Tensor::<2>::zeros([1, columns], device);
    let mut weight_state = State::new(recipe.optimizer, &weight);
    let mut bias_state = State::new(recipe.optimizer, &bias);
    for epoch in 0..recipe.epochs {
        let drop = recipe.step_factor.powi((epoch / recipe.step_every) as i32);
        let mut order: Vec<i64> = (0..train.len() as i64).collect();
        Key::new(seed, Stream::Order)
            .draw(epoch as u32)
            .generator()
            .shuffle(&mut order);
        for part in order.chunks(recipe.batch) {
            let rows = part.len();
            let picked =
                Tensor::<1, Int>::from_data(TensorData::new(part.to_vec(), [rows]), device);
            let x = inputs.clone().select(0, picked.clone());
            let y = targets.clone().select(0, picked);
            let logits = x.clone().matmul(weight.clone()) + bias.clone();
            // Gradient of the mean cross entropy: (softmax - one-hot) / rows, head by head.
            let chances = softmax(logits.reshape([rows, heads, classes]), 2);
            let error = (chances - y.reshape([rows, 1, classes])) / rows as f64;
            let error = error.reshape([rows, columns]);
            let rates = rates.clone() * drop;
            let gradient = x.transpose().matmul(error.clone());
            weight = weight_state.step(weight, gradient, &rates, Some(&decays));
            bias = bias_state.step(bias, error.sum_dim(0), &rates, None);
        }
        progress(epoch + 1, recipe.epochs);
    }
    let scores = score(
        &standardized(validation),
        &weight,
        &bias,
        &validation.labels,
        heads,
    );
    let raw: Vec<f32> = read(weight);
    let shifts: Vec<f32> = read(bias);
    Ok(grid
        .iter()
        .enumerate()
        .map(|(head, &point)| {
            fold(
                &raw,
                &shifts,
                &mean,
                &deviation,
                [head, columns, classes],
                point,
                scores[head],
            )
        })
        .collect())
}

pub(crate) fn check(
    train: &Features,
    validation: &Features,
    classes: usize,
) -> Result<(), ProbeError> {
    for (split, features) in [("training", train), ("validation", validation)] {
        if features.is_empty() {
            return Err(ProbeError::Empty { split });
        }
        if let Some(&label) = features
            .labels
            .iter()
            .find(|label| **label as usize >= classes)
        {
            return Err(ProbeError::Label {
                label: label.into(),
                classes,
            });
        }
    }
    if train.dim != validation.dim {
        return Err(ProbeError::Width {
            train: train.dim,
            validation: validation.dim,
        });
    }
    Ok(())
}

/// PyTorch's default initialisation of a linear layer, the same for every head of the grid.
fn initial(dim: usize, heads: usize, classes: usize, seed: u64, device: &Device) -> Tensor<2> {
    let bound = 1.0 / (dim as f64).sqrt();
    let mut generator = Key::new(seed, Stream::Init).generator();
    let one: Vec<f32> = (0..dim * classes)
        .map(|_| ((2.0 * generator.uniform() - 1.0) * bound) as f32)
        .collect();
    let all: Vec<f32> = one
        .chunks_exact(classes)
        .flat_map(|row| std::iter::repeat_n(row, heads).flatten().copied())
        .collect();
    Tensor::from_data(TensorData::new(all, [dim, heads * classes]), device)
}

fn one_hot(labels: &[u32], classes: usize, device: &Device) -> Tensor<2> {
    let mut values = vec![0.0f32; labels.len() * classes];
    for (row, &label) in values.chunks_exact_mut(classes).zip(labels) {
        row[label as usize] = 1.0;
    }
    Tensor::from_data(TensorData::new(values, [labels.len(), classes]), device)
}

fn read(tensor: Tensor<2>) -> Vec<f32> {
    tensor
        .into_data()
        .convert::<f32>()
        .try_into_vec()
        .expect("heads are f32")
}

/// Share classified right by each head.
fn score(
    inputs: &Tensor<2>,
    weight: &Tensor<2>,
    bias: &Tensor<2>,
    labels: &[u32],
    heads: usize,
) -> Vec<f64> {
    let [count, _] = inputs.dims();
    let [_, columns] = weight.dims();
    let classes = columns / heads;
    let mut right = vec![0usize; heads];
    for start in (0..count).step_by(SCORE_ROWS) {
        let rows = SCORE_ROWS.min(count - start);
        let logits =
            read(inputs.clone().narrow(0, start, rows).matmul(weight.clone()) + bias.clone());
        for (row, &label) in logits.chunks_exact(columns).zip(&labels[start..]) {
            for (head, logits) in row.chunks_exact(classes).enumerate() {
                right[head] += usize::from(argmax(logits) == Some(label as usize));
            }
        }
    }
    right
        .into_iter()
        .map(|right| right as f64 / count as f64)
        .collect()
}

/// Index of the largest value, the first of equals; none if any is NaN.
pub(crate) fn argmax(values: &[f32]) -> Option<usize> {
    if values.iter().any(|v| v.is_nan()) {
        return None;
    }
    let best = values
        .iter()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
    best.map(|(i, _)| i)
}

/// Takes one head out of the matrix and folds the standardisation into it.
fn fold(
    raw: &[f32],
    shifts: &[f32],
    mean: &[f32],
    deviation: &[f32],
    [head, columns, classes]: [usize; 3],
    point: Point,
    validation: f64,
) -> Trained {
    let dim = mean.len();
    let mut weight = Vec::with_capacity(classes * dim);
    let mut bias = Vec::with_capacity(classes);
    for class in 0..classes {
        let column = head * classes + class;
        let mut shift = f64::from(shifts[column]);
        for feature in 0..dim {
            let value = raw[feature * columns + column] / deviation[feature];
            shift -= f64::from(value) * f64::from(mean[feature]);
            weight.push(value);
        }
        bias.push(shift as f32);
    }
    Trained {
        point,
        weight,
        bias,
        validation,
        gradient: None,
    }
}

/// The head with the highest validation score, of those that `recipe` trained; of equals the one with the most weight decay, then
/// the lowest learning rate.
///
/// # Errors
///
/// When all heads diverged.
pub fn best<'a>(heads: &'a [Trained], recipe: &str) -> Result<&'a Trained, ProbeError> {
    heads
        .iter()
        .filter(|head| head.weight.iter().chain(&head.bias).all(|v| v.is_finite()))
        .max_by(|a, b| {
            a.validation
                .total_cmp(&b.validation)
                .then(a.point.weight_decay.total_cmp(&b.point.weight_decay))
                .then(b.point.learning_rate.total_cmp(&a.point.learning_rate))
        })
        .ok_or_else(|| ProbeError::Diverged {
            recipe: recipe.into(),
        })
}

/// Logits of each sample, row-major `[samples, classes]`.
///
/// # Panics
///
/// Panics when the features are of another length than those the head was trained on.
pub fn logits(head: &Trained, features: &Features, device: &Device) -> Vec<f32> {
    let (classes, dim) = (head.bias.len(), features.dim);
    let trained = head.weight.len() / classes.max(1);
    assert_eq!(dim, trained, "the head reads features of another length");
    let weight =
        Tensor::<2>::from_data(TensorData::new(head.weight.clone(), [classes, dim]), device);
    let bias = Tensor::<2>::from_data(TensorData::new(head.bias.clone(), [1, classes]), device);
    let mut found = Vec::with_capacity(features.len() * classes);
    for rows in features.values.chunks(SCORE_ROWS * dim) {
        let shape = [rows.len() / dim, dim];
        let x = Tensor::<2>::from_data(TensorData::new(rows.to_vec(), shape), device);
        found.extend(read(x.matmul(weight.clone().transpose()) + bias.clone()));
    }
    found
}

/// The class that `head` gives each sample, the first of equals.
fn predict(head: &Trained, features: &Features, device: &Device) -> Vec<u32> {
    let logits = logits(head, features, device);
    let rows = logits.chunks_exact(head.bias.len());
    rows.map(|row| argmax(row).unwrap_or(usize::MAX) as u32)
        .collect()
}

/// Whether `head` classifies each sample right.
///
/// # Panics
///
/// As [`logits`].
pub fn correct(head: &Trained, features: &Features, device: &Device) -> Vec<bool> {
    let found = predict(head, features, device);
    found
        .iter()
        .zip(&features.labels)
        .map(|(found, label)| found == label)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three classes around corners of a square, far from the origin and badly scaled.
    fn blobs(count: usize, seed: u64) -> Features {
        let mut noise = vec![0.0f32; count * 2];
        Key::new(seed, Stream::Noise).fill_normal(&mut noise);
        let labels: Vec<u32> = (0..count).map(|i| (i % 3) as u32).collect();
        let centres = [[100.0, 0.01], [104.0, 0.01], [100.0, 0.05]];
        let values = labels
            .iter()
            .zip(noise.chunks_exact(2))
            .flat_map(|(&label, noise)| {
                let [x, y] = centres[label as usize];
                [x + noise[0] * 0.5, y + noise[1] * 0.005]
            })
            .collect();
        Features {
            values,
            dim: 2,
            labels,
        }
    }

    #[test]
    fn a_standardised_probe_learns_and_its_folded_head_agrees() {
        let device = Device::flex();
        let recipe = Recipe {
            epochs: 40,
            step_every: 40,
            learning_rates: vec![0.03, 0.1],
            ..Recipe::named("mini").unwrap()
        };
        let (train, validation) = (blobs(600, 1), blobs(300, 2));
        let heads = train_linear(&train, &validation, 3, &recipe, 0, &device, |_, _| {}).unwrap();
        assert_eq!(heads.len(), recipe.grid().len());
        let best = best(&heads, &recipe.name).unwrap();
        assert!(best.validation > 0.98, "{}", best.validation);
        let right = correct(best, &validation, &device);
        let share = right.iter().filter(|r| **r).count() as f64 / right.len() as f64;
        assert!(
            (share - best.validation).abs() < 0.01,
            "{share} against {}",
            best.validation
        );
    }

    #[test]
    fn a_head_does_not_depend_on_its_neighbours_in_the_grid() {
        let device = Device::flex();
        let grid = Recipe {
            epochs: 3,
            ..Recipe::named("mini").unwrap()
        };
        let alone = Recipe {
            learning_rates: vec![1e-3],
            weight_decays: vec![0.1],
            ..grid.clone()
        };
        let (train, validation) = (blobs(90, 1), blobs(30, 2));
        let all = train_linear(&train, &validation, 3, &grid, 5, &device, |_, _| {}).unwrap();
        let one = train_linear(&train, &validation, 3, &alone, 5, &device, |_, _| {}).unwrap();
        let same = all.iter().find(|head| head.point == one[0].point).unwrap();
        for (a, b) in same.weight.iter().zip(&one[0].weight) {
            assert!((a - b).abs() <= 1e-4 * b.abs().max(1e-3), "{a} {b}");
        }
    }

    #[test]
    fn the_gradient_is_that_of_the_cross_entropy() {
        // One step of one head from known weights equals a step computed by hand.
        let device = Device::flex();
        let train = Features {
            values: vec![1.0, -2.0],
            dim: 2,
            labels: vec![1],
        };
        let recipe = Recipe {
            epochs: 1,
            standardize: false,
            learning_rates: vec![0.1],
            weight_decays: vec![0.0],
            ..Recipe::named("paper").unwrap()
        };
        let heads = train_linear(&train, &train, 2, &recipe, 0, &device, |_, _| {}).unwrap();
        let before = read(initial(2, 1, 2, 0, &device));
        // Adam's first step is the learning rate times the sign of the gradient.
        for (feature, x) in [1.0f32, -2.0].into_iter().enumerate() {
            for class in 0..2 {
                let sign = if class == 1 { -x.signum() } else { x.signum() };
                let expected = before[feature * 2 + class] - 0.1 * sign;
                let found = heads[0].weight[class * 2 + feature];
                assert!((found - expected).abs() < 1e-5, "{found} {expected}");
            }
        }
    }

    #[test]
    fn bad_input_is_refused() {
        let device = Device::flex();
        let recipe = Recipe::named("paper").unwrap();
        let good = blobs(9, 1);
        let none = Features {
            values: vec![],
            dim: 2,
            labels: vec![],
        };
        let train = |a: &Features, b: &Features, classes| {
            train_linear(a, b, classes, &recipe, 0, &device, |_, _| {})
                .unwrap_err()
                .to_string()
        };
        assert!(train(&none, &good, 3).contains("training split has no samples"));
        assert!(train(&good, &none, 3).contains("validation split has no samples"));
        assert!(train(&good, &good, 2).contains("label 2 is out of range"));
        let wide = Features {
            values: vec![0.0; 3],
            dim: 3,
            labels: vec![0],
        };
        assert!(train(&good, &wide, 3).contains("2 columns"));
    }
}
