//! Trainings with the encoder in the loop, compared on the same images: each tuned on the validation
//! split with the first seed, then scored on the test split once a seed.

use diffrep_artifact::{Sha256Hex, create_dir_all};
use diffrep_datasets::Dataset;
use diffrep_heads::HeadSpec;
use serde::{Deserialize, Serialize};

use crate::train_head::{right, share};
use crate::{
    Augment, Bits, Candidate, HeadScore, Images, Point, ProbeError, Progress, Reading, Recipe,
    Splits, StepKey, Study, Subject, TunableEncoder, Tune, TuneProgress, Tuned, Tuning,
};

/// What competes under one name, and how it is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuneContender {
    /// Its name in results and file names.
    pub name: String,
    /// What is trained beside the head.
    pub tune: Tune,
    /// Of these heads, and what they read, the best on the validation split is taken.
    pub candidates: Vec<(Reading, HeadSpec)>,
    /// The recipe; with the first seed its whole grid is tried.
    pub recipe: Recipe,
    /// What happens to training images in each epoch.
    pub augment: Augment,
    /// Decay of a moving average of the weights.
    pub ema: Option<f64>,
    /// Parts of a batch that are computed side by side.
    pub parts: usize,
}

impl TuneContender {
    /// Its name in the names of files.
    pub fn file_name(&self) -> String {
        file_name(&self.name)
    }

    /// Heads and grid points of a seed: all with the first one, of which there is no score yet, then the best.
    fn tried<E: TunableEncoder>(
        &self,
        encoder: &E,
        first: Option<&HeadScore>,
    ) -> Vec<(&(Reading, HeadSpec), Point)> {
        let grid = self.recipe.grid();
        let all = self
            .candidates
            .iter()
            .flat_map(|candidate| grid.iter().map(move |&point| (candidate, point)));
        let Some(first) = first else {
            return all.collect();
        };
        let chosen = |((reading, head), point): &(&(Reading, HeadSpec), Point)| {
            let candidate = Candidate {
                head: head.clone(),
                columns: columns(reading, encoder),
            };
            first.candidate.as_ref() == Some(&candidate) && first.point == *point
        };
        all.filter(chosen).take(1).collect()
    }
}

impl Study<'_> {
    /// Everything that determines the score of a contender with one seed.
    fn tune_determines<E>(
        &self,
        subject: &Subject<'_, E>,
        splits: &Splits,
        contender: &TuneContender,
        tried: &[(&(Reading, HeadSpec), Point)],
        seed: u64,
    ) -> Result<serde_json::Value, ProbeError> {
        let data = [&splits.train, &splits.validation, &splits.test]
            .into_iter()
            .map(|dataset| Ok((dataset.split().to_string(), dataset.fingerprint()?)))
            .collect::<Result<Vec<_>, ProbeError>>()?;
        Ok(serde_json::json!({
            "encoder": subject.hash, "images": data, "preprocess": self.preprocess,
            "timesteps": self.schedule.timestep_map.len(),
            "betas": Sha256Hex::hash_json(&self.schedule.betas)?,
            "timestep_scale": self.schedule.timestep_scale,
            "tune": contender.tune, "recipe": contender.recipe, "augment": contender.augment,
            "ema": contender.ema, "parts": contender.parts,
            "tried": tried, "seed": seed, "classes": splits.train.class_names().len(),
            "version": crate::COMPUTES,
        }))
    }

    /// The step of a seed in [`tune`](Self::tune); `first` is the score with the first seed, none for that
    /// seed itself.
    ///
    /// # Errors
    ///
    /// When a data set's fingerprint cannot be taken.
    pub fn tune_key<E: TunableEncoder>(
        &self,
        subject: &Subject<'_, E>,
        splits: &Splits,
        contender: &TuneContender,
        seed: u64,
        first: Option<&HeadScore>,
    ) -> Result<StepKey, ProbeError> {
        let tried = contender.tried(subject.encoder, first);
        let determines = self.tune_determines(subject, splits, contender, &tried, seed)?;
        let name = format!("tune-{}-seed{seed}", contender.file_name());
        StepKey::new(name, &determines)
    }

    /// Scores a contender once a seed. A training that was stopped goes on at its last epoch.
    ///
    /// # Errors
    ///
    /// When an image cannot be read, something does not fit the network, or a training diverges.
    pub fn tune<E: TunableEncoder>(
        &self,
        subject: &Subject<'_, E>,
        splits: &Splits,
        contender: &TuneContender,
        seeds: &[u64],
        on: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<Vec<HeadScore>, ProbeError> {
        let mut scores: Vec<HeadScore> = Vec::new();
        for &seed in seeds {
            let tried = contender.tried(subject.encoder, scores.first());
            let determines = self.tune_determines(subject, splits, contender, &tried, seed)?;
            let key = self.tune_key(subject, splits, contender, seed, scores.first())?;
            let name = key.name.clone();
            let hash = key.key.to_string();
            let score = self.step(&key, on, |on| {
                let mut best: Option<(Tuned<E>, &(Reading, HeadSpec), Point)> = None;
                let mut diverged = None;
                for (index, &(candidate, point)) in tried.iter().enumerate() {
                    let title = match tried.len() {
                        1 => name.clone(),
                        of => format!("{name} ({} of {of})", index + 1),
                    };
                    let one = One {
                        study: self,
                        subject,
                        contender,
                        candidate,
                        seed,
                    };
                    let file = format!("{name}-{}-{index}.safetensors", &hash[..12]);
                    let tuned = match one.train(splits, point, &file, &determines, &title, on) {
                        // Of a grid some points may be too much; that all are is an error.
                        Err(error @ ProbeError::DivergedAt { .. }) if tried.len() > 1 => {
                            tracing::warn!("{title}: {error}");
                            diverged = Some(error);
                            continue;
                        }
                        tuned => tuned?,
                    };
                    if best
                        .as_ref()
                        .is_none_or(|(b, ..)| tuned.validation > b.validation)
                    {
                        best = Some((tuned, candidate, point));
                    }
                }
                let (tuned, candidate, point) = best.ok_or_else(|| {
                    diverged.unwrap_or(ProbeError::Empty {
                        split: "candidates",
                    })
                })?;
                let one = One {
                    study: self,
                    subject,
                    contender,
                    candidate,
                    seed,
                };
                one.score(tuned, splits, point, &name, on)
            })?;
            scores.push(score);
        }
        Ok(scores)
    }
}

