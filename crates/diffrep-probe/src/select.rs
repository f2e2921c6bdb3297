//! Choosing timestep, block and pool: the whole grid, or a search that reads few images at most
//! settings and more at few (successive halving, Jamieson & Talwalkar 2016, coarse to fine in blocks
//! and pools). The best setting depends on the data set (section 4.2 of the paper).

use std::collections::{BTreeMap, BTreeSet};

use diffrep_artifact::Sha256Hex;
use diffrep_datasets::{Dataset, balanced_subset};
use diffrep_extract::{ARITHMETIC, Gathered, Setting, Settings};
use diffrep_taps::{BlockIndex, Encoder};
use serde::{Deserialize, Serialize};

use crate::denoise::{denoised, shrunk};
use crate::study::all_images;
use crate::{
    Cell, Features, ProbeError, Progress, Recipe, Splits, StepKey, Study, Subject, choose,
};

/// Version of what a search does with the same scores.
const RULES: u32 = 2;

/// How a setting is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Search {
    /// Every setting on all images, one forward for each image and timestep.
    Grid,
    /// Three rounds. First every timestep and every second block at a middling pool, on an eighth of
    /// the training and a quarter of the validation images; then a quarter of the timesteps, the
    /// blocks that were best or lie beside them, all pools, on a quarter of the training images and as
    /// many validation images as keep the search to a quarter of the grid's forwards; then the best
    /// few settings of one timestep on half of the training images. What a setting scores is believed
    /// as far as chance lets (`denoise.rs`).
    Halving,
}

/// What a round did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Round {
    /// Training images of each class.
    pub train_per_class: usize,
    /// Validation images of each class.
    pub validation_per_class: usize,
    /// The settings with their validation scores.
    pub cells: Vec<Cell>,
}

/// A chosen setting, and what the choice cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selected {
    /// The best setting of the last round.
    pub setting: Setting,
    /// The rounds.
    pub rounds: Vec<Round>,
    /// Images that went through the network, once for each timestep.
    pub forwards: usize,
    /// Settings that a probe was trained on, over all rounds.
    pub fits: usize,
    /// Training samples of all fits together.
    pub fitted_samples: usize,
}

/// Settings of a round before their scores are known.
struct Plan {
    train: usize,
    validation: usize,
    settings: Vec<Setting>,
}

