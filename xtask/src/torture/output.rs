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

    /// Errs, with names, unless `other` has the same files with the same bytes; those that hold times only by name.
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
                true if name.ends_with(".safetensors") => tensors(bytes) == tensors(other),
                true => true,
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

/// The values of a safetensors file, which stand behind its header; all of it if it is none.
fn tensors(bytes: &[u8]) -> &[u8] {
    let length = bytes
        .first_chunk()
        .map(|length| u64::from_le_bytes(*length));
    let values = length
        .and_then(|length| usize::try_from(length).ok()?.checked_add(8))
        .and_then(|start| bytes.get(start..));
    values.unwrap_or(bytes)
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
    fn of_tensors_with_times_the_values_are_compared() {
        let file = |header: &str, values: &str| {
            let length = (header.len() as u64).to_le_bytes();
            [&length[..], header.as_bytes(), values.as_bytes()].concat()
        };
        let of = |bytes: Vec<u8>| Output {
            files: [("checkpoint.safetensors".to_owned(), bytes)].into(),
        };
        let first = of(file("{\"seconds\":1}", "abc"));
        let later = of(file("{\"seconds\":12}", "abc"));
        let other = of(file("{\"seconds\":1}", "abd"));
        assert!(first.require_equal(&later, Job::Pretrain).is_ok());
        assert!(first.require_equal(&other, Job::Pretrain).is_err());
    }

    #[test]
    fn times_may_differ_and_files_may_be_absent_before_the_end() {
        let whole = output(&[("x/results.json", "1"), ("b", "2")]);
        let other = output(&[("x/results.json", "7"), ("b", "2")]);
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
