#![doc = include_str!("../README.md")]

mod claim;
mod data;
mod denoising;
mod ensemble;
mod error;
mod heads;
pub mod launch;
mod probe;
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

pub use claim::{Expectation, PaperClaim};
pub use data::{DataSource, DescribedData};
pub use denoising::DenoisingScale;
pub use ensemble::EnsembleScale;
pub use error::PlanError;
pub use heads::{
    Cut, Feed, HeadsScale, Judge, PlannedContender, PlannedEncoder, PlannedGeneration, PlannedHead,
    PlannedText,
};
pub use probe::ProbeScale;
pub use select::SelectScale;
pub use shards::ShardList;
pub use similarity::{PlannedBackbone, PlannedDiffusion, SimilarityScale};
pub use transfer::{NamedData, TransferScale};
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
}

/// An experiment of any kind; `kind` in its file says which.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// A linear probe against controls.
    Probe(Experiment<ProbeScale>),
    /// Heads against each other.
    Heads(Experiment<HeadsScale>),
    /// Trainings with the network in the loop against each other.
    Tune(Experiment<TuneScale>),
    /// A search for the best setting against the whole grid.
    Select(Experiment<SelectScale>),
    /// Several noises of one image.
    Ensemble(Experiment<EnsembleScale>),
    /// Heads on several data sets.
    Transfer(Experiment<TransferScale>),
    /// Layers compared by CKA.
    Similarity(Experiment<SimilarityScale>),
    /// What one step of the network makes of noised images.
    Denoising(Experiment<DenoisingScale>),
}

const KNOWN: [(&str, &str); 14] = [
    ("figure2", include_str!("../experiments/figure2.toml")),
    ("table1", include_str!("../experiments/table1.toml")),
    ("table2", include_str!("../experiments/table2.toml")),
    ("table3", include_str!("../experiments/table3.toml")),
    ("table4", include_str!("../experiments/table4.toml")),
    ("table6", include_str!("../experiments/table6.toml")),
    ("figure1", include_str!("../experiments/figure1.toml")),
    ("figure3", include_str!("../experiments/figure3.toml")),
    ("figure4", include_str!("../experiments/figure4.toml")),
    ("figure5", include_str!("../experiments/figure5.toml")),
    ("figure6", include_str!("../experiments/figure6.toml")),
    ("figure7", include_str!("../experiments/figure7.toml")),
    ("ensemble", include_str!("../experiments/ensemble.toml")),
    ("select", include_str!("../experiments/select.toml")),
];

/// Names of the experiments in this crate.
pub fn known() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|(name, _)| *name)
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

