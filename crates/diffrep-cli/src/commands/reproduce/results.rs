//! What `results.json` holds. Nothing is printed or plotted that is not in here.

use anyhow::{Context, Result};
use diffrep_datasets::Preprocess;
use diffrep_extract::Setting;
use diffrep_plan::{Described, Experiment, ProbeScale, Published};
use diffrep_pretrain::TrainingRecord;
use diffrep_probe::{Cell, Final, Recipe, Splits};
use diffrep_schedule::ScheduleKind;
use diffrep_stats::{
    PairedDifference, Spread, Verdict, mcnemar, paired_bootstrap, paired_bootstrap_seeds, verdict,
};
use diffrep_taps::TapInfo;
use serde::{Deserialize, Serialize};

use super::protocol::ends_of_grid;

pub(crate) const SCHEMA: (&str, u32) = ("diffrep.results", 2);

/// Bootstrap resamples and level of every interval.
const RESAMPLES: usize = 10_000;
const LEVEL: f64 = 0.95;
/// Cells whose McNemar test against the best gives a p of at least this are not told apart from it.
const NEAR: f64 = 0.05;

/// Everything an experiment found at one scale.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Results {
    pub(crate) scale: String,
    pub(crate) settings: ProbeScale,
    /// What the experiment says of itself, where it is none of this program's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) experiment: Option<Described>,
    pub(crate) published: Vec<Published>,
    pub(crate) recipe: Recipe,
    pub(crate) sweep_recipe: Recipe,
    pub(crate) taps: Vec<TapInfo>,
    pub(crate) data: DataCounts,
    pub(crate) encoding: Encoding,
    /// Bootstrap resamples behind every interval.
    pub(crate) resamples: usize,
    /// How firm the choice of the diffusion model's setting is.
    pub(crate) choice: Option<Choice>,
    /// The diffusion model first, then the controls.
    pub(crate) subjects: Vec<SubjectResult>,
    pub(crate) summary: Vec<Summary>,
    pub(crate) claims: Vec<Claim>,
}

/// How many images each split has, and what they are.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataCounts {
    pub(crate) classes: usize,
    pub(crate) train: usize,
    pub(crate) validation: usize,
    pub(crate) test: usize,
    pub(crate) validation_sha256: String,
    pub(crate) test_sha256: String,
}

/// How an image becomes features, and what trained the encoder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Encoding {
    pub(crate) preprocess: Preprocess,
    pub(crate) schedule: ScheduleKind,
    pub(crate) timesteps: usize,
    /// The record of the diffusion model's own training, where its file carries one.
    pub(crate) training: Option<TrainingRecord>,
}

/// The best cell of a sweep, the cells that cannot be told apart from it, and the ends of the grid
/// that it lies on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Choice {
    pub(crate) setting: Setting,
    pub(crate) cells: usize,
    pub(crate) near: Vec<Setting>,
    pub(crate) edges: Vec<String>,
}

/// Sweep and final scores of one encoder, or of several random networks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubjectResult {
    pub(crate) name: String,
    /// One sweep for each network that was swept.
    pub(crate) cells: Vec<Vec<Cell>>,
    pub(crate) finals: Vec<Final>,
}

/// A row of the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Summary {
    pub(crate) name: String,
    pub(crate) settings: Vec<Setting>,
    pub(crate) features: usize,
    /// Test accuracy over seeds, as a share.
    pub(crate) test: Spread,
    /// Diffusion minus this, on the same test images.
    pub(crate) behind: Option<PairedDifference>,
}

/// A statement with its evidence and verdict.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claim {
    pub(crate) text: String,
    pub(crate) measured_on: String,
    pub(crate) difference: PairedDifference,
    pub(crate) verdict: Verdict,
}

