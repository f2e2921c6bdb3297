//! How many rows go through the network together, and side by side.

use std::num::NonZeroUsize;

use burn::tensor::Device;
use diffrep_taps::Encoder;

use crate::crew::Crew;
use crate::{ExtractError, Extraction, features};

/// Images of `size` x `size` that go through the network together where nothing else is asked for: 16 small
/// ones, fewer of more than 32 x 32 pixels, since maps of a large image fill the processor by themselves.
pub fn micro_batch(size: usize) -> usize {
    const IMAGES: usize = 16;
    (IMAGES * 32 * 32 / (size * size).max(1)).clamp(1, IMAGES)
}

/// How many rows go through the network together. Every batch has the same shape, the last one filled up with
/// its last row: an image meets the same arithmetic whatever else is extracted, and kernels that are tuned by
/// shape are tuned once. On burn's flex backend a U-Net gives the same bits in a batch of any size.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// [`micro_batch`] of the network's images without it.
    pub rows: Option<NonZeroUsize>,
    /// Whether the numbers may depend on it, so that it is a part of the store's key: where a network is not known
    /// to give the same bits in a batch of any size, and this is not the usual one.
    pub in_key: bool,
    /// What was found out about it, such as the memory that it takes, for those who read the store; nothing
    /// where it is null. Changes no number.
    pub note: serde_json::Value,
}

impl Extraction<'_> {
    /// How many rows go through the network together.
    pub(crate) fn together(&self) -> usize {
        match self.batch.rows {
            Some(rows) => rows.get(),
            None => micro_batch(self.preprocess.size),
        }
    }

    /// How many batches are computed side by side: [`workers`](Self::workers), or 1 for large images.
    pub fn side_by_side(&self) -> usize {
        // Operators on maps of a large image keep all threads busy, and two images at once would
        // share the cache: measured, 1.2 times slower.
        match micro_batch(self.preprocess.size) {
            1 => 1,
            _ => self.workers.max(1),
        }
    }

    /// Computes a batch of the first rows for each worker and keeps nothing: what a job takes of time and memory
    /// at once. Gives the number of rows.
    ///
    /// # Errors
    ///
    /// As [`features`].
    pub fn rehearse<E: Encoder + Sync>(
        &self,
        encoder: &E,
        device: &Device,
    ) -> Result<usize, ExtractError> {
        let (rows, together) = (self.rows(), self.together());
        let rows: Vec<usize> = (0..self.side_by_side() * together)
            .map(|row| row % rows)
            .collect();
        let parts: Vec<&[usize]> = rows.chunks(together).collect();
        self.crew().map(
            &parts,
            |part| features(encoder, self, part, device).map(drop),
            |_| (),
        )?;
        Ok(rows.len())
    }

    /// Who computes batches.
    pub(crate) fn crew(&self) -> Crew {
        Crew::new(self.side_by_side())
    }
}
