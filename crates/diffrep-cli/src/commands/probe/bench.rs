//! Training and scoring on some columns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{Device, TensorData};
use diffrep_heads::HeadSpec;
use diffrep_probe::{
    AnyRecipe, HeadTraining, Maps, Metrics, Moments, Neighbours, Point, Recipe, Trained,
    TrainedHead, Vote, best, best_head, best_vote, fit_convex, logits, train_linear,
};
use diffrep_train::metrics;
use serde::Serialize;

use super::source::{Few, Part};
use crate::commands::input::HeadWord;
use crate::printer::Printer;

/// Which classifier is trained.
pub(super) enum Wanted {
    /// k-NN.
    Neighbours,
    /// Linear, a whole grid in one pass.
    Linear,
    /// Of any other kind.
    Other(HeadWord),
}

impl Wanted {
    /// By the words of `--head`, and the recipe that goes with it where none is given.
    pub(super) fn read(head: &str) -> Result<(Self, &str)> {
        match head {
            "linear" => return Ok((Self::Linear, "paper")),
            "ridge" | "logistic" => return Ok((Self::Linear, head)),
            "knn" => return Ok((Self::Neighbours, head)),
            _ => {}
        }
        let head = HeadWord::read(head)
            .context("--head is knn, ridge, logistic or a head that is trained")?;
        Ok((Self::Other(head), "paper"))
    }

    fn fuses(&self) -> bool {
        match self {
            Self::Linear | Self::Neighbours => false,
            Self::Other(head) => head.fuses(),
        }
    }

    fn spec(&self, maps: &Maps) -> Result<HeadSpec> {
        Ok(match self {
            Self::Linear | Self::Neighbours => HeadSpec::named("linear", &maps.taps())?,
            Self::Other(head) => head.spec(&maps.taps())?,
        })
    }
}

/// The best of a grid, by validation.
pub(super) struct Fit {
    pub(super) head: Fitted,
    pub(super) spec: Option<HeadSpec>,
    pub(super) parameters: usize,
    pub(super) point: Chosen,
    pub(super) validation: f64,
    /// Norm of the loss's gradient, where steps went to an optimum.
    pub(super) gradient: Option<f64>,
    /// Images.
    pub(super) trained_on: usize,
    /// Seconds that the whole grid took, features in memory.
    pub(super) seconds: f64,
}

/// The point of its grid.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Chosen {
    Point(Point),
    Vote(Vote),
}

pub(super) enum Fitted {
    Linear(Trained),
    Other(TrainedHead),
    Neighbours(Neighbours, Vote),
}

/// What every training of the command shares.
pub(super) struct Bench<'a> {
    pub(super) train: Part<'a>,
    pub(super) few: Few,
    pub(super) validation: Part<'a>,
    pub(super) test: Option<Part<'a>>,
    pub(super) classes: usize,
    pub(super) recipe: &'a AnyRecipe,
    pub(super) head: Wanted,
    pub(super) device: &'a Device,
    pub(super) workers: usize,
    pub(super) printer: Printer,
}

