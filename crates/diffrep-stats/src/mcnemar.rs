//! The exact McNemar test: do two classifiers err on the same images equally often?

use serde::{Deserialize, Serialize};

use crate::StatsError;
use crate::error::{at_least, same_length};
use crate::special::ln_gamma;

/// The outcome of a McNemar test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct McNemar {
    /// Images that only the first classifier gets right.
    pub only_a: u64,
    /// Images that only the second classifier gets right.
    pub only_b: u64,
    /// The two-sided exact p value, in 0..=1.
    pub p_value: f64,
}

/// The exact McNemar test of two classifiers on the same images, `true` for a correct answer.
///
/// # Errors
///
/// [`StatsError::LengthMismatch`], or [`StatsError::TooFew`] without images.
pub fn mcnemar(a: &[bool], b: &[bool]) -> Result<McNemar, StatsError> {
    same_length(a.len(), b.len())?;
    at_least("a McNemar test", 1, a.len())?;
    let count = |first: &[bool], second: &[bool]| {
        first.iter().zip(second).filter(|&(&x, &y)| x && !y).count() as u64
    };
    let (only_a, only_b) = (count(a, b), count(b, a));
    Ok(McNemar {
        only_a,
        only_b,
        p_value: mcnemar_exact(only_a, only_b),
    })
}

/// The two-sided exact p value from the two counts of images on which the classifiers disagree:
/// twice the smaller binomial tail at 1/2, at most 1. It is 1 if they never disagree.
///
/// The tail is summed from its largest term downwards, that term taken in logarithms, so counts in
/// the millions work; a p value below the smallest double is returned as 0.
pub fn mcnemar_exact(only_a: u64, only_b: u64) -> f64 {
    if only_a == only_b {
        return 1.0;
    }
    let few = only_a.min(only_b);
    let n = only_a as f64 + only_b as f64;
    let k = few as f64;
    let log_term =
        ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0) - n * std::f64::consts::LN_2;
    let mut term = 1.0;
    let mut sum = 1.0;
    // C(n, i - 1) / C(n, i) = i / (n - i + 1), below 1 on this side of the middle.
    for i in (1..=few).rev() {
        term *= i as f64 / (n - i as f64 + 1.0);
        sum += term;
        if term < 1e-17 * sum {
            break;
        }
    }
    (2.0 * log_term.exp() * sum).min(1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn matches_exact_integer_arithmetic() {
        // Worked in CPython with integers and fractions.
        for (only_a, only_b, expected, relative) in [
            (1, 9, 0.021484375, 1e-13),
            (0, 5, 0.0625, 1e-13),
            (5, 5, 1.0, 0.0),
            (0, 0, 1.0, 0.0),
            (45, 55, 0.368_201_617_326_696_26, 1e-12),
            (450, 550, 0.001_730_536_084_975_317_6, 1e-11),
            (10, 60, 8.004_823_399_455_647e-10, 1e-12),
            (49_500, 50_500, 0.001_582_359_878_851_595_6, 1e-8),
        ] {
            for p in [mcnemar_exact(only_a, only_b), mcnemar_exact(only_b, only_a)] {
                assert!(
                    (p - expected).abs() <= relative * expected,
                    "{only_a} {only_b}: {p}"
                );
            }
        }
    }

    #[test]
    fn counts_disagreements() {
        let a = [true, true, true, false, false];
        let b = [true, false, false, true, false];
        let found = mcnemar(&a, &b).unwrap();
        assert_eq!((found.only_a, found.only_b), (2, 1));
        assert_eq!(found.p_value, mcnemar_exact(2, 1));
    }

    #[test]
    fn extreme_counts_stay_numbers() {
        assert_eq!(mcnemar_exact(0, 1_000_000), 0.0);
        let p = mcnemar_exact(10_000_000, 10_000_001);
        assert!(p > 0.99 && p <= 1.0, "{p}");
    }

    #[test]
    fn refuses_what_does_not_pair() {
        assert!(matches!(mcnemar(&[], &[]), Err(StatsError::TooFew { .. })));
        assert!(matches!(
            mcnemar(&[true], &[true, false]),
            Err(StatsError::LengthMismatch { left: 1, right: 2 })
        ));
    }

    proptest! {
        #[test]
        fn p_is_a_probability_and_falls_with_imbalance(n in 2u64..5000, part in 0.0f64..0.5) {
            let few = ((n as f64 * part) as u64).max(1);
            let p = mcnemar_exact(few, n - few);
            let more_uneven = mcnemar_exact(few - 1, n - few + 1);
            prop_assert!((0.0..=1.0).contains(&p));
            prop_assert!(more_uneven <= p * (1.0 + 1e-9));
        }
    }
}
