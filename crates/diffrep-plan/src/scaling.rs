//! How much of K workers is left when some are slow and some die: a simulation on recorded times.

use diffrep_rng::{Generator, Key, Stream};

use crate::{Place, ShardList};

/// How shards come to workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Worker k computes every K-th shard and no other.
    Strided,
    /// Worker k computes the k-th of K blocks of neighbouring shards and no other.
    Blocks,
    /// A worker claims whichever shard is free, its own first
    /// ([`ShardList::claim_order`]).
    Claimed,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trouble {
    /// Seconds from the start of a process to its first shard.
    pub start: f64,
    /// The part of the workers that is slow, 0 to 1.
    pub slow: f64,
    /// How many times as long a slow worker takes.
    pub slowness: f64,
    /// The mean seconds that a worker lives, exponentially distributed; none if none dies.
    pub life: Option<f64>,
    /// Seconds until a worker that died is started again.
    pub restart: f64,
}

impl Trouble {
    /// Nothing goes wrong, and nothing takes time but shards.
    pub const NONE: Self = Self {
        start: 0.0,
        slow: 0.0,
        slowness: 1.0,
        life: None,
        restart: 0.0,
    };
}

/// What a simulated run took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Seconds until the last shard was done.
    pub seconds: f64,
    /// Throughput as a part of K times that of one worker to whom nothing happens.
    pub efficiency: f64,
    /// How often a worker died before that.
    pub deaths: usize,
    /// Seconds that were spent on shards whose worker died over them.
    pub lost: f64,
}

/// Runs shards that take `seconds` each on `workers` workers. The same seed gives the same bits, and
/// the same worker is slow under every [`Sharing`].
///
/// # Panics
///
/// Panics if there are no shards or workers, or a time is negative or not finite, or a mean life is
/// not positive. It does not end if workers live too briefly to do one shard.
pub fn simulate(
    seconds: &[f64],
    workers: usize,
    sharing: Sharing,
    trouble: &Trouble,
    seed: u64,
) -> Outcome {
    assert!(
        !seconds.is_empty() && workers > 0,
        "there is no work or no worker"
    );
    let valid = |seconds: &f64| seconds.is_finite() && *seconds >= 0.0;
    assert!(
        seconds.iter().all(valid) && valid(&trouble.start) && valid(&trouble.restart),
        "times are finite and not negative"
    );
    assert!(
        trouble.life.is_none_or(|life| life > 0.0),
        "a life takes time"
    );
    let mut crew: Vec<_> = (0..workers)
        .map(|index| Worker::new(index, trouble, seed))
        .collect();
    let mut run = Run::new(seconds.len(), workers, sharing);
    let (mut last, mut deaths, mut lost) = (0.0_f64, 0, 0.0);
    // The worker whose moment comes first acts; one that finds nothing to do leaves.
    while let Some(worker) = crew
        .iter_mut()
        .filter(|worker| !worker.has_left)
        .min_by(|a, b| a.at.total_cmp(&b.at))
    {
        if let Some((shard, spent)) = worker.dying.take() {
            run.give_back(shard);
            deaths += 1;
            lost += spent;
            worker.revive(trouble);
            continue;
        }
        last = last.max(worker.done);
        let Some(shard) = run.take(worker.index) else {
            worker.has_left = true;
            continue;
        };
        let takes = seconds[shard] * worker.slowness;
        if worker.dies < worker.at + takes {
            let spent = (worker.dies - worker.at).max(0.0);
            worker.dying = Some((shard, spent));
            worker.at += spent;
        } else {
            worker.at += takes;
            worker.done = worker.at;
        }
    }
    let work: f64 = seconds.iter().sum();
    let whole = workers as f64 * last;
    Outcome {
        seconds: last,
        efficiency: if whole > 0.0 { work / whole } else { 1.0 },
        deaths,
        lost,
    }
}

/// What is left to do.
struct Run {
    /// Per worker, the shards it may do, in its order.
    orders: Vec<Vec<usize>>,
    /// Per worker, before where in its order nothing is free.
    cursors: Vec<usize>,
    /// Per shard, whether no one has it and it is not done.
    free: Vec<bool>,
}

impl Run {
    fn new(shards: usize, workers: usize, sharing: Sharing) -> Self {
        let list = ShardList::new(shards, 1);
        let order = |index: usize| {
            let place = Place::among(index, workers);
            match sharing {
                Sharing::Strided => list.own(&place).collect(),
                Sharing::Claimed => list.claim_order(&place).collect(),
                Sharing::Blocks => {
                    let begin = |index: usize| index * shards / workers;
                    (begin(index)..begin(index + 1)).collect()
                }
            }
        };
        Self {
            orders: (0..workers).map(order).collect(),
            cursors: vec![0; workers],
            free: vec![true; shards],
        }
    }

