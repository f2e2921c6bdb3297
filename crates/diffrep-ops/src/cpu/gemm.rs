//! Products of a packed weight panel and a packed panel of vectors: 8 output channels x up to 3
//! vectors of 16 lanes are accumulated in registers over the whole depth, in the order of the depth.

/// Sixteen values side by side, aligned so that no load crosses a cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub(super) struct Lanes(pub [f32; LANES]);

pub(super) const LANES: usize = 16;
/// Output channels in a block of weights.
pub(super) const BLOCK: usize = 8;
/// Most vectors that one call takes.
pub(super) const VECTORS: usize = 3;

/// `kernel(depth, weights, input, output, stride)`:
/// `output[row * stride + v] = sum over d of weights[d * BLOCK + row] * input[d * vectors + v]`.
pub(super) type Kernel = unsafe fn(usize, *const f32, *const Lanes, *mut Lanes, usize);

/// The kernels for 1, 2 and 3 vectors on this processor, if it has vector instructions for them.
pub(super) fn kernels() -> Option<[Kernel; VECTORS]> {
    if is_x86_feature_detected!("avx512f") {
        return Some([zmm::<1>, zmm::<2>, zmm::<3>]);
    }
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        return Some([ymm::<1>, ymm::<2>, ymm::<3>]);
    }
    None
}

/// # Safety
///
/// The processor has AVX-512; `weights` holds `depth * BLOCK` values, `input` `depth * VECTORS`
/// vectors, and `output[row * stride + v]` is writable for every row of the block and every vector.
#[target_feature(enable = "avx512f")]
unsafe fn zmm<const VECTORS: usize>(
    depth: usize,
    weights: *const f32,
    input: *const Lanes,
    output: *mut Lanes,
    stride: usize,
) {
    use std::arch::x86_64::*;
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; BLOCK];
    // SAFETY: as promised by the caller.
    unsafe {
        for d in 0..depth {
            let mut vectors = [_mm512_setzero_ps(); VECTORS];
            for (v, vector) in vectors.iter_mut().enumerate() {
                *vector = _mm512_load_ps(input.add(d * VECTORS + v).cast());
            }
            for (row, sum) in sums.iter_mut().enumerate() {
                let weight = _mm512_set1_ps(*weights.add(d * BLOCK + row));
                for (sum, vector) in sum.iter_mut().zip(vectors) {
                    *sum = _mm512_fmadd_ps(weight, vector, *sum);
                }
            }
        }
        for (row, sum) in sums.iter().enumerate() {
            for (v, sum) in sum.iter().enumerate() {
                _mm512_store_ps(output.add(row * stride + v).cast(), *sum);
            }
        }
    }
}

/// # Safety
///
/// As for `zmm`, on a processor with AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn ymm<const VECTORS: usize>(
    depth: usize,
    weights: *const f32,
    input: *const Lanes,
    output: *mut Lanes,
    stride: usize,
) {
    use std::arch::x86_64::*;
    const ROWS: usize = 4;
    // 4 rows x 2 half vectors of 8: what 16 registers hold without spilling.
    for first in (0..BLOCK).step_by(ROWS) {
        for v in 0..VECTORS {
            let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
            // SAFETY: as promised by the caller.
            unsafe {
                for d in 0..depth {
                    let halves: *const f32 = input.add(d * VECTORS + v).cast();
                    let (low, high) = (_mm256_load_ps(halves), _mm256_load_ps(halves.add(8)));
                    for (row, sum) in sums.iter_mut().enumerate() {
                        let weight = _mm256_set1_ps(*weights.add(d * BLOCK + first + row));
                        sum[0] = _mm256_fmadd_ps(weight, low, sum[0]);
                        sum[1] = _mm256_fmadd_ps(weight, high, sum[1]);
                    }
                }
                for (row, sum) in sums.iter().enumerate() {
                    let halves: *mut f32 = output.add((first + row) * stride + v).cast();
                    _mm256_store_ps(halves, sum[0]);
                    _mm256_store_ps(halves.add(8), sum[1]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kernel that this processor runs gives the same bits, and those of a plain loop.
    #[test]
    fn kernels_sum_in_the_order_of_the_depth() {
        let depth = 37;
        let value = |i: usize| ((i * 2_654_435_761) % 1009) as f32 / 1009.0 - 0.5;
        let weights: Vec<f32> = (0..depth * BLOCK).map(value).collect();
        let input: Vec<Lanes> = (0..depth * 2)
            .map(|i| Lanes(std::array::from_fn(|lane| value(i * LANES + lane + 7))))
            .collect();
        let mut expected = vec![Lanes::default(); BLOCK * 2];
        for row in 0..BLOCK {
            for v in 0..2 {
                for lane in 0..LANES {
                    expected[row * 2 + v].0[lane] = (0..depth).fold(0.0f32, |sum, d| {
                        weights[d * BLOCK + row].mul_add(input[d * 2 + v].0[lane], sum)
                    });
                }
            }
        }
        let mut found = Vec::new();
        if is_x86_feature_detected!("avx512f") {
            found.push(zmm::<2> as Kernel);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            found.push(ymm::<2> as Kernel);
        }
        for kernel in found {
            let mut output = vec![Lanes::default(); BLOCK * 2];
            // SAFETY: the features were tested, and the panels have these sizes.
            unsafe {
                kernel(
                    depth,
                    weights.as_ptr(),
                    input.as_ptr(),
                    output.as_mut_ptr(),
                    2,
                );
            }
            for (output, expected) in output.iter().zip(&expected) {
                assert_eq!(output.0, expected.0);
            }
        }
    }
}
