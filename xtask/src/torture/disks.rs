//! Disks that are full or cannot be written to.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Reference;
use super::output::Output;
use super::run::Runner;

/// A disk in memory, unmounted when this goes out of scope.
struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Mounts one at `folder`, where this user may.
    fn mount(folder: &Path, options: &str) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", options, "diffrep-torture"])
            .arg(folder);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then(|| Self {
            folder: folder.to_path_buf(),
        })
    }

    /// After a failure copies what is on the disk beside it, where it can be looked at when the disk is gone.
    fn rescue(&self, outcome: Result<()>) -> Result<()> {
        let Err(error) = outcome else {
            return Ok(());
        };
        let mut name = self.folder.clone().into_os_string();
        name.push("-left");
        let left = PathBuf::from(name);
        match Output::read(&self.folder).and_then(|output| output.write(&left)) {
            Ok(()) => Err(error.context(format!("what was on it lies in {}", left.display()))),
            Err(other) => Err(error.context(format!("what was on it is lost: {other:#}"))),
        }
    }

    fn remount(&self, options: &str) -> Result<()> {
        let mut mount = Command::new("mount");
        mount
            .args(["-o", &format!("remount,{options}")])
            .arg(&self.folder);
        crate::process::output(&mut mount).map(drop)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What cannot be unmounted ends with the machine; there is nobody to tell.
        let _ = Command::new("umount").arg(&self.folder).output();
    }
}

/// Runs a job on disks with room for a tenth, a half and nine tenths of its results, each of which is then made large
/// enough.
pub(super) fn full(reference: &Reference, runner: &Runner) -> Result<String> {
    let job = reference.job;
    let mut sizes = Vec::new();
    for tenths in [1, 5, 9] {
        let folder = runner.fresh(&format!("{}-full", job.name()))?;
        let kib = (reference.output.bytes() * tenths / 10 / 1024).max(1);
        let Some(disk) = Disk::mount(&folder, &format!("size={kib}k")) else {
            return limited(reference, runner);
        };
        let tried = || {
            let ended = runner.run(&job.arguments(runner.work(), &folder))?;
            ended.require_refusal(&folder)?;
            Output::read(&folder)?.require_whole(&reference.output, job)?;
            disk.remount("size=1g")?;
            reference.finish_in(&folder, runner)
        };
        disk.rescue(tried())
            .with_context(|| format!("on a disk of {kib} KiB"))?;
        sizes.push(format!("{kib} KiB"));
    }
    Ok(format!("disks of {}, then large ones", sizes.join(", ")))
}

/// Where no disk may be mounted: files of half the length of the longest fail as on a full one.
fn limited(reference: &Reference, runner: &Runner) -> Result<String> {
    let job = reference.job;
    let folder = runner.fresh(&format!("{}-full", job.name()))?;
    let longest = reference
        .output
        .files
        .values()
        .map(Vec::len)
        .max()
        .unwrap_or(0);
    let blocks = (longest / 2 / 512).max(1);
    let limit = format!("trap '' XFSZ; ulimit -f {blocks}");
    let ended = runner.limited(&limit, &job.arguments(runner.work(), &folder))?;
    ended.require_refusal(&folder)?;
    Output::read(&folder)?.require_whole(&reference.output, job)?;
    reference.finish_in(&folder, runner)?;
    Ok(format!(
        "no right to mount disks: no file above {blocks} blocks of 512 bytes, then any"
    ))
}

/// Runs a job on a disk that cannot be written to and is then made writable.
pub(super) fn read_only(reference: &Reference, runner: &Runner) -> Result<String> {
    let job = reference.job;
    let folder = runner.fresh(&format!("{}-readonly", job.name()))?;
    let Some(disk) = Disk::mount(&folder, "size=1g,ro") else {
        return Ok("not tried: no right to mount disks".into());
    };
    let tried = || {
        let ended = runner.run(&job.arguments(runner.work(), &folder))?;
        ended.require_refusal(&folder)?;
        ensure!(
            Output::read(&folder)?.files.is_empty(),
            "a read-only disk holds files"
        );
        disk.remount("rw")?;
        reference.finish_in(&folder, runner)
    };
    disk.rescue(tried())?;
    Ok("a read-only disk, then a writable one".into())
}
