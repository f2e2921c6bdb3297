//! What a job leaves in its folder.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::job::Job;

/// Every file by its path in the folder, with its bytes. Locks are not part of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Output {
    pub(super) files: BTreeMap<String, Vec<u8>>,
}

impl Output {
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let mut output = Self::default();
        output.collect(folder, "")?;
        Ok(output)
    }

    fn collect(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        let listing = || format!("listing {}", folder.display());
        for entry in std::fs::read_dir(folder).with_context(listing)? {
            let path = entry.with_context(listing)?.path();
            let last = path.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{prefix}{last}");
            if path.is_dir() {
                self.collect(&path, &format!("{name}/"))?;
            } else if !last.contains("lock") {
                let bytes =
                    std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
                self.files.insert(name, bytes);
            }
        }
        Ok(())
    }

    /// Writes every file below a folder, which is made if need be.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        for (name, bytes) in &self.files {
            let path = folder.join(name);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)
                    .with_context(|| format!("creating {}", parent.display()))?;
            }
            std::fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }

    /// How many bytes all files have.
    pub(super) fn bytes(&self) -> usize {
        self.files.values().map(Vec::len).sum()
    }

    /// Errs, with names, unless `other` has the same files with the same bytes; of those that hold times all else is
    /// compared, as far as it is the same in every run.
    pub(super) fn require_equal(&self, other: &Self, job: Job) -> Result<()> {
        let absent: Vec<&str> = self
            .names()
            .filter(|name| !other.files.contains_key(*name))
            .collect();
        let extra: Vec<&str> = other
            .names()
            .filter(|name| !self.files.contains_key(*name))
            .collect();
        let same = |(name, bytes): &(&String, &Vec<u8>)| {
            let Some(other) = other.files.get(*name) else {
                return true;
            };
            match job.holds_times(name) {
                true => settled(name, bytes) == settled(name, other),
                false => other == *bytes,
            }
        };
        let differing: Vec<&str> = self
            .files
            .iter()
            .filter(|file| !same(file))
            .map(|(name, _)| name.as_str())
            .collect();
        if absent.is_empty() && extra.is_empty() && differing.is_empty() {
            return Ok(());
        }
        bail!(
            "files that are absent: {absent:?}, too many: {extra:?}, of other bytes: {differing:?}"
        )
    }

    /// Errs, with a name, unless every file of an unfinished run is as it will be in the end; temporary files, and
    /// those that are written again and again, are not looked at.
    pub(super) fn require_whole(&self, finished: &Self, job: Job) -> Result<()> {
        for (name, bytes) in &self.files {
            let exempt = name.ends_with(".tmp")
                || job.grows(name)
                || job.holds_times(name)
                || job.passes(name);
            match finished.files.get(name) {
                _ if exempt => {}
                Some(whole) if whole == bytes => {}
                Some(whole) => bail!(
                    "{name} has {} bytes that are not those of the finished run ({} bytes)",
                    bytes.len(),
                    whole.len()
                ),
                None => bail!("{name} is no file of a finished run"),
            }
        }
        Ok(())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }
}

/// What of a file with times is the same in every run: of safetensors the header without its times, and the values; of
/// JSON the text without its times, where it is a record what was found alone; of pages and costs nothing.
fn settled<'a>(name: &str, bytes: &'a [u8]) -> (String, &'a [u8]) {
    let text = |bytes: &[u8]| without_times(&String::from_utf8_lossy(bytes));
    match name.rsplit('/').next().unwrap_or(name) {
        name if name.ends_with(".safetensors") => {
            let (header, values) = parts(bytes);
            // A header is filled up with spaces, as its length wants.
            (text(header).trim_end().to_owned(), values)
        }
        "training.json" => (text(bytes), &[]),
        "results.json" => {
            // Before it stands the command, with folders that differ.
            let all = text(bytes);
            let data = all.find("\"data\":").unwrap_or(0);
            (all[data..].to_owned(), &[])
        }
        _ => (String::new(), &[]),
    }
}

/// The header and the values of a safetensors file; all of it as values if it is none.
fn parts(bytes: &[u8]) -> (&[u8], &[u8]) {
    let length = bytes
        .first_chunk()
        .map(|length| u64::from_le_bytes(*length));
    let end = length.and_then(|length| usize::try_from(length).ok()?.checked_add(8));
    match end.and_then(|end| Some((bytes.get(8..end)?, bytes.get(end..)?))) {
        Some(parts) => parts,
        None => (&[], bytes),
    }
}

