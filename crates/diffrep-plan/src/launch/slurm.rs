//! Slurm: job scripts, and handing them in.

use std::ffi::OsStr;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;

use super::{check, check_command};
use crate::{ARRAY_COUNT, PlanError};

/// A job of Slurm: a step that many workers share, or one that waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlurmJob {
    /// Its name in the queue.
    pub name: String,
    /// The program and its arguments, the same for every worker.
    pub command: Vec<String>,
    /// The folder in which the command runs; it must exist.
    pub folder: String,
    /// The folder of the logs; it must exist, because Slurm drops what it cannot write.
    pub logs: String,
    /// How many tasks the job array has; none for a job that is not an array.
    pub array: Option<NonZeroUsize>,
    /// How many of them may run at once; none for as many as there is room for.
    pub at_once: Option<NonZeroUsize>,
    /// How many processes `srun` starts in each task; one is started without it.
    pub ranks: NonZeroUsize,
    /// What each task is given.
    pub resources: Resources,
}

/// What a task of Slurm is given; what is not said is the cluster's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// The partition.
    pub partition: Option<String>,
    /// The account that pays.
    pub account: Option<String>,
    /// The longest time it may run, in minutes.
    pub minutes: Option<u32>,
    /// Cores for each process.
    pub cpus: Option<u32>,
    /// GPUs for each process.
    pub gpus: Option<u32>,
    /// Memory on each machine, in MiB.
    pub memory: Option<u64>,
    /// Further options of `sbatch`, such as `--constraint=h100`.
    pub more: Vec<String>,
}

impl SlurmJob {
    /// The script for `sbatch`.
    ///
    /// A task that is preempted or whose machine fails is queued again and appends to its log: what
    /// it wrote stays. The size of the array is exported, so that a part of it can be submitted again
    /// (`sbatch --array=3,7 SCRIPT`) with every task keeping its place.
    ///
    /// # Errors
    ///
    /// [`PlanError::Launch`] for a value that cannot stand in a script.
    pub fn script(&self) -> Result<String, PlanError> {
        check_command(&self.command)?;
        let mut script = "#!/bin/sh\n".to_owned();
        for option in self.options()? {
            script.push_str(&directive(&option)?);
        }
        // A pipeline's or a `cd`'s failure must not pass for success.
        script.push_str("set -eu\n");
        if let Some(tasks) = self.array {
            script.push_str(&format!("export {ARRAY_COUNT}={tasks}\n"));
        }
        let mut words = vec!["exec".to_owned()];
        if self.ranks.get() > 1 {
            // Workers are independent: that one fails is no reason to kill the others. Since Slurm
            // 22.05 a step no longer takes the job's cores for each process.
            words.extend(["srun", "--kill-on-bad-exit=0"].map(String::from));
            words.extend(
                self.resources
                    .cpus
                    .map(|cpus| format!("--cpus-per-task={cpus}")),
            );
            words.push("--".into());
        }
        words.extend(self.command.iter().map(|word| quote(word)));
        script.push_str(&words.join(" "));
        script.push('\n');
        Ok(script)
    }

    /// The options of `sbatch`, each a word without quotes.
    fn options(&self) -> Result<Vec<String>, PlanError> {
        let lines = "it must not be empty or contain line breaks";
        for (what, value) in [
            ("the job's name", &self.name),
            ("the folder", &self.folder),
            ("the folder of logs", &self.logs),
        ] {
            check(what, value, lines, |c| c.is_control())?;
        }
        let reason =
            "a backslash in it makes Slurm take the patterns in the names of logs literally";
        check("the folder of logs", &self.logs, reason, |c| c == '\\')?;
        // In the names of logs `%` begins a pattern: %A is the array's number, %a the task's, %j the
        // job's.
        let number = if self.array.is_some() { "%A_%a" } else { "%j" };
        let log = self.logs.replace('%', "%%");
        let mut options = vec![
            format!("--job-name={}", self.name),
            format!("--chdir={}", self.folder),
            format!("--output={log}/{number}.log"),
            "--open-mode=append".into(),
            "--requeue".into(),
            format!("--ntasks={}", self.ranks),
        ];
        if let Some(tasks) = self.array {
            let at_once = self.at_once.map(|n| format!("%{n}")).unwrap_or_default();
            options.push(format!("--array=0-{}{at_once}", tasks.get() - 1));
        }
        options.extend(self.resources.options());
        Ok(options)
    }
}

