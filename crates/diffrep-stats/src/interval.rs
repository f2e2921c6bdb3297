//! Intervals of a proportion and of a ratio of positive numbers.

use serde::{Deserialize, Serialize};

use crate::StatsError;
use crate::error::{at_least, check_level};
use crate::special::{normal_quantile, student_two_sided};
use crate::summary::{mean, sample_std};

/// An estimate and the interval around it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// The estimate; it lies in `low..=high`.
    pub estimate: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// The confidence level, for example 0.95.
    pub level: f64,
    /// How many observations it rests on.
    pub n: u64,
}

/// The Wilson score interval of a proportion, for example of one accuracy.
///
/// It stays inside 0..=1 and is sensible also when no or all trials succeed.
///
/// # Errors
///
/// [`StatsError::TooFew`] without trials, [`StatsError::Proportion`] if there are more successes
/// than trials, [`StatsError::Level`] unless `0 < level < 1`.
pub fn wilson(successes: u64, trials: u64, level: f64) -> Result<Interval, StatsError> {
    at_least(
        "a proportion",
        1,
        usize::try_from(trials).unwrap_or(usize::MAX),
    )?;
    if successes > trials {
        return Err(StatsError::Proportion { successes, trials });
    }
    check_level(level)?;
    let n = trials as f64;
    let proportion = successes as f64 / n;
    // The lower tail is exact where 1 - tail would round.
    let z = -normal_quantile(0.5 * (1.0 - level));
    let square = z * z;
    let scale = 1.0 + square / n;
    let centre = (proportion + square / (2.0 * n)) / scale;
    let half = z / scale * (proportion * (1.0 - proportion) / n + square / (4.0 * n * n)).sqrt();
    Ok(Interval {
        estimate: proportion,
        // At the two edges the ends are exactly 0 and 1; rounding must not move them.
        low: if successes == 0 {
            0.0
        } else {
            (centre - half).clamp(0.0, proportion)
        },
        high: if successes == trials {
            1.0
        } else {
            (centre + half).clamp(proportion, 1.0)
        },
        level,
        n: trials,
    })
}

