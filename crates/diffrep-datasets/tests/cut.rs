//! Cutting a small data set, and the one in `fixtures/fashion-mnist`.

use std::fs;
use std::path::Path;

use diffrep_datasets::idx::{Idx, write_idx_gz};
use diffrep_datasets::{
    CutSpec, Dataset, DatasetError, Description, Split, TestCut, cut_idx, fashion_mnist, open,
};

fn spec() -> CutSpec {
    CutSpec {
        train_per_class: 5,
        validation_per_class: 2,
        test: TestCut::All,
        name: "small".into(),
        source: "a test".into(),
        licence: "none needed".into(),
    }
}

/// Three classes of 20 training images and 4 test images; the first pixel tells them apart.
fn write_source(folder: &Path) {
    for (split, count) in [("train", 60_usize), ("t10k", 12)] {
        let data = (0..count)
            .flat_map(|index| [index as u8, 0, 0, 1])
            .collect();
        let images = Idx {
            dims: vec![count, 2, 2],
            data,
        };
        write_idx_gz(
            &folder.join(format!("{split}-images-idx3-ubyte.gz")),
            &images,
        )
        .unwrap();
        let labels = Idx {
            dims: vec![count],
            data: (0..count).map(|index| index as u8 % 3).collect(),
        };
        write_idx_gz(
            &folder.join(format!("{split}-labels-idx1-ubyte.gz")),
            &labels,
        )
        .unwrap();
    }
}

fn class_counts(dataset: &Dataset) -> Vec<usize> {
    let mut counts = vec![0; dataset.class_names().len()];
    for &label in dataset.labels() {
        counts[label as usize] += 1;
    }
    counts
}

#[test]
fn a_cut_is_balanced_disjoint_sorted_and_keeps_ids() {
    let (source, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_source(source.path());
    let report = cut_idx(source.path(), cut.path(), &spec(), 3).unwrap();
    assert_eq!(report.files.len(), 10);

    let train = open(cut.path(), Split::Train).unwrap();
    let validation = open(cut.path(), Split::Validation).unwrap();
    assert_eq!(class_counts(&train), [5, 5, 5]);
    assert_eq!(class_counts(&validation), [2, 2, 2]);
    assert!(train.ids().iter().all(|id| !validation.ids().contains(id)));
    for part in [&train, &validation] {
        assert!(part.ids().is_sorted());
        for index in 0..part.len() {
            assert_eq!(
                u64::from(part.image(index).unwrap().pixels()[0]),
                part.id(index)
            );
            assert_eq!(u64::from(part.label(index)), part.id(index) % 3);
        }
    }
    let whole = open(source.path(), Split::Test).unwrap();
    let test = open(cut.path(), Split::Test).unwrap();
    assert_eq!(test.fingerprint().unwrap(), whole.fingerprint().unwrap());
    assert_eq!(
        report.description.splits["test"].fingerprint,
        whole.fingerprint().unwrap()
    );
    assert_eq!(report.description.splits["validation"].from, Split::Train);
}

#[test]
fn the_same_cut_has_the_same_bytes_and_another_seed_others() {
    let source = tempfile::tempdir().unwrap();
    write_source(source.path());
    let bytes = |seed| {
        let cut = tempfile::tempdir().unwrap();
        let report = cut_idx(source.path(), cut.path(), &spec(), seed).unwrap();
        let read = |(path, size): &(_, u64)| {
            let content = fs::read::<&std::path::PathBuf>(path).unwrap();
            assert_eq!(content.len() as u64, *size);
            content
        };
        report.files.iter().map(read).collect::<Vec<_>>()
    };
    assert_eq!(bytes(1), bytes(1));
    assert_ne!(bytes(1)[2], bytes(2)[2], "the training ids");
}

#[test]
fn a_cut_of_a_cut_keeps_the_original_ids() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    write_source(folders[0].path());
    cut_idx(folders[0].path(), folders[1].path(), &spec(), 3).unwrap();
    let smaller = CutSpec {
        train_per_class: 1,
        validation_per_class: 0,
        test: TestCut::PerClass(2),
        ..spec()
    };
    cut_idx(folders[1].path(), folders[2].path(), &smaller, 4).unwrap();
    let train = open(folders[2].path(), Split::Train).unwrap();
    assert_eq!(class_counts(&train), [1, 1, 1]);
    assert_eq!(u64::from(train.image(2).unwrap().pixels()[0]), train.id(2));
    assert_eq!(
        class_counts(&open(folders[2].path(), Split::Test).unwrap()),
        [2, 2, 2]
    );
    let error = open(folders[2].path(), Split::Validation).unwrap_err();
    assert!(
        matches!(error, DatasetError::NoSuchSplit { .. }),
        "{error:?}"
    );
}

#[test]
fn impossible_cuts_are_refused() {
    let source = tempfile::tempdir().unwrap();
    write_source(source.path());
    let cut = tempfile::tempdir().unwrap();
    let greedy = CutSpec {
        train_per_class: 19,
        ..spec()
    };
    let error = cut_idx(source.path(), cut.path(), &greedy, 0).unwrap_err();
    assert!(
        matches!(
            error,
            DatasetError::NotEnough {
                available: 20,
                wanted: 21,
                ..
            }
        ),
        "{error:?}"
    );
    let error = cut_idx(source.path(), source.path(), &spec(), 0).unwrap_err();
    assert!(
        matches!(error, DatasetError::SameFolder { .. }),
        "{error:?}"
    );
    assert_eq!(open(source.path(), Split::Train).unwrap().len(), 60);
}

#[test]
fn the_small_fashion_mnist_is_what_its_description_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/fashion-mnist");
    let description: Description =
        diffrep_artifact::read_json(folder.join("dataset.json")).unwrap();
    assert_eq!(description.classes, fashion_mnist::CLASS_NAMES);
    for (split, per_class) in [
        (Split::Train, 700),
        (Split::Validation, 100),
        (Split::Test, 1_000),
    ] {
        let dataset = open(&folder, split).unwrap();
        let described = &description.splits[&split.to_string()];
        assert_eq!(dataset.len(), described.count);
        assert_eq!(class_counts(&dataset), [per_class; 10]);
        assert_eq!(
            dataset.fingerprint().unwrap(),
            described.fingerprint,
            "{split}"
        );
        assert_eq!(dataset.image(0).unwrap().width(), fashion_mnist::SIDE);
    }
    let test = open(&folder, Split::Test).unwrap();
    assert_eq!(test.labels()[..8], [9, 2, 1, 1, 6, 1, 4, 6]);
}
