//! Input without an answer is an error that names the layer, never NaN.

use diffrep_cka::*;
use ndarray::Array2;

/// Features without structure.
fn noise(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
    let mut state = seed;
    Array2::from_shape_simple_fn((rows, columns), || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    })
}

fn every_way() -> Vec<Options> {
    let mut ways = Vec::new();
    for estimator in [
        Estimator::Biased,
        Estimator::Unbiased,
        Estimator::Minibatch { rows: 6 },
    ] {
        for precision in [Precision::Double, Precision::Single] {
            for (kernel, path) in [
                (Kernel::Linear, Path::Gram),
                (Kernel::Linear, Path::Covariance),
                (Kernel::Rbf { fraction: 0.5 }, Path::Auto),
            ] {
                ways.push(Options {
                    estimator,
                    kernel,
                    path,
                    precision,
                });
            }
        }
    }
    ways
}

fn compare(x: &Array2<f64>, y: &Array2<f64>, options: &Options) -> Result<Matrix, CkaError> {
    between(
        &[Layer::new("first", x.view())],
        &[Layer::new("second", y.view())],
        options,
    )
}

#[test]
fn too_few_rows() {
    for options in every_way() {
        let needed = if options.estimator == Estimator::Biased {
            2
        } else {
            4
        };
        let (x, y) = (noise(needed, 3, 1), noise(needed, 3, 2));
        compare(&x, &y, &options).unwrap();
        let rows = ndarray::s![..needed - 1, ..];
        let error = compare(
            &x.slice(rows).to_owned(),
            &y.slice(rows).to_owned(),
            &options,
        )
        .unwrap_err();
        assert!(
            matches!(error, CkaError::TooFew { needed: n, found, .. } if n == needed && found == n - 1)
        );
    }
    let options = Options::new(Estimator::Minibatch { rows: 3 });
    assert!(matches!(
        Streaming::within(&["x"], &options),
        Err(CkaError::TooFew { needed: 4, .. })
    ));
}

#[test]
fn no_rows_at_all() {
    let empty = Array2::zeros((0, 3));
    for options in every_way() {
        assert!(compare(&empty, &empty, &options).is_err());
    }
    let streaming = Streaming::within(&["x"], &Options::default()).unwrap();
    assert_eq!(streaming.finish().unwrap_err(), CkaError::NoRows);
}

#[test]
fn layers_that_do_not_vary() {
    // 0.1 has no exact mean in binary: the check must not rest on a difference being 0.
    for value in [0.0, 0.1, -1e300, 1e-310] {
        let constant = Array2::from_elem((12, 5), value);
        for options in every_way() {
            let error = compare(&noise(12, 4, 1), &constant, &options).unwrap_err();
            assert_eq!(
                error,
                CkaError::Constant {
                    layer: "second".into()
                },
                "{options:?} {value}"
            );
        }
    }
}

#[test]
fn constant_over_all_streamed_batches() {
    for estimator in [Estimator::Biased, Estimator::Unbiased] {
        let mut streaming = Streaming::between(&["a"], &["b"], &Options::new(estimator)).unwrap();
        let constant = Array2::from_elem((6, 5), 0.1);
        for seed in 0..3 {
            streaming
                .push(
                    &[noise(6, 4, seed).view().into()],
                    &[constant.view().into()],
                )
                .unwrap();
        }
        assert_eq!(
            streaming.finish().unwrap_err(),
            CkaError::Constant { layer: "b".into() }
        );
    }
}

#[test]
fn a_layer_that_is_constant_in_one_batch_only_is_compared() {
    let mut streaming =
        Streaming::within(&["a"], &Options::new(Estimator::Minibatch { rows: 8 })).unwrap();
    streaming
        .push(&[Array2::from_elem((8, 5), 0.1).view().into()], &[])
        .unwrap();
    streaming
        .push(&[noise(8, 5, 3).view().into()], &[])
        .unwrap();
    assert_eq!(streaming.finish().unwrap().values[[0, 0]], 1.0);
}

#[test]
fn rows_that_are_all_equally_unlike() {
    let corners = Array2::eye(12);
    for options in every_way() {
        let found = compare(&noise(12, 4, 1), &corners, &options);
        if options.estimator == Estimator::Biased {
            assert!(found.unwrap().values[[0, 0]] > 0.0);
        } else {
            assert_eq!(
                found.unwrap_err(),
                CkaError::NoSignal {
                    layer: "second".into()
                },
                "{options:?}"
            );
        }
    }
}

#[test]
fn values_that_are_not_finite() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut y = noise(12, 5, 2);
        y[[7, 3]] = bad;
        for options in every_way() {
            let error = compare(&noise(12, 4, 1), &y, &options).unwrap_err();
            let CkaError::NotFinite {
                layer,
                row,
                column,
                value,
            } = error
            else {
                panic!("{error}");
            };
            assert_eq!((layer.as_str(), row, column), ("second", 7, 3));
            assert_eq!(value.to_bits(), bad.to_bits());
        }
    }
}

