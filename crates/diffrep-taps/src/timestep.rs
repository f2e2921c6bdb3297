use burn::tensor::{Tensor, TensorData};

/// What a timestep becomes before it meets weights: sines and cosines of t / 10000^(i / n).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sinusoids {
    /// How many numbers a timestep becomes; if that is odd, the last is 0.
    pub channels: usize,
    /// Whether sines stand before cosines.
    pub sines_first: bool,
    /// Taken off the number n of frequencies in the exponent: 1 makes the last frequency 1/10000.
    pub frequency_shift: f64,
}

impl Sinusoids {
    /// As in guided diffusion.
    pub fn cosines_first(channels: usize) -> Self {
        Self {
            channels,
            sines_first: false,
            frequency_shift: 0.0,
        }
    }

    /// # Shapes
    ///
    /// - `t`: `[batch]`, may be fractional; result: `[batch, channels]`
    pub fn of(&self, t: Tensor<1>) -> Tensor<2> {
        let [batch] = t.dims();
        let half = self.channels / 2;
        let device = t.device();
        let span = half as f64 - self.frequency_shift;
        let frequencies: Vec<f32> = (0..half)
            .map(|i| (-(10_000f64.ln()) * i as f64 / span).exp() as f32)
            .collect();
        let frequencies = Tensor::<2>::from_data(TensorData::new(frequencies, [1, half]), &device);
        let angles = t.reshape([batch, 1]) * frequencies;
        let mut parts = vec![angles.clone().cos(), angles.sin()];
        if self.sines_first {
            parts.reverse();
        }
        if self.channels % 2 == 1 {
            parts.push(Tensor::zeros([batch, 1], &device));
        }
        Tensor::cat(parts, 1)
    }
}

/// Cosines, then sines, of t / 10000^(i / half): [`Sinusoids::cosines_first`].
///
/// # Shapes
///
/// - `t`: `[batch]`; result: `[batch, channels]`, with a last column of zeros if `channels` is odd
pub fn timestep_embedding(t: Tensor<1>, channels: usize) -> Tensor<2> {
    Sinusoids::cosines_first(channels).of(t)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// Computed by diffusers 0.42, `get_timestep_embedding(torch.tensor([3.]), 8,
    /// flip_sin_to_cos=False, downscale_freq_shift=1)`.
    #[test]
    fn sines_may_come_first_and_the_last_frequency_be_smallest() {
        let waves = Sinusoids {
            sines_first: true,
            frequency_shift: 1.0,
            ..Sinusoids::cosines_first(8)
        };
        let t = Tensor::from_floats([3.0], &Device::flex());
        let found: Vec<f32> = waves.of(t).into_data().try_into_vec().unwrap();
        let expected = [
            0.14112, 0.1387981, 0.0064633, 0.0003, -0.9899925, 0.9903207, 0.9999791, 0.9999999,
        ];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }
}
