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

/// The names and words of the files that a launcher wrote.
fn written(said: &serde_json::Value) -> Vec<(String, String)> {
    let files = said["files"].as_array().unwrap().iter();
    let read = |file: &serde_json::Value| {
        let path = Path::new(file.as_str().unwrap());
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read_to_string(path).unwrap())
    };
    files.map(read).collect()
}

/// What a `kubectl` that knows jobs by their failures alone is told by some commands.
#[cfg(unix)]
fn heard_by_kubectl(dir: &Path, commands: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let heard = dir.join("kubectl.heard");
    let kubectl = dir.join("kubectl");
    let body = format!(
        "#!/bin/sh\necho \"$@\" >> {}\necho FailureTarget Failed\n",
        heard.display()
    );
    std::fs::write(&kubectl, body).unwrap();
    std::fs::set_permissions(&kubectl, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap());
    let done = std::process::Command::new("sh")
        .args(["-c", commands])
        .env("PATH", path)
        .output();
    assert!(done.unwrap().status.success());
    std::fs::read_to_string(heard).unwrap()
}

#[test]
fn experiments_are_launched_behind_the_workers_of_their_features() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs").display().to_string();
    let how = [
        "--scale",
        "smoke",
        "--runs",
        "r",
        "--workers",
        "3",
        "--logs",
        &logs,
    ];
    let asked = |launcher: &[&str]| {
        let names = ["reproduce", "figure1", "table2", "figure2"];
        works(&[&names[..], &how, launcher].concat())
    };
    let said = asked(&[
        "--launcher",
        "slurm",
        "--option=--partition=a100",
        "--gpus",
        "1",
    ]);
    let files = written(&said);
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    // Trainings with the network in the loop store no features.
    assert_eq!(
        names,
        [
            "figure1-smoke-features.sbatch",
            "figure1-smoke.sbatch",
            "table2-smoke.sbatch",
            "figure2-smoke-features.sbatch",
            "figure2-smoke.sbatch",
            "report.sbatch"
        ]
    );
    let features = &files[0].1;
    for part in [
        "--array=0-2",
        "--partition=a100",
        "--features-only",
        "--gpus-per-task=1",
    ] {
        assert!(features.contains(part), "{features}");
    }
    assert!(!files[1].1.contains("--array"), "{}", files[1].1);
    let submit = std::fs::read_to_string(dir.path().join("logs/submit.sh")).unwrap();
    for line in [
        "job0=$(sbatch --parsable figure1-smoke-features.sbatch",
        "job1=$(sbatch --parsable --dependency=afterok:$job0 --kill-on-invalid-dep=yes figure1-smoke.sbatch",
        "job2=$(sbatch --parsable --dependency=afterany:$job1 --kill-on-invalid-dep=yes table2-smoke.sbatch",
        "job4=$(sbatch --parsable --dependency=afterok:$job3,afterany:$job2",
        "--dependency=afterany:$job1:$job2:$job4 --kill-on-invalid-dep=yes report.sbatch",
    ] {
        assert!(submit.contains(line), "{line} in {submit}");
    }

    let said = asked(&[
        "--launcher",
        "k8s",
        "--image",
        "diffrep",
        "--volume",
        "data:/data",
    ]);
    let files = written(&said);
    assert_eq!(files.len(), 6);
    let manifest: serde_json::Value = serde_json::from_str(&files[0].1).unwrap();
    assert_eq!(manifest["spec"]["completions"], 3);
    assert_eq!(
        manifest["metadata"]["name"],
        "diffrep-figure1-smoke-features"
    );
    let retries = |file: &(String, String)| {
        let manifest: serde_json::Value = serde_json::from_str(&file.1).unwrap();
        manifest["spec"]["backoffLimit"].clone()
    };
    assert_eq!(
        (retries(&files[0]), retries(&files[1])),
        (100.into(), 3.into())
    );
    #[cfg(unix)]
    {
        let then = said["then"].as_str().unwrap();
        let heard = heard_by_kubectl(dir.path(), then);
        let applied = heard.lines().filter(|line| line.starts_with("apply"));
        assert_eq!(
            applied.count(),
            6,
            "one that fails keeps none from being applied: {heard}"
        );
        assert!(
            heard.contains("get job/diffrep-figure1-smoke-features"),
            "{heard}"
        );
    }

    // What an experiment records of its trainings goes where this command was told; workers train nothing.
    let board = dir.path().join("events").display().to_string();
    let kubernetes = ["--image", "diffrep", "--volume", "data:/data"];
    for (launcher, more) in [("slurm", &[][..]), ("k8s", &kubernetes[..])] {
        let told = ["--launcher", launcher, "--tensorboard", &board];
        let said = asked(&[&told[..], more].concat());
        for (name, text) in written(&said) {
            let trains = !name.contains("-features") && !name.starts_with("report");
            let told = text.contains("--tensorboard") && text.contains(&board);
            assert_eq!(told, trains, "{name}: {text}");
        }
    }
}

