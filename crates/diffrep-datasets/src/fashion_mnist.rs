//! What is known about Fashion-MNIST before a file is opened.
//!
//! 70,000 grey photographs of clothing, 28x28 pixels, background 0, MIT licence, (c) 2017 Zalando SE;
//! Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms", 2017.

/// Names of the labels 0 to 9.
pub const CLASS_NAMES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// Images in the official training files, 6,000 of each class.
pub const TRAIN_COUNT: usize = 60_000;

/// Images in the official test files, 1,000 of each class.
pub const TEST_COUNT: usize = 10_000;

/// Rows and columns of an image.
pub const SIDE: usize = 28;

const FIRST_TRAIN_LABELS: [u8; 8] = [9, 0, 0, 3, 0, 2, 7, 2];
const FIRST_TEST_LABELS: [u8; 8] = [9, 2, 1, 1, 6, 1, 4, 6];

/// Tells whether labels are those of an official file, by their number and the first eight.
///
/// MNIST uses the same file names and counts, but its labels start differently.
pub fn are_official_labels(labels: &[u8]) -> bool {
    (labels.len() == TRAIN_COUNT && labels.starts_with(&FIRST_TRAIN_LABELS))
        || (labels.len() == TEST_COUNT && labels.starts_with(&FIRST_TEST_LABELS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn official_labels_need_the_count_and_the_start() {
        let mut labels = vec![0_u8; TRAIN_COUNT];
        assert!(!are_official_labels(&labels));
        labels[..8].copy_from_slice(&FIRST_TRAIN_LABELS);
        assert!(are_official_labels(&labels));
        assert!(!are_official_labels(&labels[..TEST_COUNT]));
        labels[..8].copy_from_slice(&FIRST_TEST_LABELS);
        assert!(are_official_labels(&labels[..TEST_COUNT]));
    }
}
