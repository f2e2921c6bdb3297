//! Starting the program and ending it.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process;

/// The program and the folder in which it is interfered with.
pub(super) struct Runner {
    program: PathBuf,
    work: PathBuf,
}

/// How a run ended.
pub(super) struct Ended {
    status: ExitStatus,
    /// What it wrote to standard error.
    pub(super) said: String,
}

impl Runner {
    pub(super) fn new(program: PathBuf, work: PathBuf) -> Self {
        Self { program, work }
    }

    /// The folder of this torture.
    pub(super) fn work(&self) -> &Path {
        &self.work
    }

    /// An empty folder of this name.
    pub(super) fn fresh(&self, name: &str) -> Result<PathBuf> {
        let folder = self.work.join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("deleting {}", folder.display()))?;
        }
        std::fs::create_dir(&folder).with_context(|| format!("creating {}", folder.display()))?;
        Ok(folder)
    }

    /// A run to its end.
    pub(super) fn run(&self, arguments: &[String]) -> Result<Ended> {
        self.output(&mut self.command(arguments))
    }

    /// A run that must succeed.
    pub(super) fn succeed(&self, arguments: &[String]) -> Result<()> {
        let ended = self.run(arguments)?;
        if ended.status.success() {
            return Ok(());
        }
        bail!(
            "`diffrep {}` failed: {}",
            arguments.join(" "),
            ended.said.trim()
        );
    }

    /// A run under limits that a shell sets, such as `ulimit -v 100000`.
    pub(super) fn limited(&self, limit: &str, arguments: &[String]) -> Result<Ended> {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("{limit}; exec \"$0\" \"$@\"")])
            .arg(&self.program)
            .args(arguments)
            .current_dir(process::root());
        self.output(&mut shell)
    }

    /// A run that is killed after some time, if it has not ended by itself.
    pub(super) fn kill_after(&self, time: Duration, arguments: &[String]) -> Result<Ended> {
        let start = Instant::now();
        let mut child = self.start(arguments)?;
        while start.elapsed() < time && child.try_wait().context("waiting for diffrep")?.is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // A process that has ended by itself cannot be killed any more, which is no error.
        let _ = child.kill();
        ended(child.wait_with_output().context("waiting for diffrep")?)
    }

    /// Starts a run; what it says is kept for when it has ended.
    pub(super) fn start(&self, arguments: &[String]) -> Result<std::process::Child> {
        self.start_with(arguments, &[])
    }

    /// The same with more in its environment.
    pub(super) fn start_with(
        &self,
        arguments: &[String],
        environment: &[(&str, String)],
    ) -> Result<std::process::Child> {
        let mut command = self.command(arguments);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
            .spawn()
            .with_context(|| format!("`{}` cannot be started", process::shown(&command)))
    }

    fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(process::root());
        command
    }

    fn output(&self, command: &mut Command) -> Result<Ended> {
        let output = command
            .output()
            .with_context(|| format!("`{}` cannot be started", process::shown(command)))?;
        ended(output)
    }
}

/// How a process ended.
pub(super) fn ended(output: Output) -> Result<Ended> {
    Ok(Ended {
        status: output.status,
        said: String::from_utf8(output.stderr).context("diffrep did not write UTF-8")?,
    })
}

impl Ended {
    pub(super) fn succeeded(&self) -> bool {
        self.status.success()
    }

    /// Whether a signal ended it.
    pub(super) fn was_killed(&self) -> bool {
        self.status.code().is_none()
    }

    /// Errs unless it failed, by itself, with a sentence that names `path`.
    pub(super) fn require_refusal(&self, path: &Path) -> Result<()> {
        ensure!(!self.status.success(), "it succeeded where it cannot have");
        ensure!(
            !self.was_killed(),
            "it was ended by {}: {}",
            self.status,
            self.said
        );
        ensure!(
            !self.said.contains("panicked"),
            "it panicked: {}",
            self.said
        );
        let name = path.display().to_string();
        ensure!(
            self.said.contains(&name),
            "its error does not name {name}: {}",
            self.said
        );
        Ok(())
    }
}
