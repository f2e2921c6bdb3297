//! What is to be believed of scores on few validation images.
//!
//! Every setting is scored on the same images, so most of a score's error is shared and decides
//! nothing; the rest is what makes the best of many settings a lucky one. It is taken out as far as
//! the scores themselves say: a score that differs from what its timestep, block and pool let expect
//! is believed as far as such differences are larger than chance makes them (Efron & Morris 1975).

use crate::Cell;

/// Rounds over the factors; the fit changes by less than any score's last digit long before.
const SWEEPS: usize = 100;

/// The scores, of which chance is taken out: each is moved towards the sum of the effects of its
/// timestep, its block and its pool, fitted to all of `cells`.
pub(crate) fn denoised(cells: &[Cell]) -> Vec<f64> {
    let factors = [
        levels(cells.iter().map(|cell| cell.setting.t)),
        levels(cells.iter().map(|cell| cell.setting.block)),
        levels(cells.iter().map(|cell| cell.setting.pool)),
    ];
    let scores: Vec<f64> = cells.iter().map(|cell| cell.accuracy).collect();
    let fit = additive(&scores, &factors);
    let effects: usize = factors.iter().map(|of| levels_in(of) - 1).sum();
    shrunk(cells, &fit, effects + 1)
}

/// Scores moved towards what was `expected` of them, which may be off by the same for all; `fitted`
/// is how many numbers were fitted to the scores to expect them.
pub(crate) fn shrunk(cells: &[Cell], expected: &[f64], fitted: usize) -> Vec<f64> {
    let count = cells.len() as f64;
    let scores = cells.iter().map(|cell| cell.accuracy);
    let offset = scores
        .clone()
        .zip(expected)
        .map(|(s, e)| s - e)
        .sum::<f64>()
        / count;
    let surprise: Vec<f64> = scores
        .zip(expected)
        .map(|(score, expected)| score - expected - offset)
        .collect();
    let free = cells.len().saturating_sub(fitted);
    if free == 0 {
        return cells.iter().map(|cell| cell.accuracy).collect();
    }
    let spread = surprise.iter().map(|s| s * s).sum::<f64>() / free as f64;
    let believed = if spread > 0.0 {
        (1.0 - chance(cells) / spread).max(0.0)
    } else {
        0.0
    };
    expected
        .iter()
        .zip(&surprise)
        .map(|(expected, surprise)| expected + offset + believed * surprise)
        .collect()
}

/// The variance that chance gives a score beside what all settings share: image by image, how far
/// settings disagree about it.
fn chance(cells: &[Cell]) -> f64 {
    let images = cells.iter().map(|cell| cell.correct.0.len()).min();
    let images = images.unwrap_or(0);
    if images == 0 || cells.len() < 2 {
        return 0.0;
    }
    let count = cells.len() as f64;
    let mean = cells.iter().map(|cell| cell.accuracy).sum::<f64>() / count;
    let mut sum = 0.0;
    for image in 0..images {
        let right = |cell: &Cell| f64::from(u8::from(cell.correct.0[image]));
        let easy = cells.iter().map(right).sum::<f64>() / count;
        let off = |cell: &Cell| right(cell) - easy - (cell.accuracy - mean);
        sum += cells.iter().map(|cell| off(cell) * off(cell)).sum::<f64>() / (count - 1.0);
    }
    sum / (images * images) as f64
}

/// The level of each cell, by number.
fn levels<T: Ord + Copy>(of: impl Iterator<Item = T> + Clone) -> Vec<usize> {
    let known: std::collections::BTreeSet<T> = of.clone().collect();
    let known: Vec<T> = known.into_iter().collect();
    of.map(|level| known.binary_search(&level).unwrap_or_default())
        .collect()
}

fn levels_in(factor: &[usize]) -> usize {
    factor.iter().max().map_or(0, |last| last + 1)
}

