//! Steps of contests: heads on stored features, trainings with the network in the loop, and both on several data sets.

use std::collections::BTreeSet;

use anyhow::Result;
use diffrep_datasets::Dataset;
use diffrep_extract::{Pixels, Setting, Settings};
use diffrep_import::load;
use diffrep_plan::{
    Feed, HeadsScale, PlannedContender, PlannedEncoder, PlannedGeneration, TransferScale, TuneScale,
};
use diffrep_probe::{Contender, HeadScore, Subject, Tune, TuneContender};
use diffrep_schedule::Spacing;
use diffrep_taps::Encoder;

use super::super::super::heads::HeadsPlan;
use super::super::super::{transfer, tune};
use super::super::inputs::{Counts, Network};
use super::super::ledger::{Cost, Request, flops_at};
use super::{Lister, SPLITS};

impl<'a> Lister<'a> {
    pub(super) fn heads(&mut self, scale: &HeadsScale) -> Result<()> {
        let mut counts = Counts::of(
            &scale.data,
            self.place,
            scale.train_per_class,
            scale.test_per_class,
        )?;
        if let Some(count) = scale.validation_per_class {
            counts = counts.with_validation(count)?;
        }
        let plan = HeadsPlan::from(scale);
        let of = format!(
            "{:?} {:?} {:?}",
            scale.checkpoint, scale.data, scale.train_per_class
        );
        self.contest(&plan, &counts, &of)?;
        if let Some(path) = &scale.classifier {
            self.classifier(scale, path, &counts)?;
        }
        if let Some(planned) = &scale.generation {
            self.generation(planned, scale)?;
        }
        Ok(())
    }

    fn classifier(
        &mut self,
        scale: &HeadsScale,
        path: &std::path::Path,
        counts: &Counts,
    ) -> Result<()> {
        let file = self.place.roots.find(path);
        let network = Network::of(&file)?;
        let opened = match file.exists() {
            true => Some(load(&file, None, self.place.device)?),
            false => None,
        };
        for &seed in &scale.seeds {
            let key = match (self.study(), &opened, &counts.splits) {
                (Some(study), Some(opened), Some(splits)) => {
                    let subject = Subject {
                        name: "classifier".into(),
                        encoder: &opened.network,
                        hash: opened.sha256.to_string(),
                    };
                    Some(study.classifier_key(&subject, splits, scale.classifier_timestep, seed)?)
                }
                _ => None,
            };
            let images = (counts.validation + counts.test) as u64;
            let cost = Cost {
                forwards: images,
                flops: images as f64 * network.whole,
                ..Cost::default()
            };
            let identity = (path, &scale.data, scale.classifier_timestep, seed);
            self.push(
                format!("classifier-classifier-seed{seed}"),
                key.as_ref(),
                &identity,
                |_| cost,
            )?;
        }
        Ok(())
    }

    fn generation(&mut self, planned: &PlannedGeneration, scale: &HeadsScale) -> Result<()> {
        let steps = Spacing::parse(&planned.steps, self.model.schedule.steps())?;
        let forwards = planned.samples * steps.kept.len() as u64;
        let cost = Cost {
            forwards,
            flops: forwards as f64 * self.model.network.whole,
            // Three bytes a pixel.
            kept_bytes: planned.samples * 3 * (self.model.network.config.image_size as u64).pow(2),
            passing_bytes: 0,
        };
        self.push(
            "generation".into(),
            None,
            &(&scale.checkpoint, planned),
            |_| cost,
        )?;
        Ok(())
    }

    /// Heads against each other on the images `of` names.
    fn contest(&mut self, plan: &HeadsPlan<'_>, counts: &Counts, of: &str) -> Result<()> {
        for head in plan.heads {
            if let Some(encoder) = &head.encoder {
                self.elsewhere(plan, head, encoder, counts, of)?;
            }
        }
        let ours = plan.heads.iter().filter(|head| head.encoder.is_none());
        if let Feed::Streamed { .. } = plan.feed {
            for head in ours {
                self.training(&plan.streamed(head)?, plan.seeds, counts, of)?;
            }
            return Ok(());
        }
        let stored: Vec<(Contender, Vec<Setting>)> =
            ours.map(|head| plan.stored(head)).collect::<Result<_>>()?;
        if stored.is_empty() {
            return Ok(());
        }
        let read: BTreeSet<Setting> = stored.iter().flat_map(|(_, read)| read).copied().collect();
        let settings = Settings::new(read, &self.model.network.taps, &self.model.schedule)?;
        for (contender, _) in &stored {
            let subject = self.diffusion();
            self.stored(
                contender,
                plan.seeds,
                &settings,
                subject.as_ref(),
                "diffusion",
                counts,
                of,
                self.flops(),
            )?;
        }
        Ok(())
    }

