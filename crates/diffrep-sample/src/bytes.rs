use burn::tensor::Tensor;

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
    use burn::tensor::Device;

    #[test]
    fn bytes_truncate_and_put_channels_last() {
        let device = Device::flex();
        let x = Tensor::<4>::from_floats([[[[-2.0, 0.0]], [[1.0, 0.999]]]], &device);
        assert_eq!(to_bytes(x), vec![vec![0, 255, 127, 254]]);
    }
}
