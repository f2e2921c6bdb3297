//! WebDataset shards.

mod common;

use common::{colours, png, refusal, tar, write};
use diffrep_datasets::{DatasetError, Split, available_splits, open};
use tempfile::{TempDir, tempdir};

fn sample(key: &str, shade: u8, label: &str) -> Vec<(String, Vec<u8>)> {
    vec![
        (format!("{key}.cls"), label.as_bytes().to_vec()),
        (format!("{key}.JPG"), png([shade; 3])),
        (format!("{key}.json"), b"{}".to_vec()),
    ]
}

fn shard(samples: &[Vec<(String, Vec<u8>)>]) -> Vec<u8> {
    let members: Vec<_> = samples
        .iter()
        .flatten()
        .map(|(name, content)| (name.as_str(), content.clone()))
        .collect();
    tar(&members)
}

fn shards() -> TempDir {
    let folder = tempdir().unwrap();
    let root = folder.path();
    let meta = vec![("__meta.txt".to_owned(), b"x".to_vec())];
    write(
        &root.join("set-train-000.tar"),
        shard(&[meta, sample("a.b/00", 10, "2\n"), sample("a/01", 20, " 0")]),
    );
    write(
        &root.join("set-train-001.tar"),
        shard(&[sample("a/01", 30, "1")]),
    );
    write(&root.join("set-val-0.tar"), shard(&[sample("b", 40, "3")]));
    folder
}

#[test]
fn adjacent_files_of_one_key_make_a_sample() {
    let folder = shards();
    let root = folder.path();
    assert_eq!(
        available_splits(root).unwrap(),
        [Split::Train, Split::Validation]
    );
    let train = open(root, Split::Train).unwrap();
    assert_eq!(
        train.class_names(),
        ["0", "1", "2", "3"],
        "all splits count"
    );
    assert_eq!(train.labels(), [2, 0, 1]);
    assert_eq!(colours(&train), [[10; 3], [20; 3], [30; 3]]);
    assert!(
        train.name(2).ends_with("set-train-001.tar/a/01.JPG"),
        "{}",
        train.name(2)
    );
    assert_eq!(train.path(2), None);
    // printf %s set-train-001.tar/a/01.JPG | sha256sum
    assert_eq!(train.id(2), 0x597d_27a4_2052_f39d >> 1);
    assert_eq!(open(root, Split::Validation).unwrap().labels(), [3]);
    assert_eq!(train.subset(&[2]).image(0).unwrap().pixels()[0], 30);
}

#[test]
fn a_range_in_braces_names_shards() {
    let folder = shards();
    let train = open(folder.path().join("set-train-{000..001}.tar"), Split::Train).unwrap();
    assert_eq!((train.len(), train.class_names().len()), (3, 3));
    let one = open(folder.path().join("set-val-0.tar"), Split::Validation).unwrap();
    assert_eq!(colours(&one), [[40; 3]]);
    let message = refusal(
        &folder.path().join("set-train-{000..002}.tar"),
        Split::Train,
    );
    assert!(message.contains("set-train-002.tar"), "{message}");
    let message = refusal(
        &folder.path().join("set-train-{0..99999999}.tar"),
        Split::Train,
    );
    assert!(message.contains("at most 100000"), "{message}");
}

#[test]
fn folders_of_splits_and_names_of_classes_are_understood() {
    let folder = tempdir().unwrap();
    let root = folder.path();
    write(&root.join("train/0.tar"), shard(&[sample("a", 1, "0")]));
    write(&root.join("test/0.tar"), shard(&[sample("a", 2, "1")]));
    write(&root.join("classnames.txt"), "cat\ndog\n");
    let test = open(root, Split::Test).unwrap();
    assert_eq!(
        (test.class_names(), test.labels()),
        (
            ["cat".to_owned(), "dog".to_owned()].as_slice(),
            [1].as_slice()
        )
    );
    write(&root.join("classnames.txt"), "cat\n");
    let error = open(root, Split::Test).unwrap_err();
    assert!(
        matches!(
            error,
            DatasetError::LabelRange {
                label: 1,
                classes: 1,
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn halves_of_samples_are_refused() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("train.tar");
    for (members, expected) in [
        (vec![("a.jpg", png([0; 3]))], "no label"),
        (vec![("a.cls", b"0".to_vec())], "no image"),
        // A key that comes again is another sample: its parts are not adjacent.
        (
            vec![
                ("a.jpg", png([0; 3])),
                ("b.txt", vec![]),
                ("a.cls", b"0".to_vec()),
            ],
            "no label",
        ),
        (
            vec![
                ("a.jpg", png([0; 3])),
                ("a.png", png([0; 3])),
                ("a.cls", b"0".to_vec()),
            ],
            "two images",
        ),
        (
            vec![("a.jpg", png([0; 3])), ("a.cls", b"cat".to_vec())],
            "decimal",
        ),
        (
            vec![("a.jpg", png([0; 3])), ("a.cls", b"-1".to_vec())],
            "decimal",
        ),
        (
            vec![("a.jpg", png([0; 3])), ("a.cls", b"1000000".to_vec())],
            "from 0 to 99999",
        ),
        (
            vec![("a.jpg", png([0; 3])), ("a.cls", vec![b'0'; 1_000])],
            "decimal",
        ),
        (vec![("a.txt", vec![])], "no shard holds a sample"),
    ] {
        write(&path, tar(&members));
        let message = refusal(&path, Split::Train);
        assert!(
            message.contains(expected) && message.contains("train.tar"),
            "{expected}: {message}"
        );
    }
}

#[test]
fn a_shard_of_no_split_beside_shards_of_splits_is_refused() {
    let folder = shards();
    write(
        &folder.path().join("more.tar"),
        shard(&[sample("c", 1, "0")]),
    );
    let message = refusal(folder.path(), Split::Train);
    assert!(
        message.contains("more.tar") && message.contains("mentions no split"),
        "{message}"
    );
}

#[test]
fn an_image_file_is_read_in_place_and_a_change_is_noticed() {
    let folder = shards();
    let dataset = open(folder.path(), Split::Validation).unwrap();
    let before = dataset.fingerprint().unwrap();
    assert_eq!(dataset.encoded(0).unwrap().unwrap(), png([40; 3]));
    let path = folder.path().join("set-val-0.tar");
    let bytes = std::fs::read(&path).unwrap();
    // Another image under the same name and of the same size.
    let image = png([40; 3]);
    let at = bytes.windows(image.len()).position(|part| part == image);
    let mut other = bytes.clone();
    other[at.unwrap() + image.len() - 1] ^= 1;
    std::fs::write(&path, other).unwrap();
    let replaced = open(folder.path(), Split::Validation).unwrap();
    assert_ne!(replaced.fingerprint().unwrap(), before);
    std::fs::write(&path, &bytes[..1500]).unwrap();
    assert!(
        dataset
            .image(0)
            .unwrap_err()
            .to_string()
            .contains("has changed")
    );
    write(&path, shard(&[sample("other", 40, "3")]));
    assert_ne!(
        open(folder.path(), Split::Validation)
            .unwrap()
            .fingerprint()
            .unwrap(),
        before
    );
}

#[test]
fn archives_beside_class_folders_are_not_read() {
    let folder = shards();
    write(&folder.path().join("cat/1.png"), png([1; 3]));
    write(&folder.path().join("train.parquet"), "");
    let dataset = open(folder.path(), Split::Train).unwrap();
    assert_eq!(dataset.class_names(), ["cat"]);
}
