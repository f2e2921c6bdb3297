//! Which diffusion process a network was trained with, as checkpoints and their descriptions say it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Schedule, ScheduleKind};

/// What a network predicts. Features do not depend on it; drawing does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The noise (`epsilon` of diffusers).
    #[default]
    Noise,
    /// sqrt(alpha-bar) noise - sqrt(1 - alpha-bar) x_0 (`v_prediction`).
    Velocity,
    /// The clean image (`sample`).
    Image,
}

/// How images were noised when a network was trained, and what it was told and asked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessSpec {
    /// The betas.
    pub schedule: ScheduleKind,
    /// How many timesteps there are.
    pub steps: usize,
    /// Whether the network is told t * 1000 / steps instead of t (`rescale_timesteps` of
    /// improved-diffusion).
    #[serde(default)]
    pub rescaled: bool,
    /// What the network predicts.
    #[serde(default)]
    pub predicts: Target,
}

/// Why a process is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this noise schedule cannot be used: {reason}")]
pub struct SpecError {
    /// What is wrong, or not supported.
    pub reason: String,
}

/// Most timesteps that a schedule may have.
const MOST_STEPS: usize = 1 << 20;

impl From<ScheduleKind> for ProcessSpec {
    /// 1000 timesteps, told as they are, to a network that predicts noise.
    fn from(schedule: ScheduleKind) -> Self {
        Self {
            schedule,
            steps: 1000,
            rescaled: false,
            predicts: Target::Noise,
        }
    }
}

/// What diffusers writes into `scheduler_config.json`, as far as it tells how images are noised.
/// How samplers step back from there is of no concern here.
#[derive(Deserialize)]
struct Written {
    #[serde(rename = "_class_name", default)]
    class: String,
    num_train_timesteps: Option<usize>,
    beta_start: Option<f64>,
    beta_end: Option<f64>,
    beta_schedule: Option<String>,
    prediction_type: Option<String>,
    trained_betas: Option<serde_json::Value>,
    #[serde(default)]
    rescale_betas_zero_snr: bool,
}

impl ProcessSpec {
    /// From the content of a `scheduler_config.json` of diffusers.
    ///
    /// # Errors
    ///
    /// When it is none, or describes a process that is not discrete-time diffusion with known betas:
    /// noise by sigma (EDM, variance-exploding SDEs, consistency models) and flows are refused.
    pub fn from_scheduler_config(json: &[u8]) -> Result<Self, SpecError> {
        let refuse = |reason: String| Err(SpecError { reason });
        let written: Written = match serde_json::from_slice(json) {
            Ok(written) => written,
            Err(error) => return refuse(format!("it is not a scheduler's description ({error})")),
        };
        let class = written.class.as_str();
        let by_sigma = ["EDM", "Karras", "ScoreSde", "CMStochastic"];
        if by_sigma.iter().any(|part| class.starts_with(part)) {
            return refuse(format!(
                "{class} measures noise by sigma, on a scale without timesteps: networks that were trained so \
                 are not supported"
            ));
        }
        if class.starts_with("FlowMatch") || class.starts_with("VQ") {
            return refuse(format!(
                "{class} belongs to a network that is not one of diffusion"
            ));
        }
        if written.trained_betas.is_some_and(|betas| !betas.is_null()) {
            return refuse(
                "it lists betas of its own (`trained_betas`), which are not supported".into(),
            );
        }
        if written.rescale_betas_zero_snr {
            return refuse(
                "it moves betas so that the last step has no signal (`rescale_betas_zero_snr`), which is not supported"
                    .into(),
            );
        }
        let first = written.beta_start.unwrap_or(1e-4);
        let last = written.beta_end.unwrap_or(0.02);
        let steps = written.num_train_timesteps.unwrap_or(1000);
        let schedule = match written.beta_schedule.as_deref().unwrap_or("linear") {
            "linear" if (first, last, steps) == (1e-4, 0.02, 1000) => ScheduleKind::Linear,
            "linear" => ScheduleKind::LinearBetween { first, last },
            "scaled_linear" => ScheduleKind::ScaledLinear { first, last },
            "squaredcos_cap_v2" => ScheduleKind::Cosine,
            other => {
                return refuse(format!(
                    "its betas are `{other}`: expected linear, scaled_linear or squaredcos_cap_v2"
                ));
            }
        };
        let predicts = match written.prediction_type.as_deref().unwrap_or("epsilon") {
            "epsilon" => Target::Noise,
            "v_prediction" => Target::Velocity,
            "sample" => Target::Image,
            other => {
                return refuse(format!(
                    "its network predicts `{other}`: expected epsilon, v_prediction or sample"
                ));
            }
        };
        let spec = Self {
            schedule,
            steps,
            rescaled: false,
            predicts,
        };
        spec.check()?;
        Ok(spec)
    }

