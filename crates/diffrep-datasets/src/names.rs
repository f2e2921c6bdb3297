//! Relative names of samples: which are safe, which are images, and the identity made of one.

use std::path::Path;

use diffrep_artifact::Sha256Hex;

use crate::{DatasetError, Split};

/// Files with these extensions are samples; what they hold is decided by their first bytes.
const EXTENSIONS: [&str; 9] = [
    "jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp",
];

/// The longest relative name taken from an archive or a list, in bytes.
const LONGEST: usize = 4096;

/// The first 63 bits, big-endian, of the SHA-256 of a relative name: an id that a signed 64-bit column holds.
pub(crate) fn id_of(name: &str) -> u64 {
    let hash = Sha256Hex::hash_bytes(name.as_bytes());
    u64::from_str_radix(&hash.as_str()[..16], 16).expect("a hash is hexadecimal") >> 1
}

/// Whether the extension is one of an image.
pub(crate) fn is_image(name: &str) -> bool {
    Path::new(name)
        .extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| {
            EXTENSIONS
                .iter()
                .any(|known| extension.eq_ignore_ascii_case(known))
        })
}

/// The split that a file name mentions as a word of its own, as in `imagenet-train-0001.tar`.
pub(crate) fn split_in(file_name: &str) -> Option<Split> {
    file_name
        .split(|letter: char| !letter.is_ascii_alphabetic())
        .find_map(|word| match word.to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Split::Train),
            "val" | "validation" | "valid" => Some(Split::Validation),
            "test" => Some(Split::Test),
            _ => None,
        })
}

/// The name without `.` and empty parts, if it cannot lead out of the folder that it is relative to.
///
/// `path` is the archive or list that the name stands in.
pub(crate) fn safe_name(path: &Path, name: &str) -> Result<String, DatasetError> {
    let refuse = |problem| {
        Err(DatasetError::UnsafeName {
            path: path.to_path_buf(),
            name: name.chars().take(100).collect(),
            problem,
        })
    };
    if name.len() > LONGEST {
        return refuse("is longer than 4096 bytes");
    }
    if name.contains(['\0', '\\']) {
        return refuse("holds a NUL or a backslash");
    }
    // A drive letter would be absolute where there are drives.
    if name.starts_with('/') || name.as_bytes().get(1) == Some(&b':') {
        return refuse("is absolute");
    }
    let parts: Vec<&str> = name
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if parts.contains(&"..") {
        return refuse("leads upwards through `..`");
    }
    if parts.is_empty() {
        return refuse("is empty");
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let list = Path::new("data/train.csv");
        for name in [
            "/etc/passwd",
            "../up.png",
            "a/../../up.png",
            "a\\..\\b.png",
            "a\0b.png",
            "C:/x.png",
            "c:x.png",
            "",
            "./",
            &"long/".repeat(1_000),
        ] {
            let error = safe_name(list, name).unwrap_err();
            assert!(
                matches!(error, DatasetError::UnsafeName { .. }),
                "{name}: {error}"
            );
            assert!(error.to_string().contains("data/train.csv"), "{error}");
        }
    }

    #[test]
    fn a_split_is_a_word_of_its_own() {
        assert_eq!(
            split_in("imagenet1k-validation-00.tar"),
            Some(Split::Validation)
        );
        assert_eq!(split_in("train0001.tar"), Some(Split::Train));
        assert_eq!(split_in("trains-0001.tar"), None);
        assert_eq!(split_in("0.tar"), None);
    }

    #[test]
    fn safe_names_lose_only_what_means_nothing() {
        let list = Path::new("l");
        assert_eq!(safe_name(list, "./a//b/./c.png").unwrap(), "a/b/c.png");
        assert_eq!(safe_name(list, "a b/..c.png").unwrap(), "a b/..c.png");
    }
}
