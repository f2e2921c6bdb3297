//! What an experiment cost: time and forwards of every run of the command that worked on it.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use diffrep_artifact::{read_json, unix_now, write_json_atomic};
use serde::{Deserialize, Serialize};

use crate::process::{Usage, usage};

/// The file beside an experiment's record.
const FILE: &str = "cost.json";
const SCHEMA: &str = "diffrep.cost";
const VERSION: u32 = 1;

/// The runs of the command that ended with a whole experiment. What a run that was stopped had spent is not
/// in here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cost {
    schema: String,
    version: u32,
    pub(crate) runs: Vec<RunCost>,
}

/// What one run of the command spent on an experiment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunCost {
    pub(crate) ended_unix: u64,
    pub(crate) seconds: f64,
    /// Of all threads; absent where the system does not tell.
    pub(crate) processor_seconds: Option<f64>,
    /// Images through a network when features were extracted, once for each timestep; trainings with the
    /// network in the loop are not counted.
    pub(crate) forwards: u64,
}

impl Default for Cost {
    fn default() -> Self {
        Self {
            schema: SCHEMA.into(),
            version: VERSION,
            runs: Vec::new(),
        }
    }
}

impl Cost {
    /// What is known of the experiment in a folder: nothing where there is no file.
    ///
    /// # Errors
    ///
    /// When there is one that cannot be read.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        if !path.exists() {
            return Ok(Self::default());
        }
        Ok(read_json(path)?)
    }

    /// The sum over all runs; none where no run is known.
    pub(crate) fn total(&self) -> Option<RunCost> {
        self.runs.iter().copied().reduce(|a, b| RunCost {
            ended_unix: a.ended_unix.max(b.ended_unix),
            seconds: a.seconds + b.seconds,
            processor_seconds: a
                .processor_seconds
                .zip(b.processor_seconds)
                .map(|(a, b)| a + b),
            forwards: a.forwards + b.forwards,
        })
    }
}

/// A measurement that has begun.
pub(super) struct Meter {
    start: Instant,
    usage: Option<Usage>,
    forwards: u64,
}

impl Meter {
    pub(super) fn begin() -> Self {
        Self {
            start: Instant::now(),
            usage: usage(),
            forwards: diffrep_extract::forwards(),
        }
    }

    /// Adds what was spent since the beginning to the file in a folder.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written.
    pub(super) fn end(self, dir: &Path) -> Result<()> {
        let mut cost = Cost::read(dir)?;
        let now = usage();
        cost.runs.push(RunCost {
            ended_unix: unix_now(),
            seconds: self.start.elapsed().as_secs_f64(),
            processor_seconds: now
                .zip(self.usage)
                .map(|(now, then)| now.processor_seconds - then.processor_seconds),
            forwards: diffrep_extract::forwards() - self.forwards,
        });
        Ok(write_json_atomic(dir.join(FILE), &cost)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_is_kept_and_summed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Cost::read(dir.path()).unwrap().total(), None);
        Meter::begin().end(dir.path()).unwrap();
        Meter::begin().end(dir.path()).unwrap();
        let cost = Cost::read(dir.path()).unwrap();
        assert_eq!(cost.runs.len(), 2);
        let total = cost.total().unwrap();
        assert_eq!(total.seconds, cost.runs[0].seconds + cost.runs[1].seconds);
        assert_eq!(total.forwards, 0);
    }
}