impl Results {
    pub(crate) fn new(
        scale: &str,
        experiment: &Experiment<ProbeScale>,
        recipe: &Recipe,
        sweep_recipe: &Recipe,
        taps: Vec<TapInfo>,
        encoding: Encoding,
        subjects: Vec<SubjectResult>,
        splits: &Splits,
    ) -> Result<Self> {
        let correct = |subject: &SubjectResult| -> Vec<Vec<bool>> {
            subject
                .finals
                .iter()
                .map(|score| score.correct.0.clone())
                .collect()
        };
        let diffusion = subjects
            .first()
            .context("the diffusion model comes first")?;
        let ours = correct(diffusion);
        let summary = subjects
            .iter()
            .enumerate()
            .map(|(i, subject)| {
                let accuracies: Vec<f64> = subject.finals.iter().map(|score| score.test).collect();
                let mut settings: Vec<Setting> = subject.finals.iter().map(|f| f.setting).collect();
                settings.dedup();
                Ok(Summary {
                    name: subject.name.clone(),
                    settings,
                    features: subject.finals.first().map_or(0, |score| score.dim),
                    test: Spread::of(&accuracies)?,
                    behind: (i > 0)
                        .then(|| {
                            paired_bootstrap_seeds(&ours, &correct(subject), RESAMPLES, LEVEL, 0)
                        })
                        .transpose()?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let swept = diffusion.cells.first().map_or(&[][..], Vec::as_slice);
        let mut claims = against_controls(&summary);
        claims.extend(shape(swept, taps.len())?);
        let settings = experiment.scale(scale)?;
        let choice = choice(swept, &diffusion.finals, settings, recipe, &taps)?;
        Ok(Self {
            scale: scale.into(),
            settings: settings.clone(),
            experiment: None,
            encoding,
            resamples: RESAMPLES,
            choice,
            published: experiment.published.clone(),
            recipe: recipe.clone(),
            sweep_recipe: sweep_recipe.clone(),
            data: DataCounts {
                classes: splits.train.class_names().len(),
                train: splits.train.len(),
                validation: splits.validation.len(),
                test: splits.test.len(),
                validation_sha256: splits.validation.fingerprint()?.to_string(),
                test_sha256: splits.test.fingerprint()?.to_string(),
            },
            taps,
            subjects,
            summary,
            claims,
        })
    }
}

/// What a reader must know before trusting that the best cell is the best.
fn choice(
    cells: &[Cell],
    finals: &[Final],
    scale: &ProbeScale,
    recipe: &Recipe,
    taps: &[TapInfo],
) -> Result<Option<Choice>> {
    let Some(best) = diffrep_probe::choose(cells) else {
        return Ok(None);
    };
    let mut near = Vec::new();
    for cell in cells.iter().filter(|cell| cell.setting != best.setting) {
        if mcnemar(&best.correct.0, &cell.correct.0)?.p_value >= NEAR {
            near.push(cell.setting);
        }
    }
    let mut edges = Vec::new();
    let t = best.setting.t.unwrap_or(0);
    if scale.timesteps.len() > 1 && t > 0 && scale.timesteps.iter().all(|&other| t <= other) {
        edges.push(format!("t = {t} is the smallest timestep swept"));
    }
    if scale.timesteps.len() > 1 && scale.timesteps.iter().all(|&other| t >= other) {
        edges.push(format!("t = {t} is the largest timestep swept"));
    }
    let pool = best.setting.pool.get();
    let larger =
        |cell: &Cell| cell.setting.block == best.setting.block && cell.setting.pool.get() > pool;
    let whole = taps
        .iter()
        .any(|tap| tap.block == best.setting.block && tap.height.min(tap.width) == pool);
    if scale.pools.len() > 1 && !whole && !cells.iter().any(larger) {
        edges.push(format!(
            "pool {pool} is the largest pool swept at block {}",
            best.setting.block
        ));
    }
    let ends = ends_of_grid(recipe, finals.iter().map(|score| score.point));
    edges.extend(ends.into_iter().map(|(end, count)| {
        let of = finals.len();
        format!("{end} was chosen with {count} of {of} seeds")
    }));
    Ok(Some(Choice {
        setting: best.setting,
        cells: cells.len(),
        near,
        edges,
    }))
}

pub(super) fn against_controls(summary: &[Summary]) -> Vec<Claim> {
    let test = "test images, each seed averaged";
    summary
        .iter()
        .filter_map(|row| {
            let difference = row.behind?;
            let text = match row.name.as_str() {
                "pixels" => "Diffusion features classify better than raw pixels".to_string(),
                "random" => {
                    "Diffusion features classify better than the same network with random weights"
                        .into()
                }
                other => format!("Diffusion features classify better than {other}"),
            };
            let verdict = verdict(&difference, 0.0);
            Some(Claim {
                text,
                measured_on: test.into(),
                difference,
                verdict,
            })
        })
        .collect()
}

/// The shape that the paper reports (Figure 2): a block in the middle is best, and accuracy falls
/// when the image is mostly noise. Measured on the validation images of the sweep, where the best
/// cell was also chosen.
fn shape(cells: &[Cell], blocks: usize) -> Result<Vec<Claim>> {
    let on = "validation images of the sweep, on which the best cell was also chosen";
    let mut claims = Vec::new();
    let Some(best) = diffrep_probe::choose(cells) else {
        return Ok(claims);
    };
    let mut claim = |text: String, better: &Cell, worse: &Cell| -> Result<()> {
        let difference =
            paired_bootstrap(&better.correct.0, &worse.correct.0, RESAMPLES, LEVEL, 0)?;
        let verdict = verdict(&difference, 0.0);
        claims.push(Claim {
            text,
            measured_on: on.into(),
            difference,
            verdict,
        });
        Ok(())
    };
    let best_of = |keep: &dyn Fn(&Cell) -> bool| {
        let kept: Vec<Cell> = cells.iter().filter(|cell| keep(cell)).cloned().collect();
        diffrep_probe::choose(&kept).cloned()
    };
    let t = best.setting.t;
    let inside = best_of(&|c| c.setting.t == t && (2..blocks).contains(&c.setting.block.get()));
    for (end, block) in [("first", 1), ("last", blocks)] {
        let outer = best_of(&|c| c.setting.t == t && c.setting.block.get() == block);
        if let (Some(inside), Some(outer)) = (&inside, outer) {
            let text = format!(
                "The best middle block ({}) beats the {end} block ({block}), each at its best pool",
                inside.setting.block
            );
            claim(text, inside, &outer)?;
        }
    }
    let late = best_of(&|c| c.setting.t.is_some_and(|t| t >= 500));
    let early = best_of(&|c| c.setting.t.is_some_and(|t| t < 500));
    if let (Some(early), Some(late)) = (early, late) {
        let (a, b) = (early.setting.t.unwrap_or(0), late.setting.t.unwrap_or(0));
        claim(
            format!("The best early step (t = {a}) beats the best step of t >= 500 (t = {b})"),
            &early,
            &late,
        )?;
    }
    Ok(claims)
}
