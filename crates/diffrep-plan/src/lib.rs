#![doc = include_str!("../README.md")]

mod claim;
mod data;
mod denoising;
mod ensemble;
mod error;
mod heads;
pub mod launch;
mod plan;
mod probe;
mod roots;
pub mod scaling;
mod select;
mod shards;
mod similarity;
mod transfer;
mod tune;
mod worker;

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use claim::{Described, Expectation, PaperClaim};
pub use data::{DataSource, DescribedData};
pub use denoising::DenoisingScale;
pub use ensemble::EnsembleScale;
pub use error::PlanError;
pub use heads::{
    Cut, Feed, HeadsScale, Judge, PlannedContender, PlannedEncoder, PlannedGeneration, PlannedHead,
    PlannedText, U_NET_ENCODER,
};
pub use plan::{Plan, is_file, known};
pub use probe::ProbeScale;
pub use roots::Roots;
pub use select::SelectScale;
pub use shards::ShardList;
pub use similarity::{PlannedBackbone, PlannedDiffusion, SimilarityScale};
pub use transfer::{NamedData, RAW_PIXELS, TransferScale};
pub use tune::{PlannedTuning, Trained, TuneScale};
pub use worker::{ARRAY_COUNT, Array, Place, Ranks, Source, local_index};

/// A value that a paper prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// What it is the value of.
    pub name: String,
    /// Top-1 accuracy in percent.
    pub top1: f64,
    /// The contender that is to reach it at the scale [`PAPER`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contender: Option<String>,
    /// How many points that contender may differ from it, either way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_gap: Option<f64>,
}

/// The scale whose results are held to the published values; at any other these are for orientation.
pub const PAPER: &str = "paper";

/// One experiment at its scales.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment<S> {
    /// Its name.
    pub name: String,
    /// The question it answers.
    pub title: String,
    /// What the paper found.
    #[serde(default)]
    pub published: Vec<Published>,
    /// What the paper claims about its contenders.
    #[serde(default)]
    pub claims: Vec<PaperClaim>,
    /// Settings by scale.
    pub scales: BTreeMap<String, S>,
}

/// That a name can stand in the names of folders and in scripts.
fn names_a_folder(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match !name.is_empty() && !name.starts_with(['.', '-']) && name.chars().all(allowed) {
        true => Ok(()),
        false => Err(format!(
            "`{name}` names a folder: use letters, digits, `-`, `_` and `.` alone, and neither `.` nor `-` first"
        )),
    }
}

/// The settings of one scale of one kind of experiment.
pub trait Settings: DeserializeOwned {
    /// What no type rules out.
    ///
    /// # Errors
    ///
    /// A sentence on what is wrong.
    fn check(&self) -> Result<(), String>;

    /// The files and folders that it reads.
    fn assets(&self) -> Vec<&Path>;

    /// The seeds of its trainings, where a scale names them.
    fn seeds_mut(&mut self) -> Option<&mut Vec<u64>> {
        None
    }

    /// Names that claims can be about; none where results are no accuracies on the same test images.
    fn contenders(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// A name with nothing in it that a file's name had better not have.
fn file_name(name: &str) -> String {
    name.to_lowercase()
        .replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

/// That no two of a list have the same name.
fn distinct<'a>(key: &str, names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(format!("`{key}` has two of the name `{name}`"));
        }
    }
    Ok(())
}

/// That nothing of a list is 0 or empty.
fn at_least_one(required: &[(&str, usize)]) -> Result<(), String> {
    match required.iter().find(|(_, count)| *count == 0) {
        None => Ok(()),
        Some((key, _)) => Err(format!("`{key}` must be at least 1 or not empty")),
    }
}

/// That a claim is about contenders of scales that there are.
fn check_claim<S: Settings>(
    claim: &PaperClaim,
    scales: &BTreeMap<String, S>,
) -> Result<(), String> {
    let refuse = |reason: String| Err(format!("the claim \"{}\" {reason}", claim.text));
    if let Expectation::Within(points) = claim.expects
        && !(points.is_finite() && points > 0.0)
    {
        return refuse(format!("allows {points} points, which must be above 0"));
    }
    for (name, pairs) in &claim.pairs {
        let Some(scale) = scales.get(name) else {
            return refuse(format!("is about a scale `{name}`, which there is not"));
        };
        if pairs.is_empty() {
            return refuse(format!("compares nothing at the scale `{name}`"));
        }
        if let Some([one, _]) = pairs.iter().find(|[one, other]| one == other) {
            return refuse(format!("compares `{one}` with itself"));
        }
        let known = scale.contenders();
        for side in pairs.iter().flatten() {
            if known.is_empty() {
                return refuse("is about contenders, which this kind of experiment has not".into());
            }
            if !known.contains(&side.as_str()) {
                let known = known.join("`, `");
                return refuse(format!(
                    "is about `{side}`, which scale {name} has not: it has `{known}`"
                ));
            }
        }
    }
    Ok(())
}

impl<S: Settings> Experiment<S> {
    fn parse(name: &str, text: &str) -> Result<Self, PlanError> {
        /// An experiment as it is written, with its kind.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Written<S> {
            #[serde(rename = "kind")]
            _kind: String,
            name: String,
            title: String,
            #[serde(default)]
            published: Vec<Published>,
            #[serde(default)]
            claims: Vec<PaperClaim>,
            scales: BTreeMap<String, S>,
        }
        let refuse = |reason: String| PlanError::Malformed {
            name: name.into(),
            reason,
        };
        let mut written: Written<S> =
            toml::from_str(text).map_err(|error| refuse(error.to_string()))?;
        for (scale, settings) in &mut written.scales {
            let seeds = settings.seeds_mut().map_or(&[][..], |seeds| seeds);
            let again = (1..seeds.len()).find(|&at| seeds[..at].contains(&seeds[at]));
            if let Some(at) = again {
                let seed = seeds[at];
                return Err(refuse(format!(
                    "scale {scale}: `seeds` has {seed} twice, which would be told as a spread"
                )));
            }
        }
        for name in written.scales.keys().chain([&written.name]) {
            names_a_folder(name).map_err(&refuse)?;
        }
        for (scale, settings) in &written.scales {
            settings
                .check()
                .map_err(|reason| refuse(format!("scale {scale}: {reason}")))?;
        }
        for claim in &written.claims {
            check_claim(claim, &written.scales).map_err(&refuse)?;
        }
        Ok(Self {
            name: written.name,
            title: written.title,
            published: written.published,
            claims: written.claims,
            scales: written.scales,
        })
    }

    /// The settings of a scale.
    ///
    /// # Errors
    ///
    /// When there is no such scale.
    pub fn scale(&self, scale: &str) -> Result<&S, PlanError> {
        self.scales.get(scale).ok_or_else(|| PlanError::Scale {
            name: self.name.clone(),
            scale: scale.into(),
            known: self.scales.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }
}
