//! Deterministic, class-balanced choices of samples.

use std::collections::BTreeMap;

use diffrep_rng::{Key, Stream};

use crate::DatasetError;

/// How many samples of each class are held out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HoldOut {
    /// This many.
    PerClass(usize),
    /// This part, more than 0 and less than 1, rounded to the nearest number (halves to even).
    Fraction(f64),
}

/// The positions of `per_class` samples of each class, in ascending order.
///
/// The choice within a class depends on the seed, the class and the number of its samples alone, and a larger choice
/// contains every smaller one.
///
/// # Errors
///
/// If a class that occurs in `labels` has fewer samples.
pub fn balanced_subset(
    labels: &[u32],
    per_class: usize,
    seed: u64,
) -> Result<Vec<usize>, DatasetError> {
    let mut chosen = Vec::new();
    for (class, mut positions) in positions_by_class(labels) {
        require(class, positions.len(), per_class, positions.len())?;
        shuffle(&mut positions, class, seed, SUBSET);
        chosen.extend_from_slice(&positions[..per_class]);
    }
    chosen.sort_unstable();
    Ok(chosen)
}

/// Positions for training and for validation, each in ascending order, with the same share of every class held out.
///
/// # Errors
///
/// If the fraction is out of range, or a class would be left without training samples.
pub fn hold_out(
    labels: &[u32],
    held_out: HoldOut,
    seed: u64,
) -> Result<(Vec<usize>, Vec<usize>), DatasetError> {
    let (mut train, mut validation) = (Vec::new(), Vec::new());
    for (class, mut positions) in positions_by_class(labels) {
        let available = positions.len();
        let count = match held_out {
            HoldOut::PerClass(count) => count,
            HoldOut::Fraction(fraction) if fraction > 0.0 && fraction < 1.0 => {
                (available as f64 * fraction).round_ties_even() as usize
            }
            HoldOut::Fraction(fraction) => return Err(DatasetError::Fraction { fraction }),
        };
        require(class, available, count, available - 1)?;
        shuffle(&mut positions, class, seed, HOLD_OUT);
        validation.extend_from_slice(&positions[..count]);
        train.extend_from_slice(&positions[count..]);
    }
    train.sort_unstable();
    validation.sort_unstable();
    Ok((train, validation))
}

/// Draws of the split stream: a hold-out from a subset must not repeat the subset's order.
const SUBSET: u32 = 0;
const HOLD_OUT: u32 = 1;

fn positions_by_class(labels: &[u32]) -> BTreeMap<u32, Vec<usize>> {
    let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (position, &label) in labels.iter().enumerate() {
        classes.entry(label).or_default().push(position);
    }
    classes
}

fn shuffle(positions: &mut [usize], class: u32, seed: u64, draw: u32) {
    Key::new(seed, Stream::Split)
        .sample(u64::from(class))
        .draw(draw)
        .generator()
        .shuffle(positions);
}

fn require(class: u32, available: usize, wanted: usize, most: usize) -> Result<(), DatasetError> {
    if wanted <= most {
        return Ok(());
    }
    Err(DatasetError::NotEnough {
        class,
        available,
        wanted,
        most,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(labels: &[u32], positions: &[usize], class: u32) -> usize {
        positions
            .iter()
            .filter(|&&position| labels[position] == class)
            .count()
    }

    proptest! {
        #[test]
        fn a_subset_is_balanced_repeatable_and_nested(
            labels in prop::collection::vec(0_u32..4, 1..200),
            seed in any::<u64>(),
        ) {
            let smallest = positions_by_class(&labels).values().map(Vec::len).min().unwrap();
            let chosen = balanced_subset(&labels, smallest, seed).unwrap();
            prop_assert!(chosen.is_sorted_by(|a, b| a < b));
            for &class in positions_by_class(&labels).keys() {
                prop_assert_eq!(count(&labels, &chosen, class), smallest);
            }
            prop_assert_eq!(&balanced_subset(&labels, smallest, seed).unwrap(), &chosen);
            let fewer = balanced_subset(&labels, smallest - 1, seed).unwrap();
            prop_assert!(fewer.iter().all(|position| chosen.contains(position)));
            prop_assert!(balanced_subset(&labels, smallest + 1, seed).is_err());
        }

        #[test]
        fn a_hold_out_parts_the_whole(
            counts in prop::collection::vec(2_usize..40, 1..6),
            fraction in 0.05_f64..0.5,
            seed in any::<u64>(),
        ) {
            let labels: Vec<u32> = counts
                .iter()
                .enumerate()
                .flat_map(|(class, &count)| vec![class as u32; count])
                .collect();
            let (train, validation) = hold_out(&labels, HoldOut::Fraction(fraction), seed).unwrap();
            let mut both = [train, validation.clone()].concat();
            both.sort_unstable();
            prop_assert_eq!(both, (0..labels.len()).collect::<Vec<_>>());
            for (class, &total) in counts.iter().enumerate() {
                let expected = (total as f64 * fraction).round_ties_even() as usize;
                prop_assert_eq!(count(&labels, &validation, class as u32), expected);
            }
        }
    }

    #[test]
    fn seeds_differ() {
        let labels = vec![0; 1_000];
        let first = balanced_subset(&labels, 100, 1).unwrap();
        assert_ne!(first, balanced_subset(&labels, 100, 2).unwrap());
        // Ten per cent overlap is expected by chance; a shared order would give all.
        let (_, held) = hold_out(&labels, HoldOut::PerClass(100), 1).unwrap();
        assert!(
            held.iter()
                .filter(|&position| first.contains(position))
                .count()
                < 40
        );
    }

    #[test]
    fn impossible_requests_name_the_class_and_the_limit() {
        let error = hold_out(&[0, 0, 7], HoldOut::PerClass(1), 0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "class 7 has 1 samples, and 1 were asked for; expected at most 0"
        );
        for fraction in [0.0, 1.0, f64::NAN] {
            let error = hold_out(&[0, 0], HoldOut::Fraction(fraction), 0).unwrap_err();
            assert!(matches!(error, DatasetError::Fraction { .. }));
        }
    }
}
