//! What schedulers are handed is what they understand.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;

use diffrep_plan::launch::{After, IndexedJob, JobId, Resources, SlurmJob, Volume, submit};
use diffrep_plan::{ARRAY_COUNT, PlanError};
use k8s_openapi::api::batch::v1::Job;
use proptest::prelude::*;

fn many(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn slurm() -> SlurmJob {
    SlurmJob {
        name: "extract".into(),
        command: words(&["diffrep", "extract", "--out", "it's here"]),
        folder: "/data/my runs".into(),
        logs: "/data/100% logs".into(),
        array: Some(many(8)),
        at_once: None,
        ranks: many(1),
        resources: Resources::default(),
    }
}

fn kubernetes() -> IndexedJob {
    IndexedJob {
        name: "extract-train".into(),
        namespace: None,
        image: "registry.example/diffrep:1".into(),
        command: words(&["diffrep", "extract", "$(HOME) costs $5"]),
        workers: many(64),
        at_once: None,
        retries: 192,
        cpus: None,
        gpus: None,
        memory: None,
        volumes: Vec::new(),
    }
}

/// Behind jobs that have to end well.
fn well(jobs: &[JobId]) -> After<'_> {
    After {
        well: jobs,
        however: &[],
    }
}

#[test]
fn a_script_says_what_slurm_needs() {
    let script = slurm().script().unwrap();
    let expected = r#"#!/bin/sh
#SBATCH "--job-name=extract"
#SBATCH "--chdir=/data/my runs"
#SBATCH "--output=/data/100%% logs/%A_%a.log"
#SBATCH "--open-mode=append"
#SBATCH "--requeue"
#SBATCH "--ntasks=1"
#SBATCH "--array=0-7"
set -eu
export DIFFREP_ARRAY_COUNT=8
exec diffrep extract --out 'it'\''s here'
"#;
    assert_eq!(script, expected);

    let job = SlurmJob {
        array: None,
        ranks: many(4),
        resources: Resources {
            partition: Some("gpu".into()),
            account: Some("lab".into()),
            minutes: Some(240),
            cpus: Some(8),
            gpus: Some(1),
            memory: Some(65536),
            more: words(&["--constraint=h100|\"a 100\""]),
        },
        ..slurm()
    };
    let script = job.script().unwrap();
    for line in [
        r#"#SBATCH "--output=/data/100%% logs/%j.log""#,
        r#"#SBATCH "--partition=gpu""#,
        r#"#SBATCH "--account=lab""#,
        r#"#SBATCH "--time=240""#,
        r#"#SBATCH "--cpus-per-task=8""#,
        r#"#SBATCH "--gpus-per-task=1""#,
        r#"#SBATCH "--mem=65536""#,
        r#"#SBATCH "--constraint=h100|\"a 100\"""#,
        r"exec srun --kill-on-bad-exit=0 --cpus-per-task=8 -- diffrep extract --out 'it'\''s here'",
    ] {
        assert!(
            script.lines().any(|found| found == line),
            "{line}\n{script}"
        );
    }
    assert!(!script.contains(ARRAY_COUNT) && !script.contains("--array"));
    let some = SlurmJob {
        at_once: Some(many(3)),
        ..slurm()
    };
    assert!(some.script().unwrap().contains("--array=0-7%3\""));
}

#[test]
fn what_no_script_can_carry_is_refused() {
    let changes: [fn(&mut SlurmJob); 8] = [
        |job| job.command.clear(),
        |job| job.command[0].clear(),
        |job| job.command.push("a\0b".into()),
        |job| job.name = "a\n#SBATCH --uid=0".into(),
        |job| job.logs = "a\nb".into(),
        |job| job.logs = r"a\b".into(),
        |job| job.folder = String::new(),
        |job| job.resources.more.push("rm -rf".into()),
    ];
    for change in changes {
        let mut job = slurm();
        change(&mut job);
        let error = job.script().unwrap_err();
        assert!(matches!(error, PlanError::Launch { .. }), "{error}");
    }
}