impl Study<'_> {
    /// The step of [`select`](Self::select).
    ///
    /// # Errors
    ///
    /// When a data set's fingerprint cannot be taken.
    #[allow(
        clippy::too_many_arguments,
        reason = "all that determines the result of a step"
    )]
    pub fn select_key<E>(
        &self,
        subject: &Subject<'_, E>,
        splits: &Splits,
        [train, validation]: [usize; 2],
        grid: &[Setting],
        search: Search,
        recipe: &Recipe,
        seed: u64,
    ) -> Result<StepKey, ProbeError> {
        let name = match search {
            Search::Grid => format!("grid-{}-seed{seed}", subject.name),
            Search::Halving => format!("halving-{}-seed{seed}", subject.name),
        };
        let determines = serde_json::json!({
            "encoder": subject.hash, "grid": grid, "search": search, "recipe": recipe, "seed": seed,
            "images": [splits.train.fingerprint()?, splits.validation.fingerprint()?],
            "splits": [splits.train.split().to_string(), splits.validation.split().to_string()],
            "per_class": [train, validation], "preprocess": self.preprocess,
            "timesteps": self.schedule.timestep_map.len(),
            "betas": Sha256Hex::hash_json(&self.schedule.betas)?,
            "timestep_scale": self.schedule.timestep_scale,
            "version": crate::COMPUTES, "rules": RULES, "arithmetic": ARITHMETIC,
        });
        StepKey::new(name, &determines)
    }

    /// Chooses among `grid` for images of `splits`, with so many of each class at most. `seed` names
    /// the noise, the draw of images and the probes' first weights.
    ///
    /// # Errors
    ///
    /// When an image, a shard or a probe fails, or a class has too few images.
    #[allow(
        clippy::too_many_arguments,
        reason = "a search, what it reads and how it is told"
    )]
    pub fn select<E: Encoder + Sync>(
        &self,
        subject: &Subject<'_, E>,
        splits: &Splits,
        [train, validation]: [usize; 2],
        grid: &[Setting],
        search: Search,
        recipe: &Recipe,
        seed: u64,
        on: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<Selected, ProbeError> {
        let taps = subject.encoder.taps();
        let images = [train, validation];
        let key = self.select_key(subject, splits, images, grid, search, recipe, seed)?;
        let name = key.name.clone();
        self.step(&key, on, |on| {
            let mut seen = Seen::default();
            let mut rounds: Vec<Round> = Vec::new();
            let mut cost = [0; 3];
            while let Some(plan) = next(search, [train, validation], grid, &rounds) {
                let round = rounds.len() + 1;
                let wanted = Settings::new(plan.settings.iter().copied(), &taps, self.schedule)
                    .map_err(diffrep_extract::ExtractError::from)?;
                let parts = [
                    ("train", &splits.train, plan.train),
                    ("validation", &splits.validation, plan.validation),
                ];
                let title = format!("{name}-round{round}");
                let mut chosen = Vec::new();
                for (part, dataset, per_class) in parts {
                    chosen.push((
                        part,
                        balanced_subset(dataset.labels(), per_class, seed)?,
                        dataset,
                    ));
                }
                for (t, ..) in wanted.groups() {
                    // All that one forward gives: a later round may ask for another block.
                    let at = grid.iter().copied().filter(|setting| setting.t == t);
                    let settings = Settings::new(at, &taps, self.schedule)
                        .map_err(diffrep_extract::ExtractError::from)?;
                    let step = t.map_or("clean".into(), |t| format!("t{t}"));
                    let new: Vec<(&str, Dataset)> = chosen
                        .iter()
                        .map(|(part, rows, dataset)| {
                            let rows = seen.new_rows(part, t, rows);
                            (*part, dataset.subset(&rows))
                        })
                        .filter(|(_, dataset)| !dataset.is_empty())
                        .collect();
                    let parts: Vec<(&str, &Dataset)> =
                        new.iter().map(|(part, dataset)| (*part, dataset)).collect();
                    let name = format!("{title}-{step}");
                    cost[0] += all_images(&parts);
                    let stores = self.extract(subject, &name, &parts, &settings, seed, on)?;
                    for ((part, _), store) in parts.iter().zip(stores) {
                        seen.stores
                            .entry(((*part).into(), t))
                            .or_default()
                            .push(store);
                    }
                }
                let read = |setting: &Setting| {
                    let of = |part: &str| seen.features(part, setting);
                    Ok((of("train")?, of("validation")?))
                };
                let classes = splits.train.class_names().len();
                let title = format!("{title}: probes");
                let cells = self.cells(&plan.settings, &read, classes, recipe, seed, &title, on)?;
                cost[1] += cells.len();
                cost[2] += cells.len() * chosen[0].1.len();
                rounds.push(Round {
                    train_per_class: plan.train,
                    validation_per_class: plan.validation,
                    cells,
                });
            }
            self.forget(&format!("{name}-round"));
            let setting = match (search, rounds.as_slice()) {
                (Search::Halving, [.., before, last]) => surest(&before.cells, &last.cells),
                (_, rounds) => rounds.last().and_then(|round| choose(&round.cells)),
            };
            let setting = setting.ok_or(ProbeError::Empty { split: "grid" })?.setting;
            let [forwards, fits, fitted_samples] = cost;
            Ok(Selected {
                setting,
                rounds,
                forwards,
                fits,
                fitted_samples,
            })
        })
    }

    /// Deletes the feature stores whose name starts so.
    fn forget(&self, prefix: &str) {
        let Ok(entries) = std::fs::read_dir(self.dir.join("features")) else {
            return;
        };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(prefix)
                && let Err(error) = std::fs::remove_dir_all(entry.path())
            {
                tracing::warn!("{} cannot be deleted: {error}", entry.path().display());
            }
        }
    }
}

