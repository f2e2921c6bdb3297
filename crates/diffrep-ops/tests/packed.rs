//! Packed convolutions against plain ones, which `against_burn.rs` holds to burn's.
//! Run with `--features flex` (the workspace build enables it).

use burn::tensor::{Device, Tensor, TensorData};
use diffrep_ops::{PackedConv, conv2d_same};

/// Deterministic values between -1 and 1.
fn values<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let count = shape.iter().product();
    let data: Vec<f32> = (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::from_data(TensorData::new(data, shape), &Device::flex())
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

/// The largest difference relative to the largest value.
fn error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    let most = found
        .iter()
        .zip(expected)
        .fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
    most / scale
}

struct Case {
    batch: usize,
    channels: [usize; 2],
    size: [usize; 2],
    kernel: usize,
}

impl Case {
    fn conv(&self) -> (PackedConv, Tensor<4>, Tensor<1>) {
        let [inputs, outputs] = self.channels;
        let weight = values([outputs, inputs, self.kernel, self.kernel], 2);
        let bias = values([outputs], 3);
        let conv = PackedConv::new(weight.clone(), bias.clone(), self.size);
        (conv, weight, bias)
    }

    fn x(&self) -> Tensor<4> {
        values(
            [self.batch, self.channels[0], self.size[0], self.size[1]],
            1,
        )
    }

    fn check(&self) {
        let (conv, weight, bias) = self.conv();
        let expected = conv2d_same(self.x(), weight, bias);
        let addend = values(expected.dims(), 4);
        let found = error(&numbers(conv.forward(self.x())), &numbers(expected.clone()));
        let name = format!(
            "{:?} {:?}, kernel {}",
            self.channels, self.size, self.kernel
        );
        // The bound that a form must hold to be used at all; a broken transform is off by one.
        assert!(found < 3e-5, "{name}: {found}");
        let plus = numbers(conv.forward_plus(self.x(), addend.clone()));
        let found = error(&plus, &numbers(expected + addend));
        assert!(found < 3e-5, "{name} plus an addend: {found}");
    }
}

#[test]
fn forms_agree_with_the_plain_convolution() {
    // Whole vectors of tiles side by side, several rows of tiles in a vector, tiles that hang over
    // the edge, vectors that hang over the last tile, channels that fill no block.
    for (batch, channels, size, kernel) in [
        (1, [128, 128], [64, 64], 3),
        (2, [128, 136], [32, 32], 3),
        (1, [130, 129], [33, 35], 3),
        (1, [128, 128], [128, 66], 3),
        (1, [256, 128], [16, 16], 3),
        (3, [128, 128], [8, 8], 3),
        (2, [128, 130], [7, 5], 3),
        (1, [128, 128], [4, 4], 3),
        (1, [128, 128], [1, 1], 3),
        (2, [128, 384], [16, 16], 1),
        (1, [131, 128], [5, 7], 1),
    ] {
        Case {
            batch,
            channels,
            size,
            kernel,
        }
        .check();
    }
}

#[test]
fn few_channels_are_left_to_the_plain_convolution_to_the_bit() {
    let case = Case {
        batch: 2,
        channels: [64, 256],
        size: [32, 32],
        kernel: 3,
    };
    let (conv, weight, bias) = case.conv();
    let expected = numbers(conv2d_same(case.x(), weight, bias));
    assert_eq!(numbers(conv.forward(case.x())), expected);
}

#[test]
fn the_same_image_gives_the_same_bits_in_any_batch_and_on_any_number_of_threads() {
    for (size, kernel) in [([64, 64], 3), ([16, 16], 3), ([8, 8], 3), ([8, 8], 1)] {
        let case = Case {
            batch: 5,
            channels: [128, 128],
            size,
            kernel,
        };
        let (conv, ..) = case.conv();
        let pool = |threads| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap()
        };
        let whole = pool(3).install(|| numbers(conv.forward(case.x())));
        let alone = pool(1).install(|| {
            (0..case.batch)
                .flat_map(|image| numbers(conv.forward(case.x().narrow(0, image, 1))))
                .collect::<Vec<f32>>()
        });
        assert!(whole == alone, "{size:?}, kernel {kernel}");
    }
}

#[test]
#[should_panic(expected = "another number of channels")]
fn a_map_of_other_channels_is_refused() {
    let case = Case {
        batch: 1,
        channels: [128, 128],
        size: [8, 8],
        kernel: 3,
    };
    case.conv().0.forward(values([1, 129, 8, 8], 1));
}
