//! `kind = "heads"`: heads of several kinds on the same frozen maps.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use diffrep_datasets::View;
use diffrep_extract::{Setting, Settings};
use diffrep_heads::{HeadSpec, TransformerConfig};
use diffrep_import::load;
use diffrep_plan::{
    Cut, Experiment, Feed, HeadsScale, PlannedContender, PlannedEncoder, PlannedHead, PlannedText,
    TransferScale, U_NET_ENCODER,
};
use diffrep_pool::PoolSize;
use diffrep_probe::{
    Augment, Candidate, Contender, Reading, Recipe, Splits, Subject, TunableEncoder, Tune,
    TuneContender,
};
use diffrep_taps::BlockIndex;

use super::contest::{Contest, Words};
use super::generation::Planned;
use super::reader::{Own, Reader, Use};
use super::tune::cut_validation;
use super::{Ground, Place, setting, splits, watched};
use crate::printer::Printer;

pub(super) const SCHEMA: (&str, u32) = ("diffrep.heads", 1);

pub(super) const WORDS: Words = Words {
    schema: SCHEMA,
    one: "head",
    many: "heads",
    on: "on the same frozen features",
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

/// The words of a contest of heads: on stored maps or streams of them, of one network or of several.
pub(super) fn words(streamed: bool, own_networks: bool) -> Words {
    let words = match streamed {
        true => STREAMED,
        false => WORDS,
    };
    match own_networks {
        true => Words {
            one: "contender",
            many: "contenders",
            on: "on frozen networks of their own",
            ..words
        },
        false => words,
    }
}

/// The images of a scale.
pub(super) fn splits_of(scale: &HeadsScale, place: &Place<'_>) -> Result<Splits> {
    let found = splits(
        &scale.data,
        place,
        scale.train_per_class,
        scale.test_per_class,
    )?;
    match scale.validation_per_class {
        None => Ok(found),
        Some(count) => cut_validation(&found, count),
    }
}

pub(super) fn run(
    experiment: &Experiment<HeadsScale>,
    scale_name: &str,
    place: &Place<'_>,
) -> Result<()> {
    let start = Instant::now();
    let scale = experiment.scale(scale_name)?;
    let ground = Ground::open(&scale.checkpoint, scale_name, place)?;
    let splits = splits_of(scale, place)?;
    let plan = HeadsPlan::from(scale);
    let generation = scale
        .generation
        .as_ref()
        .map(|planned| Planned::read(planned, &ground))
        .transpose()?;
    let mut contest = plan.contest(&ground, &splits, place)?;
    if let Some(note) = &scale.note {
        contest.note(note);
    }
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

/// A head as it will be trained.
enum Entrant {
    /// On stored maps, with the settings that it reads.
    Stored(Contender, Vec<Setting>),
    /// With the frozen network in the loop.
    Streamed(TuneContender),
}

/// A contender on its way into a contest, whatever network it reads.
struct Entering<'e, 'c> {
    contest: &'e mut Contest<'c>,
    entrant: &'e Entrant,
    /// Settings of all contenders that read the same network.
    read: &'e BTreeSet<Setting>,
    seeds: &'e [u64],
    splits: &'e Splits,
    printer: Printer,
}

impl Use for Entering<'_, '_> {
    type Made = ();

    fn on<E: TunableEncoder>(self, reader: &Reader<'_, E>) -> Result<()> {
        let Reader { study, subject } = reader;
        let (splits, seeds) = (self.splits, self.seeds);
        let (name, recipe, scores) = match self.entrant {
            Entrant::Stored(contender, _) => {
                let read = self.read.iter().copied();
                let settings = Settings::new(read, &subject.encoder.taps(), study.schedule)?;
                let scores = watched(self.printer, |on| {
                    study.compete(subject, splits, &settings, contender, seeds, on)
                })?;
                (&contender.name, &contender.recipe, scores)
            }
            Entrant::Streamed(contender) => {
                let scores = watched(self.printer, |on| {
                    study.tune(subject, splits, contender, seeds, on)
                })?;
                (&contender.name, &contender.recipe, scores)
            }
        };
        self.contest.enter(name, recipe, scores)
    }
}

impl<'a> From<&'a HeadsScale> for HeadsPlan<'a> {
    fn from(scale: &'a HeadsScale) -> Self {
        Self {
            timestep: scale.timestep,
            blocks: &scale.blocks,
            pool: scale.pool,
            seeds: &scale.seeds,
            linear_recipe: &scale.linear_recipe,
            recipe: &scale.recipe,
            feed: &scale.feed,
            heads: &scale.heads,
        }
    }
}

impl<'a> From<&'a TransferScale> for HeadsPlan<'a> {
    fn from(scale: &'a TransferScale) -> Self {
        Self {
            timestep: scale.timestep,
            blocks: &scale.blocks,
            pool: scale.pool,
            seeds: &scale.seeds,
            linear_recipe: &scale.linear_recipe,
            recipe: &scale.recipe,
            feed: &scale.feed,
            heads: &scale.heads,
        }
    }
}

impl<'a> HeadsPlan<'a> {
    /// The contest of all heads.
    pub(super) fn contest(
        &self,
        ground: &Ground,
        splits: &Splits,
        place: &Place<'_>,
    ) -> Result<Contest<'a>> {
        let streamed = matches!(self.feed, Feed::Streamed { .. });
        let own = self.heads.iter().any(|head| head.encoder.is_some());
        let mut contest = Contest::new(words(streamed, own), self.seeds);
        let entrants: Vec<Entrant> = self
            .heads
            .iter()
            .map(|head| self.entrant(head))
            .collect::<Result<_>>()?;
        // The last network that was a contender's own: those that read the same stand together, mostly.
        let mut opened: Option<(&PlannedEncoder, Own)> = None;
        for (head, entrant) in self.heads.iter().zip(&entrants) {
            let alike = self.heads.iter().zip(&entrants);
            let alike = alike.filter(|(other, _)| other.encoder == head.encoder);
            // What they read comes from one forward of each image and timestep.
            let read: BTreeSet<Setting> = alike
                .flat_map(|(_, entrant)| match entrant {
                    Entrant::Stored(_, read) => read.as_slice(),
                    Entrant::Streamed(_) => &[],
                })
                .copied()
                .collect();
            let entering = Entering {
                contest: &mut contest,
                entrant,
                read: &read,
                seeds: self.seeds,
                splits,
                printer: place.printer,
            };
            let Some(planned) = &head.encoder else {
                entering.on(&ground.reader(place))?;
                continue;
            };
            let own = match opened.take() {
                Some((before, own)) if before == planned => own,
                _ => Own::open(planned, place)?,
            };
            own.with(place, entering)?;
            contest.on_network(own.told(planned));
            opened = Some((planned, own));
        }
        Ok(contest)
    }

    fn entrant(&self, head: &'a PlannedContender) -> Result<Entrant> {
        match self.feed {
            Feed::Stored => {
                let (contender, read) = self.stored(head)?;
                Ok(Entrant::Stored(contender, read))
            }
            Feed::Streamed { .. } => Ok(Entrant::Streamed(self.streamed(head)?)),
        }
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
            tune: match planned.encoder.as_ref().map(|encoder| &encoder.text) {
                Some(&PlannedText::Learned { rate }) => Tune::Prompt { rate },
                _ => Tune::Head,
            },
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
