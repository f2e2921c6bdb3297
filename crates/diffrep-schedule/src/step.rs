//! Noising, and one step back (guided_diffusion/gaussian_diffusion.py and losses.py). Every function
//! takes one timestep per image, so a training batch may mix them.

use burn::tensor::{Tensor, TensorData, activation};

use crate::Schedule;

/// How the reverse variance is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VarianceKind {
    /// The network puts out 2C channels; the second half interpolates ln(variance) between
    /// posterior and beta (learned sigma, all jul-2021 ADM checkpoints).
    LearnedRange,
    /// The posterior variance.
    FixedSmall,
    /// beta, with the posterior variance at t = 0.
    FixedLarge,
}

/// What a network's output says about the step back from x_t. All `[batch, channels, height, width]`.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// Mean of p(x_{t-1} | x_t).
    pub mean: Tensor<4>,
    /// Its log variance.
    pub log_variance: Tensor<4>,
    /// The image the network believes in.
    pub x0: Tensor<4>,
    /// The noise the network sees, consistent with `x0` (so re-derived where `x0` was clipped).
    pub eps: Tensor<4>,
}

/// One coefficient per image as `[batch, 1, 1, 1]`.
fn rows(table: &[f64], t: &[usize], like: &Tensor<4>) -> Tensor<4> {
    let values: Vec<f32> = t.iter().map(|&t| table[t] as f32).collect();
    Tensor::from_data(TensorData::new(values, [t.len(), 1, 1, 1]), &like.device())
}

/// x_t from x_0 and noise (Eq. 2 of the paper).
///
/// # Shapes
///
/// - `x0`, `noise`, result: `[batch, channels, height, width]`; `t`: one timestep per image
pub fn q_sample(schedule: &Schedule, x0: Tensor<4>, t: &[usize], noise: Tensor<4>) -> Tensor<4> {
    let signal = rows(&schedule.sqrt_alphas_cumprod, t, &x0);
    let sigma = rows(&schedule.sqrt_one_minus_alphas_cumprod, t, &x0);
    x0 * signal + noise * sigma
}

/// x_0 from x_t and the noise in it.
pub fn predict_x0(schedule: &Schedule, x_t: Tensor<4>, t: &[usize], eps: Tensor<4>) -> Tensor<4> {
    let a = rows(&schedule.sqrt_recip_alphas_cumprod, t, &x_t);
    let b = rows(&schedule.sqrt_recipm1_alphas_cumprod, t, &x_t);
    x_t * a - eps * b
}

impl Prediction {
    /// Reads a network's output at x_t.
    ///
    /// # Shapes
    ///
    /// - `x_t`: `[batch, channels, height, width]`
    /// - `output`: the same, with 2 * channels for [`VarianceKind::LearnedRange`]
    pub fn new(
        schedule: &Schedule,
        x_t: Tensor<4>,
        t: &[usize],
        output: Tensor<4>,
        variance: VarianceKind,
        clip_x0: bool,
    ) -> Self {
        let [batch, channels, height, width] = x_t.dims();
        let shape = [batch, channels, height, width];
        let posterior = || rows(&schedule.posterior_log_variance_clipped, t, &x_t).expand(shape);
        let log_betas: Vec<f64> = schedule.betas.iter().map(|beta| beta.ln()).collect();
        let (eps, log_variance) = match variance {
            VarianceKind::LearnedRange => {
                let [eps, v]: [Tensor<4>; 2] = output
                    .chunk(2, 1)
                    .try_into()
                    .expect("an even number of channels");
                let share = (v + 1.0) * 0.5;
                let high = rows(&log_betas, t, &x_t);
                let low = rows(&schedule.posterior_log_variance_clipped, t, &x_t);
                (eps, share.clone() * high + (share.neg() + 1.0) * low)
            }
            VarianceKind::FixedSmall => (output, posterior()),
            VarianceKind::FixedLarge => {
                let mut log_variance = log_betas;
                log_variance[0] = schedule.posterior_log_variance_clipped[0];
                (output, rows(&log_variance, t, &x_t).expand(shape))
            }
        };
        let x0 = predict_x0(schedule, x_t.clone(), t, eps.clone());
        let (x0, eps) = if clip_x0 {
            let x0 = x0.clamp(-1.0, 1.0);
            let a = rows(&schedule.sqrt_recip_alphas_cumprod, t, &x_t);
            let b = rows(&schedule.sqrt_recipm1_alphas_cumprod, t, &x_t);
            let eps = (x_t.clone() * a - x0.clone()) / b;
            (x0, eps)
        } else {
            (x0, eps)
        };
        let mean = posterior_mean(schedule, x0.clone(), x_t, t);
        Self {
            mean,
            log_variance,
            x0,
            eps,
        }
    }
}

/// Mean of q(x_{t-1} | x_t, x_0).
fn posterior_mean(schedule: &Schedule, x0: Tensor<4>, x_t: Tensor<4>, t: &[usize]) -> Tensor<4> {
    let a = rows(&schedule.posterior_mean_coef1, t, &x_t);
    let b = rows(&schedule.posterior_mean_coef2, t, &x_t);
    x0 * a + x_t * b
}