#[test]
fn workers_of_this_machine_extract_what_the_experiment_then_finds() {
    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path().display().to_string();
    let run = ["reproduce", "smoke", "--runs", &runs];
    works(&[&run[..], &["--launcher", "local", "--workers", "2"]].concat());
    let read = |file: &str| {
        let text = std::fs::read_to_string(dir.path().join("figure2-smoke").join(file)).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let (together, cost) = (read("results.json"), read("cost.json"));
    // The sweeps of the diffusion model and of the random network were extracted before.
    let alone = tempfile::tempdir().unwrap();
    let other = alone.path().display().to_string();
    works(&["reproduce", "smoke", "--runs", &other]);
    let path = alone.path().join("figure2-smoke");
    let text = std::fs::read_to_string(path.join("results.json")).unwrap();
    let whole: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(together["data"], whole["data"]);
    let text = std::fs::read_to_string(path.join("cost.json")).unwrap();
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    let count = |cost: &serde_json::Value| cost["runs"][0]["forwards"].as_u64().unwrap();
    // Two timesteps of 200 training and 100 validation images, for two networks.
    assert_eq!(count(&all) - count(&cost), 2 * 300 * 2);
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
    let local = ["reproduce", "smoke", "--launcher", "local", "--submit"];
    refuses(&local, &["--submit is for --launcher slurm"]);
    let no_image = ["reproduce", "smoke", "--launcher", "k8s"];
    refuses(&no_image, &["--image"]);
    let alone = ["reproduce", "smoke", "--worker", "0/2"];
    refuses(&alone, &["--features-only"]);
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

/// A scheduler tries a job again where its folder is in use, as it may seem after a machine was lost, and not where
/// the job ends by an error of its own.
#[test]
fn a_folder_in_use_has_an_exit_code_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let code = |runs: &str, scale: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_diffrep"));
        command.args(["reproduce", "figure2", "--scale", scale, "--runs", runs]);
        let done = command.current_dir(common::ROOT).output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        (done.status.code(), said)
    };
    let runs = dir.path().display().to_string();
    let lock = diffrep_artifact::Lock::acquire(dir.path()).unwrap();
    let (busy, said) = code(&runs, "smoke");
    assert_eq!(busy, Some(75), "{said}");
    assert!(said.contains("is in use by"), "{said}");
    // Whatever passes the error on.
    let images = common::ROOT.to_owned() + "/fixtures/fashion-mnist";
    let model = common::ROOT.to_owned() + "/fixtures/mini/model.safetensors";
    let extract = std::process::Command::new(env!("CARGO_BIN_EXE_diffrep"))
        .args(["extract", &images, "--checkpoint", &model, "--out", &runs])
        .args(["--t", "10", "--block", "1", "--quiet"])
        .output()
        .unwrap();
    assert_eq!(extract.status.code(), Some(75), "{extract:?}");
    drop(lock);
    let (failed, said) = code(&runs, "no-such-scale");
    assert_eq!(failed, Some(1), "{said}");
    assert!(!diffrep_plan::launch::ENDED_BY_ERROR.contains(&75));
}
