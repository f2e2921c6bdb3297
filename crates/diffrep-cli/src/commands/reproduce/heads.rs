//! `kind = "heads"`: heads of several kinds on the same frozen maps.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use burn::tensor::Device;
use diffrep_artifact::{Lock, create_dir_all};
use diffrep_extract::{Setting, Settings};
use diffrep_heads::{HeadSpec, TransformerConfig};
use diffrep_import::load;
use diffrep_plan::{Experiment, HeadsScale, PlannedHead};
use diffrep_pool::PoolSize;
use diffrep_probe::{Candidate, Contender, Recipe, Study, Subject};
use diffrep_taps::Encoder;

use super::contest::{Contest, Words};
use super::{Ground, setting, splits, watched};
use crate::device::DeviceSpec;
use crate::printer::Printer;

const WORDS: Words = Words {
    schema: ("diffrep.heads", 1),
    one: "head",
    many: "heads",
    on: "on the same frozen features",
    order: Some("The papers' order is fusion, attention, linear"),
    features: "stored as f16, one noise draw a seed",
    protocol: "Every head reads the same stored maps of the frozen network. Vectors of the linear and \
        the MLP head are standardised value by value, maps of the others channel by channel, with the \
        training images' mean and deviation. Intervals resample test images: they do not cover another \
        training of the diffusion model.",
};

pub(super) fn run(
    experiment: &Experiment<HeadsScale>,
    scale_name: &str,
    dir: &Path,
    device: &Device,
    spec: DeviceSpec,
    printer: Printer,
) -> Result<()> {
    let start = Instant::now();
    let scale = experiment.scale(scale_name)?;
    let ground = Ground::open(&scale.checkpoint, scale_name, device)?;
    create_dir_all(dir)?;
    let _lock = Lock::acquire(dir)?;
    let splits = splits(&scale.data, scale.train_per_class, scale.test_per_class)?;
    let contenders = contenders(scale)?;
    let wanted: BTreeSet<Setting> = contenders
        .iter()
        .flat_map(|(_, read)| read)
        .copied()
        .collect();
    let settings = Settings::new(wanted, &ground.network.taps(), &ground.schedule)?;
    let study = Study {
        dir,
        preprocess: ground.preprocess,
        schedule: &ground.schedule,
        device,
        workers: spec.workers(),
    };
    let subject = Subject {
        name: "diffusion".into(),
        encoder: &ground.network,
        hash: ground.sha256.to_string(),
    };
    let mut contest = Contest::new(WORDS, &scale.seeds);
    for (contender, _) in &contenders {
        let scores = watched(printer, |on| {
            study.compete(&subject, &splits, &settings, contender, &scale.seeds, on)
        })?;
        contest.enter(&contender.name, &contender.recipe, scores)?;
    }
    if let Some(path) = &scale.classifier {
        let trained = load(path, None, device)
            .with_context(|| format!("the classifier of scale {scale_name}"))?;
        let subject = Subject {
            name: "classifier".into(),
            encoder: &trained.network,
            hash: trained.sha256.to_string(),
        };
        let scores = watched(printer, |on| {
            study.classifier(&subject, &splits, scale.timestep, &scale.seeds, on)
        })?;
        let recipe = Recipe::named(&scale.recipe)?;
        contest.enter("U-Net encoder", &recipe, scores)?;
    }
    contest.finish(
        experiment, scale_name, &ground, &splits, spec, dir, start, printer,
    )
}

/// Every head with its candidates, and the settings that these read.
fn contenders(scale: &HeadsScale) -> Result<Vec<(Contender, Vec<Setting>)>> {
    let pool = PoolSize::new(scale.pool)?;
    let singles = scale
        .blocks
        .iter()
        .map(|&block| setting(Some(scale.timestep), block, scale.pool))
        .collect::<Result<Vec<_>>>()?;
    let mut names: Vec<String> = Vec::new();
    scale
        .heads
        .iter()
        .map(|head| {
            let spec = head_spec(head, pool)?;
            let groups = match head {
                PlannedHead::Fusion {
                    blocks,
                    timesteps,
                    pool,
                    ..
                } => {
                    let mut read = Vec::new();
                    for &t in timesteps {
                        for &block in blocks {
                            read.push(setting(Some(t), block, *pool)?);
                        }
                    }
                    vec![read]
                }
                _ => singles.iter().map(|&single| vec![single]).collect(),
            };
            let recipe = match head {
                PlannedHead::Linear { .. } => &scale.linear_recipe,
                _ => &scale.recipe,
            };
            let plain = match head {
                PlannedHead::Linear { pool: Some(pool) } => format!("linear-pool{pool}"),
                _ => head.name().to_string(),
            };
            let alike = names.iter().filter(|name| **name == plain).count();
            names.push(plain.clone());
            let name = match alike {
                0 => plain,
                before => format!("{plain}-{}", before + 1),
            };
            let candidates = groups.iter().map(|group| Candidate {
                head: spec.clone(),
                columns: group.iter().map(Setting::column).collect(),
            });
            let contender = Contender {
                name,
                candidates: candidates.collect(),
                recipe: Recipe::named(recipe)?,
            };
            Ok((contender, groups.concat()))
        })
        .collect()
}

/// A planned head on maps of side `pool`.
pub(super) fn head_spec(head: &PlannedHead, pool: PoolSize) -> Result<HeadSpec> {
    Ok(match head {
        PlannedHead::Linear { pool: own } => HeadSpec::Linear {
            pool: own.map_or(Ok(pool), PoolSize::new)?,
        },
        PlannedHead::Mlp { hidden } => HeadSpec::Mlp {
            pool,
            hidden: hidden.clone(),
        },
        &PlannedHead::Cnn { channels } => HeadSpec::Cnn { channels },
        &PlannedHead::Attention {
            window,
            heads,
            mlp_ratio,
            depth,
        } => HeadSpec::Attention {
            window,
            transformer: TransformerConfig {
                heads,
                mlp_ratio,
                depth,
            },
        },
        &PlannedHead::Fusion {
            pool,
            width,
            heads,
            mlp_ratio,
            depth,
            ..
        } => HeadSpec::Fusion {
            pool: PoolSize::new(pool)?,
            width,
            transformer: TransformerConfig {
                heads,
                mlp_ratio,
                depth,
            },
        },
    })
}
