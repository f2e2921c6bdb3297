//! Choosing one setting from scored candidates.

use crate::StatsError;
use crate::error::{all_finite, at_least, same_length};

/// The position of the largest score; the first of several equal ones.
///
/// # Errors
///
/// [`StatsError::TooFew`] without scores, [`StatsError::NotFinite`].
pub fn argmax(scores: &[f64]) -> Result<usize, StatsError> {
    at_least("a choice", 1, scores.len())?;
    all_finite(scores)?;
    let mut best = 0;
    for (index, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = index;
        }
    }
    Ok(best)
}

/// The one-standard-error rule: the first candidate whose score is within one standard error of
/// the best, the error being the best candidate's own.
///
/// List the candidates from the simplest to the most complex.
///
/// # Errors
///
/// As [`argmax`], and [`StatsError::LengthMismatch`] or [`StatsError::Negative`].
pub fn one_standard_error(scores: &[f64], standard_errors: &[f64]) -> Result<usize, StatsError> {
    same_length(scores.len(), standard_errors.len())?;
    let best = argmax(scores)?;
    all_finite(standard_errors)?;
    if let Some(index) = standard_errors.iter().position(|&error| error < 0.0) {
        return Err(StatsError::Negative {
            index,
            value: standard_errors[index],
        });
    }
    let enough = scores[best] - standard_errors[best];
    // The best itself is enough, so the search always ends there at the latest.
    Ok(scores[..best]
        .iter()
        .position(|&score| score >= enough)
        .unwrap_or(best))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equals_wins() {
        assert_eq!(argmax(&[0.1, 0.7, 0.7, 0.2]).unwrap(), 1);
        assert_eq!(argmax(&[-3.0]).unwrap(), 0);
        assert!(matches!(argmax(&[]), Err(StatsError::TooFew { .. })));
        assert!(matches!(
            argmax(&[0.1, f64::NAN]),
            Err(StatsError::NotFinite { index: 1, .. })
        ));
    }

    #[test]
    fn the_simplest_that_is_near_enough_wins() {
        let scores = [0.60, 0.69, 0.70, 0.68];
        assert_eq!(
            one_standard_error(&scores, &[0.0, 0.0, 0.02, 0.0]).unwrap(),
            1
        );
        assert_eq!(
            one_standard_error(&scores, &[0.5, 0.5, 0.0, 0.5]).unwrap(),
            2
        );
        assert_eq!(
            one_standard_error(&scores, &[0.0, 0.0, 0.2, 0.0]).unwrap(),
            0
        );
        assert!(matches!(
            one_standard_error(&scores, &[0.1]),
            Err(StatsError::LengthMismatch { .. })
        ));
        assert!(matches!(
            one_standard_error(&[0.1], &[-0.1]),
            Err(StatsError::Negative { .. })
        ));
    }
}
