//! Two processes at once.

use anyhow::{Context, Result, ensure};

use super::Reference;
use super::run::{Runner, ended};

/// Starts the same command twice in one folder. Whichever of them is refused says why and names the folder; at least
/// one ends well, and the results are those of one alone.
pub(super) fn run(reference: &Reference, runner: &Runner) -> Result<String> {
    let job = reference.job;
    let folder = runner.fresh(&format!("{}-together", job.name()))?;
    let arguments = job.arguments(runner.work(), &folder);
    let children = [runner.start(&arguments)?, runner.start(&arguments)?];
    let mut refused = 0;
    for child in children {
        let ended = ended(child.wait_with_output().context("waiting for diffrep")?)?;
        if !ended.succeeded() {
            refused += 1;
            ended.require_refusal(&folder)?;
        }
    }
    ensure!(refused < 2, "both were refused");
    reference.finish_in(&folder, runner)?;
    Ok(match refused {
        0 => "both worked, to the same bytes".into(),
        _ => "one worked, the other was refused by name".into(),
    })
}
