#![doc = include_str!("../README.md")]

use burn::tensor::{Device, Tensor};
use diffrep_rng::{Key, Stream};
use diffrep_schedule::{Prediction, Schedule, VarianceKind, ddim_step, noise_batch};

/// How images are drawn.
#[derive(Clone, Debug)]
pub struct SampleOptions {
    /// Names the noise.
    pub seed: u64,
    /// Channels, height and width of an image.
    pub shape: [usize; 3],
    /// 0 for deterministic DDIM, 1 for ancestral sampling.
    pub eta: f64,
    /// How the network's variance is read.
    pub variance: VarianceKind,
}

/// DDIM sampling (Song et al. 2021) of images `ids`, in [-1, 1].
///
/// `schedule` is respaced to the wanted steps; `predict` maps x_t and one original timestep per
/// image to the network's output; `progress` is told how many of the steps are done.
///
/// # Shapes
///
/// - result: `[ids.len(), channels, height, width]`
pub fn ddim(
    schedule: &Schedule,
    options: &SampleOptions,
    ids: &[u64],
    device: &Device,
    predict: impl Fn(Tensor<4>, &[usize]) -> Tensor<4>,
    mut progress: impl FnMut(usize, usize),
) -> Tensor<4> {
    let keys = |stream, t: usize| -> Vec<Key> {
        ids.iter()
            .map(|&id| Key::new(options.seed, stream).sample(id).t(t as u32))
            .collect()
    };
    let mut x = noise_batch(&keys(Stream::SampleInit, 0), options.shape, device);
    let steps = schedule.steps();
    for (done, index) in (0..steps).rev().enumerate() {
        let t = vec![index; ids.len()];
        let original = vec![schedule.timestep_map[index]; ids.len()];
        let output = predict(x.clone(), &original);
        let prediction = Prediction::new(schedule, x, &t, output, options.variance, true);
        let noise = (options.eta > 0.0)
            .then(|| noise_batch(&keys(Stream::SampleStep, index), options.shape, device));
        x = ddim_step(schedule, &prediction, &t, options.eta, noise);
        progress(done + 1, steps);
    }
    x
}

/// Pixels as bytes, channels last, as the reference writes them: (x + 1) * 127.5 clamped and
/// truncated.
///
/// # Shapes
///
/// - `images`: `[batch, channels, height, width]` in [-1, 1]; result: one
///   `height * width * channels` buffer per image
pub fn to_bytes(images: Tensor<4>) -> Vec<Vec<u8>> {
    let [batch, channels, height, width] = images.dims();
    let values: Vec<f32> = images
        .permute([0, 2, 3, 1])
        .into_data()
        .convert::<f32>()
        .try_into_vec()
        .unwrap_or_default();
    debug_assert_eq!(values.len(), batch * channels * height * width);
    values
        .chunks(channels * height * width)
        .map(|image| {
            image
                .iter()
                .map(|v| ((v + 1.0) * 127.5).clamp(0.0, 255.0) as u8)
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use diffrep_schedule::{Spacing, respaced};

    fn options(eta: f64) -> SampleOptions {
        SampleOptions {
            seed: 3,
            shape: [1, 4, 4],
            eta,
            variance: VarianceKind::FixedSmall,
        }
    }

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
        let full = Schedule::linear(1000);
        let short = respaced(&full, &Spacing::parse("ddim20", 1000).unwrap()).unwrap();
        for eta in [0.0, 1.0] {
            let mut steps = Vec::new();
            let x = ddim(
                &short,
                &options(eta),
                &[0, 1],
                &device,
                oracle(&full),
                |n, of| steps.push((n, of)),
            );
            let values: Vec<f32> = x.into_data().try_into_vec().unwrap();
            assert!(
                values.iter().all(|v| (v - 0.5).abs() < 1e-3),
                "eta {eta}: {values:?}"
            );
            assert_eq!(steps.last(), Some(&(20, 20)));
        }
    }

    #[test]
    fn an_image_does_not_depend_on_its_batch() {
        let device = Device::flex();
        let full = Schedule::linear(1000);
        let short = respaced(&full, &Spacing::parse("10", 1000).unwrap()).unwrap();
        let run = |ids: &[u64]| {
            let x = ddim(
                &short,
                &options(1.0),
                ids,
                &device,
                |x, _| x * 0.3,
                |_, _| {},
            );
            x.into_data().try_into_vec::<f32>().unwrap()
        };
        assert_eq!(run(&[4, 9])[16..], run(&[9])[..]);
        assert_ne!(run(&[4]), run(&[9]));
    }

    #[test]
    fn bytes_truncate_and_put_channels_last() {
        let device = Device::flex();
        let x = Tensor::<4>::from_floats([[[[-2.0, 0.0]], [[1.0, 0.999]]]], &device);
        assert_eq!(to_bytes(x), vec![vec![0, 255, 127, 254]]);
    }
}
