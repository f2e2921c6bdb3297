//! Linear CKA through Gram matrices: for few samples of many features.
//!
//! Features are centred, so that a tile of a Gram matrix is centred the moment it is computed, and no
//! Gram matrix is ever held as a whole: with K = X Xᵀ and columns of mean 0, row i of K without its
//! diagonal sums to -K_ii. Centring K for HSIC_1 (Székely and Rizzo 2014) therefore adds
//! (K_ii + K_jj) / (n - 2) - tr K / ((n - 1) (n - 2)) beside the diagonal and clears it, and HSIC is
//! the sum of products of what comes out.

use rayon::prelude::*;

use crate::Precision;
use crate::features::Centred;
use crate::options::Pairs;
use crate::product::Real;
use crate::sums::Sums;
use crate::tiles::{Tile, add_products, grams, group, tiles};

/// n (n - 3) HSIC_1 of the layers if `unbiased`, otherwise (n - 1)² HSIC.
pub(crate) fn sums<P: Real>(
    pairs: Pairs,
    layers: &[Centred<'_>],
    unbiased: bool,
    precision: Precision,
) -> Sums {
    let n = layers[0].features.rows();
    let squares: Vec<Vec<f64>> = layers.par_iter().map(Centred::squares).collect();
    let traces: Vec<f64> = squares.iter().map(|squares| squares.iter().sum()).collect();
    let mut sums = Sums::zeros(pairs);
    let tiles = tiles(n);
    let group = group(layers.len(), n);
    let mut buffers = vec![Vec::new(); group];
    for tiles in tiles.chunks(group) {
        grams::<P>(layers, tiles, &mut buffers, |layer, tile, out| {
            if unbiased {
                centre(tile, &squares[layer], traces[layer], out);
            }
        });
        add_products(&mut sums, tiles, &buffers);
    }
    sums.set_traces(traces, precision);
    sums
}

/// Centres a tile for HSIC_1.
fn centre(tile: &Tile, squares: &[f64], trace: f64, out: &mut [f64]) {
    let n = squares.len() as f64;
    let mean = trace / ((n - 1.0) * (n - 2.0));
    let columns = &squares[tile.columns.clone()];
    for (row, out) in tile.rows.clone().zip(out.chunks_exact_mut(columns.len())) {
        let own = squares[row] / (n - 2.0) - mean;
        out.iter_mut()
            .zip(columns)
            .for_each(|(out, square)| *out += own + square / (n - 2.0));
        if tile.is_diagonal() {
            out[row - tile.columns.start] = 0.0;
        }
    }
}
