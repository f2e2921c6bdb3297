//! The inner loops of the convolution, once for each vector width. An image is padded by the
//! caller, so a tap is an offset and no bound is tested here.
//!
//! Forward: 8 output channels x 2 vectors of pixels are accumulated in registers over all taps;
//! weights are broadcast. Weight gradient: 4 output channels x 6 taps over all pixels, so that the
//! gradients of 4 channels stay in the first-level cache while the input streams by.

/// How the kernels of one vector width are called; chosen once per convolution.
#[derive(Clone, Copy)]
pub(super) struct Tiles {
    /// Pixels in a vector.
    pub lanes: usize,
    /// Output channels in a block.
    pub block: usize,
    /// `forward(x, taps, weights, bases, y, places, plane, channels, bias)`.
    pub forward: unsafe fn(
        *const f32,
        &[usize],
        *const f32,
        [usize; 2],
        *mut f32,
        [usize; 2],
        usize,
        usize,
        *const f32,
    ),
    /// Output channels and taps in a block of the weight gradient.
    pub weight_block: [usize; 2],
    /// `weight(x, taps, dy, planes, bases, places, out)`: `out[channel * taps.len() + tap]`.
    pub weight:
        unsafe fn(*const f32, &[usize], *const f32, &[usize], &[usize], &[usize], &mut [f32]),
}

impl Tiles {
    /// The widest kernels that this processor runs and that divide a row of `width` pixels.
    pub(super) fn choose(width: usize) -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            let wide = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("fma");
            if wide && width.is_multiple_of(16) {
                return Some(Self {
                    lanes: 16,
                    block: 8,
                    forward: zmm::forward,
                    weight_block: zmm::WEIGHT_BLOCK,
                    weight: zmm::weight,
                });
            }
            if wide && width.is_multiple_of(8) {
                return Some(Self {
                    lanes: 8,
                    block: 8,
                    forward: ymm32::forward,
                    weight_block: ymm32::WEIGHT_BLOCK,
                    weight: ymm32::weight,
                });
            }
            if width.is_multiple_of(8)
                && is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
            {
                return Some(Self {
                    lanes: 8,
                    block: 4,
                    forward: ymm::forward,
                    weight_block: ymm::WEIGHT_BLOCK,
                    weight: ymm::weight,
                });
            }
        }
        let _ = width;
        None
    }
}

#[cfg(target_arch = "x86_64")]
macro_rules! tiles {
    ($name:ident, $features:literal, $block:literal, $weight_taps:literal, $lanes:literal, $vector:ident,
     $zero:ident, $load:ident, $store:ident, $splat:ident, $fma:ident, $add:ident) => {
        mod $name {
            use std::arch::x86_64::*;

            const BLOCK: usize = $block;
            const CHANNELS: usize = 4;
            const TAPS: usize = $weight_taps;
            pub(super) const WEIGHT_BLOCK: [usize; 2] = [CHANNELS, TAPS];

            /// # Safety
            ///
            /// The processor has the features; `x[base + tap ..][..lanes]` is readable for every
            /// base and tap; `weights` holds `taps.len() * BLOCK` values and `bias` BLOCK;
            /// `y[channel * plane + place ..][..lanes]` is writable for `channel < channels`.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn forward(
                x: *const f32,
                taps: &[usize],
                weights: *const f32,
                bases: [usize; 2],
                y: *mut f32,
                places: [usize; 2],
                plane: usize,
                channels: usize,
                bias: *const f32,
            ) {
                // SAFETY: as promised by the caller.
                unsafe {
                    let (x0, x1) = (x.add(bases[0]), x.add(bases[1]));
                    let mut sums: [[$vector; 2]; BLOCK] = [[$zero(); 2]; BLOCK];
                    let mut weight = weights;
                    for &tap in taps {
                        let (a, b) = ($load(x0.add(tap)), $load(x1.add(tap)));
                        for (channel, sum) in sums.iter_mut().enumerate() {
                            let w = $splat(*weight.add(channel));
                            sum[0] = $fma(a, w, sum[0]);
                            sum[1] = $fma(b, w, sum[1]);
                        }
                        weight = weight.add(BLOCK);
                    }
                    for (channel, sum) in sums.iter().enumerate().take(channels) {
                        let shift = $splat(*bias.add(channel));
                        let row = y.add(channel * plane);
                        $store(row.add(places[0]), $add(sum[0], shift));
                        $store(row.add(places[1]), $add(sum[1], shift));
                    }
                }
            }

            /// # Safety
            ///
            /// As for `forward`, with `dy[planes[channel] + place ..][..lanes]` readable for CHANNELS
            /// planes and every place; TAPS taps; `out` of at least CHANNELS * TAPS values.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn weight(
                x: *const f32,
                taps: &[usize],
                dy: *const f32,
                planes: &[usize],
                bases: &[usize],
                places: &[usize],
                out: &mut [f32],
            ) {
                // SAFETY: as promised by the caller.
                unsafe {
                    let planes: &[usize; CHANNELS] =
                        planes.try_into().expect("one plane a channel");
                    let taps: &[usize; TAPS] = taps.try_into().expect("a full block of taps");
                    let mut sums: [[$vector; TAPS]; CHANNELS] = [[$zero(); TAPS]; CHANNELS];
                    for (&base, &place) in bases.iter().zip(places) {
                        let (x, dy) = (x.add(base), dy.add(place));
                        let g = planes.map(|plane| $load(dy.add(plane)));
                        for (tap, &offset) in taps.iter().enumerate() {
                            let a = $load(x.add(offset));
                            for (sum, g) in sums.iter_mut().zip(g) {
                                sum[tap] = $fma(a, g, sum[tap]);
                            }
                        }
                    }
                    for (sum, out) in sums.iter().zip(out.chunks_exact_mut(TAPS)) {
                        for (sum, out) in sum.iter().zip(out) {
                            let mut lanes = [0.0f32; $lanes];
                            $store(lanes.as_mut_ptr(), *sum);
                            *out = lanes.iter().sum();
                        }
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
tiles!(
    zmm,
    "avx512f,avx512vl",
    8,
    6,
    16,
    __m512,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps,
    _mm512_add_ps
);
#[cfg(target_arch = "x86_64")]
tiles!(
    ymm32,
    "avx512f,avx512vl,fma",
    8,
    6,
    8,
    __m256,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps,
    _mm256_add_ps
);
#[cfg(target_arch = "x86_64")]
tiles!(
    ymm,
    "avx2,fma",
    4,
    2,
    8,
    __m256,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps,
    _mm256_add_ps
);
