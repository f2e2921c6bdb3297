//! `diffrep launch`: scripts and manifests for schedulers.

mod common;

use std::path::Path;

use common::{MODEL, refuses, works};

const EXTRACT: [&str; 15] = [
    "extract",
    "fixtures/fashion-mnist",
    "--checkpoint",
    MODEL,
    "--t",
    "10",
    "--block",
    "7",
    "--pool",
    "4",
    "--limit",
    "48",
    "--shard-rows",
    "8",
    "--out",
];

fn launch<'a>(options: &[&'a str], command: &[&'a str]) -> Vec<&'a str> {
    [&["launch"], options, &["--"], command].concat()
}

#[test]
fn a_script_runs_every_worker_on_its_part() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a store").display().to_string();
    let command = [&EXTRACT[..], &[&out]].concat();
    let options = [
        "slurm",
        "--workers",
        "3",
        "--gpus",
        "1",
        "--partition",
        "a100",
    ];
    let said = works(&launch(&options, &command));
    let script = said["script"].as_str().unwrap();
    for line in ["--array=0-2", "--partition=a100", "--requeue"] {
        assert!(script.contains(line), "{script}");
    }
    // The script does what it says: each task of the array, one after another, and the store is whole.
    let path = dir.path().join("job.sh");
    std::fs::write(&path, script).unwrap();
    for task in ["0", "1", "2"] {
        let done = std::process::Command::new("sh")
            .arg(&path)
            .current_dir(common::ROOT)
            .env("SLURM_ARRAY_TASK_ID", task)
            .env("SLURM_ARRAY_TASK_MIN", "0")
            .env("SLURM_ARRAY_TASK_MAX", "2")
            .env("SLURM_ARRAY_TASK_COUNT", "3")
            .env("SLURM_ARRAY_TASK_STEP", "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{said}");
        assert!(said.contains(&format!("worker {task}/3")), "{said}");
    }
    assert!(Path::new(&out).join("manifest.json").exists());
}

#[cfg(unix)]
#[test]
fn a_script_is_handed_in_behind_other_jobs() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let sbatch = dir.path().join("sbatch");
    let heard = dir.path().join("heard");
    let body = format!("#!/bin/sh\necho \"$@\" > {}\necho 4712\n", heard.display());
    std::fs::write(&sbatch, body).unwrap();
    std::fs::set_permissions(&sbatch, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (sbatch, logs) = (sbatch.display().to_string(), dir.path().join("logs"));
    let logs = logs.display().to_string();
    let options = [
        "slurm", "--submit", "--after", "4711", "--sbatch", &sbatch, "--logs", &logs,
    ];
    let said = works(&launch(
        &options,
        &["reproduce", "table1", "--scale", "paper"],
    ));
    assert_eq!(said["job"], 4712);
    let heard = std::fs::read_to_string(heard).unwrap();
    assert!(heard.contains("--dependency=afterok:4711"), "{heard}");
    let script = std::fs::read_to_string(said["script"].as_str().unwrap()).unwrap();
    assert!(
        script.contains("reproduce table1 --scale paper"),
        "{script}"
    );
}

#[test]
fn a_manifest_has_a_pod_for_each_worker() {
    let command = [&EXTRACT[..], &["/data/store"]].concat();
    let options = [
        "k8s",
        "--workers",
        "5",
        "--image",
        "diffrep",
        "--volume",
        "data:/data",
        "--volume",
        "in:/in:ro",
    ];
    let said = works(&launch(&options, &command));
    assert_eq!(said["spec"]["completions"], 5);
    let pod = &said["spec"]["template"]["spec"];
    assert_eq!(pod["volumes"].as_array().unwrap().len(), 2);
    assert_eq!(pod["containers"][0]["command"][1], "extract");
}

#[test]
fn what_cannot_work_is_told_before_it_is_queued() {
    let extract = [&EXTRACT[..], &["store"]].concat();
    let misspelt = launch(&["slurm"], &["extrakt", "photos"]);
    refuses(&misspelt, &["no command of diffrep", "extrakt"]);
    let unknown = launch(&["slurm"], &[&extract[..], &["--blocks", "7"]].concat());
    refuses(&unknown, &["no command of diffrep", "--blocks"]);
    let lacking = launch(&["slurm"], &["extract", "photos"]);
    refuses(&lacking, &["not provided", "--checkpoint", "--out"]);
    let shared = launch(&["slurm", "--workers", "4"], &["reproduce", "table1"]);
    refuses(&shared, &["--workers is for extract", "reproduce"]);
    let placed = launch(
        &["slurm", "--workers", "4"],
        &[&extract[..], &["--worker", "0/4"]].concat(),
    );
    refuses(&placed, &["leave --worker out"]);
    let lost = launch(&["k8s", "--image", "diffrep"], &extract);
    refuses(&lost, &["--volume"]);
    let nowhere = launch(&["k8s", "--image", "d", "--volume", "data"], &extract);
    refuses(&nowhere, &["CLAIM:PATH"]);
    let itself = launch(&["slurm"], &["launch", "slurm", "--", "extract"]);
    refuses(&itself, &["cannot launch itself"]);
    let no_slurm = launch(
        &["slurm", "--submit", "--sbatch", "/nowhere/sbatch"],
        &extract,
    );
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().display().to_string();
    let no_slurm = [&no_slurm[..2], &["--logs", &logs], &no_slurm[2..]].concat();
    refuses(&no_slurm, &["/nowhere/sbatch"]);
}
