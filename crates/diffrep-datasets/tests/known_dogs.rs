//! Stanford Dogs: the lists, and the ranks of folders against labels.

use std::path::Path;

use common::known::{id, partial, refusal, touch};
use common::mat::{Value, texts, write_mat};
use diffrep_datasets::{KnownDataset, Partial, Split};
use tempfile::tempdir;

#[path = "common"]
mod common {
    pub(crate) mod known;
    pub(crate) mod mat;
}

const DOGS: KnownDataset = KnownDataset::Dogs;

fn breeds() -> Vec<(String, u8)> {
    (1..=120)
        .map(|number| {
            (
                format!("n{:08}-breed_No-{number}", 2_085_620 + u32::from(number)),
                number,
            )
        })
        .collect()
}

fn dog(folder: &str) -> String {
    format!("{folder}/{}_7.jpg", &folder[..9])
}

/// One training image of each breed, listed from the last to the first.
fn write_dogs(root: &Path, lists: &str, entries: &[(String, u8)]) {
    let variables = [
        (
            "file_list",
            texts(entries.iter().map(|entry| entry.0.clone())),
        ),
        (
            "annotation_list",
            texts(entries.iter().map(|entry| entry.0.replace(".jpg", ""))),
        ),
        (
            "labels",
            Value::Bytes(entries.iter().map(|entry| entry.1).collect()),
        ),
    ];
    write_mat(&root.join(lists).join("train_list.mat"), &variables);
    touch(
        &root.join("Images"),
        breeds().iter().map(|breed| dog(&breed.0)),
    );
}

fn dogs() -> Vec<(String, u8)> {
    breeds()
        .iter()
        .rev()
        .map(|(folder, number)| (dog(folder), *number))
        .collect()
}

#[test]
fn dogs_open_with_the_lists_beside_the_images_or_in_a_folder() {
    for lists in ["", "lists"] {
        let folder = tempdir().unwrap();
        let root = folder.path().join("StanfordDogs");
        write_dogs(&root, lists, &dogs());
        for path in [folder.path(), &root] {
            let train = partial(DOGS, path, Split::Train);
            assert_eq!(train.labels(), (0..120).rev().collect::<Vec<_>>());
            assert_eq!(train.class_names()[0], "breed No-1");
            assert_eq!(train.class_ids()[0], "n02085621");
            assert_eq!(train.id(119), id("n02085621-breed_No-1/n02085621_7.jpg"));
            assert_eq!(
                train.partial(),
                Some(Partial {
                    expected: 12_000,
                    found: 120
                })
            );
        }
        let message = refusal(DOGS, folder.path(), Split::Test);
        assert!(message.contains("it has no test_list.mat"), "{message}");
    }
}

#[test]
fn ranks_and_labels_of_dogs_must_agree() {
    let folder = tempdir().unwrap();
    let mut swapped = dogs();
    (swapped[3].1, swapped[9].1) = (swapped[9].1, swapped[3].1);
    write_dogs(folder.path(), "", &swapped);
    let message = refusal(DOGS, folder.path(), Split::Train);
    assert!(
        message.contains(
            "\"n02085731-breed_No-111\" the label 117, and its rank among the folders is 111"
        ),
        "{message}"
    );
}

#[test]
fn damaged_lists_of_dogs_are_refused() {
    let cases: [(&str, u8, &str); 8] = [
        ("../n02085621-breed_No-1/x.jpg", 1, "leads upwards"),
        ("/n02085621-breed_No-1/x.jpg", 1, "is absolute"),
        ("n02085621-breed_No-1\\x.jpg", 1, "a backslash"),
        ("n02085621-breed_No-1/x\0.jpg", 1, "NUL"),
        ("x.jpg", 1, "expected `folder/file`"),
        (
            "n02085621-breed_No-1/more/x.jpg",
            1,
            "expected `folder/file`",
        ),
        ("n02085621-breed_No-1/x.jpg", 2, "different labels"),
        ("n02085621-breed_No-1/n02085621_7.jpg", 1, "twice"),
    ];
    for (name, label, sentence) in cases {
        let folder = tempdir().unwrap();
        let mut entries = dogs();
        entries.push((name.to_owned(), label));
        write_dogs(folder.path(), "", &entries);
        let message = refusal(DOGS, folder.path(), Split::Train);
        assert!(
            message.contains(sentence) && message.contains("train_list.mat"),
            "{message}"
        );
    }
    for (alter, sentence) in [
        (
            (|entries| entries[0].1 = 0) as fn(&mut Vec<(String, u8)>),
            "the label 0, and its rank among the folders is 120",
        ),
        (|entries| entries[0].1 = 121, "the label 121"),
        (
            |entries| drop(entries.pop()),
            "it gives 119 classes, and Stanford Dogs has 120",
        ),
    ] {
        let folder = tempdir().unwrap();
        let mut entries = dogs();
        alter(&mut entries);
        write_dogs(folder.path(), "", &entries);
        let message = refusal(DOGS, folder.path(), Split::Train);
        assert!(message.contains(sentence), "{message}");
    }
    let folder = tempdir().unwrap();
    let variables = [
        ("file_list", texts(["n02085621-a/x.jpg"])),
        ("labels", Value::Bytes(vec![1, 2])),
    ];
    write_mat(&folder.path().join("train_list.mat"), &variables);
    assert!(refusal(DOGS, folder.path(), Split::Train).contains("it has 1 files and 2 labels"));
}