/// What rounds so far have extracted, by split and timestep.
#[derive(Default)]
struct Seen {
    rows: BTreeMap<(String, Option<usize>), BTreeSet<usize>>,
    stores: BTreeMap<(String, Option<usize>), Vec<Gathered>>,
}

impl Seen {
    /// Those of `rows` that were not extracted at this timestep yet; they count as extracted now.
    fn new_rows(&mut self, part: &str, t: Option<usize>, rows: &[usize]) -> Vec<usize> {
        let known = self.rows.entry((part.into(), t)).or_default();
        rows.iter()
            .copied()
            .filter(|row| known.insert(*row))
            .collect()
    }

    /// The features of a setting, of all rounds' images.
    fn features(&self, part: &str, setting: &Setting) -> Result<Features, ProbeError> {
        let stores = self.stores.get(&(part.to_string(), setting.t));
        let mut all: Option<Features> = None;
        for gathered in stores.into_iter().flatten() {
            let more = Features::gathered(gathered, &setting.column())?;
            match &mut all {
                None => all = Some(more),
                Some(all) => {
                    all.values.extend(more.values);
                    all.labels.extend(more.labels);
                }
            }
        }
        all.ok_or(ProbeError::Empty { split: "search" })
    }
}

/// The next round, if there is one.
fn next(
    search: Search,
    [train, validation]: [usize; 2],
    grid: &[Setting],
    rounds: &[Round],
) -> Option<Plan> {
    let part = |count: usize, of: usize| count.div_euclid(of).max(1);
    let plan = |of_train, of_validation, settings| {
        Some(Plan {
            train: part(train, of_train),
            validation: part(validation, of_validation),
            settings,
        })
    };
    match (search, rounds) {
        (Search::Grid, []) => plan(1, 1, grid.to_vec()),
        (Search::Halving, []) => plan(8, 4, coarse(grid)),
        (Search::Halving, [first]) => Some(Plan {
            train: part(train, 4),
            validation: affordable([train, validation], grid),
            settings: around(&first.cells, grid),
        }),
        (Search::Halving, [_, second]) => Some(Plan {
            train: part(train, 2),
            validation: second.validation_per_class,
            settings: few(&second.cells, grid),
        }),
        _ => None,
    }
}

/// Validation images of each class for the second and third round: as many as a quarter of the
/// grid's forwards pays for, after the training images of all rounds and the first round's.
fn affordable([train, validation]: [usize; 2], grid: &[Setting]) -> usize {
    let part = |count: usize, of: usize| count.div_euclid(of).max(1);
    let steps: BTreeSet<Option<usize>> = grid.iter().map(|setting| setting.t).collect();
    let (steps, kept) = (steps.len(), steps.len().div_ceil(4));
    let budget = steps * (train + validation) / 4;
    let first = steps * (part(train, 8) + part(validation, 4));
    let images = kept * (part(train, 4) - part(train, 8)) + part(train, 2) - part(train, 4);
    let rest = budget.saturating_sub(first + images);
    (part(validation, 4) + rest / kept.max(1)).min(validation)
}

/// The best of the last round, in the light of what the round before let expect.
fn surest<'a>(before: &[Cell], last: &'a [Cell]) -> Option<&'a Cell> {
    let known: Vec<(Setting, f64)> = before
        .iter()
        .map(|cell| cell.setting)
        .zip(denoised(before))
        .collect();
    let expected: Option<Vec<f64>> = last
        .iter()
        .map(|cell| {
            let found = known.iter().find(|(setting, _)| *setting == cell.setting);
            found.map(|(_, score)| *score)
        })
        .collect();
    let scores = shrunk(last, &expected?, 1);
    let best = scores
        .iter()
        .enumerate()
        .max_by(|(i, a), (j, b)| a.total_cmp(b).then(last[*j].dim.cmp(&last[*i].dim)));
    best.map(|(index, _)| &last[index])
}

