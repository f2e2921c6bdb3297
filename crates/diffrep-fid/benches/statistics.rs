//! The metrics on features of the sizes that evaluations have, cut in number where that only repeats.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use diffrep_fid::{
    Features, Moments, NEIGHBOURS, Subsets, frechet_distance, kid, precision_recall,
};
use diffrep_rng::{Key, Stream};

/// Normal features whose deviations fall from 1 to 1/100.
fn features(seed: u64, rows: usize, dim: usize) -> Vec<f32> {
    let mut values = vec![0.0; rows * dim];
    Key::new(seed, Stream::Init).fill_normal(&mut values);
    for (index, value) in values.iter_mut().enumerate() {
        *value *= 0.01f32.powf((index % dim) as f32 / dim as f32);
    }
    values
}

fn moments(values: &[f32], dim: usize) -> Moments {
    let mut moments = Moments::new(dim).unwrap();
    moments.push(Features::new(values, dim).unwrap()).unwrap();
    moments
}

fn covariances(criterion: &mut Criterion) {
    let values = features(0, 1024, 2048);
    let mut group = criterion.benchmark_group("moments");
    group.sample_size(10);
    group.bench_function("1024 x 2048", |bencher| {
        bencher.iter(|| black_box(moments(&values, 2048)));
    });
    group.finish();
}

fn distances(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frechet");
    group.sample_size(10);
    for dim in [256, 2048] {
        let [a, b] = [1, 2].map(|seed| {
            let values = features(seed, dim + 500, dim);
            moments(&values, dim).finish(None).unwrap()
        });
        group.bench_function(format!("{dim}"), |bencher| {
            bencher.iter(|| black_box(frechet_distance(&a, &b).unwrap()));
        });
    }
    group.finish();
}

fn pairs(criterion: &mut Criterion) {
    let (a, b) = (features(3, 2048, 2048), features(4, 2048, 2048));
    let a = Features::new(&a, 2048).unwrap();
    let b = Features::new(&b, 2048).unwrap();
    let mut group = criterion.benchmark_group("pairs");
    group.sample_size(10);
    group.bench_function("precision and recall, 2048 x 2048", |bencher| {
        bencher.iter(|| black_box(precision_recall(a, b, (None, None), NEIGHBOURS).unwrap()));
    });
    let subsets = Subsets {
        count: 4,
        ..Subsets::default()
    };
    group.bench_function("KID, 4 subsets of 1000 x 2048", |bencher| {
        bencher.iter(|| black_box(kid(a, b, (None, None), subsets).unwrap()));
    });
    group.finish();
}

criterion_group!(benches, covariances, distances, pairs);
criterion_main!(benches);
