//! Clocks that are wrong.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::Reference;
use super::output::Output;
use super::run::Runner;

/// Ten years.
const FAR: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Between two jumps of the clock.
const STEADY: Duration = Duration::from_millis(40);

/// Kills a job half-way, sets the times of what it left to the future, to 1970 and to now in turns, and gives the
/// command again: once with the clock as it is, and once, where libfaketime is installed, with one that jumps ten
/// years back and forth while the command runs.
pub(super) fn run(reference: &Reference, runner: &Runner) -> Result<String> {
    let job = reference.job;
    let library = faketime();
    let mut files = 0;
    for jumps in [false, true] {
        if jumps && library.is_none() {
            break;
        }
        let folder = runner.fresh(&format!("{}-clock", job.name()))?;
        let arguments = job.arguments(runner.work(), &folder);
        let time = Duration::from_secs_f64(reference.seconds / 2.0);
        runner.kill_after(time, &arguments)?;
        files += set_times(&folder, files)?;
        match &library {
            Some(library) if jumps => {
                jumping(library, runner, &arguments)?;
                let output = Output::read(&folder)?;
                reference.output.require_equal(&output, job)
            }
            _ => reference.finish_in(&folder, runner),
        }
        .with_context(|| match jumps {
            true => "with a clock that jumps",
            false => "with odd times of files",
        })?;
    }
    Ok(match library {
        Some(_) => format!("{files} files with odd times; a clock that jumped ten years each way"),
        None => format!(
            "{files} files with odd times; no jumping clock was tried: libfaketime is not installed"
        ),
    })
}

/// The library that answers for the clock.
fn faketime() -> Option<PathBuf> {
    let folders = [
        "/usr/lib/x86_64-linux-gnu/faketime",
        "/usr/lib/aarch64-linux-gnu/faketime",
        "/usr/lib64/faketime",
        "/usr/lib/faketime",
        "/usr/local/lib/faketime",
    ];
    folders
        .iter()
        .map(|folder| Path::new(folder).join("libfaketime.so.1"))
        .find(|path| path.is_file())
}

/// Sets the times of all files below a folder; gives how many there are. `first` is where the turns begin.
fn set_times(folder: &Path, first: usize) -> Result<usize> {
    let now = SystemTime::now();
    let times = [now + FAR, SystemTime::UNIX_EPOCH, now];
    let mut count = 0;
    let listing = || format!("listing {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(listing)? {
        let path = entry.with_context(listing)?.path();
        if path.is_dir() {
            count += set_times(&path, first + count)?;
            continue;
        }
        let time = times[(first + count) % times.len()];
        File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_modified(time))
            .with_context(|| format!("setting the time of {}", path.display()))?;
        count += 1;
    }
    Ok(count)
}

/// Runs the command with a clock that jumps until it ends.
fn jumping(library: &Path, runner: &Runner, arguments: &[String]) -> Result<()> {
    let offset = runner.work().join("clock");
    let set = |text: &str| std::fs::write(&offset, text).context("setting the clock");
    set("+0")?;
    let environment = [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", offset.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".into()),
        // The clock that intervals are measured by does not jump on any machine.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
    ];
    let mut child = runner.start_with(arguments, &environment)?;
    let mut turns = ["+3650d", "-3650d", "+0"].iter().cycle();
    while child.try_wait().context("waiting for diffrep")?.is_none() {
        if let Some(turn) = turns.next() {
            set(turn)?;
        }
        std::thread::sleep(STEADY);
    }
    let ended = super::run::ended(child.wait_with_output().context("waiting for diffrep")?)?;
    anyhow::ensure!(ended.succeeded(), "it failed: {}", ended.said.trim());
    Ok(())
}
