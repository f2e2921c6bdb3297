//! Independent work side by side. A worker is a pool of one thread, so that the operators it calls
//! find no second thread to share with: no waiting inside an operator, all of it between parts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Workers that outlive the lists of work they are given.
pub(crate) struct Crew {
    /// Empty: the caller does the work, with all threads of the process inside each operator.
    pools: Vec<ThreadPool>,
}

impl Crew {
    /// `workers` of 0 or 1, or threads that the system refuses, leave the work to the caller.
    pub(crate) fn new(workers: usize) -> Self {
        let pools = (0..if workers > 1 { workers } else { 0 })
            .map_while(|_| ThreadPoolBuilder::new().num_threads(1).build().ok())
            .collect();
        Self { pools }
    }

    /// `work` of every part, in the order of the parts; `done` is told of each on this thread.
    ///
    /// # Errors
    ///
    /// The error of the first part that fails; parts not yet begun are left.
    pub(crate) fn map<P, R, E>(
        &self,
        parts: &[P],
        work: impl Fn(&P) -> Result<R, E> + Sync,
        mut done: impl FnMut(&P),
    ) -> Result<Vec<R>, E>
    where
        P: Sync,
        R: Send,
        E: Send,
    {
        if self.pools.is_empty() {
            return parts
                .iter()
                .map(|part| work(part).inspect(|_| done(part)))
                .collect();
        }
        let next = AtomicUsize::new(0);
        let mut found: Vec<Option<Result<R, E>>> = parts.iter().map(|_| None).collect();
        std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            for pool in &self.pools {
                let (sender, next, work) = (sender.clone(), &next, &work);
                scope.spawn(move || {
                    pool.install(|| {
                        loop {
                            let i = next.fetch_add(1, Ordering::Relaxed);
                            let Some(part) = parts.get(i) else { break };
                            let result = work(part);
                            if result.is_err() {
                                next.store(parts.len(), Ordering::Relaxed);
                            }
                            if sender.send((i, result)).is_err() {
                                break;
                            }
                        }
                    });
                });
            }
            drop(sender);
            for (i, result) in receiver {
                if result.is_ok() {
                    done(&parts[i]);
                }
                found[i] = Some(result);
            }
        });
        // Parts are begun in order, so what an error left undone lies behind that error.
        found.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_the_parts() {
        let parts: Vec<u64> = (0..100).collect();
        for workers in [0, 1, 2, 5] {
            let mut told = 0;
            let found: Result<Vec<u64>, ()> =
                Crew::new(workers).map(&parts, |part| Ok(part * part), |_| told += 1);
            let expected: Vec<u64> = parts.iter().map(|part| part * part).collect();
            assert_eq!(found, Ok(expected), "{workers} workers");
            assert_eq!(told, 100);
        }
    }

    #[test]
    fn the_first_failing_part_is_named_and_later_ones_are_left() {
        let parts: Vec<usize> = (0..1000).collect();
        for workers in [1, 2, 4] {
            let begun = AtomicUsize::new(0);
            let work = |&part: &usize| {
                begun.fetch_add(1, Ordering::Relaxed);
                if part >= 7 { Err(part) } else { Ok(part) }
            };
            assert_eq!(Crew::new(workers).map(&parts, work, |_| ()), Err(7));
            assert!(begun.into_inner() < 1000, "{workers} workers");
        }
    }

    #[test]
    fn a_worker_has_one_thread() {
        let threads = Crew::new(3).map(
            &[(); 9],
            |()| Ok::<_, ()>(rayon::current_num_threads()),
            |()| (),
        );
        assert_eq!(threads, Ok(vec![1; 9]));
    }
}
