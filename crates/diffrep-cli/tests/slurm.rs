//! A real Slurm runs what `reproduce --launcher slurm` hands in: workers for the features, then the experiments that
//! wait for them. Says so and passes where Slurm is not installed.
#![cfg(target_os = "linux")]

mod common;

#[path = "../../diffrep-plan/tests/cluster/mod.rs"]
mod cluster;

use std::fs;

use cluster::Cluster;
use common::works;
use serde_json::Value;

#[test]
fn workers_extract_features_and_experiments_wait_for_them() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let dir = cluster.dir.path();
    let at = |name: &str| dir.join(name).display().to_string();
    let (runs, logs, sbatch) = (at("runs"), at("logs"), at("sbatch"));
    let said = works(&[
        "reproduce",
        "figure1",
        "figure3",
        "--scale",
        "smoke",
        "--runs",
        &runs,
        "--launcher",
        "slurm",
        "--workers",
        "2",
        "--logs",
        &logs,
        "--submit",
        "--sbatch",
        &sbatch,
    ]);
    assert_eq!(said["jobs"].as_array().unwrap().len(), 4, "{said}");
    cluster.drain();
    let log = |job: usize, task: &str| {
        let name = format!("{}{task}.log", said["jobs"][job]);
        fs::read_to_string(dir.join("logs").join(&name)).unwrap_or_else(|error| {
            panic!("{name}: {error}\n{}", cluster.logs());
        })
    };
    // Both workers found their places, and the experiment found their features.
    for task in ["0", "1"] {
        let said = log(0, &format!("_{task}"));
        assert!(said.contains(&format!("worker {task}/2")), "{said}");
    }
    for experiment in ["figure1-smoke", "figure3-smoke"] {
        let record = dir.join("runs").join(experiment).join("results.json");
        assert!(record.exists(), "{}\n{}", log(1, ""), log(2, ""));
    }
    let cost = fs::read_to_string(dir.join("runs/figure1-smoke/cost.json")).unwrap();
    let cost: Value = serde_json::from_str(&cost).unwrap();
    assert_eq!(cost["runs"][0]["forwards"], 0, "{cost}");
    // The last job made the page over both.
    assert!(dir.join("runs/report.html").exists(), "{}", log(3, ""));
}
