//! Which of how many workers this process is.
//!
//! Nothing here reads the environment: it is given as a function, so that what decides is what the
//! caller shows.

use std::fmt;
use std::str::FromStr;

use crate::PlanError;

/// The variable by which a script or manifest says how many array tasks or pods the work was cut
/// for. Kubernetes tells a pod only its index; a Slurm array that is submitted again in part
/// (`--array=3,7`) would otherwise be taken for a smaller one.
pub const ARRAY_COUNT: &str = "DIFFREP_ARRAY_COUNT";

/// One worker of several.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Place {
    /// Its number, from 0; below `count`.
    pub index: usize,
    /// How many workers there are; at least 1.
    pub count: usize,
    /// What said so.
    pub source: Source,
}

/// What said which worker a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Nothing: it is the only one.
    Alone,
    /// The user, as k/K.
    Given,
    /// An array of jobs or pods.
    Array(Array),
    /// The ranks of one job.
    Ranks(Ranks),
    /// The ranks of each job of a Slurm array, numbered through.
    ArrayOfRanks(Ranks),
}

/// What numbers jobs or pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Array {
    /// A Slurm job array.
    Slurm,
    /// An indexed job of Kubernetes.
    Kubernetes,
}

/// What numbers the processes of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ranks {
    /// `srun` of Slurm.
    Srun,
    /// `torchrun`, and whatever else sets `RANK` and `WORLD_SIZE`.
    Torchrun,
    /// `mpirun` of Open MPI.
    OpenMpi,
    /// A launcher that speaks PMI, such as `mpiexec` of MPICH and Intel MPI.
    Pmi,
}

impl Place {
    /// The only worker.
    pub fn alone() -> Self {
        Self {
            index: 0,
            count: 1,
            source: Source::Alone,
        }
    }

    /// Worker `index` of `count`, by one's own numbering.
    pub(crate) fn among(index: usize, count: usize) -> Self {
        Self {
            index,
            count,
            source: Source::Given,
        }
    }

    /// What the user gave, else what the environment says; see [`detect`](Self::detect).
    ///
    /// # Errors
    ///
    /// As [`FromStr`] and [`detect`](Self::detect).
    pub fn resolve(
        given: Option<&str>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, PlanError> {
        match given {
            Some(text) => text.parse(),
            None => Self::detect(environment),
        }
    }

    /// The place that the environment gives this process, [`alone`](Self::alone) if it gives none.
    ///
    /// A Slurm array comes first, then `srun`, `torchrun`, Open MPI, PMI, and an indexed job of
    /// Kubernetes. The ranks of an array's jobs are numbered through. A launcher of one process
    /// yields to another of several.
    ///
    /// # Errors
    ///
    /// A sentence for a set of variables of which some are missing, for values that are no numbers
    /// or out of range, and for two launchers that disagree: a worker with a wrong place would
    /// silently leave work undone.
    pub fn detect(environment: impl Fn(&str) -> Option<String>) -> Result<Self, PlanError> {
        let environment = Environment(&environment);
        let array = slurm_array(&environment)?;
        let ranks = ranks(&environment)?;
        let pods = match array {
            Some(_) => None,
            None => kubernetes(&environment, ranks.as_ref())?,
        };
        let several = |rank: &Numbered<Ranks>| rank.count > 1;
        match (array, pods, ranks) {
            (Some(array), _, Some(rank)) if several(&rank) => array.times(&rank),
            (Some(array), ..) | (None, Some(array), _) => Ok(array.place(Source::Array(array.by))),
            (None, None, Some(rank)) => Ok(rank.place(Source::Ranks(rank.by))),
            (None, None, None) => Ok(Self::alone()),
        }
    }
}

impl FromStr for Place {
    type Err = PlanError;

    /// Reads `k/K`, workers counted from 0.
    ///
    /// # Errors
    ///
    /// A sentence on what is wrong with it.
    fn from_str(text: &str) -> Result<Self, PlanError> {
        let malformed = || PlanError::Worker { text: text.into() };
        let (index, count) = text.split_once('/').ok_or_else(malformed)?;
        let number = |text: &str| number(text).ok_or_else(malformed);
        let (index, count) = (number(index)?, number(count)?);
        let by = ("the worker", "the number of workers");
        Ok(Numbered::new((), index, count, by)?.place(Source::Given))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {}/{} ({})", self.index, self.count, self.source)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alone => f.write_str("nothing says there are others"),
            Self::Given => f.write_str("as given"),
            Self::Array(array) => write!(f, "by {}", array.variable()),
            Self::Ranks(ranks) => write!(f, "by {}", ranks.variables().0),
            Self::ArrayOfRanks(ranks) => {
                let array = Array::Slurm.variable();
                write!(f, "by {array} and {}", ranks.variables().0)
            }
        }
    }
}

