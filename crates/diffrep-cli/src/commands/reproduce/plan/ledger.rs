//! The steps of a plan, and what they share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use diffrep_artifact::Sha256Hex;
use diffrep_extract::{Setting, Settings};
use diffrep_probe::StepKey;
use serde::Serialize;

/// A step of an experiment that has not been taken.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Step {
    pub(super) experiment: String,
    pub(super) name: String,
    /// The hash of everything that determines its result; where inputs are missing, of what is known of them.
    pub(super) key: Sha256Hex,
    /// Whether it is the key under which the result will lie on disk.
    pub(super) exact: bool,
    pub(super) state: State,
    pub(super) cost: Cost,
}

/// Whether a step is still to be taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// Its result is on disk.
    Done,
    /// An experiment before takes it.
    Shared(String),
    /// It is to be taken.
    ToDo,
    /// What it reads is missing.
    Lacking,
}

/// What a step takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Cost {
    /// Images through a network, once for each timestep.
    pub(super) forwards: u64,
    /// Their arithmetic, and that of the ways back; heads and networks of other kinds are not counted.
    pub(super) flops: f64,
    /// Of features, on disk at the end.
    pub(super) kept_bytes: u64,
    /// Of features that are deleted once they are read.
    pub(super) passing_bytes: u64,
}

impl Cost {
    pub(super) fn add(&mut self, other: Self) {
        self.forwards += other.forwards;
        self.flops += other.flops;
        self.kept_bytes += other.kept_bytes;
        // Those of one step are gone before those of the next come.
        self.passing_bytes = self.passing_bytes.max(other.passing_bytes);
    }
}

/// What earlier steps of the plan leave behind.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Keys of steps, with the experiment that takes them.
    taken: BTreeMap<Sha256Hex, String>,
    /// Columns by the images they are of, and by whose eyes.
    columns: BTreeMap<String, BTreeSet<Setting>>,
}

/// Features of the same images, by the same network.
pub(super) struct Request<'a> {
    /// Names the network, the images and their noise.
    pub(super) of: String,
    pub(super) images: u64,
    pub(super) settings: &'a Settings,
    /// Columns of it that are on disk.
    pub(super) there: BTreeSet<String>,
    /// Floating-point operations by which an image reaches each block.
    pub(super) flops: &'a [u64],
}

impl Ledger {
    /// The state and the key of a step: of the engine if its inputs are there, else of what is known of them.
    pub(super) fn step(
        &mut self,
        experiment: &str,
        exact: Option<&StepKey>,
        identity: &impl Serialize,
        lacking: bool,
        runs: &Path,
    ) -> Result<(Sha256Hex, State)> {
        let key = match exact {
            Some(step) => step.key.clone(),
            None => Sha256Hex::hash_json(identity)?,
        };
        let state = if exact.is_some_and(|step| step.path(runs).exists()) {
            State::Done
        } else if let Some(other) = self.taken.get(&key) {
            State::Shared(other.clone())
        } else if lacking {
            State::Lacking
        } else {
            State::ToDo
        };
        if !matches!(state, State::Shared(_)) {
            self.taken.insert(key.clone(), experiment.to_owned());
        }
        Ok((key, state))
    }

    /// What an extraction computes that neither is on disk nor comes of a step before: one forward of each
    /// image and timestep serves all blocks and pools.
    pub(super) fn kept(&mut self, request: &Request<'_>) -> Cost {
        let have = self.columns.entry(request.of.clone()).or_default();
        let mut cost = Cost::default();
        for (t, ..) in request.settings.groups() {
            let of_t = request.settings.columns().iter().filter(|(s, _)| s.t == t);
            let missing: Vec<&(Setting, usize)> = of_t
                .filter(|(s, _)| !have.contains(s) && !request.there.contains(&s.column()))
                .collect();
            let Some(last) = missing.iter().map(|(s, _)| s.block.position()).max() else {
                continue;
            };
            let values: usize = missing.iter().map(|(_, dim)| dim).sum();
            cost.add(Cost {
                forwards: request.images,
                flops: request.images as f64 * flops_at(request.flops, last),
                kept_bytes: stored(request.images, values),
                passing_bytes: 0,
            });
        }
        have.extend(request.settings.columns().iter().map(|(s, _)| *s));
        cost
    }

