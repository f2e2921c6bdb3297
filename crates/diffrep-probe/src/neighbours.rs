//! The k-NN probe: each sample is given the class that its nearest training samples vote for.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::linear::{argmax, check};
use crate::{Features, ProbeError};

/// Queries compared at a time.
const ROWS: usize = 512;

/// How neighbours are looked for and vote (Wu et al. 2018, as in DINO's evaluation): by cosine
/// similarity, with weight exp(similarity / temperature).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeighbourRecipe {
    /// Its name, printed next to every result.
    pub name: String,
    /// Whether features are shifted and scaled to mean 0 and deviation 1 over the training set before
    /// they are compared.
    pub standardize: bool,
    /// Numbers of neighbours tried.
    pub neighbours: Vec<usize>,
    /// Temperatures tried.
    pub temperatures: Vec<f64>,
}

/// A point of the recipe's grid.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vote {
    /// How many neighbours vote; all training samples where there are fewer.
    pub neighbours: usize,
    /// Similarity is divided by this before the exponential.
    pub temperature: f64,
}

impl NeighbourRecipe {
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.neighbours.is_empty() || self.neighbours.contains(&0) {
            return Err("neighbours must be at least 1, at least one number".into());
        }
        let positive = |value: &f64| value.is_finite() && *value > 0.0;
        if self.temperatures.is_empty() || !self.temperatures.iter().all(positive) {
            return Err("temperatures must be positive numbers, at least one".into());
        }
        Ok(())
    }

    /// Every point of the grid.
    pub fn grid(&self) -> Vec<Vote> {
        let votes = self.neighbours.iter().flat_map(|&neighbours| {
            let temperatures = self.temperatures.iter();
            temperatures.map(move |&temperature| Vote {
                neighbours,
                temperature,
            })
        });
        votes.collect()
    }
}

/// Training samples that vote.
#[derive(Clone, Debug)]
pub struct Neighbours {
    bank: Vec<f32>,
    labels: Vec<u32>,
    dim: usize,
    classes: usize,
    moments: Option<(Vec<f32>, Vec<f32>)>,
}

impl Neighbours {
    /// Takes the training samples in.
    ///
    /// # Errors
    ///
    /// When there are none or a label is out of range.
    pub fn new(train: &Features, classes: usize, standardize: bool) -> Result<Self, ProbeError> {
        check(train, train, classes)?;
        let moments = standardize.then(|| train.moments());
        Ok(Self {
            bank: unit(train, moments.as_ref()),
            labels: train.labels.clone(),
            dim: train.dim,
            classes,
            moments,
        })
    }

    /// The votes for each class of each query, `[queries, classes]`, for each of `grid`: every query
    /// is compared once. Of equally near neighbours the earlier counts as nearer.
    ///
    /// # Errors
    ///
    /// When queries are of another length than the training samples.
    pub fn votes(&self, queries: &Features, grid: &[Vote]) -> Result<Vec<Vec<f32>>, ProbeError> {
        if queries.dim != self.dim {
            return Err(ProbeError::Width {
                train: self.dim,
                validation: queries.dim,
            });
        }
        let (count, classes) = (self.labels.len(), self.classes);
        let most = grid.iter().map(|vote| vote.neighbours).max();
        let most = most.unwrap_or(0).min(count);
        let inputs = unit(queries, self.moments.as_ref());
        let bank = MatRef::from_row_major_slice(&self.bank, count, self.dim);
        let mut votes = vec![Vec::with_capacity(queries.len() * classes); grid.len()];
        for rows in inputs.chunks(ROWS * self.dim) {
            let size = rows.len() / self.dim;
            let mut near = vec![0.0f32; size * count];
            let rows = MatRef::from_row_major_slice(rows, size, self.dim);
            let all = MatMut::from_row_major_slice_mut(&mut near, size, count);
            matmul(
                all,
                Accum::Replace,
                rows,
                bank.transpose(),
                1.0,
                Par::rayon(0),
            );
            let found: Vec<Vec<(f32, u32)>> = near
                .par_chunks_exact(count)
                .map(|row| self.nearest(row, most))
                .collect();
            for nearest in found {
                for (votes, vote) in votes.iter_mut().zip(grid) {
                    let start = votes.len();
                    votes.resize(start + classes, 0.0);
                    for (similarity, label) in nearest.iter().take(vote.neighbours) {
                        // At most 1 for the nearest there can be, so that nothing overflows.
                        let weight = ((f64::from(*similarity) - 1.0) / vote.temperature).exp();
                        votes[start + *label as usize] += weight as f32;
                    }
                }
            }
        }
        Ok(votes)
    }

