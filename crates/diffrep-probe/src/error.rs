use std::path::PathBuf;

use diffrep_artifact::ArtifactError;
use diffrep_extract::ExtractError;
use diffrep_heads::HeadError;
use diffrep_store::StoreError;

/// Why a probe cannot be trained, saved or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// There is nothing to train on.
    #[error("the {split} split has no samples")]
    Empty {
        /// Which split.
        split: &'static str,
    },
    /// Splits of different features.
    #[error("the training features have {train} columns and the validation features {validation}")]
    Width {
        /// Length of a training vector.
        train: usize,
        /// Length of a validation vector.
        validation: usize,
    },
    /// A label that is no class.
    #[error("label {label} is out of range: there are {classes} classes, 0..={}", classes - 1)]
    Label {
        /// The label.
        label: i64,
        /// How many classes there are.
        classes: usize,
    },
    /// A column that cannot be used as a map.
    #[error("column {column} cannot be read as maps: {reason}")]
    Column {
        /// Its name.
        column: String,
        /// Why.
        reason: String,
    },
    /// Maps of other settings than those trained on.
    #[error("the maps are of other timesteps, blocks, pools or channels than those trained on")]
    OtherMaps,
    /// The system gives no threads.
    #[error("cannot start threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// Every head of the grid diverged.
    #[error("every head of recipe `{recipe}` diverged: lower its learning rates")]
    Diverged {
        /// The recipe.
        recipe: String,
    },
    /// A fit that did not reach its optimum.
    #[error("{what} with penalty {penalty} found no optimum: {reason}")]
    Unconverged {
        /// What was fitted.
        what: &'static str,
        /// The penalty.
        penalty: f64,
        /// Why.
        reason: String,
    },
    /// A recipe that does not exist.
    #[error("there is no recipe `{name}`: use one of {known}, or the path of a TOML file")]
    UnknownRecipe {
        /// The name.
        name: String,
        /// What exists.
        known: String,
    },
    /// A recipe that cannot be read.
    #[error("recipe {name} cannot be used: {reason}")]
    Recipe {
        /// Its name or path.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A file that holds no features.
    #[error("{} cannot be read as features: {reason}", path.display())]
    NotFeatures {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file that holds no head.
    #[error("{} is not a saved head: {reason}", path.display())]
    NotAHead {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A final score is of one setting.
    #[error("one setting is scored on the test split, not {found}")]
    OneSetting {
        /// How many were given.
        found: usize,
    },
    /// Extraction failed.
    #[error(transparent)]
    Extract(#[from] ExtractError),
    /// The head does not fit.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Features cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file cannot be read or written.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
}