impl Plan {
    /// An experiment of this crate by name, or a TOML file by path.
    ///
    /// # Errors
    ///
    /// When there is none, or it has unknown keys or values out of range.
    pub fn named(name: &str) -> Result<Self, PlanError> {
        if let Some((_, text)) = KNOWN.iter().find(|(known, _)| *known == name) {
            return Self::parse(name, text);
        }
        if Path::new(name)
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let bytes = diffrep_artifact::read_bytes(name)?;
            return Self::parse(name, &String::from_utf8_lossy(&bytes));
        }
        let known = known().collect::<Vec<_>>().join(", ");
        Err(PlanError::Unknown {
            name: name.into(),
            known,
        })
    }

    fn parse(name: &str, text: &str) -> Result<Self, PlanError> {
        #[derive(Deserialize)]
        struct Kind {
            kind: String,
        }
        let refuse = |reason: String| PlanError::Malformed {
            name: name.into(),
            reason,
        };
        let Kind { kind } = toml::from_str(text).map_err(|error| refuse(error.to_string()))?;
        match kind.as_str() {
            "probe" => Experiment::parse(name, text).map(Self::Probe),
            "heads" => Experiment::parse(name, text).map(Self::Heads),
            "tune" => Experiment::parse(name, text).map(Self::Tune),
            "select" => Experiment::parse(name, text).map(Self::Select),
            "ensemble" => Experiment::parse(name, text).map(Self::Ensemble),
            "transfer" => Experiment::parse(name, text).map(Self::Transfer),
            "similarity" => Experiment::parse(name, text).map(Self::Similarity),
            "denoising" => Experiment::parse(name, text).map(Self::Denoising),
            other => Err(refuse(format!(
                "its kind is `{other}`: use probe, heads, tune, select, ensemble, transfer, similarity or denoising"
            ))),
        }
    }

    /// The experiment's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Probe(experiment) => &experiment.name,
            Self::Heads(experiment) => &experiment.name,
            Self::Tune(experiment) => &experiment.name,
            Self::Select(experiment) => &experiment.name,
            Self::Ensemble(experiment) => &experiment.name,
            Self::Transfer(experiment) => &experiment.name,
            Self::Similarity(experiment) => &experiment.name,
            Self::Denoising(experiment) => &experiment.name,
        }
    }

    /// The question it answers.
    pub fn title(&self) -> &str {
        match self {
            Self::Probe(experiment) => &experiment.title,
            Self::Heads(experiment) => &experiment.title,
            Self::Tune(experiment) => &experiment.title,
            Self::Select(experiment) => &experiment.title,
            Self::Ensemble(experiment) => &experiment.title,
            Self::Transfer(experiment) => &experiment.title,
            Self::Similarity(experiment) => &experiment.title,
            Self::Denoising(experiment) => &experiment.title,
        }
    }

    /// What the paper found.
    pub fn published(&self) -> &[Published] {
        match self {
            Self::Probe(experiment) => &experiment.published,
            Self::Heads(experiment) => &experiment.published,
            Self::Tune(experiment) => &experiment.published,
            Self::Select(experiment) => &experiment.published,
            Self::Ensemble(experiment) => &experiment.published,
            Self::Transfer(experiment) => &experiment.published,
            Self::Similarity(experiment) => &experiment.published,
            Self::Denoising(experiment) => &experiment.published,
        }
    }

    /// What the paper claims about its contenders.
    pub fn claims(&self) -> &[PaperClaim] {
        match self {
            Self::Probe(experiment) => &experiment.claims,
            Self::Heads(experiment) => &experiment.claims,
            Self::Tune(experiment) => &experiment.claims,
            Self::Select(experiment) => &experiment.claims,
            Self::Ensemble(experiment) => &experiment.claims,
            Self::Transfer(experiment) => &experiment.claims,
            Self::Similarity(experiment) => &experiment.claims,
            Self::Denoising(experiment) => &experiment.claims,
        }
    }

    /// The files and folders that it reads at a scale, whether they are there or not.
    ///
    /// # Errors
    ///
    /// When there is no such scale.
    pub fn assets(&self, scale: &str) -> Result<Vec<&Path>, PlanError> {
        match self {
            Self::Probe(experiment) => Ok(experiment.scale(scale)?.assets()),
            Self::Heads(experiment) => Ok(experiment.scale(scale)?.assets()),
            Self::Tune(experiment) => Ok(experiment.scale(scale)?.assets()),
            Self::Select(experiment) => Ok(experiment.scale(scale)?.assets()),
            Self::Ensemble(experiment) => Ok(experiment.scale(scale)?.assets()),
            Self::Transfer(experiment) => Ok(experiment.scale(scale)?.assets()),
            Self::Similarity(experiment) => Ok(experiment.scale(scale)?.assets()),
            Self::Denoising(experiment) => Ok(experiment.scale(scale)?.assets()),
        }
    }

    /// The names of its scales.
    pub fn scales(&self) -> Vec<&str> {
        match self {
            Self::Probe(experiment) => experiment.scales.keys().map(String::as_str).collect(),
            Self::Heads(experiment) => experiment.scales.keys().map(String::as_str).collect(),
            Self::Tune(experiment) => experiment.scales.keys().map(String::as_str).collect(),
            Self::Select(experiment) => experiment.scales.keys().map(String::as_str).collect(),
            Self::Ensemble(experiment) => experiment.scales.keys().map(String::as_str).collect(),
            Self::Transfer(experiment) => experiment.scales.keys().map(String::as_str).collect(),
            Self::Similarity(experiment) => experiment.scales.keys().map(String::as_str).collect(),
            Self::Denoising(experiment) => experiment.scales.keys().map(String::as_str).collect(),
        }
    }
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
        let written: Written<S> =
            toml::from_str(text).map_err(|error| refuse(error.to_string()))?;
        for (scale, settings) in &written.scales {
            settings
                .check()
                .map_err(|reason| refuse(format!("scale {scale}: {reason}")))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_experiment_is_valid_and_named_as_its_file() {
        for name in known() {
            assert_eq!(Plan::named(name).unwrap().name(), name);
        }
    }

    #[test]
    fn a_wrong_experiment_says_what_is_wrong() {
        let error = Plan::named("table99").unwrap_err().to_string();
        assert!(error.contains("table1"), "{error}");
        let text = KNOWN[0]
            .1
            .replacen("seeds = [0, 1, 2]", "seeds = [0, 1, 2]\nseed = 3", 1);
        let error = Plan::parse("x", &text).unwrap_err().to_string();
        assert!(error.contains("seed"), "{error}");
        let text = KNOWN[0]
            .1
            .replacen("timesteps = [0, 10, 100, 500]", "timesteps = []", 1);
        assert!(
            Plan::parse("x", &text)
                .unwrap_err()
                .to_string()
                .contains("`timesteps`")
        );
        let Plan::Probe(probe) = Plan::named("figure2").unwrap() else {
            panic!("probe is of another kind");
        };
        let error = probe.scale("maxi").unwrap_err().to_string();
        assert!(
            error.contains("mini, mini-full, mini-quick, paper, smoke"),
            "{error}"
        );
    }

    #[test]
    fn every_artefact_of_the_paper_has_both_scales() {
        for name in known().filter(|name| name.starts_with("table") || name.starts_with("figure")) {
            let plan = Plan::named(name).unwrap();
            assert!(
                plan.scales().contains(&PAPER) && plan.scales().contains(&"mini"),
                "{name}"
            );
        }
    }

    #[test]
    fn published_values_name_contenders_of_the_paper_scale() {
        let held = |published: &[Published], names: Vec<&str>| {
            for value in published
                .iter()
                .filter_map(|value| value.contender.as_deref())
            {
                assert!(
                    names.contains(&value) || value == "U-Net encoder",
                    "{value}"
                );
            }
        };
        for name in known() {
            match Plan::named(name).unwrap() {
                Plan::Heads(e) => {
                    let heads = &e.scale(PAPER).unwrap().heads;
                    held(
                        &e.published,
                        heads.iter().map(PlannedContender::title).collect(),
                    );
                }
                Plan::Tune(e) => {
                    let contenders = &e.scale(PAPER).unwrap().contenders;
                    held(
                        &e.published,
                        contenders.iter().map(|c| c.name.as_str()).collect(),
                    );
                }
                _ => {}
            }
        }
    }

    #[test]
    fn claims_name_contenders_of_their_scale() {
        let mut judged = 0;
        for name in known() {
            let plan = Plan::named(name).unwrap();
            for claim in plan.claims() {
                // Random weights decide nothing.
                let scales = match name {
                    "table4" => &[PAPER][..],
                    _ => &["mini", PAPER][..],
                };
                let decides = claim.pairs.contains_key("mini");
                assert_eq!(decides, scales.contains(&"mini"), "{name}");
                for &scale in scales {
                    let pairs = &claim.pairs[scale];
                    assert!(!pairs.is_empty(), "{name}: {}", claim.text);
                    let names: Vec<String> = match &plan {
                        Plan::Heads(e) => titles(&e.scale(scale).unwrap().heads),
                        Plan::Transfer(e) => titles(&e.scale(scale).unwrap().heads),
                        Plan::Tune(e) => {
                            let contenders = &e.scale(scale).unwrap().contenders;
                            contenders.iter().map(|c| c.name.clone()).collect()
                        }
                        _ => panic!("{name} has no contenders"),
                    };
                    for side in pairs.iter().flatten() {
                        let known = names.contains(side) || side == "U-Net encoder";
                        assert!(known, "{name}, {scale}: no {side} among {names:?}");
                    }
                    judged += pairs.len();
                }
            }
        }
        assert!(judged > 20, "{judged}");
    }

    fn titles(heads: &[PlannedContender]) -> Vec<String> {
        heads.iter().map(|head| head.title().to_owned()).collect()
    }

    #[test]
    fn an_experiment_tells_what_it_reads() {
        let plan = Plan::named("table1").unwrap();
        let assets = plan.assets(PAPER).unwrap();
        let expected = [
            "checkpoints/256x256_diffusion_uncond.pt",
            "data/imagenet",
            "checkpoints/256x256_classifier.pt",
            "checkpoints/pt_inception-2015-12-05-6726825d.pth",
            "data/VIRTUAL_imagenet256_labeled.npz",
        ];
        assert_eq!(assets, expected.map(Path::new));
        assert_eq!(
            Plan::named("figure4").unwrap().assets(PAPER).unwrap().len(),
            9
        );
        // A network of which several contenders read is one.
        let plan = Plan::named("table4").unwrap();
        let assets = plan.assets(PAPER).unwrap();
        let stable = Path::new("checkpoints/stable-diffusion-v1-5");
        assert_eq!(assets.iter().filter(|path| **path == stable).count(), 1);
        // A description is read as well as the weights.
        let plan = Plan::named("figure6").unwrap();
        let described = Path::new("fixtures/mini/resnet.json");
        assert!(plan.assets("mini").unwrap().contains(&described));
    }

    #[test]
    fn every_kind_is_checked() {
        let (_, heads) = KNOWN.iter().find(|(name, _)| *name == "figure1").unwrap();
        let refused = |from: &str, to: &str| {
            let text = heads.replacen(from, to, 1);
            Plan::parse("x", &text).unwrap_err().to_string()
        };
        assert!(refused("kind = \"heads\"", "kind = \"tails\"").contains(
            "`tails`: use probe, heads, tune, select, ensemble, transfer, similarity or denoising"
        ));
        assert!(refused("timesteps = [0]", "timesteps = []").contains("`timesteps`"));
        assert!(refused("window = 2", "windows = 2").contains("windows"));
        let (_, table4) = KNOWN.iter().find(|(name, _)| *name == "table4").unwrap();
        let own = |from: &str, to: &str| {
            assert!(table4.contains(from), "{from}");
            let text = table4.replacen(from, to, 1);
            Plan::parse("x", &text).unwrap_err().to_string()
        };
        assert!(own("rate = 1.0", "rate = -1.0").contains("the `rate` of a learned text"));
        assert!(own("{ learned = { rate = 1.0 } }", "\"none\"").contains("`empty`"));
        assert!(own("size = 32", "size = 0").contains("`size` must be at least 1"));
        let streamed = "feed = { streamed = { fresh_noise = true, flip = true, parts = 2 } }";
        assert!(own(streamed, "").contains("a learned text is for streamed features"));
        let misspelt = r#"data = { path = "fixtures/fashion-mnist", clases = ["a"] }"#;
        assert!(refused(r#"data = "fixtures/fashion-mnist""#, misspelt).contains("clases"));
    }
}
