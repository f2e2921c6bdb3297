//! Which worker computes which shard.
//!
//! The list of shards depends on the samples alone, never on the number of workers: a run that was
//! begun by 64 workers is finished by 3, and what is on disk decides what is missing. A worker's own
//! shards are every K-th. Blocks of neighbours would be no fairer in number, and less fair in work:
//! neighbours are of one class, whose images may all be large, and when a run is resumed after one
//! machine has failed, all that is missing would fall to one worker.

use std::ops::Range;

use crate::Place;

/// Samples cut into shards: the rows `0..rows`, `rows..2 * rows` and so on, the last shard shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardList {
    samples: usize,
    rows: usize,
}

impl ShardList {
    /// `samples` in shards of `rows`, as a feature store cuts them.
    ///
    /// # Panics
    ///
    /// Panics if `rows` is 0.
    pub fn new(samples: usize, rows: usize) -> Self {
        assert!(rows > 0, "a shard has at least one row");
        Self { samples, rows }
    }

    /// How many shards there are.
    pub fn count(&self) -> usize {
        self.samples.div_ceil(self.rows)
    }

    /// The rows of shard `index`.
    ///
    /// # Panics
    ///
    /// Panics if there is no such shard.
    pub fn rows(&self, index: usize) -> Range<usize> {
        assert!(
            index < self.count(),
            "shard {index} of {count}",
            count = self.count()
        );
        let start = index * self.rows;
        start..self.rows.saturating_add(start).min(self.samples)
    }

    /// The shards of one worker, in order; no other worker of the same count has one of them.
    pub fn own(&self, place: &Place) -> impl DoubleEndedIterator<Item = usize> + use<> {
        every(self.count(), place.index, place.count)
    }

    /// All shards in the order in which a worker should try to claim them: its own from the front,
    /// then those of the workers after it from the back, where their owners come last.
    pub fn claim_order(&self, place: &Place) -> impl Iterator<Item = usize> + use<> {
        let (shards, workers, first) = (self.count(), place.count, place.index);
        // A worker whose number is not below the number of shards owns none.
        let others = (1..workers).map(move |step| (first + step) % workers);
        self.own(place)
            .chain(others.flat_map(move |worker| every(shards, worker, workers).rev()))
    }
}

/// `first`, `first + step` and so on, below `end`.
fn every(end: usize, first: usize, step: usize) -> impl DoubleEndedIterator<Item = usize> {
    (first..end).step_by(step)
}

#[cfg(test)]
mod tests {
    use diffrep_store::{ColumnSpec, FeatureDtype, StoreSpec};
    use proptest::prelude::*;

    use super::*;

    fn place(index: usize, count: usize) -> Place {
        format!("{index}/{count}").parse().unwrap()
    }

    proptest! {
        #[test]
        fn every_shard_belongs_to_exactly_one_worker(
            samples in 0usize..3000,
            rows in 1usize..200,
            workers in 1usize..80,
        ) {
            let list = ShardList::new(samples, rows);
            let mut owners = vec![0; list.count()];
            let mut sizes = Vec::new();
            for index in 0..workers {
                let own: Vec<_> = list.own(&place(index, workers)).collect();
                sizes.push(own.len());
                for shard in own {
                    owners[shard] += 1;
                }
            }
            prop_assert!(owners.iter().all(|&owners| owners == 1));
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
        }

        #[test]
        fn a_worker_may_claim_every_shard_and_its_own_first(
            samples in 0usize..3000,
            rows in 1usize..200,
            workers in 1usize..80,
            index in 0usize..80,
        ) {
            let list = ShardList::new(samples, rows);
            let place = place(index % workers, workers);
            let order: Vec<_> = list.claim_order(&place).collect();
            let own: Vec<_> = list.own(&place).collect();
            prop_assert_eq!(&order[..own.len()], &own[..]);
            let mut sorted = order;
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..list.count()).collect::<Vec<_>>());
        }

        #[test]
        fn shards_are_those_of_a_store(samples in 1usize..3000, rows in 1usize..5000) {
            let spec = StoreSpec {
                columns: vec![ColumnSpec::new("a", 1)],
                dtype: FeatureDtype::F32,
                tags: Vec::new(),
                samples,
                shard_rows: rows,
                key: "k".into(),
                info: Default::default(),
                contract: 1,
            };
            let list = ShardList::new(samples, rows);
            prop_assert_eq!(list.count(), spec.shard_count());
            for shard in spec.shards() {
                prop_assert_eq!(list.rows(shard.index), shard.start..shard.end);
            }
        }
    }

    #[test]
    fn the_largest_shard_does_not_overflow() {
        let list = ShardList::new(usize::MAX, usize::MAX);
        assert_eq!((list.count(), list.rows(0)), (1, 0..usize::MAX));
        assert_eq!(ShardList::new(0, 8).count(), 0);
    }
}
