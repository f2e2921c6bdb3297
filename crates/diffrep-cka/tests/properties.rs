//! What holds for any features.

use diffrep_cka::*;
use ndarray::{Array2, ArrayView2};
use proptest::prelude::*;

/// Rounding of a quotient of f64 sums over a few thousand products, with room for cancellation in
/// HSIC_1, which loses as many digits as own similarity is small against the trace.
const ROUNDING: f64 = 1e-11;

fn matrix(rows: usize, columns: usize) -> impl Strategy<Value = Array2<f64>> {
    let values = prop::collection::vec(-3.0..3.0f64, rows * columns).no_shrink();
    values.prop_map(move |values| Array2::from_shape_vec((rows, columns), values).unwrap())
}

/// Two matrices with the same number of rows.
fn pair() -> impl Strategy<Value = (Array2<f64>, Array2<f64>)> {
    (5..24usize, 1..9usize, 1..9usize).prop_flat_map(|(n, d, e)| (matrix(n, d), matrix(n, e)))
}

/// A product of reflections, which is as general as orthogonal maps are.
fn orthogonal(vectors: &Array2<f64>) -> Array2<f64> {
    let d = vectors.ncols();
    let mut map = Array2::eye(d);
    for v in vectors.outer_iter() {
        let length = v.dot(&v).max(1e-12);
        let reflection = Array2::from_shape_fn((d, d), |(i, j)| {
            f64::from(u8::from(i == j)) - 2.0 * v[i] * v[j] / length
        });
        map = reflection.dot(&map);
    }
    map
}

fn options(estimator: Estimator, kernel: Kernel, path: Path) -> Options {
    Options {
        kernel,
        path,
        ..Options::new(estimator)
    }
}

/// Every way of computing a value that is not a minibatch.
fn ways() -> Vec<Options> {
    let mut ways = Vec::new();
    for estimator in [Estimator::Biased, Estimator::Unbiased] {
        ways.push(options(estimator, Kernel::Linear, Path::Gram));
        ways.push(options(estimator, Kernel::Linear, Path::Covariance));
        ways.push(options(
            estimator,
            Kernel::Rbf { fraction: 0.7 },
            Path::Auto,
        ));
    }
    ways
}

fn of(x: ArrayView2<'_, f64>, y: ArrayView2<'_, f64>, options: &Options) -> f64 {
    cka(x, y, options).unwrap()
}

fn layer<'a>(name: &str, features: &'a Array2<f64>) -> Layer<'a> {
    Layer::new(name, features.view())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn biased_similarity_lies_between_0_and_1((x, y) in pair()) {
        for path in [Path::Gram, Path::Covariance] {
            let value = of(x.view(), y.view(), &options(Estimator::Biased, Kernel::Linear, path));
            prop_assert!((-1e-12..=1.0 + 1e-12).contains(&value), "{value}");
        }
        let value = of(x.view(), y.view(), &options(Estimator::Biased, Kernel::Rbf { fraction: 0.5 }, Path::Auto));
        prop_assert!((-1e-12..=1.0 + 1e-12).contains(&value), "{value}");
    }

    #[test]
    fn similarity_is_symmetric_and_1_with_oneself((x, y) in pair()) {
        for way in ways() {
            let (xy, yx) = (of(x.view(), y.view(), &way), of(y.view(), x.view(), &way));
            prop_assert!((xy - yx).abs() < ROUNDING, "{way:?}: {xy} {yx}");
            let own = of(x.view(), x.view(), &way);
            prop_assert!((own - 1.0).abs() < ROUNDING, "{way:?}: {own}");
        }
    }

    #[test]
    fn nothing_changes_with_rotation_scale_and_origin(
        ((x, y), vectors) in pair().prop_flat_map(|(x, y)| { let d = x.ncols(); ((Just(x), Just(y)), matrix(d, d)) }),
        scale in prop_oneof![Just(1e-150), Just(1e120), 1e-3..1e3f64],
        origin in -5.0..5.0f64,
    ) {
        let moved = (x.dot(&orthogonal(&vectors)) + origin) * scale;
        for way in ways() {
            let (before, after) = (of(x.view(), y.view(), &way), of(moved.view(), y.view(), &way));
            prop_assert!((before - after).abs() < 1e-10, "{way:?}: {before} {after}");
        }
    }

    #[test]
    fn both_paths_give_the_same((x, y) in pair()) {
        for estimator in [Estimator::Biased, Estimator::Unbiased, Estimator::Minibatch { rows: 8 }] {
            let gram = of(x.view(), y.view(), &options(estimator, Kernel::Linear, Path::Gram));
            let covariance = of(x.view(), y.view(), &options(estimator, Kernel::Linear, Path::Covariance));
            prop_assert!((gram - covariance).abs() < ROUNDING, "{estimator:?}: {gram} {covariance}");
        }
    }

    #[test]
    fn streamed_covariances_give_what_all_rows_give((x, y) in pair(), most in 1..7usize) {
        for estimator in [Estimator::Biased, Estimator::Unbiased] {
            let mut streaming = Streaming::between(&["x"], &["y"], &Options::new(estimator)).unwrap();
            for start in (0..x.nrows()).step_by(most) {
                let rows = ndarray::s![start..x.nrows().min(start + most), ..];
                streaming.push(&[x.slice(rows).into()], &[y.slice(rows).into()]).unwrap();
            }
            let streamed = streaming.finish().unwrap();
            let full = of(x.view(), y.view(), &options(estimator, Kernel::Linear, Path::Gram));
            prop_assert!((streamed.values[[0, 0]] - full).abs() < ROUNDING, "{estimator:?}");
            prop_assert_eq!(streamed.samples, x.nrows());
        }
    }

    #[test]
    fn one_minibatch_is_the_unbiased_estimate((x, y) in pair()) {
        for kernel in [Kernel::Linear, Kernel::Rbf { fraction: 1.0 }] {
            let one = of(x.view(), y.view(), &options(Estimator::Minibatch { rows: 1000 }, kernel, Path::Auto));
            let full = of(x.view(), y.view(), &options(Estimator::Unbiased, kernel, Path::Auto));
            prop_assert!((one - full).abs() < 1e-13, "{one} {full}");
        }
    }

    #[test]
    fn the_order_of_samples_does_not_matter((x, y) in pair()) {
        let reversed = ndarray::s![..;-1, ..];
        for way in ways() {
            let (there, back) = (of(x.view(), y.view(), &way), of(x.slice(reversed), y.slice(reversed), &way));
            prop_assert!((there - back).abs() < ROUNDING, "{way:?}");
        }
    }

    #[test]
    fn one_network_is_two_networks_that_are_equal((x, y) in pair()) {
        let layers = [layer("x", &x), layer("y", &y)];
        for way in ways() {
            let (one, two) = (within(&layers, &way).unwrap(), between(&layers, &layers, &way).unwrap());
            prop_assert_eq!(&one.rows, &two.columns);
            for (a, b) in one.values.iter().zip(&two.values) {
                prop_assert!((a - b).abs() < ROUNDING, "{way:?}: {a} {b}");
            }
            prop_assert_eq!(&one.values, &one.values.t(), "symmetric to the bit");
        }
    }

    #[test]
    fn shared_neighbours_are_a_share_and_all_of_ones_own((x, y) in pair(), k in 2..4usize) {
        let layers = [layer("x", &x), layer("y", &y)];
        let knn = align_within(&layers, Alignment::MutualKnn, k, Precision::Double).unwrap();
        prop_assert!(knn.values.iter().all(|value| (0.0..=1.0).contains(value)));
        prop_assert_eq!(knn.values[[0, 0]], 1.0);
        prop_assert_eq!(knn.values[[0, 1]], knn.values[[1, 0]]);
        let between = align_between(&layers[..1], &layers[1..], Alignment::MutualKnn, k, Precision::Double).unwrap();
        prop_assert_eq!(between.values[[0, 0]], knn.values[[0, 1]]);
    }

    #[test]
    fn all_neighbours_make_cknna_unbiased_cka((x, y) in pair()) {
        // With k = n - 1 nothing is left out; CKA is then taken of the rows scaled to length 1.
        let unit = |x: &Array2<f64>| {
            let mut x = x.clone();
            x.outer_iter_mut().for_each(|mut row| { let length = row.dot(&row).sqrt(); row /= length; });
            x
        };
        // On a line, the directions of rows are two points: too few for an estimate to hold on to.
        prop_assume!(x.ncols() > 2 && y.ncols() > 2);
        let layers = [layer("x", &x), layer("y", &y)];
        let found = align_within(&layers, Alignment::Cknna, x.nrows() - 1, Precision::Double).unwrap();
        let expected = of(unit(&x).view(), unit(&y).view(), &Options::default());
        prop_assert!((found.values[[0, 1]] - expected).abs() < 1e-9, "{} {expected}", found.values[[0, 1]]);
    }
}