/// Every timestep, every second block, the middle one of its pools.
fn coarse(grid: &[Setting]) -> Vec<Setting> {
    let blocks: BTreeSet<BlockIndex> = grid.iter().map(|s| s.block).collect();
    let every: BTreeSet<BlockIndex> = blocks.into_iter().step_by(2).collect();
    let mut groups: BTreeMap<(Option<usize>, BlockIndex), Vec<Setting>> = BTreeMap::new();
    for setting in grid.iter().filter(|s| every.contains(&s.block)) {
        let group = groups.entry((setting.t, setting.block)).or_default();
        group.push(*setting);
    }
    let middle = groups.into_values().map(|mut pools| {
        pools.sort_by_key(|s| s.pool);
        pools[pools.len() / 2]
    });
    middle.collect()
}

/// All pools of the best blocks, and of those beside them, at the best quarter of the timesteps: at
/// most a tenth of the grid.
fn around(cells: &[Cell], grid: &[Setting]) -> Vec<Setting> {
    let scores = denoised(cells);
    let mut steps: Vec<(Option<usize>, f64)> = Vec::new();
    for (cell, &score) in cells.iter().zip(&scores) {
        let t = cell.setting.t;
        match steps.iter_mut().find(|(step, _)| *step == t) {
            Some((_, best)) => *best = best.max(score),
            None => steps.push((t, score)),
        }
    }
    steps.sort_by(|a, b| b.1.total_cmp(&a.1));
    steps.truncate(steps.len().div_ceil(4));
    let blocks: BTreeSet<BlockIndex> = grid.iter().map(|s| s.block).collect();
    let mut ranked: Vec<(f64, Option<usize>, BlockIndex)> = Vec::new();
    for &(t, _) in &steps {
        let score = |block: BlockIndex| {
            let mut scored = cells.iter().zip(&scores);
            let found = scored.find(|(c, _)| c.setting.t == t && c.setting.block == block);
            found.map(|(_, score)| *score)
        };
        for &block in &blocks {
            let before = blocks.range(..block).next_back().and_then(|b| score(*b));
            let after = blocks.range(block..).nth(1).and_then(|b| score(*b));
            // A block that was not tried is as good as those beside it.
            let sides: Vec<f64> = before.into_iter().chain(after).collect();
            let own = score(block).or_else(|| {
                let count = sides.len();
                (count > 0).then(|| sides.iter().sum::<f64>() / count as f64)
            });
            ranked.extend(own.map(|own| (own, t, block)));
        }
    }
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    let limit = (grid.len() / 10).max(1);
    let mut chosen = Vec::new();
    for (_, t, block) in ranked {
        let pools: Vec<Setting> = grid
            .iter()
            .copied()
            .filter(|s| s.t == t && s.block == block)
            .collect();
        if !chosen.is_empty() && chosen.len() + pools.len() > limit {
            break;
        }
        chosen.extend(pools);
    }
    chosen
}

/// The best settings of the best timestep: at most a sixtieth of the grid, but two.
fn few(cells: &[Cell], grid: &[Setting]) -> Vec<Setting> {
    let scores = denoised(cells);
    let mut best: Vec<(&Cell, f64)> = cells.iter().zip(scores).collect();
    best.sort_by(|(a, x), (b, y)| y.total_cmp(x).then(a.dim.cmp(&b.dim)));
    let t = best.first().map(|(cell, _)| cell.setting.t);
    best.retain(|(cell, _)| Some(cell.setting.t) == t);
    best.truncate((grid.len() / 60).max(2));
    best.into_iter().map(|(cell, _)| cell.setting).collect()
}
