//! The lower half of symmetric matrices of samples, cut into tiles, for all layers side by side.
//!
//! The elements of a tile stand in memory as a row a layer, so that the products of all pairs of
//! layers are one small matrix product.

use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;

use crate::features::Centred;
use crate::options::Pairs;
use crate::product::{RUN, Real};
use crate::sums::Sums;

/// The longest edge of a tile: a longer one converts features less often and takes more memory.
const EDGE: usize = 640;

/// How many bytes of tiles are at most computed before they are multiplied, if one tile a layer is
/// not more; more tiles at a time are more work to share out.
const GROUP_BYTES: usize = 256 << 20;

/// How many elements of a tile are multiplied at a time.
const CHUNK: usize = 8192;

/// A tile: rows `rows` and columns `columns` of the matrix, the columns never behind the rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tile {
    pub(crate) rows: Range<usize>,
    pub(crate) columns: Range<usize>,
}

impl Tile {
    pub(crate) fn len(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    pub(crate) fn is_diagonal(&self) -> bool {
        self.rows == self.columns
    }

    /// How often its elements stand in the whole matrix: those beside the diagonal do twice.
    fn weight(&self) -> f64 {
        if self.is_diagonal() { 1.0 } else { 2.0 }
    }
}

/// The tiles of a matrix [n, n], of nearly equal size.
pub(crate) fn tiles(n: usize) -> Vec<Tile> {
    let count = n.div_ceil(EDGE);
    let cut = |i: usize| i * n / count..(i + 1) * n / count;
    let all = (0..count).flat_map(|i| (0..=i).map(move |j| (i, j)));
    all.map(|(i, j)| Tile {
        rows: cut(i),
        columns: cut(j),
    })
    .collect()
}

/// How many of the tiles are held at a time.
pub(crate) fn group(layers: usize, n: usize) -> usize {
    let tiles = tiles(n);
    let largest = 8 * layers * tiles.iter().map(Tile::len).max().unwrap_or(1);
    (GROUP_BYTES / largest).clamp(1, tiles.len())
}

/// What a thread works in, in bytes, for elements of `size` bytes.
pub(crate) fn scratch_bytes(n: usize, size: usize) -> usize {
    let edge = n.min(EDGE);
    size * (2 * edge * RUN + edge * edge)
}

/// A thread's place to work in.
struct Scratch<P> {
    left: Vec<P>,
    right: Vec<P>,
    product: Vec<P>,
}

impl<P> Scratch<P> {
    fn new() -> Self {
        Self {
            left: Vec::new(),
            right: Vec::new(),
            product: Vec::new(),
        }
    }
}

/// Writes the tiles of every layer's Gram matrix [n, n], each layer's after the other, and hands every
/// tile of every layer to `then`.
pub(crate) fn grams<P: Real>(
    layers: &[Centred<'_>],
    tiles: &[Tile],
    buffers: &mut [Vec<f64>],
    then: impl Fn(usize, &Tile, &mut [f64]) + Sync,
) {
    let mut tasks = Vec::new();
    for (tile, buffer) in tiles.iter().zip(buffers) {
        buffer.resize(layers.len() * tile.len(), 0.0);
        let outs = buffer.chunks_exact_mut(tile.len());
        tasks.extend(outs.enumerate().map(|(layer, out)| (tile, layer, out)));
    }
    tasks
        .into_par_iter()
        .for_each_init(Scratch::<P>::new, |scratch, (tile, layer, out)| {
            gram(&layers[layer], tile, scratch, out);
            then(layer, tile, out);
        });
}

/// Writes one tile of one layer.
fn gram<P: Real>(layer: &Centred<'_>, tile: &Tile, scratch: &mut Scratch<P>, out: &mut [f64]) {
    out.fill(0.0);
    let (m, n, width) = (tile.rows.len(), tile.columns.len(), layer.shift.len());
    for start in (0..width).step_by(RUN) {
        let run = start..width.min(start + RUN);
        layer.block(tile.rows.clone(), run.clone(), &mut scratch.left);
        let left = MatRef::from_row_major_slice(&scratch.left, m, run.len());
        if tile.is_diagonal() {
            P::add_product(out, &mut scratch.product, left, left.transpose(), true);
        } else {
            layer.block(tile.columns.clone(), run.clone(), &mut scratch.right);
            let right = MatRef::from_row_major_slice(&scratch.right, n, run.len());
            P::add_product(out, &mut scratch.product, left, right.transpose(), false);
        }
    }
    if tile.is_diagonal() {
        mirror(out, n);
    }
}

/// Copies what is below the diagonal of a square to above it.
fn mirror(square: &mut [f64], n: usize) {
    for row in 0..n {
        for column in row + 1..n {
            square[row * n + column] = square[column * n + row];
        }
    }
}

/// Adds the products of all pairs of layers over some tiles.
pub(crate) fn add_products(sums: &mut Sums, tiles: &[Tile], buffers: &[Vec<f64>]) {
    let pairs = sums.pairs;
    let chunks: Vec<(&Tile, &[f64], Range<usize>)> = tiles
        .iter()
        .zip(buffers)
        .flat_map(|(tile, buffer)| {
            let starts = (0..tile.len()).step_by(CHUNK);
            starts.map(move |start| {
                (
                    tile,
                    buffer.as_slice(),
                    start..tile.len().min(start + CHUNK),
                )
            })
        })
        .collect();
    let parts: Vec<(Mat<f64>, Vec<f64>)> = chunks
        .par_iter()
        .map(|(tile, buffer, range)| products(pairs, buffer, tile.len(), range.clone()))
        .collect();
    // In the order of the chunks, whoever computed them.
    for ((cross, own), (tile, ..)) in parts.iter().zip(&chunks) {
        for ((row, column), sum) in sums.cross.indexed_iter_mut() {
            // Products above the diagonal of one network with itself are those below it.
            let (low, high) = match pairs.columns {
                None => (row.max(column), row.min(column)),
                Some(_) => (row, column),
            };
            *sum += tile.weight() * cross[(low, high)];
        }
        sums.own
            .iter_mut()
            .zip(own)
            .for_each(|(sum, own)| *sum += tile.weight() * own);
    }
}

/// The products of rows with columns, and of each layer with itself, over some elements of a tile.
fn products(pairs: Pairs, buffer: &[f64], len: usize, range: Range<usize>) -> (Mat<f64>, Vec<f64>) {
    let all = MatRef::from_row_major_slice(buffer, pairs.layers(), len);
    let all = all.subcols(range.start, range.len());
    let [rows, columns] = pairs.shape();
    let right = match pairs.columns {
        None => all,
        Some(_) => all.subrows(rows, columns),
    };
    let mut cross = Mat::zeros(rows, columns);
    matmul(
        &mut cross,
        Accum::Replace,
        all.subrows(0, rows),
        right.transpose(),
        1.0,
        Par::Seq,
    );
    let own = match pairs.columns {
        None => (0..rows).map(|layer| cross[(layer, layer)]).collect(),
        Some(_) => (0..pairs.layers())
            .map(|layer| {
                let start = layer * len;
                let values = &buffer[start + range.start..start + range.end];
                values.iter().map(|value| value * value).sum()
            })
            .collect(),
    };
    (cross, own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_the_lower_half_once() {
        for n in [1, 5, EDGE, EDGE + 1, 3 * EDGE + 7] {
            let tiles = tiles(n);
            let elements: f64 = tiles
                .iter()
                .map(|tile| tile.weight() * tile.len() as f64)
                .sum();
            assert_eq!(elements, (n * n) as f64);
            for tile in &tiles {
                assert!(tile.columns.end <= tile.rows.start || tile.is_diagonal());
                assert!(tile.rows.len() <= EDGE);
            }
        }
    }
}
