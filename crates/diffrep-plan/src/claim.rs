//! What a paper claims, as comparisons that results can decide.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Published;

/// What an experiment says of itself, for those who read its record without its file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// The question it answers.
    pub title: String,
    /// Values that others found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
    /// What is claimed of its contenders.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<PaperClaim>,
}

/// A claim of a paper: that some contenders are ahead of others, or no different from them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaperClaim {
    /// The claim as a sentence without its full stop.
    pub text: String,
    /// Where the paper makes it, for example `Section 4.1, Table 1`.
    pub at: String,
    /// What every pair must show.
    #[serde(default)]
    pub expects: Expectation,
    /// By scale, the pairs of contenders that decide it: the first of a pair is claimed to be ahead of the
    /// second. All must be so for the claim to hold.
    pub pairs: BTreeMap<String, Vec<[String; 2]>>,
}

/// What a claim says about the accuracies of a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Expectation {
    /// The first is higher.
    #[default]
    Ahead,
    /// Neither is higher by more than this number of points.
    Within(f64),
}
