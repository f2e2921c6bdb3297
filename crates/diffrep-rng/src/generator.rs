use crate::{Key, philox4x32_10};

/// Separates the derivation of sub-keys from the numbers themselves.
const SUBKEY_TAG: u32 = 0x6472_6570;

/// A sequence of random numbers: the words of Philox at counters (i, t, sample) under a sub-key
/// derived from (seed, stream, draw).
#[derive(Clone, Debug)]
pub struct Generator {
    key: [u32; 2],
    counter: [u32; 4],
    words: [u32; 4],
    used: usize,
}

impl Generator {
    pub(crate) fn new(key: &Key) -> Self {
        let seed = [key.seed as u32, (key.seed >> 32) as u32];
        let derived = philox4x32_10([key.stream as u32, key.draw, SUBKEY_TAG, 0], seed);
        Self {
            key: [derived[0], derived[1]],
            counter: [0, key.t, key.sample as u32, (key.sample >> 32) as u32],
            words: [0; 4],
            used: 4,
        }
    }

    /// Uniform over all 32-bit words. A sequence has 2^34 of them.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.words = philox4x32_10(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        let word = self.words[self.used];
        self.used += 1;
        word
    }

    /// Uniform over all 64-bit words.
    pub fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) | (u64::from(self.next_u32()) << 32)
    }

    /// Uniform in [0, 1), a multiple of 2^-53.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Between two positive bounds, its logarithm uniform; the same bits on every machine.
    pub fn log_uniform(&mut self, low: f64, high: f64) -> f64 {
        let (low, high) = (libm::log(low), libm::log(high));
        libm::exp(low + (high - low) * self.uniform())
    }

    /// Uniform in 0..n without bias (Lemire's rejection).
    ///
    /// # Panics
    ///
    /// Panics if `n` is zero.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "below(0) asks for a number out of none");
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            let low = product as u64;
            if low >= n.wrapping_neg() % n {
                return (product >> 64) as u64;
            }
        }
    }

    /// A uniformly random order of `items` (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i as u64 + 1) as usize;
            items.swap(i, j);
        }
    }

    /// Two independent standard normals (Box-Muller, two 32-bit words). The tail ends at 6.7
    /// standard deviations.
    pub fn normal_pair(&mut self) -> (f64, f64) {
        const SCALE: f64 = 1.0 / 4_294_967_296.0;
        let u = (f64::from(self.next_u32()) + 0.5) * SCALE;
        let v = (f64::from(self.next_u32()) + 0.5) * SCALE;
        let radius = libm::sqrt(-2.0 * libm::log(u));
        let (sine, cosine) = libm::sincos(core::f64::consts::TAU * v);
        (radius * cosine, radius * sine)
    }
}
