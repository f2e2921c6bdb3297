//! `kind = "probe"`: a linear probe against raw pixels and random weights.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use burn::tensor::Device;
use diffrep_artifact::{Record, Sha256Hex};
use diffrep_datasets::{Dataset, balanced_subset};
use diffrep_extract::{Pixels, Setting, Settings};
use diffrep_plan::{Experiment, ProbeScale};
use diffrep_probe::{
    AnyRecipe, Cell, Final, HeadInfo, Recipe, SavedHead, Splits, Study, Subject, Trained, choose,
};
use diffrep_schedule::Schedule;
use diffrep_taps::{Encoder, TapInfo};
use diffrep_unet::{UNet, random_network};

use super::finished::Finished;
pub(super) use super::results::SCHEMA;
use super::results::{Encoding, Results, SubjectResult, against_controls};
use super::told::{self, Decided, Found, Known, Standing};
use super::{Ground, Place, document, pictures, setting, splits, watched};
use crate::printer::Printer;

/// Runs one experiment at one scale and writes its results and report.
pub(super) fn run(
    experiment: &Experiment<ProbeScale>,
    scale_name: &str,
    place: &Place<'_>,
) -> Result<()> {
    let start = Instant::now();
    let &Place {
        dir,
        device,
        spec,
        printer,
        ..
    } = place;
    let scale = experiment.scale(scale_name)?;
    let ground = Ground::open(&scale.checkpoint, scale_name, place)?;
    let network = &ground.network;
    let splits = splits(
        &scale.data,
        place,
        scale.train_per_class,
        scale.test_per_class,
    )?;
    let sweep_splits = swept_splits(&splits, scale)?;
    let (recipe, sweep_recipe) = (
        Recipe::named(&scale.recipe)?,
        Recipe::named(&scale.sweep_recipe)?,
    );
    let study = ground.study(place);
    let runner = Runner {
        study,
        scale,
        splits,
        sweep_splits,
        recipe,
        sweep_recipe,
        printer,
    };

    let subject = Subject {
        name: "diffusion".into(),
        encoder: network,
        hash: ground.sha256.to_string(),
    };
    let (diffusion, heads) =
        runner.subject(&subject, &swept(scale, &network.taps(), &ground.schedule)?)?;

    let size = network.config().image_size;
    let pixels = Pixels {
        channels: network.config().in_channels,
        size,
    };
    let subject = Subject {
        name: "pixels".into(),
        encoder: &pixels,
        hash: "pixels".into(),
    };
    let (pixels, _) = runner.subject(
        &subject,
        &[pixel_settings(scale, &pixels.taps(), &ground.schedule)?],
    )?;

    let random = runner.random_networks(network, device)?;

    let measured = Results::new(
        scale_name,
        experiment,
        &runner.recipe,
        &runner.sweep_recipe,
        network.taps(),
        Encoding {
            preprocess: ground.preprocess,
            schedule: ground.process.schedule,
            timesteps: ground.process.steps,
            training: ground.training.clone(),
        },
        vec![diffusion, pixels, random],
        &runner.splits,
    )?;
    let results = Results {
        experiment: place.words.clone(),
        ..measured
    };
    save_head(
        results
            .subjects
            .first()
            .and_then(|subject| subject.finals.first())
            .zip(heads.first()),
        &runner.splits.train,
        &ground,
        &runner.recipe,
        dir,
    )?;
    let record = ground.record(
        SCHEMA,
        Sha256Hex::hash_json(scale)?,
        &runner.splits,
        scale.seeds.first().copied(),
        spec,
        results,
    )?;
    let mut pictures = vec![pictures::noised(
        &runner.splits.train,
        &ground.preprocess,
        &ground.schedule,
        &scale.timesteps,
    )?];
    pictures.extend(pictures::samples(&place.roots.find(&scale.checkpoint)));
    let report = document::build(&experiment.title, &record, pictures);
    let table = document::terminal(&record.data);
    Finished::write(&record, &report, table, dir, start)?.show(printer);
    Ok(())
}

