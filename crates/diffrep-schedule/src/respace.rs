//! Running a process with fewer timesteps (guided_diffusion/respace.py).

use crate::{Schedule, ScheduleError};

/// Which timesteps a respaced process keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spacing {
    /// The kept timesteps, ascending.
    pub kept: Vec<usize>,
}

impl Spacing {
    /// The reference's strings: `ddimN` (a fixed integer stride that gives exactly N steps),
    /// `a,b,c` (T cut into as many sections, evenly spaced steps in each), or empty (all steps).
    ///
    /// # Errors
    ///
    /// When the string is not of that form or asks for more steps than there are.
    pub fn parse(spacing: &str, steps: usize) -> Result<Self, ScheduleError> {
        let refuse = |reason: String| ScheduleError::Spacing {
            spacing: spacing.into(),
            steps,
            reason,
        };
        if spacing.is_empty() {
            return Ok(Self {
                kept: (0..steps).collect(),
            });
        }
        if let Some(count) = spacing.strip_prefix("ddim") {
            let count: usize = count
                .parse()
                .map_err(|_| refuse("after `ddim` comes a number of steps".into()))?;
            return (1..steps)
                .map(|stride| (0..steps).step_by(stride).collect::<Vec<_>>())
                .find(|kept| kept.len() == count)
                .map(|kept| Self { kept })
                .ok_or_else(|| refuse(format!("no integer stride gives exactly {count} steps")));
        }
        let sections = spacing
            .split(',')
            .map(|part| part.trim().parse::<usize>())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| refuse("it is neither `ddimN` nor a comma list of step counts".into()))?;
        let (size, longer) = (steps / sections.len(), steps % sections.len());
        let mut kept = Vec::new();
        let mut start = 0;
        for (i, &count) in sections.iter().enumerate() {
            let size = size + usize::from(i < longer);
            if count > size {
                return Err(refuse(format!(
                    "section {} has {size} timesteps, {count} are asked for",
                    i + 1
                )));
            }
            let stride = if count <= 1 {
                1.0
            } else {
                (size - 1) as f64 / (count - 1) as f64
            };
            // Accumulated in floating point and rounded half to even, as Python does.
            let mut position = 0.0f64;
            for _ in 0..count {
                kept.push(start + position.round_ties_even() as usize);
                position += stride;
            }
            start += size;
        }
        kept.dedup();
        if kept.is_empty() {
            return Err(refuse("it keeps no timestep".into()));
        }
        Ok(Self { kept })
    }
}

/// The process that visits only the kept timesteps of `base` and has the same alpha-bar there.
/// Its `timestep_map` holds the original timesteps, which is what the network is told.
///
/// # Errors
///
/// When a kept timestep is not in `base`.
pub fn respaced(base: &Schedule, spacing: &Spacing) -> Result<Schedule, ScheduleError> {
    let mut last = 1.0;
    let mut betas = Vec::with_capacity(spacing.kept.len());
    for &t in &spacing.kept {
        let alpha_bar = base.alphas_cumprod[base.check(t)?];
        betas.push(1.0 - alpha_bar / last);
        last = alpha_bar;
    }
    let mut schedule = Schedule::from_betas(betas)?;
    schedule.timestep_map = spacing.kept.iter().map(|&t| base.timestep_map[t]).collect();
    schedule.timestep_scale = base.timestep_scale;
    Ok(schedule)
}