    /// The same for features that are deleted once they are read, which nothing shares.
    pub(super) fn passing(request: &Request<'_>) -> Cost {
        let alone = Self::default().kept(request);
        Cost {
            kept_bytes: 0,
            passing_bytes: alone.kept_bytes,
            ..alone
        }
    }
}

/// Operations up to the block at a position; none are counted for other kinds of networks.
pub(super) fn flops_at(flops: &[u64], position: usize) -> f64 {
    flops.get(position).copied().unwrap_or_default() as f64
}

/// Bytes of so many values for each image in f16, with labels and ids.
fn stored(images: u64, values: usize) -> u64 {
    images * (2 * values as u64 + 16)
}

#[cfg(test)]
mod tests {
    use diffrep_pool::PoolSize;
    use diffrep_schedule::{ProcessSpec, ScheduleKind};
    use diffrep_taps::{BlockIndex, TapInfo};

    use super::*;

    fn settings(wanted: &[(usize, usize, usize)]) -> Settings {
        let taps: Vec<TapInfo> = (0..3)
            .map(|position| TapInfo {
                block: BlockIndex::at(position),
                name: format!("block{position}"),
                channels: 10,
                height: 8,
                width: 8,
            })
            .collect();
        let schedule = ProcessSpec::from(ScheduleKind::Linear).schedule().unwrap();
        let wanted = wanted.iter().map(|&(t, block, pool)| Setting {
            t: Some(t),
            block: BlockIndex::new(block).unwrap(),
            pool: PoolSize::new(pool).unwrap(),
        });
        Settings::new(wanted, &taps, &schedule).unwrap()
    }

    fn request(settings: &Settings) -> Request<'_> {
        Request {
            of: "train".into(),
            images: 100,
            settings,
            there: BTreeSet::new(),
            flops: &[1, 10, 100],
        }
    }

    #[test]
    fn one_forward_serves_every_block_and_pool_of_a_timestep() {
        let mut ledger = Ledger::default();
        let first = settings(&[(10, 2, 1), (10, 2, 2), (10, 1, 1), (90, 1, 1)]);
        let cost = ledger.kept(&request(&first));
        assert_eq!((cost.forwards, cost.flops), (200, 100.0 * 10.0 + 100.0));
        assert_eq!(cost.kept_bytes, 100 * (2 * 60 + 16) + 100 * (2 * 10 + 16));
        // What is there already costs nothing; what lies beyond it is computed up to its own block.
        assert_eq!(ledger.kept(&request(&first)), Cost::default());
        let more = settings(&[(10, 2, 1), (10, 3, 1), (90, 1, 1)]);
        let cost = ledger.kept(&request(&more));
        assert_eq!((cost.forwards, cost.flops), (100, 100.0 * 100.0));
        // Columns that are on disk count as there.
        let on_disk = Request {
            there: ["t10_b03_p1".to_owned()].into(),
            ..request(&more)
        };
        let alone = Ledger::default().kept(&on_disk);
        assert_eq!((alone.forwards, alone.flops), (200, 100.0 * 10.0 + 100.0));
        let passing = Ledger::passing(&request(&more));
        assert_eq!(passing.kept_bytes, 0);
        assert!(passing.passing_bytes > 0 && passing.forwards == 200);
    }

    #[test]
    fn a_step_of_two_experiments_is_taken_by_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::default();
        let mut step = |experiment: &str, lacking| {
            ledger
                .step(experiment, None, &("probe", 3), lacking, dir.path())
                .unwrap()
        };
        let (key, state) = step("table1", false);
        assert_eq!(state, State::ToDo);
        let (again, shared) = step("figure1", false);
        assert_eq!((again, shared), (key, State::Shared("table1".into())));
        let exact = StepKey::new("final", &1).unwrap();
        std::fs::create_dir(dir.path().join("steps")).unwrap();
        std::fs::write(exact.path(dir.path()), "{}").unwrap();
        let (_, done) = ledger
            .step("table1", Some(&exact), &(), false, dir.path())
            .unwrap();
        assert_eq!(done, State::Done);
    }
}