struct Runner<'a> {
    study: Study<'a>,
    scale: &'a ProbeScale,
    splits: Splits,
    sweep_splits: Splits,
    recipe: Recipe,
    sweep_recipe: Recipe,
    printer: Printer,
}

impl Runner<'_> {
    fn sweep<E: Encoder + Sync>(
        &self,
        subject: &Subject<'_, E>,
        groups: &[Settings],
    ) -> Result<Vec<Cell>> {
        let mut cells = Vec::new();
        for settings in groups {
            let found = watched(self.printer, |on| {
                self.study.sweep(
                    subject,
                    &self.sweep_splits,
                    settings,
                    &self.sweep_recipe,
                    on,
                )
            })?;
            cells.extend(found);
        }
        Ok(cells)
    }

    fn score<E: Encoder + Sync>(
        &self,
        subject: &Subject<'_, E>,
        setting: Setting,
        seed: u64,
    ) -> Result<(Final, Trained)> {
        let settings = Settings::new([setting], &subject.encoder.taps(), self.study.schedule)?;
        watched(self.printer, |on| {
            self.study
                .score(subject, &self.splits, &settings, &self.recipe, seed, on)
        })
    }

    /// Sweep, choice, final scores and heads of one encoder.
    fn subject<E: Encoder + Sync>(
        &self,
        subject: &Subject<'_, E>,
        groups: &[Settings],
    ) -> Result<(SubjectResult, Vec<Trained>)> {
        let cells = self.sweep(subject, groups)?;
        let chosen = choose(&cells).context("the sweep has no cell")?.setting;
        let scored: Vec<(Final, Trained)> = self
            .scale
            .seeds
            .iter()
            .map(|&seed| self.score(subject, chosen, seed))
            .collect::<Result<_>>()?;
        let (finals, heads) = scored.into_iter().unzip();
        let result = SubjectResult {
            name: subject.name.clone(),
            cells: vec![cells],
            finals,
        };
        Ok((result, heads))
    }

    /// The same network with random weights, tuned over the same grid; each is scored with a seed of
    /// its own. Networks that are not swept take the best setting of those that are.
    fn random_networks(&self, network: &UNet, device: &Device) -> Result<SubjectResult> {
        let mut result = SubjectResult {
            name: "random".into(),
            cells: Vec::new(),
            finals: Vec::new(),
        };
        let mut shared: Option<Cell> = None;
        for index in 0..self.scale.random_networks {
            let weights_seed = index as u64;
            let control = random_network(network.config(), weights_seed, device)?;
            let config = Sha256Hex::hash_json(network.config())?;
            let subject = Subject {
                name: format!("random-{index}"),
                encoder: &control,
                hash: format!("random:{weights_seed}:{config}"),
            };
            if index < self.scale.random_networks_swept {
                let cells = self.sweep(
                    &subject,
                    &swept(self.scale, &control.taps(), self.study.schedule)?,
                )?;
                let chosen = choose(&cells).context("the sweep has no cell")?.clone();
                if shared
                    .as_ref()
                    .is_none_or(|best| chosen.accuracy > best.accuracy)
                {
                    shared = Some(chosen.clone());
                }
                let seed = self.scale.seeds[index % self.scale.seeds.len()];
                let (score, _) = self.score(&subject, chosen.setting, seed)?;
                result.finals.push(score);
                result.cells.push(cells);
            } else {
                let setting = shared
                    .as_ref()
                    .context("no random network was swept")?
                    .setting;
                let seed = self.scale.seeds[index % self.scale.seeds.len()];
                let (score, _) = self.score(&subject, setting, seed)?;
                result.finals.push(score);
            }
        }
        Ok(result)
    }
}