/// The arguments that a shell gives to a command of a script.
fn as_run(arguments: &[String]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    let mut command = words(&["printf", r"%s\0"]);
    command.extend(arguments.iter().cloned());
    let job = SlurmJob { command, ..slurm() };
    fs::write(&script, job.script().unwrap()).unwrap();
    let output = Command::new("sh").arg(&script).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.strip_suffix('\0')
        .unwrap()
        .split('\0')
        .map(String::from)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_shell_reads_arguments_as_they_were(
        arguments in prop::collection::vec("[ -~\n\té☃]{0,12}|['\"\\\\$`!*~#;&|<>(){}]{1,6}", 1..6),
    ) {
        prop_assert_eq!(as_run(&arguments), arguments);
    }
}

/// A program that does as `body` says.
#[cfg(unix)]
fn program(dir: &Path, body: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;

    let path = dir.join("my sbatch");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[cfg(unix)]
#[test]
fn a_submitted_job_has_a_number_and_waits_for_others() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("a script.sh");
    let said = dir.path().join("said");
    let sbatch = program(
        dir.path(),
        &format!(
            "printf '%s\\n' \"$@\" > '{}'; echo '42;west'",
            said.display()
        ),
    );
    assert_eq!(
        submit(&sbatch, &script, After::default()).unwrap(),
        JobId(42)
    );
    let arguments = |said: &Path| fs::read_to_string(said).unwrap();
    assert_eq!(
        arguments(&said),
        format!("--parsable\n{}\n", script.display())
    );
    submit(&sbatch, &script, well(&[JobId(7), JobId(8)])).unwrap();
    assert!(arguments(&said).contains("--dependency=afterok:7:8\n--kill-on-invalid-dep=yes\n"));

    let refused = |body: &str| {
        let error = submit(program(dir.path(), body), &script, After::default()).unwrap_err();
        assert!(matches!(error, PlanError::Submit { .. }), "{error}");
        error.to_string()
    };
    assert!(refused("echo 'invalid partition' >&2; exit 1").contains("invalid partition"));
    assert!(refused("echo queue is full").contains("queue is full"));
    assert!(refused("echo 5; exit 3").contains('5'));
    assert!(refused("exit 3").contains("exit status: 3"));
    let error = submit("no-such-sbatch", &script, After::default()).unwrap_err();
    assert!(error.to_string().contains("no-such-sbatch"), "{error}");
}

/// Kubernetes' own types read a manifest and write it again: a field of another name or type would
/// be lost or refused.
fn as_kubernetes_reads(job: &IndexedJob) -> Job {
    let manifest = job.manifest().unwrap();
    let read: Job = serde_json::from_str(&manifest).unwrap();
    let written: serde_json::Value = serde_json::to_value(&read).unwrap();
    let given: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(written, given);
    read
}

