//! How many rows go through the network together, and whether they fit into memory: predicted from the shapes of
//! the network's maps, and held to a run before anything is written.

use std::num::NonZeroUsize;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use diffrep_extract::{Batch, Extraction, micro_batch};
use diffrep_taps::TapSet;
use diffrep_unet::{Precision, UNet, forward_memory};
use serde::Serialize;

use crate::commands::encoder::AnyEncoder;
use crate::device::DeviceSpec;
use crate::memory::{self, Bytes};

/// The largest batch that `auto` tries on a GPU.
const LARGEST: usize = 512;
/// Part of what is free that is taken, in tenths: libraries keep buffers of their own.
const TENTHS: u64 = 9;
/// What the kernels for the CPU work with, for each worker: components of a few hundred tiles.
const WORKSPACE: u64 = 32 << 20;

/// `--batch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchArg {
    Auto,
    Rows(NonZeroUsize),
}

impl FromStr for BatchArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text
                .parse()
                .map(Self::Rows)
                .map_err(|_| "a batch is a number from 1, or `auto`".into()),
        }
    }
}

/// How the rows of a job go through the network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Batching {
    /// Rows at once, for each worker.
    pub(super) batch: usize,
    /// Batches side by side.
    pub(super) workers: usize,
    /// What the process, or the GPU, has in use at the peak by prediction; where nothing is known of the network's
    /// maps or the system tells no memory, nothing.
    pub(super) predicted_peak_bytes: Option<u64>,
    /// The same by measurement, where a batch has been computed.
    pub(super) measured_peak_bytes: Option<u64>,
}

impl Batching {
    /// For the manifest.
    pub(super) fn note(&self) -> Result<serde_json::Value> {
        Ok(serde_json::to_value(self)?)
    }
}

/// Whether a batch is a part of a store's key. A U-Net gives the same bits in a batch of any shape; of another network
/// that is not known.
pub(super) fn in_key(job: &Extraction<'_>, network: &AnyEncoder, batch: usize) -> bool {
    match network {
        AnyEncoder::Diffusion(_) => false,
        _ => batch != micro_batch(job.preprocess.size),
    }
}

/// What is in use at the peak, by the shapes of maps.
#[derive(Clone, Copy, Debug)]
struct Model {
    /// In use before the first batch.
    base: u64,
    /// What a shard holds until it is written.
    shard: u64,
    /// For each worker, whatever its batch.
    worker: u64,
    /// For each row of a batch.
    row: u64,
}

impl Model {
    fn peak(&self, batch: usize, workers: usize) -> u64 {
        self.base + self.shard + workers as u64 * (self.worker + batch as u64 * self.row)
    }

    /// The best that stays within `budget`: on a CPU, where larger batches than the usual one are no faster, as many
    /// workers as fit and only then smaller batches; on a GPU the largest batch, evened out over a shard.
    fn choose(&self, budget: u64, usual: &Usual, on_gpu: bool) -> Option<(usize, usize)> {
        let fits = |&(batch, workers): &(usize, usize)| self.peak(batch, workers) <= budget;
        if !on_gpu {
            let crews = (1..=usual.workers)
                .rev()
                .map(|workers| (usual.batch, workers));
            let halves = std::iter::successors(Some(usual.batch), |batch| match batch {
                1 => None,
                batch => Some(batch / 2),
            });
            return crews.chain(halves.map(|batch| (batch, 1))).find(fits);
        }
        let most = LARGEST.min(usual.shard_rows.max(1));
        let batch = (1..=most).rev().find(|&batch| fits(&(batch, 1)))?;
        let rounds = usual.shard_rows.max(1).div_ceil(batch);
        Some((usual.shard_rows.max(1).div_ceil(rounds), 1))
    }
}

/// What a job does if nothing is said.
#[derive(Clone, Copy, Debug)]
struct Usual {
    batch: usize,
    workers: usize,
    shard_rows: usize,
}

/// What may be in use.
struct Budget {
    bytes: u64,
    why: String,
}

/// A job that looks for its batch.
pub(super) struct Search<'a, 'b> {
    pub(super) job: &'a Extraction<'b>,
    pub(super) network: &'a AnyEncoder,
    pub(super) device: &'a Device,
    pub(super) spec: DeviceSpec,
    /// `--memory-limit`.
    pub(super) limit: Option<Bytes>,
}

