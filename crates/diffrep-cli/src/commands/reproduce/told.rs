//! What the record of a finished experiment tells, for the pages that collect several.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use diffrep_artifact::{Provenance, Record, Sha256Hex, read_bytes, read_record};
use diffrep_plan::{Described, PaperClaim, Plan, Published};
use diffrep_report::Report;
use diffrep_stats::{PairedDifference, Spread, Verdict};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::cost::Cost;
use super::{contest, denoising, ensemble, heads, probe, select, similarity, transfer, tune};

/// The file of an experiment's record.
pub(crate) const RESULTS: &str = "results.json";

/// A finished experiment at one scale.
#[derive(Debug)]
pub(crate) struct Told {
    /// Its name, such as `table1`; for one data set of several `figure4/tops`.
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) scale: String,
    /// Its folder.
    pub(crate) dir: PathBuf,
    /// The hash of its record's file.
    pub(crate) sha256: Sha256Hex,
    pub(crate) created_unix: u64,
    pub(crate) provenance: Provenance,
    /// What was asked for.
    pub(crate) settings: Value,
    /// What the test images are, where the record tells.
    pub(crate) test_sha256: Option<String>,
    pub(crate) published: Vec<Published>,
    /// What is claimed of its contenders.
    pub(crate) claims: Vec<PaperClaim>,
    /// Whether it is an experiment of one's own, of which the paper says nothing.
    pub(crate) own: bool,
    pub(crate) found: Found,
    pub(crate) cost: Cost,
    /// The data sets of an experiment on several, each with a record of its own.
    pub(crate) parts: Vec<Told>,
}

/// What a record holds beside what all records have.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) report: Report,
    pub(crate) standings: Vec<Standing>,
    /// Findings of the paper that the record itself decides.
    pub(crate) decided: Vec<Decided>,
    /// Folders of the data sets, by name.
    pub(crate) parts: Vec<(String, String)>,
}

impl From<Report> for Found {
    fn from(report: Report) -> Self {
        Self {
            report,
            standings: Vec::new(),
            decided: Vec::new(),
            parts: Vec::new(),
        }
    }
}

/// A contender with its accuracy on the test images.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) name: String,
    /// Accuracy over seeds, as a share.
    pub(crate) test: Spread,
    /// For each seed, which test images were classified right; empty where the record does not tell.
    pub(crate) correct: Vec<Vec<bool>>,
    /// For a control, by how much what it controls is ahead of it.
    pub(crate) control: Option<PairedDifference>,
}

/// A finding of the paper with the answer that a record has.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub(crate) text: String,
    /// The images that decide it.
    pub(crate) on: String,
    pub(crate) difference: PairedDifference,
    pub(crate) verdict: Verdict,
}

/// What is known of an experiment beside its record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) title: &'a str,
    pub(super) published: &'a [Published],
    pub(super) dir: &'a Path,
}

impl Told {
    /// Reads the experiment whose record lies in `dir`; `plans` are experiments that this program does not
    /// know by itself.
    ///
    /// # Errors
    ///
    /// When the folder has no record, or one of a kind or version that this program does not read.
    pub(crate) fn read(dir: &Path, plans: &[&Plan]) -> Result<Self> {
        let mut head = Head::read(dir)?;
        let words = head.data.experiment.take();
        let folder = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
        let folder = folder.file_name().unwrap_or_default().to_string_lossy();
        let name = match &words {
            Some(words) => words.name.clone(),
            None => experiment_name(&folder, &head.data.scale, plans),
        };
        // Of one's own experiment the record has the words; of the others this program.
        let own = words.is_some();
        let words = words.or_else(|| {
            let given = plans.iter().find(|plan| plan.name() == name);
            match given {
                Some(plan) => Some(plan.words()),
                None => diffrep_plan::known()
                    .any(|known| known == name)
                    .then(|| Plan::named(&name).ok().map(|plan| plan.words()))
                    .flatten(),
            }
        });
        // Two folders of one experiment and scale are told apart by their names.
        let name = match folder == name || folder == format!("{name}-{}", head.data.scale) {
            true => name,
            false => folder.into_owned(),
        };
        let words = words.unwrap_or_else(|| Described {
            name: name.clone(),
            title: name.clone(),
            published: Vec::new(),
            claims: Vec::new(),
        });
        let mut told = Self::with(
            head,
            dir,
            name,
            &words.title,
            &words.published,
            &words.claims,
        )?;
        told.own = own;
        Ok(told)
    }

