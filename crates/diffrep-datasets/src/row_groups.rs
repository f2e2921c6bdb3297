//! Row groups that are decoded already: a few, for all threads.

use std::sync::{Arc, Mutex, PoisonError};

use parquet::data_type::ByteArray;

use crate::DatasetError;

/// The images of a row group, by row.
pub(crate) type Images = Vec<Option<ByteArray>>;

/// The most bytes of images that are kept; the last two groups are kept whatever their size.
const MOST_BYTES: u64 = 1 << 30;

/// Groups by number, the one used last at the end.
#[derive(Default)]
pub(crate) struct RowGroups {
    kept: Mutex<Vec<Kept>>,
}

struct Kept {
    number: usize,
    bytes: u64,
    images: Slot,
}

/// Held while the group is decoded, so that threads that want the same one wait instead of decoding it again.
type Slot = Arc<Mutex<Option<Arc<Images>>>>;

impl RowGroups {
    /// The images of a group, decoded by `decode` unless they are kept.
    ///
    /// At least two groups more are kept than there are threads, if they are not too large: each thread may read on
    /// in another group.
    pub(crate) fn get(
        &self,
        number: usize,
        bytes: u64,
        decode: impl FnOnce() -> Result<Images, DatasetError>,
    ) -> Result<Arc<Images>, DatasetError> {
        let slot = self.slot(number, bytes, rayon::current_num_threads() + 2);
        // A panic while decoding leaves nothing behind, so the next thread may try.
        let mut images = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(images) = &*images {
            return Ok(Arc::clone(images));
        }
        let decoded = Arc::new(decode()?);
        *images = Some(Arc::clone(&decoded));
        Ok(decoded)
    }

    fn slot(&self, number: usize, bytes: u64, most: usize) -> Slot {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = match kept.iter().position(|entry| entry.number == number) {
            Some(position) => kept.remove(position),
            None => Kept {
                number,
                bytes,
                images: Slot::default(),
            },
        };
        let slot = Arc::clone(&entry.images);
        kept.push(entry);
        let total = |kept: &[Kept]| {
            kept.iter()
                .map(|entry| entry.bytes)
                .fold(0, u64::saturating_add)
        };
        while kept.len() > most || (kept.len() > 2 && total(&kept) > MOST_BYTES) {
            kept.remove(0);
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rayon::prelude::*;

    use super::*;

    fn read(groups: &RowGroups, number: usize, bytes: u64, count: &AtomicUsize) {
        let decode = || {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(vec![Some(ByteArray::from(vec![number as u8]))])
        };
        let images = groups.get(number, bytes, decode).unwrap();
        assert_eq!(images[0].as_ref().unwrap().data(), [number as u8]);
    }

    #[test]
    fn reading_in_order_decodes_every_group_once() {
        let (groups, count) = (RowGroups::default(), AtomicUsize::new(0));
        for row in 0..1_000 {
            read(&groups, row / 10, 1, &count);
        }
        assert_eq!(count.into_inner(), 100);
    }

    #[test]
    fn threads_in_one_group_decode_it_once() {
        let (groups, count) = (RowGroups::default(), AtomicUsize::new(0));
        // Batches in order, the rows of each in parallel, as the loader reads.
        for batch in 0..50 {
            (0..20)
                .into_par_iter()
                .for_each(|row| read(&groups, (batch * 20 + row) / 30, 1, &count));
        }
        assert_eq!(count.into_inner(), 1_000_usize.div_ceil(30));
    }

    #[test]
    fn no_more_is_kept_than_allowed() {
        let (groups, count) = (RowGroups::default(), AtomicUsize::new(0));
        let most = rayon::current_num_threads() + 2;
        for number in 0..100 {
            read(&groups, number, 1, &count);
            assert!(groups.kept.lock().unwrap().len() <= most);
        }
        read(&groups, 99, 1, &count);
        read(&groups, 0, 1, &count);
        assert_eq!(
            count.into_inner(),
            101,
            "the last was kept, the first was not"
        );

        let (groups, count) = (RowGroups::default(), AtomicUsize::new(0));
        for number in 0..10 {
            read(&groups, number, MOST_BYTES, &count);
            assert!(groups.kept.lock().unwrap().len() <= 2);
        }
    }

    #[test]
    fn a_failure_is_not_kept() {
        let groups = RowGroups::default();
        let fail = || Err(DatasetError::ColourImage);
        assert!(groups.get(0, 1, fail).is_err());
        read(&groups, 0, 1, &AtomicUsize::new(0));
    }
}