impl Search<'_, '_> {
    /// How the job goes through the network: with a batch that was asked for or a limit, within the memory that may
    /// be used, and tried once; else as usual, with what that will take where it is known.
    ///
    /// # Errors
    ///
    /// When it does not fit, with the smallest that does.
    pub(super) fn batching(&self, asked: Option<BatchArg>) -> Result<Batching> {
        let job = self.job;
        let usual = Usual {
            batch: micro_batch(job.preprocess.size),
            workers: job.side_by_side(),
            shard_rows: job.shard_rows.min(job.rows()),
        };
        let model = self.model();
        if asked.is_none() && self.limit.is_none() {
            return Ok(Batching {
                batch: usual.batch,
                workers: usual.workers,
                predicted_peak_bytes: model.ok().map(|m| m.peak(usual.batch, usual.workers)),
                measured_peak_bytes: None,
            });
        }
        if let (Some(BatchArg::Rows(rows)), None, Err(_)) = (asked, self.limit, &model) {
            // A number is taken at its word where nothing can be predicted.
            return Ok(Batching {
                batch: rows.get(),
                workers: usual.workers,
                predicted_peak_bytes: None,
                measured_peak_bytes: None,
            });
        }
        let model = model?;
        let budget = self.budget()?;
        let usual = match asked {
            Some(BatchArg::Rows(rows)) => Usual {
                batch: rows.get(),
                ..usual
            },
            _ => usual,
        };
        let chosen = match asked {
            Some(BatchArg::Auto) => model.choose(budget.bytes, &usual, self.on_gpu()),
            _ => (1..=usual.workers)
                .rev()
                .map(|workers| (usual.batch, workers))
                .find(|(batch, workers)| model.peak(*batch, *workers) <= budget.bytes),
        };
        let Some((mut batch, mut workers)) = chosen else {
            bail!(refusal(&model, &budget, &usual));
        };
        loop {
            let measured = self.measure(batch, workers)?;
            let found = Batching {
                batch,
                workers,
                predicted_peak_bytes: Some(model.peak(batch, workers)),
                measured_peak_bytes: measured,
            };
            let measured = match measured {
                Some(measured) if measured > budget.bytes => measured,
                _ => return Ok(found),
            };
            if self.on_gpu() && matches!(asked, Some(BatchArg::Auto)) {
                // The backend keeps what it has taken: nothing smaller can be measured by this process.
                let off = measured as f64 / model.peak(batch, workers) as f64;
                let peak = |rows: usize| (model.peak(rows, workers) as f64 * off) as u64;
                if let Some(rows) = (1..batch).rev().find(|rows| peak(*rows) <= budget.bytes) {
                    return Ok(Batching {
                        batch: rows,
                        workers,
                        predicted_peak_bytes: Some(peak(rows)),
                        measured_peak_bytes: None,
                    });
                }
                batch = 1;
            }
            // The prediction was too low: one step down, as far as there is one.
            (batch, workers) = match (asked, batch, workers) {
                (_, _, 2..) => (batch, workers - 1),
                (Some(BatchArg::Auto), 2.., _) => (batch / 2, 1),
                _ => bail!(
                    "{} took {} at its peak where {} may be used ({}): give it more, or a smaller --batch",
                    rows(batch),
                    gigabytes(measured),
                    gigabytes(budget.bytes),
                    budget.why
                ),
            };
        }
    }

    fn on_gpu(&self) -> bool {
        matches!(self.spec, DeviceSpec::Cuda(_) | DeviceSpec::TchCuda(_))
    }

    /// A sentence, if it is not known which card's memory is free: the fullest of several is taken.
    pub(super) fn doubt(&self) -> Option<String> {
        let (DeviceSpec::Cuda(index) | DeviceSpec::TchCuda(index)) = self.spec else {
            return None;
        };
        let gpu = memory::gpu(index)?;
        (gpu.cards.len() > 1).then(|| format!("memory: {}", gpu.source(index)))
    }

    fn in_use(&self) -> Result<u64> {
        match self.spec {
            DeviceSpec::Cuda(index) | DeviceSpec::TchCuda(index) => {
                let gpu = memory::gpu(index).context(
                    "the GPU's memory is not known, since `nvidia-smi` does not tell it: leave --batch auto and \
                     --memory-limit out",
                )?;
                Ok(gpu.used)
            }
            _ => memory::resident().map(|resident| resident.now).context(
                "this system does not tell what memory a process has: leave --batch auto and --memory-limit out",
            ),
        }
    }

    fn budget(&self) -> Result<Budget> {
        let used = self.in_use()?;
        let free = match self.spec {
            DeviceSpec::Cuda(index) | DeviceSpec::TchCuda(index) => {
                memory::gpu(index).map(|gpu| memory::Free {
                    bytes: gpu.free,
                    source: gpu.source(index),
                })
            }
            _ => memory::free(),
        };
        let free = free.map(|free| Budget {
            bytes: used + free.bytes / 10 * TENTHS,
            why: free.source,
        });
        let limit = self.limit.map(|limit| Budget {
            bytes: limit.0,
            why: "--memory-limit".into(),
        });
        free.into_iter()
            .chain(limit)
            .min_by_key(|budget| budget.bytes)
            .context("this system does not tell what memory is free: give --memory-limit")
    }

