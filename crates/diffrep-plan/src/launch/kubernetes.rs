//! Kubernetes: the manifest of an indexed job.
//!
//! It is written as JSON, which every reader of YAML 1.2 takes, `kubectl` among them: a serialiser of
//! YAML would add a dependency and its rules on what looks like a number or a boolean.

use std::num::NonZeroUsize;

use serde_json::{Value, json};

use super::{check, check_command};
use crate::{ARRAY_COUNT, PlanError};

/// How `diffrep` ends by an error that would come again, by its exit codes: of what it was told or found, of its
/// arguments, and of its own making (a panic). Any other end is worth another try.
pub const ENDED_BY_ERROR: [i32; 3] = [1, 2, 101];

/// The name of a pod's container.
const CONTAINER: &str = "worker";

/// An indexed job of Kubernetes: one pod for each worker, which is told its index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedJob {
    /// Its name: lower-case letters, digits and hyphens.
    pub name: String,
    /// Its namespace; none for that of whoever applies it.
    pub namespace: Option<String>,
    /// The image of the container.
    pub image: String,
    /// The program in the image and its arguments, the same for every worker.
    pub command: Vec<String>,
    /// How many workers there are.
    pub workers: NonZeroUsize,
    /// How many of them may run at once; none for all.
    pub at_once: Option<NonZeroUsize>,
    /// How many failures of pods the job forgives in all, and of one worker: those that end without a word, as for
    /// lack of memory, or that find their folder in use. Not counted, and always forgiven, are pods that are lost with
    /// their machine or evicted; never forgiven are those that end by an error ([`ENDED_BY_ERROR`]).
    pub retries: u32,
    /// Cores for each worker.
    pub cpus: Option<u32>,
    /// NVIDIA GPUs for each worker.
    pub gpus: Option<u32>,
    /// Memory for each worker, in MiB.
    pub memory: Option<u64>,
    /// What the workers read from and write to.
    pub volumes: Vec<Volume>,
}

/// A persistent volume that all workers see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// The name of its claim.
    pub claim: String,
    /// Where it lies in the container.
    pub path: String,
    /// Whether it is only read.
    pub read_only: bool,
}

impl IndexedJob {
    /// The manifest, JSON for `kubectl apply -f`; Kubernetes 1.29 or later is needed, which can fail one worker of a
    /// job.
    ///
    /// # Errors
    ///
    /// [`PlanError::Launch`] for a value that Kubernetes would refuse.
    pub fn manifest(&self) -> Result<String, PlanError> {
        self.check()?;
        let mut metadata = json!({ "name": self.name });
        if let Some(namespace) = &self.namespace {
            metadata["namespace"] = json!(namespace);
        }
        let manifest = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": metadata,
            "spec": {
                "completionMode": "Indexed",
                "completions": self.workers,
                "parallelism": self.at_once.unwrap_or(self.workers).min(self.workers),
                "backoffLimit": self.retries,
                "backoffLimitPerIndex": self.retries,
                "podFailurePolicy": {
                    "rules": [
                        // First: a pod that is evicted is told to end, and does so by some code.
                        {
                            "action": "Ignore",
                            "onPodConditions": [{ "type": "DisruptionTarget", "status": "True" }],
                        },
                        {
                            "action": "FailIndex",
                            "onExitCodes": {
                                "containerName": CONTAINER,
                                "operator": "In",
                                "values": ENDED_BY_ERROR,
                            },
                        },
                    ],
                },
                "template": { "spec": self.pod() },
            },
        });
        Ok(format!("{manifest:#}\n"))
    }

    /// What each pod is. It is replaced when it is lost, with the same index.
    fn pod(&self) -> Value {
        let mut container = json!({
            "name": CONTAINER,
            "image": self.image,
            // Within a command `$(NAME)` would be replaced, and `$$` stands for `$`.
            "command": self.command.iter().map(|word| word.replace('$', "$$")).collect::<Vec<_>>(),
            "env": [{ "name": ARRAY_COUNT, "value": self.workers.to_string() }],
        });
        let mut limits = json!({});
        if let Some(cpus) = self.cpus {
            limits["cpu"] = json!(cpus.to_string());
        }
        if let Some(memory) = self.memory {
            limits["memory"] = json!(format!("{memory}Mi"));
        }
        if let Some(gpus) = self.gpus {
            limits["nvidia.com/gpu"] = json!(gpus.to_string());
        }
        if limits != json!({}) {
            container["resources"] = json!({ "limits": limits });
        }
        let mut pod = json!({ "restartPolicy": "Never" });
        if !self.volumes.is_empty() {
            let volumes = self.volumes.iter().enumerate();
            container["volumeMounts"] = volumes
                .clone()
                .map(|(i, volume)| {
                    let name = format!("volume-{i}");
                    json!({ "name": name, "mountPath": volume.path, "readOnly": volume.read_only })
                })
                .collect();
            pod["volumes"] = volumes
                .map(|(i, volume)| {
                    let claim = json!({ "claimName": volume.claim, "readOnly": volume.read_only });
                    json!({ "name": format!("volume-{i}"), "persistentVolumeClaim": claim })
                })
                .collect();
        }
        pod["containers"] = json!([container]);
        pod
    }

    fn check(&self) -> Result<(), PlanError> {
        check_command(&self.command)?;
        check(
            "the image",
            &self.image,
            "it must not be empty or contain spaces",
            |c| c.is_whitespace() || c.is_control(),
        )?;
        // Pods are called NAME-INDEX, which must be a name of a host.
        let digits = (self.workers.get() - 1).to_string().len();
        check_name("the job's name", &self.name, 62 - digits)?;
        if let Some(namespace) = &self.namespace {
            check_name("the namespace", namespace, 63)?;
        }
        if i32::try_from(self.workers.get()).is_err() || i32::try_from(self.retries).is_err() {
            return Err(PlanError::Launch {
                what: "the number of workers or retries",
                value: format!("{}, {}", self.workers, self.retries),
                reason: "Kubernetes counts to 2147483647",
            });
        }
        for volume in &self.volumes {
            check_name("the volume's claim", &volume.claim, 63)?;
            if !volume.path.starts_with('/') || volume.path.contains([':', '\0']) {
                return Err(PlanError::Launch {
                    what: "the volume's path",
                    value: volume.path.clone(),
                    reason: "it must begin with / and contain no colon",
                });
            }
        }
        Ok(())
    }
}

/// Errs unless `name` is a label of RFC 1123 of at most `longest` characters.
fn check_name(what: &'static str, name: &str, longest: usize) -> Result<(), PlanError> {
    let is_label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if name.chars().all(is_label)
        && name.starts_with(ends)
        && name.ends_with(ends)
        && name.len() <= longest
    {
        return Ok(());
    }
    Err(PlanError::Launch {
        what,
        value: name.into(),
        reason: "it must be lower-case letters, digits and hyphens within, and short enough for the \
                 name of a host with the worker's number behind it (63 characters)",
    })
}
