//! Sums of products of centred kernel matrices, and the similarities that they make.

use ndarray::Array2;

use crate::options::Pairs;
use crate::{CkaError, Precision};

/// The similarity of every layer of one list with every layer of another.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// The names of the rows.
    pub rows: Vec<String>,
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The similarities [rows, columns].
    pub values: Array2<f64>,
    /// How many samples they were estimated from.
    pub samples: usize,
    /// How many batches these were cut into; 1 unless the estimator is `Minibatch`.
    pub batches: usize,
}

/// What CKA is a quotient of, up to a factor that all sums share.
#[derive(Clone)]
pub(crate) struct Sums {
    pub(crate) pairs: Pairs,
    /// HSIC of each row's layer with each column's.
    pub(crate) cross: Array2<f64>,
    /// HSIC of each layer with itself.
    pub(crate) own: Vec<f64>,
    /// The trace of each layer's centred kernel matrix.
    pub(crate) traces: Vec<f64>,
    /// What `own` could be by rounding alone.
    floors: Vec<f64>,
}

/// How large errors are, relative to what is rounded, with a margin.
pub(crate) fn rounding(precision: Precision) -> f64 {
    match precision {
        Precision::Double => 16.0 * f64::EPSILON,
        Precision::Single => 4.0 * f64::from(f32::EPSILON),
    }
}

impl Sums {
    pub(crate) fn zeros(pairs: Pairs) -> Self {
        let zeros = vec![0.0; pairs.layers()];
        Self {
            pairs,
            cross: Array2::zeros(pairs.shape()),
            own: zeros.clone(),
            traces: zeros.clone(),
            floors: zeros,
        }
    }

    /// Notes the traces, which say how large rounding is in sums of squares.
    pub(crate) fn set_traces(&mut self, traces: Vec<f64>, precision: Precision) {
        let unit = rounding(precision);
        self.floors = traces.iter().map(|trace| (unit * trace).powi(2)).collect();
        self.traces = traces;
    }

    /// Raises what rounding may leave of a layer's own similarity where that is a difference.
    pub(crate) fn set_floor(&mut self, layer: usize, floor: f64) {
        self.floors[layer] = floor;
    }

    /// Writes the similarity of layers `i <= j`, as `Pairs::needed` lists them.
    pub(crate) fn set(&mut self, (i, j): (usize, usize), value: f64) {
        if i == j {
            self.own[i] = value;
        }
        match self.pairs.columns {
            None => {
                self.cross[[i, j]] = value;
                self.cross[[j, i]] = value;
            }
            Some(_) if i < self.pairs.rows && j >= self.pairs.rows => {
                self.cross[[i, j - self.pairs.rows]] = value;
            }
            Some(_) => {}
        }
    }

    pub(crate) fn add(&mut self, other: &Self, weight: f64) {
        let plus = |sum: &mut [f64], more: &[f64], weight: f64| {
            sum.iter_mut()
                .zip(more)
                .for_each(|(sum, more)| *sum += more * weight);
        };
        self.cross.scaled_add(weight, &other.cross);
        plus(&mut self.own, &other.own, weight);
        plus(&mut self.floors, &other.floors, weight);
        plus(&mut self.traces, &other.traces, 1.0);
    }

    /// The similarities, or why a layer has none.
    pub(crate) fn finish(
        &self,
        names: &[String],
        samples: usize,
        batches: usize,
    ) -> Result<Matrix, CkaError> {
        for (layer, name) in names.iter().enumerate() {
            self.check(layer, name.clone())?;
        }
        let roots: Vec<f64> = self.own.iter().map(|own| own.sqrt()).collect();
        let mut values = self.cross.clone();
        for ((row, column), value) in values.indexed_iter_mut() {
            *value /= roots[row] * roots[self.pairs.column(column)];
            if !value.is_finite() {
                let layer = names[row].clone();
                return Err(CkaError::Overflow { layer });
            }
        }
        let (rows, columns) = names.split_at(self.pairs.rows);
        let columns = if self.pairs.columns.is_some() {
            columns
        } else {
            rows
        };
        Ok(Matrix {
            rows: rows.to_vec(),
            columns: columns.to_vec(),
            values,
            samples,
            batches,
        })
    }

    fn check(&self, index: usize, layer: String) -> Result<(), CkaError> {
        let (own, trace) = (self.own[index], self.traces[index]);
        if !own.is_finite() || !trace.is_finite() {
            return Err(CkaError::Overflow { layer });
        }
        if trace == 0.0 {
            return Err(CkaError::Constant { layer });
        }
        if own <= self.floors[index] {
            return Err(CkaError::NoSignal { layer });
        }
        Ok(())
    }
}