    fn with(
        head: Head,
        dir: &Path,
        name: String,
        title: &str,
        published: &[Published],
        claims: &[PaperClaim],
    ) -> Result<Self> {
        let path = dir.join(RESULTS);
        let known = Known {
            title,
            published,
            dir,
        };
        let found = found(&path, &head, known)
            .with_context(|| format!("the experiment {name} in {}", dir.display()))?;
        let parts = found.parts.iter().map(|(part, folder)| {
            let dir = dir.join(folder);
            let head = Head::read(&dir)?;
            Self::with(head, &dir, format!("{name}/{part}"), part, &[], claims)
        });
        Ok(Self {
            parts: parts.collect::<Result<_>>()?,
            // Its data sets decide them, each for itself.
            claims: if found.parts.is_empty() {
                claims.to_vec()
            } else {
                Vec::new()
            },
            title: title.into(),
            scale: head.data.scale,
            dir: dir.to_path_buf(),
            sha256: head.sha256,
            created_unix: head.created_unix,
            provenance: head.provenance,
            test_sha256: head.data.data["test_sha256"].as_str().map(str::to_owned),
            settings: head.data.settings,
            own: false,
            published: published.to_vec(),
            cost: Cost::read(dir)?,
            found,
            name,
        })
    }
}

/// The part of a record that all kinds have, and the hash of its file.
struct Head {
    sha256: Sha256Hex,
    schema: String,
    created_unix: u64,
    provenance: Provenance,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    scale: String,
    settings: Value,
    experiment: Option<Described>,
    /// About the images.
    #[serde(default)]
    data: Value,
}

impl Head {
    fn read(dir: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Written {
            schema: String,
            created_unix: u64,
            provenance: Provenance,
            data: Data,
        }
        let path = dir.join(RESULTS);
        let bytes = read_bytes(&path)?;
        let written: Written = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not the record of an experiment", path.display()))?;
        Ok(Self {
            sha256: Sha256Hex::hash_bytes(&bytes),
            schema: written.schema,
            created_unix: written.created_unix,
            provenance: written.provenance,
            data: written.data,
        })
    }
}

/// Reads a record by its kind.
fn found(path: &Path, head: &Head, known: Known<'_>) -> Result<Found> {
    let kinds: [((&str, u32), fn(&Path, Known<'_>) -> Result<Found>); 8] = [
        (probe::SCHEMA, probe::found),
        (heads::SCHEMA, contest::found),
        (tune::SCHEMA, contest::found),
        (ensemble::SCHEMA, ensemble::found),
        (select::SCHEMA, select::found),
        (transfer::SCHEMA, transfer::found),
        (similarity::SCHEMA, similarity::found),
        (denoising::SCHEMA, denoising::found),
    ];
    match kinds.iter().find(|((schema, _), _)| *schema == head.schema) {
        Some((_, found)) => found(path, known),
        None => bail!("records of the kind `{}` are of no experiment", head.schema),
    }
}

/// A record of one kind.
pub(super) fn record<T: DeserializeOwned>(
    path: &Path,
    (schema, version): (&str, u32),
) -> Result<Record<T>> {
    Ok(read_record(path, schema, version)?)
}

/// The name of the experiment in a folder `NAME-SCALE`, or in one that begins with the name of an
/// experiment; else the folder's own.
fn experiment_name(folder: &str, scale: &str, plans: &[&Plan]) -> String {
    if let Some(name) = folder.strip_suffix(&format!("-{scale}")) {
        return name.into();
    }
    let mut known: Vec<String> = plans.iter().map(|plan| plan.name().to_owned()).collect();
    known.extend(diffrep_plan::known().map(str::to_owned));
    let begins = |name: &String| {
        let rest = folder.strip_prefix(name.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    known
        .into_iter()
        .filter(begins)
        .max_by_key(String::len)
        .unwrap_or_else(|| folder.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_name_their_experiments() {
        assert_eq!(experiment_name("table1-mini", "mini", &[]), "table1");
        assert_eq!(
            experiment_name("mine-mini-quick", "mini-quick", &[]),
            "mine"
        );
        assert_eq!(experiment_name("select-mini-ten", "mini", &[]), "select");
        assert_eq!(experiment_name("elsewhere", "mini", &[]), "elsewhere");
    }
}
