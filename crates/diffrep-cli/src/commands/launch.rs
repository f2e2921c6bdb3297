//! `diffrep launch`: the script or manifest by which a scheduler runs a command, with many workers if
//! the command shares its work out.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use diffrep_artifact::{Sha256Hex, create_dir_all, write_bytes_atomic};
use diffrep_plan::launch::{After, IndexedJob, JobId, Resources, SlurmJob, Volume, submit};

use crate::printer::Printer;

/// Run a diffrep command on a cluster: write the script or the manifest, and hand it in if asked.
///
/// What stands after `--` is a command of diffrep, which is checked before anything is queued. The work
/// of `extract` is shared out among --workers; any other command is one job. Whole experiments, with workers
/// for their features and the order of jobs, are `diffrep reproduce --launcher slurm`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep launch slurm --workers 16 --gpus 1 --partition a100 -- \\\n      \
    extract data/imagenet --dataset imagenet --checkpoint 256x256_diffusion_uncond.pt --t 90 --block 24 --out f\n  \
    diffrep launch slurm --workers 16 --gpus 1 --submit -- extract photos/ --checkpoint m.pt --t 90 --block 24 --out f\n  \
    diffrep launch slurm --gpus 1 --minutes 2880 --submit --after 4711 -- reproduce table1 --scale paper --device cuda:0\n  \
    diffrep launch k8s --workers 8 --gpus 1 --image registry/diffrep --volume data:/data -- \\\n      \
    extract /data/photos --checkpoint /data/m.pt --t 90 --block 24 --out /data/f | kubectl apply -f -")]
pub(crate) struct LaunchArgs {
    #[command(subcommand)]
    scheduler: Scheduler,
}

#[derive(Debug, Subcommand)]
enum Scheduler {
    Slurm(SlurmArgs),
    K8s(KubernetesArgs),
}

/// What every scheduler is told.
#[derive(Debug, Args)]
struct Common {
    /// How many workers share the work of `extract`.
    #[arg(long)]
    workers: Option<NonZeroUsize>,
    /// How many of them may run at once; as many as there is room for without it.
    #[arg(long, requires = "workers")]
    at_once: Option<NonZeroUsize>,
    /// Name of the job; diffrep-COMMAND without it.
    #[arg(long)]
    name: Option<String>,
    /// Cores for each worker.
    #[arg(long)]
    cpus: Option<u32>,
    /// GPUs for each worker.
    #[arg(long)]
    gpus: Option<u32>,
    /// Memory for each worker, in MiB.
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
    /// A command of diffrep with its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// A job of Slurm: the script on standard output, or handed in by `sbatch`.
#[derive(Debug, Args)]
struct SlurmArgs {
    #[command(flatten)]
    common: Common,
    /// The partition.
    #[arg(long)]
    partition: Option<String>,
    /// The account that pays.
    #[arg(long)]
    account: Option<String>,
    /// The longest time a worker may run.
    #[arg(long)]
    minutes: Option<u32>,
    /// A further option of `sbatch`, such as --option=--constraint=h100.
    #[arg(long, allow_hyphen_values = true)]
    option: Vec<String>,
    /// Folder of the logs, and of the script that is handed in.
    #[arg(long, default_value = "logs")]
    logs: PathBuf,
    /// Hand the script in and print the number of the job.
    #[arg(long)]
    submit: bool,
    /// Numbers of jobs that have to end well first.
    #[arg(long, value_name = "JOB", requires = "submit")]
    after: Vec<u64>,
    /// The program that takes scripts.
    #[arg(long, default_value = "sbatch", requires = "submit")]
    sbatch: PathBuf,
}

/// An indexed job of Kubernetes: the manifest as JSON, for `kubectl apply -f -`.
#[derive(Debug, Args)]
struct KubernetesArgs {
    #[command(flatten)]
    common: Common,
    /// Image of the container, whose program is `diffrep`.
    #[arg(long)]
    image: String,
    /// A persistent volume claim and where it lies in the container: CLAIM:PATH, CLAIM:PATH:ro if it is
    /// only read.
    #[arg(long, value_parser = volume)]
    volume: Vec<Volume>,
    /// The namespace; that of whoever applies it without.
    #[arg(long)]
    namespace: Option<String>,
    /// How many failures of pods are forgiven; without it 100 where workers share the work, and 3 of one job. Pods
    /// that are lost or evicted do not count, and those that end by an error of diffrep are not tried again.
    #[arg(long)]
    retries: Option<u32>,
}

/// How many failures of pods are forgiven, where nothing is said: workers go on where others stopped, and one job that
/// fails for lack of memory will again.
pub(crate) fn usual_retries(is_shared: bool) -> u32 {
    if is_shared { 100 } else { 3 }
}

/// A volume as it is written.
pub(crate) fn volume(text: &str) -> Result<Volume, String> {
    let (rest, read_only) = match text.strip_suffix(":ro") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    match rest.split_once(':') {
        Some((claim, path)) if !claim.is_empty() && path.starts_with('/') => Ok(Volume {
            claim: claim.into(),
            path: path.into(),
            read_only,
        }),
        _ => Err("a volume is CLAIM:PATH or CLAIM:PATH:ro, its path from the root".into()),
    }
}

impl LaunchArgs {
    /// The command that is to be launched.
    pub(crate) fn command(&self) -> &[String] {
        match &self.scheduler {
            Scheduler::Slurm(args) => &args.common.command,
            Scheduler::K8s(args) => &args.common.command,
        }
    }
}

impl Common {
    fn name(&self) -> String {
        let word = self.command.first().map_or("job", String::as_str);
        self.name.clone().unwrap_or(format!("diffrep-{word}"))
    }

