use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// Parts of a batch computed at once, each on threads of its own, so that none waits for another:
/// fills a processor where single operators do not.
#[derive(Debug)]
pub struct SideBySide {
    pools: Vec<ThreadPool>,
}

impl SideBySide {
    /// Divides the threads among `parts` parts, at least one each.
    ///
    /// # Errors
    ///
    /// When the system gives no threads.
    pub fn new(parts: usize) -> Result<Self, ThreadPoolBuildError> {
        let parts = parts.max(1);
        let threads = (rayon::current_num_threads() / parts).max(1);
        let pools = (0..parts).map(|_| ThreadPoolBuilder::new().num_threads(threads).build());
        Ok(Self {
            pools: pools.collect::<Result<_, _>>()?,
        })
    }

    /// How many parts are computed at once.
    pub fn parts(&self) -> usize {
        self.pools.len()
    }

    /// `work` on consecutive parts of `items`, of equal size but for the last; results in order.
    ///
    /// # Panics
    ///
    /// When `work` does.
    pub fn map<T: Sync, R: Send>(&self, items: &[T], work: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
        let size = items.len().div_ceil(self.parts()).max(1);
        let work = &work;
        std::thread::scope(|scope| {
            let threads: Vec<_> = items
                .chunks(size)
                .zip(&self.pools)
                .map(|(part, pool)| scope.spawn(move || pool.install(|| work(part))))
                .collect();
            let joined = threads.into_iter().map(|thread| {
                let done = thread.join();
                done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            joined.collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_in_order() {
        let items: Vec<usize> = (0..10).collect();
        for parts in [1, 2, 3, 20] {
            let crew = SideBySide::new(parts).unwrap();
            let found = crew.map(&items, <[usize]>::to_vec);
            assert_eq!(found.concat(), items);
            assert_eq!(
                found.len(),
                parts.min(10).min(10usize.div_ceil(10usize.div_ceil(parts)))
            );
        }
    }
}
