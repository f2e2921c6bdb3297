//! Filling batches on several threads.

use rayon::prelude::*;

use crate::{Dataset, DatasetError, Draw, Image, Preprocess, Transform, View};

/// What to do about a sample that cannot be read, decoded or fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnError {
    /// Stop with an error that lists it and all others that were asked for with it.
    Fail,
    /// Leave it out and list it; labels and ids of the others stay as they are.
    Skip,
}

/// A sample that was left out.
#[derive(Debug)]
pub struct Skipped {
    /// Its position in the data set.
    pub index: usize,
    /// Its identity.
    pub id: u64,
    /// Its file, or its position in words where images are held in memory.
    pub name: String,
    /// Why.
    pub reason: DatasetError,
}

/// Which samples of a batch are in its buffer.
#[derive(Debug)]
pub struct Loaded {
    /// Positions in the data set, one for each row at the front of the buffer, in the order asked for.
    pub indices: Vec<usize>,
    /// The samples left out.
    pub skipped: Vec<Skipped>,
}

/// Fills `out`, in `[batch, channels, height, width]` order, with the network inputs of the samples at `indices`.
///
/// `flips`, where given, says for each position whether the image is mirrored left to right.
///
/// # Errors
///
/// [`DatasetError::BadSamples`], listing all images of `indices` that cannot be read, decoded or fitted.
///
/// # Panics
///
/// If `out` or `flips` has another length than `indices` asks for, or an index is not below `dataset.len()`.
pub fn load_batch(
    dataset: &Dataset,
    preprocess: &Preprocess,
    indices: &[usize],
    flips: Option<&[bool]>,
    out: &mut [f32],
) -> Result<(), DatasetError> {
    let on_error = OnError::Fail;
    load_batch_or_skip(dataset, preprocess, indices, flips, on_error, out).map(drop)
}

/// Like [`load_batch`], but of every image a part that is drawn at random, brought to the size that the image itself
/// would have been brought to.
///
/// What is drawn for a sample depends on the seed, its identity and the epoch alone.
///
/// # Errors
///
/// As [`load_batch`].
///
/// # Panics
///
/// As [`load_batch`].
#[allow(
    clippy::too_many_arguments,
    reason = "a batch, what is done to it and what that depends on"
)]
pub fn load_views(
    dataset: &Dataset,
    preprocess: &Preprocess,
    view: View,
    indices: &[usize],
    flips: Option<&[bool]>,
    seed: u64,
    epoch: u32,
    out: &mut [f32],
) -> Result<(), DatasetError> {
    let write = |position: usize, image: &Image, out: &mut [f32]| {
        let sample = dataset.id(indices[position]);
        let draw = Draw {
            seed,
            sample,
            epoch,
        };
        let part = view.of(image, preprocess, draw);
        preprocess.write(&part, flips.is_some_and(|flips| flips[position]), out)
    };
    let rows = write_rows(dataset, preprocess.len(), indices, out, write);
    all_or_error(dataset, indices, rows)
}

/// Fills `out`, in `[batch, 3, height, width]` order, with the transformed samples at `indices`.
///
/// What is drawn at random for a sample depends on the seed, its identity and the epoch alone.
///
/// # Errors
///
/// If an image cannot be read or decoded; of several, the one that comes first in `indices`.
///
/// # Panics
///
/// If `out` has another length than `indices` asks for, or an index is not below `dataset.len()`.
pub fn load_transformed(
    dataset: &Dataset,
    transform: &Transform,
    indices: &[usize],
    seed: u64,
    epoch: u32,
    out: &mut [f32],
) -> Result<(), DatasetError> {
    let write = |position: usize, image: &Image, out: &mut [f32]| {
        let draw = Draw {
            seed,
            sample: dataset.id(indices[position]),
            epoch,
        };
        transform.write(image, draw, out);
        Ok(())
    };
    write_rows(dataset, transform.len(), indices, out, write)
        .into_iter()
        .collect()
}