    /// A head on a network of its own, once a seed. Its forwards are counted; what one takes is known of
    /// networks on pixels alone.
    fn elsewhere(
        &mut self,
        plan: &HeadsPlan<'_>,
        head: &PlannedContender,
        encoder: &PlannedEncoder,
        counts: &Counts,
        of: &str,
    ) -> Result<()> {
        for (place, &seed) in plan.seeds.iter().enumerate() {
            let (name, forwards) = match plan.feed {
                Feed::Stored => {
                    let name = format!("{}-{}", encoder.file_name(), head.head.name());
                    (name, counts.all())
                }
                Feed::Streamed { .. } => {
                    let contender = plan.streamed(head)?;
                    // With the first seed every block and every point of the grid are tried.
                    let trainings = match place {
                        0 => contender.candidates.len() * contender.recipe.grid().len(),
                        _ => 1,
                    };
                    let epochs = contender.recipe.epochs * trainings;
                    let images = (counts.train + counts.validation) * epochs + counts.test;
                    (format!("tune-{}", contender.file_name()), images as u64)
                }
            };
            let cost = Cost {
                forwards,
                ..Cost::default()
            };
            let identity = (of, head, seed);
            self.push(format!("{name}-seed{seed}"), None, &identity, |_| cost)?;
        }
        Ok(())
    }

