//! Heads of several kinds on the same stored maps: each tuned on the validation split with the first
//! seed, then scored on the test split once a seed.

use diffrep_extract::Settings;
use diffrep_heads::HeadSpec;
use diffrep_taps::Encoder;
use serde::{Deserialize, Serialize};

use crate::train_head::share;
use crate::{
    Bits, EpochScore, HeadTraining, Maps, Point, ProbeError, Progress, Recipe, Splits, StepKey,
    Study, Subject, Trained, TrainedHead, best, best_head, correct, train_linear_at,
};

/// A head on some columns of a store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// The head.
    pub head: HeadSpec,
    /// Names of the columns it reads.
    pub columns: Vec<String>,
}

/// What competes under one name, and how it is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contender {
    /// Its name in results.
    pub name: String,
    /// Of these the best on the validation split is taken.
    pub candidates: Vec<Candidate>,
    /// The recipe; with the first seed its whole grid is tried.
    pub recipe: Recipe,
}

/// The score of a contender with one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadScore {
    /// The head and its columns, as chosen with the first seed; none for a network that classifies by
    /// itself.
    pub candidate: Option<Candidate>,
    /// Its rate and decay, as chosen with the first seed; zeros where nothing was trained.
    pub point: Point,
    /// Trainable parameters.
    pub parameters: usize,
    /// Seed of initial weights, batch order and noise.
    pub seed: u64,
    /// The epoch whose weights were kept, counted from 1.
    pub epoch: usize,
    /// Losses and validation accuracy after each epoch.
    pub curve: Vec<EpochScore>,
    /// Share of validation samples classified right.
    pub validation: f64,
    /// Share of test samples classified right.
    pub test: f64,
    /// Which test samples were classified right.
    pub correct: Bits,
}

impl Contender {
    /// Candidates and grid points of a seed: all with the first one, of which there is no score yet, then
    /// the best.
    fn tried(&self, first: Option<&HeadScore>) -> (Vec<Candidate>, Vec<Point>) {
        match first {
            None => (self.candidates.clone(), self.recipe.grid()),
            Some(first) => (first.candidate.iter().cloned().collect(), vec![first.point]),
        }
    }
}