#[test]
fn values_that_overflow() {
    let mut streaming = Streaming::within(&["a"], &Options::new(Estimator::Biased)).unwrap();
    streaming
        .push(&[noise(8, 5, 1).view().into()], &[])
        .unwrap();
    streaming
        .push(&[(noise(8, 5, 2) * 1e200).view().into()], &[])
        .unwrap();
    assert_eq!(
        streaming.finish().unwrap_err(),
        CkaError::Overflow { layer: "a".into() }
    );
}

#[test]
fn extreme_but_even_scales_are_compared() {
    for scale in [1e-310, 1e-200, 1e200, 1e307] {
        for options in every_way() {
            let x = noise(12, 4, 1) * scale;
            let found = compare(&x, &noise(12, 5, 2), &options).unwrap();
            assert!(found.values[[0, 0]].is_finite());
        }
    }
}

#[test]
fn rows_and_widths_that_do_not_fit() {
    for options in every_way() {
        let error = compare(&noise(12, 4, 1), &noise(11, 4, 2), &options).unwrap_err();
        let expected = CkaError::RowMismatch {
            layer: "second".into(),
            expected: 12,
            found: 11,
        };
        assert_eq!(error, expected);
        let error = compare(&noise(12, 4, 1), &Array2::zeros((12, 0)), &options).unwrap_err();
        assert_eq!(
            error,
            CkaError::NoColumns {
                layer: "second".into()
            }
        );
    }
    for estimator in [Estimator::Biased, Estimator::Minibatch { rows: 100 }] {
        let mut streaming = Streaming::within(&["a"], &Options::new(estimator)).unwrap();
        let good = noise(8, 5, 1);
        streaming.push(&[good.view().into()], &[]).unwrap();
        let error = streaming
            .push(&[noise(8, 6, 1).view().into()], &[])
            .unwrap_err();
        assert_eq!(
            error,
            CkaError::WidthChanged {
                layer: "a".into(),
                expected: 5,
                found: 6
            }
        );
        let error = streaming
            .push(&[good.view().into()], &[good.view().into()])
            .unwrap_err();
        assert_eq!(
            error,
            CkaError::LayerCount {
                expected: 0,
                found: 1
            }
        );
        let error = streaming.push(&[], &[]).unwrap_err();
        assert_eq!(
            error,
            CkaError::LayerCount {
                expected: 1,
                found: 0
            }
        );
        // What was refused has left no trace.
        assert_eq!(streaming.finish().unwrap().samples, 8);
    }
}

#[test]
fn options_that_contradict_themselves() {
    let rbf = |fraction| Options {
        kernel: Kernel::Rbf { fraction },
        ..Options::default()
    };
    for fraction in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = compare(&noise(8, 3, 1), &noise(8, 3, 2), &rbf(fraction)).unwrap_err();
        assert!(matches!(error, CkaError::Bandwidth { .. }));
    }
    let covariance = Options {
        path: Path::Covariance,
        ..rbf(1.0)
    };
    assert_eq!(
        Streaming::within(&["a"], &covariance).err(),
        Some(CkaError::NoCovariance)
    );
    assert!(matches!(
        Streaming::within(&["a"], &rbf(1.0)),
        Err(CkaError::NeedsAllRows { .. })
    ));
    let gram = Options {
        path: Path::Gram,
        ..Options::default()
    };
    assert!(matches!(
        Streaming::within(&["a"], &gram),
        Err(CkaError::NeedsAllRows { .. })
    ));
    let none: [&str; 0] = [];
    assert_eq!(
        Streaming::within(&none, &Options::default()).err(),
        Some(CkaError::NoLayers)
    );
    assert_eq!(
        Streaming::between(&["a"], &none, &Options::default()).err(),
        Some(CkaError::NoLayers)
    );
    assert_eq!(
        within(&[], &Options::default()).unwrap_err(),
        CkaError::NoLayers
    );
}

#[test]
fn rows_that_repeat_leave_no_bandwidth() {
    let mut x = Array2::zeros((12, 3));
    x[[0, 0]] = 1.0;
    let options = Options {
        kernel: Kernel::Rbf { fraction: 1.0 },
        ..Options::default()
    };
    let error = compare(&noise(12, 4, 1), &x, &options).unwrap_err();
    assert_eq!(
        error,
        CkaError::NoBandwidth {
            layer: "second".into()
        }
    );
}

#[test]
fn neighbours_that_do_not_exist() {
    let x = noise(8, 3, 1);
    let layers = [Layer::new("a", x.view())];
    let align = |alignment, k| align_within(&layers, alignment, k, Precision::Double);
    for (alignment, least) in [(Alignment::MutualKnn, 1), (Alignment::Cknna, 2)] {
        for k in [least - 1, 8, usize::MAX] {
            let error = align(alignment, k).unwrap_err();
            let expected = CkaError::Neighbours {
                neighbours: k,
                rows: 8,
                least,
                most: 7,
            };
            assert_eq!(error, expected);
        }
        align(alignment, least).unwrap();
        align(alignment, 7).unwrap();
    }
    let mut x = x.clone();
    x.row_mut(5).fill(0.0);
    let error = align_within(
        &[Layer::new("a", x.view())],
        Alignment::MutualKnn,
        2,
        Precision::Double,
    )
    .unwrap_err();
    assert_eq!(
        error,
        CkaError::ZeroRow {
            layer: "a".into(),
            row: 5
        }
    );
}