    /// A head on stored features, once a seed.
    #[allow(
        clippy::too_many_arguments,
        reason = "what competes, what it reads, and by which network"
    )]
    fn stored<E>(
        &mut self,
        contender: &Contender,
        seeds: &[u64],
        settings: &Settings,
        subject: Option<&Subject<'_, E>>,
        name: &str,
        counts: &Counts,
        of: &str,
        flops: &[u64],
    ) -> Result<()> {
        let mut first: Option<HeadScore> = None;
        for (place, &seed) in seeds.iter().enumerate() {
            let known = self.study().zip(subject).zip(counts.splits.as_ref());
            let later = place > 0;
            let key = match &known {
                Some(((study, subject), splits)) if !later || first.is_some() => {
                    Some(study.compete_key(
                        subject,
                        splits,
                        settings,
                        contender,
                        seed,
                        first.as_ref(),
                    )?)
                }
                _ => None,
            };
            let mut requests = Vec::new();
            for (index, split) in SPLITS.into_iter().enumerate() {
                let there = match &known {
                    Some(((study, subject), splits)) => {
                        let dataset: &Dataset =
                            [&splits.train, &splits.validation, &splits.test][index];
                        study.on_shelf(subject, split, dataset, settings, seed)?
                    }
                    None => BTreeSet::new(),
                };
                requests.push(Request {
                    of: format!("{name} of {of} {split} seed {seed}"),
                    images: [counts.train, counts.validation, counts.test][index] as u64,
                    settings,
                    there,
                    flops,
                });
            }
            let heads = contender.candidates.first();
            let kind = heads.map_or("none", |c| c.head.name());
            let identity = (of, &contender.candidates, &contender.recipe, seed);
            let done = self.push(
                format!("{name}-{kind}-seed{seed}"),
                key.as_ref(),
                &identity,
                |ledger| {
                    let mut cost = Cost::default();
                    requests
                        .iter()
                        .for_each(|request| cost.add(ledger.kept(request)));
                    cost
                },
            )?;
            if done && !later {
                first = key.and_then(|key| key.read(self.place.shared));
            }
        }
        Ok(())
    }

    /// A head, and what else is trained, with the network in the loop, once a seed.
    fn training(
        &mut self,
        contender: &TuneContender,
        seeds: &[u64],
        counts: &Counts,
        of: &str,
    ) -> Result<()> {
        let mut first: Option<HeadScore> = None;
        for (place, &seed) in seeds.iter().enumerate() {
            let key = match (self.study(), self.diffusion(), &counts.splits) {
                (Some(study), Some(subject), Some(splits)) if place == 0 || first.is_some() => {
                    let first = first.as_ref();
                    Some(study.tune_key(&subject, splits, contender, seed, first)?)
                }
                _ => None,
            };
            let flops = |blocks: &[diffrep_taps::BlockIndex]| {
                let last = blocks.iter().map(|block| block.position()).max();
                flops_at(self.flops(), last.unwrap_or_default())
            };
            // With the first seed every block and every point of the grid are tried.
            let tried: Vec<f64> = contender
                .candidates
                .iter()
                .map(|(reading, _)| flops(&reading.blocks))
                .collect();
            let (trainings, sum) = match place {
                0 => {
                    let points = contender.recipe.grid().len();
                    (
                        tried.len() * points,
                        tried.iter().sum::<f64>() * points as f64,
                    )
                }
                _ => (1, tried.iter().copied().fold(0.0, f64::max)),
            };
            let (train, validation) = (counts.train as f64, counts.validation as f64);
            // Passes of the network for a training image and for another one, in forward passes.
            let (pass, look) = match &contender.tune {
                Tune::Head => (1.0, 1.0),
                Tune::Feedback { .. } => (4.0, 2.0),
                // The gradient goes back through weights that have none of their own.
                Tune::Prompt { .. } => (2.0, 1.0),
                Tune::Encoder { recompute, .. } => (if *recompute { 4.0 } else { 3.0 }, 1.0),
            };
            let epochs = contender.recipe.epochs as f64;
            let last = tried.iter().copied().fold(0.0, f64::max);
            let images = (counts.train + counts.validation) * contender.recipe.epochs * trainings
                + counts.test;
            let cost = Cost {
                forwards: images as u64,
                flops: sum * epochs * (pass * train + look * validation)
                    + look * last * counts.test as f64,
                ..Cost::default()
            };
            let identity = serde_json::json!({
                "of": of, "tune": contender.tune, "recipe": contender.recipe,
                "candidates": contender.candidates, "augment": contender.augment, "seed": seed,
            });
            let name = format!("tune-{}-seed{seed}", contender.file_name());
            let done = self.push(name, key.as_ref(), &identity, |_| cost)?;
            if done && place == 0 {
                first = key.and_then(|key| key.read(self.place.shared));
            }
        }
        Ok(())
    }

    pub(super) fn tune(&mut self, scale: &TuneScale) -> Result<()> {
        let mut counts = Counts::of(
            &scale.data,
            self.place,
            scale.train_per_class,
            scale.test_per_class,
        )?;
        if let Some(count) = scale.validation_per_class {
            counts = counts.with_validation(count)?;
        }
        let of = format!(
            "{:?} {:?} {:?}",
            scale.checkpoint, scale.data, scale.train_per_class
        );
        for planned in &scale.contenders {
            let blocks = self.model.network.taps.len();
            let contender = tune::contender(planned, scale, blocks)?;
            self.training(&contender, &scale.seeds, &counts, &of)?;
        }
        Ok(())
    }

    pub(super) fn transfer(&mut self, scale: &TransferScale) -> Result<()> {
        let plan = HeadsPlan::from(scale);
        let experiment = self.experiment.clone();
        for named in &scale.data {
            self.experiment = format!("{experiment}/{}", named.name);
            let counts = Counts::of(
                &named.data,
                self.place,
                scale.train_per_class,
                scale.test_per_class,
            )?;
            let of = format!(
                "{:?} {:?} {:?}",
                scale.checkpoint, named.data, scale.train_per_class
            );
            self.contest(&plan, &counts, &of)?;
            if scale.pixels {
                let config = &self.model.network.config;
                let pixels = Pixels {
                    channels: config.in_channels,
                    size: config.image_size,
                };
                let read = transfer::pixel_settings(&pixels)?;
                let settings =
                    Settings::new(read.iter().copied(), &pixels.taps(), &self.model.schedule)?;
                let contender =
                    transfer::linear(diffrep_plan::RAW_PIXELS, &read, &scale.linear_recipe)?;
                let subject = self.subject("pixels", "pixels".into());
                self.stored(
                    &contender,
                    &scale.seeds,
                    &settings,
                    subject.as_ref(),
                    "pixels",
                    &counts,
                    &of,
                    &[],
                )?;
            }
            for network in &scale.networks {
                for &seed in &scale.seeds {
                    let cost = Cost {
                        forwards: counts.all(),
                        ..Cost::default()
                    };
                    self.push(
                        format!("{}-linear-seed{seed}", network.file_name()),
                        None,
                        &(&of, network, seed),
                        |_| cost,
                    )?;
                }
            }
        }
        self.experiment = experiment;
        Ok(())
    }
}
