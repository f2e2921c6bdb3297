//! What may have been meant by a path that is not there.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use diffrep_datasets::DatasetError;
use strsim::osa_distance;

/// Names of a folder that are looked through for one like that which was given.
const LOOKED_AT: usize = 10_000;

/// A sentence about a path that the user gave and that is not there, if that is why the command failed; `words` are
/// those of the command line.
pub(crate) fn missing(error: &anyhow::Error, words: &[String]) -> Option<String> {
    near(&lost(error, words)?)
}

/// The path of the command line that an error says is not there.
fn lost(error: &anyhow::Error, words: &[String]) -> Option<PathBuf> {
    let causes: Vec<_> = error.chain().collect();
    for cause in &causes {
        if let Some(DatasetError::NotAFolder { path }) = cause.downcast_ref()
            && !path.exists()
        {
            return Some(path.clone());
        }
    }
    let is_absence = |cause: &&(dyn std::error::Error + 'static)| {
        let reason = cause.downcast_ref::<std::io::Error>();
        let absent = [ErrorKind::NotFound, ErrorKind::NotADirectory];
        reason.is_some_and(|reason| absent.contains(&reason.kind()))
    };
    // What the system said stands behind what names the file, which may lie in a folder that was given.
    let reason = causes.iter().position(is_absence)?;
    let said = causes[reason.checked_sub(1)?].to_string();
    // The first is the name of the command, which a sentence may hold as well.
    let values = words.iter().skip(1).map(|word| match word.split_once('=') {
        Some((option, value)) if option.starts_with("--") => value,
        _ => word.as_str(),
    });
    let paths = values.filter(|value| {
        let value = value.trim_end_matches('/');
        !value.is_empty() && is_named(&said, value) && !Path::new(value).exists()
    });
    paths.max_by_key(|path| path.len()).map(PathBuf::from)
}

/// Whether a text has a path, or one below it, as words of their own.
fn is_named(text: &str, path: &str) -> bool {
    let begins = |before: Option<char>| {
        before.is_none_or(|char| char.is_whitespace() || "\"'`(".contains(char))
    };
    let ends = |after: Option<char>| {
        after.is_none_or(|char| char.is_whitespace() || "\"'`)/:;,".contains(char))
    };
    text.match_indices(path).any(|(at, _)| {
        begins(text[..at].chars().next_back()) && ends(text[at + path.len()..].chars().next())
    })
}

/// What lies where a path was to be: something of nearly its name, or else the folder in which it is not.
fn near(path: &Path) -> Option<String> {
    let mut parts = path.components();
    let mut there = PathBuf::new();
    let name = loop {
        let part = parts.next()?;
        let next = there.join(part);
        match part {
            Component::Normal(name) if !next.exists() => break name.to_str()?.to_owned(),
            _ => there = next,
        }
    };
    let folder = match there.as_os_str().is_empty() {
        true => Path::new("."),
        false => &there,
    };
    if folder.is_file() {
        return Some(format!("{} is a file and no folder", folder.display()));
    }
    let entries = std::fs::read_dir(folder).ok()?.take(LOOKED_AT).flatten();
    // A link that leads nowhere is no help.
    let names = entries.filter(|entry| entry.path().exists());
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let likely = names.filter_map(|other| Some((likeness(&name, &other)?, other)));
    let Some((_, other)) = likely.min() else {
        return Some(match there.as_os_str().is_empty() {
            true => format!("the current folder has no `{name}`"),
            false => format!(
                "the folder {} is there, but has no `{name}`",
                there.display()
            ),
        });
    };
    let meant = there.join(other);
    let whole = parts.fold(meant.clone(), |path, part| path.join(part));
    let meant = if whole.exists() { whole } else { meant };
    Some(format!("did you mean {}?", meant.display()))
}

