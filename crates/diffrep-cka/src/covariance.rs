//! Linear CKA through feature covariances: for many samples of few features, in one pass.
//!
//! HSIC of Gram matrices K = X Xᵀ and L = Y Yᵀ is the sum of squares of C = Xᵀ Y with columns of mean
//! 0, and n (n - 3) HSIC_1 follows from it, from the squared lengths of the centred rows k, l, and from
//! the sums of those: |C|² - n / (n - 2) k·l + Σk Σl / ((n - 1) (n - 2)). All of these are sums over
//! samples, and neither estimator changes if all rows move by the same vector, so that sums are kept
//! about the mean of the first batch, near which nothing cancels, and moved to the mean at the end.

use faer::MatRef;
use rayon::prelude::*;

use crate::Precision;
use crate::features::Centred;
use crate::options::Pairs;
use crate::product::{RUN, Real};
use crate::sums::{Sums, rounding};

/// How many rows of a covariance are one piece of work.
const STRIP: usize = 256;

/// What a pair of layers with features z, w about their shifts needs.
struct Pair {
    layers: (usize, usize),
    /// Σ z wᵀ [d, d'].
    product: Vec<f64>,
    /// Σ |z|² |w|².
    squares: f64,
    /// Σ |z|² w [d'].
    right: Vec<f64>,
    /// Σ |w|² z [d].
    left: Vec<f64>,
}

/// What a layer needs.
struct Own {
    /// Σ z [d].
    sum: Vec<f64>,
    /// Σ |z|².
    squares: f64,
}

/// Sums over samples from which both estimators follow.
pub(crate) struct Covariances {
    pairs: Pairs,
    each: Vec<Pair>,
    own: Vec<Own>,
    rows: usize,
}

/// Rows of one layer about its shift.
struct Block<P> {
    values: Vec<P>,
    width: usize,
    squares: Vec<f64>,
}

impl<P: Real> Block<P> {
    fn matrix(&self) -> MatRef<'_, P> {
        MatRef::from_row_major_slice(&self.values, self.squares.len(), self.width)
    }

    /// Σ weight · row.
    fn add_weighted(&self, weights: &[f64], sum: &mut [f64]) {
        for (row, weight) in self.values.chunks_exact(self.width).zip(weights) {
            sum.iter_mut()
                .zip(row)
                .for_each(|(sum, value)| *sum += weight * value.get());
        }
    }
}

impl Covariances {
    pub(crate) fn new(pairs: Pairs, widths: &[usize]) -> Self {
        let pair = |layers: (usize, usize)| Pair {
            layers,
            product: vec![0.0; widths[layers.0] * widths[layers.1]],
            squares: 0.0,
            right: vec![0.0; widths[layers.1]],
            left: vec![0.0; widths[layers.0]],
        };
        let own = |&width: &usize| Own {
            sum: vec![0.0; width],
            squares: 0.0,
        };
        Self {
            pairs,
            each: pairs.needed().into_iter().map(pair).collect(),
            own: widths.iter().map(own).collect(),
            rows: 0,
        }
    }

    pub(crate) fn push<P: Real>(&mut self, layers: &[Centred<'_>]) {
        let rows = layers[0].features.rows();
        for start in (0..rows).step_by(RUN) {
            let range = start..rows.min(start + RUN);
            let block = |layer: &Centred<'_>| {
                let width = layer.shift.len();
                let mut values = Vec::new();
                layer.block::<P>(range.clone(), 0..width, &mut values);
                let square = |row: &[P]| row.iter().map(|value| value.get().powi(2)).sum();
                let squares = values.chunks_exact(width).map(square).collect();
                Block {
                    values,
                    width,
                    squares,
                }
            };
            let blocks: Vec<Block<P>> = layers.par_iter().map(block).collect();
            self.push_blocks(&blocks);
        }
        self.rows += rows;
    }