    fn model(&self) -> Result<Model> {
        let AnyEncoder::Diffusion(network) = self.network else {
            bail!(
                "the memory of this network's maps is not known, only that of U-Nets as guided diffusion has them: \
                 give --batch a number, and leave --memory-limit out"
            );
        };
        let job = self.job;
        let dims: usize = job.settings.columns().iter().map(|(_, dim)| dim).sum();
        // Of a part and of the whole shard, and what is written.
        let stored = (2 * size_of::<f32>() + job.dtype.size()) * dims;
        let on_gpu = self.on_gpu();
        Ok(Model {
            base: self.in_use()?,
            shard: if on_gpu {
                0
            } else {
                (job.shard_rows.min(job.rows()) * stored) as u64
            },
            worker: if on_gpu { 0 } else { WORKSPACE },
            row: values_of_a_row(network, job, !on_gpu)? * width(network, on_gpu),
        })
    }

    /// What is in use at the peak of one batch for each worker; none where the system cannot forget an earlier
    /// peak, such as that of loading.
    fn measure(&self, batch: usize, workers: usize) -> Result<Option<u64>> {
        let job = Extraction {
            batch: Batch {
                rows: NonZeroUsize::new(batch),
                ..Batch::default()
            },
            workers,
            ..self.job.clone()
        };
        let forgotten = memory::forget_peak();
        job.rehearse(self.network, self.device)?;
        if self.on_gpu() {
            // The backend keeps what it has taken.
            return self.in_use().map(Some);
        }
        let resident = memory::resident().context("memory is not told any more")?;
        Ok(forgotten.then_some(resident.peak))
    }
}

/// The most numbers that a row holds in maps, at the timestep where that is most.
fn values_of_a_row(network: &UNet, job: &Extraction<'_>, fused: bool) -> Result<u64> {
    let mut most = 0;
    for (_, taps, _) in job.settings.groups() {
        let taps: &TapSet = taps;
        most = most.max(forward_memory(network.config(), taps, fused)?.peak());
    }
    Ok(most)
}

/// Bytes of a number in a map: on a CPU half precision is computed in f32.
fn width(network: &UNet, on_gpu: bool) -> u64 {
    match (network.precision(), on_gpu) {
        (Precision::F16 | Precision::Bf16, true) => 2,
        _ => 4,
    }
}

/// That a batch does not fit, and what does.
fn refusal(model: &Model, budget: &Budget, usual: &Usual) -> String {
    let alone = model.peak(usual.batch, 1);
    let fits = (1..usual.batch)
        .rev()
        .find(|&batch| model.peak(batch, 1) <= budget.bytes);
    let smaller = match fits {
        Some(batch) => format!("--batch {batch} fits"),
        None => format!(
            "one image at a time needs {}, the least that would do",
            gigabytes(model.peak(1, 1))
        ),
    };
    format!(
        "{} would take {} at the peak, and {} may be used ({}): {smaller}",
        rows(usual.batch),
        gigabytes(alone),
        gigabytes(budget.bytes),
        budget.why
    )
}

fn rows(batch: usize) -> String {
    match batch {
        1 => "one image at a time".into(),
        batch => format!("a batch of {batch} images"),
    }
}

/// Bytes in words.
pub(super) fn gigabytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: Model = Model {
        base: 100,
        shard: 10,
        worker: 5,
        row: 10,
    };
    const USUAL: Usual = Usual {
        batch: 16,
        workers: 2,
        shard_rows: 1000,
    };

    #[test]
    fn a_cpu_gives_up_workers_first_and_then_halves_its_batch() {
        let choose = |budget| MODEL.choose(budget, &USUAL, false);
        assert_eq!(choose(10_000), Some((16, 2)));
        assert_eq!(choose(440), Some((16, 2)));
        assert_eq!(choose(439), Some((16, 1)));
        assert_eq!(choose(274), Some((8, 1)));
        assert_eq!(choose(125), Some((1, 1)));
        assert_eq!(choose(124), None);
    }

    #[test]
    fn a_gpu_takes_the_largest_batch_and_wastes_none_of_a_shard() {
        let choose = |budget| MODEL.choose(budget, &USUAL, true);
        // 300 fit, and four rounds of 250 do the same as four of 300.
        assert_eq!(choose(115 + 3000), Some((250, 1)));
        assert_eq!(choose(1 << 40), Some((500, 1)), "512 in two rounds");
        assert_eq!(choose(125), Some((1, 1)));
        assert_eq!(choose(124), None);
    }

    #[test]
    fn a_refusal_names_the_smallest_that_would_do() {
        let said = |bytes| {
            let why = "--memory-limit".into();
            refusal(&MODEL, &Budget { bytes, why }, &USUAL)
        };
        assert!(said(200).contains("--batch 8 fits"), "{}", said(200));
        let none = said(100);
        assert!(none.contains("the least that would do"), "{none}");
        assert!(none.contains("(--memory-limit)"), "{none}");
    }

    #[test]
    fn batches_are_numbers_or_auto() {
        assert_eq!("auto".parse(), Ok(BatchArg::Auto));
        assert_eq!(
            "8".parse(),
            Ok(BatchArg::Rows(NonZeroUsize::new(8).unwrap()))
        );
        assert!("0".parse::<BatchArg>().is_err());
        assert!("many".parse::<BatchArg>().is_err());
    }
}
