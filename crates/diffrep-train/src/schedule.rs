use serde::{Deserialize, Serialize};

/// The learning rate as a function of the step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LearningRate {
    /// The same at every step.
    Constant {
        /// The rate.
        rate: f64,
    },
    /// Linear from 0 over `warmup` steps, then half a cosine down to 0 at `steps`.
    Cosine {
        /// The highest rate.
        rate: f64,
        /// Steps of linear growth.
        warmup: u64,
        /// Steps in all.
        steps: u64,
    },
    /// Multiplied by `factor` every `every` steps (PyTorch's `StepLR`).
    Step {
        /// The first rate.
        rate: f64,
        /// Factor of each drop.
        factor: f64,
        /// Steps between drops.
        every: u64,
    },
}

impl LearningRate {
    /// The rate of step `step`, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        match *self {
            Self::Constant { rate } => rate,
            Self::Cosine { rate, warmup, .. } if step < warmup => {
                rate * (step + 1) as f64 / warmup as f64
            }
            Self::Cosine {
                rate,
                warmup,
                steps,
            } => {
                let share = (step - warmup) as f64 / steps.saturating_sub(warmup).max(1) as f64;
                rate * 0.5 * (1.0 + (std::f64::consts::PI * share.min(1.0)).cos())
            }
            Self::Step {
                rate,
                factor,
                every,
            } => rate * factor.powi((step / every.max(1)) as i32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_their_formulas() {
        let cosine = LearningRate::Cosine {
            rate: 1.0,
            warmup: 10,
            steps: 110,
        };
        assert!((cosine.at(0) - 0.1).abs() < 1e-12);
        assert!((cosine.at(10) - 1.0).abs() < 1e-12);
        assert!((cosine.at(60) - 0.5).abs() < 1e-12);
        assert!(cosine.at(110).abs() < 1e-12 && cosine.at(500).abs() < 1e-12);
        let step = LearningRate::Step {
            rate: 1.0,
            factor: 0.1,
            every: 8,
        };
        assert_eq!([step.at(7), step.at(8)], [1.0, 0.1]);
    }
}
