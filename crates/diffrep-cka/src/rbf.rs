//! RBF CKA: kernel matrices of exp(-distance² / (2 σ²)), held in tiles for all layers at once.

use rayon::prelude::*;

use crate::features::Centred;
use crate::options::Pairs;
use crate::product::Real;
use crate::sums::Sums;
use crate::tiles::{Tile, add_products, grams, tiles};
use crate::{CkaError, Precision};

/// n (n - 3) HSIC_1 of the layers if `unbiased`, otherwise (n - 1)² HSIC.
pub(crate) fn sums<P: Real>(
    pairs: Pairs,
    layers: &[Centred<'_>],
    names: &[String],
    fraction: f64,
    unbiased: bool,
    precision: Precision,
) -> Result<Sums, CkaError> {
    let n = layers[0].features.rows();
    let tiles = tiles(n);
    let mut buffers = vec![Vec::new(); tiles.len()];
    let squares: Vec<Vec<f64>> = layers.par_iter().map(Centred::squares).collect();
    grams::<P>(layers, &tiles, &mut buffers, |layer, tile, out| {
        distances(tile, &squares[layer], out);
    });
    let mut each: Vec<Vec<&mut [f64]>> = layers.iter().map(|_| Vec::new()).collect();
    for (tile, buffer) in tiles.iter().zip(&mut buffers) {
        let parts = buffer.chunks_exact_mut(tile.len());
        each.iter_mut()
            .zip(parts)
            .for_each(|(layer, part)| layer.push(part));
    }
    let kernel = |(layer, parts): (usize, &mut Vec<&mut [f64]>)| {
        let scale = 2.0 * fraction.powi(2) * median(n, &tiles, parts);
        if scale == 0.0 && squares[layer].iter().any(|&square| square > 0.0) {
            let layer = names[layer].clone();
            return Err(CkaError::NoBandwidth { layer });
        }
        similarities(parts, scale);
        centre(n, &tiles, parts, unbiased);
        Ok(())
    };
    each.par_iter_mut()
        .enumerate()
        .map(kernel)
        .collect::<Result<Vec<()>, _>>()?;
    let mut sums = Sums::zeros(pairs);
    add_products(&mut sums, &tiles, &buffers);
    // A row is 1 similar to itself; a layer that does not vary has no trace.
    let trace = |squares: &Vec<f64>| {
        let total: f64 = squares.iter().sum();
        if total == 0.0 {
            total
        } else {
            n as f64 + 0.0 * total
        }
    };
    sums.set_traces(squares.iter().map(trace).collect(), precision);
    Ok(sums)
}

/// Replaces inner products by squared distances.
fn distances(tile: &Tile, squares: &[f64], out: &mut [f64]) {
    let columns = &squares[tile.columns.clone()];
    for (row, out) in tile.rows.clone().zip(out.chunks_exact_mut(columns.len())) {
        let own = squares[row];
        // Rounding must not make a distance negative.
        let distance =
            |(out, square): (&mut f64, &f64)| *out = (own + square - 2.0 * *out).max(0.0);
        out.iter_mut().zip(columns).for_each(distance);
        if tile.is_diagonal() {
            out[row - tile.columns.start] = 0.0;
        }
    }
}

/// The median of all n² squared distances, the mean of the two in the middle if n is even.
fn median(n: usize, tiles: &[Tile], parts: &[&mut [f64]]) -> f64 {
    let mut below = Vec::with_capacity(n * (n - 1) / 2);
    for (tile, part) in tiles.iter().zip(parts) {
        for (row, values) in part.chunks_exact(tile.columns.len()).enumerate() {
            let end = if tile.is_diagonal() {
                row
            } else {
                values.len()
            };
            below.extend_from_slice(&values[..end]);
        }
    }
    // Sorted, all n² are n zeros and then each of these twice.
    let mut at = |position: usize| match position.checked_sub(n) {
        Some(behind) => *below.select_nth_unstable_by(behind / 2, f64::total_cmp).1,
        None => 0.0,
    };
    let all = n * n;
    (at((all - 1) / 2) + at(all / 2)) / 2.0
}

fn similarities(parts: &mut [&mut [f64]], scale: f64) {
    // Without spread every distance is 0, and so is the scale.
    let scale = if scale == 0.0 { 1.0 } else { scale };
    for part in parts {
        part.iter_mut()
            .for_each(|value| *value = (-*value / scale).exp());
    }
}

/// Centres a kernel matrix: for HSIC_1 without its diagonal if `unbiased`.
fn centre(n: usize, tiles: &[Tile], parts: &mut [&mut [f64]], unbiased: bool) {
    if unbiased {
        each_row(tiles, parts, |tile, row, values| {
            if tile.is_diagonal() {
                values[row - tile.columns.start] = 0.0;
            }
        });
    }
    let mut sums = vec![0.0; n];
    each_row(tiles, parts, |tile, row, values| {
        sums[row] += values.iter().sum::<f64>();
        if !tile.is_diagonal() {
            let columns = &mut sums[tile.columns.clone()];
            columns
                .iter_mut()
                .zip(values)
                .for_each(|(sum, value)| *sum += *value);
        }
    });
    let (n, total) = (n as f64, sums.iter().sum::<f64>());
    let (share, all) = if unbiased {
        (n - 2.0, (n - 1.0) * (n - 2.0))
    } else {
        (n, n * n)
    };
    each_row(tiles, parts, |tile, row, values| {
        let own = sums[row] / share - total / all;
        let columns = &sums[tile.columns.clone()];
        values
            .iter_mut()
            .zip(columns)
            .for_each(|(value, sum)| *value -= own + sum / share);
        if unbiased && tile.is_diagonal() {
            values[row - tile.columns.start] = 0.0;
        }
    });
}

fn each_row(
    tiles: &[Tile],
    parts: &mut [&mut [f64]],
    mut act: impl FnMut(&Tile, usize, &mut [f64]),
) {
    for (tile, part) in tiles.iter().zip(parts) {
        let rows = part.chunks_exact_mut(tile.columns.len());
        for (row, values) in tile.rows.clone().zip(rows) {
            act(tile, row, values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_counts_every_pair_twice_and_each_row_with_itself() {
        for n in [2, 3, 4, 5] {
            let tiles = tiles(n);
            let mut full: Vec<f64> = (0..n * n)
                .map(|at| {
                    let (i, j) = (at / n, at % n);
                    (i as f64 - j as f64).powi(2) * (1.0 + (i * j) as f64)
                })
                .collect();
            let mut copy = full.clone();
            let found = median(n, &tiles, &[&mut copy]);
            full.sort_by(f64::total_cmp);
            let expected = (full[(n * n - 1) / 2] + full[n * n / 2]) / 2.0;
            assert_eq!(found, expected);
        }
    }
}
