//! What a file is, told by its content and not by its name.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use diffrep_artifact::ArtifactError;
use serde::Serialize;

use crate::{ImportError, TensorInfo};

/// How a checkpoint's tensors lie in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Container {
    /// safetensors.
    SafeTensors,
    /// The ZIP archive that torch.save writes since PyTorch 1.6.
    TorchZip,
    /// The pickle stream that torch.save wrote before.
    TorchLegacy,
    /// The TAR archive of PyTorch before 0.1.10.
    TorchTar,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SafeTensors => "safetensors",
            Self::TorchZip => "torch zip",
            Self::TorchLegacy => "torch legacy pickle",
            Self::TorchTar => "torch tar",
        })
    }
}

/// How many bytes decide.
const HEAD: usize = 512;
/// The largest header that the safetensors format allows, in bytes.
pub(crate) const MAX_HEADER: u64 = 100_000_000;
/// `ustar`, where a TAR archive has it.
const TAR_MAGIC: std::ops::Range<usize> = 257..262;
/// The magic number of legacy files, little-endian, and as old protocols write it.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const LEGACY_MAGIC_TEXT: &[u8] = b"119547037146038801333356";
/// How far into the file that number is looked for, in bytes.
const LEGACY_WINDOW: usize = 64;

/// Opens a file and tells its container.
///
/// # Errors
///
/// When it cannot be read, is not a file, or is not a checkpoint.
pub(crate) fn sniff(path: &Path) -> Result<(File, Container), ImportError> {
    let read_error = |source| ArtifactError::Read {
        path: path.into(),
        source,
    };
    let kind = std::fs::metadata(path).map_err(read_error)?;
    if !kind.is_file() {
        let found = if kind.is_dir() {
            "a folder"
        } else {
            "a device or pipe"
        };
        return Err(ImportError::NotAFile {
            path: path.into(),
            found,
        });
    }
    let file = File::open(path).map_err(read_error)?;
    let mut head = Vec::with_capacity(HEAD);
    (&file)
        .take(HEAD as u64)
        .read_to_end(&mut head)
        .map_err(read_error)?;
    match container(&head) {
        Some(container) => Ok((file, container)),
        None => Err(ImportError::NotACheckpoint {
            path: path.into(),
            found: describe(&head),
        }),
    }
}

fn container(head: &[u8]) -> Option<Container> {
    let window = &head[..head.len().min(LEGACY_WINDOW)];
    let holds = |magic: &[u8]| window.windows(magic.len()).any(|bytes| bytes == magic);
    let length = head
        .first_chunk::<8>()
        .map(|bytes| u64::from_le_bytes(*bytes));
    if head.starts_with(b"PK\x03\x04") {
        Some(Container::TorchZip)
    } else if head.get(TAR_MAGIC) == Some(b"ustar") {
        Some(Container::TorchTar)
    } else if length.is_some_and(|n| n <= MAX_HEADER) && head.get(8) == Some(&b'{') {
        Some(Container::SafeTensors)
    } else if holds(&LEGACY_MAGIC) || holds(LEGACY_MAGIC_TEXT) {
        Some(Container::TorchLegacy)
    } else {
        None
    }
}

/// What a file that is no checkpoint looks like.
fn describe(head: &[u8]) -> String {
    let magics: [(&[u8], &str); 11] = [
        (b"\x89PNG", "a PNG image"),
        (b"\xff\xd8\xff", "a JPEG image"),
        (b"GIF8", "a GIF image"),
        (b"\x89HDF", "an HDF5 file"),
        (b"GGUF", "a GGUF file"),
        (b"\x93NUMPY", "a NumPy array"),
        (b"\x1f\x8b", "gzip-compressed data (decompress it first)"),
        (b"PK\x05\x06", "an empty ZIP archive"),
        (
            b"version https://git-lfs",
            "a Git LFS pointer (run `git lfs pull`)",
        ),
        (b"<", "a web page or XML text (a download that went wrong?)"),
        (b"\x80", "a Python pickle without the layout of torch.save"),
    ];
    if head.is_empty() {
        return "empty".into();
    }
    let found = magics.iter().find(|(magic, _)| head.starts_with(magic));
    match found {
        Some((_, name)) => (*name).into(),
        None if head
            .iter()
            .all(|b| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e)) =>
        {
            "a text".into()
        }
        None => "of an unknown kind".into(),
    }
}

/// Another kind of network that has tensors with such names.
pub(crate) fn looks_like(tensors: &[TensorInfo]) -> Option<&'static str> {
    let has = |part: &str| tensors.iter().any(|tensor| tensor.name.contains(part));
    let signs = [
        (
            "model.diffusion_model.",
            "a whole Stable Diffusion checkpoint",
        ),
        (
            "transformer_blocks.",
            "a U-Net with cross-attention (Stable Diffusion)",
        ),
        (
            "down_blocks.",
            "a network of diffusers (give its folder with its config.json)",
        ),
        ("x_embedder.proj", "a diffusion transformer"),
        ("blocks.0.attn.qkv", "a vision transformer"),
        ("layer1.0.conv1", "a ResNet"),
        ("Mixed_5b", "an Inception network"),
        ("exp_avg", "an optimiser's state"),
    ];
    signs
        .into_iter()
        .find(|(part, _)| has(part))
        .map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides() {
        assert_eq!(container(b"PK\x03\x04rest"), Some(Container::TorchZip));
        assert_eq!(
            container(b"\x10\0\0\0\0\0\0\0{\"a\""),
            Some(Container::SafeTensors)
        );
        // A header of 128 bytes begins with the byte that opens a pickle.
        assert_eq!(
            container(b"\x80\0\0\0\0\0\0\0{\"a\""),
            Some(Container::SafeTensors)
        );
        let legacy = [b"\x80\x02\x8a\x0a".as_slice(), &LEGACY_MAGIC, b"."].concat();
        assert_eq!(container(&legacy), Some(Container::TorchLegacy));
        let mut tar = vec![0; HEAD];
        tar[TAR_MAGIC].copy_from_slice(b"ustar");
        assert_eq!(container(&tar), Some(Container::TorchTar));
        for other in [
            b"".as_slice(),
            b"hello world",
            b"\xff\xff\xff\xff\xff\xff\xff\xff{",
        ] {
            assert_eq!(container(other), None);
        }
    }

    #[test]
    fn other_files_are_named() {
        assert_eq!(describe(b""), "empty");
        assert_eq!(describe(b"\x89PNG\r\n"), "a PNG image");
        assert_eq!(describe(b"some words\n"), "a text");
        assert_eq!(describe(&[0, 1, 2]), "of an unknown kind");
        assert!(describe(b"<!DOCTYPE html>").contains("download"));
    }
}
