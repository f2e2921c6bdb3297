//! Every step of an experiment, in the order in which it would be taken.

mod contests;

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use diffrep_artifact::Sha256Hex;
use diffrep_extract::{Pixels, Setting, Settings};
use diffrep_plan::{DenoisingScale, EnsembleScale, Plan, ProbeScale, SelectScale, SimilarityScale};
use diffrep_probe::{Cell, Draws, Recipe, Search, StepKey, Study, Subject, choose};
use diffrep_taps::Encoder;

use super::super::{Place, denoising, probe, select, setting};
use super::inputs::{Counts, Model};
use super::ledger::{Cost, Ledger, Request, State, Step, flops_at};
use crate::commands::extract::spread;

/// The images of a step, and what reads them.
const SPLITS: [&str; 3] = ["train", "validation", "test"];

/// Lists the steps of an experiment.
pub(super) struct Lister<'a> {
    pub(super) experiment: String,
    /// Whether something that it reads is missing.
    pub(super) lacking: bool,
    pub(super) place: &'a Place<'a>,
    pub(super) model: &'a Model,
    pub(super) ledger: &'a mut Ledger,
    pub(super) steps: Vec<Step>,
}

impl<'a> Lister<'a> {
    pub(super) fn list(&mut self, plan: &Plan, scale: &str) -> Result<()> {
        match plan {
            Plan::Probe(e) => self.probe(e.scale(scale)?),
            Plan::Heads(e) => self.heads(e.scale(scale)?),
            Plan::Tune(e) => self.tune(e.scale(scale)?),
            Plan::Select(e) => self.select(e.scale(scale)?),
            Plan::Ensemble(e) => self.ensemble(e.scale(scale)?),
            Plan::Transfer(e) => self.transfer(e.scale(scale)?),
            Plan::Similarity(e) => self.similarity(e.scale(scale)?),
            Plan::Denoising(e) => self.denoising(e.scale(scale)?),
        }
    }

