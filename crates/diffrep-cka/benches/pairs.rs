//! What a batch costs on either path, where the two meet, and what neighbours cost.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use diffrep_cka::{
    Alignment, Estimator, Kernel, Layer, Options, Path, Precision, align_within, within,
};
use ndarray::Array2;

fn features(layers: usize, rows: usize, columns: usize) -> Vec<Array2<f32>> {
    let layer = |seed| {
        Array2::from_shape_fn((rows, columns), |(i, j)| {
            ((i * i + 31 * j * (seed + 1)) as f32).sin()
        })
    };
    (0..layers).map(layer).collect()
}

fn paths(criterion: &mut Criterion) {
    for (layers, rows, columns) in [(8, 256, 1024), (8, 1024, 128)] {
        let features = features(layers, rows, columns);
        let named: Vec<Layer<'_>> = features
            .iter()
            .map(|layer| Layer::new("", layer.view()))
            .collect();
        let mut group = criterion.benchmark_group(format!("{layers}x{rows}x{columns}"));
        group.sample_size(10);
        for path in [Path::Gram, Path::Covariance] {
            for precision in [Precision::Double, Precision::Single] {
                let options = Options {
                    path,
                    precision,
                    ..Options::new(Estimator::Unbiased)
                };
                group.bench_function(format!("{path:?} {precision:?}"), |bencher| {
                    bencher.iter(|| black_box(within(&named, &options)));
                });
            }
        }
        let options = Options {
            kernel: Kernel::Rbf { fraction: 0.5 },
            ..Options::default()
        };
        group.bench_function("RBF", |bencher| {
            bencher.iter(|| black_box(within(&named, &options)));
        });
        group.bench_function("CKNNA of 10 neighbours", |bencher| {
            bencher.iter(|| {
                black_box(align_within(
                    &named,
                    Alignment::Cknna,
                    10,
                    Precision::Double,
                ))
            });
        });
        group.finish();
    }
}

criterion_group!(benches, paths);
criterion_main!(benches);
