//! `kind = "select"`: a search for timestep, block and pool against the whole grid.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use diffrep_artifact::{Record, Sha256Hex};
use diffrep_datasets::balanced_subset;
use diffrep_extract::{Setting, Settings};
use diffrep_plan::{Described, Experiment, SelectScale};
use diffrep_probe::{Recipe, Search, Selected, Subject};
use diffrep_report::{
    Answer, Block, Cell, Column, Report, Section, Table, VerdictLine, to_terminal_table,
};
use diffrep_stats::Spread;
use diffrep_taps::{Encoder, TapInfo};
use serde::{Deserialize, Serialize};

use super::finished::Finished;
use super::protocol::{PROTOCOL, made_from};
use super::told::{self, Found, Known, Standing};
use super::{Ground, Place, setting, splits, watched};

pub(super) const SCHEMA: (&str, u32) = ("diffrep.select", 1);
const PERCENT: f64 = 100.0;

/// What `results.json` holds. Nothing is printed that is not in here.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Results {
    scale: String,
    settings: SelectScale,
    /// What the experiment says of itself, where it is none of this program's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    experiment: Option<Described>,
    grid: usize,
    images: [usize; 2],
    final_images: usize,
    test_images: usize,
    draws: Vec<Draw>,
}

/// Grid and search with one seed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Draw {
    seed: u64,
    grid: Selected,
    search: Selected,
    /// Test accuracy of the grid's and of the search's setting, mean over the final seeds.
    test: [f64; 2],
    /// Seconds of grid and search; absent where a step was done before.
    seconds: [Option<f64>; 2],
}

impl Draw {
    /// Points that the search loses.
    fn loss(&self) -> f64 {
        (self.test[0] - self.test[1]) * PERCENT
    }

    /// Shares of the grid: forwards, fits, training samples of fits.
    fn cost(&self) -> [f64; 3] {
        let share = |ours: usize, all: usize| ours as f64 / all.max(1) as f64;
        [
            share(self.search.forwards, self.grid.forwards),
            share(self.search.fits, self.grid.fits),
            share(self.search.fitted_samples, self.grid.fitted_samples),
        ]
    }
}

pub(super) fn run(
    experiment: &Experiment<SelectScale>,
    scale_name: &str,
    place: &Place<'_>,
) -> Result<()> {
    let start = Instant::now();
    let &Place {
        dir, spec, printer, ..
    } = place;
    let scale = experiment.scale(scale_name)?;
    let ground = Ground::open(&scale.checkpoint, scale_name, place)?;
    let splits = splits(&scale.data, place, None, scale.test_per_class)?;
    let mut final_splits = splits.clone();
    if let Some(count) = scale.final_train_per_class {
        let rows = balanced_subset(splits.train.labels(), count, 0)?;
        final_splits.train = splits.train.subset(&rows);
    }
    let recipe = Recipe::named(&scale.recipe)?;
    let final_recipe = Recipe::named(&scale.final_recipe)?;
    let taps = ground.network.taps();
    let grid = grid(&scale.timesteps, &scale.blocks, &scale.pools, &taps)?;
    let study = ground.study(place);
    let subject = Subject {
        name: "diffusion".into(),
        encoder: &ground.network,
        hash: ground.sha256.to_string(),
    };
    let images = [scale.train_per_class, scale.validation_per_class];
    let mut tests: BTreeMap<Setting, f64> = BTreeMap::new();
    let mut draws = Vec::new();
    for &seed in &scale.seeds {
        let mut seconds = [None; 2];
        let mut select = |search: Search| {
            let place = usize::from(search != Search::Grid);
            let begin = Instant::now();
            let mut computed = false;
            let selected = watched(printer, |on| {
                study.select(
                    &subject,
                    &splits,
                    images,
                    &grid,
                    search,
                    &recipe,
                    seed,
                    &mut |at| {
                        computed |= matches!(at, diffrep_probe::Progress::At { .. });
                        on(at);
                    },
                )
            });
            seconds[place] = computed.then(|| begin.elapsed().as_secs_f64());
            selected
        };
        let (full, search) = (select(Search::Grid)?, select(Search::Halving)?);
        let mut test = [0.0; 2];
        for (slot, setting) in test.iter_mut().zip([full.setting, search.setting]) {
            *slot = match tests.get(&setting) {
                Some(known) => *known,
                None => {
                    let settings = Settings::new([setting], &taps, &ground.schedule)?;
                    let subject = Subject {
                        name: setting.column(),
                        ..subject.clone()
                    };
                    let mut sum = 0.0;
                    for &seed in &scale.final_seeds {
                        let (score, _) = watched(printer, |on| {
                            study.score(&subject, &final_splits, &settings, &final_recipe, seed, on)
                        })?;
                        sum += score.test;
                    }
                    let mean = sum / scale.final_seeds.len() as f64;
                    tests.insert(setting, mean);
                    mean
                }
            };
        }
        draws.push(Draw {
            seed,
            grid: full,
            search,
            test,
            seconds,
        });
    }
    let results = Results {
        scale: scale_name.into(),
        settings: scale.clone(),
        experiment: place.words.clone(),
        grid: grid.len(),
        images,
        final_images: final_splits.train.len(),
        test_images: splits.test.len(),
        draws,
    };
    let record = ground.record(
        SCHEMA,
        Sha256Hex::hash_json(scale)?,
        &splits,
        scale.seeds.first().copied(),
        spec,
        results,
    )?;
    let report = report(&experiment.title, &record);
    let table = to_terminal_table(&table(&record.data));
    Finished::write(&record, &report, table, dir, start)?.show(printer);
    Ok(())
}