/// The least-squares fit of a sum of effects, one for each level of each factor, by sweeps over the
/// factors: settings of a round need not be a full grid.
fn additive(scores: &[f64], factors: &[Vec<usize>]) -> Vec<f64> {
    let mut fit = vec![0.0; scores.len()];
    for _ in 0..SWEEPS {
        for factor in factors {
            let mut sums = vec![(0.0, 0usize); levels_in(factor)];
            for ((score, fit), &level) in scores.iter().zip(&fit).zip(factor) {
                sums[level].0 += score - fit;
                sums[level].1 += 1;
            }
            for (fit, &level) in fit.iter_mut().zip(factor) {
                *fit += sums[level].0 / sums[level].1 as f64;
            }
        }
    }
    fit
}

#[cfg(test)]
mod tests {
    use diffrep_extract::Setting;
    use diffrep_pool::PoolSize;
    use diffrep_rng::{Key, Stream};
    use diffrep_taps::BlockIndex;

    use super::*;
    use crate::{Bits, Point};

    /// A cell of a setting that gets an image right if its score passes the image's difficulty.
    fn cell(t: usize, block: usize, pool: usize, right: Vec<bool>) -> Cell {
        let correct = Bits(right);
        Cell {
            setting: Setting {
                t: Some(t),
                block: BlockIndex::new(block).unwrap(),
                pool: PoolSize::new(pool).unwrap(),
            },
            dim: pool,
            point: Point {
                learning_rate: 0.1,
                weight_decay: 0.0,
            },
            accuracy: correct.share(),
            correct,
        }
    }

    /// Cells whose true accuracies are a sum of effects, scored on `images` images.
    fn drawn(images: usize, draw: u32) -> (Vec<Cell>, Vec<f64>) {
        let mut generator = Key::new(3, Stream::Noise).draw(draw).generator();
        let mut cells = Vec::new();
        let mut truth = Vec::new();
        for t in 0..4 {
            for block in 0..6 {
                let share = 0.7 - 0.03 * t as f64 - 0.01 * (block as f64 - 2.0).powi(2);
                let right = (0..images).map(|_| generator.uniform() < share).collect();
                cells.push(cell(t, block + 1, 4, right));
                truth.push(share);
            }
        }
        (cells, truth)
    }

    #[test]
    fn sums_of_effects_are_told_from_chance() {
        let error = |scores: &[f64], truth: &[f64]| {
            let pairs = scores.iter().zip(truth);
            pairs.map(|(a, b)| (a - b) * (a - b)).sum::<f64>()
        };
        let (mut raw, mut better) = (0.0, 0.0);
        for draw in 0..20 {
            let (cells, truth) = drawn(250, draw);
            let scores: Vec<f64> = cells.iter().map(|cell| cell.accuracy).collect();
            raw += error(&scores, &truth);
            better += error(&denoised(&cells), &truth);
        }
        assert!(better < 0.6 * raw, "{better} against {raw}");
    }

    #[test]
    fn scores_without_chance_are_kept() {
        // Settings that differ on whole blocks of images, by no sum of effects.
        let right = |count: usize| (0..10_000).map(|i| i < count).collect();
        let cells = vec![
            cell(0, 1, 1, right(9000)),
            cell(0, 2, 1, right(3000)),
            cell(9, 1, 1, right(2000)),
            cell(9, 2, 1, right(8000)),
        ];
        for (cell, found) in cells.iter().zip(denoised(&cells)) {
            assert!((cell.accuracy - found).abs() < 0.01, "{found}");
        }
    }

    #[test]
    fn a_fit_does_not_need_a_full_grid() {
        let factors = [vec![0, 0, 1, 1, 2], vec![0, 1, 0, 1, 1]];
        let scores = [1.0, 3.0, 2.0, 4.0, 9.0];
        let fit = additive(&scores, &factors);
        for (found, score) in fit.iter().zip(scores) {
            assert!((found - score).abs() < 1e-9, "{found} {score}");
        }
    }
}
