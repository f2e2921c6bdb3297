//! From noise to images.

use std::fmt;
use std::str::FromStr;

use burn::tensor::{Device, Tensor};
use diffrep_rng::{Key, Stream};
use diffrep_schedule::{
    Prediction, Schedule, VarianceKind, ddim_step, ddpm_step, noise_batch, predict_x0,
};

use crate::solver::Multistep;

/// How a step is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampler {
    /// Ancestral sampling (Ho et al. 2020), with the network's own variance where it has one.
    Ddpm,
    /// DDIM (Song et al. 2021): deterministic at `eta` = 0.
    Ddim {
        /// Share of the ancestral noise.
        eta: f64,
    },
    /// DPM-Solver++ 2M (Lu et al. 2022), deterministic and of second order: good images in about 20
    /// steps.
    DpmSolver,
}

/// A sampler that is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no sampler: use ddpm, ddim, ddim:ETA with ETA from 0 to 1, or dpm-solver")]
pub struct SamplerError {
    /// What was asked for.
    pub name: String,
}

impl FromStr for Sampler {
    type Err = SamplerError;

    fn from_str(name: &str) -> Result<Self, SamplerError> {
        let refuse = || SamplerError { name: name.into() };
        match name.split_once(':') {
            None if name == "ddpm" => Ok(Self::Ddpm),
            None if name == "ddim" => Ok(Self::Ddim { eta: 0.0 }),
            None if name == "dpm-solver" => Ok(Self::DpmSolver),
            Some(("ddim", eta)) => {
                let eta: f64 = eta.parse().map_err(|_| refuse())?;
                let known = (0.0..=1.0).contains(&eta);
                known.then_some(Self::Ddim { eta }).ok_or_else(refuse)
            }
            _ => Err(refuse()),
        }
    }
}

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ddpm => write!(f, "ddpm"),
            Self::Ddim { eta: 0.0 } => write!(f, "ddim"),
            Self::Ddim { eta } => write!(f, "ddim:{eta}"),
            Self::DpmSolver => write!(f, "dpm-solver"),
        }
    }
}

/// How images are drawn.
#[derive(Clone, Debug)]
pub struct SampleOptions {
    /// Names the noise.
    pub seed: u64,
    /// Channels, height and width of an image.
    pub shape: [usize; 3],
    /// How a step is taken.
    pub sampler: Sampler,
    /// How the network's variance is read.
    pub variance: VarianceKind,
}

/// The gradient of a condition's log probability with respect to x_t, given x_t and one original
/// timestep per image: classifier guidance (Dhariwal & Nichol 2021, algorithms 1 and 2), scaled.
pub type Guide<'a> = &'a dyn Fn(Tensor<4>, &[usize]) -> Tensor<4>;

/// Draws images `ids`, in [-1, 1]. Image `i` is a function of (seed, i), whatever the batch.
///
/// `schedule` is respaced to the wanted steps; `predict` maps x_t and one original timestep per
/// image to the network's output; `progress` is told how many of the steps are done.
///
/// # Shapes
///
/// - result: `[ids.len(), channels, height, width]`
pub fn sample(
    schedule: &Schedule,
    options: &SampleOptions,
    ids: &[u64],
    device: &Device,
    predict: impl Fn(Tensor<4>, &[usize]) -> Tensor<4>,
    guide: Option<Guide<'_>>,
    progress: impl FnMut(usize, usize),
) -> Tensor<4> {
    let keys = |stream, t: usize| -> Vec<Key> {
        ids.iter()
            .map(|&id| Key::new(options.seed, stream).sample(id).t(t as u32))
            .collect()
    };
    let start = noise_batch(&keys(Stream::SampleInit, 0), options.shape, device);
    let noise = |index| noise_batch(&keys(Stream::SampleStep, index), options.shape, device);
    trajectory(schedule, options, start, noise, predict, guide, progress)
}

/// The way from given noise to images; `noise` gives a step's fresh noise by its place in the
/// schedule, where the sampler asks for it.
///
/// # Shapes
///
/// - `start`, `noise`, result: `[batch, channels, height, width]`
pub fn trajectory(
    schedule: &Schedule,
    options: &SampleOptions,
    start: Tensor<4>,
    noise: impl Fn(usize) -> Tensor<4>,
    predict: impl Fn(Tensor<4>, &[usize]) -> Tensor<4>,
    guide: Option<Guide<'_>>,
    mut progress: impl FnMut(usize, usize),
) -> Tensor<4> {
    let [batch, ..] = start.dims();
    let steps = schedule.steps();
    let mut x = start;
    let mut solver = Multistep::default();
    for (done, index) in (0..steps).rev().enumerate() {
        let t = vec![index; batch];
        let original = vec![schedule.timestep_map[index]; batch];
        let output = predict(x.clone(), &original);
        let variance = options.variance;
        let mut prediction = Prediction::new(schedule, x.clone(), &t, output, variance, true);
        if let Some(guide) = guide {
            let gradient = guide(x.clone(), &original);
            prediction = guided(
                schedule,
                options.sampler,
                prediction,
                x.clone(),
                &t,
                gradient,
            );
        }
        x = match options.sampler {
            Sampler::Ddpm => ddpm_step(&prediction, &t, noise(index)),
            Sampler::Ddim { eta } => {
                let noise = (eta > 0.0).then(|| noise(index));
                ddim_step(schedule, &prediction, &t, eta, noise)
            }
            Sampler::DpmSolver => solver.step(schedule, &prediction.x0, x, index),
        };
        progress(done + 1, steps);
    }
    x
}

