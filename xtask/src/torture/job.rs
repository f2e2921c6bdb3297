//! The commands that are interfered with, small enough to be run hundreds of times.

use std::path::Path;

use anyhow::{Context, Result};

use super::run::Runner;
use crate::process;

const MODEL: &str = "fixtures/mini/model.safetensors";
const DATA: &str = "fixtures/fashion-mnist";

/// A network that trains in seconds.
const SMALL: &str = r#"{
  "class": "UNetModel",
  "image_size": 16,
  "in_channels": 1,
  "model_channels": 32,
  "out_channels": 1,
  "num_res_blocks": 1,
  "attention_resolutions": [2],
  "channel_mult": [1, 1],
  "num_head_channels": 16,
  "use_scale_shift_norm": true,
  "resblock_updown": true
}
"#;

/// An experiment of all steps that the large ones have: a sweep, finals, controls and a report.
fn experiment() -> String {
    let at = |path: &str| process::root().join(path).display().to_string();
    format!(
        r#"kind = "probe"
name = "small"
title = "Is everything whole?"

[scales.small]
checkpoint = "{}"
data = "{}"
timesteps = [10, 100]
blocks = [3]
pools = [2]
sweep_train_per_class = 4
sweep_validation_per_class = 4
train_per_class = 6
test_per_class = 6
pixel_pools = [8]
random_networks = 1
random_networks_swept = 1
seeds = [0, 1]
recipe = "mini-sweep"
sweep_recipe = "mini-sweep"
"#,
        at(MODEL),
        at(DATA)
    )
}

/// One command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    Extract,
    Probe,
    Pretrain,
    Sample,
    Reproduce,
}

impl Job {
    pub(super) const ALL: [Self; 5] = [
        Self::Extract,
        Self::Probe,
        Self::Pretrain,
        Self::Sample,
        Self::Reproduce,
    ];

    pub(super) fn named(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|job| job.name() == name);
        found.with_context(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("there is no job `{name}`; the jobs are {names}")
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Extract => "extract",
            Self::Probe => "probe",
            Self::Pretrain => "pretrain",
            Self::Sample => "sample",
            Self::Reproduce => "reproduce",
        }
    }

    /// What the program is called with to leave its results in `out`; `work` holds what [`prepare`] made.
    pub(super) fn arguments(self, work: &Path, out: &Path) -> Vec<String> {
        let at = |name: &str| work.join(name).display().to_string();
        let result = |name: &str| out.join(name).display().to_string();
        let out = out.display().to_string();
        match self {
            Self::Extract => words(&format!(
                "extract {DATA} --checkpoint {MODEL} --t 10,100 --block 7,13 --pool 4 --limit 192 --shard-rows 12 \
                 --quiet --out"
            ))
            .chain([out])
            .collect(),
            Self::Probe => words("probe")
                .chain([at("train"), at("test"), "--validation".into(), at("validation")])
                .chain(words("--recipe mini-sweep --seeds 2 --quiet --save"))
                .chain([result("head.safetensors")])
                .collect(),
            Self::Pretrain => words("pretrain")
                .chain([at("photos"), "--arch".into(), at("small.json")])
                .chain(words(
                    "--epochs 2 --batch 4 --held-out 8 --warmup 4 --checkpoint-every 1 --quiet --out",
                ))
                .chain([out])
                .collect(),
            Self::Sample => words(&format!(
                "sample --checkpoint {MODEL} --count 40 --batch 4 --steps ddim3 --quiet --out"
            ))
            .chain([out])
            .collect(),
            Self::Reproduce => words("reproduce")
                .chain([at("small.toml")])
                .chain(words("--scale small --quiet --runs"))
                .chain([out])
                .collect(),
        }
    }

    /// Whether a file of its results holds times, which differ between runs; `output.rs` says what of those is
    /// compared.
    pub(super) fn holds_times(self, name: &str) -> bool {
        match self {
            Self::Extract | Self::Probe | Self::Sample => false,
            Self::Pretrain => name == "training.json" || name == "checkpoint.safetensors",
            Self::Reproduce => {
                let last = name.rsplit('/').next().unwrap_or(name);
                ["results.json", "cost.json"].contains(&last) || last.starts_with("report.")
            }
        }
    }

    /// Whether a file is deleted when it has served its purpose, before the job's end.
    pub(super) fn passes(self, name: &str) -> bool {
        self == Self::Reproduce && name.starts_with("features/sweep-")
    }

    /// Whether a file is written again and again while the job goes on.
    pub(super) fn grows(self, name: &str) -> bool {
        match self {
            Self::Pretrain => name == "checkpoint.safetensors" || name == "training.json",
            Self::Sample => name == "grid.png",
            _ => false,
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split_whitespace().map(str::to_owned)
}

/// Makes what the jobs read: stores for the probe, and photographs and a network for the training.
pub(super) fn prepare(runner: &Runner) -> Result<()> {
    let work = runner.work();
    for (name, split, limit) in [
        ("train", "train", 200),
        ("validation", "validation", 100),
        ("test", "test", 100),
    ] {
        let command = format!(
            "extract {DATA} --split {split} --checkpoint {MODEL} --t 10 --block 3,7 --pool 4 --limit {limit} --quiet \
             --out"
        );
        let out = work.join(name).display().to_string();
        runner.succeed(&words(&command).chain([out]).collect::<Vec<_>>())?;
    }
    // Pictures of the project's own making: one class of them is enough to train a network without labels.
    let class = work.join("photos/drawn");
    let command =
        format!("sample --checkpoint {MODEL} --count 40 --batch 8 --steps ddim2 --quiet --out");
    let out = class.display().to_string();
    runner.succeed(&words(&command).chain([out]).collect::<Vec<_>>())?;
    for entry in std::fs::read_dir(&class).context("listing the drawn pictures")? {
        let path = entry.context("listing the drawn pictures")?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name == "grid.png" || !name.ends_with(".png") {
            std::fs::remove_file(&path).with_context(|| format!("deleting {}", path.display()))?;
        }
    }
    std::fs::write(work.join("small.json"), SMALL).context("writing small.json")?;
    std::fs::write(work.join("small.toml"), experiment()).context("writing small.toml")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_writes_where_it_is_told_to() {
        for job in Job::ALL {
            let arguments = job.arguments(Path::new("/w"), Path::new("/o")).join(" ");
            assert!(arguments.contains(" /o"), "{arguments}");
            assert_eq!(Job::named(job.name()).unwrap(), job);
        }
    }
}