    fn push_blocks<P: Real>(&mut self, blocks: &[Block<P>]) {
        self.own
            .par_iter_mut()
            .zip(blocks)
            .for_each(|(own, block)| {
                block.add_weighted(&vec![1.0; block.squares.len()], &mut own.sum);
                own.squares += block.squares.iter().sum::<f64>();
            });
        self.each.par_iter_mut().for_each(|pair| {
            let (left, right) = (&blocks[pair.layers.0], &blocks[pair.layers.1]);
            pair.squares += dot(&left.squares, &right.squares);
            right.add_weighted(&left.squares, &mut pair.right);
            left.add_weighted(&right.squares, &mut pair.left);
        });
        let mut tasks = Vec::new();
        for pair in &mut self.each {
            let (left, right) = (&blocks[pair.layers.0], &blocks[pair.layers.1]);
            let strips = pair.product.chunks_mut(STRIP * right.width).enumerate();
            tasks.extend(strips.map(|(strip, out)| (left, right, strip * STRIP, out)));
        }
        tasks
            .into_par_iter()
            .for_each_init(Vec::new, |scratch, (left, right, start, out)| {
                let strip = left.matrix().subcols(start, out.len() / right.width);
                P::add_product(out, scratch, strip.transpose(), right.matrix(), false);
            });
    }

    /// n (n - 3) HSIC_1 of the layers if `unbiased`, otherwise (n - 1)² HSIC.
    pub(crate) fn finish(&self, unbiased: bool, precision: Precision) -> Sums {
        let n = self.rows as f64;
        let trace = |own: &Own| own.squares - dot(&own.sum, &own.sum) / n;
        // Rounding may leave a constant layer a little below 0.
        let traces: Vec<f64> = self.own.iter().map(|own| trace(own).max(0.0)).collect();
        // The value, and the size of what it is a difference of.
        let hsic = |pair: &Pair| {
            let squares = self.centred_squares(pair);
            if !unbiased {
                return (squares, None);
            }
            let (k, l) = (traces[pair.layers.0], traces[pair.layers.1]);
            let own = n / (n - 2.0) * self.row_products(pair);
            let value = squares - own + k * l / ((n - 1.0) * (n - 2.0));
            (value, Some(squares + own))
        };
        let values: Vec<_> = self.each.par_iter().map(hsic).collect();
        let mut sums = Sums::zeros(self.pairs);
        sums.set_traces(traces, precision);
        for (pair, (value, terms)) in self.each.iter().zip(values) {
            sums.set(pair.layers, value);
            if let (Some(terms), true) = (terms, pair.layers.0 == pair.layers.1) {
                sums.set_floor(pair.layers.0, rounding(precision) * terms);
            }
        }
        sums
    }

    /// |C|².
    fn centred_squares(&self, pair: &Pair) -> f64 {
        let (z, w) = self.sums(pair);
        let rows = pair.product.chunks_exact(w.len()).zip(z);
        rows.map(|(row, z)| {
            let mean = z / self.rows as f64;
            let square = |(product, w): (&f64, &f64)| (product - mean * w).powi(2);
            row.iter().zip(w).map(square).sum::<f64>()
        })
        .sum()
    }

    /// k·l, by multiplying out (|z|² - 2 z·μ + |μ|²) (|w|² - 2 w·ν + |ν|²) with μ and ν the means.
    fn row_products(&self, pair: &Pair) -> f64 {
        let n = self.rows as f64;
        let (z, w) = self.sums(pair);
        let (mu2, nu2) = (dot(z, z) / (n * n), dot(w, w) / (n * n));
        let (left, right) = (&self.own[pair.layers.0], &self.own[pair.layers.1]);
        let rows = pair.product.chunks_exact(w.len()).zip(z);
        let between: f64 = rows.map(|(row, z)| z * dot(row, w)).sum();
        pair.squares - 2.0 / n * (dot(w, &pair.right) + dot(z, &pair.left))
            + nu2 * left.squares
            + mu2 * right.squares
            + 4.0 * between / (n * n)
            - 3.0 * n * mu2 * nu2
    }

    fn sums(&self, pair: &Pair) -> (&[f64], &[f64]) {
        (&self.own[pair.layers.0].sum, &self.own[pair.layers.1].sum)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
