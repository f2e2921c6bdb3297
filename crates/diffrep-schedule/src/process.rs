//! Beta schedules and the coefficients derived from them
//! (guided_diffusion/gaussian_diffusion.py, `get_named_beta_schedule` and `GaussianDiffusion`).

use serde::{Deserialize, Serialize};

/// The named beta schedules.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Ho et al.: beta from 1e-4 to 0.02 at T = 1000, scaled by 1000/T.
    Linear,
    /// Nichol & Dhariwal: squared cosine of alpha-bar, beta at most 0.999.
    Cosine,
    /// Evenly spaced betas, whatever the number of steps (`linear` of diffusers).
    LinearBetween {
        /// beta of t = 0.
        first: f64,
        /// beta of the last timestep.
        last: f64,
    },
    /// Evenly spaced square roots of betas (`scaled_linear` of diffusers, Stable Diffusion's).
    ScaledLinear {
        /// beta of t = 0.
        first: f64,
        /// beta of the last timestep.
        last: f64,
    },
}

/// Why a schedule or a timestep is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// A timestep outside the schedule.
    #[error("timestep {t} is out of range: this schedule has timesteps 0..={}", steps - 1)]
    Timestep {
        /// The timestep asked for.
        t: usize,
        /// How many there are.
        steps: usize,
    },
    /// A beta outside (0, 1], or none.
    #[error("betas must be in (0, 1] and at least one: {reason}")]
    Betas {
        /// What is wrong.
        reason: String,
    },
    /// A spacing string that does not fit.
    #[error("spacing `{spacing}` does not fit {steps} timesteps: {reason}")]
    Spacing {
        /// The string as given.
        spacing: String,
        /// Timesteps of the schedule.
        steps: usize,
        /// What is wrong.
        reason: String,
    },
}

/// A diffusion process: betas and everything derived from them, indexed by timestep, all f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// beta_t.
    pub betas: Vec<f64>,
    /// Product of 1 - beta up to and including t.
    pub alphas_cumprod: Vec<f64>,
    /// alpha-bar of the step before; 1 at t = 0.
    pub alphas_cumprod_prev: Vec<f64>,
    /// alpha-bar of the step after; 0 at the last t.
    pub alphas_cumprod_next: Vec<f64>,
    /// Weight of x_0 in x_t.
    pub sqrt_alphas_cumprod: Vec<f64>,
    /// Weight of the noise in x_t.
    pub sqrt_one_minus_alphas_cumprod: Vec<f64>,
    /// ln(1 - alpha-bar).
    pub log_one_minus_alphas_cumprod: Vec<f64>,
    /// Weight of x_t in x_0.
    pub sqrt_recip_alphas_cumprod: Vec<f64>,
    /// Weight of the noise in x_0 (subtracted).
    pub sqrt_recipm1_alphas_cumprod: Vec<f64>,
    /// Variance of q(x_{t-1} | x_t, x_0).
    pub posterior_variance: Vec<f64>,
    /// Its logarithm, with entry 0 replaced by entry 1.
    pub posterior_log_variance_clipped: Vec<f64>,
    /// Weight of x_0 in the posterior mean.
    pub posterior_mean_coef1: Vec<f64>,
    /// Weight of x_t in the posterior mean.
    pub posterior_mean_coef2: Vec<f64>,
    /// The timestep the network is told at each index: the identity unless respaced.
    pub timestep_map: Vec<usize>,
    /// What a timestep is multiplied by before the network is told it; 1 but for networks of
    /// improved-diffusion (`rescale_timesteps`).
    pub timestep_scale: f64,
}

impl Schedule {
    /// The linear schedule with `steps` timesteps.
    ///
    /// # Panics
    ///
    /// Panics for fewer than 20 steps, where the scaled betas exceed 1.
    pub fn linear(steps: usize) -> Self {
        let scale = 1000.0 / steps as f64;
        let (start, stop) = (scale * 0.0001, scale * 0.02);
        Self::linear_between(steps, start, stop)
            .expect("a linear schedule needs at least 20 timesteps")
    }

    /// Betas at even distances from `start` to `stop`.
    ///
    /// # Errors
    ///
    /// When there are fewer than two, or one is outside (0, 1].
    pub fn linear_between(steps: usize, start: f64, stop: f64) -> Result<Self, ScheduleError> {
        Self::from_betas(evenly(steps, start, stop))
    }

    /// Betas whose roots lie at even distances ("scaled linear"): latent diffusion, with 0.00085 to
    /// 0.012 in Stable Diffusion (`make_beta_schedule` in `ldm/modules/diffusionmodules/util.py`).
    ///
    /// # Errors
    ///
    /// When there are fewer than two, or one is outside (0, 1].
    pub fn scaled_linear(steps: usize, start: f64, stop: f64) -> Result<Self, ScheduleError> {
        let roots = evenly(steps, start.sqrt(), stop.sqrt());
        Self::from_betas(roots.into_iter().map(|root| root * root).collect())
    }

    /// The cosine schedule with `steps` timesteps.
    ///
    /// # Panics
    ///
    /// Panics for zero steps.
    pub fn cosine(steps: usize) -> Self {
        let alpha_bar = |u: f64| {
            ((u + 0.008) / 1.008 * std::f64::consts::PI / 2.0)
                .cos()
                .powi(2)
        };
        let t = steps as f64;
        let betas = (0..steps)
            .map(|i| (1.0 - alpha_bar((i + 1) as f64 / t) / alpha_bar(i as f64 / t)).min(0.999))
            .collect();
        Self::from_betas(betas).expect("a cosine schedule needs at least one timestep")
    }

