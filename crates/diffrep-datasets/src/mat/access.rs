//! Typed access to what a file holds: integers, texts and records, or an error that names the variable.

use std::path::{Path, PathBuf};

use super::{Array, MatFault, parse};
use crate::DatasetError;

/// The variables of a file, and the path that errors name.
#[derive(Debug, Clone)]
pub struct MatFile {
    path: PathBuf,
    variables: Vec<(String, Array)>,
}

impl MatFile {
    /// Reads all variables from the bytes of a file; `path` is what errors name.
    ///
    /// # Errors
    ///
    /// As [`parse`].
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, DatasetError> {
        let variables = parse(bytes).map_err(|fault| refused(path, fault))?;
        Ok(Self {
            path: path.to_path_buf(),
            variables,
        })
    }

    /// Names and values, in the file's order.
    pub fn variables(&self) -> &[(String, Array)] {
        &self.variables
    }

    /// Whether a variable of this name exists.
    pub fn has(&self, name: &str) -> bool {
        self.variables.iter().any(|(other, _)| other == name)
    }

    /// An array of integers that are not negative, in column-major order.
    ///
    /// # Errors
    ///
    /// If the variable is absent, holds no numbers, or one of them is no such integer.
    pub fn integers(&self, name: &str) -> Result<Vec<u64>, DatasetError> {
        integers(name, self.array(name)?).map_err(|fault| self.refused(fault))
    }

    /// A cell array of texts, or the rows of a character array.
    ///
    /// # Errors
    ///
    /// If the variable is absent or holds anything else.
    pub fn texts(&self, name: &str) -> Result<Vec<String>, DatasetError> {
        texts(name, self.array(name)?).map_err(|fault| self.refused(fault))
    }

    /// The structures of an array of them.
    ///
    /// # Errors
    ///
    /// If the variable is absent or holds anything else.
    pub fn records(&self, name: &str) -> Result<Vec<Record<'_>>, DatasetError> {
        match self.array(name)? {
            Array::Struct { fields, values, .. } if !fields.is_empty() => Ok(values
                .chunks_exact(fields.len())
                .map(|values| Record {
                    path: &self.path,
                    fields,
                    values,
                })
                .collect()),
            other => Err(self.refused(kind(name, "structures with fields", other))),
        }
    }

    fn array(&self, name: &str) -> Result<&Array, DatasetError> {
        let names = self.variables.iter().map(|(name, _)| name);
        let found = self.variables.iter().find(|(other, _)| other == name);
        found
            .map(|(_, array)| array)
            .ok_or_else(|| self.refused(missing(name, names)))
    }

    fn refused(&self, fault: MatFault) -> DatasetError {
        refused(&self.path, fault)
    }
}

/// One structure of an array.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    path: &'a Path,
    fields: &'a [String],
    values: &'a [Array],
}

impl Record<'_> {
    /// Whether the structure has a field of this name.
    pub fn has(&self, field: &str) -> bool {
        self.fields.iter().any(|name| name == field)
    }

    /// The one integer, not negative, that a field holds.
    ///
    /// # Errors
    ///
    /// If the field is absent or holds anything else.
    pub fn integer(&self, field: &str) -> Result<u64, DatasetError> {
        let value = self.value(field)?;
        let integers = integers(field, value).map_err(|fault| refused(self.path, fault))?;
        match integers.as_slice() {
            &[integer] => Ok(integer),
            _ => Err(refused(self.path, kind(field, "one number", value))),
        }
    }

    /// The one line of text that a field holds; a field left empty is the empty text.
    ///
    /// # Errors
    ///
    /// If the field is absent or holds anything else.
    pub fn text(&self, field: &str) -> Result<&str, DatasetError> {
        let value = self.value(field)?;
        text(value).ok_or_else(|| refused(self.path, kind(field, "one line of text", value)))
    }

    fn value(&self, field: &str) -> Result<&Array, DatasetError> {
        let position = self.fields.iter().position(|name| name == field);
        let position =
            position.ok_or_else(|| refused(self.path, missing(field, self.fields.iter())))?;
        Ok(&self.values[position])
    }
}

fn integers(name: &str, array: &Array) -> Result<Vec<u64>, MatFault> {
    let Array::Numbers { values, .. } = array else {
        return Err(kind(name, "numbers", array));
    };
    // Beyond 2^53 not every integer is a double, so a larger one may not be what was written.
    let is_integer =
        |value: f64| (0.0..=9_007_199_254_740_992.0).contains(&value) && value.fract() == 0.0;
    values
        .iter()
        .enumerate()
        .map(|(position, &value)| {
            if is_integer(value) {
                return Ok(value as u64);
            }
            Err(MatFault::Kind {
                name: name.to_owned(),
                expected: "integers of 0 or more",
                found: format!("{value} at position {position}"),
            })
        })
        .collect()
}

fn texts(name: &str, array: &Array) -> Result<Vec<String>, MatFault> {
    match array {
        Array::Text(rows) => Ok(rows.clone()),
        Array::Cell { cells, .. } => cells
            .iter()
            .map(|cell| {
                let text = text(cell).ok_or_else(|| kind(name, "a text in every cell", cell))?;
                Ok(text.to_owned())
            })
            .collect(),
        _ => Err(kind(name, "a cell array of texts", array)),
    }
}

fn text(array: &Array) -> Option<&str> {
    match array {
        Array::Text(rows) if rows.is_empty() => Some(""),
        Array::Text(rows) if rows.len() == 1 => Some(&rows[0]),
        Array::Numbers { values, .. } if values.is_empty() => Some(""),
        // Some writers put each text into a cell of its own.
        Array::Cell { cells, .. } if cells.len() == 1 => text(&cells[0]),
        _ => None,
    }
}

fn kind(name: &str, expected: &'static str, found: &Array) -> MatFault {
    let found = match found {
        Array::Numbers { dims, .. } => format!("numbers of size {dims:?}"),
        Array::Text(rows) => format!("text of {} rows", rows.len()),
        Array::Cell { dims, .. } => format!("cells of size {dims:?}"),
        Array::Struct { dims, .. } => format!("structures of size {dims:?}"),
        Array::Unsupported { class } => format!("an array of MATLAB's class {class}"),
    };
    MatFault::Kind {
        name: name.to_owned(),
        expected,
        found,
    }
}

fn missing<'a>(name: &str, available: impl Iterator<Item = &'a String>) -> MatFault {
    let available: Vec<&str> = available.map(String::as_str).collect();
    MatFault::Missing {
        name: name.to_owned(),
        available: if available.is_empty() {
            "nothing".to_owned()
        } else {
            available.join(", ")
        },
    }
}

fn refused(path: &Path, fault: MatFault) -> DatasetError {
    DatasetError::Mat {
        path: path.to_path_buf(),
        fault,
    }
}