#[test]
fn unbiased_estimates_are_not_clipped() {
    // Of independent features, about half of all estimates must be negative.
    let mut state = 1u64;
    let mut draw = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    };
    let mut negative = 0;
    for _ in 0..100 {
        let x = Array2::from_shape_simple_fn((20, 5), &mut draw);
        let y = Array2::from_shape_simple_fn((20, 5), &mut draw);
        let values = [Path::Gram, Path::Covariance].map(|path| {
            of(
                x.view(),
                y.view(),
                &options(Estimator::Unbiased, Kernel::Linear, path),
            )
        });
        assert!((values[0] - values[1]).abs() < ROUNDING);
        negative += usize::from(values[0] < 0.0);
    }
    assert!(
        (20..80).contains(&negative),
        "{negative} of 100 are negative"
    );
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let features: Vec<Array2<f32>> = (0..5)
        .map(|layer| {
            Array2::from_shape_fn((700, 40 + layer), |(i, j)| {
                ((i * i + 31 * j * (layer + 1)) as f32).sin()
            })
        })
        .collect();
    let layers: Vec<Layer<'_>> = features
        .iter()
        .map(|layer| Layer::new("", layer.view()))
        .collect();
    let threads = |count| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(count)
            .build()
            .unwrap()
    };
    for way in ways() {
        for precision in [Precision::Double, Precision::Single] {
            let way = Options { precision, ..way };
            let one = threads(1).install(|| within(&layers, &way).unwrap());
            let many = threads(5).install(|| within(&layers, &way).unwrap());
            assert_eq!(one, many, "{way:?}");
        }
    }
}

#[test]
fn single_precision_errs_by_less_than_1e_6() {
    let features: Vec<Array2<f32>> = (1..4)
        .map(|layer| {
            Array2::from_shape_fn((300, 3000), |(i, j)| {
                ((i * i + 31 * j * layer) as f32).sin() + 2.0
            })
        })
        .collect();
    let layers: Vec<Layer<'_>> = features
        .iter()
        .map(|layer| Layer::new("", layer.view()))
        .collect();
    for way in ways() {
        let exact = within(&layers, &way).unwrap();
        let single = within(
            &layers,
            &Options {
                precision: Precision::Single,
                ..way
            },
        )
        .unwrap();
        let errors = exact
            .values
            .iter()
            .zip(&single.values)
            .map(|(a, b)| (a - b).abs());
        let worst = errors.fold(0.0, f64::max);
        assert!(worst < 1e-6, "{way:?}: {worst}");
        assert!(worst > 0.0, "{way:?}: products were not in f32");
    }
}