/// The geometric mean of the ratios `first / second` over pairs, with a Student interval taken on
/// the logarithms.
///
/// Meant for interleaved timings: give `(theirs, ours)` and read "ours is so many times faster".
///
/// # Errors
///
/// [`StatsError::TooFew`] with fewer than two pairs, [`StatsError::NotFinite`] or
/// [`StatsError::NotPositive`] naming the pair, [`StatsError::Overflow`] if an end of the interval
/// has no finite positive value, [`StatsError::Level`] unless `0 < level < 1`.
pub fn geometric_mean_ratio(pairs: &[(f64, f64)], level: f64) -> Result<Interval, StatsError> {
    at_least("the interval of a ratio", 2, pairs.len())?;
    check_level(level)?;
    for (index, &(first, second)) in pairs.iter().enumerate() {
        for value in [first, second] {
            if !value.is_finite() {
                return Err(StatsError::NotFinite { index, value });
            }
            if value <= 0.0 {
                return Err(StatsError::NotPositive { index, value });
            }
        }
    }
    let logs: Vec<f64> = pairs
        .iter()
        .map(|(first, second)| first.ln() - second.ln())
        .collect();
    let centre = mean(&logs)?;
    let n = logs.len() as f64;
    let half = student_two_sided(level, n - 1.0) * sample_std(&logs)? / n.sqrt();
    let (estimate, low, high) = (centre.exp(), (centre - half).exp(), (centre + half).exp());
    if !(low > 0.0 && high.is_finite()) {
        return Err(StatsError::Overflow {
            what: "interval of a ratio",
        });
    }
    Ok(Interval {
        estimate,
        low,
        high,
        level,
        n: pairs.len() as u64,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wilson_matches_the_formula_worked_elsewhere() {
        // Worked in CPython from the closed formula and statistics.NormalDist.
        for (successes, trials, level, low, high) in [
            (
                8,
                10,
                0.95,
                0.490_162_471_536_641_83,
                0.943_317_848_545_624_7,
            ),
            (0, 10, 0.95, 0.0, 0.277_532_799_862_889_15),
            (10, 10, 0.95, 0.722_467_200_137_110_9, 1.0),
            (
                746,
                1000,
                0.9,
                0.722_715_124_546_808_1,
                0.767_957_339_779_229_8,
            ),
        ] {
            let found = wilson(successes, trials, level).unwrap();
            assert!((found.low - low).abs() < 1e-14, "{found:?}");
            assert!((found.high - high).abs() < 1e-14, "{found:?}");
            assert_eq!(found.n, trials);
        }
    }

    #[test]
    fn wilson_refuses_the_impossible() {
        assert!(matches!(wilson(0, 0, 0.95), Err(StatsError::TooFew { .. })));
        assert!(matches!(
            wilson(3, 2, 0.95),
            Err(StatsError::Proportion { .. })
        ));
        for level in [0.0, 1.0, -1.0, f64::NAN] {
            assert!(matches!(wilson(1, 2, level), Err(StatsError::Level { .. })));
        }
    }

    #[test]
    fn ratio_matches_the_t_interval_worked_elsewhere() {
        // Worked in CPython with t(0.975, 3) = 3.182446305284263.
        let pairs = [(2.0, 1.0), (2.2, 1.0), (1.8, 1.0), (2.1, 1.0)];
        let found = geometric_mean_ratio(&pairs, 0.95).unwrap();
        assert!((found.estimate - 2.019_464_016_097_326_3).abs() < 1e-12);
        assert!((found.low - 1.761_173_416_129_486_7).abs() < 1e-10);
        assert!((found.high - 2.315_635_061_807_053).abs() < 1e-10);
    }

    #[test]
    fn equal_ratios_have_a_point_for_an_interval() {
        let found = geometric_mean_ratio(&[(2.0, 1.0), (4.0, 2.0), (8.0, 4.0)], 0.95).unwrap();
        assert!((found.low - 2.0).abs() < 1e-12 && (found.high - 2.0).abs() < 1e-12);
    }

    #[test]
    fn ratio_refuses_what_has_no_logarithm() {
        let with = |pair| geometric_mean_ratio(&[(1.0, 1.0), pair], 0.95);
        assert!(matches!(
            with((0.0, 1.0)),
            Err(StatsError::NotPositive { index: 1, .. })
        ));
        assert!(matches!(
            with((1.0, -2.0)),
            Err(StatsError::NotPositive { index: 1, .. })
        ));
        assert!(matches!(
            with((f64::NAN, 1.0)),
            Err(StatsError::NotFinite { index: 1, .. })
        ));
        assert!(matches!(
            with((1e300, 1e-300)),
            Err(StatsError::Overflow { .. })
        ));
        assert!(matches!(
            geometric_mean_ratio(&[(1.0, 1.0)], 0.95),
            Err(StatsError::TooFew { .. })
        ));
    }

    proptest! {
        #[test]
        fn wilson_holds_its_estimate(trials in 1u64..1_000_000, part in 0.0f64..=1.0, level in 0.01f64..0.9999) {
            let successes = (part * trials as f64) as u64;
            let found = wilson(successes, trials, level).unwrap();
            prop_assert!(0.0 <= found.low && found.low <= found.estimate);
            prop_assert!(found.estimate <= found.high && found.high <= 1.0);
        }

        #[test]
        fn swapping_the_pairs_inverts_the_interval(
            pairs in prop::collection::vec((1e-3f64..1e3, 1e-3f64..1e3), 2..20),
        ) {
            let swapped: Vec<_> = pairs.iter().map(|&(a, b)| (b, a)).collect();
            let (one, other) = (
                geometric_mean_ratio(&pairs, 0.9),
                geometric_mean_ratio(&swapped, 0.9),
            );
            // Two pairs of opposite extremes may have no finite interval; both directions agree.
            prop_assert_eq!(one.is_ok(), other.is_ok());
            if let (Ok(one), Ok(other)) = (one, other) {
                prop_assert!((one.estimate * other.estimate - 1.0).abs() < 1e-9);
                prop_assert!((one.low * other.high - 1.0).abs() < 1e-9);
            }
        }
    }
}