    /// Gives the next shard that there is for a worker to it.
    fn take(&mut self, worker: usize) -> Option<usize> {
        let (order, cursor) = (&self.orders[worker], &mut self.cursors[worker]);
        let step = order[*cursor..].iter().position(|&shard| self.free[shard]);
        *cursor += step.unwrap_or(order.len() - *cursor);
        let shard = *order.get(*cursor)?;
        self.free[shard] = false;
        Some(shard)
    }

    fn give_back(&mut self, shard: usize) {
        self.free[shard] = true;
        self.cursors.fill(0);
    }
}

struct Worker {
    index: usize,
    /// When it next turns to a shard, or dies.
    at: f64,
    /// When it last finished one.
    done: f64,
    /// When it will die, in its present life.
    dies: f64,
    /// The shard that it will die over, and the seconds spent on it by then.
    dying: Option<(usize, f64)>,
    slowness: f64,
    has_left: bool,
    random: Generator,
}

impl Worker {
    fn new(index: usize, trouble: &Trouble, seed: u64) -> Self {
        // Recorded times are drawn on again and again, as in a bootstrap.
        let mut random = Key::new(seed, Stream::Bootstrap)
            .sample(index as u64)
            .generator();
        let is_slow = random.uniform() < trouble.slow;
        let mut worker = Self {
            index,
            at: trouble.start,
            done: 0.0,
            dies: f64::INFINITY,
            dying: None,
            slowness: if is_slow { trouble.slowness } else { 1.0 },
            has_left: false,
            random,
        };
        worker.dies = worker.life(trouble);
        worker
    }

    /// How many seconds it will live from now, while starting up or at work.
    fn life(&mut self, trouble: &Trouble) -> f64 {
        let Some(mean) = trouble.life else {
            return f64::INFINITY;
        };
        // Half the sum of two squared normal numbers is exponentially distributed, with mean 1.
        let (a, b) = self.random.normal_pair();
        mean * (a * a + b * b) / 2.0
    }

    fn revive(&mut self, trouble: &Trouble) {
        let life = self.life(trouble);
        self.at += trouble.restart;
        self.dies = self.at + life;
        self.at += trouble.start;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Sharing; 3] = [Sharing::Strided, Sharing::Blocks, Sharing::Claimed];

    #[test]
    fn without_trouble_equal_shards_scale_by_rounding_alone() {
        for sharing in ALL {
            for (workers, seconds) in [(1, 100.0), (4, 25.0), (64, 2.0), (200, 1.0)] {
                let run = simulate(&[1.0; 100], workers, sharing, &Trouble::NONE, 0);
                assert_eq!((run.seconds, run.deaths, run.lost), (seconds, 0, 0.0));
                assert_eq!(run.efficiency, 100.0 / (workers as f64 * seconds));
            }
        }
    }

    #[test]
    fn a_slow_worker_delays_only_those_who_may_not_help() {
        // All are slow but for none: twice as long. With one of four slow, claims spread its work.
        let trouble = Trouble {
            slow: 0.25,
            slowness: 4.0,
            ..Trouble::NONE
        };
        let seed = (0..100)
            .find(|&seed| {
                let slow = (0..4).filter(|&i| Worker::new(i, &trouble, seed).slowness > 1.0);
                slow.count() == 1
            })
            .unwrap();
        let run = |sharing| simulate(&[1.0; 400], 4, sharing, &trouble, seed).seconds;
        assert_eq!(run(Sharing::Strided), 400.0);
        assert_eq!(run(Sharing::Blocks), 400.0);
        // 3.25 shards a second, and at most one slow shard over.
        let best = 400.0 / 3.25;
        assert!((best..best + 4.0).contains(&run(Sharing::Claimed)));
    }

    #[test]
    fn a_death_costs_its_shard_and_a_restart() {
        let trouble = Trouble {
            life: Some(30.0),
            restart: 5.0,
            start: 2.0,
            ..Trouble::NONE
        };
        for sharing in ALL {
            let run = simulate(&[1.0; 100], 1, sharing, &trouble, 3);
            assert!(run.deaths > 0);
            let least = 100.0 + 2.0 + run.lost + run.deaths as f64 * 7.0;
            assert!((run.seconds - least).abs() < 1e-9, "{run:?} {least}");
            assert_eq!(run, simulate(&[1.0; 100], 1, sharing, &trouble, 3));
        }
    }

    proptest! {
        #[test]
        fn no_run_beats_the_work_shared_equally(
            seconds in prop::collection::vec(0.1f64..3.0, 1..60),
            workers in 1usize..70,
            seed in 0u64..1000,
        ) {
            let trouble = Trouble { start: 1.0, slow: 0.2, slowness: 3.0, life: Some(40.0), restart: 2.0 };
            for sharing in ALL {
                let run = simulate(&seconds, workers, sharing, &trouble, seed);
                prop_assert!(run.efficiency <= 1.0 && run.efficiency > 0.0);
                let longest = seconds.iter().copied().fold(0.0, f64::max);
                prop_assert!(run.seconds >= longest);
                prop_assert_eq!(run, simulate(&seconds, workers, sharing, &trouble, seed));
            }
        }
    }
}
