//! MATLAB files: those of scipy and of a small encoder are read, and what is damaged is named.

use std::fs;
use std::path::{Path, PathBuf};

use common::mat::{Value, compressed, element, file, front, header, matrix, small, texts};
use diffrep_datasets::DatasetError;
use diffrep_datasets::mat::{Array, MAX_DEPTH, MatFault, MatFile, parse, read_mat};
use proptest::prelude::*;

#[path = "common"]
mod common {
    pub(crate) mod mat;
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/mat")
        .join(name)
}

fn read(name: &str) -> MatFile {
    read_mat(&fixture(name)).unwrap()
}

fn get(file: &MatFile, name: &str) -> Array {
    let found = file.variables().iter().find(|(other, _)| other == name);
    found
        .unwrap_or_else(|| panic!("{name} is absent"))
        .1
        .clone()
}

fn row(values: &[f64]) -> Array {
    Array::Numbers {
        dims: vec![1, values.len()],
        values: values.to_vec(),
    }
}

fn fault(bytes: &[u8]) -> MatFault {
    parse(bytes).unwrap_err()
}

#[test]
fn structures_of_scipy_give_records() {
    let file = read("cars.mat");
    let cars = file.records("annotations").unwrap();
    let read: Vec<_> = cars
        .iter()
        .map(|car| (car.integer("class").unwrap(), car.text("fname").unwrap()))
        .collect();
    assert_eq!(
        read,
        [(14, "00001.jpg"), (3, "00002.jpg"), (196, "00003.jpg")]
    );
    assert_eq!(cars[2].integer("bbox_x2").unwrap(), 569);
    assert!(cars[0].has("class") && !cars[0].has("test"));
}

#[test]
fn cells_of_text_keep_slashes_accents_and_empty_entries() {
    let names = [
        "AM General Hummer SUV 2000",
        "Ram C/V Cargo Van Minivan 2012",
        "Citroën é",
        "",
    ];
    let file = read("cells.mat");
    assert_eq!(file.texts("class_names").unwrap(), names);
    assert_eq!(file.texts("column").unwrap(), names[..2]);
    assert_eq!(read("plain.mat").texts("class_names").unwrap(), names[..3]);
}

