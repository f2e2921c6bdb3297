//! From values to places along an axis, and which values get a tick.

use crate::figure::{Axis, Scale};

use super::number::{is_drawable, readable, with_decimals};

/// A tick of an axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tick {
    pub(crate) value: f64,
    pub(crate) label: String,
}

/// The range of an axis, in which each value has a share from 0 to 1.
#[derive(Debug, Clone)]
pub(crate) struct Domain {
    kind: Kind,
    /// Ends of the range after the transformation.
    low: f64,
    high: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Linear,
    Log,
    /// Linear below `unit`, logarithmic above.
    SymLog {
        unit: f64,
    },
    Categories,
}

impl Domain {
    /// Spans the drawable values and `axis.include`, with a margin of `pad` of the range.
    pub(crate) fn new(axis: &Axis, values: &[f64], pad: f64) -> Self {
        if let Scale::Categories(names) = &axis.scale {
            return Self {
                kind: Kind::Categories,
                low: -0.5,
                high: names.len().max(1) as f64 - 0.5,
            };
        }
        let included = axis.include.map_or_else(Vec::new, |(a, b)| vec![a, b]);
        let kind = kind(&axis.scale, values.iter().chain(&included));
        let ends = |values: &[f64]| {
            values
                .iter()
                .filter(|value| is_drawable(**value))
                .filter_map(|value| kind.apply(*value))
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                    (low.min(value), high.max(value))
                })
        };
        let (data_low, data_high) = ends(values);
        let (fixed_low, fixed_high) = ends(&included);
        let (mut low, mut high) = (data_low.min(fixed_low), data_high.max(fixed_high));
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let room = if high > low {
            (high - low) * pad
        } else {
            (high.abs() * 0.1).max(0.5)
        };
        // An end that the axis was asked to include stands; only ends set by data get a margin.
        if data_low < fixed_low || low == high {
            let crosses_zero = kind == Kind::Linear && low >= 0.0 && low < room;
            low = if crosses_zero { 0.0 } else { low - room };
        }
        if data_high > fixed_high || low >= high {
            high += room;
        }
        Self { kind, low, high }
    }

    /// The share of the axis at which a value stands; `None` where it has no place.
    pub(crate) fn share(&self, value: f64) -> Option<f64> {
        if !is_drawable(value) {
            return None;
        }
        let share = (self.kind.apply(value)? - self.low) / (self.high - self.low);
        (-1e-9..=1.0 + 1e-9).contains(&share).then_some(share)
    }

    /// The share at which bars start: zero where it has a place, else the lower end.
    pub(crate) fn base(&self) -> f64 {
        self.share(0.0).unwrap_or(0.0)
    }

    /// About `wanted` ticks; on logarithmic axes few distinct `data` values are their own ticks.
    pub(crate) fn ticks(&self, axis: &Axis, wanted: usize, data: &[f64]) -> Vec<Tick> {
        if let Scale::Categories(names) = &axis.scale {
            return names
                .iter()
                .enumerate()
                .map(|(index, name)| Tick {
                    value: index as f64,
                    label: name.clone(),
                })
                .collect();
        }
        if self.kind == Kind::Linear {
            return linear_ticks(self.low, self.high, wanted.max(2));
        }
        let mut values = distinct(data);
        if values.is_empty() || values.len() > 12 {
            values = self.round_values(wanted);
        }
        values
            .into_iter()
            .filter(|value| self.share(*value).is_some())
            .map(|value| Tick {
                value,
                label: readable(value),
            })
            .collect()
    }

    /// Powers of ten, with 2 and 5 between them where there are few, and zero where it has a place.
    fn round_values(&self, wanted: usize) -> Vec<f64> {
        let (least, most) = match self.kind {
            Kind::SymLog { unit } => {
                let reach = self.high.abs().max(self.low.abs());
                (unit.log10(), unit.log10() + reach)
            }
            _ => (self.low, self.high),
        };
        let decades = (most - least).max(1.0);
        let steps: &[f64] = if decades * 3.0 <= wanted as f64 + 2.0 {
            &[1.0, 2.0, 5.0]
        } else {
            &[1.0]
        };
        let stride = (decades / wanted.max(2) as f64).ceil().max(1.0) as usize;
        let powers = (least.floor() as i32..=most.ceil() as i32).step_by(stride);
        let positive: Vec<f64> = powers
            .flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)))
            .collect();
        if self.kind == Kind::Log {
            return positive;
        }
        let negative = positive.iter().rev().map(|value| -value);
        negative
            .chain([0.0])
            .chain(positive.iter().copied())
            .collect()
    }
}

impl Kind {
    fn apply(self, value: f64) -> Option<f64> {
        match self {
            Self::Linear | Self::Categories => Some(value),
            Self::Log => (value > 0.0).then(|| value.log10()),
            Self::SymLog { unit } => Some(value.signum() * (1.0 + value.abs() / unit).log10()),
        }
    }
}

