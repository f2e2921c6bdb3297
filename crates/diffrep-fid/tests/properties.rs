//! What holds for all features.

mod common;

use common::statistics;
use diffrep_fid::{
    Features, FidError, InceptionScorer, Moments, NEIGHBOURS, Source, Subsets, frechet_distance,
    kid, precision_recall,
};
use diffrep_rng::{Key, Stream};
use proptest::prelude::*;

const DIM: usize = 5;

/// `rows` normal rows of [`DIM`] features that depend on each other, in f64.
fn rows(seed: u64, rows: usize) -> Vec<f64> {
    let mut generator = Key::new(seed, Stream::Init).generator();
    let mut values = Vec::with_capacity(rows * DIM);
    for _ in 0..rows {
        let mut sum = 0.0;
        for column in 0..DIM {
            sum += generator.normal_pair().0 / (column + 1) as f64;
            values.push(sum);
        }
    }
    values
}

/// Every row reflected at the plane across `axis`, which changes no distance.
fn reflected(values: &[f64], axis: &[f64]) -> Vec<f64> {
    let norm: f64 = axis.iter().map(|a| a * a).sum();
    let rows = values.chunks(DIM).flat_map(|row| {
        let along: f64 = row.iter().zip(axis).map(|(v, a)| v * a).sum();
        let pairs = row.iter().zip(axis);
        pairs
            .map(|(v, a)| v - 2.0 * along / norm * a)
            .collect::<Vec<f64>>()
    });
    rows.collect()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    let found = frechet_distance(&statistics(a, DIM), &statistics(b, DIM)).unwrap();
    assert!(found.distance >= 0.0);
    assert_eq!(found.distance, found.mean_term + found.covariance_term);
    found.distance
}

fn axis() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-1.0f64..1.0, DIM)
        .prop_filter("a direction", |axis| axis.iter().any(|a| a.abs() > 0.1))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_distance_to_itself_is_zero(seed in any::<u64>(), n in 2usize..40) {
        let x = rows(seed, n);
        prop_assert!(distance(&x, &x) < 1e-12);
    }

    #[test]
    fn the_distance_is_symmetric(seed in any::<u64>(), n in 2usize..40, m in 2usize..40) {
        let (x, y) = (rows(seed, n), rows(!seed, m));
        let (there, back) = (distance(&x, &y), distance(&y, &x));
        prop_assert!((there - back).abs() < 1e-11 * (1.0 + there), "{} {}", there, back);
    }

    #[test]
    fn turning_both_sets_changes_nothing(seed in any::<u64>(), n in 2usize..40, axis in axis()) {
        let (x, y) = (rows(seed, n), rows(!seed, 30));
        let before = distance(&x, &y);
        let after = distance(&reflected(&x, &axis), &reflected(&y, &axis));
        prop_assert!((before - after).abs() < 1e-7 * (1.0 + before), "{} {}", before, after);
    }

    #[test]
    fn a_shift_adds_its_square(seed in any::<u64>(), shift in axis()) {
        let (x, y) = (rows(seed, 30), rows(!seed, 30));
        let (a, b) = (statistics(&x, DIM), statistics(&y, DIM));
        let apart: f64 = a.mean().iter().zip(b.mean()).zip(&shift)
            .map(|((a, b), s)| (a - b - s).powi(2) - (a - b).powi(2)).sum();
        let moved: Vec<f64> = y.iter().enumerate().map(|(i, v)| v + shift[i % DIM]).collect();
        let (before, after) = (distance(&x, &y), distance(&x, &moved));
        prop_assert!((after - before - apart).abs() < 1e-11, "{} {} {}", before, after, apart);
        let own: f64 = shift.iter().map(|s| s * s).sum();
        let alone = distance(&y, &moved);
        prop_assert!((alone - own).abs() < 1e-11);
    }

    #[test]
    fn parts_merged_are_the_whole(
        seed in any::<u64>(),
        n in 2usize..700,
        share in 0.0f64..1.0,
        offset in -1e6f64..1e6,
    ) {
        let x: Vec<f64> = rows(seed, n).iter().map(|v| v + offset).collect();
        let cut = (share * n as f64) as usize * DIM;
        let mut parts = [Moments::new(DIM).unwrap(), Moments::new(DIM).unwrap()];
        for (part, values) in parts.iter_mut().zip([&x[..cut], &x[cut..]]) {
            part.push(Features::new(values, DIM).unwrap()).unwrap();
        }
        let [mut merged, second] = parts;
        merged.merge(second).unwrap();
        prop_assert_eq!(merged.count(), n as u64);
        let (merged, whole) = (merged.finish(None).unwrap(), statistics(&x, DIM));
        let pairs = merged.mean().iter().zip(whole.mean());
        for (a, b) in pairs {
            prop_assert!((a - b).abs() < 1e-9, "{} {}", a, b);
        }
        // Digits of a value near the offset: 1e6 * 1e-16, on values of size 1.
        for (a, b) in merged.covariance().iter().zip(whole.covariance()) {
            prop_assert!((a - b).abs() < 1e-8, "{} {}", a, b);
        }
    }

    #[test]
    fn batches_make_no_difference(seed in any::<u64>(), n in 2usize..700, size in 1usize..300) {
        let x = rows(seed, n);
        let mut moments = Moments::new(DIM).unwrap();
        for batch in x.chunks(size * DIM) {
            moments.push(Features::new(batch, DIM).unwrap()).unwrap();
        }
        prop_assert_eq!(moments.finish(None).unwrap(), statistics(&x, DIM));
    }

    #[test]
    fn a_set_covers_itself(seed in any::<u64>(), n in 4usize..600, copies in 1usize..4) {
        let once = rows(seed, n);
        let x = once.repeat(copies);
        let x = Features::new(&x, DIM).unwrap();
        let found = precision_recall(x, x, (None, None), NEIGHBOURS).unwrap();
        prop_assert_eq!((found.precision, found.recall), (1.0, 1.0));
    }

    #[test]
    fn copies_of_the_reference_are_precise(seed in any::<u64>(), n in 4usize..600) {
        // Copies lie at distance zero of a centre, and others exactly at a radius.
        let reference = rows(seed, 600);
        let (x, y) = (&reference[..n * DIM], &reference);
        let (x, y) = (Features::new(x, DIM).unwrap(), Features::new(y, DIM).unwrap());
        let found = precision_recall(x, y, (None, None), NEIGHBOURS).unwrap();
        prop_assert_eq!(found.precision, 1.0);
    }
}