/// JSON without the numbers that are times: those of `seconds` and `created_unix`, in a text within JSON too, where
/// quotes have a backslash.
fn without_times(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    const KEYS: [&str; 4] = [
        "\"seconds\":",
        "\"seconds\\\":",
        "\"created_unix\":",
        "\"created_unix\\\":",
    ];
    let next = |rest: &str| {
        let ends = KEYS
            .iter()
            .filter_map(|key| Some(rest.find(key)? + key.len()));
        ends.min()
    };
    while let Some(end) = next(rest) {
        kept.push_str(&rest[..end]);
        let is_number = |c: char| c.is_ascii_digit() || " .eE+-".contains(c);
        rest = rest[end..].trim_start_matches(is_number);
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(files: &[(&str, &str)]) -> Output {
        let files = files
            .iter()
            .map(|(name, text)| ((*name).into(), text.as_bytes().to_vec()));
        Output {
            files: files.collect(),
        }
    }

    #[test]
    fn what_differs_is_named() {
        let whole = output(&[("a", "1"), ("b", "2")]);
        assert!(whole.require_equal(&whole.clone(), Job::Extract).is_ok());
        let other = output(&[("a", "0"), ("c", "3")]);
        let error = whole
            .require_equal(&other, Job::Extract)
            .unwrap_err()
            .to_string();
        let parts = [
            "absent: [\"b\"]",
            "too many: [\"c\"]",
            "other bytes: [\"a\"]",
        ];
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }

    #[test]
    fn of_tensors_with_times_all_else_is_compared() {
        let file = |header: &str, values: &str| {
            let length = (header.len() as u64).to_le_bytes();
            let bytes = [&length[..], header.as_bytes(), values.as_bytes()].concat();
            Output {
                files: [("checkpoint.safetensors".to_owned(), bytes)].into(),
            }
        };
        // The run's own JSON is a text in that of the header.
        let header = |seconds: &str, step: u32, name: &str| {
            format!(
                r#"{{"__metadata__":{{"state":"{{\"step\":{step},\"seconds\":{seconds}}}"}},"{name}":{{"shape":[3]}}}}  "#
            )
        };
        let first = file(&header("1.5", 4, "w"), "abc");
        let same = |other: &Output| first.require_equal(other, Job::Pretrain).is_ok();
        assert!(same(&file(&header("1.25e1", 4, "w"), "abc")));
        assert!(same(&file(header("12", 4, "w").trim_end(), "abc")));
        assert!(!same(&file(&header("1.5", 4, "w"), "abd")), "values");
        assert!(
            !same(&file(&header("1.5", 5, "w"), "abc")),
            "the run's place"
        );
        assert!(!same(&file(&header("1.5", 4, "v"), "abc")), "names");
        assert!(!same(&file("cut", "")));
    }

    #[test]
    fn of_records_what_was_found_is_compared() {
        let of = |name: &str, text: &str, other: &str, job: Job| {
            let first = output(&[(name, text)]);
            first.require_equal(&output(&[(name, other)]), job).is_ok()
        };
        let record = |folder: &str, made: u32, top1: f32| {
            format!(
                "{{\n  \"created_unix\": {made},\n  \"command\": [\"{folder}\"],\n  \"data\": {{\n    \"top1\": {top1},\n    \
                 \"seconds\": {made}\n  }}\n}}"
            )
        };
        let found = |one: &str, other: &str| of("x/results.json", one, other, Job::Reproduce);
        assert!(found(&record("a", 1, 0.5), &record("b", 22, 0.5)));
        assert!(!found(&record("a", 1, 0.5), &record("a", 1, 0.25)));
        let log = |one: &str, other: &str| of("training.json", one, other, Job::Pretrain);
        assert!(log(
            "{\"seconds\": 1.0, \"data\": \"x\"}",
            "{\"seconds\": 2e-3, \"data\": \"x\"}"
        ));
        assert!(!log(
            "{\"seconds\": 1.0, \"data\": \"x\"}",
            "{\"seconds\": 1.0, \"data\": \"y\"}"
        ));
        assert!(of("x/cost.json", "1", "2", Job::Reproduce));
    }

    #[test]
    fn times_may_differ_and_files_may_be_absent_before_the_end() {
        let whole = output(&[("x/cost.json", "1"), ("b", "2")]);
        let other = output(&[("x/cost.json", "7"), ("b", "2")]);
        assert!(whole.require_equal(&other, Job::Reproduce).is_ok());
        assert!(whole.require_equal(&other, Job::Extract).is_err());
        let begun = output(&[(".b.1.0.tmp", "")]);
        assert!(begun.require_whole(&whole, Job::Extract).is_ok());
        assert!(
            output(&[("b", "")])
                .require_whole(&whole, Job::Extract)
                .is_err()
        );
    }
}
