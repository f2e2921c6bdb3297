//! `kind = "tune"`: trainings with the diffusion model in the loop (Table 2 of the paper).

use std::time::Instant;

use anyhow::Result;
use diffrep_datasets::balanced_subset;
use diffrep_heads::FeedbackSpec;
use diffrep_plan::{Experiment, PlannedTuning, Trained, TuneScale};
use diffrep_pool::PoolSize;
use diffrep_probe::{Augment, Reading, Recipe, Splits, Tune, TuneContender};
use diffrep_taps::{BlockIndex, Encoder};

use super::contest::{Contest, Words};
use super::heads::{cut, head_spec};
use super::reader::Reader;
use super::{Ground, Place, setting, splits, watched};

pub(super) const SCHEMA: (&str, u32) = ("diffrep.tune", 1);

pub(super) const WORDS: Words = Words {
    schema: SCHEMA,
    one: "training",
    many: "trainings",
    on: "from the same diffusion model",
    features: "computed in each epoch, with new noise and flips where the name says so",
    protocol: "Images go through the network in each epoch. Block, rate and decay are chosen on the \
        validation images with the first seed. What the head reads is standardised with means and \
        deviations of the untrained network's maps. The last epoch's weights are scored. All \
        trainings see the same images; the test images carry the same noise for all. Intervals \
        resample test images: they do not cover another training of the diffusion model.",
};

pub(super) fn run(
    experiment: &Experiment<TuneScale>,
    scale_name: &str,
    place: &Place<'_>,
) -> Result<()> {
    let start = Instant::now();
    let printer = place.printer;
    let scale = experiment.scale(scale_name)?;
    let ground = Ground::open(&scale.checkpoint, scale_name, place)?;
    let mut splits = splits(
        &scale.data,
        place,
        scale.train_per_class,
        scale.test_per_class,
    )?;
    if let Some(count) = scale.validation_per_class {
        splits = cut_validation(&splits, count)?;
    }
    let blocks = ground.network.taps().len();
    let Reader { study, subject } = ground.reader(place);
    let mut contest = Contest::new(WORDS, &scale.seeds);
    // What is wrong with a later one is said before the first is trained.
    let contenders = scale.contenders.iter();
    let contenders = contenders
        .map(|planned| Ok((planned, contender(planned, scale, blocks)?)))
        .collect::<Result<Vec<_>>>()?;
    for (planned, contender) in contenders {
        let scores = watched(printer, |on| {
            study.tune(&subject, &splits, &contender, &scale.seeds, on)
        })?;
        contest.enter(&planned.name, &contender.recipe, scores)?;
    }
    let finished = contest.finish(
        experiment, scale_name, &ground, &splits, place, place.dir, start,
    )?;
    finished.show(place.printer);
    Ok(())
}

/// The same splits with so many validation images of each class.
pub(super) fn cut_validation(splits: &Splits, count: usize) -> Result<Splits> {
    let rows = balanced_subset(splits.validation.labels(), count, 0)?;
    Ok(Splits {
        validation: splits.validation.subset(&rows),
        ..splits.clone()
    })
}

pub(super) fn contender(
    planned: &PlannedTuning,
    scale: &TuneScale,
    blocks: usize,
) -> Result<TuneContender> {
    let recipe = Recipe::named(planned.recipe.as_ref().unwrap_or(&scale.recipe))?;
    let pool = PoolSize::new(planned.pool)?;
    let index =
        |block: usize| -> Result<BlockIndex> { Ok(setting(None, block, planned.pool)?.block) };
    let candidates = planned.blocks.iter().map(|&block| {
        let reading = Reading {
            t: Some(scale.timestep),
            blocks: vec![index(block)?],
            pool,
        };
        Ok((reading, head_spec(&planned.head, pool)?))
    });
    Ok(TuneContender {
        name: planned.name.clone(),
        tune: match &planned.train {
            Trained::Head => Tune::Head,
            Trained::Feedback { blocks: late } if late.is_empty() => Tune::Feedback {
                blocks: FeedbackSpec::usual(blocks).blocks,
            },
            Trained::Feedback { blocks: late } => Tune::Feedback {
                blocks: late.iter().copied().map(index).collect::<Result<_>>()?,
            },
            &Trained::Encoder { rate, recompute } => Tune::Encoder { rate, recompute },
        },
        candidates: candidates.collect::<Result<_>>()?,
        augment: Augment {
            fresh_noise: planned.fresh_noise,
            flip: planned.flip,
            view: cut(planned.view, &recipe),
        },
        recipe,
        ema: None,
        parts: scale.parts,
    })
}

#[cfg(test)]
mod tests {
    use diffrep_plan::{PAPER, Plan};

    use super::*;

    /// Its value is held to the same published one.
    #[test]
    fn the_frozen_row_of_table_2_is_tuned_as_that_of_table_1() {
        let (Plan::Tune(table2), Plan::Heads(table1)) = (
            Plan::named("table2").unwrap(),
            Plan::named("table1").unwrap(),
        ) else {
            panic!("the tables are of other kinds");
        };
        let scale = table2.scale(PAPER).unwrap();
        let recipe = |at: usize| contender(&scale.contenders[at], scale, 37).unwrap().recipe;
        let linear = &table1.scale(PAPER).unwrap().linear_recipe;
        assert_eq!(recipe(0), Recipe::named(linear).unwrap());
        assert_eq!(recipe(0).learning_rates, [1e-4, 1e-3, 1e-2]);
        // The others have that of the scale.
        assert_eq!(recipe(1), Recipe::named("finetune").unwrap());
    }
}