    fn flops(&self) -> &'a [u64] {
        &self.model.network.up_to
    }

    /// Adds a step; `cost` is asked for what is to be done alone. True if its result is on disk.
    fn push(
        &mut self,
        name: String,
        exact: Option<&StepKey>,
        identity: &impl serde::Serialize,
        cost: impl FnOnce(&mut Ledger) -> Cost,
    ) -> Result<bool> {
        let identity = (&name, identity);
        let runs = self.place.shared;
        let (key, state) =
            self.ledger
                .step(&self.experiment, exact, &identity, self.lacking, runs)?;
        let cost = match state {
            State::Done | State::Shared(_) => Cost::default(),
            State::ToDo | State::Lacking => cost(self.ledger),
        };
        let done = state == State::Done;
        self.steps.push(Step {
            experiment: self.experiment.clone(),
            name,
            key,
            exact: exact.is_some(),
            state,
            cost,
        });
        Ok(done)
    }

    /// The study of the diffusion model, where its weights are there.
    fn study(&self) -> Option<Study<'a>> {
        let ground = self.model.ground.as_ref()?;
        Some(ground.study(self.place))
    }

    /// A subject of which only the name and the hash are asked.
    fn subject(&self, name: &str, hash: String) -> Option<Subject<'a, diffrep_unet::UNet>> {
        let ground = self.model.ground.as_ref()?;
        Some(Subject {
            name: name.into(),
            encoder: &ground.network,
            hash,
        })
    }

    fn diffusion(&self) -> Option<Subject<'a, diffrep_unet::UNet>> {
        let hash = self.model.ground.as_ref()?.sha256.to_string();
        self.subject("diffusion", hash)
    }

    fn probe(&mut self, scale: &ProbeScale) -> Result<()> {
        let all = Counts::of(
            &scale.data,
            self.place,
            scale.train_per_class,
            scale.test_per_class,
        )?;
        let swept = match &all.splits {
            Some(splits) => Counts::from(probe::swept_splits(splits, scale)?),
            None => Counts {
                train: (scale.sweep_train_per_class * all.classes).min(all.train),
                validation: (scale.sweep_validation_per_class * all.classes).min(all.validation),
                ..all.clone()
            },
        };
        let recipe = Recipe::named(&scale.recipe)?;
        let sweep_recipe = Recipe::named(&scale.sweep_recipe)?;
        let (taps, schedule) = (&self.model.network.taps, &self.model.schedule);
        let config = &self.model.network.config;
        let groups = probe::swept(scale, taps, schedule)?;
        let pixels = Pixels {
            channels: config.in_channels,
            size: config.image_size,
        };
        let clean = vec![probe::pixel_settings(scale, &pixels.taps(), schedule)?];
        let mut subjects = vec![
            ("diffusion".to_owned(), self.diffusion(), &groups, true),
            (
                "pixels".into(),
                self.subject("pixels", "pixels".into()),
                &clean,
                true,
            ),
        ];
        let of_config = Sha256Hex::hash_json(config)?;
        for index in 0..scale.random_networks {
            let hash = format!("random:{index}:{of_config}");
            let subject = self.subject(&format!("random-{index}"), hash);
            let tuned = index < scale.random_networks_swept;
            subjects.push((format!("random-{index}"), subject, &groups, tuned));
        }
        for (index, (name, subject, groups, tuned)) in subjects.iter().enumerate() {
            let flops = if name == "pixels" { &[] } else { self.flops() };
            let known = self
                .study()
                .zip(subject.as_ref())
                .zip(swept.splits.as_ref().zip(all.splits.as_ref()));
            let mut cells: Option<Vec<Cell>> = Some(Vec::new());
            for settings in groups.iter().filter(|_| *tuned) {
                let key = match &known {
                    Some(((study, subject), (splits, _))) => {
                        Some(study.sweep_key(subject, splits, settings, &sweep_recipe)?)
                    }
                    None => None,
                };
                let request = Request {
                    of: String::new(),
                    images: (swept.train + swept.validation) as u64,
                    settings,
                    there: BTreeSet::new(),
                    flops,
                };
                let title = Study::sweep_name(name, settings);
                let identity = (
                    &scale.checkpoint,
                    &scale.data,
                    scale.sweep_train_per_class,
                    scale.sweep_validation_per_class,
                    settings.columns(),
                    &sweep_recipe,
                );
                self.push(title, key.as_ref(), &identity, |_| {
                    Ledger::passing(&request)
                })?;
                let found: Option<Vec<Cell>> = key.and_then(|key| key.read(self.place.shared));
                cells = cells.zip(found).map(|(mut all, more)| {
                    all.extend(more);
                    all
                });
            }
            let chosen = cells.as_deref().and_then(choose).map(|cell| cell.setting);
            // Each random network has a seed of its own.
            let seeds = match name.starts_with("random-") {
                true => {
                    let own = index - 2;
                    vec![scale.seeds[own % scale.seeds.len()]]
                }
                false => scale.seeds.clone(),
            };
            for seed in seeds {
                let settings = match chosen {
                    Some(chosen) => Some(settings_of(&[chosen], name, taps, &pixels, self)?),
                    None => None,
                };
                let key = match (&known, &settings) {
                    (Some(((study, subject), (_, splits))), Some(settings)) => {
                        Some(study.score_key(subject, splits, settings, &recipe, seed)?)
                    }
                    _ => None,
                };
                let largest = largest(groups, flops).context("the sweep has no cell")?;
                let at_most = settings_of(&[largest], name, taps, &pixels, self)?;
                let request = Request {
                    of: format!(
                        "{name} of {:?} {:?} seed {seed}",
                        scale.checkpoint, scale.data
                    ),
                    images: all.all(),
                    settings: settings.as_ref().unwrap_or(&at_most),
                    there: BTreeSet::new(),
                    flops,
                };
                let identity = (
                    &scale.checkpoint,
                    &scale.data,
                    (scale.train_per_class, scale.test_per_class),
                    &recipe,
                    chosen,
                    (&self.experiment, seed),
                );
                let identity = serde_json::to_value(identity)?;
                self.push(
                    format!("final-{name}-seed{seed}"),
                    key.as_ref(),
                    &identity,
                    |ledger| ledger.kept(&request),
                )?;
            }
        }
        Ok(())
    }

    fn select(&mut self, scale: &SelectScale) -> Result<()> {
        let counts = Counts::of(&scale.data, self.place, None, scale.test_per_class)?;
        let recipe = Recipe::named(&scale.recipe)?;
        let taps = &self.model.network.taps;
        let grid = select::grid(&scale.timesteps, &scale.blocks, &scale.pools, taps)?;
        let settings = Settings::new(grid.iter().copied(), taps, &self.model.schedule)?;
        let of_class = [scale.train_per_class, scale.validation_per_class];
        let images = (of_class.iter().sum::<usize>() * counts.classes) as u64;
        for &seed in &scale.seeds {
            for search in [Search::Grid, Search::Halving] {
                let key = match (self.study(), self.diffusion(), &counts.splits) {
                    (Some(study), Some(subject), Some(splits)) => Some(
                        study
                            .select_key(&subject, splits, of_class, &grid, search, &recipe, seed)?,
                    ),
                    _ => None,
                };
                let whole = Ledger::passing(&Request {
                    of: String::new(),
                    images,
                    settings: &settings,
                    there: BTreeSet::new(),
                    flops: self.flops(),
                });
                // The search is built to take a quarter of the grid's forwards.
                let (name, cost) = match search {
                    Search::Grid => ("grid", whole),
                    Search::Halving => (
                        "halving",
                        Cost {
                            forwards: whole.forwards / 4,
                            flops: whole.flops / 4.0,
                            passing_bytes: whole.passing_bytes / 4,
                            ..whole
                        },
                    ),
                };
                let name = format!("{name}-diffusion-seed{seed}");
                let identity = (&scale.checkpoint, &scale.data, of_class, &grid, &recipe);
                self.push(name, key.as_ref(), &identity, |_| cost)?;
            }
        }
        let last = settings.last_block().position();
        let kept = (scale.final_train_per_class)
            .map_or(counts.train, |count| count * counts.classes)
            + counts.validation
            + counts.test;
        for &seed in &scale.final_seeds {
            let cost = Cost {
                forwards: kept as u64,
                flops: kept as f64 * flops_at(self.flops(), last),
                ..Cost::default()
            };
            let identity = (self.experiment.clone(), &scale.data, seed);
            self.push(format!("finals-seed{seed}"), None, &identity, |_| cost)?;
        }
        Ok(())
    }

    fn ensemble(&mut self, scale: &EnsembleScale) -> Result<()> {
        let counts = Counts::of(
            &scale.data,
            self.place,
            scale.train_per_class,
            scale.test_per_class,
        )?;
        let recipe = Recipe::named(&scale.recipe)?;
        for &t in &scale.timesteps {
            let setting = setting(Some(t), scale.block, scale.pool)?;
            let taps = &self.model.network.taps;
            let settings = Settings::new([setting], taps, &self.model.schedule)?;
            for &train in &scale.train_draws {
                let draws = Draws {
                    train,
                    train_flips: scale.train_flips && train > 1,
                    test: scale.test_draws.clone(),
                    test_flips: scale.test_flips,
                };
                let key = match (self.study(), self.diffusion(), &counts.splits) {
                    (Some(study), Some(subject), Some(splits)) => Some(study.ensemble_key(
                        &subject, splits, &settings, setting, &draws, &recipe, scale.seed,
                    )?),
                    _ => None,
                };
                let mirrored = |flips: bool| if flips { 2 } else { 1 };
                let flips = if draws.train_flips { "-flips" } else { "" };
                let name = format!(
                    "ensemble-diffusion-{}-draws{train}{flips}-seed{}",
                    setting.column(),
                    scale.seed
                );
                let largest = scale.test_draws.iter().copied().max().unwrap_or(1);
                let flops = self.flops();
                let request = |of: String, images: usize| Request {
                    of,
                    images: images as u64,
                    settings: &settings,
                    there: BTreeSet::new(),
                    flops,
                };
                let of = format!(
                    "{:?} {:?} seed {}",
                    scale.checkpoint, scale.data, scale.seed
                );
                let identity = (&of, setting, &draws, &recipe);
                self.push(name, key.as_ref(), &identity, |ledger| {
                    let mut cost = Cost::default();
                    for draw in 0..train * mirrored(draws.train_flips) {
                        let of = format!("{of} train view {draw}");
                        cost.add(ledger.kept(&request(of, counts.train)));
                    }
                    let of = format!("{of} validation");
                    cost.add(ledger.kept(&request(of, counts.validation)));
                    for _ in 0..largest * mirrored(draws.test_flips) {
                        cost.add(Ledger::passing(&request(String::new(), counts.test)));
                    }
                    cost
                })?;
            }
        }
        Ok(())
    }

    fn similarity(&mut self, scale: &SimilarityScale) -> Result<()> {
        let counts = Counts::of(&scale.data, self.place, None, None)?;
        let images = scale.images.map_or(counts.test, |n| n.min(counts.test)) as u64;
        let whole = self.model.network.whole;
        let mut reads = vec![("diffusion".to_owned(), whole)];
        reads.extend(scale.timesteps.iter().map(|t| (format!("t{t}"), whole)));
        reads.extend(scale.dims.iter().map(|dim| (format!("dim{dim}"), whole)));
        if let Some(path) = &scale.classifier {
            let network = super::inputs::Network::of(&self.place.roots.find(path))?;
            reads.push(("classifier".into(), network.whole));
        }
        reads.extend(scale.random.then(|| ("random".into(), whole)));
        reads.extend(scale.networks.iter().map(|n| (n.file_name(), 0.0)));
        let others = scale.diffusion_models.iter();
        let there = others.filter(|n| self.place.roots.find(&n.encoder.checkpoint).exists());
        reads.extend(there.map(|n| (n.encoder.file_name(), 0.0)));
        for (name, flops) in reads {
            let cost = Cost {
                forwards: images,
                flops: images as f64 * flops,
                ..Cost::default()
            };
            let identity = (self.experiment.clone(), serde_json::to_value(scale)?);
            self.push(format!("layers-{name}"), None, &identity, |_| cost)?;
        }
        Ok(())
    }

    fn denoising(&mut self, scale: &DenoisingScale) -> Result<()> {
        let counts = Counts::of(&scale.data, self.place, None, None)?;
        let images = scale.images.map_or(counts.test, |n| n.min(counts.test));
        let key = match (&self.model.ground, &counts.splits) {
            (Some(ground), Some(splits)) => {
                let shown = splits.test.subset(&spread(splits.test.len(), images));
                Some(denoising::key(ground, splits, &shown, scale)?)
            }
            _ => None,
        };
        let forwards = (images * scale.timesteps.len()) as u64;
        let cost = Cost {
            forwards,
            flops: forwards as f64 * self.model.network.whole,
            ..Cost::default()
        };
        let identity = serde_json::to_value(scale)?;
        self.push("denoising".into(), key.as_ref(), &identity, |_| cost)?;
        Ok(())
    }
}

/// The costliest setting of a sweep: of those of the last block the longest vector.
fn largest(groups: &[Settings], flops: &[u64]) -> Option<Setting> {
    let all = groups.iter().flat_map(Settings::columns);
    let cost =
        |(setting, dim): &&(Setting, usize)| (flops.get(setting.block.position()).copied(), *dim);
    all.max_by_key(cost).map(|(setting, _)| *setting)
}

/// Settings of the diffusion model or of raw pixels.
fn settings_of(
    wanted: &[Setting],
    name: &str,
    taps: &[diffrep_taps::TapInfo],
    pixels: &Pixels,
    lister: &Lister<'_>,
) -> Result<Settings> {
    let own = pixels.taps();
    let taps = if name == "pixels" { &own[..] } else { taps };
    Ok(Settings::new(
        wanted.iter().copied(),
        taps,
        &lister.model.schedule,
    )?)
}