#[test]
fn numbers_are_column_major_and_compact_ones_are_widened() {
    let grid = get(&read("plain.mat"), "x");
    let expected = Array::Numbers {
        dims: vec![2, 3],
        values: vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0],
    };
    assert_eq!(grid, expected);
    let setid = read("setid.mat");
    assert_eq!(setid.integers("trnid").unwrap(), [6765, 6755]);
    assert_eq!(setid.integers("valid").unwrap(), [6773]);
    assert_eq!(setid.integers("tstid").unwrap(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(
        read("imagelabels.mat").integers("labels").unwrap(),
        [77, 77, 102, 1]
    );
    assert_eq!(read("dogs.mat").integers("labels").unwrap(), [1, 120]);
}

#[test]
fn every_kind_of_scipy_is_read_or_passed_over() {
    let file = read("kinds.mat");
    for kind in [
        "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32",
        "float64",
    ] {
        assert_eq!(get(&file, kind), row(&[1.0, 2.0, 3.0]), "{kind}");
    }
    assert_eq!(get(&file, "negative"), row(&[-1.5, f64::INFINITY]));
    assert_eq!(get(&file, "truth"), row(&[1.0, 0.0]));
    assert_eq!(file.texts("rows").unwrap(), ["ab", "cd", "e "]);
    assert_eq!(get(&file, "complex"), Array::Unsupported { class: 6 });
    let empty = Array::Numbers {
        dims: vec![0, 3],
        values: vec![],
    };
    assert_eq!(get(&file, "empty"), empty);
    let Array::Struct { fields, values, .. } = get(&file, "nested") else {
        panic!("a structure was written");
    };
    assert_eq!(fields, ["inner"]);
    let Array::Cell { cells, .. } = &values[0] else {
        panic!("a cell was written");
    };
    assert_eq!(cells[0], Array::Text(vec!["a".to_owned()]));
}

#[test]
fn synsets_join_numbers_and_wnids() {
    let file = read("synsets.mat");
    let leaves: Vec<_> = file
        .records("synsets")
        .unwrap()
        .iter()
        .filter(|synset| synset.integer("num_children").unwrap() == 0)
        .map(|synset| {
            let wnid = synset.text("WNID").unwrap().to_owned();
            (synset.integer("ILSVRC2012_ID").unwrap(), wnid)
        })
        .collect();
    assert_eq!(
        leaves,
        [(1, "n02119789".to_owned()), (2, "n01440764".to_owned())]
    );
}

#[test]
fn our_encoder_and_big_endian_files_are_read() {
    let bytes = file(&[
        ("a", Value::Bytes(vec![3])),
        ("b", Value::Words(vec![1, 300, 2])),
        ("c", texts(["x", "", "a longer one"])),
        (
            "d",
            Value::Structs(
                vec!["id"],
                vec![vec![Value::Bytes(vec![7])], vec![texts(["y"])]],
            ),
        ),
    ]);
    let variables = parse(&bytes).unwrap();
    let Array::Struct { dims, values, .. } = &variables[3].1 else {
        panic!("structures were written");
    };
    assert_eq!(
        (dims.as_slice(), &values[0]),
        ([1, 2].as_slice(), &row(&[7.0]))
    );
    assert_eq!(variables[0], ("a".to_owned(), row(&[3.0])));
    assert_eq!(variables[1].1, row(&[1.0, 300.0, 2.0]));

    let mut big = header();
    big[124..].copy_from_slice(&[1, 0, b'M', b'I']);
    let number = |value: u32| value.to_be_bytes();
    let body = [
        [number(6), number(8), number(6), number(0)].concat(),
        [number(5), number(8), number(1), number(2)].concat(),
        vec![0, 1, 0, 1, b'v', 0, 0, 0],
        vec![0, 4, 0, 4, 1, 2, 0, 3],
    ]
    .concat();
    big.extend([number(14), number(body.len() as u32)].concat());
    big.extend(body);
    assert_eq!(parse(&big).unwrap(), [("v".to_owned(), row(&[258.0, 3.0]))]);
}

#[test]
fn errors_name_the_file_and_what_was_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.mat");
    let cases: [(&[u8], &str); 3] = [
        (b"MATLAB 7.3 MAT-file, Platform", "which is HDF5 inside"),
        (b"\x89HDF\r\n\x1a\n", "which is HDF5 inside"),
        (b"not a mat file", "found []"),
    ];
    for (content, sentence) in cases {
        fs::write(&path, content).unwrap();
        let message = read_mat(&path).unwrap_err().to_string();
        assert!(
            message.contains("list.mat") && message.contains(sentence),
            "{message}"
        );
    }
    fs::write(&path, file(&[("a", Value::Bytes(vec![1, 2]))])).unwrap();
    let message = read_mat(&path)
        .unwrap()
        .integers("b")
        .unwrap_err()
        .to_string();
    assert!(
        message.ends_with("list.mat cannot be used as a MATLAB 5 file: it has no `b`; it has: a"),
        "{message}"
    );
    let message = read_mat(&path).unwrap().texts("a").unwrap_err().to_string();
    assert!(
        message.ends_with("`a` holds numbers of size [1, 2], expected a cell array of texts"),
        "{message}"
    );
    let error = read_mat(&fixture("kinds.mat"))
        .unwrap()
        .integers("negative")
        .unwrap_err();
    assert!(error.to_string().contains("-1.5 at position 0"), "{error}");
}