#[test]
fn a_manifest_is_a_job_of_kubernetes() {
    let job = as_kubernetes_reads(&kubernetes()).spec.unwrap();
    assert_eq!(job.completion_mode.as_deref(), Some("Indexed"));
    assert_eq!((job.completions, job.parallelism), (Some(64), Some(64)));
    assert_eq!(job.backoff_limit, Some(192));
    let pod = job.template.spec.unwrap();
    assert_eq!(pod.restart_policy.as_deref(), Some("Never"));
    let container = &pod.containers[0];
    // `$$` is Kubernetes' way to write `$`.
    assert_eq!(container.command.as_ref().unwrap()[2], "$$(HOME) costs $$5");
    let variable = &container.env.as_ref().unwrap()[0];
    assert_eq!(
        (variable.name.as_str(), variable.value.as_deref()),
        (ARRAY_COUNT, Some("64"))
    );
    assert!(container.resources.is_none() && pod.volumes.is_none());

    let full = IndexedJob {
        namespace: Some("lab".into()),
        at_once: Some(many(100)),
        cpus: Some(8),
        gpus: Some(1),
        memory: Some(32768),
        volumes: vec![
            Volume {
                claim: "images".into(),
                path: "/images".into(),
                read_only: true,
            },
            Volume {
                claim: "features".into(),
                path: "/features".into(),
                read_only: false,
            },
        ],
        ..kubernetes()
    };
    let read = as_kubernetes_reads(&full);
    assert_eq!(read.metadata.namespace.as_deref(), Some("lab"));
    let job = read.spec.unwrap();
    assert_eq!(job.parallelism, Some(64));
    let pod = job.template.spec.unwrap();
    let container = &pod.containers[0];
    let limits = container
        .resources
        .as_ref()
        .unwrap()
        .limits
        .as_ref()
        .unwrap();
    let limit = |name: &str| limits[name].0.as_str();
    assert_eq!(
        (limit("cpu"), limit("memory"), limit("nvidia.com/gpu")),
        ("8", "32768Mi", "1")
    );
    let mounts = container.volume_mounts.as_ref().unwrap();
    for (mount, volume) in mounts.iter().zip(pod.volumes.as_ref().unwrap()) {
        assert_eq!(mount.name, volume.name);
        let claim = volume.persistent_volume_claim.as_ref().unwrap();
        assert_eq!(mount.mount_path, format!("/{}", claim.claim_name));
        assert_eq!(mount.read_only, Some(claim.claim_name == "images"));
    }
}

#[test]
fn a_pod_that_is_lost_is_replaced_and_one_that_ends_by_an_error_is_not() {
    let job = as_kubernetes_reads(&kubernetes()).spec.unwrap();
    assert_eq!(job.backoff_limit_per_index, Some(192));
    let pod = job.template.spec.unwrap();
    // Kubernetes takes a policy only of pods whose containers are not restarted in place.
    assert_eq!(pod.restart_policy.as_deref(), Some("Never"));
    let rules = job.pod_failure_policy.unwrap().rules;
    let [lost, ended] = rules.as_slice() else {
        panic!("{rules:?}");
    };
    assert_eq!(lost.action, "Ignore");
    let condition = &lost.on_pod_conditions.as_ref().unwrap()[0];
    assert_eq!(condition.type_, "DisruptionTarget");
    assert_eq!(ended.action, "FailIndex");
    let codes = ended.on_exit_codes.as_ref().unwrap();
    assert_eq!(
        (codes.operator.as_str(), codes.values.as_slice()),
        ("In", &[1, 2, 101][..])
    );
    assert_eq!(
        codes.container_name.as_deref(),
        Some(pod.containers[0].name.as_str())
    );
}

#[test]
fn what_kubernetes_would_refuse_is_refused() {
    let changes: [fn(&mut IndexedJob); 10] = [
        |job| job.command.clear(),
        |job| job.name = "Extract".into(),
        |job| job.name = "-a".into(),
        |job| job.name = String::new(),
        |job| job.name = "a".repeat(61),
        |job| job.namespace = Some("a/b".into()),
        |job| job.image = "a b".into(),
        |job| job.workers = many(3_000_000_000),
        |job| {
            job.volumes.push(Volume {
                claim: "x".into(),
                path: "x".into(),
                read_only: true,
            })
        },
        |job| {
            job.volumes.push(Volume {
                claim: "x y".into(),
                path: "/x".into(),
                read_only: true,
            })
        },
    ];
    for change in changes {
        let mut job = kubernetes();
        change(&mut job);
        let error = job.manifest().unwrap_err();
        assert!(matches!(error, PlanError::Launch { .. }), "{error}");
    }
    // 60 letters, a hyphen and two digits.
    let longest = IndexedJob {
        name: "a".repeat(60),
        ..kubernetes()
    };
    longest.manifest().unwrap();
}
