//! One step of all heads of a grid: rates and decays differ from column to column.

use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use super::read;
use crate::Optimizer;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPS: f64 = 1e-8;

/// An optimizer's state of one parameter of all heads.
pub(super) enum State {
    Adam {
        mean: Tensor<2>,
        square: Tensor<2>,
        steps: i32,
    },
    /// The same where tensors are in this process's memory: one pass in place of a dozen.
    AdamOnHost(Moments),
    Sgd {
        velocity: Option<Tensor<2>>,
        momentum: f64,
        nesterov: bool,
    },
}

impl State {
    pub(super) fn new(optimizer: Optimizer, like: &Tensor<2>) -> Self {
        match optimizer {
            Optimizer::Adam if diffrep_ops::is_on_host(&like.device()) => {
                Self::AdamOnHost(Moments::new(like.dims().iter().product()))
            }
            Optimizer::Adam => Self::Adam {
                mean: like.zeros_like(),
                square: like.zeros_like(),
                steps: 0,
            },
            Optimizer::Sgd { momentum, nesterov } => Self::Sgd {
                velocity: None,
                momentum,
                nesterov,
            },
        }
    }

    /// The parameter after a step; rates and decays are `[1, columns]`.
    pub(super) fn step(
        &mut self,
        value: Tensor<2>,
        gradient: Tensor<2>,
        rates: &Tensor<2>,
        decays: Option<&Tensor<2>>,
    ) -> Tensor<2> {
        match self {
            Self::Adam {
                mean,
                square,
                steps,
            } => {
                *steps += 1;
                *mean = mean.clone() * BETA1 + gradient.clone() * (1.0 - BETA1);
                *square = square.clone() * BETA2 + gradient.square() * (1.0 - BETA2);
                let root = (square.clone() / (1.0 - BETA2.powi(*steps))).sqrt() + EPS;
                let unit = mean.clone() / (1.0 - BETA1.powi(*steps)) / root;
                let value = match decays {
                    None => value,
                    Some(decays) => value * ((decays.clone() * rates.clone()).neg() + 1.0),
                };
                value - unit * rates.clone()
            }
            Self::AdamOnHost(moments) => {
                let (shape, device) = (value.dims(), value.device());
                let mut values = read(value);
                let decays = decays.map(|decays| read(decays.clone()));
                moments.step(
                    &mut values,
                    &read(gradient),
                    &read(rates.clone()),
                    decays.as_deref(),
                );
                Tensor::from_data(TensorData::new(values, shape), &device)
            }
            Self::Sgd {
                velocity,
                momentum,
                nesterov,
            } => {
                let gradient = match decays {
                    None => gradient,
                    Some(decays) => gradient + value.clone() * decays.clone(),
                };
                let moved = match velocity.take() {
                    None => gradient.clone(),
                    Some(velocity) => velocity * *momentum + gradient.clone(),
                };
                *velocity = (*momentum > 0.0).then(|| moved.clone());
                let direction = match nesterov {
                    true => gradient + moved * *momentum,
                    false => moved,
                };
                value - direction * rates.clone()
            }
        }
    }
}

/// Adam's moments of a parameter whose rows have a rate and a decay for each column.
pub(super) struct Moments {
    mean: Vec<f32>,
    square: Vec<f32>,
    steps: i32,
}

/// Values that a thread takes at a time, about.
const CHUNK: usize = 1 << 14;

impl Moments {
    fn new(len: usize) -> Self {
        Self {
            mean: vec![0.0; len],
            square: vec![0.0; len],
            steps: 0,
        }
    }

    /// The operations of [`State::step`] in their order, so that the bits are the same.
    fn step(&mut self, value: &mut [f32], gradient: &[f32], rates: &[f32], decays: Option<&[f32]>) {
        let rule = self.next(rates, decays);
        let chunk = rates.len() * (CHUNK / rates.len()).max(1);
        let parts = value
            .par_chunks_mut(chunk)
            .zip(self.mean.par_chunks_mut(chunk))
            .zip(self.square.par_chunks_mut(chunk))
            .zip(gradient.par_chunks(chunk));
        parts.for_each(|(((value, mean), square), gradient)| {
            rule.apply(value, mean, square, gradient);
        });
    }

