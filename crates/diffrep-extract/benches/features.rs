//! Features of 16 images by the mini network: early exit against the whole network.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use burn::tensor::Device;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use diffrep_datasets::{Channels, Dataset, Fit, Pixels, Preprocess, Split};
use diffrep_extract::{Batch, Extraction, Noise, Noising, Setting, Settings, Views, features};
use diffrep_schedule::Schedule;
use diffrep_store::FeatureDtype;
use diffrep_taps::Encoder;
use diffrep_unet::{UNetConfig, random_network};

const IMAGES: usize = 16;

fn by_block(criterion: &mut Criterion) {
    let device = Device::flex();
    let network =
        random_network(&UNetConfig::mini(), 0, &device).expect("the mini network is sound");
    let schedule = Schedule::linear(1000);
    let pixels = Pixels {
        height: 28,
        width: 28,
        channels: 1,
        data: (0..IMAGES * 28 * 28).map(|i| (i * i % 251) as u8).collect(),
    };
    let ids = (0..IMAGES as u64).collect();
    let dataset = Dataset::from_pixels(
        Split::Train,
        vec!["one".into()],
        vec![0; IMAGES],
        ids,
        pixels,
    );
    let indices: Vec<usize> = (0..IMAGES).collect();
    let mut group = criterion.benchmark_group("features of 16 images");
    group.throughput(Throughput::Elements(IMAGES as u64));
    for block in [1, 7, 13] {
        let wanted: Setting =
            serde_json::from_value(serde_json::json!({"t": 10, "block": block, "pool": 4}))
                .expect("a setting");
        let settings =
            Settings::new([wanted], &network.taps(), &schedule).expect("the network has it");
        let job = Extraction {
            dataset: &dataset,
            preprocess: Preprocess {
                size: 32,
                channels: Channels::Grey,
                fit: Fit::PadTo,
            },
            schedule: &schedule,
            settings: &settings,
            noising: Noising { seed: 0, draw: 0 },
            noise: Noise::Seeded,
            views: Views::default(),
            flip: false,
            encoder_hash: "random".into(),
            dtype: FeatureDtype::F32,
            shard_rows: IMAGES,
            missing: serde_json::Value::Null,
            batch: Batch::default(),
            workers: 1,
        };
        group.bench_function(format!("up to block {block}"), |bencher| {
            bencher.iter(|| black_box(features(&network, &job, &indices, &device)));
        });
    }
    group.finish();
}

criterion_group!(benches, by_block);
criterion_main!(benches);
