//! Sixteen values in registers, under the vector instructions that a processor has.
//!
//! What works on them is written once, for any [`Wide`], and compiled for each instruction set: the
//! methods are inlined into functions that have the features enabled.

use std::arch::x86_64::*;

use super::gemm::{LANES, Lanes};

/// Sixteen f32 values. Every method is unsafe for the same reason: the processor must have the
/// instructions, which `dispatch` sees to, and pointers must be good for what is read or written.
pub(super) trait Wide: Copy {
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn splat(value: f32) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// self * factor + addend, rounded once.
    unsafe fn fma(self, factor: Self, addend: Self) -> Self;

    /// `out[column][lane] = row[4 * lane + column]` for six columns, from 80 values of which the
    /// last 14 do not matter.
    unsafe fn split_four(row: [Self; 5]) -> [Self; 6];

    /// `row[4 * lane + column] = columns[column][lane]`.
    unsafe fn join_four(columns: [Self; 4]) -> [Self; 4];
}

/// Work on wide values.
pub(super) trait WideJob {
    /// # Safety
    ///
    /// The processor has the instructions of `W`.
    unsafe fn run<W: Wide>(self);
}

/// Whether this processor runs wide jobs.
pub(super) fn supported() -> bool {
    is_x86_feature_detected!("avx512f")
        || (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"))
}

/// Runs `job` under the widest instructions of this processor.
///
/// # Panics
///
/// If it is not [`supported`].
pub(super) fn dispatch<J: WideJob>(job: J) {
    #[target_feature(enable = "avx512f")]
    fn widest<J: WideJob>(job: J) {
        // SAFETY: this function's features.
        unsafe { job.run::<Zmm>() }
    }
    #[target_feature(enable = "avx2,fma")]
    fn wide<J: WideJob>(job: J) {
        // SAFETY: this function's features.
        unsafe { job.run::<Ymm>() }
    }
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the feature was just tested.
        unsafe { widest(job) }
    } else {
        assert!(supported(), "the processor was tested before");
        // SAFETY: the features were just tested.
        unsafe { wide(job) }
    }
}

/// One register of AVX-512.
#[derive(Clone, Copy)]
pub(super) struct Zmm(__m512);

/// Two registers of AVX2.
#[derive(Clone, Copy)]
pub(super) struct Ymm(__m256, __m256);

// SAFETY of all blocks below: the caller promises instructions and pointers.

