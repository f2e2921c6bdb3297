//! Which experiments are run, at which scale, and whether what they read is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use diffrep_plan::{Plan, Roots, is_file};

use super::{HowArgs, ReproduceArgs, RunArgs};

/// An experiment at a scale.
pub(super) struct Job {
    pub(super) plan: Plan,
    pub(super) scale: String,
    /// Where its files are.
    pub(super) roots: Roots,
    /// The words of `diffrep` that ask for it alone.
    pub(super) words: Vec<String>,
}

impl Job {
    /// The folder of its results.
    pub(super) fn dir(&self, runs: &Path) -> PathBuf {
        runs.join(format!("{}-{}", self.plan.name(), self.scale))
    }

    /// What it reads and is not there, each with the way to it, where one is known.
    pub(super) fn lacks(&self) -> Result<Vec<(String, Option<String>)>> {
        let mut lacks = Vec::new();
        for asset in self.plan.assets(&self.scale)? {
            let path = self.roots.find(asset);
            if !path.exists() {
                lacks.push((path.display().to_string(), hint(&path, asset)));
            }
        }
        Ok(lacks)
    }
}

impl HowArgs {
    /// `roots` with the folders that were given.
    fn given(&self, roots: Roots) -> Roots {
        Roots {
            data: self.data.clone(),
            checkpoints: self.checkpoints.clone(),
            ..roots
        }
    }

    /// `job` with the seeds that were given.
    fn seeded(&self, mut job: Job) -> Job {
        if let Some(count) = self.seeds {
            let seeds: Vec<u64> = (0..count).collect();
            if job.plan.set_seeds(&seeds) {
                job.words.extend(["--seeds".into(), count.to_string()]);
            }
        }
        job
    }
}

/// What `diffrep reproduce` was asked for.
pub(super) fn reproduced(args: &ReproduceArgs) -> Result<Vec<Job>> {
    let scale = if args.quick {
        format!("{}-quick", args.scale)
    } else {
        args.scale.clone()
    };
    if args.experiments.iter().any(|name| name == "smoke") && scale != "mini" {
        bail!("`smoke` is a scale by itself: leave --scale and --quick out, or name an experiment");
    }
    let job = |name: &str| -> Result<Job> {
        let (name, scale) = match name {
            "smoke" => ("figure2", "smoke"),
            _ => (name, scale.as_str()),
        };
        let roots = match is_file(name) {
            true => Roots::beside(Path::new(name)),
            false => Roots::default(),
        };
        Ok(Job {
            plan: Plan::named(name)?,
            scale: scale.into(),
            roots: args.how.given(roots),
            words: ["reproduce", name, "--scale", scale]
                .map(String::from)
                .to_vec(),
        })
    };
    let job = |name: &str| Ok(args.how.seeded(job(name)?));
    if !args.experiments.is_empty() {
        return args.experiments.iter().map(|name| job(name)).collect();
    }
    let mut jobs: Vec<Job> = diffrep_plan::known().map(job).collect::<Result<_>>()?;
    let has_scale = |job: &Job| job.plan.scales().contains(&scale.as_str());
    if jobs.iter().any(has_scale) {
        jobs.retain(has_scale);
    }
    Ok(jobs)
}

/// What `diffrep run` was asked for.
pub(super) fn own(args: &RunArgs) -> Result<Vec<Job>> {
    args.files.iter().map(|file| own_job(args, file)).collect()
}

fn own_job(args: &RunArgs, file: &Path) -> Result<Job> {
    let name = file.to_string_lossy();
    if !file.exists() && diffrep_plan::known().any(|known| known == name) {
        bail!("{name} is an experiment of the paper: `diffrep reproduce {name}` runs it");
    }
    let plan = Plan::read(file)?;
    let scale = match (&args.scale, plan.scales().as_slice()) {
        (Some(scale), _) => scale.clone(),
        (None, [only]) => (*only).to_owned(),
        (None, []) => bail!("{name} has no scale: add a table [scales.NAME]"),
        (None, several) => bail!(
            "{name} has several scales: say --scale with one of {}",
            several.join(", ")
        ),
    };
    Ok(args.how.seeded(Job {
        words: ["run", &*name, "--scale", &scale]
            .map(String::from)
            .to_vec(),
        plan,
        scale,
        roots: args.how.given(Roots::beside(file)),
    }))
}

/// That no two have the same folder, of which the later would overwrite the results of the earlier.
pub(super) fn apart(jobs: &[Job]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for job in jobs {
        let (name, scale) = (job.plan.name(), &job.scale);
        if !seen.insert((name, scale)) {
            bail!(
                "two experiments are named `{name}` at the scale `{scale}`: give one another `name`"
            );
        }
    }
    Ok(())
}

/// The experiments whose files are all there, and what the others lack, a sentence each.
pub(super) fn with_assets(jobs: Vec<Job>) -> Result<(Vec<Job>, Vec<String>)> {
    let (mut ready, mut lacking) = (Vec::new(), Vec::new());
    for job in jobs {
        let lacks = job.lacks()?;
        if lacks.is_empty() {
            ready.push(job);
            continue;
        }
        let lacks: Vec<String> = lacks
            .into_iter()
            .map(|(path, how)| how.map_or(path.clone(), |how| format!("{path} ({how})")))
            .collect();
        let lacks = lacks.join(", no ");
        lacking.push(format!("{}: there is no {lacks}", job.plan.name()));
    }
    Ok((ready, lacking))
}

/// The way to a path that is not there; `written` is how the experiment has it.
pub(super) fn hint(path: &Path, written: &Path) -> Option<String> {
    if path.starts_with("fixtures") {
        let hint = "paths in experiments start at the folder in which the command runs: run it in the root of the \
                    clone";
        return Some(hint.into());
    }
    let Some(asset) = diffrep_fetch::find_path(path) else {
        return (path != written).then(|| format!("`{}` in the experiment", written.display()));
    };
    let name = path.file_name().unwrap_or_default();
    let is_file = asset.known_files().any(|file| file.name == name);
    let folder = match asset.kind {
        diffrep_fetch::Kind::DataSet if !is_file => path,
        _ => path.parent().unwrap_or(path),
    };
    let folder = folder.display();
    let by_hand = match asset.steps() {
        [] => "",
        _ => ", which tells what to do by hand",
    };
    Some(format!(
        "`diffrep fetch {} --out {folder}`{by_hand}",
        asset.name
    ))
}
