//! `--launcher`: experiments with many workers, on this machine or by a scheduler.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use diffrep_artifact::{create_dir_all, write_bytes_atomic};
use diffrep_plan::launch::{After, IndexedJob, JobId, Resources, SlurmJob, Volume, submit};

use super::jobs::Job;
use super::{HowArgs, features};
use crate::commands::launch::{usual_retries, volume};
use crate::printer::Printer;

/// Who starts the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Launcher {
    /// This command, as processes of this machine; of several GPUs each worker has one.
    Local,
    /// Slurm: job arrays, and experiments that wait for them.
    Slurm,
    /// Kubernetes: indexed jobs, and experiments to be applied after them.
    K8s,
}

/// Many workers for the features that experiments store.
#[derive(Debug, Args)]
#[command(next_help_heading = "Many workers")]
pub(super) struct LauncherArgs {
    /// Extract the features that experiments store by --workers workers, then run each experiment.
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) launcher: Option<Launcher>,
    /// How many workers.
    #[arg(long, default_value = "1", requires = "launcher")]
    workers: NonZeroUsize,
    /// Folder of scripts or manifests, and of logs; `logs` without it.
    #[arg(long, requires = "launcher")]
    logs: Option<PathBuf>,
    /// Hand the jobs in to Slurm, in their order.
    #[arg(long, requires = "launcher")]
    submit: bool,
    /// The program that takes Slurm's scripts.
    #[arg(long, default_value = "sbatch", requires = "submit")]
    sbatch: PathBuf,
    /// A further option of `sbatch` for every job, such as --option=--partition=a100.
    #[arg(long, allow_hyphen_values = true, requires = "launcher")]
    option: Vec<String>,
    /// Cores for each job.
    #[arg(long, requires = "launcher")]
    cpus: Option<u32>,
    /// GPUs for each job.
    #[arg(long, requires = "launcher")]
    gpus: Option<u32>,
    /// Memory for each job, in MiB.
    #[arg(long, value_name = "MIB", requires = "launcher")]
    memory: Option<u64>,
    /// Image of Kubernetes' containers, whose program is `diffrep`.
    #[arg(long, requires = "launcher")]
    image: Option<String>,
    /// A persistent volume claim for Kubernetes: CLAIM:PATH, or CLAIM:PATH:ro.
    #[arg(long, value_parser = volume, requires = "launcher")]
    volume: Vec<Volume>,
    /// Extract the features that experiments store, as one of the workers of --worker, and stop.
    #[arg(long, conflicts_with_all = ["dry_run", "launcher"])]
    pub(super) features_only: bool,
    /// Which worker of several this is: k/K, counted from 0; `auto` asks the environment.
    #[arg(
        long,
        value_name = "K/N",
        default_value = "auto",
        requires = "features_only"
    )]
    worker: String,
}

/// One job of a scheduler.
struct Step {
    name: String,
    command: Vec<String>,
    /// Whether all workers share it.
    is_shared: bool,
    /// Places in the list of those that must end well first.
    well: Vec<usize>,
    /// And of those that must end, well or not.
    however: Vec<usize>,
}

impl LauncherArgs {
    /// The folder of scripts, manifests and logs.
    fn logs(&self) -> &Path {
        self.logs.as_deref().unwrap_or(Path::new("logs"))
    }

    /// That nothing is asked for which only a scheduler can give.
    fn check_local(&self) -> Result<()> {
        let given = [
            ("--logs", self.logs.is_some()),
            ("--option", !self.option.is_empty()),
            ("--cpus", self.cpus.is_some()),
            ("--gpus", self.gpus.is_some()),
            ("--memory", self.memory.is_some()),
            ("--image", self.image.is_some()),
            ("--volume", !self.volume.is_empty()),
        ];
        let given = given.into_iter().filter(|(_, is_given)| *is_given);
        let given: Vec<&str> = given.map(|(option, _)| option).collect();
        ensure!(
            given.is_empty(),
            "--launcher local starts processes on this machine, which share all of it, and would not heed {}: leave \
             that out, or use --launcher slurm or k8s",
            given.join(", ")
        );
        Ok(())
    }

    /// Which worker this is.
    pub(super) fn place(&self) -> Result<diffrep_plan::Place> {
        let given = (self.worker != "auto").then_some(self.worker.as_str());
        Ok(diffrep_plan::Place::resolve(given, |name| {
            std::env::var(name).ok()
        })?)
    }
}

/// Starts workers and experiments, or writes what starts them. True if the experiments are still to be run here.
///
/// `tensorboard` is the folder of event files, which experiments on a cluster write as those here would. (Workers
/// extract features and train nothing.)
pub(super) fn launch(
    jobs: &[Job],
    how: &HowArgs,
    tensorboard: Option<&Path>,
    printer: Printer,
) -> Result<bool> {
    let args = &how.launcher;
    match args.launcher {
        None => return Ok(true),
        Some(Launcher::Local) => {
            ensure!(!args.submit, "--submit is for --launcher slurm");
            args.check_local()?;
            local(jobs, how, printer)?;
            return Ok(true);
        }
        Some(Launcher::Slurm) => slurm(&steps(jobs, how, tensorboard)?, how, printer)?,
        Some(Launcher::K8s) => {
            ensure!(!args.submit, "--submit is for --launcher slurm");
            // A folder of the pod's own would be lost with it.
            if let Some(folder) = tensorboard.filter(|folder| folder.is_relative()) {
                bail!(
                    "--tensorboard {} is relative, and a pod's own folder is lost with it: give a path below a --volume",
                    folder.display()
                );
            }
            kubernetes(&steps(jobs, how, tensorboard)?, how, printer)?;
        }
    }
    Ok(false)
}

