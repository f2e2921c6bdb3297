use burn::tensor::{Device, Tensor, TensorData};
use diffrep_rng::Key;

/// Standard normal noise for a batch: row i is the sequence named by `keys[i]`, so an image's
/// noise does not depend on the batch it is in.
///
/// # Shapes
///
/// - result: `[keys.len(), channels, height, width]`
pub fn noise_batch(
    keys: &[Key],
    [channels, height, width]: [usize; 3],
    device: &Device,
) -> Tensor<4> {
    let size = channels * height * width;
    let mut values = vec![0.0f32; keys.len() * size];
    for (key, row) in keys.iter().zip(values.chunks_mut(size)) {
        key.fill_normal(row);
    }
    Tensor::from_data(
        TensorData::new(values, [keys.len(), channels, height, width]),
        device,
    )
}
