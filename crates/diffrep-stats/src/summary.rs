//! A few numbers, usually one per seed, in a few words.

use serde::{Deserialize, Serialize};

use crate::StatsError;
use crate::error::{all_finite, at_least};

/// The mean of at least one finite value.
///
/// # Errors
///
/// [`StatsError::TooFew`], [`StatsError::NotFinite`], or [`StatsError::Overflow`] for values near
/// the largest double.
pub fn mean(values: &[f64]) -> Result<f64, StatsError> {
    at_least("a mean", 1, values.len())?;
    all_finite(values)?;
    finite("mean", values.iter().sum::<f64>() / values.len() as f64)
}

/// The standard deviation of at least two finite values, with n - 1 in the denominator.
///
/// # Errors
///
/// As [`mean`].
pub fn sample_std(values: &[f64]) -> Result<f64, StatsError> {
    at_least("a standard deviation", 2, values.len())?;
    let mean = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    finite(
        "standard deviation",
        (squares / (values.len() - 1) as f64).sqrt(),
    )
}

/// Where a few values lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// Their mean.
    pub mean: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Their sample standard deviation; one value alone has none.
    pub std: Option<f64>,
    /// How many there are.
    pub n: usize,
}

impl Spread {
    /// The spread of at least one finite value.
    ///
    /// # Errors
    ///
    /// As [`mean`].
    pub fn of(values: &[f64]) -> Result<Self, StatsError> {
        let mean = mean(values)?;
        let std = match values.len() {
            1 => None,
            _ => Some(sample_std(values)?),
        };
        Ok(Self {
            mean,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            std,
            n: values.len(),
        })
    }
}

fn finite(what: &'static str, value: f64) -> Result<f64, StatsError> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(StatsError::Overflow { what })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_values() {
        // Mean 5 and sum of squares 32, the textbook example.
        let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        assert_eq!(mean(&values).unwrap(), 5.0);
        assert_eq!(sample_std(&values).unwrap(), (32.0f64 / 7.0).sqrt());
        let spread = Spread::of(&values).unwrap();
        assert_eq!((spread.min, spread.max, spread.n), (2.0, 9.0, 8));
        assert_eq!(spread.std, Some((32.0f64 / 7.0).sqrt()));
    }

    #[test]
    fn one_value_has_no_deviation() {
        let spread = Spread::of(&[3.0]).unwrap();
        assert_eq!((spread.mean, spread.std, spread.n), (3.0, None, 1));
        assert!(matches!(
            sample_std(&[3.0]),
            Err(StatsError::TooFew {
                needed: 2,
                found: 1,
                ..
            })
        ));
    }

    #[test]
    fn what_has_no_answer_is_an_error() {
        assert!(matches!(mean(&[]), Err(StatsError::TooFew { .. })));
        assert!(matches!(
            mean(&[1.0, f64::NAN]),
            Err(StatsError::NotFinite { index: 1, .. })
        ));
        assert!(matches!(
            Spread::of(&[f64::INFINITY]),
            Err(StatsError::NotFinite { index: 0, .. })
        ));
        assert!(matches!(
            mean(&[f64::MAX, f64::MAX]),
            Err(StatsError::Overflow { .. })
        ));
        assert!(matches!(
            sample_std(&[f64::MAX, f64::MIN]),
            Err(StatsError::Overflow { .. })
        ));
    }

    proptest! {
        #[test]
        fn a_spread_is_ordered(values in prop::collection::vec(-1e9f64..1e9, 2..40)) {
            let spread = Spread::of(&values).unwrap();
            let slack = 1e-12 * spread.max.abs().max(spread.min.abs());
            prop_assert!(spread.min <= spread.mean + slack && spread.mean <= spread.max + slack);
            // No sample deviates more than its range.
            prop_assert!(spread.std.unwrap() <= spread.max - spread.min + slack);
        }
    }
}
