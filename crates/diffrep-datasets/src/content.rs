//! What a fingerprint sees of the content of files: all of it where that is little, else an even sample, so that its
//! cost is bounded whatever the size of a data set.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use diffrep_artifact::Sha256Hex;
use rayon::prelude::*;

use crate::DatasetError;
use crate::error::io_error;

/// How much is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Bytes in all. Files of no more than this together are read whole.
    pub(crate) bytes: u64,
    /// How many files are sampled where there are more bytes.
    pub(crate) files: usize,
}

/// Reading and hashing 256 MiB takes some tenths of a second where the disk's cache holds them.
pub(crate) const BOUNDS: Bounds = Bounds {
    bytes: 256 << 20,
    files: 1024,
};

/// All of a file.
fn whole(size: u64) -> Vec<Range<u64>> {
    std::iter::once(0..size).collect()
}

impl Bounds {
    /// Which of so many files are read: all, or as many as are sampled, evenly spread from the first on.
    fn places(self, sizes: &[u64]) -> Vec<usize> {
        let count = match self.holds(sizes) {
            true => sizes.len(),
            false => sizes.len().min(self.files),
        };
        (0..count)
            .map(|place| place * sizes.len() / count)
            .collect()
    }

    /// Whether all of them are read whole.
    fn holds(self, sizes: &[u64]) -> bool {
        sizes.iter().sum::<u64>() <= self.bytes
    }

    /// What is read of a file of `size` bytes in a sample of `count`: all of it, or its beginning and its end.
    fn ranges(self, size: u64, count: usize) -> Vec<Range<u64>> {
        let most = self.bytes / count as u64;
        match size <= most {
            true => whole(size),
            false => vec![0..most / 2, size - most / 2..size],
        }
    }

    /// A hash of what is seen of files of these sizes. `read` is given the place of a file among them.
    pub(crate) fn hash(
        self,
        sizes: &[u64],
        read: impl Fn(usize, Range<u64>) -> Result<Vec<u8>, DatasetError> + Sync,
    ) -> Result<Sha256Hex, DatasetError> {
        let (holds, places) = (self.holds(sizes), self.places(sizes));
        let seen = |&place: &usize| {
            let size = sizes[place];
            let ranges = match holds {
                true => whole(size),
                false => self.ranges(size, places.len()),
            };
            let parts = ranges.into_iter().map(|range| read(place, range));
            let parts: Vec<Vec<u8>> = parts.collect::<Result<_, DatasetError>>()?;
            Ok(Sha256Hex::hash_bytes(&parts.concat()))
        };
        let hashes: Result<Vec<Sha256Hex>, DatasetError> = places.par_iter().map(seen).collect();
        Ok(Sha256Hex::hash_json(&hashes?)?)
    }
}

/// What was seen of the samples that were asked for before, by a hash of their rows: files are looked at once for as
/// long as a data set is open.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<BTreeMap<Sha256Hex, Sha256Hex>>);

impl Seen {
    /// What `look` found for these rows, now or before.
    pub(crate) fn of(
        &self,
        rows: &[usize],
        look: impl FnOnce() -> Result<Sha256Hex, DatasetError>,
    ) -> Result<Sha256Hex, DatasetError> {
        let rows: Vec<u8> = rows
            .iter()
            .flat_map(|&row| (row as u64).to_le_bytes())
            .collect();
        let key = Sha256Hex::hash_bytes(&rows);
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known().get(&key) {
            return Ok(found.clone());
        }
        // Not while others wait: they may be threads that are to read.
        let found = look()?;
        known().insert(key, found.clone());
        Ok(found)
    }
}

/// Some bytes of a file; fewer if it has become shorter.
pub(crate) fn read_part(path: &Path, range: Range<u64>) -> Result<Vec<u8>, DatasetError> {
    let mut file = File::open(path).map_err(io_error(path, "opened"))?;
    if range.start > 0 {
        file.seek(SeekFrom::Start(range.start))
            .map_err(io_error(path, "read"))?;
    }
    let mut bytes = Vec::new();
    file.take(range.end - range.start)
        .read_to_end(&mut bytes)
        .map_err(io_error(path, "read"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Bounds = Bounds {
        bytes: 40,
        files: 4,
    };

    fn hash(files: &[Vec<u8>]) -> Sha256Hex {
        let sizes: Vec<u64> = files.iter().map(|file| file.len() as u64).collect();
        let read = |place: usize, range: Range<u64>| {
            Ok(files[place][range.start as usize..range.end as usize].to_vec())
        };
        SMALL.hash(&sizes, read).unwrap()
    }

    #[test]
    fn of_little_every_byte_is_seen() {
        let files = vec![vec![1; 30], vec![2; 9], vec![3; 1]];
        for place in 0..3 {
            for byte in 0..files[place].len() {
                let mut changed = files.clone();
                changed[place][byte] ^= 1;
                assert_ne!(hash(&changed), hash(&files), "{place} {byte}");
            }
        }
        let swapped = vec![vec![2; 9], vec![1; 30], vec![3; 1]];
        assert_ne!(hash(&swapped), hash(&files));
    }

    #[test]
    fn of_much_so_many_files_are_seen_with_their_beginnings_and_ends() {
        let files = vec![vec![7; 20]; 10];
        assert_eq!(SMALL.places(&[20; 10]), [0, 2, 5, 7]);
        for (place, byte, seen) in [
            (0, 0, true),
            (0, 4, true),
            (0, 5, false),
            (0, 14, false),
            (0, 15, true),
            (7, 19, true),
            (1, 0, false),
            (9, 0, false),
        ] {
            let mut changed = files.clone();
            changed[place][byte] ^= 1;
            assert_eq!(hash(&changed) != hash(&files), seen, "{place} {byte}");
        }
    }

    #[test]
    fn no_more_is_read_than_the_bound() {
        for sizes in [
            vec![41; 1],
            vec![1_000_000; 3],
            vec![11; 100],
            vec![3; 1000],
        ] {
            let read = std::sync::atomic::AtomicU64::new(0);
            SMALL
                .hash(&sizes, |_, range| {
                    let bytes = range.end - range.start;
                    read.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
                    Ok(Vec::new())
                })
                .unwrap();
            assert!(read.into_inner() <= SMALL.bytes, "{sizes:?}");
        }
        assert!(hash(&[]) == hash(&[]));
    }

    #[test]
    fn content_is_looked_at_once() {
        let (seen, looks) = (Seen::default(), std::cell::Cell::new(0));
        let look = |rows: &[usize]| {
            let found = seen.of(rows, || {
                looks.set(looks.get() + 1);
                Ok(Sha256Hex::hash_bytes(&[rows.len() as u8]))
            });
            found.unwrap()
        };
        assert_eq!(look(&[1, 2]), look(&[1, 2]));
        assert_ne!(look(&[1, 2]), look(&[1]));
        assert_eq!(looks.get(), 2);
    }
}
