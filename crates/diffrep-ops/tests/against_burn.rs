//! Every kernel and its gradients against burn's own operators, which are the definition.
//! Run with `--features flex` (the workspace build enables it).

use burn::tensor::{
    Device, Tensor, TensorData,
    activation::silu,
    module::{avg_pool2d, conv2d},
    ops::{AvgPoolOptions, ConvOptions},
};
use diffrep_ops::{Activation, conv2d_same, double, gelu, group_norm, halve};
use proptest::prelude::*;

fn device() -> Device {
    Device::flex().autodiff()
}

/// Deterministic values of order one.
fn values<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
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
    let tensor = Tensor::from_data(TensorData::new(data, shape), device);
    if device.is_autodiff() {
        tensor.require_grad()
    } else {
        tensor
    }
}

fn check<const D: usize>(found: Tensor<D>, expected: Tensor<D>, what: &str) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let found = found.into_data().try_into_vec::<f32>().unwrap();
    let expected = expected.into_data().try_into_vec::<f32>().unwrap();
    let scale = expected.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
        assert!(
            (a - b).abs() <= 2e-5 * scale,
            "{what}[{i}]: {a} instead of {b}, scale {scale}"
        );
    }
}

fn check_conv([batch, inputs, outputs, height, width, kernel]: [usize; 6]) {
    let device = device();
    let x = values([batch, inputs, height, width], 1, &device);
    let weight = values([outputs, inputs, kernel, kernel], 2, &device);
    let bias = values([outputs], 3, &device);
    let probe = values([batch, outputs, height, width], 4, &device).detach();
    let found = conv2d_same(x.clone(), weight.clone(), bias.clone());
    let options = ConvOptions::new([1, 1], [kernel / 2, kernel / 2], [1, 1], 1);
    let expected = conv2d(x.clone(), weight.clone(), Some(bias.clone()), options);
    check(found.clone().detach(), expected.clone().detach(), "forward");
    let found = (found * probe.clone()).sum().backward();
    let expected = (expected * probe).sum().backward();
    check(
        x.grad(&found).unwrap(),
        x.grad(&expected).unwrap(),
        "gradient for x",
    );
    check(
        weight.grad(&found).unwrap(),
        weight.grad(&expected).unwrap(),
        "gradient for weight",
    );
    check(
        bias.grad(&found).unwrap(),
        bias.grad(&expected).unwrap(),
        "gradient for bias",
    );
}

#[test]
fn convolution_of_the_mini_network() {
    for shape in [
        [2, 1, 32, 32, 32, 3],
        [3, 32, 32, 32, 32, 3],
        [5, 64, 64, 16, 16, 3],
        [9, 128, 64, 8, 8, 3],
        [2, 64, 32, 32, 32, 1],
        [2, 32, 1, 32, 32, 3],
        [1, 7, 5, 3, 24, 3],
    ] {
        check_conv(shape);
    }
}

fn check_norm([batch, channels, height, width, groups]: [usize; 5], activation: Activation) {
    let device = device();
    let x = values([batch, channels, height, width], 5, &device);
    let scale = values([batch, channels], 6, &device);
    let shift = values([batch, channels], 7, &device);
    let probe = values([batch, channels, height, width], 8, &device).detach();
    let found = group_norm(
        x.clone(),
        scale.clone(),
        shift.clone(),
        groups,
        1e-5,
        activation,
    );
    let grouped = x
        .clone()
        .reshape([batch, groups, channels / groups * height * width]);
    let centred = grouped.clone() - grouped.mean_dim(2);
    let variance = centred.clone().square().mean_dim(2);
    let normal = (centred / (variance + 1e-5).sqrt()).reshape([batch, channels, height, width]);
    let z = normal * scale.clone().reshape([batch, channels, 1, 1])
        + shift.clone().reshape([batch, channels, 1, 1]);
    let expected = match activation {
        Activation::Identity => z,
        Activation::Silu => silu(z),
    };
    check(found.clone().detach(), expected.clone().detach(), "forward");
    let found = (found * probe.clone()).sum().backward();
    let expected = (expected * probe).sum().backward();
    check(
        x.grad(&found).unwrap(),
        x.grad(&expected).unwrap(),
        "gradient for x",
    );
    check(
        scale.grad(&found).unwrap(),
        scale.grad(&expected).unwrap(),
        "gradient for scale",
    );
    check(
        shift.grad(&found).unwrap(),
        shift.grad(&expected).unwrap(),
        "gradient for shift",
    );
}