#[test]
fn covariances_are_numpys() {
    // numpy.cov([[1, 2], [3, 5], [8, 4]], rowvar=False).
    let found = statistics(&[1.0, 2.0, 3.0, 5.0, 8.0, 4.0], 2);
    let expected = [13.0, 2.5, 2.5, 7.0 / 3.0];
    for (a, b) in found.covariance().iter().zip(expected) {
        assert!((a - b).abs() < 1e-14, "{found:?}");
    }
}

#[test]
fn kid_of_one_distribution_is_zero_on_average() {
    let (x, y) = (rows(1, 2000), rows(2, 2000));
    let (x, y) = (
        Features::new(&x, DIM).unwrap(),
        Features::new(&y, DIM).unwrap(),
    );
    let subsets = Subsets {
        count: 60,
        size: 100,
        seed: 3,
    };
    let found = kid(x, y, (None, None), subsets).unwrap();
    // Of one subset the estimate spreads by `std`; the mean of 60 by about an eighth of it.
    assert!(found.mean.abs() < found.std / 2.0, "{found:?}");
    assert!(found.std > 0.0);
    let moved: Vec<f64> = rows(2, 2000).iter().map(|v| v + 1.0).collect();
    let moved = kid(
        x,
        Features::new(&moved, DIM).unwrap(),
        (None, None),
        subsets,
    )
    .unwrap();
    assert!(
        moved.mean > 10.0 * found.mean.abs() && moved.mean > found.std,
        "{moved:?}"
    );
}

#[test]
fn kid_is_a_function_of_its_seed() {
    let (x, y) = (rows(1, 300), rows(2, 300));
    let (x, y) = (
        Features::new(&x, DIM).unwrap(),
        Features::new(&y, DIM).unwrap(),
    );
    let with = |seed| {
        let subsets = Subsets {
            count: 5,
            size: 50,
            seed,
        };
        kid(x, y, (None, None), subsets).unwrap().mean
    };
    assert_eq!(with(1), with(1));
    assert_ne!(with(1), with(2));
}

