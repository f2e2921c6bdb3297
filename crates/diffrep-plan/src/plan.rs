//! Experiments of every kind, and those that this crate has.

use std::path::Path;

use serde::Deserialize;

use crate::{
    DenoisingScale, Described, EnsembleScale, Experiment, HeadsScale, PaperClaim, PlanError,
    ProbeScale, Published, SelectScale, Settings as _, SimilarityScale, TransferScale, TuneScale,
};

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

/// The text of an experiment in this crate.
fn known_text(name: &str) -> Option<&'static str> {
    let found = KNOWN.iter().find(|(known, _)| *known == name);
    found.map(|(_, text)| *text)
}

/// Whether an experiment is named by the path of its file.
pub fn is_file(name: &str) -> bool {
    let extension = Path::new(name).extension();
    extension.is_some_and(|extension| extension == "toml")
}

/// Names of the experiments in this crate.
pub fn known() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|(name, _)| *name)
}

/// A value made of an experiment, whatever its kind.
macro_rules! of_any {
    ($plan:expr, $experiment:ident => $value:expr) => {
        match $plan {
            Plan::Probe($experiment) => $value,
            Plan::Heads($experiment) => $value,
            Plan::Tune($experiment) => $value,
            Plan::Select($experiment) => $value,
            Plan::Ensemble($experiment) => $value,
            Plan::Transfer($experiment) => $value,
            Plan::Similarity($experiment) => $value,
            Plan::Denoising($experiment) => $value,
        }
    };
}

impl Plan {
    /// An experiment of this crate by name, or a TOML file by path.
    ///
    /// # Errors
    ///
    /// When there is none, or it has unknown keys or values out of range.
    pub fn named(name: &str) -> Result<Self, PlanError> {
        if let Some(text) = known_text(name) {
            return Self::parse(name, text);
        }
        if is_file(name) {
            return Self::read(Path::new(name));
        }
        let known = known().collect::<Vec<_>>().join(", ");
        Err(PlanError::Unknown {
            name: name.into(),
            known,
        })
    }

    /// The experiment that a TOML file describes, whatever the file's name.
    ///
    /// # Errors
    ///
    /// When there is no file, or it has unknown keys or values out of range.
    pub fn read(path: &Path) -> Result<Self, PlanError> {
        let bytes = diffrep_artifact::read_bytes(path)?;
        let name = path.display().to_string();
        Self::parse(&name, &String::from_utf8_lossy(&bytes))
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
        of_any!(self, experiment => &experiment.name)
    }

    /// The question it answers.
    pub fn title(&self) -> &str {
        of_any!(self, experiment => &experiment.title)
    }

    /// What the paper found.
    pub fn published(&self) -> &[Published] {
        of_any!(self, experiment => &experiment.published)
    }

    /// What the paper claims about its contenders.
    pub fn claims(&self) -> &[PaperClaim] {
        of_any!(self, experiment => &experiment.claims)
    }

    /// Its own words, if it is none of the experiments in this crate.
    pub fn own_words(&self) -> Option<Described> {
        let text = known_text(self.name());
        let known = text.and_then(|text| Self::parse(self.name(), text).ok());
        let (known, own) = (known.map(|known| known.words()), self.words());
        (known.as_ref() != Some(&own)).then_some(own)
    }

    /// What it says of itself.
    pub fn words(&self) -> Described {
        Described {
            name: self.name().into(),
            title: self.title().into(),
            published: self.published().to_vec(),
            claims: self.claims().to_vec(),
        }
    }

    /// Sets the seeds of all scales that name them; says whether there is one.
    pub fn set_seeds(&mut self, seeds: &[u64]) -> bool {
        of_any!(self, experiment => {
            let mut found = experiment.scales.values_mut().filter_map(|scale| scale.seeds_mut());
            found.by_ref().map(|own| seeds.clone_into(own)).count() > 0
        })
    }

    /// The files and folders that it reads at a scale, whether they are there or not.
    ///
    /// # Errors
    ///
    /// When there is no such scale.
    pub fn assets(&self, scale: &str) -> Result<Vec<&Path>, PlanError> {
        of_any!(self, experiment => Ok(experiment.scale(scale)?.assets()))
    }