#[test]
fn normalisation_of_the_mini_network() {
    for activation in [Activation::Identity, Activation::Silu] {
        check_norm([2, 32, 32, 32, 32], activation);
        check_norm([3, 64, 8, 8, 32], activation);
        check_norm([1, 96, 4, 4, 32], activation);
    }
}

#[test]
fn gelu_of_every_shape_and_size() {
    let device = device();
    let edges = [
        0.0, -0.0, 1.414, -1.415, 2.5, -2.5, 5.0, -5.0, 5.7, -5.7, 1e-30,
    ];
    let edges = Tensor::<1>::from_data(edges, &device).require_grad();
    let large = Tensor::<1>::from_data([40.0f32, -40.0, f32::NAN], &device);
    let large = gelu(large).into_data().try_into_vec::<f32>().unwrap();
    assert!(large[0] == 40.0 && large[1] == 0.0 && large[2].is_nan());
    fn both<const D: usize>(x: Tensor<D>) {
        let (found, expected) = (gelu(x.clone()), burn::tensor::activation::gelu(x.clone()));
        check(found.clone().detach(), expected.clone().detach(), "gelu");
        let (found, expected) = (found.sum().backward(), expected.sum().backward());
        check(
            x.grad(&found).unwrap(),
            x.grad(&expected).unwrap(),
            "gradient of gelu",
        );
    }
    both(edges);
    both(values([3, 50, 1], 22, &device));
    both(values([2, 5, 40, 60], 23, &device));
    // Not contiguous.
    let x = values([40, 30], 24, &device);
    let swapped = gelu(x.clone().transpose()).transpose();
    check(swapped.detach(), gelu(x).detach(), "transposed");
}

fn check_resampling([batch, channels, height, width]: [usize; 4]) {
    let device = device();
    let x = values([batch, channels, height, width], 12, &device);
    let pooled = avg_pool2d(x.clone(), AvgPoolOptions::new([2, 2]).with_stride([2, 2]));
    let repeated = x
        .clone()
        .reshape([batch, channels, height, 1, width, 1])
        .expand([batch, channels, height, 2, width, 2])
        .reshape([batch, channels, 2 * height, 2 * width]);
    for (found, expected, what) in [
        (halve(x.clone()), pooled, "half"),
        (double(x.clone()), repeated, "double"),
    ] {
        check(found.clone().detach(), expected.clone().detach(), what);
        let probe = values(found.dims(), 13, &device).detach();
        let found = (found * probe.clone()).sum().backward();
        let expected = (expected * probe).sum().backward();
        check(x.grad(&found).unwrap(), x.grad(&expected).unwrap(), what);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn resampling(
        batch in 1usize..4, channels in 1usize..12, height in 2usize..9, width in 2usize..33,
    ) {
        check_resampling([batch, channels, height, width]);
    }

    #[test]
    fn convolution(
        batch in 1usize..5, inputs in 1usize..12, outputs in 1usize..20,
        height in 1usize..9, width in 1usize..33, odd in 0usize..2,
    ) {
        check_conv([batch, inputs, outputs, height, width, 1 + 2 * odd]);
    }

    #[test]
    fn normalisation(
        batch in 1usize..4, per_group in 1usize..4, groups in 1usize..5,
        height in 2usize..7, width in 2usize..19, silu in any::<bool>(),
    ) {
        let activation = if silu { Activation::Silu } else { Activation::Identity };
        check_norm([batch, per_group * groups, height, width, groups], activation);
    }

    #[test]
    fn an_image_has_the_same_bits_in_any_batch(batch in 2usize..6, place in 0usize..6) {
        let device = Device::flex();
        let place = place % batch;
        let x = values([batch, 32, 16, 16], 9, &device);
        let weight = values([16, 32, 3, 3], 10, &device);
        let bias = values([16], 11, &device);
        let scale = Tensor::<2>::ones([batch, 16], &device);
        let run = |x: Tensor<4>, scale: Tensor<2>| {
            let y = conv2d_same(x, weight.clone(), bias.clone());
            group_norm(y, scale.clone(), scale, 8, 1e-5, Activation::Silu)
        };
        let whole = run(x.clone(), scale.clone()).narrow(0, place, 1).into_data();
        let alone = run(x.narrow(0, place, 1), scale.narrow(0, place, 1)).into_data();
        prop_assert_eq!(whole.try_to_vec::<f32>().unwrap(), alone.try_to_vec::<f32>().unwrap());
    }
}
