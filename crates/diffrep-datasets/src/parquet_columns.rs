//! Reading single columns of Parquet files: the labels whole, the images one row group at a time.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::DatasetError;
use crate::error::io_error;

/// The columns that may hold images, and within which `bytes` may lie.
const IMAGES: [&str; 5] = ["image", "img", "jpg", "png", "pixel_values"];

/// The columns that may hold labels.
const LABELS: [&str; 5] = ["label", "fine_label", "cls", "labels", "target"];

/// The largest row group, in bytes without compression: one is held in memory as a whole.
const LARGEST_GROUP: i64 = 2 << 30;

/// An open file.
pub(crate) struct Table<'a> {
    path: &'a Path,
    reader: SerializedFileReader<File>,
}

/// Where a file has what is read of it, as positions of columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) image: usize,
    pub(crate) label: usize,
    /// The name of the column of labels.
    pub(crate) label_name: String,
}

impl<'a> Table<'a> {
    pub(crate) fn open(path: &'a Path) -> Result<Self, DatasetError> {
        let file = File::open(path).map_err(io_error(path, "opened"))?;
        let len = file.metadata().map_err(io_error(path, "examined"))?.len();
        let reader = guarded(path, || SerializedFileReader::new(file))?;
        let table = Self { path, reader };
        table.require_within(len)?;
        Ok(table)
    }

    /// Refuses columns that are said to lie outside the file, before room is made for them.
    fn require_within(&self, len: u64) -> Result<(), DatasetError> {
        for group in self.metadata().row_groups() {
            let sound = |(start, size): (i64, i64)| {
                let end = u64::try_from(start).ok().zip(u64::try_from(size).ok());
                end.and_then(|(start, size)| start.checked_add(size))
                    .is_some_and(|end| end <= len)
            };
            let all = group.columns().iter().all(|column| {
                let data = column.data_page_offset();
                let start = column
                    .dictionary_page_offset()
                    .map_or(data, |dictionary| dictionary.min(data));
                sound((start, column.compressed_size()))
            });
            if !all || group.num_rows() < 0 {
                return Err(broken(self.path, "a column lies outside the file"));
            }
            let size: i64 = group
                .columns()
                .iter()
                .map(|column| column.uncompressed_size().max(0))
                .fold(0, i64::saturating_add);
            if size > LARGEST_GROUP {
                return Err(broken(
                    self.path,
                    format!("a row group has {size} bytes, expected at most {LARGEST_GROUP}"),
                ));
            }
        }
        Ok(())
    }

    fn metadata(&self) -> &ParquetMetaData {
        self.reader.metadata()
    }

    /// What is stored beside the columns under a key.
    pub(crate) fn note(&self, key: &str) -> Option<&str> {
        let notes = self.metadata().file_metadata().key_value_metadata()?;
        notes.iter().find(|note| note.key == key)?.value.as_deref()
    }

    /// The columns of images and labels, by the names that are customary.
    pub(crate) fn columns(&self) -> Result<Columns, DatasetError> {
        let schema = self.metadata().file_metadata().schema_descr();
        let paths: Vec<String> = schema
            .columns()
            .iter()
            .map(|column| column.path().string())
            .collect();
        // A repeated column has no one value in each row.
        let position = |name: &str| {
            let position = paths.iter().position(|path| path == name)?;
            (schema.column(position).max_rep_level() == 0).then_some(position)
        };
        let image = IMAGES
            .iter()
            .find_map(|name| position(&format!("{name}.bytes")).or_else(|| position(name)));
        let label = LABELS
            .iter()
            .find_map(|name| Some((position(name)?, (*name).to_owned())));
        match (image, label) {
            (Some(image), Some((label, label_name))) => Ok(Columns {
                image,
                label,
                label_name,
            }),
            _ => Err(broken(
                self.path,
                format!(
                    "expected a column of images (one of {} with `bytes`) and one of labels (one of {}), found {}",
                    IMAGES.join(", "),
                    LABELS.join(", "),
                    paths.join(", ")
                ),
            )),
        }
    }

    /// The number of rows of each row group, and their bytes without compression.
    pub(crate) fn groups(&self) -> Vec<(usize, u64)> {
        let groups = self.metadata().row_groups().iter();
        groups
            .map(|group| {
                (
                    group.num_rows() as usize,
                    group.total_byte_size().max(0) as u64,
                )
            })
            .collect()
    }

    /// The labels of a row group; a row without one is refused.
    pub(crate) fn labels(&self, group: usize, column: usize) -> Result<Vec<i64>, DatasetError> {
        let rows = self.groups()[group].0;
        let labels: Vec<i64> = match self.reader(group, column)? {
            ColumnReader::Int64ColumnReader(mut reader) => self.values(rows, &mut reader)?.0,
            ColumnReader::Int32ColumnReader(mut reader) => {
                let (values, _) = self.values(rows, &mut reader)?;
                values.into_iter().map(i64::from).collect()
            }
            _ => {
                let problem = "the column of labels does not hold integers of 32 or 64 bits";
                return Err(broken(self.path, problem));
            }
        };
        if labels.len() == rows {
            return Ok(labels);
        }
        Err(broken(
            self.path,
            format!(
                "row group {group} has {rows} rows and {} labels; every row must have one",
                labels.len()
            ),
        ))
    }

    /// The image file of each row of a row group, or nothing where a row has none.
    pub(crate) fn images(
        &self,
        group: usize,
        column: usize,
    ) -> Result<Vec<Option<ByteArray>>, DatasetError> {
        let rows = self.groups()[group].0;
        let descriptor = self
            .metadata()
            .file_metadata()
            .schema_descr()
            .column(column);
        let present = descriptor.max_def_level();
        let ColumnReader::ByteArrayColumnReader(mut reader) = self.reader(group, column)? else {
            return Err(broken(
                self.path,
                "the column of images does not hold bytes",
            ));
        };
        let (values, mut levels) = self.values(rows, &mut reader)?;
        if present == 0 {
            levels = vec![0; values.len()];
        }
        if levels.len() != rows {
            return Err(broken(
                self.path,
                format!(
                    "row group {group} has {rows} rows, but {} images",
                    levels.len()
                ),
            ));
        }
        let mut values = values.into_iter();
        Ok(levels
            .into_iter()
            .map(|level| {
                if level == present {
                    values.next()
                } else {
                    None
                }
            })
            .collect())
    }

    fn reader(&self, group: usize, column: usize) -> Result<ColumnReader, DatasetError> {
        guarded(self.path, || {
            let group = self.reader.get_row_group(group)?;
            group.get_column_reader(column)
        })
    }

    /// The values that are there, and for each row the level that tells whether it has one.
    fn values<T: DataType>(
        &self,
        rows: usize,
        reader: &mut ColumnReaderImpl<T>,
    ) -> Result<(Vec<T::T>, Vec<i16>), DatasetError> {
        let (mut values, mut levels) = (Vec::new(), Vec::new());
        guarded(self.path, || {
            reader.read_records(rows, Some(&mut levels), None, &mut values)
        })?;
        Ok((values, levels))
    }
}

/// Runs a call of the Parquet library, whose decoders panic at some damaged files where they should fail.
fn guarded<T>(
    path: &Path,
    call: impl FnOnce() -> parquet::errors::Result<T>,
) -> Result<T, DatasetError> {
    // What the call may have left half done is dropped with the error.
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| broken(path, error)),
        Err(_) => Err(broken(path, "it is damaged")),
    }
}

pub(crate) fn broken(path: &Path, problem: impl ToString) -> DatasetError {
    DatasetError::Table {
        path: path.to_path_buf(),
        problem: problem.to_string(),
    }
}
