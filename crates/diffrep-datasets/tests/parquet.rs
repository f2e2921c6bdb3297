//! Hugging Face's Parquet files.
#![cfg(feature = "parquet")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{colours, png, refusal};
use diffrep_datasets::{DatasetError, OnError, Split, available_splits, check, open};
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;
use tempfile::tempdir;

/// The schema that `datasets` writes.
const SCHEMA: &str = "message schema {
    optional group image { optional binary bytes; optional binary path (UTF8); }
    optional int64 label;
}";

const NAMES: &str = r#"{"info": {"features": {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog", "eel"], "_type": "ClassLabel"}}}}"#;

/// A file whose row groups hold `(image, label)` rows; an image or label may be absent.
fn table(
    schema: &str,
    note: Option<&str>,
    compression: Compression,
    groups: &[Vec<(Option<Vec<u8>>, Option<i64>)>],
) -> Vec<u8> {
    let note = note.map(|note| vec![KeyValue::new("huggingface".to_owned(), note.to_owned())]);
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_key_value_metadata(note)
        // Several pages in each group.
        .set_data_page_row_count_limit(2)
        .set_write_batch_size(1)
        .build();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let columns = schema
        .get_fields()
        .iter()
        .map(|field| {
            if field.is_group() {
                field.get_fields().len()
            } else {
                1
            }
        })
        .sum::<usize>();
    let flat = columns == 2;
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
    for rows in groups {
        let present = if flat { 0 } else { 2 };
        let images: Vec<ByteArray> = rows
            .iter()
            .filter_map(|(image, _)| image.clone().map(ByteArray::from))
            .collect();
        let levels: Vec<i16> = rows
            .iter()
            .map(|(image, _)| if image.is_some() { present } else { 1 })
            .collect();
        let labels: Vec<i64> = rows.iter().filter_map(|(_, label)| *label).collect();
        let label_levels: Vec<i16> = rows
            .iter()
            .map(|(_, label)| i16::from(label.is_some()))
            .collect();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<ByteArrayType>()
            .write_batch(&images, (!flat).then_some(levels.as_slice()), None)
            .unwrap();
        column.close().unwrap();
        if !flat {
            let paths: Vec<ByteArray> = rows
                .iter()
                .map(|_| ByteArray::from("../../secret.png"))
                .collect();
            let mut column = group.next_column().unwrap().unwrap();
            column
                .typed::<ByteArrayType>()
                .write_batch(&paths, Some(&vec![2; rows.len()]), None)
                .unwrap();
            column.close().unwrap();
        }
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<Int64Type>()
            .write_batch(&labels, (!flat).then_some(label_levels.as_slice()), None)
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.into_inner().unwrap()
}

fn row(shade: u8, label: i64) -> (Option<Vec<u8>>, Option<i64>) {
    (Some(png([shade; 3])), Some(label))
}

fn usual(groups: &[Vec<(Option<Vec<u8>>, Option<i64>)>]) -> Vec<u8> {
    table(SCHEMA, Some(NAMES), Compression::SNAPPY, groups)
}

fn write(root: &Path, name: &str, content: &[u8]) {
    common::write(&root.join(name), content);
}

#[test]
fn rows_of_all_groups_and_files_are_in_order() {
    let folder = tempdir().unwrap();
    let root = folder.path();
    let groups: Vec<Vec<_>> = (0..3)
        .map(|group| {
            (0..5)
                .map(|place| row(group * 5 + place, i64::from(place % 3)))
                .collect()
        })
        .collect();
    write(
        root,
        "data/train-00000-of-00002.parquet",
        &usual(&groups[..2]),
    );
    let zstd = Compression::ZSTD(ZstdLevel::default());
    // An empty group takes no row.
    let rest = [vec![], groups[2].clone()];
    write(
        root,
        "data/train-00001-of-00002.parquet",
        &table(SCHEMA, Some(NAMES), zstd, &rest),
    );
    write(
        root,
        "data/validation-00000-of-00001.parquet",
        &usual(&[vec![row(99, 2)]]),
    );

    assert_eq!(
        available_splits(root).unwrap(),
        [Split::Train, Split::Validation]
    );
    let train = open(root, Split::Train).unwrap();
    assert_eq!(train.class_names(), ["cat", "dog", "eel"]);
    let expected: Vec<[u8; 3]> = (0..15).map(|shade| [shade; 3]).collect();
    assert_eq!(colours(&train), expected);
    assert_eq!(train.labels(), [0, 1, 2, 0, 1].repeat(3));
    assert!(
        train.name(12).ends_with("train-00001-of-00002.parquet/2"),
        "{}",
        train.name(12)
    );
    // printf %s train-00001-of-00002.parquet/2 | sha256sum
    assert_eq!(train.id(12), ID >> 1);
    assert_eq!(colours(&train.subset(&[14, 3])), [[14; 3], [3; 3]]);
    assert_eq!(train.encoded(7).unwrap().unwrap(), png([7; 3]));
    assert_eq!(open(root, Split::Validation).unwrap().labels(), [2]);

    let before = train.fingerprint().unwrap();
    // Another file of the same name and size, by a byte within the first image.
    let path = root.join("data/train-00000-of-00002.parquet");
    let whole = std::fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    bytes[100] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let replaced = open(root, Split::Train).unwrap();
    assert_ne!(replaced.fingerprint().unwrap(), before);
    std::fs::write(&path, &whole).unwrap();
    assert_ne!(
        train.subset(&[1, 0]).fingerprint().unwrap(),
        train.subset(&[0, 1]).fingerprint().unwrap()
    );
    write(
        root,
        "data/train-00000-of-00002.parquet",
        &usual(&[groups[0].clone(), vec![row(200, 1); 5]]),
    );
    assert_ne!(
        open(root, Split::Train).unwrap().fingerprint().unwrap(),
        before
    );
}

const ID: u64 = 0xb1eadc1ac4f26a4c;

#[test]
fn a_file_by_itself_is_the_split_that_its_name_mentions() {
    let folder = tempdir().unwrap();
    let groups = [vec![row(7, 1), row(8, 2)]];
    for (name, split) in [
        ("cats-test.parquet", Split::Test),
        ("cats.parquet", Split::Train),
    ] {
        write(folder.path(), name, &usual(&groups));
        let file = folder.path().join(name);
        assert_eq!(available_splits(&file).unwrap(), [split]);
        let dataset = open(&file, split).unwrap();
        assert_eq!(colours(&dataset), [[7; 3], [8; 3]]);
        assert_eq!(dataset.labels(), [1, 2]);
    }
    let absent = folder.path().join("dogs.parquet");
    assert!(refusal(&absent, Split::Train).contains("dogs.parquet"));
}

#[test]
fn other_names_of_columns_are_understood() {
    for (image, label) in [("img", "fine_label"), ("jpg", "cls"), ("image", "label")] {
        let folder = tempdir().unwrap();
        let schema =
            format!("message schema {{ required binary {image}; required int64 {label}; }}");
        let bytes = table(
            &schema,
            None,
            Compression::UNCOMPRESSED,
            &[vec![row(5, 0), row(6, 1)]],
        );
        write(folder.path(), "default/train/0000.parquet", &bytes);
        let test = table(&schema, None, Compression::UNCOMPRESSED, &[vec![row(7, 3)]]);
        write(folder.path(), "default/test/0000.parquet", &test);
        let train = open(folder.path(), Split::Train).unwrap();
        assert_eq!(
            (train.labels(), colours(&train)),
            ([0, 1].as_slice(), vec![vec![5; 3], vec![6; 3]])
        );
        assert_eq!(
            train.class_names(),
            ["0", "1", "2", "3"],
            "all splits count"
        );
    }
    let folder = tempdir().unwrap();
    let schema = "message schema { required binary picture; required int64 label; }";
    write(
        folder.path(),
        "train.parquet",
        &table(schema, None, Compression::UNCOMPRESSED, &[vec![row(5, 0)]]),
    );
    let message = refusal(folder.path(), Split::Train);
    assert!(message.contains("found picture, label"), "{message}");
}

#[test]
fn unlabelled_splits_and_wrong_labels_are_refused() {
    for (rows, expected) in [
        (
            vec![row(1, 0), row(2, -1)],
            "row 1 has the label -1, which marks images whose classes were not published",
        ),
        (
            vec![row(1, 0), row(2, 3)],
            "row 1 has the label 3, expected 0 to 2",
        ),
        (vec![row(1, -2)], "label -2"),
        (
            vec![row(1, 0), (Some(png([2; 3])), None)],
            "2 rows and 1 labels",
        ),
        (vec![], "has no row"),
    ] {
        let folder = tempdir().unwrap();
        write(
            folder.path(),
            "data/test-00000-of-00001.parquet",
            &usual(&[rows]),
        );
        let message = refusal(folder.path(), Split::Test);
        assert!(message.contains(expected), "{expected}: {message}");
    }
    // Without names, a huge label must not make as many.
    let folder = tempdir().unwrap();
    let bytes = table(SCHEMA, None, Compression::SNAPPY, &[vec![row(1, i64::MAX)]]);
    write(folder.path(), "train.parquet", &bytes);
    assert!(refusal(folder.path(), Split::Train).contains("expected 0 to 99999"));
}

#[test]
fn a_row_that_has_only_a_path_reads_no_file() {
    let folder = tempdir().unwrap();
    common::write(&folder.path().join("secret.png"), png([9; 3]));
    let bytes = usual(&[vec![row(1, 0), (None, Some(1)), row(3, 2)]]);
    write(folder.path(), "a/b/train.parquet", &bytes);
    let dataset = open(folder.path().join("a/b"), Split::Train).unwrap();
    let error = dataset.image(1).unwrap_err();
    assert!(
        error.to_string().contains("train.parquet/1") && error.to_string().contains("no bytes"),
        "{error}"
    );
    let (kept, skipped) = check(&dataset, OnError::Skip).unwrap();
    assert_eq!(
        (colours(&kept), skipped.len()),
        (vec![vec![1; 3], vec![3; 3]], 1)
    );
}

#[test]
fn damaged_files_are_errors() {
    let folder = tempdir().unwrap();
    let bytes = usual(&[vec![row(1, 0); 4]]);
    write(folder.path(), "train.parquet", &bytes[..bytes.len() / 2]);
    let error = open(folder.path(), Split::Train).unwrap_err();
    assert!(matches!(error, DatasetError::Table { .. }), "{error:?}");
    assert!(error.to_string().contains("train.parquet"), "{error}");
    write(folder.path(), "train.parquet", b"");
    assert!(open(folder.path(), Split::Train).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]
    #[test]
    fn changed_bytes_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), late in any::<bool>()) {
        let folder = tempdir().unwrap();
        let mut bytes = usual(&[vec![row(1, 0), row(2, 1), row(3, 2)], vec![row(4, 0)]]);
        let len = bytes.len();
        for (index, value) in changes {
            // Half of the cases go for the metadata, which stand at the end.
            let position = if late { len - 1 - index.index(len / 3) } else { index.index(len) };
            bytes[position] = value;
        }
        write(folder.path(), "train.parquet", &bytes);
        if let Ok(dataset) = open(folder.path(), Split::Train) {
            for index in 0..dataset.len() {
                let _ = dataset.image(index);
            }
        }
    }
}