impl Wide for Zmm {
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Self(_mm512_loadu_ps(from)) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { Self(_mm512_set1_ps(value)) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { Self(_mm512_add_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { Self(_mm512_sub_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { Self(_mm512_mul_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn fma(self, factor: Self, addend: Self) -> Self {
        unsafe { Self(_mm512_fmadd_ps(self.0, factor.0, addend.0)) }
    }

    #[inline(always)]
    unsafe fn split_four(row: [Self; 5]) -> [Self; 6] {
        unsafe {
            let [a, b, c, d, e] = row.map(|value| value.0);
            let fourth = _mm512_set_epi32(28, 24, 20, 16, 12, 8, 4, 0, 28, 24, 20, 16, 12, 8, 4, 0);
            let pick = |column: i32| {
                let index = _mm512_add_epi32(fourth, _mm512_set1_epi32(column));
                let low = _mm512_permutex2var_ps(a, index, b);
                let high = _mm512_permutex2var_ps(c, index, d);
                _mm512_mask_blend_ps(0xff00, low, high)
            };
            // Columns 4 and 5 of a tile are columns 0 and 1 of the next one, and those of the last
            // tile the first values of the fifth vector.
            let next = |own: __m512, last: __m512| {
                let (own, last) = (_mm512_castps_si512(own), _mm512_castps_si512(last));
                _mm512_castsi512_ps(_mm512_alignr_epi32::<1>(last, own))
            };
            let [first, second] = [pick(0), pick(1)];
            let after = _mm512_castps_si512(e);
            let after = _mm512_castsi512_ps(_mm512_alignr_epi32::<1>(after, after));
            [
                Self(first),
                Self(second),
                Self(pick(2)),
                Self(pick(3)),
                Self(next(first, e)),
                Self(next(second, after)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn join_four(columns: [Self; 4]) -> [Self; 4] {
        unsafe {
            let [a, b, c, d] = columns.map(|value| value.0);
            let pairs = |x, y| (_mm512_castps_pd(x), _mm512_castps_pd(y));
            let (low, high) = pairs(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let (low2, high2) = pairs(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            // Each holds one tile of every four: tile 4 * quarter + i in its quarters.
            let tiles = [
                _mm512_castpd_ps(_mm512_unpacklo_pd(low, low2)),
                _mm512_castpd_ps(_mm512_unpackhi_pd(low, low2)),
                _mm512_castpd_ps(_mm512_unpacklo_pd(high, high2)),
                _mm512_castpd_ps(_mm512_unpackhi_pd(high, high2)),
            ];
            let near = _mm512_shuffle_f32x4::<0b01_00_01_00>(tiles[0], tiles[1]);
            let near2 = _mm512_shuffle_f32x4::<0b01_00_01_00>(tiles[2], tiles[3]);
            let far = _mm512_shuffle_f32x4::<0b11_10_11_10>(tiles[0], tiles[1]);
            let far2 = _mm512_shuffle_f32x4::<0b11_10_11_10>(tiles[2], tiles[3]);
            [
                Self(_mm512_shuffle_f32x4::<0b10_00_10_00>(near, near2)),
                Self(_mm512_shuffle_f32x4::<0b11_01_11_01>(near, near2)),
                Self(_mm512_shuffle_f32x4::<0b10_00_10_00>(far, far2)),
                Self(_mm512_shuffle_f32x4::<0b11_01_11_01>(far, far2)),
            ]
        }
    }
}

impl Wide for Ymm {
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe {
            _mm256_storeu_ps(to, self.0);
            _mm256_storeu_ps(to.add(8), self.1);
        }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { Self(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe {
            Self(
                _mm256_add_ps(self.0, other.0),
                _mm256_add_ps(self.1, other.1),
            )
        }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe {
            Self(
                _mm256_sub_ps(self.0, other.0),
                _mm256_sub_ps(self.1, other.1),
            )
        }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe {
            Self(
                _mm256_mul_ps(self.0, other.0),
                _mm256_mul_ps(self.1, other.1),
            )
        }
    }

    #[inline(always)]
    unsafe fn fma(self, factor: Self, addend: Self) -> Self {
        unsafe {
            Self(
                _mm256_fmadd_ps(self.0, factor.0, addend.0),
                _mm256_fmadd_ps(self.1, factor.1, addend.1),
            )
        }
    }

    #[inline(always)]
    unsafe fn split_four(row: [Self; 5]) -> [Self; 6] {
        let mut values = [0.0; 5 * LANES];
        unsafe {
            for (value, to) in row.into_iter().zip(values.chunks_exact_mut(LANES)) {
                value.store(to.as_mut_ptr());
            }
            std::array::from_fn(|column| {
                let lanes = Lanes(std::array::from_fn(|lane| values[4 * lane + column]));
                Self::load(lanes.0.as_ptr())
            })
        }
    }

    #[inline(always)]
    unsafe fn join_four(columns: [Self; 4]) -> [Self; 4] {
        let mut values = [Lanes::default(); 4];
        unsafe {
            for (column, to) in columns.into_iter().zip(&mut values) {
                column.store(to.0.as_mut_ptr());
            }
            std::array::from_fn(|part| {
                let row = Lanes(std::array::from_fn(|i| {
                    let place = part * LANES + i;
                    values[place % 4].0[place / 4]
                }));
                Self::load(row.0.as_ptr())
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Strided<'a> {
        row: &'a [f32],
        columns: &'a mut [[f32; LANES]; 6],
        back: &'a mut [f32],
    }

    impl WideJob for Strided<'_> {
        unsafe fn run<W: Wide>(self) {
            unsafe {
                let row = std::array::from_fn(|i| W::load(self.row[i * LANES..].as_ptr()));
                let columns = W::split_four(row);
                for (column, to) in columns.iter().zip(self.columns) {
                    column.store(to.as_mut_ptr());
                }
                let joined = W::join_four(std::array::from_fn(|i| columns[i]));
                for (value, to) in joined.into_iter().zip(self.back.chunks_exact_mut(LANES)) {
                    value.store(to.as_mut_ptr());
                }
            }
        }
    }

    #[test]
    fn values_four_apart_are_split_and_joined() {
        let row: Vec<f32> = (0..5 * LANES).map(|i| i as f32).collect();
        let check = |run: &dyn Fn(Strided)| {
            let mut columns = [[0.0; LANES]; 6];
            let mut back = [0.0; 4 * LANES];
            run(Strided {
                row: &row,
                columns: &mut columns,
                back: &mut back,
            });
            for (column, values) in columns.iter().enumerate() {
                for (lane, value) in values.iter().enumerate() {
                    assert_eq!(*value, (4 * lane + column) as f32);
                }
            }
            assert_eq!(back, row[..4 * LANES]);
        };
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature was just tested.
            check(&|job| unsafe { job.run::<Zmm>() });
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the features were just tested.
            check(&|job| unsafe { job.run::<Ymm>() });
        }
    }
}