/// Every timestep, block and pool, but pools larger than their block's map.
pub(crate) fn grid(
    timesteps: &[usize],
    blocks: &[usize],
    pools: &[usize],
    taps: &[TapInfo],
) -> Result<Vec<Setting>> {
    let all: Vec<usize> = (1..=taps.len()).collect();
    let blocks = if blocks.is_empty() { &all } else { blocks };
    let mut grid = Vec::new();
    for &t in timesteps {
        for &block in blocks {
            for &pool in pools {
                let setting = setting(Some(t), block, pool)?;
                let tap = taps.get(setting.block.position());
                if tap.is_none_or(|tap| pool <= tap.height.min(tap.width)) {
                    grid.push(setting);
                }
            }
        }
    }
    Ok(grid)
}

fn report(title: &str, record: &Record<Results>) -> Report {
    let results = &record.data;
    let allowed = &results.settings;
    let draws = &results.draws;
    let kept = draws
        .iter()
        .filter(|d| d.loss() <= allowed.allowed_loss)
        .count();
    let highest = |place: usize| draws.iter().map(|d| d.cost()[place]).fold(0.0, f64::max);
    let answer = |yes: bool| if yes { Answer::Yes } else { Answer::No };
    let needed = (draws.len() * 9).div_ceil(10);
    let verdicts = vec![
        VerdictLine {
            claim: format!(
                "The search spends at most {:.0} % of the grid's forwards and fits",
                allowed.allowed_cost * PERCENT
            ),
            answer: answer(
                highest(0) <= allowed.allowed_cost && highest(1) <= allowed.allowed_cost,
            ),
            evidence: format!(
                "at most {:.1} % of the forwards, {:.1} % of the fits, {:.1} % of the samples that \
                 fits read",
                highest(0) * PERCENT,
                highest(1) * PERCENT,
                highest(2) * PERCENT
            ),
        },
        VerdictLine {
            claim: format!(
                "It loses at most {} points of test accuracy on at least 9 of 10 seeds",
                allowed.allowed_loss
            ),
            answer: match draws.len() {
                10.. => answer(kept >= needed),
                _ => Answer::Undecided,
            },
            evidence: format!("on {kept} of {} seeds", draws.len()),
        },
    ];
    Report {
        title: title.into(),
        subtitle: format!(
            "A search that spends a quarter of the grid's work, against all {} settings, with {} \
             seeds.",
            results.grid,
            draws.len()
        ),
        verdicts,
        sections: vec![
            Section {
                title: "What was chosen".into(),
                blocks: vec![Block::Table(table(results))],
            },
            protocol(record),
        ],
    }
}

