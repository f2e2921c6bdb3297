//! Each kernel beside burn's own operator, on the shapes of the mini network (micro-batch of 16).
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2dConfig;
use burn::tensor::module::avg_pool2d;
use burn::tensor::ops::AvgPoolOptions;
use burn::tensor::{Device, Distribution, Tensor};
use criterion::{Criterion, criterion_group, criterion_main};
use diffrep_ops::{Activation, PackedConv, conv2d_same, gelu, group_norm, halve};

const BATCH: usize = 16;

fn uniform<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), &Device::flex())
}

fn convolutions(criterion: &mut Criterion) {
    for (channels, side) in [(32, 32), (32, 16), (64, 8)] {
        let name = format!("3x3 {channels}->{channels}, {side}x{side}");
        let mut group = criterion.benchmark_group(name);
        let x = uniform([BATCH, channels, side, side]);
        let theirs = Conv2dConfig::new([channels, channels], [3, 3])
            .with_padding(PaddingConfig2d::Same)
            .init(&Device::flex());
        let (weight, bias) = (uniform([channels, channels, 3, 3]), uniform([channels]));
        group.bench_function("diffrep", |bencher| {
            bencher.iter(|| {
                let y = conv2d_same(x.clone(), weight.clone(), bias.clone());
                black_box(y.into_data())
            });
        });
        group.bench_function("burn", |bencher| {
            bencher.iter(|| black_box(theirs.forward(x.clone()).into_data()));
        });
        group.finish();
    }
}

/// The hidden layer of an attention head: 128 images of 17 tokens.
fn gelus(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gelu, 128 x 17 x 128");
    let x = uniform([128, 17, 128]);
    group.bench_function("diffrep", |bencher| {
        bencher.iter(|| black_box(gelu(x.clone()).into_data()));
    });
    group.bench_function("burn", |bencher| {
        bencher.iter(|| black_box(burn::tensor::activation::gelu(x.clone()).into_data()));
    });
    group.finish();
}

/// Of the paper's network of 256x256 images, one image at a time.
fn packed(criterion: &mut Criterion) {
    for (channels, kernel, side) in [
        (256, 3, 128),
        (512, 3, 64),
        (512, 3, 32),
        (1024, 3, 16),
        (1024, 3, 8),
        (1024, 1, 16),
    ] {
        let name = format!("{kernel}x{kernel} {channels}->{channels}, {side}x{side}, one image");
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10);
        let x = uniform([1, channels, side, side]);
        let weight = uniform([channels, channels, kernel, kernel]);
        let bias = uniform([channels]);
        let conv = PackedConv::new(weight.clone(), bias.clone(), [side, side]);
        group.bench_function("packed", |bencher| {
            bencher.iter(|| black_box(conv.forward(x.clone()).dims()));
        });
        group.bench_function("plain", |bencher| {
            bencher.iter(|| black_box(conv2d_same(x.clone(), weight.clone(), bias.clone()).dims()));
        });
        group.finish();
    }
}

fn others(criterion: &mut Criterion) {
    let x = uniform([BATCH, 32, 32, 32]);
    let (scale, shift) = (uniform([BATCH, 32]), uniform([BATCH, 32]));
    criterion.bench_function("group norm, scale, shift, SiLU, 32x32", |bencher| {
        bencher.iter(|| {
            let (x, scale, shift) = (x.clone(), scale.clone(), shift.clone());
            black_box(group_norm(x, scale, shift, 32, 1e-5, Activation::Silu).into_data())
        });
    });
    let mut group = criterion.benchmark_group("halve 32x32");
    group.bench_function("diffrep", |bencher| {
        bencher.iter(|| black_box(halve(x.clone()).into_data()));
    });
    group.bench_function("burn", |bencher| {
        let options = || AvgPoolOptions::new([2, 2]).with_stride([2, 2]);
        bencher.iter(|| black_box(avg_pool2d(x.clone(), options()).into_data()));
    });
    group.finish();
}

criterion_group!(benches, convolutions, gelus, packed, others);
criterion_main!(benches);
