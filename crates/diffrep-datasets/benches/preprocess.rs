//! What one image costs on the way to a network: decoding, the crops, and the conversion to numbers.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;
use std::path::{Path, PathBuf};

use criterion::{Criterion, criterion_group, criterion_main};
use diffrep_datasets::{
    Channels, Crop, Draw, Filter, Fit, Image, JpegDecoder, Normalise, Preprocess,
    RandomResizedCrop, Transform, center_crop, decode, decode_with, resize,
};

fn file(name: &str) -> (PathBuf, Vec<u8>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/preprocess")
        .join(name);
    let bytes = std::fs::read(&path).expect("the fixtures are part of the repository");
    (path, bytes)
}

fn image(name: &str) -> Image {
    let (path, bytes) = file(name);
    decode(&path, &bytes).expect("the fixtures can be decoded")
}

fn decoding(criterion: &mut Criterion) {
    for name in [
        "jpg_420.jpg",
        "jpg_progressive.jpg",
        "jpg_cmyk.jpg",
        "00_500x375.png",
    ] {
        let (path, bytes) = file(name);
        let mut group = criterion.benchmark_group(format!("decode {name}"));
        for decoder in [JpegDecoder::Exact, JpegDecoder::Approximate] {
            group.bench_function(format!("{decoder:?}"), |bencher| {
                bencher.iter(|| black_box(decode_with(decoder, &path, &bytes)));
            });
        }
        group.finish();
    }
}

fn resampling(criterion: &mut Criterion) {
    let photograph = image("00_500x375.png");
    let mut group = criterion.benchmark_group("500x375");
    for (name, filter, width, height) in [
        ("box to 250x187", Filter::Box, 250, 187),
        ("box to 250x188, odd rows", Filter::Box, 250, 188),
        ("bilinear to 341x256", Filter::Bilinear, 341, 256),
        ("bicubic to 341x256", Filter::Bicubic, 341, 256),
        ("bicubic to 85x64", Filter::Bicubic, 85, 64),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(resize(&photograph, width, height, filter)));
        });
    }
    for size in [64, 256] {
        group.bench_function(format!("center crop {size}"), |bencher| {
            bencher.iter(|| black_box(center_crop(&photograph, size)));
        });
    }
    group.finish();
}

fn inputs(criterion: &mut Criterion) {
    let photograph = image("00_500x375.png");
    let preprocess = Preprocess {
        size: 256,
        channels: Channels::Rgb,
        fit: Fit::CenterCrop,
    };
    let mut out = vec![0.0; preprocess.len()];
    criterion.bench_function("input of the U-Net, 256", |bencher| {
        bencher.iter(|| preprocess.write(&photograph, true, black_box(&mut out)));
    });
    let transform = Transform {
        size: 224,
        crop: Crop::RandomResized(RandomResizedCrop::default()),
        flip: 0.5,
        normalise: Normalise::ImageNet,
    };
    let mut out = vec![0.0; transform.len()];
    let mut epoch = 0;
    criterion.bench_function("random resized crop, 224", |bencher| {
        bencher.iter(|| {
            let draw = Draw {
                seed: 1,
                sample: 2,
                epoch,
            };
            epoch += 1;
            transform.write(&photograph, draw, black_box(&mut out));
        });
    });
}

criterion_group!(benches, decoding, resampling, inputs);
criterion_main!(benches);