impl Study<'_> {
    /// The step of a seed in [`compete`](Self::compete); `first` is the score with the first seed, none for
    /// that seed itself.
    ///
    /// # Errors
    ///
    /// When a data set's fingerprint cannot be taken.
    pub fn compete_key<E>(
        &self,
        subject: &Subject<'_, E>,
        splits: &Splits,
        settings: &Settings,
        contender: &Contender,
        seed: u64,
        first: Option<&HeadScore>,
    ) -> Result<StepKey, ProbeError> {
        let (candidates, points) = contender.tried(first);
        let images = [&splits.train, &splits.validation, &splits.test]
            .into_iter()
            .map(|dataset| {
                self.extraction(dataset, settings, &subject.hash, seed)
                    .images_key()
            })
            .collect::<Result<Vec<_>, _>>()?;
        // Neither the name nor what others read: another experiment may have the same contender.
        let determines = (
            &images,
            &candidates,
            &points,
            &contender.recipe,
            seed,
            splits.train.class_names().len(),
            crate::COMPUTES,
        );
        let heads = contender.candidates.first();
        let kind = heads.map_or("none", |c| c.head.name());
        StepKey::new(format!("{}-{kind}-seed{seed}", subject.name), &determines)
    }

    /// Scores a contender once a seed. Features of all `settings` are extracted once a seed and
    /// shared by every contender of the study.
    ///
    /// # Errors
    ///
    /// When an image, a shard or a training fails, or a head does not fit its columns.
    pub fn compete<E: Encoder + Sync>(
        &self,
        subject: &Subject<'_, E>,
        splits: &Splits,
        settings: &Settings,
        contender: &Contender,
        seeds: &[u64],
        on: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<Vec<HeadScore>, ProbeError> {
        let mut scores: Vec<HeadScore> = Vec::new();
        for &seed in seeds {
            let (candidates, points) = contender.tried(scores.first());
            let recipe = &contender.recipe;
            let key =
                self.compete_key(subject, splits, settings, contender, seed, scores.first())?;
            let name = key.name.clone();
            scores.push(self.step(&key, on, |on| {
                let parts = [
                    ("train", &splits.train),
                    ("validation", &splits.validation),
                    ("test", &splits.test),
                ];
                let stores = self.extract(subject, &subject.name, &parts, settings, seed, on)?;
                let read = |part: usize, candidate: &Candidate| {
                    Maps::gathered(&stores[part], &candidate.columns)
                };
                let classes = splits.train.class_names().len();
                let training = |candidate| HeadTraining {
                    spec: candidate,
                    classes,
                    recipe,
                    seed,
                    device: self.device,
                };
                if let Some(score) = self.compete_linear(
                    &candidates,
                    &points,
                    recipe,
                    classes,
                    seed,
                    &read,
                    &name,
                    on,
                )? {
                    return Ok(score);
                }
                let watcher = std::sync::Mutex::new(on);
                let mut best: Option<(&Candidate, TrainedHead)> = None;
                for (index, candidate) in candidates.iter().enumerate() {
                    let title = match candidates.len() {
                        1 => format!("{name}: epochs"),
                        of => format!("{name}: epochs ({} of {of})", index + 1),
                    };
                    let heads = training(&candidate.head).grid(
                        &points,
                        &read(0, candidate)?,
                        &read(1, candidate)?,
                        self.workers,
                        &|done, total| {
                            let mut on = watcher
                                .lock()
                                .unwrap_or_else(std::sync::PoisonError::into_inner);
                            on(Progress::At {
                                name: &title,
                                done,
                                total,
                            });
                        },
                    )?;
                    let head = best_head(&heads, recipe)?;
                    let better = |(_, best): &(_, TrainedHead)| head.validation > best.validation;
                    if best.as_ref().is_none_or(better) {
                        best = Some((candidate, head.clone()));
                    }
                }
                let (candidate, head) = best.ok_or(ProbeError::Empty {
                    split: "candidates",
                })?;
                let test = read(2, candidate)?;
                let training = training(&candidate.head);
                let right = training.correct(&head, &test)?;
                Ok(HeadScore {
                    candidate: Some(candidate.clone()),
                    point: head.point,
                    parameters: training.parameters(&test)?,
                    seed,
                    epoch: head.epoch,
                    validation: head.validation,
                    curve: head.curve,
                    test: share(&right),
                    correct: Bits(right),
                })
            })?);
        }
        Ok(scores)
    }

    /// The score of a contender all of whose candidates are one linear layer on one column; their whole
    /// grid is trained in one pass.
    #[allow(
        clippy::too_many_arguments,
        reason = "what competes, what it reads and how it is told"
    )]
    fn compete_linear(
        &self,
        candidates: &[Candidate],
        points: &[Point],
        recipe: &Recipe,
        classes: usize,
        seed: u64,
        read: &dyn Fn(usize, &Candidate) -> Result<Maps, ProbeError>,
        name: &str,
        on: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<Option<HeadScore>, ProbeError> {
        let mut chosen: Option<(&Candidate, Trained)> = None;
        for (index, candidate) in candidates.iter().enumerate() {
            let (HeadSpec::Linear { pool }, [_]) = (&candidate.head, candidate.columns.as_slice())
            else {
                return Ok(None);
            };
            if recipe.patience.is_some() {
                // Heads of one pass go on together; such a recipe trains each by itself.
                return Ok(None);
            }
            let [train, validation] =
                [0, 1].map(|part| read(part, candidate).and_then(|maps| maps.pooled(*pool)));
            let title = format!("{name}: epochs ({} of {})", index + 1, candidates.len());
            let heads = train_linear_at(
                points,
                &train?,
                &validation?,
                classes,
                recipe,
                seed,
                self.device,
                |done, total| {
                    on(Progress::At {
                        name: &title,
                        done,
                        total,
                    });
                },
            )?;
            let head = best(&heads, &recipe.name)?;
            let better = |(_, best): &(_, Trained)| head.validation > best.validation;
            if chosen.as_ref().is_none_or(better) {
                chosen = Some((candidate, head.clone()));
            }
        }
        let Some((candidate, head)) = chosen else {
            return Ok(None);
        };
        let HeadSpec::Linear { pool } = candidate.head else {
            return Ok(None);
        };
        let test = read(2, candidate)?.pooled(pool)?;
        let right = correct(&head, &test, self.device);
        Ok(Some(HeadScore {
            candidate: Some(candidate.clone()),
            point: head.point,
            parameters: head.weight.len() + head.bias.len(),
            seed,
            epoch: recipe.epochs,
            validation: head.validation,
            curve: Vec::new(),
            test: share(&right),
            correct: Bits(right),
        }))
    }
}
