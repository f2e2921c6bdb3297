//! Kills at random instants.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Reference;
use super::chance::Chance;
use super::output::Output;
use super::run::Runner;

/// What kills came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Killed {
    /// Kills that met the job alive.
    pub(super) kills: usize,
    /// Runs that got to their end, each compared with the undisturbed one byte for byte.
    pub(super) ends: usize,
}

impl Killed {
    /// In a sentence.
    pub(super) fn told(self) -> String {
        let Self { kills, ends } = self;
        format!("{kills} kills; {ends} runs got to their end, with the same bytes")
    }
}

/// Kills a job until `kills` of them have met it alive. Each next run goes on from where the last one was killed;
/// whenever one gets to its end, its folder is compared and the next begins with nothing.
pub(super) fn run(
    reference: &Reference,
    runner: &Runner,
    kills: usize,
    seed: u64,
) -> Result<Killed> {
    let job = reference.job;
    let mut chance = Chance::new(seed);
    let (mut landed, mut finished) = (0, 0);
    let mut folder = runner.fresh(&format!("{}-killed", job.name()))?;
    while landed < kills {
        let time = Duration::from_secs_f64(reference.seconds * chance.share());
        let ended = runner.kill_after(time, &job.arguments(runner.work(), &folder))?;
        if ended.was_killed() {
            landed += 1;
            let left = Output::read(&folder)?;
            left.require_whole(&reference.output, job)
                .with_context(|| format!("after kill {landed}, which came after {time:?}"))?;
            continue;
        }
        if !ended.succeeded() {
            anyhow::bail!(
                "it did not go on after kill {landed}: {}",
                ended.said.trim()
            );
        }
        finished += 1;
        reference
            .output
            .require_equal(&Output::read(&folder)?, job)
            .with_context(|| format!("at an end after kill {landed}"))?;
        folder = runner.fresh(&format!("{}-killed", job.name()))?;
    }
    reference
        .finish_in(&folder, runner)
        .context("at the last end")?;
    Ok(Killed {
        kills: landed,
        ends: finished + 1,
    })
}