impl Bench<'_> {
    /// That every class is there to be learnt, and every label is a class.
    pub(super) fn check(&self, seeds: impl Iterator<Item = u64>) -> Result<()> {
        for seed in seeds {
            let part = self.train.few(self.few, seed)?;
            let found: BTreeSet<u32> = part.image_labels().into_iter().collect();
            if let Some(class) = (0..self.classes as u32).find(|class| !found.contains(class)) {
                bail!(
                    "class {class} has no training sample in {}: labels must be 0..={} without a gap",
                    part.source.path.display(),
                    self.classes - 1
                );
            }
        }
        for part in [Some(&self.validation), self.test.as_ref()]
            .into_iter()
            .flatten()
        {
            let labels = part.image_labels();
            if let Some(label) = labels.iter().find(|label| **label as usize >= self.classes) {
                bail!(
                    "label {label} in {} is out of range: there are {} classes in {}",
                    part.source.path.display(),
                    self.classes,
                    self.train.source.path.display()
                );
            }
        }
        Ok(())
    }

    /// The columns that a head reads together, for each head.
    pub(super) fn groups(&self, wanted: &[String]) -> Vec<Vec<String>> {
        let columns: Vec<String> = match wanted {
            [] => self.train.source.columns(),
            wanted => wanted.to_vec(),
        };
        if self.head.fuses() {
            return vec![columns];
        }
        columns.into_iter().map(|column| vec![column]).collect()
    }

    fn training<'b>(
        &'b self,
        spec: &'b HeadSpec,
        recipe: &'b Recipe,
        seed: u64,
    ) -> HeadTraining<'b> {
        HeadTraining {
            spec,
            classes: self.classes,
            recipe,
            seed,
            device: self.device,
        }
    }

    /// Trains the grid on some columns and keeps the best head.
    pub(super) fn fit(&self, group: &[String], seed: u64, title: &str) -> Result<Fit> {
        let train = self.train.few(self.few, seed)?;
        let trained_on = train.len();
        let _span = metrics::training(&group.join("+"));
        match (&self.head, self.recipe, group) {
            (Wanted::Neighbours, AnyRecipe::Neighbours(recipe), [column]) => {
                let train = train.features(column)?;
                let validation = self.validation.features(column)?;
                let start = Instant::now();
                let bank = Neighbours::new(&train, self.classes, recipe.standardize)?;
                let (vote, validation) = best_vote(&bank, &validation, &recipe.grid())?;
                Ok(Fit {
                    seconds: start.elapsed().as_secs_f64(),
                    head: Fitted::Neighbours(bank, vote),
                    spec: None,
                    parameters: 0,
                    point: Chosen::Vote(vote),
                    validation,
                    gradient: None,
                    trained_on,
                })
            }
            (Wanted::Linear, AnyRecipe::Convex(_) | AnyRecipe::Descent(_), [column]) => {
                let (head, seconds) = self.linear(&train, column, seed, title)?;
                Ok(Fit {
                    seconds,
                    point: Chosen::Point(head.point),
                    validation: head.validation,
                    gradient: head.gradient,
                    parameters: head.weight.len() + head.bias.len(),
                    spec: None,
                    head: Fitted::Linear(head),
                    trained_on,
                })
            }
            (Wanted::Other(_), AnyRecipe::Descent(recipe), _) => {
                self.other(&train, recipe, group, seed, title)
            }
            (Wanted::Neighbours, ..) => {
                bail!(
                    "k-NN needs a recipe with `neighbours`, not {}",
                    self.recipe.name()
                )
            }
            (_, AnyRecipe::Neighbours(_), _) => {
                bail!("recipe {} is for --head knn", self.recipe.name())
            }
            _ => bail!(
                "recipe {} finds the optimum of a linear head: use --head linear, or a recipe with \
                 learning rates",
                self.recipe.name()
            ),
        }
    }

    fn other(
        &self,
        train: &Part<'_>,
        recipe: &Recipe,
        group: &[String],
        seed: u64,
        title: &str,
    ) -> Result<Fit> {
        let maps = train.maps(group)?;
        let spec = self.head.spec(&maps)?;
        let training = self.training(&spec, recipe, seed);
        let parameters = training.parameters(&maps)?;
        let total = recipe.grid().len() * recipe.epochs;
        let progress = Mutex::new(self.printer.progress(title, total as u64));
        let validation = self.validation.maps(group)?;
        let start = Instant::now();
        let heads = training.grid(
            &recipe.grid(),
            &maps,
            &validation,
            self.workers,
            &|done, _| {
                progress
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .at(done as u64, "epochs");
            },
        )?;
        let progress = progress.into_inner();
        progress.unwrap_or_else(PoisonError::into_inner).finish();
        let head = best_head(&heads, recipe)?.clone();
        Ok(Fit {
            seconds: start.elapsed().as_secs_f64(),
            point: Chosen::Point(head.point),
            validation: head.validation,
            gradient: None,
            head: Fitted::Other(head),
            spec: Some(spec),
            parameters,
            trained_on: train.len(),
        })
    }

    /// The best linear head, and the seconds that the grid took.
    fn linear(
        &self,
        train: &Part<'_>,
        column: &str,
        seed: u64,
        title: &str,
    ) -> Result<(Trained, f64)> {
        let (train, validation) = (train.features(column)?, self.validation.features(column)?);
        let (classes, device) = (self.classes, self.device);
        let progress = |total: usize| self.printer.progress(title, total as u64);
        let start = Instant::now();
        let head = match self.recipe {
            AnyRecipe::Convex(recipe) => {
                let mut progress = progress(recipe.penalties.len());
                let on = |done, _| progress.at(done as u64, "penalties");
                let heads = fit_convex(&train, &validation, classes, recipe, device, on)?;
                progress.finish();
                best(&heads, &recipe.name)?.clone()
            }
            AnyRecipe::Descent(recipe) => {
                ensure!(
                    recipe.patience.is_none(),
                    "recipe {} has patience, which is for other heads than the linear probe: its heads \
                     train side by side to the end",
                    recipe.name
                );
                let mut progress = progress(recipe.epochs);
                let on = |done, _| progress.at(done as u64, "epochs");
                let heads = train_linear(&train, &validation, classes, recipe, seed, device, on)?;
                progress.finish();
                best(&heads, &recipe.name)?.clone()
            }
            AnyRecipe::Neighbours(recipe) => bail!("recipe {} is for --head knn", recipe.name),
        };
        Ok((head, start.elapsed().as_secs_f64()))
    }

    /// The weights of a head by name, and what its maps are standardised with.
    pub(super) fn state<'h>(
        &self,
        head: &'h TrainedHead,
        spec: &HeadSpec,
        recipe: &Recipe,
        group: &[String],
    ) -> Result<(BTreeMap<String, TensorData>, Option<&'h Moments>)> {
        let maps = self.train.maps(group)?.select(&[0]);
        Ok(self.training(spec, recipe, 0).state(head, &maps)?)
    }

    /// What a head does with the test samples, if there are any, and which it classifies right.
    pub(super) fn score(&self, fit: &Fit, group: &[String], seed: u64) -> Result<Option<Scored>> {
        let test = self.test.as_ref();
        let scored = test.map(|test| self.score_on(test, fit, group, seed));
        scored.transpose()
    }

    /// Which validation samples a head classifies right.
    pub(super) fn right_on_validation(
        &self,
        fit: &Fit,
        group: &[String],
        seed: u64,
    ) -> Result<Vec<bool>> {
        Ok(self.score_on(&self.validation, fit, group, seed)?.right)
    }

    fn score_on(&self, part: &Part<'_>, fit: &Fit, group: &[String], seed: u64) -> Result<Scored> {
        let scores = match (&fit.head, &fit.spec, self.recipe, group) {
            (Fitted::Linear(head), _, _, [column]) => {
                logits(head, &part.features(column)?, self.device)
            }
            (Fitted::Neighbours(bank, vote), _, _, [column]) => {
                bank.votes(&part.features(column)?, &[*vote])?.remove(0)
            }
            (Fitted::Other(head), Some(spec), AnyRecipe::Descent(recipe), _) => self
                .training(spec, recipe, seed)
                .logits(head, &part.maps(group)?)?,
            _ => bail!("such a head reads one column"),
        };
        let labels = part.image_labels();
        let scores = mean_of_rows(&scores, part.rows_each(), self.classes);
        Ok(Scored {
            right: diffrep_probe::right(&scores, &labels),
            metrics: Metrics::of(&scores, &labels, self.classes),
        })
    }
}

/// The scores of images, `[images, classes]`: each the mean of those of its `each` rows.
fn mean_of_rows(scores: &[f32], each: usize, classes: usize) -> Vec<f32> {
    if each == 1 {
        return scores.to_vec();
    }
    let images = scores.chunks_exact(each * classes);
    images
        .flat_map(|rows| {
            (0..classes).map(move |class| {
                let of_class = rows.iter().skip(class).step_by(classes);
                let sum: f64 = of_class.map(|score| f64::from(*score)).sum();
                (sum / each as f64) as f32
            })
        })
        .collect()
}

/// A classifier on some samples.
pub(super) struct Scored {
    pub(super) right: Vec<bool>,
    pub(super) metrics: Metrics,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_of_an_image_decide_by_their_mean() {
        // Two images in two rows, three classes.
        let scores = [
            3.0, 0.0, 1.0, /* */ 0.0, 4.0, 1.0, //
            0.0, 0.0, 5.0, /* */ 2.0, 0.0, 1.0,
        ];
        let found = mean_of_rows(&scores, 2, 3);
        assert_eq!(found, [1.5, 2.0, 1.0, 1.0, 0.0, 3.0]);
        assert_eq!(mean_of_rows(&scores, 1, 3), scores);
    }
}
