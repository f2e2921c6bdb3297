//! The two passes over samples.
//!
//! Sums are of integers, so their order does not show and vector code gives the bits of scalar code; a test holds the
//! two together.

use std::borrow::Cow;

use super::Axis;
use super::weights::{HALF, PRECISION_BITS, Weights};

/// Resamples rows of `stride` samples; borrowed if nothing changes.
pub(super) fn horizontal<'a>(
    source: &'a [u8],
    stride: usize,
    channels: usize,
    columns: &Axis,
) -> Cow<'a, [u8]> {
    match columns {
        Axis::Keep(wanted) if wanted.len() * channels == stride => Cow::Borrowed(source),
        Axis::Keep(wanted) => {
            let wanted = wanted.start * channels..wanted.end * channels;
            let rows = source.chunks_exact(stride);
            Cow::Owned(rows.flat_map(|row| &row[wanted.clone()]).copied().collect())
        }
        Axis::Halve(to) => Cow::Owned(match channels {
            1 => halve_columns::<1>(source, stride, *to),
            _ => halve_columns::<3>(source, stride, *to),
        }),
        Axis::Weigh(weights) => {
            let rows = source.len() / stride;
            let mut out = vec![0; rows * weights.len() * channels];
            match channels {
                1 => weigh_columns::<1>(source, stride, weights, &mut out),
                _ => weigh_colour_columns(source, stride, weights, &mut out),
            }
            Cow::Owned(out)
        }
    }
}

/// Resamples columns; `source` holds rows of `row_len` samples from row `first` of the image on.
pub(super) fn vertical<'a>(
    source: &'a [u8],
    row_len: usize,
    first: usize,
    rows: &Axis,
) -> Cow<'a, [u8]> {
    match rows {
        Axis::Keep(wanted) => {
            Cow::Borrowed(&source[(wanted.start - first) * row_len..(wanted.end - first) * row_len])
        }
        Axis::Halve(_) => Cow::Owned(halve_rows(source, row_len)),
        Axis::Weigh(weights) => {
            let mut out = vec![0; weights.len() * row_len];
            weigh_rows(source, row_len, first, weights, &mut out);
            Cow::Owned(out)
        }
    }
}

fn mean(first: u8, second: u8) -> u8 {
    ((u16::from(first) + u16::from(second) + 1) >> 1) as u8
}

fn halve_columns<const CHANNELS: usize>(source: &[u8], stride: usize, to: usize) -> Vec<u8> {
    let mut out = vec![0; source.len() / stride * to * CHANNELS];
    let mut means = vec![0; stride];
    let out_rows = out.chunks_exact_mut(to * CHANNELS);
    for (row, out_row) in source.chunks_exact(stride).zip(out_rows) {
        // Twice the means that are wanted, but all lie side by side, which vectorises.
        for ((slot, &left), &right) in means.iter_mut().zip(row).zip(&row[CHANNELS..]) {
            *slot = mean(left, right);
        }
        let pixels = means.as_chunks::<CHANNELS>().0.iter().step_by(2);
        for (out, &pixel) in out_row.as_chunks_mut().0.iter_mut().zip(pixels) {
            *out = pixel;
        }
    }
    out
}

fn halve_rows(source: &[u8], row_len: usize) -> Vec<u8> {
    let mut out = vec![0; source.len() / 2];
    let pairs = source.chunks_exact(2 * row_len);
    for (pair, out_row) in pairs.zip(out.chunks_exact_mut(row_len)) {
        let (upper, lower) = pair.split_at(row_len);
        for ((slot, &upper), &lower) in out_row.iter_mut().zip(upper).zip(lower) {
            *slot = mean(upper, lower);
        }
    }
    out
}

fn weigh_colour_columns(source: &[u8], stride: usize, weights: &Weights, out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if super::avx2::weigh_colour_columns(source, stride, weights, out) {
        return;
    }
    weigh_columns::<3>(source, stride, weights, out);
}

fn weigh_columns<const CHANNELS: usize>(
    source: &[u8],
    stride: usize,
    weights: &Weights,
    out: &mut [u8],
) {
    let out_rows = out.chunks_exact_mut(weights.len() * CHANNELS);
    for (row, out_row) in source.chunks_exact(stride).zip(out_rows) {
        weigh_pixels::<CHANNELS>(row, weights, 0, out_row);
    }
}

