//! Sizes of images.

use std::collections::BTreeMap;

use serde::Serialize;

/// The sizes of images, in pixels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// Columns.
    pub width: Spread,
    /// Rows.
    pub height: Spread,
    /// The size that most images have; of several, the smallest.
    pub most_common: CommonSize,
}

/// Smallest, middle and largest of some numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// The smallest.
    pub min: u32,
    /// The median; of an even number, the lower of the two in the middle.
    pub median: u32,
    /// The largest.
    pub max: u32,
}

/// A size and how many images have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CommonSize {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Number of images.
    pub images: usize,
}

impl Sizes {
    /// Sums up `(width, height)` pairs; nothing if there are none.
    pub(super) fn of(sizes: impl Iterator<Item = (u32, u32)>) -> Option<Self> {
        let mut counts: BTreeMap<(u32, u32), usize> = BTreeMap::new();
        for size in sizes {
            *counts.entry(size).or_default() += 1;
        }
        // The last of equals, in descending order, is the smallest.
        let (&(width, height), &images) = counts.iter().rev().max_by_key(|(_, count)| **count)?;
        Some(Self {
            width: Spread::of(counts.iter().map(|(size, &count)| (size.0, count)))?,
            height: Spread::of(counts.iter().map(|(size, &count)| (size.1, count)))?,
            most_common: CommonSize {
                width,
                height,
                images,
            },
        })
    }
}

impl Spread {
    /// Of numbers with how often each occurs.
    fn of(values: impl Iterator<Item = (u32, usize)>) -> Option<Self> {
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for (value, count) in values {
            *counts.entry(value).or_default() += count;
        }
        let total: usize = counts.values().sum();
        let mut before = 0;
        let median = counts.iter().find(|(_, count)| {
            before += **count;
            before > (total - 1) / 2
        });
        Some(Self {
            min: *counts.first_key_value()?.0,
            median: *median?.0,
            max: *counts.last_key_value()?.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_count_images_and_not_sizes() {
        let sizes = [(5, 1), (1, 9), (1, 9), (9, 9), (1, 9), (7, 3)];
        let found = Sizes::of(sizes.into_iter()).unwrap();
        // Widths 1 1 1 5 7 9 and heights 1 3 9 9 9 9.
        assert_eq!(
            found.width,
            Spread {
                min: 1,
                median: 1,
                max: 9
            }
        );
        assert_eq!(
            found.height,
            Spread {
                min: 1,
                median: 9,
                max: 9
            }
        );
        assert_eq!(
            found.most_common,
            CommonSize {
                width: 1,
                height: 9,
                images: 3
            }
        );
        assert_eq!(
            Sizes::of([(2, 1), (1, 2)].into_iter()).unwrap().most_common,
            CommonSize {
                width: 1,
                height: 2,
                images: 1
            }
        );
        assert_eq!(Sizes::of(std::iter::empty()), None);
    }
}
