//! Training losses (guided_diffusion/gaussian_diffusion.py, `training_losses`).

use burn::tensor::activation::log_softmax;
use burn::tensor::{Tensor, TensorData};
use diffrep_schedule::{Prediction, Schedule, VarianceKind, q_sample, variational_bound};

/// The loss of a batch, per image, `[batch]`.
#[derive(Clone, Debug)]
pub struct Loss {
    /// Mean squared error of the predicted noise (Eq. 4 of the paper).
    pub mse: Tensor<1>,
    /// The variational bound scaled by T / 1000, where the variance is learned.
    pub bound: Option<Tensor<1>>,
}

impl Loss {
    /// What is minimised, of each image, `[batch]`.
    pub fn each(self) -> Tensor<1> {
        match self.bound {
            None => self.mse,
            Some(bound) => self.mse + bound,
        }
    }
}

/// The loss of `predict` on images noised to `t`. With a learned variance the bound sees the
/// predicted noise as a constant, so that it trains the variance alone.
///
/// # Shapes
///
/// - `x0`, `noise`: `[batch, channels, height, width]`; `t`: one timestep an image
pub fn loss(
    schedule: &Schedule,
    x0: Tensor<4>,
    t: &[usize],
    noise: Tensor<4>,
    variance: VarianceKind,
    predict: impl FnOnce(Tensor<4>) -> Tensor<4>,
) -> Loss {
    let [batch, channels, height, width] = x0.dims();
    let x_t = q_sample(schedule, x0.clone(), t, noise.clone());
    let output = predict(x_t.clone());
    let eps = output.clone().narrow(1, 0, channels);
    let error = (eps.clone() - noise).square();
    let mse = error
        .reshape([batch, channels * height * width])
        .mean_dim(1)
        .reshape([batch]);
    let bound = (variance == VarianceKind::LearnedRange).then(|| {
        let v = output.narrow(1, channels, channels);
        let frozen = Tensor::cat(vec![eps.detach(), v], 1);
        let prediction = Prediction::new(schedule, x_t.clone(), t, frozen, variance, false);
        variational_bound(schedule, x0, x_t, t, &prediction) * (schedule.steps() as f64 / 1000.0)
    });
    Loss { mse, bound }
}

/// Cross entropy of each image, `[batch]`, of a classifier (for noised images
/// scripts/classifier_train.py of guided-diffusion).
///
/// # Shapes
///
/// - `logits`: `[batch, classes]`; `labels`: one class an image
///
/// # Panics
///
/// When a label is no class.
pub fn classification(logits: Tensor<2>, labels: &[u32]) -> Tensor<1> {
    let [batch, classes] = logits.dims();
    let device = logits.device();
    let mut one_hot = vec![0.0f32; batch * classes];
    for (row, &label) in one_hot.chunks_exact_mut(classes).zip(labels) {
        row[label as usize] = 1.0;
    }
    let one_hot = Tensor::<2>::from_data(TensorData::new(one_hot, [batch, classes]), &device);
    (log_softmax(logits, 1) * one_hot)
        .sum_dim(1)
        .neg()
        .reshape([batch])
}

/// How many images have their highest logit, `[batch, classes]`, at their class.
pub(crate) fn right(logits: Tensor<2>, labels: &[u32]) -> usize {
    let classes = logits.dims()[1];
    let logits = logits.into_data().convert::<f32>();
    let logits = logits
        .as_slice::<f32>()
        .expect("values that were converted to f32");
    let rows = logits.chunks_exact(classes).zip(labels);
    rows.filter(|(row, label)| {
        let own = row[**label as usize];
        row.iter()
            .enumerate()
            .all(|(class, &value)| value < own || class == **label as usize)
    })
    .count()
}