impl Array {
    /// The variable of a task's number.
    fn variable(self) -> &'static str {
        match self {
            Self::Slurm => "SLURM_ARRAY_TASK_ID",
            Self::Kubernetes => "JOB_COMPLETION_INDEX",
        }
    }
}

impl Ranks {
    /// The variables of a process's number and of how many there are.
    fn variables(self) -> (&'static str, &'static str) {
        match self {
            Self::Srun => ("SLURM_PROCID", "SLURM_NTASKS"),
            Self::Torchrun => ("RANK", "WORLD_SIZE"),
            Self::OpenMpi => ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
            Self::Pmi => ("PMI_RANK", "PMI_SIZE"),
        }
    }
}

/// The number of this process among those of its machine, from 0, by which it chooses a device;
/// `None` if no launcher says. Where a launcher shows each process its own device alone, only device
/// 0 is there: take the remainder by the number of devices that are visible.
///
/// # Errors
///
/// When the variable is no number.
pub fn local_index(
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Option<usize>, PlanError> {
    let environment = Environment(&environment);
    // The innermost launcher first: srun may have started one torchrun on each machine.
    let variables = [
        "LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "MPI_LOCALRANKID",
        "SLURM_LOCALID",
    ];
    for variable in variables {
        if let Some(index) = environment.number(variable)? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// A worker among those that one launcher knows.
struct Numbered<By> {
    by: By,
    index: usize,
    count: usize,
}

impl<By> Numbered<By> {
    /// Checks that the index is below the count; `variables` are what holds the two.
    fn new(
        by: By,
        index: usize,
        count: usize,
        variables: (&'static str, &'static str),
    ) -> Result<Self, PlanError> {
        if index < count {
            return Ok(Self { by, index, count });
        }
        let (index_of, count_of) = variables;
        Err(PlanError::WorkerRange {
            index_of,
            index,
            count_of,
            count,
        })
    }

    fn place(&self, source: Source) -> Place {
        Place {
            index: self.index,
            count: self.count,
            source,
        }
    }
}

impl Numbered<Array> {
    /// The place of a rank of this task among the ranks of all tasks.
    fn times(&self, rank: &Numbered<Ranks>) -> Result<Place, PlanError> {
        let count = self.count.checked_mul(rank.count);
        let count = count.ok_or_else(|| PlanError::Variable {
            name: rank.by.variables().1,
            value: rank.count.to_string(),
        })?;
        Ok(Place {
            // Below the count, so it does not overflow either.
            index: self.index * rank.count + rank.index,
            count,
            source: Source::ArrayOfRanks(rank.by),
        })
    }
}

/// A decimal number; a sign is none.
fn number(text: &str) -> Option<usize> {
    let text = text.trim();
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_digits)
}

struct Environment<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Environment<'_> {
    fn has(&self, name: &str) -> bool {
        (self.0)(name).is_some()
    }

    fn number(&self, name: &'static str) -> Result<Option<usize>, PlanError> {
        let Some(value) = (self.0)(name) else {
            return Ok(None);
        };
        match number(&value) {
            Some(number) => Ok(Some(number)),
            None => Err(PlanError::Variable { name, value }),
        }
    }

    /// A variable that must be there because `present` is.
    fn needed(&self, name: &'static str, present: &'static str) -> Result<usize, PlanError> {
        let missing = || PlanError::PartialPlace { present, name };
        self.number(name)?.ok_or_else(missing)
    }
}

/// The task of a Slurm array.
fn slurm_array(environment: &Environment<'_>) -> Result<Option<Numbered<Array>>, PlanError> {
    const ID: &str = "SLURM_ARRAY_TASK_ID";
    const MIN: &str = "SLURM_ARRAY_TASK_MIN";
    const MAX: &str = "SLURM_ARRAY_TASK_MAX";
    const COUNT: &str = "SLURM_ARRAY_TASK_COUNT";
    const STEP: &str = "SLURM_ARRAY_TASK_STEP";
    let Some(id) = environment.number(ID)? else {
        return match [MIN, MAX, COUNT, STEP]
            .into_iter()
            .find(|&name| environment.has(name))
        {
            None => Ok(None),
            Some(present) => Err(PlanError::PartialPlace { present, name: ID }),
        };
    };
    if let Some(count) = environment.number(ARRAY_COUNT)? {
        return Numbered::new(Array::Slurm, id, count, (ID, ARRAY_COUNT)).map(Some);
    }
    let needed = |name| environment.needed(name, ID);
    let (min, max, count, step) = (needed(MIN)?, needed(MAX)?, needed(COUNT)?, needed(STEP)?);
    // Only the ends and the number of the ids are known. If the ids between are not evenly spaced,
    // nothing tells how many of them are below this one.
    let is_even = step > 0
        && (min..=max).contains(&id)
        && (id - min).is_multiple_of(step)
        && (max - min).is_multiple_of(step)
        && Some((max - min) / step) == count.checked_sub(1);
    if !is_even {
        return Err(PlanError::ArrayGaps {
            id,
            min,
            max,
            count,
        });
    }
    Numbered::new(Array::Slurm, (id - min) / step, count, (ID, COUNT)).map(Some)
}

/// The index of a pod of an indexed job, unless ranks decide.
fn kubernetes(
    environment: &Environment<'_>,
    rank: Option<&Numbered<Ranks>>,
) -> Result<Option<Numbered<Array>>, PlanError> {
    let name = Array::Kubernetes.variable();
    let several = rank.filter(|rank| rank.count > 1);
    let index = environment.number(name)?;
    let count = environment.number(ARRAY_COUNT)?;
    match (index, count, several) {
        (Some(index), Some(count), None) => {
            Numbered::new(Array::Kubernetes, index, count, (name, ARRAY_COUNT)).map(Some)
        }
        // Whether ranks count the processes of one pod or of all pods is not known.
        (Some(index), Some(count), Some(rank)) if count > 1 => Err(PlanError::Launchers {
            one: format!("{name} {index}/{count}"),
            other: rank.to_string(),
        }),
        (Some(_), None, None) => Err(PlanError::PartialPlace {
            present: name,
            name: ARRAY_COUNT,
        }),
        (None, Some(_), _) => Err(PlanError::PartialPlace {
            present: ARRAY_COUNT,
            name: "SLURM_ARRAY_TASK_ID or JOB_COMPLETION_INDEX",
        }),
        _ => Ok(None),
    }
}

impl fmt::Display for Numbered<Ranks> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.by.variables().0, self.index, self.count)
    }
}