#[test]
fn a_file_larger_than_any_list_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.mat");
    let sparse = fs::File::create(&path).unwrap();
    sparse.set_len(1 << 40).unwrap();
    let error = read_mat(&path).unwrap_err();
    assert!(
        matches!(
            error,
            DatasetError::Mat {
                fault: MatFault::TooLarge,
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn a_decompression_bomb_is_refused() {
    let zeros = vec![0; 65 << 20];
    let bytes = [header(), compressed(&zeros)].concat();
    assert!(bytes.len() < 1 << 20, "the bomb is small");
    assert!(matches!(fault(&bytes), MatFault::TooLarge));
    // Many small ones count together.
    let part = compressed(&matrix("", &Value::Bytes(vec![0; 40 << 20])));
    assert!(matches!(
        fault(&[header(), part.clone(), part].concat()),
        MatFault::TooLarge
    ));
}

#[test]
fn deep_nesting_is_refused() {
    let nested = |levels: usize| {
        let value = (0..levels).fold(Value::Bytes(vec![1]), |inner, _| Value::Cells(vec![inner]));
        file(&[("deep", value)])
    };
    assert!(parse(&nested(MAX_DEPTH)).is_ok());
    assert!(matches!(fault(&nested(MAX_DEPTH + 1)), MatFault::TooDeep));
}

#[test]
fn lengths_that_promise_too_much_take_no_memory() {
    let cell = element(14, &front(1, [i32::MAX, 2], "c"));
    assert!(matches!(
        fault(&[header(), cell].concat()),
        MatFault::Truncated { .. }
    ));
    let numbers = [front(6, [i32::MAX, i32::MAX], "n"), small(2, &[1])].concat();
    assert!(matches!(
        fault(&[header(), element(14, &numbers)].concat()),
        MatFault::Count { .. }
    ));
    // A structure without fields has no values, however large it is said to be.
    let none = [
        front(2, [i32::MAX, 1], "s"),
        small(5, &32_i32.to_le_bytes()),
        element(1, &[]),
    ]
    .concat();
    assert!(parse(&[header(), element(14, &none)].concat()).is_ok());
    let rows = [front(4, [i32::MAX, 0], "t"), element(4, &[])].concat();
    assert!(parse(&[header(), element(14, &rows)].concat()).is_ok());
    let tag = [14_u32.to_le_bytes(), u32::MAX.to_le_bytes()].concat();
    assert!(matches!(
        fault(&[header(), tag].concat()),
        MatFault::Truncated { .. }
    ));
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let array = |parts: &[Vec<u8>]| [header(), element(14, &parts.concat())].concat();
    let cases = [
        (
            array(&[element(5, &[0; 8])]),
            "the flags of an array has the element type 5",
        ),
        (
            array(&[element(6, &[0; 4])]),
            "the flags of an array needs 8 bytes, and 4 are left",
        ),
        (
            array(&[front(6, [1, 2], "n"), small(2, &[1])]),
            "the number of bytes",
        ),
        (
            array(&[front(6, [1, 1], "n"), small(18, &[1])]),
            "an array of numbers has the element type 18",
        ),
        (
            array(&[front(4, [1, 2], "t"), small(16, &[0xc3, 0x28])]),
            "not valid UTF-8",
        ),
        (
            array(&[front(4, [1, 1], "t"), small(17, &[0, 0xd8])]),
            "not valid UTF-16",
        ),
        (
            array(&[front(4, [2, 2], "t"), small(2, b"abc")]),
            "the number of bytes or characters of an array is 3",
        ),
        (
            array(&[front(2, [1, 1], "s"), small(5, &[0; 4]), element(1, b"a")]),
            "the length of field names is 0",
        ),
        (
            [header(), element(7, &[0; 8])].concat(),
            "expected 14 (an array)",
        ),
        (
            [header(), compressed(&compressed(&[]))].concat(),
            "has the element type 15",
        ),
        (
            [header(), element(15, b"not zlib")].concat(),
            "a compressed element is damaged",
        ),
        (
            [header(), vec![2, 0, 5, 0, 1, 1, 1, 1]].concat(),
            "the size of a small element is 5",
        ),
    ];
    for (index, (bytes, sentence)) in cases.iter().enumerate() {
        let message = fault(bytes).to_string();
        assert!(message.contains(sentence), "case {index}: {message}");
    }
    let twice = file(&[("a", Value::Bytes(vec![1])), ("a", Value::Bytes(vec![2]))]);
    assert!(matches!(fault(&twice), MatFault::Duplicate { .. }));
}

#[test]
fn every_cut_is_an_error() {
    let whole = fs::read(fixture("cars.mat")).unwrap();
    for end in 129..whole.len() {
        assert!(parse(&whole[..end]).is_err(), "cut at {end}");
    }
}

proptest! {
    #[test]
    fn arbitrary_and_altered_bytes_never_panic(
        tail in prop::collection::vec(any::<u8>(), 0..200),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let _ = parse(&tail);
        let _ = parse(&[header(), tail.clone()].concat());
        let _ = parse(&[header(), compressed(&tail)].concat());
        let mut plain = fs::read(fixture("plain.mat")).unwrap();
        let at = at.index(plain.len());
        plain[at] = byte;
        let _ = parse(&plain);
    }
}
