//! What can go wrong with files, folders, images and requests about them.

use std::path::{Path, PathBuf};

use diffrep_artifact::ArtifactError;

use crate::{KnownDataset, Skipped, Split};

/// Every error of this crate.
///
/// Each message is one sentence that names the file or folder and, where there is one, the valid range.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// A class was asked for that is not there, or twice.
    #[error("no class `{name}`, or it is named twice\nhint: the classes are {known}")]
    NoSuchClass {
        /// What was asked for.
        name: String,
        /// The classes.
        known: String,
    },
    /// A file could not be read or written, or is not the JSON expected.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),

    /// The operating system refused a folder, or a file cannot be decompressed.
    #[error("{path} cannot be {action}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a participle: "opened", "listed", "decompressed".
        action: &'static str,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },

    /// The path given for a data set is absent or is a file.
    #[error("{path} is not a folder, and a data set is opened by its folder", path = .path.display())]
    NotAFolder {
        /// The path as given.
        path: PathBuf,
    },

    /// The folder has none of the known layouts.
    #[error(
        "{path} holds no data set: expected IDX files such as train-images-idx3-ubyte.gz, one folder of images per class (optionally below train, val or test), list files such as train.csv, tar shards, Parquet files, or ImageNet's archives",
        path = .path.display()
    )]
    NoDataset {
        /// The folder as given.
        path: PathBuf,
    },

    /// The data set exists but lacks the split asked for.
    #[error("{path} has no {split} split; it has: {available}", path = .path.display())]
    NoSuchSplit {
        /// The data set's folder.
        path: PathBuf,
        /// The split asked for.
        split: Split,
        /// The splits that exist, separated by commas.
        available: String,
    },

    /// A class folder holds no image.
    #[error(
        "the class folder {path} holds no image; expected PNG or JPEG files; remove the folder or put images into it",
        path = .path.display()
    )]
    EmptyClass {
        /// The class folder.
        path: PathBuf,
    },

    /// A folder holds the lists of a known data set, whose classes its folders do not tell.
    #[error(
        "{path} holds {marker} and looks like {title}, whose classes and splits are not its folders: open it as the known data set {known} (--dataset {known})",
        path = .path.display(),
        title = .known.title()
    )]
    LooksLike {
        /// The folder.
        path: PathBuf,
        /// What gave it away.
        marker: &'static str,
        /// What it looks like.
        known: KnownDataset,
    },

    /// A folder that would be a class is called like a split.
    #[error(
        "the folder {path} is called like a split and would be taken for a class; splits are folders train, val and test (in lower case) with one folder of images for each class",
        path = .path.display()
    )]
    SplitAsClass {
        /// The folder.
        path: PathBuf,
    },

    /// A split has a class folder that the training split does not have.
    #[error("the class folder {path} is not among the {known} classes of the training split", path = .path.display())]
    UnknownClass {
        /// The folder of the unknown class.
        path: PathBuf,
        /// How many classes the training split has.
        known: usize,
    },

    /// Symbolic links lead a folder back into itself.
    #[error("the link {path} leads back to a folder that contains it", path = .path.display())]
    LinkLoop {
        /// The link.
        path: PathBuf,
    },

    /// A file name is not valid UTF-8, so it has no portable identity.
    #[error("{path} has a name that is not valid UTF-8", path = .path.display())]
    NotUtf8 {
        /// The file or folder.
        path: PathBuf,
    },

    /// Two samples of one split share their identity.
    #[error("{path} has two samples with the id {id}; ids must be unique within a split", path = .path.display())]
    DuplicateId {
        /// The ids file, or the folder whose file names collide.
        path: PathBuf,
        /// The identity that occurs twice.
        id: u64,
    },

    /// An id is negative.
    #[error("{path} holds the id {id} at position {position}; expected 0 or more", path = .path.display())]
    NegativeId {
        /// The ids file.
        path: PathBuf,
        /// Where it stands in the file, from 0.
        position: usize,
        /// The id found.
        id: i32,
    },

    /// A file is not IDX at all.
    #[error("{path} is not an IDX file: it starts with the bytes {found:02x?}, expected 00 00, a type code and the number of dimensions", path = .path.display())]
    WrongMagic {
        /// The file.
        path: PathBuf,
        /// Its first four bytes.
        found: [u8; 4],
    },

    /// An IDX file holds another number type.
    #[error("{path} holds elements of IDX type 0x{found:02x}, expected 0x{expected:02x}", path = .path.display())]
    WrongType {
        /// The file.
        path: PathBuf,
        /// The type code asked for.
        expected: u8,
        /// The type code in the file.
        found: u8,
    },

    /// An IDX file has another number of dimensions, or an empty one.
    #[error("{path} has the dimensions {found:?}, expected {expected}", path = .path.display())]
    WrongDimensions {
        /// The file.
        path: PathBuf,
        /// What was expected, in words.
        expected: &'static str,
        /// The dimensions in the file.
        found: Vec<usize>,
    },

    /// A MATLAB file is damaged, of another version, or does not hold what is asked of it.
    #[error("{path} cannot be used as a MATLAB 5 file: {fault}", path = .path.display())]
    Mat {
        /// The file.
        path: PathBuf,
        /// What was found.
        fault: crate::mat::MatFault,
    },

    /// A file ends before its last element.
    #[error("{path} is truncated: expected {expected} bytes of decoded content, found {found}", path = .path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes that the header promises, header included.
        expected: u64,
        /// Bytes found after decompression.
        found: u64,
    },

    /// An IDX file promises more than is read.
    #[error("{path} promises {promised} bytes of decoded content, and at most {limit} are read (idx::MAX_BYTES)", path = .path.display())]
    IdxTooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes that the header promises, header included.
        promised: u64,
        /// The most bytes that are read.
        limit: u64,
    },

    /// A file goes on after its last element.
    #[error("{path} has bytes after its last element: expected exactly {expected} bytes of decoded content", path = .path.display())]
    TrailingBytes {
        /// The file.
        path: PathBuf,
        /// Bytes that the header promises, header included.
        expected: u64,
    },

    /// Two files that belong together describe different numbers of samples.
    #[error("{path} holds {found} entries, but {images} holds {expected} images", path = .path.display(), images = .images.display())]
    CountMismatch {
        /// The labels or ids file.
        path: PathBuf,
        /// The images file.
        images: PathBuf,
        /// Number of images.
        expected: usize,
        /// Number of labels or ids.
        found: usize,
    },

    /// A label has no class name.
    #[error("{path} holds the label {label} at position {position}; expected 0..={max}, one for each class name", path = .path.display(), max = .classes.saturating_sub(1))]
    LabelRange {
        /// The labels file.
        path: PathBuf,
        /// Where it stands in the file, from 0.
        position: usize,
        /// The label found.
        label: u32,
        /// Number of classes.
        classes: usize,
    },

    /// An image file is neither PNG nor JPEG, whatever its extension says.
    #[error("{path} is neither a PNG nor a JPEG file, judging by its first bytes", path = .path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },

    /// An image file is damaged or uses a feature that the decoder lacks.
    #[error("{path} cannot be decoded", path = .path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// What the decoder says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The decoder ran into a contradiction in the file and gave up in disorder.
    #[error("{path} is damaged in a way that its decoder did not foresee; replace or remove it", path = .path.display())]
    DecoderPanicked {
        /// The file.
        path: PathBuf,
    },

    /// A JPEG file of a kind that Pillow does not read either.
    #[error("{path} has {components} components of {precision} bits; expected 1, 3 or 4 of 8 bits", path = .path.display())]
    UnsupportedJpeg {
        /// The file.
        path: PathBuf,
        /// Bits of a sample.
        precision: u8,
        /// Colour components.
        components: usize,
    },

    /// An image file's header claims a size that no photograph has.
    #[error("{path} claims {width}x{height} pixels, more than the limit MAX_PIXELS of {limit}; shrink it or remove it", path = .path.display())]
    TooManyPixels {
        /// The file.
        path: PathBuf,
        /// Columns claimed.
        width: u64,
        /// Rows claimed.
        height: u64,
        /// The most pixels accepted.
        limit: u64,
    },

    /// An image file's header claims more pixels than its bytes could fill.
    #[error("{path} claims {width}x{height} pixels, but its bytes could fill {fillable} at most (MAX_PIXELS_PER_BYTE); it is damaged or made to exhaust memory", path = .path.display())]
    ImplausibleSize {
        /// The file.
        path: PathBuf,
        /// Columns claimed.
        width: u64,
        /// Rows claimed.
        height: u64,
        /// The most pixels that a file of this length can hold.
        fillable: u64,
    },

    /// A JPEG file ends before its end-of-image marker.
    #[error("{path} is a truncated JPEG file: its end-of-image marker is missing", path = .path.display())]
    TruncatedJpeg {
        /// The file.
        path: PathBuf,
    },

    /// A name in an archive, a table or a list leads out of the folder, or nowhere.
    #[error("{path} names {name:?}, which {problem}; names must be relative and stay inside the data set's folder", path = .path.display())]
    UnsafeName {
        /// The archive, table or list, or the folder that the name leads out of.
        path: PathBuf,
        /// The name, of which at most 100 characters are kept.
        name: String,
        /// What is wrong with it, after "which".
        problem: &'static str,
    },

    /// A list file is damaged or not of the expected form.
    #[error("line {line} of {path} cannot be used: {problem}", path = .path.display())]
    List {
        /// The list.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what was expected.
        problem: String,
    },

    /// Something that a layout needs is missing, or its parts do not fit together.
    #[error("{path} cannot be opened as a data set: {problem}", path = .path.display())]
    Incomplete {
        /// The file or folder.
        path: PathBuf,
        /// What is missing or does not fit, and what to do.
        problem: String,
    },

    /// A name is not that of a known data set.
    #[error("{name:?} is not a known data set; expected one of: {known}")]
    UnknownDataset {
        /// The name given.
        name: String,
        /// The valid names, separated by commas.
        known: String,
    },

    /// A known data set was asked for a validation split, which the paper does not use.
    #[error(
        "{known} has no official validation split here; hold a part of its training split out instead"
    )]
    NoOfficialValidation {
        /// Title of the data set.
        known: &'static str,
    },

    /// A folder does not hold the known data set asked for.
    #[error("{path} does not hold {known}: expected {expected}", path = .path.display())]
    NotThisDataset {
        /// The folder as given.
        path: PathBuf,
        /// Title of the data set.
        known: &'static str,
        /// The files or folders looked for, in words.
        expected: String,
    },

    /// A split of a known data set does not have its official number of images.
    #[error("{path} gives {found} images for the {split} split of {known}, expected exactly {expected}", path = .path.display())]
    WrongCount {
        /// The list or folder that was counted.
        path: PathBuf,
        /// Title of the data set.
        known: &'static str,
        /// The split.
        split: Split,
        /// The official number.
        expected: usize,
        /// The number found.
        found: usize,
    },

    /// Image files of a known data set are missing.
    #[error("{missing} of the {expected} images of the {split} split of {known} are missing, the first is {path}", path = .path.display())]
    MissingImages {
        /// The first missing file.
        path: PathBuf,
        /// Title of the data set.
        known: &'static str,
        /// The split.
        split: Split,
        /// How many files are missing.
        missing: usize,
        /// How many there should be.
        expected: usize,
    },

    /// An archive is damaged, or holds what is not read.
    #[error("the archive {path} cannot be used, at byte {offset}: {problem}", path = .path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Where, from 0.
        offset: u64,
        /// What is wrong, with the limit if there is one.
        problem: String,
    },

    /// A Parquet file is damaged, or lacks what a data set needs.
    #[error("the table {path} cannot be used: {problem}", path = .path.display())]
    Table {
        /// The file, and the row if there is one.
        path: PathBuf,
        /// What is wrong, and what was expected.
        problem: String,
    },

    /// An image file in an archive or a table is larger than any image.
    #[error("{path} has {size} bytes; expected at most {limit} for one image", path = .path.display())]
    ImageTooLarge {
        /// The archive and the image's name therein.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The largest size that is read, in bytes.
        limit: u64,
    },

    /// Samples that were asked for cannot be read, decoded or fitted.
    #[error("{total} of {asked} samples cannot be used:{}", listed(.first, *.total))]
    BadSamples {
        /// How many.
        total: usize,
        /// How many were asked for.
        asked: usize,
        /// The first [`DatasetError::MOST_LISTED`] of them, in the order asked for, with the reason of each.
        first: Vec<Skipped>,
    },

    /// A sample cannot become a network input; the source says why.
    #[error("the sample {name} cannot become a network input")]
    Sample {
        /// File path, or data set position for samples held in memory.
        name: String,
        /// The reason.
        #[source]
        source: Box<DatasetError>,
    },

    /// An image does not fit the size asked for.
    #[error("an image of {width}x{height} pixels does not fit: expected {expected}")]
    ImageSize {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// The valid sizes, in words.
        expected: String,
    },

    /// A colour image was met where grey ones were promised.
    #[error(
        "an image has three channels, expected one; ask for grey made from colour to convert it"
    )]
    ColourImage,

    /// A class has fewer samples than asked for.
    #[error(
        "class {class} has {available} samples, and {wanted} were asked for; expected at most {most}"
    )]
    NotEnough {
        /// The class label.
        class: u32,
        /// Samples in the class.
        available: usize,
        /// Samples asked for.
        wanted: usize,
        /// The most that can be taken; holding out leaves at least one.
        most: usize,
    },

    /// A data set was to be cut into its own folder.
    #[error("{path} holds the source of the cut, which would be overwritten; choose another destination", path = .path.display())]
    SameFolder {
        /// The folder.
        path: PathBuf,
    },

    /// A contact sheet would be empty or too large.
    #[error(
        "a contact sheet of {rows} rows and {columns} columns of {thumbnail} pixels cannot be made; expected at least one of each and at most 134217728 pixels in all"
    )]
    SheetSize {
        /// Classes shown.
        rows: usize,
        /// Images of each class.
        columns: usize,
        /// Width and height of an image.
        thumbnail: usize,
    },

    /// A fraction is outside its range.
    #[error("the fraction to hold out is {fraction}, expected more than 0 and less than 1")]
    Fraction {
        /// The value given.
        fraction: f64,
    },
}

impl DatasetError {
    /// How many bad samples one error lists.
    pub const MOST_LISTED: usize = 20;
}

/// One line for each sample: its reason, which names it, and the reasons of that.
fn listed(samples: &[Skipped], total: usize) -> String {
    let mut text = String::new();
    for sample in samples {
        text.push_str("\n  ");
        text.push_str(&reasons(&sample.reason));
    }
    if total > samples.len() {
        text.push_str(&format!("\n  and {} more", total - samples.len()));
    }
    text
}

/// An error and what led to it, in one line.
pub(crate) fn reasons(error: &DatasetError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    text
}

/// Makes a function for `map_err` that adds the path to an operating system error.
pub(crate) fn io_error<'a>(
    path: &'a Path,
    action: &'static str,
) -> impl FnOnce(std::io::Error) -> DatasetError + 'a {
    move |source| DatasetError::Io {
        path: path.to_path_buf(),
        action,
        source,
    }
}