    fn next<'a>(&mut self, rates: &'a [f32], decays: Option<&[f32]>) -> Rule<'a> {
        self.steps += 1;
        let shrink = match decays {
            None => vec![1.0; rates.len()],
            Some(decays) => decays
                .iter()
                .zip(rates)
                .map(|(d, r)| -(d * r) + 1.0)
                .collect(),
        };
        Rule {
            first: (1.0 - BETA1.powi(self.steps)) as f32,
            second: (1.0 - BETA2.powi(self.steps)) as f32,
            rates,
            shrink,
        }
    }
}

/// One step of Adam.
struct Rule<'a> {
    first: f32,
    second: f32,
    rates: &'a [f32],
    shrink: Vec<f32>,
}

impl Rule<'_> {
    /// Some rows of a parameter and of its moments.
    fn apply(&self, value: &mut [f32], mean: &mut [f32], square: &mut [f32], gradient: &[f32]) {
        let (keep1, take1) = (BETA1 as f32, (1.0 - BETA1) as f32);
        let (keep2, take2) = (BETA2 as f32, (1.0 - BETA2) as f32);
        let (first, second, eps) = (self.first, self.second, EPS as f32);
        let columns = self.rates.len();
        let rows = value
            .chunks_exact_mut(columns)
            .zip(mean.chunks_exact_mut(columns))
            .zip(square.chunks_exact_mut(columns))
            .zip(gradient.chunks_exact(columns));
        for (((value, mean), square), gradient) in rows {
            let moments = mean.iter_mut().zip(square);
            let columns = value.iter_mut().zip(moments).zip(gradient);
            for ((((value, (mean, square)), g), rate), shrink) in
                columns.zip(self.rates).zip(&self.shrink)
            {
                *mean = *mean * keep1 + g * take1;
                *square = *square * keep2 + g * g * take2;
                let unit = *mean / first / ((*square / second).sqrt() + eps);
                *value = *value * shrink - unit * rate;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use diffrep_rng::{Key, Stream};

    use super::*;

    #[test]
    fn one_pass_on_the_host_has_the_bits_of_the_tensors() {
        let device = Device::flex();
        let (rows, columns) = (700, 30);
        let tensor = |values: Vec<f32>, shape| {
            Tensor::<2>::from_data(TensorData::new(values, shape), &device)
        };
        let noise = |draw: u32, len: usize| {
            let mut values = vec![0.0f32; len];
            let key = Key::new(1, Stream::Noise).draw(draw);
            key.fill_normal(&mut values);
            values
        };
        let columns_of =
            |of: &dyn Fn(usize) -> f32| tensor((0..columns).map(of).collect(), [1, columns]);
        let rates = columns_of(&|i| 1e-3 * (i + 1) as f32);
        let decays = columns_of(&|i| 0.1 * i as f32);
        let start = tensor(noise(0, rows * columns), [rows, columns]);
        let mut on_host = State::new(Optimizer::Adam, &start);
        assert!(matches!(on_host, State::AdamOnHost(_)));
        let mut on_tensors = State::Adam {
            mean: start.zeros_like(),
            square: start.zeros_like(),
            steps: 0,
        };
        let (mut ours, mut theirs) = (start.clone(), start);
        for step in 1..5 {
            let gradient = tensor(noise(step, rows * columns), [rows, columns]);
            let decays = (step % 2 == 0).then_some(&decays);
            ours = on_host.step(ours, gradient.clone(), &rates, decays);
            theirs = on_tensors.step(theirs, gradient, &rates, decays);
            let bits = |x: &Tensor<2>| -> Vec<u32> {
                read(x.clone()).into_iter().map(f32::to_bits).collect()
            };
            assert!(bits(&ours) == bits(&theirs), "step {step}");
        }
    }
}
