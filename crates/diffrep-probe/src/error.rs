use std::path::PathBuf;

use diffrep_artifact::ArtifactError;
use diffrep_datasets::DatasetError;
use diffrep_extract::{ExtractError, SettingError};
use diffrep_heads::HeadError;
use diffrep_store::StoreError;
use diffrep_train::TrainError;

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
    /// A training that left the finite numbers.
    #[error(
        "the training diverged in epoch {epoch} at step {step}, on the samples {}: lower the learning rate; {good}",
        shown(samples)
    )]
    DivergedAt {
        /// The epoch, counted from 1.
        epoch: usize,
        /// The step, counted from 1.
        step: u64,
        /// Ids of its samples.
        samples: Vec<u64>,
        /// What is still usable.
        good: String,
    },
    /// A checkpoint of another training.
    #[error("{} belongs to a training with another {differs}: choose another folder, or delete it to start anew", path.display())]
    OtherTraining {
        /// The file.
        path: PathBuf,
        /// What is not the same.
        differs: String,
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
    /// A network that does not classify these images by itself.
    #[error("the network is no encoder classifier of {classes} classes")]
    NotAClassifier {
        /// Classes of the images.
        classes: usize,
    },
    /// A text is to be learned, and the network reads none.
    #[error(
        "a text can be learned for networks that read one, as Stable Diffusion does: this one reads none"
    )]
    NoText,
    /// Blocks are to be computed again, and the network cannot.
    #[error("blocks of this network are not computed again on the way back: leave `recompute` out")]
    NoRecomputation,
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
    /// A checkpoint cannot be read or written.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// An image cannot be read.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A block, timestep or pool is out of range.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// A file cannot be read or written.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
}

/// The first few ids.
fn shown(ids: &[u64]) -> String {
    let first: Vec<String> = ids.iter().take(8).map(|id| format!("{id:016x}")).collect();
    match ids.len().saturating_sub(first.len()) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
