//! Scripts and manifests by which schedulers start workers.

mod kubernetes;
mod slurm;

pub use kubernetes::{ENDED_BY_ERROR, IndexedJob, Volume};
pub use slurm::{After, JobId, Resources, SlurmJob, submit};

use crate::PlanError;

/// Errs if `value` has a character that no script or manifest can carry where it is to stand.
fn check(
    what: &'static str,
    value: &str,
    reason: &'static str,
    bad: impl Fn(char) -> bool,
) -> Result<(), PlanError> {
    if !value.is_empty() && !value.contains(bad) {
        return Ok(());
    }
    Err(PlanError::Launch {
        what,
        value: value.into(),
        reason,
    })
}

/// Errs unless `command` is a program and arguments that the operating system can be given.
fn check_command(command: &[String]) -> Result<(), PlanError> {
    let Some(program) = command.first() else {
        return Err(PlanError::Launch {
            what: "the command",
            value: String::new(),
            reason: "it needs a program",
        });
    };
    check(
        "the program",
        program,
        "it must not be empty or have a NUL in it",
        |c| c == '\0',
    )?;
    for argument in &command[1..] {
        if argument.contains('\0') {
            check(
                "the argument",
                argument,
                "no argument can have a NUL in it",
                |c| c == '\0',
            )?;
        }
    }
    Ok(())
}
