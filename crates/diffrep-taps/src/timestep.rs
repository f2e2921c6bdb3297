use burn::tensor::{Tensor, TensorData};

/// Sinusoidal embedding of timesteps: cosines, then sines, of t / 10000^(i / half).
///
/// # Shapes
///
/// - `t`: `[batch]`; result: `[batch, channels]`, with a last column of zeros if `channels` is odd
pub fn timestep_embedding(t: Tensor<1>, channels: usize) -> Tensor<2> {
    let [batch] = t.dims();
    let half = channels / 2;
    let device = t.device();
    let frequencies: Vec<f32> = (0..half)
        .map(|i| (-(10_000f64.ln()) * i as f64 / half as f64).exp() as f32)
        .collect();
    let frequencies = Tensor::<2>::from_data(TensorData::new(frequencies, [1, half]), &device);
    let angles = t.reshape([batch, 1]) * frequencies;
    let mut parts = vec![angles.clone().cos(), angles.sin()];
    if channels % 2 == 1 {
        parts.push(Tensor::zeros([batch, 1], &device));
    }
    Tensor::cat(parts, 1)
}
