//! Bytes of a PNG or JPEG file to an image, as Pillow's `convert("RGB")` would have it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use ::image::{ImageFormat, guess_format};

use crate::{DatasetError, Image, jpeg, png};

/// The most pixels of an image: above it Pillow too refuses a file as a decompression bomb.
pub const MAX_PIXELS: u64 = 178_956_970;

/// The most pixels that one byte of a file can describe.
///
/// Deflate expands a byte to at most 1,032, which hold 8 pixels each in a PNG file of one bit per pixel.
/// A JPEG file spends at least one Huffman bit on 64 samples of its finest component, and even if the finest rows and
/// the finest columns belong to different components, that is less. Only arithmetic coding could do with fewer bits.
pub const MAX_PIXELS_PER_BYTE: u64 = 8 * 1032;

/// Who decodes the samples of a JPEG file; PNG files are lossless, so all decoders agree on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum JpegDecoder {
    /// The bits of libjpeg-turbo and thereby of Pillow; the decoder has unsafe vector code.
    #[default]
    Exact,
    /// A second opinion from a decoder with less unsafe code, whose samples differ from Pillow's by a few levels.
    Approximate,
}

/// Version of what files decode to, for those who keep what they computed of it. Raised when the
/// same file gives other samples; 2 since JPEG files give those of Pillow.
pub const PIXELS: u32 = 2;

/// Decodes by the first bytes, whatever the extension.
///
/// Palettes are looked up, alpha is dropped without compositing, CMYK is converted as Pillow does, 16-bit samples keep
/// their high byte, and EXIF orientation is not applied. `path` only names the file in errors.
///
/// # Errors
///
/// If the bytes are neither PNG nor JPEG, damaged where Pillow refuses them, or claim more than [`MAX_PIXELS`] pixels or
/// more than [`MAX_PIXELS_PER_BYTE`]; of these claims nothing is allocated.
pub fn decode(path: &Path, bytes: &[u8]) -> Result<Image, DatasetError> {
    decode_with(JpegDecoder::Exact, path, bytes)
}

/// Like [`decode`], with the decoder of JPEG files chosen.
///
/// # Errors
///
/// As [`decode`].
pub fn decode_with(
    jpeg_decoder: JpegDecoder,
    path: &Path,
    bytes: &[u8],
) -> Result<Image, DatasetError> {
    let decoder = match (guess_format(bytes), jpeg_decoder) {
        (Ok(ImageFormat::Png), _) => png::decode,
        (Ok(ImageFormat::Jpeg), JpegDecoder::Exact) => jpeg::decode,
        (Ok(ImageFormat::Jpeg), JpegDecoder::Approximate) => jpeg::decode_approximately,
        _ => {
            return Err(DatasetError::UnknownFormat {
                path: path.to_path_buf(),
            });
        }
    };
    guarded(path, || decoder(path, bytes))
}

/// Turns a panic of a decoder into an error.
///
/// Decoders check indices; a damaged file that makes one fail a check is one bad file among a million and must not end
/// the run. Nothing of theirs survives the unwinding, so no broken state can be seen.
fn guarded(
    path: &Path,
    decode: impl FnOnce() -> Result<Image, DatasetError>,
) -> Result<Image, DatasetError> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| {
        Err(DatasetError::DecoderPanicked {
            path: path.to_path_buf(),
        })
    })
}

/// Refuses a size that is absurd, or more than the bytes could fill, before memory is taken for it.
pub(crate) fn check_size(
    path: &Path,
    width: u64,
    height: u64,
    file_len: usize,
) -> Result<(), DatasetError> {
    let pixels = width.saturating_mul(height);
    if pixels > MAX_PIXELS {
        return Err(DatasetError::TooManyPixels {
            path: path.to_path_buf(),
            width,
            height,
            limit: MAX_PIXELS,
        });
    }
    let fillable = MAX_PIXELS_PER_BYTE.saturating_mul(file_len as u64);
    if pixels == 0 || pixels > fillable {
        return Err(DatasetError::ImplausibleSize {
            path: path.to_path_buf(),
            width,
            height,
            fillable,
        });
    }
    Ok(())
}

/// Makes a function for `map_err` that adds the path to what a decoder says.
pub(crate) fn damaged<E>(path: &Path) -> impl FnOnce(E) -> DatasetError + '_
where
    E: std::error::Error + Send + Sync + 'static,
{
    move |source| DatasetError::Decode {
        path: path.to_path_buf(),
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoder_that_panics_costs_its_file_alone() {
        let nothing: &[u8] = &[];
        let error = guarded(Path::new("odd.jpg"), || {
            Ok(Image::new(1, 1, 1, vec![nothing[0]]))
        })
        .unwrap_err();
        assert!(
            matches!(error, DatasetError::DecoderPanicked { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("odd.jpg"), "{error}");
    }

    #[test]
    fn limits_are_the_last_sizes_accepted() {
        let path = Path::new("image");
        let enough = usize::MAX;
        assert!(check_size(path, MAX_PIXELS, 1, enough).is_ok());
        assert!(check_size(path, 1, MAX_PIXELS + 1, enough).is_err());
        assert!(check_size(path, u64::MAX, u64::MAX, enough).is_err());
        assert!(check_size(path, MAX_PIXELS_PER_BYTE, 7, 7).is_ok());
        assert!(check_size(path, MAX_PIXELS_PER_BYTE, 7, 6).is_err());
        assert!(check_size(path, 0, 5, enough).is_err());
    }
}
