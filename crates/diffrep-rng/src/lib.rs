#![doc = include_str!("../README.md")]

mod generator;
mod philox;

pub use generator::Generator;
pub use philox::philox4x32_10;

/// Version of the mapping from keys to numbers. A stored feature is comparable with a new one only
/// under the same contract.
pub const CONTRACT: u32 = 1;

/// What random numbers are for. Two streams never share numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Stream {
    /// The Gaussian noise that takes an image to step t.
    Noise = 1,
    /// Splitting a data set.
    Split = 2,
    /// The order in which samples are visited in an epoch.
    Order = 3,
    /// Horizontal flips.
    Flip = 4,
    /// Random crops.
    Crop = 5,
    /// Initial weights.
    Init = 6,
    /// Bootstrap resampling.
    Bootstrap = 7,
    /// Timesteps drawn while training a diffusion model.
    Timestep = 8,
    /// The first noise of a sampled image.
    SampleInit = 9,
    /// Noise added by the steps of a sampler.
    SampleStep = 10,
    /// Dropout masks.
    Dropout = 11,
    /// Classes of sampled images.
    Label = 12,
}

/// Names one sequence of random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The run's seed.
    pub seed: u64,
    /// What the numbers are for.
    pub stream: Stream,
    /// Which sample they belong to (a stable id, not a position in a batch).
    pub sample: u64,
    /// Which draw or epoch.
    pub draw: u32,
    /// Which timestep.
    pub t: u32,
}

impl Key {
    /// A key with sample, draw and t at zero.
    pub fn new(seed: u64, stream: Stream) -> Self {
        Self {
            seed,
            stream,
            sample: 0,
            draw: 0,
            t: 0,
        }
    }

    /// The same key for another sample id.
    #[must_use]
    pub fn sample(self, sample: u64) -> Self {
        Self { sample, ..self }
    }

    /// The same key for another draw or epoch.
    #[must_use]
    pub fn draw(self, draw: u32) -> Self {
        Self { draw, ..self }
    }

    /// The same key for another timestep.
    #[must_use]
    pub fn t(self, t: u32) -> Self {
        Self { t, ..self }
    }

    /// The sequence this key names, from its start.
    pub fn generator(&self) -> Generator {
        Generator::new(self)
    }

    /// Fills `out` with independent standard normals; element i depends on the key and i alone.
    pub fn fill_normal(&self, out: &mut [f32]) {
        let mut generator = self.generator();
        for pair in out.chunks_mut(2) {
            let (first, second) = generator.normal_pair();
            pair[0] = first as f32;
            if let Some(slot) = pair.get_mut(1) {
                *slot = second as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests;