/// The settings of the sweep, one group a timestep, so that features of one timestep are on disk
/// at a time.
pub(super) fn swept(
    scale: &ProbeScale,
    taps: &[TapInfo],
    schedule: &Schedule,
) -> Result<Vec<Settings>> {
    let blocks: Vec<usize> = match scale.blocks.as_slice() {
        [] => taps.iter().map(|tap| tap.block.get()).collect(),
        blocks => blocks.to_vec(),
    };
    scale
        .timesteps
        .iter()
        .map(|&t| {
            let mut settings = Vec::new();
            for &block in &blocks {
                for &pool in &scale.pools {
                    let tap = taps.iter().find(|tap| tap.block.get() == block);
                    let fits = tap.is_none_or(|tap| pool <= tap.height.min(tap.width));
                    if fits {
                        settings.push(setting(Some(t), block, pool)?);
                    }
                }
            }
            Ok(Settings::new(settings, taps, schedule)?)
        })
        .collect()
}

/// The settings of the sweep over raw pixels.
pub(super) fn pixel_settings(
    scale: &ProbeScale,
    taps: &[TapInfo],
    schedule: &Schedule,
) -> Result<Settings> {
    let wanted: Result<Vec<_>> = scale
        .pixel_pools
        .iter()
        .map(|&pool| setting(None, 1, pool))
        .collect();
    Ok(Settings::new(wanted?, taps, schedule)?)
}

/// The smaller training and validation splits of the sweep; its test split is the validation split:
/// the sweep never sees test images.
pub(super) fn swept_splits(splits: &Splits, scale: &ProbeScale) -> Result<Splits> {
    let cut = |dataset: &Dataset, per_class| -> Result<Dataset> {
        Ok(dataset.subset(&balanced_subset(dataset.labels(), per_class, 0)?))
    };
    let validation = cut(&splits.validation, scale.sweep_validation_per_class)?;
    Ok(Splits {
        train: cut(&splits.train, scale.sweep_train_per_class)?,
        test: validation.clone(),
        validation,
    })
}

/// Writes the diffusion probe of the first seed for `diffrep classify`.
fn save_head(
    first: Option<(&Final, &Trained)>,
    train: &Dataset,
    ground: &Ground,
    recipe: &Recipe,
    dir: &Path,
) -> Result<()> {
    let Some((chosen, head)) = first else {
        return Ok(());
    };
    let info = HeadInfo {
        classes: train.class_names().to_vec(),
        encoder_sha256: ground.sha256.to_string(),
        setting: chosen.setting,
        schedule: ground.process.schedule,
        timesteps: ground.process.steps,
        rescaled: ground.process.rescaled,
        preprocess: ground.preprocess,
        noise_seed: chosen.seed,
        recipe: AnyRecipe::Descent(recipe.clone()),
        point: chosen.point,
        validation_accuracy: chosen.validation,
    };
    Ok(SavedHead::new(head, info).write(&dir.join("head.safetensors"))?)
}

/// What a record tells.
pub(super) fn found(path: &Path, known: Known<'_>) -> Result<Found> {
    let record: Record<Results> = told::record(path, SCHEMA)?;
    let results = &record.data;
    let standings = results.summary.iter().zip(&results.subjects);
    let standings = standings.map(|(row, subject)| Standing {
        name: row.name.clone(),
        test: row.test,
        correct: subject
            .finals
            .iter()
            .map(|score| score.correct.0.clone())
            .collect(),
        control: row.behind,
    });
    // Claims about controls stand beside the paper's own.
    let controls = against_controls(&results.summary);
    let shape = results
        .claims
        .iter()
        .filter(|claim| controls.iter().all(|control| control.text != claim.text));
    let pictures = pictures::beside(known.dir, &results.settings.timesteps);
    Ok(Found {
        standings: standings.collect(),
        decided: shape
            .map(|claim| Decided {
                text: claim.text.clone(),
                on: claim.measured_on.clone(),
                difference: claim.difference,
                verdict: claim.verdict,
            })
            .collect(),
        ..document::build(known.title, &record, pictures).into()
    })
}
