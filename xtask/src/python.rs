//! Scripts of fixtures/parity, which compare with PyTorch and Pillow.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::process;

/// A Python that has the packages of fixtures/parity/requirements.txt.
pub(crate) struct Python(String);

impl Python {
    /// Checks that `program` can import what the scripts need.
    ///
    /// # Errors
    ///
    /// When it cannot, with what to do.
    pub(crate) fn new(program: &str) -> Result<Self> {
        let imports = "import numpy, PIL, safetensors, torch";
        let mut command = Command::new(program);
        if let Err(error) = process::output(command.args(["-c", imports])) {
            bail!(
                "{program} lacks what the scripts compare with ({error:#})\n\nhint: \
                 python3 -m venv venv && venv/bin/pip install -r fixtures/parity/requirements.txt, \
                 then --python venv/bin/python"
            );
        }
        Ok(Self(program.into()))
    }

    /// `python fixtures/parity/SCRIPT ARGUMENTS` in the root of the workspace.
    pub(crate) fn script(&self, script: &str, arguments: &[&str]) -> Command {
        let program = match Path::new(&self.0) {
            // A path is relative to where the user is, and the script runs in the root.
            path if path.components().count() > 1 => absolute(path),
            path => path.into(),
        };
        let mut command = Command::new(program);
        command
            .arg(Path::new("fixtures/parity").join(script))
            .args(arguments)
            .current_dir(process::root());
        command
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}
