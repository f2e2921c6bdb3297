//! The passes with vectors of 256 bits, where the processor has them.
//!
//! Each function says whether it did the work.

#![allow(
    unsafe_code,
    reason = "a processor's features are known at run time only, and vectors are loaded through pointers"
)]

use std::arch::x86_64::*;

use super::passes::{weigh_pixels, weigh_rows_portably};
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
    let out_stride = weights.len() * 3;
    let loadable = (0..weights.len())
        .take_while(|&output| {
            let (start, groups) = weights.groups(output);
            3 * (start + GROUP * groups.len()) + EXCESS <= stride
        })
        .count();
    let (blocks, out_blocks) = (
        source.chunks_exact(ROWS * stride),
        out.chunks_exact_mut(ROWS * out_stride),
    );
    for (block, out_block) in blocks.zip(out_blocks) {
        let rows = [0, 1, 2, 3].map(|row| &block[row * stride..][..stride]);
        for output in 0..loadable {
            let (start, groups) = weights.groups(output);
            let pixels = pixels(&rows, start, groups);
            for (row, pixel) in pixels.iter().enumerate() {
                let place = row * out_stride + output * 3;
                out_block[place..place + 3].copy_from_slice(&pixel[..3]);
            }
        }
        for (row, out_row) in rows.iter().zip(out_block.chunks_exact_mut(out_stride)) {
            weigh_pixels::<3>(row, weights, loadable, out_row);
        }
    }
    let done = source.len() / stride / ROWS * ROWS;
    let rows = source[done * stride..].chunks_exact(stride);
    for (row, out_row) in rows.zip(out[done * out_stride..].chunks_exact_mut(out_stride)) {
        weigh_pixels::<3>(row, weights, 0, out_row);
    }
}

/// The same pixel of four rows, with a sample behind each that means nothing.
#[target_feature(enable = "avx2")]
#[inline]
fn pixels(rows: &[&[u8]; ROWS], start: usize, groups: &[[i32; GROUP]]) -> [[u8; 4]; ROWS] {
    let mut upper = _mm256_set1_epi32(HALF);
    let mut lower = upper;
    for (group, weights) in groups.iter().enumerate() {
        let at = 3 * (start + GROUP * group);
        let upper_samples = two_rows(rows[0], rows[1], at);
        let lower_samples = two_rows(rows[2], rows[3], at);
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
    [first, second, third, fourth]
}

/// Bytes that one load reads.
const LOAD: usize = 16;

/// Bytes that a load reads beyond a group of pixels.
const EXCESS: usize = LOAD - 3 * GROUP;

#[target_feature(enable = "avx2")]
#[inline]
fn two_rows(first: &[u8], second: &[u8], at: usize) -> __m256i {
    let (first, second) = (&first[at..at + LOAD], &second[at..at + LOAD]);
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