    fn check(&self) -> Result<(), SpecError> {
        let refuse = |reason: String| Err(SpecError { reason });
        if !(1..=MOST_STEPS).contains(&self.steps) {
            return refuse(format!(
                "it has {} timesteps: expected 1 to {MOST_STEPS}",
                self.steps
            ));
        }
        match self.schedule {
            ScheduleKind::Linear if self.steps < 20 => refuse(format!(
                "a linear schedule of {} timesteps has betas above 1: expected 20 timesteps or more",
                self.steps
            )),
            ScheduleKind::LinearBetween { first, last }
            | ScheduleKind::ScaledLinear { first, last }
                if !(0.0 < first && first <= last && last < 1.0) =>
            {
                refuse(format!(
                    "its betas go from {first} to {last}: expected 0 < first <= last < 1"
                ))
            }
            _ => Ok(()),
        }
    }

    /// The process's coefficients.
    ///
    /// # Errors
    ///
    /// When there are too few timesteps, or betas outside 0 to 1.
    pub fn schedule(&self) -> Result<Schedule, SpecError> {
        self.check()?;
        Ok(Schedule::new(self.schedule, self.steps).with_rescaled(self.rescaled))
    }
}

impl FromStr for ProcessSpec {
    type Err = SpecError;

    /// `linear`, `cosine`, or `scaled_linear` (Stable Diffusion's betas), then `:STEPS` where there are
    /// not 1000, then `:rescaled` where the network is told t * 1000 / STEPS.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut words = text.split(':');
        let schedule = match words.next() {
            Some("linear") => ScheduleKind::Linear,
            Some("cosine") => ScheduleKind::Cosine,
            Some("scaled_linear") => ScheduleKind::ScaledLinear {
                first: 0.00085,
                last: 0.012,
            },
            _ => {
                let reason = format!(
                    "`{text}` is not known: schedules are linear, cosine and scaled_linear, as in cosine:4000 or \
                     cosine:4000:rescaled"
                );
                return Err(SpecError { reason });
            }
        };
        let mut spec = Self::from(schedule);
        for word in words {
            match word.parse() {
                Ok(steps) => spec.steps = steps,
                Err(_) if word == "rescaled" => spec.rescaled = true,
                Err(_) => {
                    let reason = format!(
                        "`{word}` in `{text}` is neither a number of timesteps nor `rescaled`"
                    );
                    return Err(SpecError { reason });
                }
            }
        }
        spec.check()?;
        Ok(spec)
    }
}

