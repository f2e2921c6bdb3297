#![doc = include_str!("../README.md")]

mod noise;
mod process;
mod respace;
mod spec;
mod step;

pub use noise::noise_batch;
pub use process::{Schedule, ScheduleError, ScheduleKind};
pub use respace::{Spacing, respaced};
pub use spec::{ProcessSpec, SpecError, Target};
pub use step::{
    Prediction, VarianceKind, ddim_step, ddpm_step, discretized_gaussian_log_likelihood, normal_kl,
    predict_x0, q_sample, variational_bound,
};