/// Like [`load_batch`], but samples that fail may be left out.
///
/// The rows of the other samples are moved to the front of `out`, without gaps; what stands behind them is unspecified.
///
/// # Errors
///
/// As [`load_batch`] with [`OnError::Fail`]; none with [`OnError::Skip`].
///
/// # Panics
///
/// As [`load_batch`].
pub fn load_batch_or_skip(
    dataset: &Dataset,
    preprocess: &Preprocess,
    indices: &[usize],
    flips: Option<&[bool]>,
    on_error: OnError,
    out: &mut [f32],
) -> Result<Loaded, DatasetError> {
    let rows = load_rows(dataset, preprocess, indices, flips, out);
    let mut loaded = Loaded {
        indices: Vec::with_capacity(indices.len()),
        skipped: Vec::new(),
    };
    let row_len = preprocess.len();
    for (position, (&index, row)) in indices.iter().zip(rows).enumerate() {
        match row {
            Ok(()) => {
                let start = loaded.indices.len() * row_len;
                out.copy_within(position * row_len..(position + 1) * row_len, start);
                loaded.indices.push(index);
            }
            Err(reason) => loaded.skipped.push(skipped(dataset, index, reason)),
        }
    }
    loaded.skipped = on_error.apply(indices.len(), loaded.skipped)?;
    Ok(loaded)
}

/// Decodes every image once and returns the samples that could be decoded.
///
/// # Errors
///
/// With [`OnError::Fail`], [`DatasetError::BadSamples`] listing all images that cannot be read or decoded; none with
/// [`OnError::Skip`].
pub fn check(
    dataset: &Dataset,
    on_error: OnError,
) -> Result<(Dataset, Vec<Skipped>), DatasetError> {
    let results: Vec<Result<(), DatasetError>> = (0..dataset.len())
        .into_par_iter()
        .map(|index| dataset.image(index).map(drop))
        .collect();
    let (mut kept, mut bad) = (Vec::new(), Vec::new());
    for (index, result) in results.into_iter().enumerate() {
        match result {
            Ok(()) => kept.push(index),
            Err(reason) => bad.push(skipped(dataset, index, reason)),
        }
    }
    let skipped = on_error.apply(dataset.len(), bad)?;
    Ok((dataset.subset(&kept), skipped))
}

impl OnError {
    /// Passes the samples that failed on, or makes one error of all of them.
    fn apply(self, asked: usize, mut bad: Vec<Skipped>) -> Result<Vec<Skipped>, DatasetError> {
        if self == Self::Skip || bad.is_empty() {
            return Ok(bad);
        }
        let total = bad.len();
        bad.truncate(DatasetError::MOST_LISTED);
        Err(DatasetError::BadSamples {
            total,
            asked,
            first: bad,
        })
    }
}

/// One error that lists all rows that failed.
fn all_or_error(
    dataset: &Dataset,
    indices: &[usize],
    rows: Vec<Result<(), DatasetError>>,
) -> Result<(), DatasetError> {
    let failed = indices.iter().zip(rows).filter_map(|(&index, row)| {
        let reason = row.err()?;
        Some(skipped(dataset, index, reason))
    });
    OnError::Fail
        .apply(indices.len(), failed.collect())
        .map(drop)
}

fn skipped(dataset: &Dataset, index: usize, reason: DatasetError) -> Skipped {
    let name = dataset.name(index);
    tracing::debug!(name, %reason, "cannot be used");
    Skipped {
        index,
        id: dataset.id(index),
        name,
        reason,
    }
}

/// Fills every row that can be filled and tells for each how it went.
fn load_rows(
    dataset: &Dataset,
    preprocess: &Preprocess,
    indices: &[usize],
    flips: Option<&[bool]>,
    out: &mut [f32],
) -> Vec<Result<(), DatasetError>> {
    assert!(
        flips.is_none_or(|flips| flips.len() == indices.len()),
        "there must be one flip for each index"
    );
    write_rows(
        dataset,
        preprocess.len(),
        indices,
        out,
        |position, image, out| {
            preprocess.write(image, flips.is_some_and(|flips| flips[position]), out)
        },
    )
}

/// Fills each row by `write`, which is told its position among `indices` and its image.
fn write_rows(
    dataset: &Dataset,
    row_len: usize,
    indices: &[usize],
    out: &mut [f32],
    write: impl Fn(usize, &Image, &mut [f32]) -> Result<(), DatasetError> + Sync,
) -> Vec<Result<(), DatasetError>> {
    assert!(row_len > 0, "the size of a network input is at least 1");
    assert_eq!(
        out.len(),
        indices.len() * row_len,
        "the batch buffer has another size than the batch"
    );
    indices
        .par_iter()
        .zip(out.par_chunks_exact_mut(row_len))
        .enumerate()
        .map(|(position, (&index, out))| {
            let image = dataset.image(index)?;
            write(position, &image, out).map_err(|source| DatasetError::Sample {
                name: dataset.name(index),
                source: Box::new(source),
            })
        })
        .collect()
}
