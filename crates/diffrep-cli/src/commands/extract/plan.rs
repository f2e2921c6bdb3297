//! What an extraction will do, said before it begins.

use anyhow::Result;
use burn::tensor::Device;
use diffrep_extract::{Extraction, Views, features, micro_batch};
use serde::Serialize;

use crate::commands::encoder::AnyEncoder;

/// What an extraction will do.
#[derive(Debug, Serialize)]
pub(super) struct Plan {
    images: usize,
    /// One for each image, draw and side.
    rows: usize,
    #[serde(flatten)]
    views: Views,
    /// One for each row and timestep.
    forwards: usize,
    last_block: usize,
    blocks: usize,
    /// Of features, labels, ids and tags.
    bytes_on_disk: usize,
}

impl Plan {
    pub(super) fn of(job: &Extraction<'_>, blocks: usize) -> Self {
        let rows = job.rows();
        let values: usize = job.settings.columns().iter().map(|(_, dim)| dim).sum();
        let integers = if job.views.count() == 1 { 2 } else { 4 };
        Self {
            images: job.dataset.len(),
            rows,
            views: job.views,
            forwards: rows * job.settings.groups().count(),
            last_block: job.settings.last_block().get(),
            blocks,
            bytes_on_disk: rows * (values * job.dtype.size() + integers * size_of::<i64>()),
        }
    }

    /// The images, and their rows where they are more.
    pub(super) fn images(&self) -> String {
        let (draws, flips) = (self.views.draws.get(), self.views.flips);
        let each = match (draws, flips) {
            (1, false) => return format!("{} images", self.images),
            (1, true) => "as they are and mirrored".into(),
            (draws, false) => format!("{draws} draws each"),
            (draws, true) => format!("{draws} draws each, as they are and mirrored"),
        };
        format!("{} images in {} rows ({each})", self.images, self.rows)
    }

    pub(super) fn sentence(&self) -> String {
        format!(
            "{}, {} forwards up to block {} of {}, {:.1} MB on disk",
            self.images(),
            self.forwards,
            self.last_block,
            self.blocks,
            self.bytes_on_disk as f64 / 1e6
        )
    }

    /// Seconds that all rows take if they take as long as the first micro-batch, which is computed
    /// twice and timed the second time.
    pub(super) fn calibrate(
        &self,
        network: &AnyEncoder,
        job: &Extraction<'_>,
        device: &Device,
    ) -> Result<f64> {
        let together = micro_batch(job.preprocess.size);
        let rows: Vec<usize> = (0..together.min(self.rows)).collect();
        features(network, job, &rows, device)?;
        let start = std::time::Instant::now();
        features(network, job, &rows, device)?;
        let rounds = self.rows.div_ceil(together);
        Ok(start.elapsed().as_secs_f64() * rounds as f64)
    }
}