    /// The named schedule with `steps` timesteps.
    ///
    /// # Panics
    ///
    /// For fewer timesteps than it can have, and for betas outside 0 to 1.
    pub fn new(kind: ScheduleKind, steps: usize) -> Self {
        match kind {
            ScheduleKind::Linear => Self::linear(steps),
            ScheduleKind::Cosine => Self::cosine(steps),
            ScheduleKind::LinearBetween { first, last } => {
                Self::linear_between(steps, first, last).expect("betas in 0 to 1")
            }
            ScheduleKind::ScaledLinear { first, last } => {
                Self::scaled_linear(steps, first, last).expect("betas in 0 to 1")
            }
        }
    }

    /// The same process, with the network told t * 1000 / steps if `rescaled`.
    #[must_use]
    pub fn with_rescaled(mut self, rescaled: bool) -> Self {
        self.timestep_scale = match rescaled {
            true => 1000.0 / self.steps() as f64,
            false => 1.0,
        };
        self
    }

    /// What the network is told at timestep `t` of this schedule.
    ///
    /// # Panics
    ///
    /// When `t` is not below [`steps`](Self::steps).
    pub fn told(&self, t: usize) -> f32 {
        (self.timestep_map[t] as f64 * self.timestep_scale) as f32
    }

    /// All coefficients from given betas.
    ///
    /// # Errors
    ///
    /// When there is no beta or one outside (0, 1].
    pub fn from_betas(betas: Vec<f64>) -> Result<Self, ScheduleError> {
        if let Some((t, beta)) = betas
            .iter()
            .enumerate()
            .find(|(_, beta)| !(**beta > 0.0 && **beta <= 1.0))
        {
            return Err(ScheduleError::Betas {
                reason: format!("beta[{t}] = {beta}"),
            });
        }
        if betas.is_empty() {
            return Err(ScheduleError::Betas {
                reason: "there is none".into(),
            });
        }
        let steps = betas.len();
        let mut product = 1.0;
        let alphas_cumprod: Vec<f64> = betas
            .iter()
            .map(|beta| {
                product *= 1.0 - beta;
                product
            })
            .collect();
        let alphas_cumprod_prev: Vec<f64> = std::iter::once(1.0)
            .chain(alphas_cumprod[..steps - 1].iter().copied())
            .collect();
        let alphas_cumprod_next = alphas_cumprod[1..]
            .iter()
            .copied()
            .chain(std::iter::once(0.0))
            .collect();
        let of = |f: &dyn Fn(usize) -> f64| (0..steps).map(f).collect::<Vec<f64>>();
        let posterior_variance =
            of(&|t| betas[t] * (1.0 - alphas_cumprod_prev[t]) / (1.0 - alphas_cumprod[t]));
        let posterior_log_variance_clipped =
            of(&|t| posterior_variance[if steps > 1 { t.max(1) } else { t }].ln());
        Ok(Self {
            sqrt_alphas_cumprod: of(&|t| alphas_cumprod[t].sqrt()),
            sqrt_one_minus_alphas_cumprod: of(&|t| (1.0 - alphas_cumprod[t]).sqrt()),
            log_one_minus_alphas_cumprod: of(&|t| (1.0 - alphas_cumprod[t]).ln()),
            sqrt_recip_alphas_cumprod: of(&|t| (1.0 / alphas_cumprod[t]).sqrt()),
            sqrt_recipm1_alphas_cumprod: of(&|t| (1.0 / alphas_cumprod[t] - 1.0).sqrt()),
            posterior_mean_coef1: of(&|t| {
                betas[t] * alphas_cumprod_prev[t].sqrt() / (1.0 - alphas_cumprod[t])
            }),
            posterior_mean_coef2: of(&|t| {
                (1.0 - alphas_cumprod_prev[t]) * (1.0 - betas[t]).sqrt() / (1.0 - alphas_cumprod[t])
            }),
            posterior_log_variance_clipped,
            posterior_variance,
            timestep_map: (0..steps).collect(),
            timestep_scale: 1.0,
            alphas_cumprod_next,
            alphas_cumprod_prev,
            alphas_cumprod,
            betas,
        })
    }

    /// How many timesteps there are.
    pub fn steps(&self) -> usize {
        self.betas.len()
    }

    /// `t` itself, if the schedule has it.
    ///
    /// # Errors
    ///
    /// When `t` is not below [`steps`](Self::steps).
    pub fn check(&self, t: usize) -> Result<usize, ScheduleError> {
        if t < self.steps() {
            Ok(t)
        } else {
            Err(ScheduleError::Timestep {
                t,
                steps: self.steps(),
            })
        }
    }
}

/// numpy.linspace: start + i * step with the last element set to stop.
fn evenly(steps: usize, start: f64, stop: f64) -> Vec<f64> {
    let step = (stop - start) / (steps as f64 - 1.0);
    let mut values: Vec<f64> = (0..steps).map(|i| start + i as f64 * step).collect();
    if let Some(last) = values.last_mut() {
        *last = stop;
    }
    values
}
