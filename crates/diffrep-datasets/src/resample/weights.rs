//! The coefficients of one axis.

use std::ops::Range;

use super::Filter;

/// 32 bits less 8 for the sample and 2 for the overshoot of the filters.
pub(super) const PRECISION_BITS: u32 = 32 - 8 - 2;

/// One half, which makes the final shift round.
pub(super) const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// Vector code takes this many taps at once.
pub(super) const GROUP: usize = 4;

/// For each output sample along an axis, where its taps start and what they weigh.
pub(super) struct Weights {
    starts: Vec<usize>,
    lengths: Vec<usize>,
    /// Rows of `width` weights with [`PRECISION_BITS`] fractional bits, the unused ones 0.
    padded: Vec<i32>,
    /// A multiple of [`GROUP`].
    width: usize,
}

impl Weights {
    /// Those of the outputs `wanted` when `from` samples become `to`.
    pub(super) fn new(from: usize, to: usize, filter: Filter, wanted: Range<usize>) -> Self {
        let scale = f64::from(from as f32) / to as f64;
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let width = (2 * support.ceil() as usize + 1).next_multiple_of(GROUP);
        let mut weights = Self {
            starts: Vec::with_capacity(wanted.len()),
            lengths: Vec::with_capacity(wanted.len()),
            padded: vec![0; wanted.len() * width],
            width,
        };
        let mut exact = Vec::with_capacity(width);
        for (output, row) in wanted.zip(weights.padded.chunks_exact_mut(width)) {
            let center = (output as f64 + 0.5) * scale;
            // The casts truncate and saturate at 0 like Pillow's conversion and clamp.
            let start = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            exact.clear();
            exact.extend(
                (start..end)
                    .map(|tap| filter.weight((tap as f64 - center + 0.5) * (1.0 / filter_scale))),
            );
            let total = exact.iter().fold(0.0, |total, weight| total + weight);
            for (slot, &weight) in row.iter_mut().zip(&exact) {
                *slot = fixed_point(if total == 0.0 { weight } else { weight / total });
            }
            weights.starts.push(start);
            weights.lengths.push(exact.len());
        }
        weights
    }

    /// How many outputs there are.
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Where the taps of an output start, and their weights.
    pub(super) fn taps(&self, output: usize) -> (usize, &[i32]) {
        let first = output * self.width;
        let weights = &self.padded[first..first + self.lengths[output]];
        (self.starts[output], weights)
    }

    /// Like [`Weights::taps`], in whole groups; what stands behind the last tap weighs nothing.
    pub(super) fn groups(&self, output: usize) -> (usize, &[[i32; GROUP]]) {
        let first = output * self.width;
        let padded = &self.padded[first..first + self.lengths[output].next_multiple_of(GROUP)];
        (self.starts[output], padded.as_chunks().0)
    }

    /// The samples read.
    pub(super) fn span(&self) -> Range<usize> {
        let start = self.starts.iter().copied().min().unwrap_or(0);
        let ends = self.starts.iter().zip(&self.lengths);
        let end = ends.map(|(start, length)| start + length).max();
        start..end.unwrap_or(0)
    }
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Self::Box => 0.5,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        match self {
            Self::Box if x > -0.5 && x <= 0.5 => 1.0,
            Self::Box => 0.0,
            Self::Bilinear => (1.0 - x.abs()).max(0.0),
            Self::Bicubic => bicubic(x.abs()),
        }
    }
}

fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    // The order of operations is Pillow's; another one would change last bits.
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn fixed_point(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION_BITS);
    (if weight < 0.0 {
        scaled - 0.5
    } else {
        scaled + 0.5
    }) as i32
}