impl fmt::Display for ProcessSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.schedule {
            ScheduleKind::Linear => f.write_str("linear")?,
            ScheduleKind::Cosine => f.write_str("cosine")?,
            ScheduleKind::LinearBetween { first, last } => write!(f, "linear {first} to {last}")?,
            ScheduleKind::ScaledLinear { first, last } => {
                write!(f, "scaled linear {first} to {last}")?;
            }
        }
        write!(f, ", {} timesteps", self.steps)?;
        if self.rescaled {
            f.write_str(" told as thousandths")?;
        }
        f.write_str(match self.predicts {
            Target::Noise => "",
            Target::Velocity => ", predicts v",
            Target::Image => ", predicts the image",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<ProcessSpec, String> {
        ProcessSpec::from_scheduler_config(json.as_bytes()).map_err(|error| error.to_string())
    }

    /// `alphas_cumprod` of the schedulers of diffusers, in f64.
    #[test]
    fn schedules_of_diffusers_have_its_values() {
        let alpha_bar =
            |json: &str, t: usize| read(json).unwrap().schedule().unwrap().alphas_cumprod[t];
        let near = |found: f64, expected: f64| (found - expected).abs() < 2e-6;
        let plain = r#"{"_class_name": "DDPMScheduler", "beta_schedule": "linear", "beta_start": 0.0001,
            "beta_end": 0.02, "num_train_timesteps": 1000}"#;
        assert_eq!(read(plain).unwrap(), ScheduleKind::Linear.into());
        assert!(near(alpha_bar(plain, 90), 0.913264480644));
        let scaled = r#"{"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear",
            "beta_start": 0.00085, "beta_end": 0.012, "prediction_type": "v_prediction"}"#;
        assert_eq!(read(scaled).unwrap().predicts, Target::Velocity);
        assert!(near(alpha_bar(scaled, 90), 0.90645109794));
        assert!(near(alpha_bar(scaled, 150), 0.827811632214));
        assert!(near(alpha_bar(scaled, 999), 0.00466009851308));
        let cosine = r#"{"beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample"}"#;
        assert!(near(alpha_bar(cosine, 500), 0.492285172449));
        assert_eq!(read(cosine).unwrap().predicts, Target::Image);
        // Betas are not scaled by the number of steps, unlike `linear` of guided diffusion.
        let few = r#"{"beta_schedule": "linear", "num_train_timesteps": 100}"#;
        assert_eq!(read(few).unwrap().schedule().unwrap().betas[99], 0.02);
    }

    #[test]
    fn other_processes_are_refused_in_a_sentence() {
        for (json, word) in [
            (r#"{"_class_name": "EDMEulerScheduler"}"#, "sigma"),
            (r#"{"_class_name": "ScoreSdeVeScheduler"}"#, "sigma"),
            (
                r#"{"_class_name": "CMStochasticIterativeScheduler"}"#,
                "sigma",
            ),
            (
                r#"{"_class_name": "FlowMatchEulerDiscreteScheduler"}"#,
                "not one of diffusion",
            ),
            (r#"{"trained_betas": [0.1]}"#, "trained_betas"),
            (r#"{"rescale_betas_zero_snr": true}"#, "no signal"),
            (r#"{"beta_schedule": "sigmoid"}"#, "`sigmoid`"),
            (r#"{"prediction_type": "flow"}"#, "`flow`"),
            (r#"{"beta_start": 0.5, "beta_end": 0.1}"#, "0.5 to 0.1"),
            (r#"{"num_train_timesteps": 0}"#, "0 timesteps"),
            ("[]", "not a scheduler"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(word), "{json}: {error}");
        }
    }

    #[test]
    fn words_name_a_process() {
        let spec: ProcessSpec = "cosine:4000:rescaled".parse().unwrap();
        assert_eq!((spec.steps, spec.rescaled), (4000, true));
        let schedule = spec.schedule().unwrap();
        assert_eq!(schedule.told(4), 1.0);
        assert_eq!(schedule.told(3999), 999.75);
        assert_eq!(Schedule::linear(1000).told(90), 90.0);
        for (text, word) in [
            ("quadratic", "scaled_linear"),
            ("linear:some", "`some`"),
            ("linear:10", "20 timesteps"),
            ("cosine:0", "0 timesteps"),
        ] {
            let error = text.parse::<ProcessSpec>().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
