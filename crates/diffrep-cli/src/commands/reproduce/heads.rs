//! `kind = "heads"`: heads of several kinds on the same frozen maps.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use diffrep_datasets::View;
use diffrep_extract::{Setting, Settings};
use diffrep_heads::{HeadSpec, TransformerConfig};
use diffrep_import::load;
use diffrep_plan::{
    Cut, Experiment, Feed, HeadsScale, PlannedContender, PlannedHead, U_NET_ENCODER,
};
use diffrep_pool::PoolSize;
use diffrep_probe::{
    Augment, Candidate, Contender, Reading, Recipe, Splits, Subject, Tune, TuneContender,
};
use diffrep_taps::{BlockIndex, Encoder};

use super::contest::{Contest, Words};
use super::generation::Planned;
use super::{Ground, Place, setting, splits, watched};

pub(super) const SCHEMA: (&str, u32) = ("diffrep.heads", 1);

pub(super) const WORDS: Words = Words {
    schema: SCHEMA,
    one: "head",
    many: "heads",
    on: "on the same frozen features",
    order: Some("The papers' order is attention, CNN, MLP, linear"),
    features: "stored as f16, one noise draw a seed",
    protocol: "Every head reads the same stored maps of the frozen network. Vectors of the linear and \
        the MLP head are standardised value by value, maps of the others channel by channel, with the \
        training images' mean and deviation. Intervals resample test images: they do not cover another \
        training of the diffusion model.",
};

/// The same with the frozen network in the loop.
pub(super) const STREAMED: Words = Words {
    on: "on the same frozen network",
    features: "computed in each epoch by the frozen network, with the noise, flips and crops of the settings",
    protocol: "Images go through the frozen network in each epoch. What a head reads is standardised, where its \
        recipe says so, with means and deviations of up to 1,024 training images' maps; the test images carry the \
        same noise for all. Intervals resample test images: they do not cover another training of the diffusion \
        model.",
    ..WORDS
};

pub(super) fn run(
    experiment: &Experiment<HeadsScale>,
    scale_name: &str,
    place: &Place<'_>,
) -> Result<()> {
    let start = Instant::now();
    let scale = experiment.scale(scale_name)?;
    let ground = Ground::open(&scale.checkpoint, scale_name, place)?;
    let splits = splits(
        &scale.data,
        place,
        scale.train_per_class,
        scale.test_per_class,
    )?;
    let plan = HeadsPlan {
        timestep: scale.timestep,
        blocks: &scale.blocks,
        pool: scale.pool,
        seeds: &scale.seeds,
        linear_recipe: &scale.linear_recipe,
        recipe: &scale.recipe,
        feed: &scale.feed,
        heads: &scale.heads,
    };
    let generation = scale
        .generation
        .as_ref()
        .map(|planned| Planned::read(planned, &ground))
        .transpose()?;
    let mut contest = plan.contest(&ground, &splits, place)?;
    if let Some(path) = &scale.classifier {
        let trained = load(&place.roots.find(path), None, place.device)
            .with_context(|| format!("the classifier of scale {scale_name}"))?;
        let subject = Subject {
            name: "classifier".into(),
            encoder: &trained.network,
            hash: trained.sha256.to_string(),
        };
        let study = ground.study(place);
        let scores = watched(place.printer, |on| {
            study.classifier(
                &subject,
                &splits,
                scale.classifier_timestep,
                &scale.seeds,
                on,
            )
        })?;
        let recipe = Recipe::named(&scale.recipe)?;
        contest.enter(U_NET_ENCODER, &recipe, scores)?;
    }
    if let Some(planned) = generation {
        contest.generate(planned.run(&ground, &splits, place)?);
    }
    let finished = contest.finish(
        experiment, scale_name, &ground, &splits, place, place.dir, start,
    )?;
    finished.show(place.printer);
    Ok(())
}

/// Which heads compete, and on what.
pub(super) struct HeadsPlan<'a> {
    pub(super) timestep: usize,
    pub(super) blocks: &'a [usize],
    pub(super) pool: usize,
    pub(super) seeds: &'a [u64],
    pub(super) linear_recipe: &'a str,
    pub(super) recipe: &'a str,
    pub(super) feed: &'a Feed,
    pub(super) heads: &'a [PlannedContender],
}

