//! Results that are cut short or deleted.

use anyhow::{Context, Result, ensure};

use super::Reference;
use super::output::Output;
use super::run::Runner;

/// Results that are damaged at most; of more, evenly spread ones are taken.
const FILES: usize = 6;

/// For files of a finished run: cuts one to a half, or to nothing, or deletes it, and gives the command again. It
/// either ends in the same bytes or refuses with the name of the file, after which deleting the file is enough.
pub(super) fn run(reference: &Reference, runner: &Runner) -> Result<String> {
    let job = reference.job;
    let names: Vec<&String> = reference.output.files.keys().collect();
    let step = names.len().div_ceil(FILES).max(1);
    let (mut mended, mut refused) = (0, 0);
    for name in names.into_iter().step_by(step) {
        let whole = &reference.output.files[name];
        for keep in [Some(whole.len() / 2), Some(0), None] {
            let folder = runner.fresh(&format!("{}-damaged", job.name()))?;
            reference.output.write(&folder)?;
            let path = folder.join(name);
            match keep {
                Some(bytes) => std::fs::write(&path, &whole[..bytes]),
                None => std::fs::remove_file(&path),
            }
            .with_context(|| format!("damaging {}", path.display()))?;
            let context = || match keep {
                Some(bytes) => format!("with {name} cut to {bytes} of {} bytes", whole.len()),
                None => format!("without {name}"),
            };
            let ended = runner.run(&job.arguments(runner.work(), &folder))?;
            if ended.succeeded() {
                mended += 1;
                let output = Output::read(&folder)?;
                reference
                    .output
                    .require_equal(&output, job)
                    .with_context(context)?;
                continue;
            }
            ensure!(keep.is_some(), "{}: {}", context(), ended.said.trim());
            refused += 1;
            ended.require_refusal(&path).with_context(context)?;
            std::fs::remove_file(&path).with_context(|| format!("deleting {}", path.display()))?;
            reference.finish_in(&folder, runner).with_context(context)?;
        }
    }
    Ok(format!(
        "{mended} damaged results mended, {refused} refused by name until they were deleted"
    ))
}