    /// The names of its scales.
    pub fn scales(&self) -> Vec<&str> {
        of_any!(self, experiment => experiment.scales.keys().map(String::as_str).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Feed, PAPER, PlannedContender};

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

    /// The paper trains with flips, which stored features do not have: what is trained on them is compared
    /// with the paper's values, and not held to them.
    #[test]
    fn what_is_trained_on_stored_features_says_so_and_is_held_to_nothing() {
        let mut stored = Vec::new();
        for name in known() {
            let plan = Plan::named(name).unwrap();
            let note = match &plan {
                Plan::Probe(e) => e.scale(PAPER).unwrap().note.as_ref(),
                Plan::Heads(e) if e.scale(PAPER).unwrap().feed == Feed::Stored => {
                    e.scale(PAPER).unwrap().note.as_ref()
                }
                Plan::Transfer(e) if e.scale(PAPER).unwrap().feed == Feed::Stored => {
                    e.scale(PAPER).unwrap().note.as_ref()
                }
                _ => continue,
            };
            let note = note.unwrap_or_else(|| panic!("{name} says nothing of flips"));
            assert!(note.contains("without the paper's flips"), "{name}: {note}");
            let judged = |value: &Published| value.allowed_gap.is_some();
            assert!(!plan.published().iter().any(judged), "{name}");
            stored.push(name);
        }
        assert_eq!(stored, ["figure2", "figure1", "figure4", "figure5"]);
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
    fn a_claim_is_about_contenders_that_there_are() {
        let text = known_text("table1").unwrap();
        let refused = |from: &str, to: &str| {
            let text = text.replacen(from, to, 1);
            Plan::parse("x", &text).unwrap_err().to_string()
        };
        let misspelt = refused(
            r#"["linear, pool 8", "U-Net"#,
            r#"["linear, pool 9", "U-Net"#,
        );
        assert!(
            misspelt.contains("`linear, pool 9`") && misspelt.contains("`linear, pool 8`"),
            "{misspelt}"
        );
        let absent = refused("mini = [[", "maxi = [[");
        assert!(absent.contains("a scale `maxi`"), "{absent}");
    }

    #[test]
    fn only_experiments_of_ones_own_bring_their_words() {
        assert_eq!(Plan::named("table1").unwrap().own_words(), None);
        let text = known_text("table1")
            .unwrap()
            .replacen("at = \"Section", "at = \"My section", 1);
        let own = Plan::parse("x", &text).unwrap().own_words().unwrap();
        assert!(own.claims[0].at.starts_with("My section"));
        assert_eq!(own.name, "table1");
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
        let table4 = known_text("table4").unwrap();
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

    #[test]
    fn other_seeds_leave_an_experiment_what_it_is() {
        let mut table = Plan::named("table1").unwrap();
        assert!(table.set_seeds(&[0, 1, 2, 3, 4]));
        let Plan::Heads(heads) = &table else {
            panic!("{table:?}")
        };
        assert!(heads.scales.values().all(|scale| scale.seeds.len() == 5));
        assert_eq!(table.own_words(), None);
        // Layers are compared without a training.
        assert!(!Plan::named("figure6").unwrap().set_seeds(&[0]));
    }

    #[test]
    fn what_would_be_told_as_more_than_it_is_is_refused() {
        let text = known_text("table1").unwrap();
        let refused = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            let changed = text.replacen(from, to, 1);
            Plan::parse("x", &changed).unwrap_err().to_string()
        };
        let error = refused("seeds = [0, 1, 2]", "seeds = [1, 1]");
        assert!(error.contains("`seeds` has 1 twice"), "{error}");
        for name in ["../up", ".hidden", "two words", ""] {
            let error = refused("name = \"table1\"", &format!("name = {name:?}"));
            assert!(error.contains("names a folder"), "{error}");
        }
        let nothing = "[[claims]]\ntext = \"All is well\"\nat = \"\"\n[claims.pairs]\nmini = []\n\n[scales.mini]\n";
        let error = refused("[scales.mini]\n", nothing);
        assert!(error.contains("compares nothing"), "{error}");
        let itself = nothing.replace("[]", "[[\"attention\", \"attention\"]]");
        let error = refused("[scales.mini]\n", &itself);
        assert!(error.contains("with itself"), "{error}");
        let negative = itself.replace("at = \"\"", "at = \"\"\nexpects = { within = -1.0 }");
        let error = refused("[scales.mini]\n", &negative);
        assert!(error.contains("must be above 0"), "{error}");
    }
}