/// A name with nothing in it that a file system could take for more.
fn file_name(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

/// The columns that a store would have for what is read.
fn columns<E: TunableEncoder>(reading: &Reading, encoder: &E) -> Vec<String> {
    let settings = reading.settings(&encoder.taps());
    settings.iter().map(|setting| setting.column()).collect()
}

/// A training of a contender.
struct One<'a, E> {
    study: &'a Study<'a>,
    subject: &'a Subject<'a, E>,
    contender: &'a TuneContender,
    candidate: &'a (Reading, HeadSpec),
    seed: u64,
}

impl<E: TunableEncoder> One<'_, E> {
    fn images<'b>(&'b self, dataset: &'b Dataset) -> Images<'b> {
        Images {
            dataset,
            preprocess: self.study.preprocess,
            schedule: self.study.schedule,
            seed: self.seed,
            augment: self.contender.augment,
        }
    }

    fn tuning(&self, classes: usize) -> Tuning<'_> {
        let (reading, spec) = self.candidate;
        Tuning {
            tune: &self.contender.tune,
            reading,
            spec,
            classes,
            recipe: &self.contender.recipe,
            ema: self.contender.ema,
            parts: self.contender.parts,
            workers: self.study.workers.min(self.contender.parts),
            seed: self.seed,
            device: self.study.device,
        }
    }

    fn train(
        &self,
        splits: &Splits,
        point: Point,
        file: &str,
        determines: &serde_json::Value,
        title: &str,
        on: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<Tuned<E>, ProbeError> {
        let folder = self.study.dir.join("trainings");
        create_dir_all(&folder)?;
        let per_epoch = splits.train.len() + splits.validation.len();
        let total = per_epoch * self.contender.recipe.epochs;
        let mut done = 0;
        self.tuning(splits.train.class_names().len()).run(
            point,
            self.subject.encoder.clone(),
            &self.images(&splits.train),
            &self.images(&splits.validation),
            Some((&folder.join(file), determines)),
            |at| {
                match at {
                    TuneProgress::Trained { epoch, images } => {
                        done = done.max((epoch - 1) * per_epoch) + images;
                    }
                    TuneProgress::Scored { images } => done += images,
                }
                on(Progress::At {
                    name: title,
                    done,
                    total,
                });
            },
        )
    }

    fn score(
        &self,
        tuned: Tuned<E>,
        splits: &Splits,
        point: Point,
        name: &str,
        on: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<HeadScore, ProbeError> {
        let (reading, head) = self.candidate;
        let title = format!("{name}: test");
        let mut done = 0;
        let test = self.images(&splits.test);
        let logits = tuned.classifier.logits(&test, self.study.device, |count| {
            done += count;
            on(Progress::At {
                name: &title,
                done,
                total: splits.test.len(),
            });
        })?;
        let right = right(&logits, splits.test.labels());
        let tuning = self.tuning(splits.train.class_names().len());
        let trained = tuning.trainable(self.subject.encoder)?;
        Ok(HeadScore {
            candidate: Some(Candidate {
                head: head.clone(),
                columns: columns(reading, self.subject.encoder),
            }),
            point,
            parameters: trained.all(),
            seed: self.seed,
            epoch: tuned.epoch,
            validation: tuned.validation,
            curve: tuned.curve,
            test: share(&right),
            correct: Bits(right),
        })
    }
}