#[test]
fn the_inception_score_lies_between_one_and_the_number_of_classes() {
    let score = |rows: &[f32], classes| {
        let mut scorer = InceptionScorer::new(classes, 5000).unwrap();
        scorer.push(Features::new(rows, classes).unwrap()).unwrap();
        scorer.finish(None).unwrap().score
    };
    assert!((score(&[0.25; 40], 4) - 1.0).abs() < 1e-12);
    let certain: Vec<f32> = (0..40)
        .map(|i| if i % 4 == (i / 4) % 4 { 1.0 } else { 0.0 })
        .collect();
    // Ten rows over four classes: 3, 3, 2, 2.
    let entropy: f64 = [0.3f64, 0.3, 0.2, 0.2].iter().map(|p| -p * p.ln()).sum();
    assert!((score(&certain, 4) - entropy.exp()).abs() < 1e-12);
}

#[test]
fn input_without_an_answer_is_an_error_that_names_the_least() {
    let one = Features::new(&[1.0f32, 2.0], 2).unwrap();
    let mut moments = Moments::new(2).unwrap();
    moments.push(one).unwrap();
    let text = moments.finish(None).unwrap_err().to_string();
    assert_eq!(
        text,
        "a covariance needs at least 2 samples, and there are 1"
    );
    let text = kid(one, one, (None, None), Subsets::default())
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("at least 1000 samples, and there are 1"),
        "{text}"
    );
    let text = precision_recall(one, one, (None, None), 3)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("at least 4 samples, and there are 1"),
        "{text}"
    );
    assert!(precision_recall(one, one, (None, None), usize::MAX).is_err());
    let text = InceptionScorer::new(2, 5000)
        .unwrap()
        .finish(None)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("at least 2 samples, and there are 0"),
        "{text}"
    );
    let text = Features::new(&[0.0, f64::INFINITY], 1)
        .unwrap_err()
        .to_string();
    assert_eq!(text, "row 1, column 0 is inf; every value must be finite");
    assert!(Features::new(&[0.0f32; 3], 2).is_err());
    assert!(Moments::new(0).is_err());
    assert!(Moments::new(1 << 40).is_err());
}

#[test]
fn logits_are_no_probabilities() {
    let push = |row: &[f32]| {
        let mut scorer = InceptionScorer::new(2, 5000).unwrap();
        scorer
            .push(Features::new(row, 2).unwrap())
            .unwrap_err()
            .to_string()
    };
    assert!(push(&[3.0, -1.0]).contains("not logits"));
    assert!(push(&[0.75, 0.75]).contains("add up to 1.5"));
}

#[test]
fn sums_beyond_the_largest_double_are_errors() {
    let huge = [1e200, -1e200, 1e200, 3e200, 1e-3, 5.0, -2e200, 1.0];
    let mut moments = Moments::new(2).unwrap();
    moments.push(Features::new(&huge, 2).unwrap()).unwrap();
    assert!(matches!(
        moments.finish(None),
        Err(FidError::Overflow { .. })
    ));
    let huge = Features::new(&huge, 1).unwrap();
    let found = precision_recall(huge, huge, (None, None), 3);
    assert!(matches!(found, Err(FidError::Overflow { .. })));
    let subsets = Subsets {
        count: 1,
        size: 8,
        seed: 0,
    };
    assert!(matches!(
        kid(huge, huge, (None, None), subsets),
        Err(FidError::Overflow { .. })
    ));
}

#[test]
fn sources_that_differ_are_not_compared() {
    let source = |resize: &str| Source {
        extractor: "inception".into(),
        resize: resize.into(),
    };
    let x = rows(1, 20);
    let with = |resize| statistics(&x, DIM).with_source(source(resize));
    let text = frechet_distance(&with("antialias"), &with("bilinear"))
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("antialias") && text.contains("bilinear"),
        "{text}"
    );
    let found = frechet_distance(&with("bilinear"), &statistics(&x, DIM)).unwrap();
    assert_eq!(
        (found.samples.source, found.reference.source),
        (Some(source("bilinear")), None)
    );
    let (a, b) = (source("antialias"), source("bilinear"));
    let features = Features::new(&x, DIM).unwrap();
    assert!(precision_recall(features, features, (Some(&a), Some(&b)), 3).is_err());
}

#[test]
fn a_result_is_read_again_from_json() {
    let (x, y) = (rows(1, 20), rows(2, 30));
    let found = frechet_distance(&statistics(&x, DIM), &statistics(&y, DIM)).unwrap();
    let text = serde_json::to_string(&found).unwrap();
    assert!(
        text.contains(r#""samples":{"count":20,"source":null}"#),
        "{text}"
    );
    assert_eq!(
        serde_json::from_str::<diffrep_fid::Frechet>(&text).unwrap(),
        found
    );
}