/// The pixels of a row from the output `first` on.
pub(super) fn weigh_pixels<const CHANNELS: usize>(
    row: &[u8],
    weights: &Weights,
    first: usize,
    out_row: &mut [u8],
) {
    let pixels = out_row.as_chunks_mut::<CHANNELS>().0;
    for (output, pixel) in pixels.iter_mut().enumerate().skip(first) {
        let (start, weights) = weights.taps(output);
        let mut sums = [HALF; CHANNELS];
        let covered = row[start * CHANNELS..].as_chunks::<CHANNELS>().0;
        for (pixel, weight) in covered.iter().zip(weights) {
            for (sum, &sample) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(sample) * weight;
            }
        }
        *pixel = sums.map(to_sample);
    }
}

fn weigh_rows(source: &[u8], row_len: usize, first: usize, weights: &Weights, out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if super::avx2::weigh_rows(source, row_len, first, weights, out) {
        return;
    }
    weigh_rows_portably(source, row_len, first, weights, out);
}

/// Compiled a second time for wider vectors, hence the attribute.
#[inline(always)]
pub(super) fn weigh_rows_portably(
    source: &[u8],
    row_len: usize,
    first: usize,
    weights: &Weights,
    out: &mut [u8],
) {
    for (output, out_row) in out.chunks_exact_mut(row_len).enumerate() {
        let (start, weights) = weights.taps(output);
        let rows = &source[(start - first) * row_len..];
        let (blocks, rest) = out_row.as_chunks_mut::<BLOCK>();
        for (block, out) in blocks.iter_mut().enumerate() {
            // The sums of a block stay in registers over all taps.
            let mut sums = [HALF; BLOCK];
            for (tap, weight) in weights.iter().enumerate() {
                let samples = &rows[tap * row_len + block * BLOCK..][..BLOCK];
                for (sum, &sample) in sums.iter_mut().zip(samples) {
                    *sum += i32::from(sample) * weight;
                }
            }
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = to_sample(sum);
            }
        }
        let column = row_len - rest.len();
        for (offset, out) in rest.iter_mut().enumerate() {
            let mut sum = HALF;
            for (tap, weight) in weights.iter().enumerate() {
                sum += i32::from(rows[tap * row_len + column + offset]) * weight;
            }
            *out = to_sample(sum);
        }
    }
}

/// Samples whose sums fill four vectors of 256 bits.
const BLOCK: usize = 32;

fn to_sample(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use proptest::prelude::*;

    use super::super::Filter;
    use super::*;

    fn noise(seed: u64, count: usize) -> Vec<u8> {
        let mut generator = diffrep_rng::Key::new(seed, diffrep_rng::Stream::Noise).generator();
        (0..count).map(|_| generator.next_u32() as u8).collect()
    }

    fn any_filter() -> impl Strategy<Value = Filter> {
        prop_oneof![
            Just(Filter::Box),
            Just(Filter::Bilinear),
            Just(Filter::Bicubic)
        ]
    }

    /// A part of 0..to.
    fn part(to: usize, cut: usize) -> Range<usize> {
        cut % to..to
    }

    proptest! {
        /// On a machine with AVX2 this compares its code with the scalar one, elsewhere the latter with itself.
        #[test]
        fn vector_code_gives_the_bits_of_scalar_code(
            seed: u64, from in 1usize..90, to in 1usize..90, cut in 0usize..90,
            others in 1usize..40, filter in any_filter(),
        ) {
            let weights = Weights::new(from, to, filter, part(to, cut));
            let source = noise(seed, from * others * 3);
            let mut expected = vec![0; weights.len() * others * 3];
            let mut actual = expected.clone();
            weigh_columns::<3>(&source, from * 3, &weights, &mut expected);
            weigh_colour_columns(&source, from * 3, &weights, &mut actual);
            prop_assert_eq!(&actual, &expected, "columns");

            weigh_rows_portably(&source, others * 3, 0, &weights, &mut expected);
            weigh_rows(&source, others * 3, 0, &weights, &mut actual);
            prop_assert_eq!(&actual, &expected, "rows");
        }

        #[test]
        fn means_of_pairs_are_what_the_box_weighs(seed: u64, to in 1usize..70, others in 1usize..20) {
            let weights = Axis::Weigh(Weights::new(2 * to, to, Filter::Box, 0..to));
            for channels in [1, 3] {
                let source = noise(seed, 2 * to * others * channels);
                let stride = 2 * to * channels;
                let halved = horizontal(&source, stride, channels, &Axis::Halve(to));
                prop_assert_eq!(halved, horizontal(&source, stride, channels, &weights));
                let halved = vertical(&source, others * channels, 0, &Axis::Halve(to));
                prop_assert_eq!(halved, vertical(&source, others * channels, 0, &weights));
            }
        }
    }
}
