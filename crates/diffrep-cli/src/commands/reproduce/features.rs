//! `--features-only`: the features that experiments store, extracted by several workers before the experiments run.

use std::collections::BTreeSet;

use anyhow::Result;
use diffrep_artifact::Sha256Hex;
use diffrep_datasets::Dataset;
use diffrep_extract::{Setting, Settings};
use diffrep_plan::{Feed, HeadsScale, Plan, ProbeScale, TransferScale};
use diffrep_probe::{Recipe, Splits, Study, Subject, TunableEncoder};
use diffrep_taps::Encoder;
use diffrep_unet::{UNet, random_network};

use super::heads::{HeadsPlan, splits_of};
use super::reader::{Own, Reader, Use};
use super::{Ground, Place, probe, splits};

/// Whether an experiment stores features that are known before it runs. Those of other kinds are small, or
/// depend on what was found before, or go through the network in each epoch.
pub(super) fn are_known(plan: &Plan, scale: &str) -> Result<bool> {
    Ok(match plan {
        Plan::Probe(_) => true,
        Plan::Heads(experiment) => experiment.scale(scale)?.feed == Feed::Stored,
        Plan::Transfer(experiment) => experiment.scale(scale)?.feed == Feed::Stored,
        _ => false,
    })
}

/// Extracts them as one of several workers; gives the number of images that others still work on.
pub(super) fn extract(
    plan: &Plan,
    scale: &str,
    worker: &diffrep_plan::Place,
    place: &Place<'_>,
) -> Result<usize> {
    let share = Share { worker, place };
    match plan {
        Plan::Probe(experiment) => share.probe(experiment.scale(scale)?, scale),
        Plan::Heads(experiment) => share.heads(experiment.scale(scale)?, scale),
        Plan::Transfer(experiment) => share.transfer(experiment.scale(scale)?, scale),
        _ => Ok(0),
    }
}

/// A worker's share.
struct Share<'a> {
    worker: &'a diffrep_plan::Place,
    place: &'a Place<'a>,
}

impl Share<'_> {
    fn probe(&self, scale: &ProbeScale, name: &str) -> Result<usize> {
        let ground = Ground::open(&scale.checkpoint, name, self.place)?;
        let splits = splits(
            &scale.data,
            self.place,
            scale.train_per_class,
            scale.test_per_class,
        )?;
        let swept = probe::swept_splits(&splits, scale)?;
        let parts = [("train", &swept.train), ("validation", &swept.validation)];
        let taps = ground.network.taps();
        let groups = probe::swept(scale, &taps, &ground.schedule)?;
        let study = ground.study(self.place);
        let recipe = Recipe::named(&scale.sweep_recipe)?;
        // The features of a sweep are deleted once it is scored.
        let is_scored = |subject: &Subject<'_, UNet>, settings: &Settings| -> Result<bool> {
            let key = study.sweep_key(subject, &swept, settings, &recipe)?;
            Ok(key.path(self.place.shared).exists())
        };
        let mut others = 0;
        let diffusion = Subject {
            name: "diffusion".into(),
            encoder: &ground.network,
            hash: ground.sha256.to_string(),
        };
        for settings in &groups {
            if !is_scored(&diffusion, settings)? {
                let shelf = Study::sweep_name(&diffusion.name, settings);
                let hash = &diffusion.hash;
                others += self.parts(&study, &ground.network, hash, &shelf, &parts, settings, 0)?;
            }
        }
        let config = Sha256Hex::hash_json(ground.network.config())?;
        for index in 0..scale.random_networks_swept {
            let control = random_network(ground.network.config(), index as u64, self.place.device)?;
            let random = Subject {
                name: format!("random-{index}"),
                encoder: &control,
                hash: format!("random:{index}:{config}"),
            };
            for settings in &groups {
                if !is_scored(&random, settings)? {
                    let shelf = Study::sweep_name(&random.name, settings);
                    let hash = &random.hash;
                    others += self.parts(&study, &control, hash, &shelf, &parts, settings, 0)?;
                }
            }
        }
        Ok(others)
    }

    fn heads(&self, scale: &HeadsScale, name: &str) -> Result<usize> {
        let ground = Ground::open(&scale.checkpoint, name, self.place)?;
        let splits = splits_of(scale, self.place)?;
        let plan = HeadsPlan::from(scale);
        self.contest(&plan, &ground, &splits)
    }

    fn transfer(&self, scale: &TransferScale, name: &str) -> Result<usize> {
        let ground = Ground::open(&scale.checkpoint, name, self.place)?;
        let plan = HeadsPlan::from(scale);
        let mut others = 0;
        for named in &scale.data {
            let splits = splits(
                &named.data,
                self.place,
                scale.train_per_class,
                scale.test_per_class,
            )?;
            others += self.contest(&plan, &ground, &splits)?;
        }
        Ok(others)
    }

    /// All that the heads of a contest read, of every network, split and seed.
    fn contest(&self, plan: &HeadsPlan<'_>, ground: &Ground, splits: &Splits) -> Result<usize> {
        let mut others = 0;
        let mut seen = Vec::new();
        for head in plan.heads {
            if seen.contains(&&head.encoder) {
                continue;
            }
            seen.push(&head.encoder);
            let mut read = BTreeSet::new();
            for alike in plan.heads.iter().filter(|one| one.encoder == head.encoder) {
                read.extend(plan.stored(alike)?.1);
            }
            let reading = Reading {
                share: self,
                read,
                seeds: plan.seeds,
                splits,
            };
            others += match &head.encoder {
                None => reading.on(&ground.reader(self.place))?,
                Some(planned) => Own::open(planned, self.place)?.with(self.place, reading)?,
            };
        }
        Ok(others)
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "a network, what it reads and where that lies"
    )]
    fn parts<E: Encoder + Sync>(
        &self,
        study: &Study<'_>,
        encoder: &E,
        hash: &str,
        shelf: &str,
        parts: &[(&str, &Dataset)],
        settings: &Settings,
        seed: u64,
    ) -> Result<usize> {
        let mut others = 0;
        for (split, dataset) in parts {
            let job = study.extraction(dataset, settings, hash, seed);
            let title = format!("{shelf}, {split}, seed {seed}: features");
            let mut progress = self.place.printer.progress(&title, dataset.len() as u64);
            let dir = study.shelf(shelf, split);
            others += job.gather_as(self.worker, encoder, &dir, self.place.device, |done, _| {
                progress.at(done as u64, "");
            })?;
            progress.finish();
        }
        Ok(others)
    }
}

/// What the heads of a contest read of one network.
struct Reading<'r, 'a> {
    share: &'r Share<'a>,
    read: BTreeSet<Setting>,
    seeds: &'r [u64],
    splits: &'r Splits,
}

impl Use for Reading<'_, '_> {
    type Made = usize;

    fn on<E: TunableEncoder>(self, reader: &Reader<'_, E>) -> Result<usize> {
        let Reader { study, subject } = reader;
        let settings = Settings::new(self.read, &subject.encoder.taps(), study.schedule)?;
        let parts = [
            ("train", &self.splits.train),
            ("validation", &self.splits.validation),
            ("test", &self.splits.test),
        ];
        let (encoder, hash, shelf) = (subject.encoder, &subject.hash, &subject.name);
        let mut others = 0;
        for &seed in self.seeds {
            others += self
                .share
                .parts(study, encoder, hash, shelf, &parts, &settings, seed)?;
        }
        Ok(others)
    }
}
