//! The metrics against SciPy, NumPy and arithmetic in 60 digits.

mod common;

use common::{statistics, tensors};
use diffrep_fid::{
    Features, InceptionScorer, NEIGHBOURS, Statistics, Subsets, frechet_distance, kid,
    precision_recall,
};

/// Relative, or this share of the traces where the distance is a small difference of them: both
/// sides of the difference are known to f64's 16 digits and no better.
const TOLERANCE: f64 = 1e-8;
const OF_TRACES: f64 = 1e-14;

fn trace(statistics: &Statistics) -> f64 {
    let diagonal = statistics.covariance().iter().step_by(statistics.dim() + 1);
    diagonal.sum()
}

/// The two statistics of a case, and whether they come from fewer samples than features.
fn sides(name: &str) -> (Statistics, Statistics) {
    let all = tensors("frechet/cases.safetensors");
    let get = |key: &str| all.get(&format!("{name}.{key}"));
    if let (Some((shape, x)), Some((_, y))) = (get("x"), get("y")) {
        return (statistics(x, shape[1]), statistics(y, shape[1]));
    }
    let given = |mean: &str, covariance: &str| {
        let (mean, covariance) = (get(mean).unwrap(), get(covariance).unwrap());
        Statistics::new(mean.1.clone(), covariance.1.clone(), None, None).unwrap()
    };
    (given("mu1", "sigma1"), given("mu2", "sigma2"))
}

#[test]
fn the_distance_is_that_of_sqrtm_on_the_golden_pair() {
    let all = tensors("golden/frechet.safetensors");
    let (x, u) = (statistics(&all["X"].1, 64), statistics(&all["U"].1, 64));
    let found = frechet_distance(&x, &u).unwrap();
    let expected = 16.395598590230552;
    assert!((found.distance / expected - 1.0).abs() < 1e-12, "{found:?}");
    assert!(!found.rank_deficient);
    assert_eq!(
        (found.samples.count, found.reference.count),
        (Some(300), Some(500))
    );
}

#[test]
fn distances_are_exact_to_eight_digits_however_bad_the_covariances() {
    let all = tensors("frechet/cases.safetensors");
    let cases = all.iter().filter_map(|(name, (_, values))| {
        let name = name.strip_suffix(".exact")?;
        Some((name, values[0]))
    });
    let mut seen = 0;
    for (name, expected) in cases {
        let (a, b) = sides(name);
        let found = frechet_distance(&a, &b).unwrap();
        let error = (found.distance - expected).abs();
        let bound = (TOLERANCE * expected).max(OF_TRACES * (trace(&a) + trace(&b)));
        assert!(error <= bound, "{name}: {found:?}, expected {expected:e}");
        seen += 1;
    }
    assert_eq!(seen, 10);
}

#[test]
fn the_distance_is_that_of_sqrtm_where_sqrtm_is_exact() {
    let all = tensors("frechet/cases.safetensors");
    for name in ["plain", "dead_features", "offset", "given", "given_alike"] {
        let (a, b) = sides(name);
        let found = frechet_distance(&a, &b).unwrap().distance;
        let expected = all[&format!("{name}.scipy")].1[0];
        assert!(
            (found / expected - 1.0).abs() < TOLERANCE,
            "{name}: {found} and {expected}"
        );
    }
}

#[test]
fn too_few_samples_are_flagged() {
    for (name, ranks) in [
        ("few_samples", (19, 23)),
        ("few_and_many", (9, 32)),
        ("plain", (24, 24)),
        ("condition", (24, 24)),
        ("dead_features", (19, 18)),
    ] {
        let (a, b) = sides(name);
        let found = frechet_distance(&a, &b).unwrap();
        assert_eq!((found.samples_rank, found.reference_rank), ranks, "{name}");
        let full = ranks == (found.dim, found.dim);
        assert_eq!(found.rank_deficient, !full, "{name}");
    }
}

#[test]
fn precision_and_recall_are_the_evaluators() {
    let all = tensors("frechet/metrics.safetensors");
    let (samples, reference) = (&all["samples"].1, &all["reference"].1);
    let (samples, reference) = (
        Features::new(samples, 12).unwrap(),
        Features::new(reference, 12).unwrap(),
    );
    let found = precision_recall(samples, reference, (None, None), NEIGHBOURS).unwrap();
    let expected = &all["precision_recall"].1;
    // Shares of whole points: no point may be on the other side.
    assert_eq!([found.precision, found.recall], expected[..]);
    assert!(0.5 < found.precision && found.precision < 1.0, "{found:?}");
}

#[test]
fn kid_of_whole_sets_is_the_authors_mmd() {
    let all = tensors("frechet/metrics.safetensors");
    let (samples, reference) = (&all["samples"].1[..530 * 12], &all["reference"].1);
    let subsets = Subsets {
        count: 2,
        size: 530,
        seed: 5,
    };
    let (samples, reference) = (
        Features::new(samples, 12).unwrap(),
        Features::new(reference, 12).unwrap(),
    );
    let found = kid(samples, reference, (None, None), subsets).unwrap();
    let expected = all["mmd"].1[0];
    assert!((found.mean / expected - 1.0).abs() < 1e-10, "{found:?}");
    assert!(found.std < 1e-10 * expected, "{found:?}");
}

#[test]
fn the_inception_score_is_the_evaluators() {
    let all = tensors("frechet/metrics.safetensors");
    let probabilities = &all["probabilities"].1;
    let mut scorer = InceptionScorer::new(10, 100).unwrap();
    for batch in probabilities.chunks(70) {
        scorer.push(Features::new(batch, 10).unwrap()).unwrap();
    }
    let found = scorer.finish(None).unwrap();
    let expected = &all["inception_score"].1;
    assert!((found.score / expected[0] - 1.0).abs() < 1e-12, "{found:?}");
    assert!((found.std / expected[1] - 1.0).abs() < 1e-10, "{found:?}");
    assert_eq!((found.splits, found.last_split), (3, 30));
}
