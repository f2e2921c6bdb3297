//! A small encoder of MATLAB 5 files, for the trees and damaged files that tests make.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// A value and how it is stored.
pub(crate) enum Value {
    /// Doubles stored as unsigned bytes.
    Bytes(Vec<u8>),
    /// Doubles stored as unsigned 16-bit numbers.
    Words(Vec<u16>),
    /// A row of characters stored as 16-bit units.
    Text(String),
    /// A cell array of one column.
    Cells(Vec<Value>),
    /// A 1xN structure array: names of the fields, and the values of each structure.
    Structs(Vec<&'static str>, Vec<Vec<Value>>),
}

pub(crate) fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Value {
    Value::Cells(
        texts
            .into_iter()
            .map(|text| Value::Text(text.into()))
            .collect(),
    )
}

/// An element in its long form, padded to 8 bytes.
pub(crate) fn element(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = [kind.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

/// An element in the small form where its data fits into four bytes.
pub(crate) fn small(kind: u32, data: &[u8]) -> Vec<u8> {
    if data.len() > 4 || data.is_empty() {
        return element(kind, data);
    }
    let mut bytes = ((data.len() as u32) << 16 | kind).to_le_bytes().to_vec();
    bytes.extend(data);
    bytes.resize(8, 0);
    bytes
}

fn numbers<const N: usize>(values: impl IntoIterator<Item = [u8; N]>) -> Vec<u8> {
    values.into_iter().flatten().collect()
}

/// What precedes the data of an array: flags, dimensions and name.
pub(crate) fn front(class: u32, dims: [i32; 2], name: &str) -> Vec<u8> {
    let flags = numbers([class.to_le_bytes(), [0; 4]]);
    let dims = numbers(dims.map(i32::to_le_bytes));
    [
        element(6, &flags),
        element(5, &dims),
        small(1, name.as_bytes()),
    ]
    .concat()
}

pub(crate) fn matrix(name: &str, value: &Value) -> Vec<u8> {
    let body = match value {
        Value::Bytes(values) => {
            let front = front(6, [1, values.len() as i32], name);
            [front, small(2, values)].concat()
        }
        Value::Words(values) => {
            let data = numbers(values.iter().map(|value| value.to_le_bytes()));
            [front(6, [1, values.len() as i32], name), small(4, &data)].concat()
        }
        Value::Text(text) => {
            let units: Vec<u16> = text.encode_utf16().collect();
            let data = numbers(units.iter().map(|unit| unit.to_le_bytes()));
            [front(4, [1, units.len() as i32], name), small(4, &data)].concat()
        }
        Value::Cells(cells) => {
            let cells_bytes = cells.iter().flat_map(|cell| matrix("", cell));
            let front = front(1, [cells.len() as i32, 1], name);
            front.into_iter().chain(cells_bytes).collect()
        }
        Value::Structs(fields, structs) => {
            let mut bytes = front(2, [1, structs.len() as i32], name);
            bytes.extend(small(5, &32_i32.to_le_bytes()));
            let mut names = Vec::new();
            for field in fields {
                names.extend(field.as_bytes());
                names.resize(names.len().next_multiple_of(32), 0);
            }
            bytes.extend(element(1, &names));
            bytes.extend(structs.iter().flatten().flat_map(|value| matrix("", value)));
            bytes
        }
    };
    element(14, &body)
}

pub(crate) fn header() -> Vec<u8> {
    let mut bytes = b"MATLAB 5.0 MAT-file, made by a test".to_vec();
    bytes.resize(124, b' ');
    bytes.extend([0, 1, b'I', b'M']);
    bytes
}

pub(crate) fn compressed(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    let packed = encoder.finish().unwrap();
    let mut bytes = [15_u32.to_le_bytes(), (packed.len() as u32).to_le_bytes()].concat();
    bytes.extend(packed);
    bytes
}

/// A file as MATLAB writes it, each variable compressed.
pub(crate) fn file(variables: &[(&str, Value)]) -> Vec<u8> {
    let variables = variables
        .iter()
        .flat_map(|(name, value)| compressed(&matrix(name, value)));
    header().into_iter().chain(variables).collect()
}

/// Writes a file and the folders above it.
pub(crate) fn write_mat(path: &Path, variables: &[(&str, Value)]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, file(variables)).unwrap();
}