impl<'a> HeadsPlan<'a> {
    /// The contest of all heads.
    pub(super) fn contest(
        &self,
        ground: &Ground,
        splits: &Splits,
        place: &Place<'_>,
    ) -> Result<Contest<'a>> {
        let words = match self.feed {
            Feed::Stored => WORDS,
            Feed::Streamed { .. } => STREAMED,
        };
        let mut contest = Contest::new(words, self.seeds);
        let study = ground.study(place);
        let subject = Subject {
            name: "diffusion".into(),
            encoder: &ground.network,
            hash: ground.sha256.to_string(),
        };
        let stored: Vec<(Contender, Vec<Setting>)> = match self.feed {
            Feed::Stored => self
                .heads
                .iter()
                .map(|head| self.stored(head))
                .collect::<Result<_>>()?,
            Feed::Streamed { .. } => Vec::new(),
        };
        // What all heads read comes from one forward of each image and timestep.
        let read: BTreeSet<Setting> = stored.iter().flat_map(|(_, read)| read).copied().collect();
        for (contender, _) in &stored {
            let settings = Settings::new(
                read.iter().copied(),
                &ground.network.taps(),
                &ground.schedule,
            )?;
            let scores = watched(place.printer, |on| {
                study.compete(&subject, splits, &settings, contender, self.seeds, on)
            })?;
            contest.enter(&contender.name, &contender.recipe, scores)?;
        }
        if let &Feed::Streamed { .. } = self.feed {
            for head in self.heads {
                let contender = self.streamed(head)?;
                let scores = watched(place.printer, |on| {
                    study.tune(&subject, splits, &contender, self.seeds, on)
                })?;
                contest.enter(&contender.name, &contender.recipe, scores)?;
            }
        }
        Ok(contest)
    }

    fn recipe(&self, head: &PlannedHead) -> Result<Recipe> {
        Ok(Recipe::named(match head {
            PlannedHead::Linear { .. } => self.linear_recipe,
            _ => self.recipe,
        })?)
    }

    fn timestep(&self, planned: &PlannedContender) -> usize {
        planned.timestep.unwrap_or(self.timestep)
    }

    fn blocks(&self, planned: &'a PlannedContender) -> &'a [usize] {
        planned.blocks.as_deref().unwrap_or(self.blocks)
    }

    /// A head on stored maps with its candidates, and the settings that these read.
    pub(super) fn stored(
        &self,
        planned: &'a PlannedContender,
    ) -> Result<(Contender, Vec<Setting>)> {
        let side = planned.pool.unwrap_or(self.pool);
        let spec = head_spec(&planned.head, PoolSize::new(side)?)?;
        let groups: Vec<Vec<Setting>> = match &planned.head {
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
            _ => {
                let t = Some(self.timestep(planned));
                let single = |&block: &usize| Ok(vec![setting(t, block, side)?]);
                self.blocks(planned)
                    .iter()
                    .map(single)
                    .collect::<Result<_>>()?
            }
        };
        let candidates = groups.iter().map(|group| Candidate {
            head: spec.clone(),
            columns: group.iter().map(Setting::column).collect(),
        });
        let contender = Contender {
            name: planned.title().into(),
            candidates: candidates.collect(),
            recipe: self.recipe(&planned.head)?,
        };
        Ok((contender, groups.concat()))
    }

    /// A head with the frozen network in the loop.
    pub(super) fn streamed(&self, planned: &'a PlannedContender) -> Result<TuneContender> {
        let &Feed::Streamed {
            fresh_noise,
            flip,
            view,
            parts,
        } = self.feed
        else {
            bail!("the features of this head are stored");
        };
        let recipe = self.recipe(&planned.head)?;
        let side = planned.pool.unwrap_or(self.pool);
        let pool = PoolSize::new(side)?;
        let index = |block: usize| -> Result<BlockIndex> { Ok(setting(None, block, side)?.block) };
        let (groups, t): (Vec<Vec<usize>>, usize) = match &planned.head {
            PlannedHead::Fusion {
                blocks, timesteps, ..
            } => (
                vec![blocks.clone()],
                timesteps.first().copied().unwrap_or(self.timestep),
            ),
            _ => (
                self.blocks(planned)
                    .iter()
                    .map(|&block| vec![block])
                    .collect(),
                self.timestep(planned),
            ),
        };
        let candidates = groups.into_iter().map(|blocks| {
            let reading = Reading {
                t: Some(t),
                blocks: blocks.into_iter().map(index).collect::<Result<_>>()?,
                pool,
            };
            Ok((reading, head_spec(&planned.head, pool)?))
        });
        Ok(TuneContender {
            name: planned.title().into(),
            tune: Tune::Head,
            candidates: candidates.collect::<Result<_>>()?,
            augment: Augment {
                fresh_noise,
                flip,
                view: cut(planned.view.unwrap_or(view), &recipe),
            },
            recipe,
            ema: None,
            parts,
        })
    }
}

/// The random part of an image that is seen, if not the whole.
pub(super) fn cut(planned: Cut, recipe: &Recipe) -> Option<View> {
    match planned {
        Cut::Recipe => recipe.view,
        Cut::Crop { fractions } => Some(View::Crop { fractions }),
        Cut::ResizedCrop { area } => Some(View::ResizedCrop { area }),
    }
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
