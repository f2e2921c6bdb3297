//! Images in the files that guided-diffusion samples to and its evaluator reads.

use std::path::{Path, PathBuf};

use crate::FidError;
use crate::container::{Array, Container};
use crate::npy::Element;

/// The array of images, as `numpy.savez` calls its first argument.
pub(crate) const IMAGES: &str = "arr_0";

/// The array of class numbers, as `numpy.savez` calls its second argument.
pub(crate) const LABELS: &str = "arr_1";

/// The array of bytes in which this project says where the images are from.
pub(crate) const NOTE: &str = "note";

/// Bytes that are read at a time at most, unless one image is larger.
const BYTES: usize = 256 << 20;

/// The largest image, in pixels, as in Pillow.
const MAX_PIXELS: usize = 178_956_970;

/// A file of RGB images of one size: `arr_0` u8 `[count, height, width, 3]`, and `arr_1` the class
/// numbers `[count]` where there are some.
#[derive(Clone, Debug)]
pub struct ImageFile {
    path: PathBuf,
    shape: [usize; 3],
    labels: Option<Vec<i64>>,
    note: Option<String>,
}

/// Consecutive images of an [`ImageFile`].
#[derive(Clone, Copy, Debug)]
pub struct ImageBatch<'a> {
    /// The position of the first one in the file.
    pub first: usize,
    /// How many there are.
    pub count: usize,
    /// Their height in pixels.
    pub height: usize,
    /// Their width in pixels.
    pub width: usize,
    /// Their samples, `[count, height, width, 3]`, red first.
    pub pixels: &'a [u8],
}

impl ImageFile {
    /// Opens a `.npz` file (or a safetensors file with the same arrays) and reads its class numbers.
    ///
    /// # Errors
    ///
    /// [`FidError::Missing`] without `arr_0`, [`FidError::Array`] if images or labels are of another type
    /// or shape, [`FidError::Damaged`] or [`FidError::Read`], all naming the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FidError> {
        let path = path.as_ref();
        let mut file = Container::open(path)?;
        let shape = shape(&file.array(IMAGES)?)?;
        let labels = match file.has(LABELS) {
            true => Some(labels(&mut file, shape[0])?),
            false => None,
        };
        let note = match file.has(NOTE) {
            true => Some(note(&mut file)?),
            false => None,
        };
        Ok(Self {
            path: path.into(),
            shape,
            labels,
            note,
        })
    }

    /// How many images there are.
    pub fn count(&self) -> usize {
        self.shape[0]
    }

    /// Their height in pixels.
    pub fn height(&self) -> usize {
        self.shape[1]
    }

    /// Their width in pixels.
    pub fn width(&self) -> usize {
        self.shape[2]
    }

    /// Their class numbers, `[count]`.
    pub fn labels(&self) -> Option<&[i64]> {
        self.labels.as_deref()
    }

    /// What [`write_images`](crate::write_images) was told about them.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Hands all images to `each`, in order, at most `batch` of them at a time; only these are in memory.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and the errors of `each`.
    ///
    /// # Panics
    ///
    /// Panics if `batch` is zero.
    pub fn for_each<E: From<FidError>>(
        &self,
        batch: usize,
        mut each: impl FnMut(ImageBatch<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        assert!(batch > 0, "batches of no images never end");
        let mut file = Container::open(&self.path)?;
        let mut array = file.array(IMAGES)?;
        if shape(&array)? != self.shape {
            return Err(array.unusable("it has changed since it was opened").into());
        }
        let [all, height, width] = self.shape;
        let size = height * width * 3;
        let batch = batch.min((BYTES / size).max(1));
        let mut pixels = Vec::new();
        for first in (0..all).step_by(batch) {
            let count = batch.min(all - first);
            array.read(count * size, &mut pixels)?;
            each(ImageBatch {
                first,
                count,
                height,
                width,
                pixels: &pixels,
            })?;
        }
        Ok(array.finish()?)
    }
}

/// Count, height and width of an array of images.
fn shape(array: &Array<'_>) -> Result<[usize; 3], FidError> {
    if array.element != Element::Unsigned(1) {
        return Err(array.unusable("its elements are no bytes; images are uint8 in 0..=255"));
    }
    let shape = match array.shape[..] {
        [count, height, width, 3] if count > 0 && height > 0 && width > 0 => [count, height, width],
        _ => {
            return Err(array.unusable(format!(
                "its shape is {:?}, expected [count, height, width, 3]",
                array.shape
            )));
        }
    };
    if shape[1].saturating_mul(shape[2]) > MAX_PIXELS {
        return Err(array.unusable(format!("its images have more than {MAX_PIXELS} pixels")));
    }
    if array.fortran_order {
        return Err(array.unusable("its axes are reversed; save numpy.ascontiguousarray of it"));
    }
    Ok(shape)
}

fn labels(file: &mut Container, count: usize) -> Result<Vec<i64>, FidError> {
    let array = file.array(LABELS)?;
    if array.shape != [count] {
        let reason = format!(
            "its shape is {:?}, and there are {count} images",
            array.shape
        );
        return Err(array.unusable(reason));
    }
    array.integers()
}

fn note(file: &mut Container) -> Result<String, FidError> {
    let array = file.array(NOTE)?;
    let wrong = array.unusable("it is no text");
    String::from_utf8(array.bytes()?).map_err(|_| wrong)
}
