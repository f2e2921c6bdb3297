//! What can be said of a classifier from its scores.

use serde::{Deserialize, Serialize};

/// Counts of a classifier on labelled samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Share of samples whose label has the highest score.
    pub top1: f64,
    /// Share of samples whose label is among the five highest scores.
    pub top5: f64,
    /// Mean over classes of the share of their samples that are classified right; classes without
    /// samples do not count.
    pub mean_per_class: f64,
    /// Samples of each class (row) that were given each class (column). A sample with a score that is
    /// no number is given none.
    pub confusion: Vec<Vec<u32>>,
}

impl Metrics {
    /// Of scores `[samples, classes]`, row-major. A label shares its rank with no other class: of
    /// equal scores the first class is the higher.
    ///
    /// # Panics
    ///
    /// Panics when there are not as many rows as labels, or a label is no class.
    pub fn of(scores: &[f32], labels: &[u32], classes: usize) -> Self {
        assert_eq!(scores.len(), labels.len() * classes, "a row for each label");
        let mut confusion = vec![vec![0u32; classes]; classes];
        let (mut first, mut five) = (0usize, 0usize);
        for (row, &label) in scores.chunks_exact(classes).zip(labels) {
            let Some(found) = crate::linear::argmax(row) else {
                continue;
            };
            let label = label as usize;
            confusion[label][found] += 1;
            let above = |(class, score): &(usize, &f32)| {
                **score > row[label] || (**score == row[label] && *class < label)
            };
            let rank = row.iter().enumerate().filter(above).count();
            first += usize::from(rank == 0);
            five += usize::from(rank < 5);
        }
        let samples = labels.len().max(1) as f64;
        let mut metrics = Self {
            top1: first as f64 / samples,
            top5: five as f64 / samples,
            mean_per_class: 0.0,
            confusion,
        };
        let mut counts = vec![0usize; classes];
        labels.iter().for_each(|label| counts[*label as usize] += 1);
        let shares: Vec<f64> = metrics.per_class(&counts).into_iter().flatten().collect();
        metrics.mean_per_class = shares.iter().sum::<f64>() / shares.len().max(1) as f64;
        metrics
    }

    /// Share of each class's samples that are classified right, of so many; none for a class without.
    fn per_class(&self, counts: &[usize]) -> Vec<Option<f64>> {
        let rows = self.confusion.iter().zip(counts).enumerate();
        rows.map(|(class, (row, &count))| (count > 0).then(|| f64::from(row[class]) / count as f64))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_made_by_hand() {
        let scores = [
            [0.1, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0], // right
            [0.1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4], // label 0 comes seventh
            [0.3, 0.9, 0.8, 0.7, 0.2, 0.1, 0.0], // label 4 comes fifth
            [f32::NAN, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0],
            [0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0], // of equals the first
        ];
        let found = Metrics::of(&scores.concat(), &[1, 0, 4, 1, 1], 7);
        assert_eq!((found.top1, found.top5), (0.2, 0.6));
        assert_eq!(found.confusion[1], [1, 1, 0, 0, 0, 0, 0]);
        assert_eq!((found.confusion[0][1], found.confusion[4][1]), (1, 1));
        // Class 0: none of 1, class 1: one of 3, class 4: none of 1; the others have no samples.
        assert!((found.mean_per_class - 1.0 / 9.0).abs() < 1e-12);
    }
}
