//! `--dry-run`: the plan of experiments, with and without what they read.

mod common;

use common::works;
use serde_json::Value;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value}"))
}

fn row<'a>(plan: &'a Value, name: &str) -> &'a Value {
    let rows = plan["experiments"].as_array().unwrap();
    let found = rows.iter().find(|row| row["name"] == name);
    found.unwrap_or_else(|| panic!("no {name}: {plan}"))
}

fn steps<'a>(plan: &'a Value, state: &str) -> Vec<&'a Value> {
    let steps = plan["steps"].as_array().unwrap();
    steps.iter().filter(|step| step["state"] == state).collect()
}

#[test]
fn the_whole_paper_is_planned_on_a_machine_that_has_none_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path().display().to_string();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (data, checkpoints) = (at("sets"), at("nets"));
    let plan = works(&[
        "reproduce",
        "--scale",
        "paper",
        "--dry-run",
        "--rate",
        "2",
        "--runs",
        &runs,
        "--data",
        &data,
        "--checkpoints",
        &checkpoints,
    ]);
    let made: Vec<&str> = plan["experiments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["makes"].as_str().unwrap())
        .collect();
    for artefact in [
        "Table 1",
        "Table 2",
        "Table 3",
        "Table 4",
        "Table 6",
        "Figure 1, Tables 7 to 9",
        "Figure 2",
        "Figure 3",
        "Figure 4",
        "Figure 5",
        "Figure 6",
        "Figure 7",
    ] {
        assert!(made.contains(&artefact), "{artefact} of {made:?}");
    }
    let besides = plan["besides"].to_string();
    for artefact in ["Table 5", "Table 10"] {
        assert!(besides.contains(artefact), "{besides}");
    }
    // Everything that is missing, once, with the way to it and who reads it.
    let missing = plan["missing"].as_array().unwrap();
    let network = missing
        .iter()
        .find(|one| {
            one["path"]
                .as_str()
                .unwrap()
                .ends_with("256x256_diffusion_uncond.pt")
        })
        .unwrap();
    assert!(
        network["how"]
            .as_str()
            .unwrap()
            .contains("diffrep fetch 256x256_diffusion_uncond"),
        "{network}"
    );
    assert_eq!(network["experiments"].as_array().unwrap().len(), 11);
    for row in plan["experiments"].as_array().unwrap() {
        assert!(row["unknown"].is_null(), "{row}");
        assert!(
            number(&row["steps"]) > 0.0 && number(&row["cost"]["flops"]) > 0.0,
            "{row}"
        );
    }
    // Figure 3: 500 images at 9 timesteps through 2240 GFLOP.
    let cost = &row(&plan, "figure3")["cost"];
    assert_eq!(number(&cost["forwards"]), 4500.0);
    assert!(
        (number(&cost["flops"]) / (4500.0 * 2240e9) - 1.0).abs() < 0.01,
        "{cost}"
    );
    // Figure 1: one forward of ImageNet-50 to block 24 for each seed serves 21 heads.
    let cost = &row(&plan, "figure1")["cost"];
    let images = 64_274.0 + 2_500.0;
    assert_eq!(number(&cost["forwards"]), 3.0 * images);
    assert!(
        (number(&cost["flops"]) / (3.0 * images * 639e9) - 1.0).abs() < 0.01,
        "{cost}"
    );
    assert!(number(&cost["kept_bytes"]) > 100e9, "{cost}");
    // Two images a second to block 24.
    let rate = &plan["rate"];
    assert_eq!(
        (number(&rate["block"]), &rate["measured"]),
        (24.0, &false.into())
    );
    let hours = number(&plan["total"]["flops"]) / number(&rate["flops_per_second"]) / 3600.0;
    assert!((number(&plan["hours"]) / hours - 1.0).abs() < 1e-9);
    assert_eq!(steps(&plan, "done").len(), 0);
    // Nothing was written.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_is_done_is_on_disk_in_the_plan_and_its_keys_are_those_of_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path().display().to_string();
    let ask = |names: &[&str]| {
        let args = ["reproduce"];
        let how = ["--scale", "smoke", "--runs", &runs, "--dry-run"];
        works(&[&args[..], names, &how].concat())
    };
    let before = ask(&["figure1"]);
    assert_eq!(steps(&before, "done").len(), 0);
    assert!(number(&before["total"]["forwards"]) > 0.0);
    assert_eq!(before["rate"]["measured"], true);
    assert!(number(&before["hours"]) > 0.0);

    let run = ["reproduce", "figure1", "--scale", "smoke", "--runs", &runs];
    works(&run);
    let after = ask(&["figure1"]);
    let done = steps(&after, "done");
    assert_eq!(done.len(), after["steps"].as_array().unwrap().len());
    assert_eq!(number(&after["total"]["forwards"]), 0.0);
    for step in done {
        let key = &step["key"].as_str().unwrap()[..12];
        let name = step["name"].as_str().unwrap();
        let file = dir.path().join(format!("steps/{name}-{key}.json"));
        assert!(file.exists(), "{}", file.display());
        assert_eq!(step["exact"], true);
    }
    // Forwards of the plan are those that the run counted.
    let cost = std::fs::read_to_string(dir.path().join("figure1-smoke/cost.json")).unwrap();
    let cost: Value = serde_json::from_str(&cost).unwrap();
    assert_eq!(before["total"]["forwards"], cost["runs"][0]["forwards"]);

    // Features that are on the shelf are not planned anew: the other experiment's heads read the same maps.
    let other = ask(&["table1"]);
    let features: f64 = other["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|step| step["name"].as_str().unwrap().starts_with("diffusion-"))
        .map(|step| number(&step["cost"]["forwards"]))
        .sum();
    assert_eq!(features, 0.0, "{other}");
}

#[test]
fn a_sweep_is_planned_as_it_is_run() {
    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path().display().to_string();
    let dry = [
        "reproduce",
        "smoke",
        "--runs",
        &runs,
        "--dry-run",
        "--rate",
        "100",
    ];
    let plan = works(&dry);
    works(&["reproduce", "smoke", "--runs", &runs]);
    let cost = std::fs::read_to_string(dir.path().join("figure2-smoke/cost.json")).unwrap();
    let cost: Value = serde_json::from_str(&cost).unwrap();
    assert_eq!(
        plan["total"]["forwards"], cost["runs"][0]["forwards"],
        "{plan}"
    );
    let after = works(&dry);
    assert_eq!(number(&after["total"]["forwards"]), 0.0, "{after}");
}