fn kind<'a>(scale: &Scale, values: impl Iterator<Item = &'a f64>) -> Kind {
    match scale {
        Scale::Linear => Kind::Linear,
        Scale::Log => Kind::Log,
        Scale::Categories(_) => Kind::Categories,
        Scale::SymLog => {
            let unit = values
                .map(|value| value.abs())
                .filter(|value| is_drawable(*value) && *value > 0.0)
                .fold(f64::INFINITY, f64::min);
            // The floor keeps `value / unit` finite for any drawable value.
            let unit = if unit.is_finite() {
                unit.max(1e-100)
            } else {
                1.0
            };
            Kind::SymLog { unit }
        }
    }
}

fn distinct(values: &[f64]) -> Vec<f64> {
    let mut values: Vec<f64> = values.iter().copied().filter(|v| is_drawable(*v)).collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    values
}

/// Multiples of 1, 2, 2.5 or 5 times a power of ten.
fn linear_ticks(low: f64, high: f64, wanted: usize) -> Vec<Tick> {
    let rough = (high - low) / wanted as f64;
    let power = rough.log10().floor();
    let magnitude = 10f64.powf(power);
    let misfit = |factor: f64| (factor * magnitude / rough).ln().abs();
    let factor = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .min_by(|a, b| misfit(*a).total_cmp(&misfit(*b)))
        .unwrap_or(1.0);
    let step = factor * magnitude;
    let is_plain = (-5.0..6.0).contains(&power);
    let decimals = (-(step.log10() + 1e-9).floor()).max(0.0) as usize
        + usize::from(factor == 2.5 && step < 25.0 && magnitude <= 1.0);
    let first = (low / step - 1e-6).ceil();
    let count = ((high / step + 1e-6).floor() - first).clamp(-1.0, 50.0) as i64 + 1;
    (0..count)
        .map(|index| {
            let value = (first + index as f64) * step;
            let value = if value.abs() < step * 1e-6 {
                0.0
            } else {
                value
            };
            let label = if is_plain {
                with_decimals(value, decimals, false)
            } else {
                readable(value)
            };
            Tick { value, label }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis, values: &[f64], wanted: usize, data: &[f64]) -> Vec<String> {
        let domain = Domain::new(axis, values, 0.05);
        let ticks = domain.ticks(axis, wanted, data);
        ticks.into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn linear_ticks_are_round() {
        let axis = Axis::new("", Scale::Linear);
        assert_eq!(
            labels(&axis, &[41.3, 62.9], 5, &[]),
            ["45", "50", "55", "60"]
        );
        assert_eq!(
            labels(&axis, &[0.0, 1.0], 5, &[]),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(
            labels(&axis, &[0.0, 10.0], 4, &[]),
            ["0.0", "2.5", "5.0", "7.5", "10.0"]
        );
        assert_eq!(labels(&axis, &[-3.0, 3.0], 3, &[]), ["−2", "0", "2"]);
        assert_eq!(
            labels(&axis, &[0.0, 50_000.0], 3, &[]),
            ["0", "20,000", "40,000"]
        );
    }

    #[test]
    fn zero_has_a_place_on_a_symmetric_log_axis() {
        let axis = Axis::new("t", Scale::SymLog);
        let times = [0.0, 10.0, 90.0, 900.0];
        let domain = Domain::new(&axis, &times, 0.0);
        let shares: Vec<f64> = times.iter().filter_map(|t| domain.share(*t)).collect();
        assert_eq!(shares[0], 0.0);
        assert!(shares.windows(2).all(|pair| pair[1] - pair[0] > 0.1));
        assert!((shares[3] - 1.0).abs() < 1e-12);
        assert_eq!(labels(&axis, &times, 6, &times), ["0", "10", "90", "900"]);
    }

    #[test]
    fn log_axes_use_powers_and_drop_what_has_no_place() {
        let axis = Axis::new("n", Scale::Log);
        let domain = Domain::new(&axis, &[1.0, 1000.0, 0.0, -5.0], 0.0);
        assert_eq!(domain.share(0.0), None);
        assert!((domain.share(10.0).expect("inside") - 1.0 / 3.0).abs() < 1e-12);
        let ticks = domain.ticks(&axis, 4, &[]);
        let labels: Vec<&str> = ticks.iter().map(|tick| tick.label.as_str()).collect();
        assert_eq!(labels, ["1", "10", "100", "1000"]);
    }

    #[test]
    fn included_ends_stand_and_data_ends_get_a_margin() {
        let axis = Axis::new("", Scale::Linear).including(0.0, 100.0);
        let domain = Domain::new(&axis, &[20.0, 60.0], 0.05);
        assert_eq!(domain.share(0.0), Some(0.0));
        assert_eq!(domain.share(100.0), Some(1.0));
        let free = Domain::new(&Axis::new("", Scale::Linear), &[20.0, 60.0], 0.05);
        assert!(free.share(20.0).expect("inside") > 0.0);
    }

    #[test]
    fn one_value_none_and_extremes_still_make_an_axis() {
        for scale in [Scale::Linear, Scale::Log, Scale::SymLog] {
            let axis = Axis::new("", scale);
            for values in [&[][..], &[3.0], &[0.0], &[f64::NAN], &[1e99, -1e99, 1e-300]] {
                let domain = Domain::new(&axis, values, 0.05);
                assert!(domain.low < domain.high, "{values:?}");
                assert!(domain.ticks(&axis, 5, &[]).len() <= 110, "{values:?}");
            }
        }
    }
}
