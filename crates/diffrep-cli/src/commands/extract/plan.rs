//! What an extraction will do, said before it begins.

use anyhow::Result;
use burn::tensor::Device;
use diffrep_extract::{Extraction, Views};
use serde::Serialize;

use super::batch::{Batching, gigabytes};
use crate::commands::encoder::AnyEncoder;
use crate::device::DeviceSpec;
use crate::memory;

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
    #[serde(flatten)]
    batching: Batching,
}

impl Plan {
    pub(super) fn of(job: &Extraction<'_>, blocks: usize, batching: Batching) -> Self {
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
            batching,
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
        let memory = match (
            self.batching.measured_peak_bytes,
            self.batching.predicted_peak_bytes,
        ) {
            (Some(measured), Some(predicted)) => format!(
                ", {} of memory measured ({} predicted)",
                gigabytes(measured),
                gigabytes(predicted)
            ),
            (Some(measured), None) => format!(", {} of memory measured", gigabytes(measured)),
            (None, Some(predicted)) => format!(", about {} of memory", gigabytes(predicted)),
            (None, None) => String::new(),
        };
        format!(
            "{}, {} forwards up to block {} of {} in batches of {}, {:.1} MB on disk{memory}",
            self.images(),
            self.forwards,
            self.last_block,
            self.blocks,
            self.batching.batch,
            self.bytes_on_disk as f64 / 1e6
        )
    }

    /// Seconds that all rows take if they take as long as the first batches, one for each worker, which are
    /// computed twice and timed the second time; the first time tells the peak of memory, where a search for the
    /// batch has not told it already.
    pub(super) fn calibrate(
        &mut self,
        network: &AnyEncoder,
        job: &Extraction<'_>,
        device: &Device,
        spec: DeviceSpec,
    ) -> Result<f64> {
        let tells = self.batching.measured_peak_bytes.is_none()
            && spec == DeviceSpec::Flex
            && memory::forget_peak();
        let at_once = job.rehearse(network, device)?;
        if tells {
            self.batching.measured_peak_bytes = memory::resident().map(|resident| resident.peak);
        }
        let start = std::time::Instant::now();
        job.rehearse(network, device)?;
        let rounds = self.rows.div_ceil(at_once);
        Ok(start.elapsed().as_secs_f64() * rounds as f64)
    }
}
