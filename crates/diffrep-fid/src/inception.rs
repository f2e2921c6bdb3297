//! The Inception score, from class probabilities.

use serde::{Deserialize, Serialize};

use crate::error::{at_least, finite};
use crate::features::check_widths;
use crate::{Features, FidError, Side, Source, Value};

/// Images a split, as guided-diffusion's evaluator has it.
pub const INCEPTION_SPLIT: usize = 5000;

/// How far probabilities of one image may be from adding up to one: a softmax in half precision.
const SUM_TOLERANCE: f64 = 1e-2;

const ESTIMATOR: &str =
    "mean over consecutive splits of exp(mean KL(p(y|x) || p(y))), natural logarithm, f64";

/// An Inception score and what stands behind it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InceptionScore {
    /// The mean of the splits' scores.
    pub score: f64,
    /// Their standard deviation, with the number of splits in the denominator as in the first
    /// implementation; zero for one split.
    pub std: f64,
    /// How many splits there are.
    pub splits: usize,
    /// Images a split.
    pub split_size: usize,
    /// Images of the last split, which weighs as much as the others.
    pub last_split: usize,
    /// How many classes there are.
    pub dim: usize,
    /// The images that are judged.
    pub samples: Side,
    /// How the number was computed.
    pub estimator: String,
}

/// Accumulates the Inception score of images that come in batches.
///
/// Splits are runs of consecutive images, so the order counts, as it does in the reference. There the
/// logits are products of `pool3` features and the last layer's weights, without its bias.
#[derive(Clone, Debug)]
pub struct InceptionScorer {
    split_size: usize,
    count: u64,
    /// Sums of p over the images of the open split, `[classes]`.
    sums: Vec<f64>,
    /// The sum of p log p over them.
    negative_entropy: f64,
    /// How many images the open split has.
    open: usize,
    scores: Vec<f64>,
}

impl InceptionScorer {
    /// Of no images yet; `split_size` is [`INCEPTION_SPLIT`] to agree with published numbers.
    ///
    /// # Errors
    ///
    /// [`FidError::Setting`] if `classes` or `split_size` is below two: the score is then one.
    pub fn new(classes: usize, split_size: usize) -> Result<Self, FidError> {
        for (name, found) in [("classes", classes), ("split_size", split_size)] {
            if found < 2 {
                return Err(FidError::Setting {
                    name,
                    found: found as u64,
                    expected: "at least 2".into(),
                });
            }
        }
        Ok(Self {
            split_size,
            count: 0,
            sums: vec![0.0; classes],
            negative_entropy: 0.0,
            open: 0,
            scores: Vec::new(),
        })
    }

    /// Takes the class probabilities of more images in, `[count, classes]`.
    ///
    /// # Errors
    ///
    /// [`FidError::Width`] for another number of classes, [`FidError::NotProbabilities`] for a row with
    /// a negative value or a sum that is not about one. Rows before that one have been taken in.
    pub fn push<T: Value>(&mut self, probabilities: Features<'_, T>) -> Result<(), FidError> {
        check_widths(probabilities.dim(), self.sums.len())?;
        for row in probabilities.values().chunks_exact(self.sums.len()) {
            check_distribution(row, self.count)?;
            for (sum, &value) in self.sums.iter_mut().zip(row) {
                let value: f64 = value.into();
                *sum += value;
                self.negative_entropy += times_log(value);
            }
            self.count += 1;
            self.open += 1;
            if self.open == self.split_size {
                self.close();
            }
        }
        Ok(())
    }

    /// The score of all images so far; a last split may be shorter, as in the reference.
    ///
    /// # Errors
    ///
    /// [`FidError::TooFew`] below two images.
    pub fn finish(mut self, source: Option<Source>) -> Result<InceptionScore, FidError> {
        at_least("the Inception score", 2, self.count)?;
        let last_split = if self.open > 0 {
            self.open
        } else {
            self.split_size
        };
        if self.open > 0 {
            self.close();
        }
        let splits = self.scores.len() as f64;
        let score = self.scores.iter().sum::<f64>() / splits;
        let squares: f64 = self.scores.iter().map(|one| (one - score).powi(2)).sum();
        Ok(InceptionScore {
            score: finite("Inception score", score)?,
            std: finite("Inception score", (squares / splits).sqrt())?,
            splits: self.scores.len(),
            split_size: self.split_size,
            last_split,
            dim: self.sums.len(),
            samples: Side {
                count: Some(self.count),
                source,
            },
            estimator: ESTIMATOR.into(),
        })
    }

    /// Scores the open split: the mean of sum p log p - p log q, where q is the mean of p.
    fn close(&mut self) {
        let count = self.open as f64;
        let marginal: f64 = self.sums.iter().map(|sum| times_log(sum / count)).sum();
        // Divergence is never negative; rounding of two nearly equal sums may make it so.
        let divergence = (self.negative_entropy / count - marginal).max(0.0);
        self.scores.push(divergence.exp());
        self.sums.fill(0.0);
        self.negative_entropy = 0.0;
        self.open = 0;
    }
}

/// p log p, which is zero at zero.
fn times_log(p: f64) -> f64 {
    if p > 0.0 { p * p.ln() } else { 0.0 }
}

fn check_distribution<T: Value>(row: &[T], index: u64) -> Result<(), FidError> {
    let mut sum = 0.0;
    for (class, &value) in row.iter().enumerate() {
        let value: f64 = value.into();
        if value < 0.0 {
            let reason = format!("class {class} has probability {value}");
            return Err(FidError::NotProbabilities { row: index, reason });
        }
        sum += value;
    }
    if (sum - 1.0).abs() > SUM_TOLERANCE {
        let reason = format!("its values add up to {sum}");
        return Err(FidError::NotProbabilities { row: index, reason });
    }
    Ok(())
}