fn table(results: &Results) -> Table {
    let rows = results.draws.iter().map(|draw| {
        let [forwards, fits, samples] = draw.cost();
        let percent = |share: f64| Cell::number(share * PERCENT, 1);
        let times = match draw.seconds {
            [Some(grid), Some(search)] => Cell::number(grid / search, 1),
            _ => Cell::missing(),
        };
        vec![
            Cell::text(draw.seed.to_string()),
            Cell::text(draw.grid.setting.to_string()),
            Cell::number(draw.test[0] * PERCENT, 2),
            Cell::text(draw.search.setting.to_string()),
            Cell::number(draw.test[1] * PERCENT, 2),
            Cell::text(format!("{:+.2}", -draw.loss())),
            percent(forwards),
            percent(fits),
            percent(samples),
            times,
        ]
    });
    Table {
        caption: format!(
            "Grid and search on the same {} training and {} validation images of each class; the chosen \
             settings on the {} test images, with a probe on {} training images.",
            results.images[0], results.images[1], results.test_images, results.final_images
        ),
        columns: vec![
            Column::number("seed"),
            Column::text("grid chose"),
            Column::number("test").with_unit("%"),
            Column::text("search chose"),
            Column::number("test").with_unit("%"),
            Column::number("search ahead by").with_unit("points"),
            Column::number("forwards").with_unit("% of grid"),
            Column::number("fits").with_unit("% of grid"),
            Column::number("samples fitted").with_unit("% of grid"),
            Column::number("times faster"),
        ],
        rows: rows.collect(),
        highlight: Vec::new(),
    }
}

fn protocol(record: &Record<Results>) -> Section {
    let s = &record.data.settings;
    let mut pairs = vec![
        ("timesteps".to_string(), format!("{:?}", s.timesteps)),
        ("pools".into(), format!("{:?}", s.pools)),
        ("recipe of grid and search".into(), s.recipe.clone()),
        ("recipe of the final probe".into(), s.final_recipe.clone()),
        (
            "seeds of the final probe".into(),
            format!("{:?}", s.final_seeds),
        ),
    ];
    pairs.extend(made_from(&record.provenance));
    Section {
        title: PROTOCOL.into(),
        blocks: vec![
            Block::Paragraph(
                "A seed names the noise, the images drawn and the probes' first weights; grid and \
                 search share it. A forward is one image at one timestep, up to the last block of the \
                 grid. The search never reads test images. The final probe has the same seeds for both, \
                 so equal settings have equal accuracy. An eighth of the training and a quarter of the \
                 validation images go through the network at every timestep, and every second block is \
                 probed at a middling pool; a quarter of the timesteps is left, where the best blocks and \
                 those beside them are probed at all pools on twice as many training images, and on as \
                 many validation images as keep the search to a quarter of the forwards; the best few \
                 settings of one timestep are probed on half of the training images. The search believes \
                 a score as far as it differs from what timestep, block and pool let expect by more than \
                 chance."
                    .into(),
            ),
            Block::KeyValues(pairs),
        ],
    }
}

/// What a record tells.
pub(super) fn found(path: &Path, known: Known<'_>) -> Result<Found> {
    let record: Record<Results> = told::record(path, SCHEMA)?;
    let mut standings = Vec::new();
    for (place, name) in ["setting of the grid", "setting of the search"]
        .into_iter()
        .enumerate()
    {
        let tests: Vec<f64> = record
            .data
            .draws
            .iter()
            .map(|draw| draw.test[place])
            .collect();
        standings.push(Standing {
            name: name.into(),
            test: Spread::of(&tests)?,
            correct: Vec::new(),
            control: None,
        });
    }
    Ok(Found {
        standings,
        ..report(known.title, &record).into()
    })
}
