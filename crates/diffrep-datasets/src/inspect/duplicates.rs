//! Images that occur more than once.

use serde::Serialize;

use crate::{Dataset, Split};

/// Images whose files have the same bytes, or, where images are held in memory, the same pixels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Duplicates {
    /// Images that occur more than once, each counted once.
    pub groups: usize,
    /// Samples beyond the first of each group.
    pub surplus: usize,
    /// Groups with several samples in one split.
    pub within_splits: usize,
    /// Groups with samples in several splits: what is tested there was seen in training.
    pub across_splits: usize,
    /// Groups whose samples have different labels.
    pub with_different_labels: usize,
    /// The first groups, by the position of their first sample.
    pub listed: Vec<DuplicateGroup>,
}

/// Samples with the same image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DuplicateGroup {
    /// Whether all samples have the same label.
    pub same_label: bool,
    /// The samples, by split and position; at most the first 10.
    pub samples: Vec<Occurrence>,
    /// How many samples there are.
    pub total: usize,
}

/// A sample that has the image of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Occurrence {
    /// Its split.
    pub split: Split,
    /// Its position in the split.
    pub index: usize,
    /// What it is called in messages.
    pub name: String,
    /// The name of its class.
    pub class: String,
}

/// The most samples that are listed of a group: one grey square may occur in thousands.
const MOST_OCCURRENCES: usize = 10;

/// Finds equal contents among `(content, data set, position)`.
pub(super) fn find(
    datasets: &[Dataset],
    mut contents: Vec<(u128, usize, usize)>,
    most_listed: usize,
) -> Duplicates {
    contents.sort_unstable();
    let equal = contents.chunk_by(|a, b| a.0 == b.0);
    let mut groups: Vec<&[(u128, usize, usize)]> = equal.filter(|group| group.len() > 1).collect();
    groups.sort_unstable_by_key(|group| (group[0].1, group[0].2));

    let label = |&(_, part, index): &(u128, usize, usize)| datasets[part].label(index);
    let same_label = |group: &[_]| group.iter().all(|sample| label(sample) == label(&group[0]));
    let count = |what: &dyn Fn(&[(u128, usize, usize)]) -> bool| {
        groups.iter().filter(|group| what(group)).count()
    };
    Duplicates {
        groups: groups.len(),
        surplus: groups.iter().map(|group| group.len() - 1).sum(),
        within_splits: count(&|group| group.windows(2).any(|pair| pair[0].1 == pair[1].1)),
        across_splits: count(&|group| {
            group.first().map(|sample| sample.1) != group.last().map(|sample| sample.1)
        }),
        with_different_labels: count(&|group| !same_label(group)),
        listed: groups
            .iter()
            .take(most_listed)
            .map(|group| DuplicateGroup {
                same_label: same_label(group),
                samples: group
                    .iter()
                    .take(MOST_OCCURRENCES)
                    .map(|sample| occurrence(datasets, sample))
                    .collect(),
                total: group.len(),
            })
            .collect(),
    }
}

fn occurrence(datasets: &[Dataset], &(_, part, index): &(u128, usize, usize)) -> Occurrence {
    let dataset = &datasets[part];
    Occurrence {
        split: dataset.split(),
        index,
        name: dataset.name(index),
        class: dataset.class_names()[dataset.label(index) as usize].clone(),
    }
}
