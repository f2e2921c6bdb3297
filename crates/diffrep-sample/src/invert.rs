//! From images to the noise that DDIM makes them of.

use burn::tensor::Tensor;
use diffrep_schedule::{Prediction, Schedule, VarianceKind};

/// The noise from which deterministic DDIM draws `images`, followed backwards (the reference's
/// `ddim_reverse_sample`, without clipping): exact in the limit of many steps.
///
/// # Shapes
///
/// - `images`, result: `[batch, channels, height, width]`
pub fn invert(
    schedule: &Schedule,
    variance: VarianceKind,
    images: Tensor<4>,
    predict: impl Fn(Tensor<4>, &[usize]) -> Tensor<4>,
    mut progress: impl FnMut(usize, usize),
) -> Tensor<4> {
    let [batch, ..] = images.dims();
    let steps = schedule.steps();
    let mut x = images;
    for index in 0..steps {
        let t = vec![index; batch];
        let original = vec![schedule.timestep_map[index]; batch];
        let output = predict(x.clone(), &original);
        let Prediction { x0, eps, .. } = Prediction::new(schedule, x, &t, output, variance, false);
        let next = schedule.alphas_cumprod_next[index];
        x = x0 * next.sqrt() + eps * (1.0 - next).sqrt();
        progress(index + 1, steps);
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SampleOptions, Sampler, trajectory};
    use burn::tensor::Device;

    /// A predictor for which images are normal with deviation 0.5: the exact noise is linear in x.
    fn predict(schedule: &Schedule) -> impl Fn(Tensor<4>, &[usize]) -> Tensor<4> + '_ {
        |x, t| {
            let bar = schedule.alphas_cumprod[t[0]];
            x * ((1.0 - bar).sqrt() / (0.25 * bar + 1.0 - bar))
        }
    }

    #[test]
    fn images_come_back_from_their_noise() {
        let device = Device::flex();
        let schedule = Schedule::linear(1000);
        let images = Tensor::<4>::from_floats([[[[-0.6, 0.1], [0.4, 0.05]]]], &device);
        let noise = invert(
            &schedule,
            VarianceKind::FixedSmall,
            images.clone(),
            predict(&schedule),
            |_, _| {},
        );
        // A deviation of 0.5 becomes one of 1.
        let values: Vec<f32> = noise.clone().into_data().try_into_vec().unwrap();
        assert!((values[0] + 1.2).abs() < 0.02, "{values:?}");
        let options = SampleOptions {
            seed: 0,
            shape: [1, 2, 2],
            sampler: Sampler::Ddim { eta: 0.0 },
            variance: VarianceKind::FixedSmall,
        };
        let zero = |_| -> Tensor<4> { unreachable!("DDIM without eta draws nothing") };
        let back = trajectory(
            &schedule,
            &options,
            noise,
            zero,
            predict(&schedule),
            None,
            |_, _| {},
        );
        let error: f32 = (back - images).abs().max().into_scalar();
        assert!(error < 5e-3, "{error}");
    }
}