/// This process among those that a launcher has started.
fn ranks(environment: &Environment<'_>) -> Result<Option<Numbered<Ranks>>, PlanError> {
    let found = [
        srun(environment)?,
        pair(environment, Ranks::Torchrun, "LOCAL_RANK")?,
        pair(environment, Ranks::OpenMpi, "OMPI_COMM_WORLD_LOCAL_RANK")?,
        pair(environment, Ranks::Pmi, "PMI_SIZE")?,
    ];
    let mut found: Vec<_> = found.into_iter().flatten().collect();
    if found.iter().any(|rank| rank.count > 1) {
        found.retain(|rank| rank.count > 1);
    }
    let mut found = found.into_iter();
    let Some(first) = found.next() else {
        // PMIx tells a process its rank, but of how many it does not.
        return match environment.has("PMIX_RANK") {
            true => Err(PlanError::PartialPlace {
                present: "PMIX_RANK",
                name: "OMPI_COMM_WORLD_SIZE",
            }),
            false => Ok(None),
        };
    };
    match found.find(|rank| (rank.index, rank.count) != (first.index, first.count)) {
        None => Ok(Some(first)),
        Some(other) => Err(PlanError::Launchers {
            one: first.to_string(),
            other: other.to_string(),
        }),
    }
}

/// A rank and how many there are, if either or `hint` is set.
fn pair(
    environment: &Environment<'_>,
    by: Ranks,
    hint: &'static str,
) -> Result<Option<Numbered<Ranks>>, PlanError> {
    let (index, count) = by.variables();
    let Some(present) = [index, count, hint]
        .into_iter()
        .find(|&name| environment.has(name))
    else {
        return Ok(None);
    };
    let rank = environment.needed(index, present)?;
    let ranks = environment.needed(count, present)?;
    Numbered::new(by, rank, ranks, (index, count)).map(Some)
}

/// The task of a step that `srun` has started.
///
/// A batch script is told `SLURM_PROCID=0` and, if it asked for several tasks, `SLURM_NTASKS`, though
/// it is one process: taken for a rank, it would do a part of the work and call it all. Only the
/// number of a step tells the two apart.
fn srun(environment: &Environment<'_>) -> Result<Option<Numbered<Ranks>>, PlanError> {
    let (index, count) = Ranks::Srun.variables();
    let step = ["SLURM_STEP_ID", "SLURM_STEPID", "SLURM_STEP_NUM_TASKS"];
    let Some(present) = step.into_iter().find(|&name| environment.has(name)) else {
        return match environment.number(index)? {
            None | Some(0) => Ok(None),
            Some(_) => pair(environment, Ranks::Srun, index),
        };
    };
    let rank = environment.needed(index, present)?;
    // The tasks of the job may be more than those of this step.
    let tasks = match environment.number("SLURM_STEP_NUM_TASKS")? {
        Some(tasks) => tasks,
        None => environment.needed(count, index)?,
    };
    Numbered::new(Ranks::Srun, rank, tasks, (index, count)).map(Some)
}
