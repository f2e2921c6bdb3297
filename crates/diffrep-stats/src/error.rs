//! The one error type of the crate, and the checks that several functions share.

/// Why a statistic has no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StatsError {
    /// There are fewer values than the statistic needs.
    #[error("{what} needs at least {needed} values, and there are {found}")]
    TooFew {
        /// The statistic.
        what: &'static str,
        /// The smallest number that has an answer.
        needed: usize,
        /// The number given.
        found: usize,
    },
    /// A value is NaN or infinite.
    #[error("value {index} is {value}; every value must be finite")]
    NotFinite {
        /// Its position, from 0.
        index: usize,
        /// The value.
        value: f64,
    },
    /// A value whose logarithm is taken is zero or negative.
    #[error("value {index} is {value}; every value must be above 0")]
    NotPositive {
        /// Its position, from 0.
        index: usize,
        /// The value.
        value: f64,
    },
    /// A standard error is negative.
    #[error("value {index} is {value}; a standard error must be at least 0")]
    Negative {
        /// Its position, from 0.
        index: usize,
        /// The value.
        value: f64,
    },
    /// Two inputs that belong together differ in length.
    #[error("two inputs that belong together have {left} and {right} entries")]
    LengthMismatch {
        /// The length of the first.
        left: usize,
        /// The length of the one that differs from it.
        right: usize,
    },
    /// The confidence level is out of range.
    #[error("the level is {level}; it must lie between 0 and 1, both excluded")]
    Level {
        /// The level given.
        level: f64,
    },
    /// There are more successes than trials.
    #[error("{successes} successes out of {trials} trials are not possible")]
    Proportion {
        /// The successes given.
        successes: u64,
        /// The trials given.
        trials: u64,
    },
    /// The values are so large that the answer is not a finite number.
    #[error("the values are too large for a finite {what}")]
    Overflow {
        /// The statistic.
        what: &'static str,
    },
}

/// Errs unless `found >= needed`.
pub(crate) fn at_least(what: &'static str, needed: usize, found: usize) -> Result<(), StatsError> {
    if found < needed {
        return Err(StatsError::TooFew {
            what,
            needed,
            found,
        });
    }
    Ok(())
}

/// Errs on the first value that is NaN or infinite.
pub(crate) fn all_finite(values: &[f64]) -> Result<(), StatsError> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(StatsError::NotFinite {
            index,
            value: values[index],
        }),
        None => Ok(()),
    }
}

/// Errs unless both have the same length.
pub(crate) fn same_length(left: usize, right: usize) -> Result<(), StatsError> {
    if left != right {
        return Err(StatsError::LengthMismatch { left, right });
    }
    Ok(())
}

/// Errs unless `0 < level < 1`.
pub(crate) fn check_level(level: f64) -> Result<(), StatsError> {
    if level > 0.0 && level < 1.0 {
        return Ok(());
    }
    Err(StatsError::Level { level })
}
