//! The paired bootstrap: two classifiers on the same images.

use diffrep_rng::{Key, Stream};
use serde::{Deserialize, Serialize};

use crate::StatsError;
use crate::error::{at_least, check_level, same_length};

/// How much more often one classifier is right than another on the same images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairedDifference {
    /// Accuracy of the first minus accuracy of the second, in -1..=1.
    pub difference: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
    /// The confidence level, for example 0.95.
    pub level: f64,
    /// The number of images.
    pub n: usize,
    /// The number of resamples.
    pub resamples: usize,
    /// The two-sided bootstrap p value of "no difference"; at least 1 / (resamples + 1).
    pub p_value: f64,
}

/// Whether a comparison settles the question it was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The whole interval says yes.
    Yes,
    /// The whole interval says no.
    No,
    /// The interval holds both answers.
    Undecided,
}

/// Whether the first classifier beats the second by more than `margin` (a difference of
/// accuracies, 0.01 for one percentage point).
///
/// [`Verdict::Yes`] if the interval lies above `margin`, [`Verdict::No`] if it lies below, else
/// [`Verdict::Undecided`]. With margin 0 this asks "is it better at all"; with a negative margin
/// "is it no worse than that". A margin that is NaN decides nothing.
pub fn verdict(compared: &PairedDifference, margin: f64) -> Verdict {
    if compared.low > margin {
        Verdict::Yes
    } else if compared.high < margin {
        Verdict::No
    } else {
        Verdict::Undecided
    }
}

/// Compares two classifiers on the same images, `true` for a correct answer.
///
/// Images are drawn with replacement `resamples` times; the interval is the percentile interval of
/// the difference of accuracies. The result depends on the arguments alone.
///
/// # Errors
///
/// [`StatsError::LengthMismatch`], [`StatsError::TooFew`] without images or resamples,
/// [`StatsError::Level`] unless `0 < level < 1`.
pub fn paired_bootstrap(
    a: &[bool],
    b: &[bool],
    resamples: usize,
    level: f64,
    seed: u64,
) -> Result<PairedDifference, StatsError> {
    compare(&[a], &[b], resamples, level, seed)
}

/// Compares two classifiers, each trained with several seeds, on the same images.
///
/// `a[s][i]` says whether the first classifier, trained with its seed number `s`, is right about
/// image `i`. Correctness is averaged over the seeds of each image first, and images are then
/// resampled: the interval tells how the difference would vary over test images for these very
/// trainings, not over further seeds, whose spread is to be reported beside it. The two classifiers
/// may have different numbers of seeds.
///
/// # Errors
///
/// As [`paired_bootstrap`], and [`StatsError::TooFew`] without seeds.
pub fn paired_bootstrap_seeds(
    a: &[Vec<bool>],
    b: &[Vec<bool>],
    resamples: usize,
    level: f64,
    seed: u64,
) -> Result<PairedDifference, StatsError> {
    let a: Vec<&[bool]> = a.iter().map(Vec::as_slice).collect();
    let b: Vec<&[bool]> = b.iter().map(Vec::as_slice).collect();
    compare(&a, &b, resamples, level, seed)
}

fn compare(
    a: &[&[bool]],
    b: &[&[bool]],
    resamples: usize,
    level: f64,
    seed: u64,
) -> Result<PairedDifference, StatsError> {
    at_least("a comparison over seeds", 1, a.len().min(b.len()))?;
    let n = a[0].len();
    for run in a.iter().chain(b) {
        same_length(n, run.len())?;
    }
    at_least("a comparison on images", 1, n)?;
    at_least("a bootstrap (resamples)", 1, resamples)?;
    check_level(level)?;

    // Whole numbers over a common denominator: sums are exact in any order.
    let (weight_a, weight_b) = (b.len() as i64, a.len() as i64);
    let per_image: Vec<i64> = (0..n)
        .map(|i| weight_a * right(a, i) - weight_b * right(b, i))
        .collect();
    let denominator = (weight_a * weight_b) as f64 * n as f64;
    let total: i64 = per_image.iter().sum();

    let mut totals: Vec<i64> = (0..resamples)
        .map(|resample| {
            let mut generator = Key::new(seed, Stream::Bootstrap)
                .sample(resample as u64)
                .generator();
            (0..n)
                .map(|_| per_image[generator.below(n as u64) as usize])
                .sum()
        })
        .collect();
    totals.sort_unstable();

    let not_above = totals.partition_point(|&total| total <= 0);
    let not_below = resamples - totals.partition_point(|&total| total < 0);
    let tail = (not_above.min(not_below) + 1) as f64 / (resamples + 1) as f64;
    Ok(PairedDifference {
        difference: total as f64 / denominator,
        low: quantile(&totals, 0.5 * (1.0 - level)) / denominator,
        high: quantile(&totals, 0.5 * (1.0 + level)) / denominator,
        level,
        n,
        resamples,
        p_value: (2.0 * tail).min(1.0),
    })
}