/// The words of `diffrep` for a job, with its folders and device.
fn words(job: &Job, how: &HowArgs, device: &str) -> Result<Vec<String>> {
    let mut words = job.words.clone();
    let mut add = |option: &str, value: &Path| -> Result<()> {
        let value = value.to_str();
        let value = value.context("a path that is not text cannot stand in a script")?;
        words.extend([option.to_owned(), value.to_owned()]);
        Ok(())
    };
    add("--runs", &how.runs)?;
    for (option, folder) in [("--data", &how.data), ("--checkpoints", &how.checkpoints)] {
        if let Some(folder) = folder {
            add(option, folder)?;
        }
    }
    add("--device", Path::new(device))?;
    Ok(words)
}

/// The workers of each experiment, then the experiment, one after another since they share a folder; at last a page
/// over all of them.
fn steps(jobs: &[Job], how: &HowArgs, tensorboard: Option<&Path>) -> Result<Vec<Step>> {
    let device = how.device.to_string();
    let mut steps = Vec::new();
    let mut experiments: Vec<usize> = Vec::new();
    for job in jobs {
        let words = words(job, how, &device)?;
        let name = format!("{}-{}", job.plan.name(), job.scale);
        let mut well = Vec::new();
        // Workers of one experiment may run beside those of another, but not beside an experiment, which has the
        // folder alone.
        let before: Vec<usize> = experiments.last().copied().into_iter().collect();
        if features::are_known(&job.plan, &job.scale)? {
            let features = ["--features-only".to_owned()];
            well.push(steps.len());
            steps.push(Step {
                name: format!("{name}-features"),
                command: words.iter().cloned().chain(features).collect(),
                is_shared: true,
                well: Vec::new(),
                however: before.clone(),
            });
        }
        let mut command = words;
        if let Some(folder) = tensorboard {
            let folder = folder.to_str();
            let folder = folder.context("a path that is not text cannot stand in a script")?;
            command.extend(["--tensorboard", folder].map(String::from));
        }
        experiments.push(steps.len());
        steps.push(Step {
            name,
            command,
            is_shared: false,
            however: before,
            well,
        });
    }
    if jobs.len() > 1 {
        let runs = how.runs.to_str().context("a path that is not text")?;
        let page = format!("{runs}/report.html");
        steps.push(Step {
            name: "report".into(),
            command: ["report", runs, "--out", &page].map(String::from).to_vec(),
            is_shared: false,
            well: Vec::new(),
            however: experiments,
        });
    }
    Ok(steps)
}

fn slurm(steps: &[Step], how: &HowArgs, printer: Printer) -> Result<()> {
    let args = &how.launcher;
    ensure!(
        args.image.is_none() && args.volume.is_empty(),
        "--image and --volume are for --launcher k8s"
    );
    create_dir_all(args.logs())?;
    let text = |path: PathBuf| -> Result<String> {
        let text = path.to_str().map(str::to_owned);
        text.context("a path that is not text cannot stand in a script")
    };
    let program = text(std::env::current_exe().context("the path of this program is not known")?)?;
    let (folder, logs) = (
        text(std::env::current_dir()?)?,
        text(std::path::absolute(args.logs())?)?,
    );
    let mut scripts = Vec::new();
    for step in steps {
        let command = std::iter::once(program.clone()).chain(step.command.iter().cloned());
        let job = SlurmJob {
            name: format!("diffrep-{}", step.name),
            command: command.collect(),
            folder: folder.clone(),
            logs: logs.clone(),
            array: step.is_shared.then_some(args.workers),
            at_once: None,
            ranks: NonZeroUsize::MIN,
            resources: Resources {
                cpus: args.cpus,
                gpus: args.gpus,
                memory: args.memory,
                more: args.option.clone(),
                ..Resources::default()
            },
        };
        let path = args.logs().join(format!("{}.sbatch", step.name));
        write_bytes_atomic(&path, job.script()?.as_bytes())?;
        scripts.push(path);
    }
    if !args.submit {
        let mut all = String::from("#!/bin/sh\nset -eu\ncd \"$(dirname \"$0\")\"\n");
        for (index, step) in steps.iter().enumerate() {
            let variables = |places: &[usize]| -> Vec<String> {
                places.iter().map(|place| format!("$job{place}")).collect()
            };
            let after = After::option(&variables(&step.well), &variables(&step.however));
            let after = after.map_or_else(String::new, |option| {
                format!(" {option} --kill-on-invalid-dep=yes")
            });
            all.push_str(&format!(
                // Not through a pipe, whose first command may fail unseen; a cluster's name follows a semicolon.
                "job{index}=$(sbatch --parsable{after} {}.sbatch)\njob{index}=${{job{index}%%;*}}\n",
                step.name
            ));
        }
        let path = args.logs().join("submit.sh");
        write_bytes_atomic(&path, all.as_bytes())?;
        return said(&scripts, &[], &format!("sh '{}'", path.display()), printer);
    }
    let mut ids: Vec<JobId> = Vec::new();
    for (step, script) in steps.iter().zip(&scripts) {
        let of = |places: &[usize]| -> Vec<JobId> { places.iter().map(|&at| ids[at]).collect() };
        let (well, however) = (of(&step.well), of(&step.however));
        let after = After {
            well: &well,
            however: &however,
        };
        ids.push(submit(&args.sbatch, script, after)?);
        printer.say(&format!("{}: job {}", step.name, ids[ids.len() - 1]));
    }
    said(&scripts, &ids, "", printer)
}

