use diffrep_artifact::ArtifactError;

/// Why an experiment cannot be run, or its work not shared out.
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
    /// A text names no worker.
    #[error(
        "`{text}` names no worker: write k/K, such as 0/8 for the first of eight and 7/8 for the last"
    )]
    Worker {
        /// The text.
        text: String,
    },
    /// A worker's number is not below the number of workers.
    #[error(
        "{index_of} is {index} and {count_of} is {count}: workers are counted from 0, so the number \
         must be smaller than the count"
    )]
    WorkerRange {
        /// Where the number is from.
        index_of: &'static str,
        /// The number.
        index: usize,
        /// Where the count is from.
        count_of: &'static str,
        /// The count.
        count: usize,
    },
    /// A variable of a launcher is no number, or too large.
    #[error(
        "{name} is {value:?}, which is not a usable number: unset it, or say which worker this is as k/K"
    )]
    Variable {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A launcher has set only some of its variables.
    #[error(
        "{present} is set but {name} is not, so it is not known which of how many workers this is: \
         set it too, unset {present}, or say which worker this is as k/K"
    )]
    PartialPlace {
        /// A variable that is set.
        present: &'static str,
        /// One that is not.
        name: &'static str,
    },
    /// The ids of a Slurm array do not tell how many are below one's own.
    #[error(
        "task {id} of an array of {count} ids between {min} and {max} with gaps cannot tell how many \
         come before it: set {} to the size of the whole array with ids from 0, or say which worker \
         this is as k/K",
        crate::ARRAY_COUNT
    )]
    ArrayGaps {
        /// The task.
        id: usize,
        /// The smallest id.
        min: usize,
        /// The largest id.
        max: usize,
        /// How many ids there are.
        count: usize,
    },
    /// Two launchers disagree on which worker this is.
    #[error("{one} and {other} disagree on which worker this is: say it as k/K")]
    Launchers {
        /// What one says.
        one: String,
        /// What the other says.
        other: String,
    },
    /// A value cannot stand in a script or manifest.
    #[error("{what} {value:?} cannot be used: {reason}")]
    Launch {
        /// What it is.
        what: &'static str,
        /// The value.
        value: String,
        /// Why, and what would do.
        reason: &'static str,
    },
    /// The program that submits jobs cannot be started.
    #[error("cannot start {program}: is it installed and on the path?")]
    Start {
        /// The program.
        program: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The program that submits jobs refused the job or said nothing that can be understood.
    #[error("{program} did not accept {}: {reason}", script.display())]
    Submit {
        /// The program.
        program: String,
        /// The script.
        script: std::path::PathBuf,
        /// What it said.
        reason: String,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
}