impl Resources {
    fn options(&self) -> Vec<String> {
        fn option<T: fmt::Display>(name: &str, value: Option<&T>) -> Option<String> {
            value.map(|value| format!("--{name}={value}"))
        }
        let options = [
            option("partition", self.partition.as_ref()),
            option("account", self.account.as_ref()),
            option("time", self.minutes.as_ref()),
            option("cpus-per-task", self.cpus.as_ref()),
            option("gpus-per-task", self.gpus.as_ref()),
            option("mem", self.memory.as_ref()),
        ];
        options
            .into_iter()
            .flatten()
            .chain(self.more.iter().cloned())
            .collect()
    }
}

/// A line by which a script gives `sbatch` an option. Its words are split at spaces and quoted by
/// double quotes, within which a backslash makes the next character stand for itself.
fn directive(option: &str) -> Result<String, PlanError> {
    let reason = "it must begin with -- and contain no line breaks";
    check("the option of sbatch", option, reason, |c| c.is_control())?;
    if !option.starts_with("--") {
        return Err(PlanError::Launch {
            what: "the option of sbatch",
            value: option.into(),
            reason,
        });
    }
    let escaped = option.replace('\\', r"\\").replace('"', "\\\"");
    Ok(format!("#SBATCH \"{escaped}\"\n"))
}

/// A word that the shell takes as it is.
fn quote(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The number of a submitted job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The jobs that a job waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct After<'a> {
    /// These have to end well; of an array, all its tasks. If one of them fails the job is cancelled, instead of
    /// waiting for ever.
    pub well: &'a [JobId],
    /// These have to end, well or not.
    pub however: &'a [JobId],
}

impl After<'_> {
    /// What `sbatch --dependency` takes; none where there is nothing to wait for. A job may be a number, or a
    /// variable of a script.
    pub fn option(well: &[impl fmt::Display], however: &[impl fmt::Display]) -> Option<String> {
        fn part(kind: &str, jobs: &[impl fmt::Display]) -> Option<String> {
            let jobs: Vec<String> = jobs.iter().map(ToString::to_string).collect();
            (!jobs.is_empty()).then(|| format!("{kind}:{}", jobs.join(":")))
        }
        let parts = [part("afterok", well), part("afterany", however)];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| format!("--dependency={}", parts.join(",")))
    }
}

/// Hands the script of a job in, to run when the jobs that it waits for have ended.
///
/// `sbatch` is the program, by name or path.
///
/// # Errors
///
/// [`PlanError::Start`] if the program cannot be started, [`PlanError::Submit`] with its own words if
/// it refuses the job or prints no number.
pub fn submit(
    sbatch: impl AsRef<OsStr>,
    script: &Path,
    after: After<'_>,
) -> Result<JobId, PlanError> {
    let program = sbatch.as_ref().to_string_lossy().into_owned();
    let mut command = Command::new(sbatch.as_ref());
    command.arg("--parsable");
    if let Some(option) = After::option(after.well, after.however) {
        command.args([option.as_str(), "--kill-on-invalid-dep=yes"]);
    }
    // The place of a worker that submits jobs is not that of the jobs; `sbatch` passes on what it
    // does not set itself.
    command.env_remove(ARRAY_COUNT);
    let output = match command.arg(script).output() {
        Ok(output) => output,
        Err(source) => return Err(PlanError::Start { program, source }),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    // On a federation of clusters: number;cluster.
    let number = said.trim().split(';').next().and_then(|id| id.parse().ok());
    match number {
        Some(id) if output.status.success() => Ok(JobId(id)),
        _ => {
            let errors = String::from_utf8_lossy(&output.stderr);
            let words = format!("{} {}", errors.trim(), said.trim());
            let reason = match words.trim() {
                "" => format!("{}, without a word", output.status),
                words => words.to_owned(),
            };
            Err(PlanError::Submit {
                program,
                script: script.into(),
                reason,
            })
        }
    }
}