fn kubernetes(steps: &[Step], how: &HowArgs, printer: Printer) -> Result<()> {
    let args = &how.launcher;
    ensure!(args.option.is_empty(), "--option is for --launcher slurm");
    let Some(image) = &args.image else {
        bail!("--launcher k8s needs --image with the name of a container image");
    };
    ensure!(
        !args.volume.is_empty(),
        "without --volume CLAIM:PATH what a pod writes is lost with it"
    );
    create_dir_all(args.logs())?;
    let mut files = Vec::new();
    let mut apply = Vec::new();
    for step in steps {
        let command = std::iter::once("diffrep".to_owned()).chain(step.command.iter().cloned());
        let name = format!("diffrep-{}", step.name);
        let job = IndexedJob {
            name: name.clone(),
            namespace: None,
            image: image.clone(),
            command: command.collect(),
            workers: match step.is_shared {
                true => args.workers,
                false => NonZeroUsize::MIN,
            },
            at_once: None,
            retries: usual_retries(step.is_shared),
            cpus: args.cpus,
            gpus: args.gpus,
            memory: args.memory,
            volumes: args.volume.clone(),
        };
        let path = args.logs().join(format!("{}.json", step.name));
        write_bytes_atomic(&path, job.manifest()?.as_bytes())?;
        // Not `kubectl wait`, which waits for one condition: a job that fails would never be complete.
        apply.push(format!(
            "kubectl apply -f {} || exit\nuntil kubectl get job/{name} -o 'jsonpath={{.status.conditions[*].type}}' | \
             grep -qwE 'Complete|Failed'; do sleep 10; done",
            path.display()
        ));
        files.push(path);
    }
    said(&files, &[], &apply.join("\n"), printer)
}

/// Prints which files were written, the numbers of jobs that were handed in, and what is to be done by hand.
fn said(files: &[PathBuf], jobs: &[JobId], then: &str, printer: Printer) -> Result<()> {
    if printer.json() {
        let jobs: Vec<u64> = jobs.iter().map(|job| job.0).collect();
        let said = serde_json::json!({ "files": files, "jobs": jobs, "then": then });
        printer.result(&serde_json::to_string_pretty(&said)?);
        return Ok(());
    }
    for (place, file) in files.iter().enumerate() {
        let job = jobs.get(place).map(|job| format!(": job {job}"));
        printer.result(&format!("{}{}", file.display(), job.unwrap_or_default()));
    }
    if !then.is_empty() {
        printer.say("to start them:");
        printer.result(then);
    }
    Ok(())
}

/// Starts the workers here and waits for them.
fn local(jobs: &[Job], how: &HowArgs, printer: Printer) -> Result<()> {
    let workers = how.launcher.workers.get();
    let program = std::env::current_exe().context("the path of this program is not known")?;
    for job in jobs {
        if !features::are_known(&job.plan, &job.scale)? {
            continue;
        }
        printer.say(&format!(
            "{}: features by {workers} workers",
            job.plan.name()
        ));
        let mut children = Vec::new();
        for worker in 0..workers {
            let device = how.device.beside(worker).to_string();
            let mut command = Command::new(&program);
            command
                .arg("--quiet")
                .args(words(job, how, &device)?)
                .args(["--features-only", "--worker"])
                .arg(format!("{worker}/{workers}"))
                // Results on standard output are the experiments'.
                .stdout(Stdio::null());
            match command.spawn() {
                Ok(child) => children.push(child),
                Err(error) => {
                    for child in &mut children {
                        let _ = child.kill().and_then(|()| child.wait().map(drop));
                    }
                    return Err(error).with_context(|| format!("starting worker {worker}"));
                }
            }
        }
        let mut failed = Vec::new();
        for (worker, child) in children.iter_mut().enumerate() {
            if !child.wait().context("waiting for a worker")?.success() {
                failed.push(worker.to_string());
            }
        }
        ensure!(
            failed.is_empty(),
            "of the workers of {} these failed (above): {}; what they finished stays",
            job.plan.name(),
            failed.join(", ")
        );
    }
    Ok(())
}
