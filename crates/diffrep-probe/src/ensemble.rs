//! Several noises of one image: as more rows to train on, and as an ensemble to classify by.

use diffrep_datasets::Dataset;
use diffrep_extract::{Extraction, Noising, Setting, Settings};
use diffrep_taps::Encoder;
use serde::{Deserialize, Serialize};

use crate::train_head::{right, share};
use crate::{
    Bits, COMPUTES, Features, Point, ProbeError, Progress, Recipe, Splits, StepKey, Study, Subject,
    best,
};
use crate::{logits, train_linear};

/// Draws of the test images start here: no training row has seen their noise.
const FIRST_TEST_DRAW: u32 = 1000;

/// What is drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draws {
    /// Noises of each training image, each a row.
    pub train: usize,
    /// Whether each of them has its mirror image as another row.
    pub train_flips: bool,
    /// Sizes of ensembles, ascending, each a divisor of the last.
    pub test: Vec<usize>,
    /// Whether each draw of an ensemble has its mirror image as another member.
    pub test_flips: bool,
}

/// How ensembles of one size did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnsembleScore {
    /// Noises of each image.
    pub draws: usize,
    /// Share of test images classified right, for each of the disjoint ensembles of this size.
    pub test: Vec<f64>,
    /// Which test images each of them classified right.
    pub correct: Vec<Bits>,
    /// Share of the images on which the first and the next disagree; none where there is one alone.
    pub disagreement: Option<f64>,
}

/// A linear probe on one setting with ensembles of its draws.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnsembleScores {
    /// Timestep, block, pool.
    pub setting: Setting,
    /// What was drawn.
    pub draws: Draws,
    /// The grid point that won on the validation split, one draw an image.
    pub point: Point,
    /// Share of validation images classified right.
    pub validation: f64,
    /// By size of the ensemble.
    pub sizes: Vec<EnsembleScore>,
}

impl Study<'_> {
    /// The step of [`ensemble`](Self::ensemble); `settings` hold the one setting.
    ///
    /// # Errors
    ///
    /// When a data set's fingerprint cannot be taken.
    #[allow(
        clippy::too_many_arguments,
        reason = "all that determines the result of a step"
    )]
    pub fn ensemble_key<E>(
        &self,
        subject: &Subject<'_, E>,
        splits: &Splits,
        settings: &Settings,
        setting: Setting,
        draws: &Draws,
        recipe: &Recipe,
        seed: u64,
    ) -> Result<StepKey, ProbeError> {
        let flips = if draws.train_flips { "-flips" } else { "" };
        let name = format!(
            "ensemble-{}-{}-draws{}{flips}-seed{seed}",
            subject.name,
            setting.column(),
            draws.train
        );
        let specs = [&splits.train, &splits.validation, &splits.test]
            .into_iter()
            .map(|dataset| {
                self.extraction(dataset, settings, &subject.hash, seed)
                    .store_spec()
            })
            .collect::<Result<Vec<_>, _>>()?;
        let determines = (&specs, draws, recipe, COMPUTES, "all ensembles");
        StepKey::new(name, &determines)
    }

    /// Trains a linear probe on some noises of each training image and classifies test images by the
    /// mean of the logits of several. For a linear probe that is also the probe on the mean of the
    /// features.
    ///
    /// # Errors
    ///
    /// When an image, a shard or a probe fails.
    pub fn ensemble<E: Encoder + Sync>(
        &self,
        subject: &Subject<'_, E>,
        splits: &Splits,
        setting: Setting,
        draws: &Draws,
        recipe: &Recipe,
        seed: u64,
        on: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<EnsembleScores, ProbeError> {
        let settings = Settings::new([setting], &subject.encoder.taps(), self.schedule)
            .map_err(diffrep_extract::ExtractError::from)?;
        let key = self.ensemble_key(subject, splits, &settings, setting, draws, recipe, seed)?;
        let name = key.name.clone();
        self.step(&key, on, |on| {
            let classes = splits.train.class_names().len();
            let mut views = Views {
                study: self,
                subject,
                settings: &settings,
                setting,
                seed,
                on,
            };
            let mut train: Option<Features> = None;
            for draw in 0..draws.train {
                for flip in with_mirror(draws.train_flips) {
                    let more = views.of("train", &splits.train, draw as u32, flip)?;
                    match &mut train {
                        None => train = Some(more),
                        Some(train) => {
                            train.values.extend(more.values);
                            train.labels.extend(more.labels);
                        }
                    }
                }
            }
            let train = train.ok_or(ProbeError::Empty { split: "training" })?;
            let validation = views.of("validation", &splits.validation, 0, false)?;
            let title = format!("{name}: probe");
            let heads = train_linear(
                &train,
                &validation,
                classes,
                recipe,
                seed,
                self.device,
                |done, total| {
                    (views.on)(Progress::At {
                        name: &title,
                        done,
                        total,
                    });
                },
            )?;
            let head = best(&heads, &recipe.name)?;
            let largest = draws.test.iter().copied().max().unwrap_or(1);
            let mut members: Vec<Vec<f32>> = Vec::new();
            for draw in 0..largest as u32 {
                let mut sum: Vec<f32> = Vec::new();
                for flip in with_mirror(draws.test_flips) {
                    let features = views.of("test", &splits.test, FIRST_TEST_DRAW + draw, flip)?;
                    add(&mut sum, &logits(head, &features, self.device));
                }
                members.push(sum);
            }
            let labels = splits.test.labels();
            Ok(EnsembleScores {
                setting,
                draws: draws.clone(),
                point: head.point,
                validation: head.validation,
                sizes: draws
                    .test
                    .iter()
                    .map(|&size| score(size, &members, labels))
                    .collect(),
            })
        })
    }
}

