//! The release build of `diffrep`, which other commands drive.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result};

use crate::process;

/// Builds `diffrep` with cargo features and says where it lies.
///
/// # Errors
///
/// When cargo cannot be started; a build that fails is its status.
pub(crate) fn build(features: &[String]) -> Result<(ExitStatus, PathBuf)> {
    let built = process::status(&mut building(features))?;
    let this = std::env::current_exe().context("the path of this program is unknown")?;
    let program = beside(&this).context("this program lies in no target folder")?;
    Ok((built, program))
}

pub(crate) fn building(features: &[String]) -> Command {
    let mut command = process::cargo(&["build", "--release", "--locked", "-p", "diffrep-cli"]);
    for list in features {
        command.args(["--features", list]);
    }
    command
}

/// The release build of `diffrep` in the target folder that holds `this` program, wherever
/// cargo's settings put that folder.
fn beside(this: &Path) -> Option<PathBuf> {
    let target = this.parent()?.parent()?;
    let name = format!("diffrep{}", std::env::consts::EXE_SUFFIX);
    Some(target.join("release").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_looked_for_in_our_own_target_folder() {
        let found = beside(Path::new("/a/target/debug/xtask")).unwrap();
        assert_eq!(found.parent(), Some(Path::new("/a/target/release")));
        assert_eq!(beside(Path::new("xtask")), None);
    }
}