/// 1 where t > 0 and 0 where t = 0: the last step adds no noise.
fn adds_noise(t: &[usize], like: &Tensor<4>) -> Tensor<4> {
    let values: Vec<f32> = t.iter().map(|&t| f32::from(u8::from(t > 0))).collect();
    Tensor::from_data(TensorData::new(values, [t.len(), 1, 1, 1]), &like.device())
}

/// One ancestral step: x_{t-1} from the prediction at x_t and fresh noise.
pub fn ddpm_step(prediction: &Prediction, t: &[usize], noise: Tensor<4>) -> Tensor<4> {
    let mask = adds_noise(t, &noise);
    prediction.mean.clone() + (prediction.log_variance.clone() * 0.5).exp() * noise * mask
}

/// One DDIM step (Song et al. 2021, Eq. 12): deterministic at `eta` = 0, ancestral at 1. `noise`
/// may be `None` only at `eta` = 0.
///
/// # Panics
///
/// Panics when `eta` > 0 and there is no noise.
pub fn ddim_step(
    schedule: &Schedule,
    prediction: &Prediction,
    t: &[usize],
    eta: f64,
    noise: Option<Tensor<4>>,
) -> Tensor<4> {
    let of = |f: &dyn Fn(f64, f64) -> f64| {
        let table: Vec<f64> = schedule
            .alphas_cumprod
            .iter()
            .zip(&schedule.alphas_cumprod_prev)
            .map(|(&bar, &prev)| f(bar, prev))
            .collect();
        rows(&table, t, &prediction.x0)
    };
    let sigma_of =
        |bar: f64, prev: f64| eta * ((1.0 - prev) / (1.0 - bar)).sqrt() * (1.0 - bar / prev).sqrt();
    let signal = of(&|_, prev| prev.sqrt());
    let direction = of(&|bar, prev| (1.0 - prev - sigma_of(bar, prev).powi(2)).max(0.0).sqrt());
    let next = prediction.x0.clone() * signal + prediction.eps.clone() * direction;
    if eta == 0.0 {
        return next;
    }
    let noise = noise.expect("DDIM with eta > 0 needs noise");
    let mask = adds_noise(t, &noise);
    next + noise * of(&sigma_of) * mask
}

/// KL divergence between two diagonal normals given means and log variances, elementwise, in nats.
pub fn normal_kl(
    mean1: Tensor<4>,
    log_variance1: Tensor<4>,
    mean2: Tensor<4>,
    log_variance2: Tensor<4>,
) -> Tensor<4> {
    let gap = log_variance2.clone() - log_variance1.clone();
    let ratio = gap.clone().neg().exp();
    let distance = (mean1 - mean2).square() * log_variance2.neg().exp();
    (gap + ratio + distance - 1.0) * 0.5
}

/// Log likelihood of 8-bit pixels scaled to [-1, 1] under a normal discretised to 256 bins,
/// elementwise, in nats, with the reference's tanh approximation of the normal CDF.
pub fn discretized_gaussian_log_likelihood(
    x: Tensor<4>,
    mean: Tensor<4>,
    log_scale: Tensor<4>,
) -> Tensor<4> {
    const HALF_BIN: f64 = 1.0 / 255.0;
    let cdf = |z: Tensor<4>| {
        let cubic = z.clone() + z.powf_scalar(3.0) * 0.044715;
        (activation::tanh(cubic * (2.0 / std::f64::consts::PI).sqrt()) + 1.0) * 0.5
    };
    let inverse = log_scale.neg().exp();
    let centred = x.clone() - mean;
    let above = cdf((centred.clone() + HALF_BIN) * inverse.clone());
    let below = cdf((centred - HALF_BIN) * inverse);
    let log = |p: Tensor<4>| p.clamp_min(1e-12).log();
    let inner = log(above.clone() - below.clone());
    let low_end = log(above);
    let high_end = log(below.neg() + 1.0);
    let result = inner.mask_where(x.clone().lower_elem(-0.999), low_end);
    result.mask_where(x.greater_elem(0.999), high_end)
}

/// The term of the variational bound at `t`, in bits per dimension, `[batch]`: KL to the true
/// posterior, or the decoder's negative log likelihood at t = 0.
pub fn variational_bound(
    schedule: &Schedule,
    x0: Tensor<4>,
    x_t: Tensor<4>,
    t: &[usize],
    prediction: &Prediction,
) -> Tensor<1> {
    let true_mean = posterior_mean(schedule, x0.clone(), x_t.clone(), t);
    let true_log_variance = rows(&schedule.posterior_log_variance_clipped, t, &x_t);
    let kl = normal_kl(
        true_mean,
        true_log_variance.expand(x_t.dims()),
        prediction.mean.clone(),
        prediction.log_variance.clone(),
    );
    let nll = discretized_gaussian_log_likelihood(
        x0,
        prediction.mean.clone(),
        prediction.log_variance.clone() * 0.5,
    )
    .neg();
    let mask = adds_noise(t, &x_t);
    let bound = kl * mask.clone() + nll * (mask.neg() + 1.0);
    let [batch, channels, height, width] = bound.dims();
    let bits = 1.0 / std::f64::consts::LN_2;
    bound
        .reshape([batch, channels * height * width])
        .mean_dim(1)
        .reshape([batch])
        * bits
}