/// A prediction under a condition: its mean is shifted where the step draws from it
/// (`condition_mean` of the reference), its noise where the step follows that (`condition_score`).
fn guided(
    schedule: &Schedule,
    sampler: Sampler,
    prediction: Prediction,
    x_t: Tensor<4>,
    t: &[usize],
    gradient: Tensor<4>,
) -> Prediction {
    if sampler == Sampler::Ddpm {
        let variance = prediction.log_variance.clone().exp();
        return Prediction {
            mean: prediction.mean + variance * gradient,
            ..prediction
        };
    }
    let sigma = schedule.sqrt_one_minus_alphas_cumprod[t.first().copied().unwrap_or(0)];
    let eps = prediction.eps - gradient * sigma;
    Prediction {
        x0: predict_x0(schedule, x_t, t, eps.clone()),
        eps,
        ..prediction
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use diffrep_schedule::{Spacing, respaced};

    fn options(sampler: Sampler) -> SampleOptions {
        SampleOptions {
            seed: 3,
            shape: [1, 4, 4],
            sampler,
            variance: VarianceKind::FixedSmall,
        }
    }

    fn short(spacing: &str) -> Schedule {
        let full = Schedule::linear(1000);
        respaced(&full, &Spacing::parse(spacing, 1000).unwrap()).unwrap()
    }

    fn values(x: Tensor<4>) -> Vec<f32> {
        x.into_data().try_into_vec().unwrap()
    }

    const ALL: [Sampler; 4] = [
        Sampler::Ddpm,
        Sampler::Ddim { eta: 0.0 },
        Sampler::Ddim { eta: 1.0 },
        Sampler::DpmSolver,
    ];

    /// A predictor that knows the answer: x_0 is 0.5 everywhere.
    fn oracle(schedule: &Schedule) -> impl Fn(Tensor<4>, &[usize]) -> Tensor<4> + '_ {
        |x, t| {
            let (a, s) = (
                schedule.sqrt_alphas_cumprod[t[0]],
                schedule.sqrt_one_minus_alphas_cumprod[t[0]],
            );
            (x - 0.5 * a) / s
        }
    }

    #[test]
    fn a_perfect_predictor_gives_its_image() {
        let device = Device::flex();
        let (full, short) = (Schedule::linear(1000), short("ddim20"));
        for sampler in ALL {
            let mut steps = Vec::new();
            let told = |n, of| steps.push((n, of));
            let options = options(sampler);
            let predict = oracle(&full);
            let x = sample(&short, &options, &[0, 1], &device, predict, None, told);
            let values = values(x);
            assert!(
                values.iter().all(|v| (v - 0.5).abs() < 1e-3),
                "{sampler}: {values:?}"
            );
            assert_eq!(steps.last(), Some(&(20, 20)));
        }
    }

    #[test]
    fn an_image_does_not_depend_on_its_batch() {
        let device = Device::flex();
        let short = short("10");
        for sampler in ALL {
            let options = options(sampler);
            let run = |ids: &[u64]| {
                let predict = |x: Tensor<4>, _: &[usize]| x * 0.3;
                values(sample(
                    &short,
                    &options,
                    ids,
                    &device,
                    predict,
                    None,
                    |_, _| {},
                ))
            };
            assert_eq!(run(&[4, 9])[16..], run(&[9])[..]);
            assert_ne!(run(&[4]), run(&[9]));
        }
    }

    #[test]
    fn a_guide_leads_where_it_points() {
        let device = Device::flex();
        let short = short("ddim20");
        for sampler in ALL {
            let options = options(sampler);
            let mean = |scale: f64| {
                let predict = |x: Tensor<4>, _: &[usize]| x * 0.9;
                let guide = move |x: Tensor<4>, _: &[usize]| x.ones_like() * scale;
                let x = sample(
                    &short,
                    &options,
                    &[0],
                    &device,
                    predict,
                    Some(&guide),
                    |_, _| {},
                );
                values(x).iter().sum::<f32>() / 16.0
            };
            let plain = mean(0.0);
            assert!(mean(1.0) > plain && mean(-1.0) < plain, "{sampler}");
        }
    }

    #[test]
    fn samplers_are_read_as_they_are_written() {
        for name in ["ddpm", "ddim", "ddim:0.5", "dpm-solver"] {
            assert_eq!(name.parse::<Sampler>().unwrap().to_string(), name);
        }
        for wrong in ["euler", "ddim:2", "ddim:", "ddpm:1", "ddim:nan"] {
            let error = wrong.parse::<Sampler>().unwrap_err().to_string();
            assert!(
                error.contains(wrong) && error.contains("dpm-solver"),
                "{error}"
            );
        }
    }
}
