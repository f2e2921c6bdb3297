//! Decoding the next batches while the current one is used.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use crate::loader::{Skipped, load_batch_or_skip};
use crate::{Dataset, DatasetError, OnError, Preprocess};

/// The samples of a batch that is to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchPlan {
    /// Positions in the data set.
    pub indices: Vec<usize>,
    /// For each position, whether the image is mirrored; none are if this is absent.
    pub flips: Option<Vec<bool>>,
}

/// A batch in memory.
#[derive(Debug)]
pub struct Batch {
    /// Positions in the data set, in the order of the plan, without those skipped.
    pub indices: Vec<usize>,
    /// Network inputs in `[batch, channels, height, width]` order.
    pub images: Vec<f32>,
    /// Labels, one for each index.
    pub labels: Vec<u32>,
    /// Identities, one for each index.
    pub ids: Vec<u64>,
    /// The samples left out.
    pub skipped: Vec<Skipped>,
}

/// Loads planned batches on a thread of its own, ahead of their use, and yields them in the order of the plans.
///
/// After an error nothing more is yielded. Dropping it stops the thread after the batch in work.
pub struct Prefetcher {
    // Taken before the thread is joined, so that a thread waiting to send wakes up.
    batches: Option<Receiver<Result<Batch, DatasetError>>>,
    thread: Option<JoinHandle<()>>,
}

impl Prefetcher {
    /// Starts loading; at most `depth` batches wait while one more is in work.
    pub fn new<Plans>(
        dataset: Dataset,
        preprocess: Preprocess,
        plans: Plans,
        on_error: OnError,
        depth: usize,
    ) -> Self
    where
        Plans: IntoIterator<Item = BatchPlan>,
        Plans::IntoIter: Send + 'static,
    {
        let (sender, receiver) = sync_channel(depth);
        let plans = plans.into_iter();
        let thread = std::thread::spawn(move || {
            for plan in plans {
                let batch = load(&dataset, &preprocess, plan, on_error);
                let failed = batch.is_err();
                // A closed channel means that nobody waits for more.
                if sender.send(batch).is_err() || failed {
                    return;
                }
            }
        });
        Self {
            batches: Some(receiver),
            thread: Some(thread),
        }
    }

    /// Waits for the thread and passes its panic on, if it had one.
    fn join(&mut self) {
        self.batches = None;
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Iterator for Prefetcher {
    type Item = Result<Batch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batches.as_ref()?.recv();
        if batch.is_err() {
            self.join();
        }
        batch.ok()
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        self.join();
    }
}

fn load(
    dataset: &Dataset,
    preprocess: &Preprocess,
    plan: BatchPlan,
    on_error: OnError,
) -> Result<Batch, DatasetError> {
    let mut images = vec![0.0; plan.indices.len() * preprocess.len()];
    let flips = plan.flips.as_deref();
    let loaded = load_batch_or_skip(
        dataset,
        preprocess,
        &plan.indices,
        flips,
        on_error,
        &mut images,
    )?;
    images.truncate(loaded.indices.len() * preprocess.len());
    Ok(Batch {
        labels: loaded
            .indices
            .iter()
            .map(|&index| dataset.label(index))
            .collect(),
        ids: loaded
            .indices
            .iter()
            .map(|&index| dataset.id(index))
            .collect(),
        indices: loaded.indices,
        images,
        skipped: loaded.skipped,
    })
}
