//! The passes with vectors of 256 bits, where the processor has them.
//!
//! Each function says whether it did the work.

#![allow(
    unsafe_code,
    reason = "a processor's features are known at run time only, and vectors are loaded through pointers"
)]

use std::arch::x86_64::*;

use super::passes::{weigh_pixel, weigh_rows_portably};
use super::weights::{GROUP, HALF, PRECISION_BITS, Weights};

/// Rows resampled together, two in each vector.
const ROWS: usize = 4;

pub(super) fn weigh_colour_columns(
    source: &[u8],
    stride: usize,
    weights: &Weights,
    out: &mut [u8],
) -> bool {
    let available = is_x86_feature_detected!("avx2");
    if available {
        // SAFETY: the processor has what the function needs.
        unsafe { columns(source, stride, weights, out) };
    }
    available
}

pub(super) fn weigh_rows(
    source: &[u8],
    row_len: usize,
    first: usize,
    weights: &Weights,
    out: &mut [u8],
) -> bool {
    let available = is_x86_feature_detected!("avx2");
    if available {
        // SAFETY: the processor has what the function needs.
        unsafe { rows(source, row_len, first, weights, out) };
    }
    available
}

/// The scalar code vectorises by itself, given the instructions.
#[target_feature(enable = "avx2")]
fn rows(source: &[u8], row_len: usize, first: usize, weights: &Weights, out: &mut [u8]) {
    weigh_rows_portably(source, row_len, first, weights, out);
}

#[target_feature(enable = "avx2")]
fn columns(source: &[u8], stride: usize, weights: &Weights, out: &mut [u8]) {
    let rows = source.len() / stride;
    let out_stride = weights.len() * 3;
    for top in (0..rows).step_by(ROWS) {
        // Past the last row, it is computed again.
        let lines: [usize; ROWS] = std::array::from_fn(|row| (top + row).min(rows - 1));
        for output in 0..weights.len() {
            let pixels = match pixels(source, lines.map(|line| line * stride), weights, output) {
                Some(pixels) => pixels,
                None => lines.map(|line| {
                    let [red, green, blue] =
                        weigh_pixel(&source[line * stride..][..stride], weights, output);
                    [red, green, blue, 0]
                }),
            };
            for (line, pixel) in lines.into_iter().zip(pixels) {
                let place = &mut out[line * out_stride + output * 3..];
                place[..3].copy_from_slice(&pixel[..3]);
            }
        }
    }
}

/// The same pixel of four rows that begin at `lines`, with a sample behind each that means nothing.
///
/// None if a load would leave `source`, which happens at the end of the last row only.
#[target_feature(enable = "avx2")]
#[inline]
fn pixels(
    source: &[u8],
    lines: [usize; ROWS],
    weights: &Weights,
    output: usize,
) -> Option<[[u8; 4]; ROWS]> {
    let (start, groups) = weights.groups(output);
    let samples = 3 * GROUP * groups.len();
    let [first, second, third, fourth] = lines.map(|line| {
        source
            .get(line + 3 * start..)
            .filter(|row| row.len() >= samples + LOAD - 3 * GROUP)
    });
    let (first, second, third, fourth) = (first?, second?, third?, fourth?);
    let mut upper = _mm256_set1_epi32(HALF);
    let mut lower = upper;
    for (group, weights) in groups.iter().enumerate() {
        let at = 3 * GROUP * group;
        let upper_samples = two_rows(&first[at..], &second[at..]);
        let lower_samples = two_rows(&third[at..], &fourth[at..]);
        for (tap, &weight) in weights.iter().enumerate() {
            let spread = spread(tap);
            let weight = _mm256_set1_epi32(weight);
            let products = _mm256_mullo_epi32(_mm256_shuffle_epi8(upper_samples, spread), weight);
            upper = _mm256_add_epi32(upper, products);
            let products = _mm256_mullo_epi32(_mm256_shuffle_epi8(lower_samples, spread), weight);
            lower = _mm256_add_epi32(lower, products);
        }
    }
    let upper = _mm256_srai_epi32::<{ PRECISION_BITS as i32 }>(upper);
    let lower = _mm256_srai_epi32::<{ PRECISION_BITS as i32 }>(lower);
    // Sums have 10 bits left, so the first packing changes none and the second clamps to 0..=255.
    let words = _mm256_packs_epi32(upper, lower);
    let bytes = _mm256_packus_epi16(words, words);
    let [first, third] = halves(_mm256_extract_epi64::<0>(bytes));
    let [second, fourth] = halves(_mm256_extract_epi64::<2>(bytes));
    Some([first, second, third, fourth])
}

/// Bytes that one load reads; those of [`GROUP`] pixels are used.
const LOAD: usize = 16;

#[target_feature(enable = "avx2")]
#[inline]
fn two_rows(first: &[u8], second: &[u8]) -> __m256i {
    let (first, second) = (&first[..LOAD], &second[..LOAD]);
    // SAFETY: both slices hold the 16 bytes read, and unaligned loads are allowed.
    unsafe { _mm256_loadu2_m128i(second.as_ptr().cast(), first.as_ptr().cast()) }
}

/// Brings the three samples of a tap to the four 32-bit lanes of each row, the last of which becomes 0.
#[target_feature(enable = "avx2")]
#[inline]
fn spread(tap: usize) -> __m256i {
    let tap = 3 * tap as i32;
    // An index with its highest bit set gives 0.
    const NONE: i32 = 0x8080_8000_u32 as i32;
    let (red, green, blue) = (NONE | tap, NONE | (tap + 1), NONE | (tap + 2));
    let nothing = NONE | 0x80;
    _mm256_setr_epi32(red, green, blue, nothing, red, green, blue, nothing)
}

fn halves(packed: i64) -> [[u8; 4]; 2] {
    let [a, b, c, d, e, f, g, h] = packed.to_le_bytes();
    [[a, b, c, d], [e, f, g, h]]
}
