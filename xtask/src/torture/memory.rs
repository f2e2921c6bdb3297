//! Too little memory.

use anyhow::{Context, Result, ensure};

use super::Reference;
use super::output::Output;
use super::run::Runner;

/// Limits of the address space, in MiB. Where the first of them is too little, how far a run gets grows with them.
const LIMITS: [u64; 6] = [64, 128, 192, 256, 384, 512];

/// Runs a job again and again in one folder, with a little more memory each time. Whatever allocation fails, what is
/// left is whole, and a run with enough memory ends in the same bytes.
pub(super) fn run(reference: &Reference, runner: &Runner) -> Result<String> {
    let job = reference.job;
    let folder = runner.fresh(&format!("{}-memory", job.name()))?;
    let mut failed = 0;
    for mib in LIMITS {
        let limit = format!("ulimit -c 0; ulimit -v {}", mib * 1024);
        let ended = runner.limited(&limit, &job.arguments(runner.work(), &folder))?;
        if ended.succeeded() {
            break;
        }
        failed += 1;
        Output::read(&folder)?
            .require_whole(&reference.output, job)
            .with_context(|| format!("after {mib} MiB were too little"))?;
    }
    ensure!(failed > 0, "{} MiB were enough", LIMITS[0]);
    reference.finish_in(&folder, runner)?;
    Ok(format!(
        "{failed} runs with too little memory, then one with enough"
    ))
}