    fn with_program(&self, program: &str) -> Vec<String> {
        std::iter::once(program.to_string())
            .chain(self.command.iter().cloned())
            .collect()
    }

    fn check(&self, shares_work: bool) -> Result<()> {
        ensure!(
            shares_work || self.workers.is_none(),
            "--workers is for extract, and for experiments with --features-only, whose work is shared out: `{}` is one job",
            self.command.first().map_or("", String::as_str)
        );
        ensure!(
            !self.name().contains('/'),
            "the job's name `{}` has a slash, which no file's name may have",
            self.name()
        );
        Ok(())
    }
}

/// `shares_work` says whether several workers share the work of the command.
pub(crate) fn run(args: &LaunchArgs, shares_work: bool, printer: Printer) -> Result<()> {
    match &args.scheduler {
        Scheduler::Slurm(args) => slurm(args, shares_work, printer),
        Scheduler::K8s(args) => kubernetes(args, shares_work, printer),
    }
}

fn slurm(args: &SlurmArgs, shares_work: bool, printer: Printer) -> Result<()> {
    args.common.check(shares_work)?;
    let program = std::env::current_exe().context("the path of this program is not known")?;
    let job = SlurmJob {
        name: args.common.name(),
        command: args.common.with_program(text(&program)?),
        folder: text(&std::env::current_dir()?)?.into(),
        logs: text(&std::path::absolute(&args.logs)?)?.into(),
        array: args.common.workers,
        at_once: args.common.at_once,
        ranks: NonZeroUsize::MIN,
        resources: Resources {
            partition: args.partition.clone(),
            account: args.account.clone(),
            minutes: args.minutes,
            cpus: args.common.cpus,
            gpus: args.common.gpus,
            memory: args.common.memory,
            more: args.option.clone(),
        },
    };
    let script = job.script()?;
    if !args.submit {
        // Slurm drops the logs of a job whose folder of logs is not there.
        printer.say(&format!(
            "The folder {} must exist when the job starts (--submit makes it).",
            args.logs.display()
        ));
        if printer.json() {
            let said = serde_json::json!({ "script": script });
            printer.result(&serde_json::to_string_pretty(&said)?);
        } else {
            printer.result(script.trim_end());
        }
        return Ok(());
    }
    create_dir_all(&args.logs)?;
    // A later job of the same name has a script of its own: parts of this one may be handed in again.
    let hash = Sha256Hex::hash_bytes(script.as_bytes());
    let path = args
        .logs
        .join(format!("{}-{}.sbatch", job.name, hash.short()));
    write_bytes_atomic(&path, script.as_bytes())?;
    let well: Vec<JobId> = args.after.iter().copied().map(JobId).collect();
    let after = After {
        well: &well,
        however: &[],
    };
    let id = submit(&args.sbatch, &path, after)?;
    if printer.json() {
        let said = serde_json::json!({ "script": path, "job": id.0 });
        printer.result(&serde_json::to_string_pretty(&said)?);
    } else {
        printer.say(&format!("{} is handed in", path.display()));
        printer.result(&id.to_string());
    }
    Ok(())
}

fn kubernetes(args: &KubernetesArgs, shares_work: bool, printer: Printer) -> Result<()> {
    args.common.check(shares_work)?;
    if args.volume.is_empty() {
        bail!("without --volume CLAIM:PATH what a pod writes is lost with it");
    }
    let job = IndexedJob {
        name: args.common.name(),
        namespace: args.namespace.clone(),
        image: args.image.clone(),
        command: args.common.with_program("diffrep"),
        workers: args.common.workers.unwrap_or(NonZeroUsize::MIN),
        at_once: args.common.at_once,
        retries: args.retries.unwrap_or(usual_retries(shares_work)),
        cpus: args.common.cpus,
        gpus: args.common.gpus,
        memory: args.common.memory,
        volumes: args.volume.clone(),
    };
    printer.result(job.manifest()?.trim_end());
    Ok(())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not text, which a script needs", path.display()))
}