/// The ensembles of `size` consecutive members.
fn score(size: usize, members: &[Vec<f32>], labels: &[u32]) -> EnsembleScore {
    let sums: Vec<Vec<f32>> = members
        .chunks_exact(size.max(1))
        .map(|members| {
            let mut sum = Vec::new();
            members.iter().for_each(|member| add(&mut sum, member));
            sum
        })
        .collect();
    let found: Vec<Vec<bool>> = sums.iter().map(|sum| right(sum, labels)).collect();
    let said = |sum: &Vec<f32>| -> Vec<Option<usize>> {
        let rows = sum.chunks_exact(sum.len() / labels.len().max(1));
        rows.map(crate::linear::argmax).collect()
    };
    let disagreement = match sums.as_slice() {
        [first, second, ..] => {
            let pairs = said(first).into_iter().zip(said(second));
            let differ = pairs.filter(|(one, other)| one != other).count();
            Some(differ as f64 / labels.len().max(1) as f64)
        }
        _ => None,
    };
    EnsembleScore {
        draws: size,
        test: found.iter().map(|found| share(found)).collect(),
        correct: found.into_iter().map(Bits).collect(),
        disagreement,
    }
}

fn add(sum: &mut Vec<f32>, values: &[f32]) {
    if sum.is_empty() {
        sum.extend_from_slice(values);
    } else {
        sum.iter_mut().zip(values).for_each(|(sum, v)| *sum += v);
    }
}

fn with_mirror(mirror: bool) -> impl Iterator<Item = bool> {
    [false, true].into_iter().take(if mirror { 2 } else { 1 })
}

/// Features of views of images: a noise, mirrored or not. They are deleted once they are read.
struct Views<'a, 'b, E> {
    study: &'a Study<'a>,
    subject: &'a Subject<'a, E>,
    settings: &'a Settings,
    setting: Setting,
    seed: u64,
    on: &'a mut (dyn FnMut(Progress<'_>) + Send + 'b),
}

impl<E: Encoder + Sync> Views<'_, '_, E> {
    fn of(
        &mut self,
        split: &str,
        dataset: &Dataset,
        draw: u32,
        flip: bool,
    ) -> Result<Features, ProbeError> {
        let (study, subject) = (self.study, self.subject);
        let job = Extraction {
            noising: Noising {
                seed: self.seed,
                draw,
            },
            flip,
            ..study.extraction(dataset, self.settings, &subject.hash, self.seed)
        };
        let mirrored = if flip { ", mirrored" } else { "" };
        let column = self.setting.column();
        let title = format!("{column}, noise {draw}{mirrored}, {split}: features");
        // The training rows of a smaller number of draws are the first of a larger one's; those of an
        // ensemble are read once.
        let name = match split {
            "test" => "ensemble",
            _ => &subject.name,
        };
        let shelf = study.shelf(name, split);
        let gathered = job.gather(subject.encoder, &shelf, study.device, |done, total| {
            (self.on)(Progress::At {
                name: &title,
                done,
                total,
            });
        })?;
        let features = Features::gathered(&gathered, &column)?;
        drop(gathered);
        if split == "test" {
            study.clear(name, split, &job);
        }
        Ok(features)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ensemble_votes_by_the_sum_of_its_members() {
        // Two images of class 0 and 1; logits of four members.
        let members = [
            vec![1.0f32, 0.0, 3.0, 0.0],
            vec![0.0, 3.0, 0.0, 1.0],
            vec![2.0, 0.0, 0.0, 5.0],
            vec![1.0, 0.0, 0.0, 1.0],
        ];
        let alone = score(1, &members, &[0, 1]);
        assert_eq!(alone.test, [0.5, 0.5, 1.0, 1.0]);
        let correct: Vec<&[bool]> = alone.correct.iter().map(|bits| &bits.0[..]).collect();
        assert_eq!(
            correct,
            [[true, false], [false, true], [true, true], [true, true]]
        );
        assert_eq!(alone.disagreement, Some(1.0));
        let pairs = score(2, &members, &[0, 1]);
        assert_eq!(pairs.test, [0.0, 1.0]);
        let all = score(4, &members, &[0, 1]);
        assert_eq!((all.test, all.disagreement), (vec![1.0], None));
    }
}