/// How far a name is from another, if it may have been meant by it: by a few letters, by capitals or by what follows
/// its dot.
fn likeness(name: &str, other: &str) -> Option<usize> {
    let [name, other] = [name, other].map(str::to_lowercase);
    let stem = |name: &str| {
        Path::new(name)
            .file_stem()
            .map(std::ffi::OsStr::to_os_string)
    };
    let far = osa_distance(&name, &other);
    // Of the letters before the dot: those behind it are alike among strangers.
    let letters = |name: &str| stem(name).map_or(0, |stem| stem.to_string_lossy().chars().count());
    let allowed = letters(&name) / 3;
    (far <= allowed || stem(&name) == stem(&other)).then_some(far)
}
#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};
    use diffrep_artifact::read_bytes;

    use super::*;

    #[test]
    fn what_lies_nearby_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("checkpoints")).unwrap();
        for name in ["model.safetensors", "Head.pt", "checkpoints/unet.pt"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let at = |name: &str| dir.path().join(name).display().to_string();
        for (given, meant) in [
            ("modle.safetensors", "model.safetensors"),
            ("model.pt", "model.safetensors"),
            ("head.pt", "Head.pt"),
            ("checkpoint/unet.pt", "checkpoints/unet.pt"),
            ("checkpoint/none.pt", "checkpoints"),
            ("checkpoints/unett.pt", "checkpoints/unet.pt"),
        ] {
            let hint = format!("did you mean {}?", at(meant));
            assert_eq!(near(Path::new(&at(given))), Some(hint), "{given}");
        }
        let none = near(Path::new(&at("checkpoints/photos/cat.png"))).unwrap();
        let folder = at("checkpoints");
        assert_eq!(
            none,
            format!("the folder {folder} is there, but has no `photos`")
        );
        let within = near(Path::new(&at("Head.pt/config.json"))).unwrap();
        assert!(
            within.ends_with("Head.pt is a file and no folder"),
            "{within}"
        );
        assert_eq!(near(dir.path()), None, "it is there");
        let here = near(Path::new("no-such-thing-anywhere")).unwrap();
        assert_eq!(here, "the current folder has no `no-such-thing-anywhere`");
    }

    #[test]
    fn only_a_path_of_the_command_line_that_is_not_there_has_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let words = |more: &[&str]| -> Vec<String> {
            let all = ["read", "--quiet"].iter().chain(more);
            all.map(|word| (*word).to_owned()).collect()
        };
        let (lost_path, other) = (at("store"), at("other"));
        let of = |path: &str| -> anyhow::Error {
            let read = read_bytes(path).context("no head to classify with");
            read.unwrap_err()
        };
        // A file of a folder that is not there either.
        let error = of(&format!("{lost_path}/manifest.json"));
        assert_eq!(
            lost(&error, &words(&[&other, &lost_path])),
            Some(lost_path.clone().into())
        );
        let with_option = format!("--head={lost_path}/");
        assert!(missing(&error, &words(&[&with_option])).is_some());
        // A path that the command chose itself, or that only begins alike.
        assert_eq!(missing(&error, &words(&[&other])), None);
        assert_eq!(missing(&error, &words(&[&at("stor")])), None);
        // What is there but cannot be read, or is said by no system.
        let folder = dir.path().display().to_string();
        assert_eq!(missing(&of(&folder), &words(&[&folder])), None);
        assert_eq!(
            missing(&anyhow!("{lost_path} is no store"), &words(&[&lost_path])),
            None
        );
        let no_folder = DatasetError::NotAFolder {
            path: lost_path.clone().into(),
        };
        assert!(missing(&no_folder.into(), &[]).is_some());
    }

    #[test]
    fn strangers_and_links_to_nowhere_are_not_meant() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("head.safetensors"), "").unwrap();
        let hint = |name: &str| near(&dir.path().join(name)).unwrap();
        for stranger in ["a.safetensors", "model.safetensors"] {
            assert!(hint(stranger).contains("but has no"), "{stranger}");
        }
        assert!(hint("haed.safetensors").contains("did you mean"));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("gone", dir.path().join("unet.pt")).unwrap();
            assert!(hint("unet.pt").contains("but has no"));
            assert!(hint("unte.pt").contains("but has no"));
        }
    }

    #[test]
    fn a_file_is_no_folder() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("head.safetensors");
        std::fs::write(&file, "").unwrap();
        let path = file.join("config.json").display().to_string();
        let error = anyhow::Error::from(read_bytes(&path).unwrap_err());
        let hint = missing(&error, &["inspect".into(), path]).unwrap();
        assert!(hint.ends_with("is a file and no folder"), "{hint}");
    }
}
