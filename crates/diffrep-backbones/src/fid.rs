//! Images as the Inception network of FID takes them, in the two ways that are in use. They differ,
//! and so do the distances: one is to be named with every number.

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Side of the images that the network of FID takes.
pub const FID_SIZE: usize = 299;

/// How images are brought to the size and range of the network. Both are bilinear and neither
/// filters when it makes an image smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FidInput {
    /// pytorch-fid: pixels have their centres at halves, and 2 * (x / 255) - 1.
    PytorchFid,
    /// The TensorFlow graph that guided diffusion's evaluator runs: `resize_bilinear` of TensorFlow
    /// 1, which puts pixels on their upper left corners, and (x - 128) / 128.
    TensorFlow,
}

/// Pixels to what the network of FID takes.
///
/// # Shapes
///
/// - `pixels`: `[batch, 3, height, width]` from 0 to 255
/// - result: `[batch, 3, 299, 299]`
///
/// # Panics
///
/// When an image has no pixels.
pub fn fid_input(pixels: Tensor<4>, how: FidInput) -> Tensor<4> {
    let resized = resize(pixels, FID_SIZE, how);
    match how {
        FidInput::PytorchFid => resized * (2.0 / 255.0) - 1.0,
        FidInput::TensorFlow => (resized - 128.0) / 128.0,
    }
}

/// `[batch, channels, height, width]` to `[batch, channels, size, size]`, as products with a matrix
/// of two weights a row on either side.
fn resize(pixels: Tensor<4>, size: usize, how: FidInput) -> Tensor<4> {
    let [batch, channels, height, width] = pixels.dims();
    assert!(height > 0 && width > 0, "an image without pixels");
    let device = pixels.device();
    let rows = weights(height, size, how, &device);
    let columns = weights(width, size, how, &device);
    let wide = pixels
        .reshape([batch * channels * height, width])
        .matmul(columns.transpose())
        .reshape([batch * channels, height, size]);
    rows.unsqueeze::<3>()
        .matmul(wide)
        .reshape([batch, channels, size, size])
}

/// What each of `to` pixels takes of `from` pixels, `[to, from]`. Positions are computed in f32, as
/// both references do.
fn weights(from: usize, to: usize, how: FidInput, device: &Device) -> Tensor<2> {
    let scale = from as f32 / to as f32;
    let mut weights = vec![0.0f32; to * from];
    for (place, row) in weights.chunks_exact_mut(from).enumerate() {
        let position = match how {
            FidInput::PytorchFid => ((place as f32 + 0.5) * scale - 0.5).max(0.0),
            FidInput::TensorFlow => place as f32 * scale,
        };
        let first = (position as usize).min(from - 1);
        let share = position - first as f32;
        row[first] += 1.0 - share;
        row[(first + 1).min(from - 1)] += share;
    }
    Tensor::from_data(TensorData::new(weights, [to, from]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(how: FidInput) -> Vec<f32> {
        let device = Device::flex();
        let image = Tensor::<4>::from_floats([[[[0.0, 4.0], [0.0, 4.0]]]], &device);
        let resized = resize(image, 4, how);
        resized.into_data().try_to_vec::<f32>().unwrap()[..4].to_vec()
    }

    /// Worked out by hand: the two differ by half a pixel.
    #[test]
    fn the_two_ways_put_pixels_in_different_places() {
        assert_eq!(ramp(FidInput::PytorchFid), [0.0, 1.0, 3.0, 4.0]);
        assert_eq!(ramp(FidInput::TensorFlow), [0.0, 2.0, 4.0, 4.0]);
    }

    #[test]
    fn an_image_of_the_right_size_keeps_its_pixels() {
        let device = Device::flex();
        for how in [FidInput::PytorchFid, FidInput::TensorFlow] {
            let eye = weights(FID_SIZE, FID_SIZE, how, &device);
            let off = (eye - Tensor::eye(FID_SIZE, &device)).abs().max();
            assert_eq!(off.into_scalar::<f32>(), 0.0, "{how:?}");
        }
    }
}
