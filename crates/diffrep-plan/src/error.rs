use diffrep_artifact::ArtifactError;

/// Why an experiment cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// No such experiment.
    #[error("there is no experiment `{name}`: use one of {known}, or the path of a TOML file")]
    Unknown {
        /// The name.
        name: String,
        /// What exists.
        known: String,
    },
    /// The file does not describe an experiment.
    #[error("experiment {name} cannot be used: {reason}")]
    Malformed {
        /// Its name or path.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// No such scale.
    #[error("experiment {name} has no scale `{scale}`: use one of {known}")]
    Scale {
        /// The experiment.
        name: String,
        /// The scale asked for.
        scale: String,
        /// What exists.
        known: String,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
}