    /// Similarity and class of the nearest, the nearest first.
    fn nearest(&self, similarities: &[f32], most: usize) -> Vec<(f32, u32)> {
        let mut order: Vec<u32> = (0..similarities.len() as u32).collect();
        let nearer = |a: &u32, b: &u32| {
            let of = |i: u32| similarities[i as usize];
            of(*b).total_cmp(&of(*a)).then(a.cmp(b))
        };
        if most < order.len() {
            order.select_nth_unstable_by(most, nearer);
            order.truncate(most);
        }
        order.sort_unstable_by(nearer);
        let found = order.into_iter().map(|index| {
            let index = index as usize;
            (similarities[index], self.labels[index])
        });
        found.collect()
    }
}

/// Rows of length 1; a row of zeros stays one.
fn unit(features: &Features, moments: Option<&(Vec<f32>, Vec<f32>)>) -> Vec<f32> {
    let mut values = features.values.clone();
    for row in values.chunks_exact_mut(features.dim) {
        if let Some((mean, deviation)) = moments {
            for ((value, mean), deviation) in row.iter_mut().zip(mean).zip(deviation) {
                *value = (*value - mean) / deviation;
            }
        }
        let square: f64 = row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
        let scale = if square > 0.0 {
            1.0 / square.sqrt()
        } else {
            0.0
        };
        row.iter_mut()
            .for_each(|value| *value = (f64::from(*value) * scale) as f32);
    }
    values
}

/// The vote with the highest accuracy on `validation` and that accuracy; of equals the first.
///
/// # Errors
///
/// As [`Neighbours::votes`], and when the grid or the validation split is empty.
pub fn best_vote(
    neighbours: &Neighbours,
    validation: &Features,
    grid: &[Vote],
) -> Result<(Vote, f64), ProbeError> {
    let votes = neighbours.votes(validation, grid)?;
    let accuracies = votes.iter().map(|votes| {
        let rows = votes
            .chunks_exact(neighbours.classes)
            .zip(&validation.labels);
        let right = rows.filter(|(row, label)| argmax(row) == Some(**label as usize));
        right.count() as f64 / validation.len().max(1) as f64
    });
    let scored = grid.iter().copied().zip(accuracies).rev();
    scored
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .filter(|_| !validation.is_empty())
        .ok_or(ProbeError::Empty {
            split: "validation",
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(values: &[[f32; 2]], labels: &[u32]) -> Features {
        Features {
            values: values.concat(),
            dim: 2,
            labels: labels.to_vec(),
        }
    }

    #[test]
    fn votes_are_those_computed_by_hand() {
        let train = features(
            &[[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [-1.0, 0.0]],
            &[0, 1, 1, 2],
        );
        let query = features(&[[2.0, 0.0]], &[1]);
        let bank = Neighbours::new(&train, 3, false).unwrap();
        let vote = |neighbours, temperature| Vote {
            neighbours,
            temperature,
        };
        let grid = [vote(1, 0.5), vote(3, 0.5), vote(9, 0.5)];
        let votes = bank.votes(&query, &grid).unwrap();
        // Cosines are 1, 1, 0 and -1; the length of a vector does not matter.
        let far = |similarity: f64| ((similarity - 1.0) / 0.5).exp() as f32;
        assert_eq!(votes[0], [1.0, 0.0, 0.0]);
        assert_eq!(votes[1], [1.0, 1.0 + far(0.0), 0.0]);
        assert_eq!(votes[2], [1.0, 1.0 + far(0.0), far(-1.0)]);
        let (best, accuracy) = best_vote(&bank, &query, &grid).unwrap();
        assert_eq!((best.neighbours, accuracy), (3, 1.0));
    }

    #[test]
    fn chunks_do_not_change_votes() {
        let values: Vec<[f32; 2]> = (0..700)
            .map(|i| [(i as f32 * 0.7).sin() + 2.0, (i as f32 * 1.3).cos()])
            .collect();
        let labels: Vec<u32> = (0..700).map(|i| i % 5).collect();
        let all = features(&values, &labels);
        let bank = Neighbours::new(&all, 5, true).unwrap();
        let grid = [Vote {
            neighbours: 7,
            temperature: 0.07,
        }];
        let together = bank.votes(&all, &grid).unwrap().remove(0);
        let alone = bank.votes(&all.select(&[600]), &grid).unwrap().remove(0);
        assert_eq!(together[600 * 5..601 * 5], alone);
    }

    #[test]
    fn bad_input_is_refused() {
        let train = features(&[[1.0, 0.0]], &[3]);
        let error = Neighbours::new(&train, 3, false).unwrap_err().to_string();
        assert!(error.contains("label 3 is out of range"), "{error}");
        let bank = Neighbours::new(&train, 4, false).unwrap();
        let wide = Features {
            values: vec![0.0; 3],
            dim: 3,
            labels: vec![0],
        };
        let error = bank.votes(&wide, &[]).unwrap_err().to_string();
        assert!(error.contains("2 columns"), "{error}");
    }
}