/// How many of `runs` are right about image `i`.
fn right(runs: &[&[bool]], i: usize) -> i64 {
    runs.iter().filter(|run| run[i]).count() as i64
}

/// The quantile of sorted values, linear between neighbours.
fn quantile(sorted: &[i64], p: f64) -> f64 {
    let position = p * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    let (low, high) = (sorted[below] as f64, sorted[above] as f64);
    low + (position - below as f64) * (high - low)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `n` images of which a fraction is right, in a fixed scrambled order.
    fn images(n: usize, percent: usize, salt: usize) -> Vec<bool> {
        (0..n).map(|i| (i * 37 + salt) % 100 < percent).collect()
    }

    #[test]
    fn agrees_with_the_normal_approximation() {
        let (a, b) = (images(2000, 80, 0), images(2000, 75, 50));
        let found = paired_bootstrap(&a, &b, 4000, 0.95, 1).unwrap();
        assert!((found.difference - 0.05).abs() < 1e-12);
        let variance = a
            .iter()
            .zip(&b)
            .map(|(&a, &b)| (f64::from(u8::from(a)) - f64::from(u8::from(b)) - 0.05).powi(2))
            .sum::<f64>()
            / 2000.0;
        let half = 1.96 * (variance / 2000.0).sqrt();
        assert!(
            (found.low - (0.05 - half)).abs() < 0.08 * half,
            "{found:?}, half {half}"
        );
        assert!(
            (found.high - (0.05 + half)).abs() < 0.08 * half,
            "{found:?}, half {half}"
        );
        assert_eq!((found.n, found.resamples), (2000, 4000));
    }

    #[test]
    fn the_seed_decides_the_bits() {
        let (a, b) = (images(300, 80, 0), images(300, 70, 31));
        let run = |seed| paired_bootstrap(&a, &b, 500, 0.9, seed).unwrap();
        assert_eq!(run(5), run(5));
        assert_ne!((run(5).low, run(5).high), (run(6).low, run(6).high));
    }

    #[test]
    fn a_clear_difference_is_yes_and_its_mirror_no() {
        let (a, b) = (images(500, 90, 0), images(500, 60, 0));
        let forward = paired_bootstrap(&a, &b, 1000, 0.95, 0).unwrap();
        let backward = paired_bootstrap(&b, &a, 1000, 0.95, 0).unwrap();
        assert_eq!(verdict(&forward, 0.0), Verdict::Yes);
        assert_eq!(verdict(&forward, 0.5), Verdict::No);
        assert_eq!(verdict(&forward, forward.difference), Verdict::Undecided);
        assert_eq!(verdict(&backward, 0.0), Verdict::No);
        assert_eq!(verdict(&backward, -0.5), Verdict::Yes);
        assert_eq!(verdict(&forward, f64::NAN), Verdict::Undecided);
        assert!((forward.p_value - 2.0 / 1001.0).abs() < 1e-15);
        assert!((forward.low + backward.high).abs() < 1e-12);
    }

    #[test]
    fn equal_classifiers_are_undecided() {
        let a = images(100, 50, 0);
        let found = paired_bootstrap(&a, &a, 100, 0.95, 0).unwrap();
        assert_eq!((found.difference, found.low, found.high), (0.0, 0.0, 0.0));
        assert_eq!(found.p_value, 1.0);
        assert_eq!(verdict(&found, 0.0), Verdict::Undecided);
    }

    #[test]
    fn seeds_are_averaged_per_image() {
        let a = vec![
            vec![true, true, false, false],
            vec![true, false, false, false],
        ];
        let b = vec![vec![false, true, false, false]];
        let found = paired_bootstrap_seeds(&a, &b, 200, 0.9, 3).unwrap();
        // Accuracies 3/8 and 2/8; per image 1, -1/2, 0, 0.
        assert!((found.difference - 0.125).abs() < 1e-15);
        let flat = |runs: &[Vec<bool>], i: usize| runs[i].clone();
        let repeated = paired_bootstrap_seeds(
            &[flat(&a, 0), flat(&a, 0)],
            &[flat(&b, 0), flat(&b, 0), flat(&b, 0)],
            200,
            0.9,
            3,
        )
        .unwrap();
        assert_eq!(
            repeated,
            paired_bootstrap(&a[0], &b[0], 200, 0.9, 3).unwrap()
        );
    }

    #[test]
    fn the_interval_covers_the_truth_about_as_often_as_it_says() {
        // 200 experiments of 200 images; both classifiers have the same true accuracy.
        let mut covered = 0;
        for experiment in 0..200 {
            let mut generator = Key::new(77, Stream::Bootstrap)
                .draw(1 + experiment)
                .generator();
            let mut draw = || {
                (0..200)
                    .map(|_| generator.uniform() < 0.7)
                    .collect::<Vec<_>>()
            };
            let (a, b) = (draw(), draw());
            let found = paired_bootstrap(&a, &b, 400, 0.9, u64::from(experiment)).unwrap();
            covered += usize::from(found.low <= 0.0 && 0.0 <= found.high);
        }
        // 180 expected, standard deviation 4.2.
        assert!((163..=195).contains(&covered), "{covered}");
    }

    #[test]
    fn refuses_what_has_no_answer() {
        let one = [true];
        assert!(matches!(
            paired_bootstrap(&[], &[], 10, 0.9, 0),
            Err(StatsError::TooFew { .. })
        ));
        assert!(matches!(
            paired_bootstrap(&one, &[], 10, 0.9, 0),
            Err(StatsError::LengthMismatch { left: 1, right: 0 })
        ));
        assert!(matches!(
            paired_bootstrap(&one, &one, 0, 0.9, 0),
            Err(StatsError::TooFew { .. })
        ));
        assert!(matches!(
            paired_bootstrap(&one, &one, 10, f64::NAN, 0),
            Err(StatsError::Level { .. })
        ));
        assert!(matches!(
            paired_bootstrap_seeds(&[], &[vec![true]], 10, 0.9, 0),
            Err(StatsError::TooFew { .. })
        ));
        assert!(matches!(
            paired_bootstrap_seeds(&[vec![true], vec![]], &[vec![true]], 10, 0.9, 0),
            Err(StatsError::LengthMismatch { .. })
        ));
    }

    #[test]
    fn quantiles_are_those_of_linear_interpolation() {
        assert_eq!(quantile(&[1, 2, 3, 4], 0.5), 2.5);
        assert_eq!(quantile(&[0, 10], 0.25), 2.5);
        assert_eq!(quantile(&[7], 0.975), 7.0);
        assert_eq!(quantile(&[1, 2, 3], 1.0), 3.0);
    }

    proptest! {
        #[test]
        fn the_interval_is_ordered_and_possible(
            pairs in prop::collection::vec((any::<bool>(), any::<bool>()), 1..60),
            resamples in 1usize..80,
            seed in any::<u64>(),
        ) {
            let (a, b): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            let found = paired_bootstrap(&a, &b, resamples, 0.95, seed).unwrap();
            prop_assert!(-1.0 <= found.low && found.low <= found.high && found.high <= 1.0);
            prop_assert!(found.p_value > 0.0 && found.p_value <= 1.0);
        }
    }
}
