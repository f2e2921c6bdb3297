//! List files, and what they may not name.

mod common;

use common::{colours, png, refusal, write};
use diffrep_datasets::{DatasetError, OnError, Split, available_splits, check, open};
use tempfile::tempdir;

#[test]
fn names_of_classes_are_ranked_in_the_training_list() {
    let folder = tempdir().unwrap();
    let root = folder.path();
    for (name, shade) in [
        ("images/1.png", 1),
        ("images/a, b.png", 2),
        ("images/3.png", 3),
    ] {
        write(&root.join(name), png([shade; 3]));
    }
    let train = "\u{feff}label,extra,path\r\nzebra,x,./images/1.png\r\n\"ant \"\"red\"\"\",y,\"images/a, b.png\"\r\n";
    write(&root.join("train.csv"), train);
    write(&root.join("test.csv"), "images/3.png,zebra\n\n");
    assert_eq!(available_splits(root).unwrap(), [Split::Train, Split::Test]);

    let train = open(root, Split::Train).unwrap();
    assert_eq!(train.class_names(), ["ant \"red\"", "zebra"]);
    assert_eq!(train.labels(), [1, 0]);
    assert_eq!(colours(&train), [[1; 3], [2; 3]]);
    assert!(train.path(1).unwrap().ends_with("images/a, b.png"));
    // printf %s images/1.png | sha256sum
    assert_eq!(train.id(0), 0x0b52_0df6_a0d9_d3c4 >> 1);
    let test = open(root, Split::Test).unwrap();
    assert_eq!(
        (test.labels(), test.class_names()),
        ([1].as_slice(), train.class_names())
    );

    write(&root.join("test.csv"), "images/3.png,yak\n");
    let message = refusal(root, Split::Test);
    assert!(
        message.contains("line 1 of")
            && message.contains("test.csv")
            && message.contains("\"yak\""),
        "{message}"
    );
}

#[test]
fn numbers_count_to_the_highest_of_all_lists() {
    let folder = tempdir().unwrap();
    let root = folder.path();
    write(&root.join("1.png"), png([1; 3]));
    write(&root.join("2.png"), png([2; 3]));
    write(&root.join("train.csv"), "1.png,0\n2.png,2\n");
    write(&root.join("val.csv"), "filename,label\n1.png,4\n");
    let train = open(root, Split::Train).unwrap();
    assert_eq!(train.class_names(), ["0", "1", "2", "3", "4"]);
    assert_eq!(train.labels(), [0, 2]);
    assert_eq!(open(root, Split::Validation).unwrap().labels(), [4]);
    // What is too high for a number of a class is a name, and no list of a billion names is made.
    write(&root.join("val.csv"), "1.png,4000000000\n");
    assert!(refusal(root, Split::Validation).contains("4000000000"));
}

#[test]
fn a_list_goes_before_folders_only_if_it_leads_to_images() {
    let folder = tempdir().unwrap();
    let root = folder.path();
    write(&root.join("train/images/1.png"), png([1; 3]));
    write(&root.join("train.csv"), "train/images/1.png,cat\n");
    assert_eq!(open(root, Split::Train).unwrap().class_names(), ["cat"]);
    write(&root.join("train.csv"), "Id,Breed\n1,cat\n");
    assert_eq!(open(root, Split::Train).unwrap().class_names(), ["images"]);
}

#[test]
fn broken_lists_name_the_line() {
    let folder = tempdir().unwrap();
    let root = folder.path();
    for (list, expected) in [
        ("", "names no image"),
        ("path,label\n", "names no image"),
        ("a.png,1\nb.png\n", "line 2"),
        ("a.png,1\nb.png,\n", "line 2"),
        ("a.png,1\n\"b.png,2\n", "quote"),
        ("a,b,c\n", "header"),
        ("path,size\n", "header"),
        ("a.png,1\n./a.png,1\n", "stands in line 1 already"),
        ("a.png,1\n../a.png,1\n", "upwards"),
        ("a.png,1\n/etc/hostname,1\n", "absolute"),
        ("a.png,1\nb\\..\\..\\c.png,1\n", "backslash"),
        ("a.png,1\nb\0.png,1\n", "NUL"),
    ] {
        write(&root.join("train.csv"), list);
        let message = refusal(root, Split::Train);
        assert!(
            message.contains(expected) && message.contains("train.csv"),
            "{list:?}: {message}"
        );
    }
    write(&root.join("train.csv"), b"a.png,\xff\n");
    assert!(refusal(root, Split::Train).contains("UTF-8"));
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_is_not_followed() {
    let (folder, outside) = (tempdir().unwrap(), tempdir().unwrap());
    let root = folder.path();
    write(&outside.path().join("secret.png"), png([9; 3]));
    write(&root.join("real.png"), png([1; 3]));
    std::os::unix::fs::symlink(outside.path(), root.join("images")).unwrap();
    std::os::unix::fs::symlink(root.join("real.png"), root.join("near.png")).unwrap();
    write(&root.join("train.csv"), "near.png,0\nimages/secret.png,0\n");

    let dataset = open(root, Split::Train).unwrap();
    assert_eq!(
        dataset.image(0).unwrap().pixels()[0],
        1,
        "a link within is followed"
    );
    let error = dataset.image(1).unwrap_err();
    assert!(
        matches!(error, DatasetError::UnsafeName { .. }),
        "{error:?}"
    );
    assert!(dataset.fingerprint().is_err());
    let (kept, skipped) = check(&dataset, OnError::Skip).unwrap();
    assert_eq!((kept.len(), skipped.len()), (1, 1));
}

#[test]
fn numbers_and_names_are_not_mixed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.png"), "").unwrap();
    for (list, line) in [
        ("a.png,2\nb.png,10\nc.png,-1\n", "line 3"),
        ("a.png,2\nb.png,cat\n", "line 2"),
        ("a.png,2\nb.png,4000000000\n", "line 2"),
        ("fname,lbl\na.png,1\n", "line 1"),
    ] {
        std::fs::write(folder.path().join("train.csv"), list).unwrap();
        let message = diffrep_datasets::open(folder.path(), diffrep_datasets::Split::Train)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains(line) && message.contains("is no number from 0"),
            "{list}: {message}"
        );
    }
}

#[test]
fn an_image_that_stands_twice_is_told_with_both_lines() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.png"), "").unwrap();
    let list = "path,label\na.png,0\nb.png,1\na.png,1\n";
    std::fs::write(folder.path().join("train.csv"), list).unwrap();
    let message = diffrep_datasets::open(folder.path(), diffrep_datasets::Split::Train)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("line 4") && message.contains("a.png stands in line 2"),
        "{message}"
    );
}
