use diffrep_store::Store;

use crate::ProbeError;

/// Features of one setting with labels, in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Row-major `[samples, dim]`.
    pub values: Vec<f32>,
    /// Length of a vector.
    pub dim: usize,
    /// Class of each sample.
    pub labels: Vec<u32>,
}

impl Features {
    /// A column of a store.
    ///
    /// # Errors
    ///
    /// When the store has no such column, or a label is negative.
    pub fn read(store: &Store, column: &str) -> Result<Self, ProbeError> {
        let column = store.column(column)?;
        let labels = store
            .labels()
            .iter()
            .map(|&label| {
                u32::try_from(label).map_err(|_| ProbeError::Label {
                    label,
                    classes: usize::MAX,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            values: column.to_f32(),
            dim: column.dim(),
            labels,
        })
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The samples at `indices`.
    pub fn select(&self, indices: &[usize]) -> Self {
        let rows = indices
            .iter()
            .flat_map(|&i| &self.values[i * self.dim..(i + 1) * self.dim]);
        Self {
            values: rows.copied().collect(),
            dim: self.dim,
            labels: indices.iter().map(|&i| self.labels[i]).collect(),
        }
    }

    /// Mean and deviation of each feature (f64 sums); a constant feature gets deviation 1.
    pub(crate) fn moments(&self) -> (Vec<f32>, Vec<f32>) {
        let count = self.len().max(1) as f64;
        let mut mean = vec![0.0f64; self.dim];
        for row in self.values.chunks_exact(self.dim) {
            for (mean, value) in mean.iter_mut().zip(row) {
                *mean += f64::from(*value);
            }
        }
        mean.iter_mut().for_each(|mean| *mean /= count);
        let mut variance = vec![0.0f64; self.dim];
        for row in self.values.chunks_exact(self.dim) {
            for ((variance, value), mean) in variance.iter_mut().zip(row).zip(&mean) {
                *variance += (f64::from(*value) - mean).powi(2);
            }
        }
        let deviation = variance.iter().map(|sum| {
            let deviation = (sum / count).sqrt();
            if deviation > 1e-6 {
                deviation as f32
            } else {
                1.0
            }
        });
        (
            mean.iter().map(|mean| *mean as f32).collect(),
            deviation.collect(),
        )
    }
}
