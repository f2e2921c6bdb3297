//! Experiments of one's own, away from the repository: what is run, what is left out, and what is judged.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::ROOT;
use serde_json::Value;

const OWN: &str = r#"
kind = "heads"
name = "mine"
title = "Which of my heads is better?"

[[published]]
name = "someone else's"
top1 = 50.0
contender = "linear, 1 cell"

[[claims]]
text = "Sixteen cells tell more than one"
at = "my notes"
[claims.pairs]
first = [["linear, 16 cells", "linear, 1 cell"]]

[scales.first]
checkpoint = "nets/model.safetensors"
data = "data/fashion-mnist"
timestep = 10
blocks = [7]
pool = 4
train_per_class = 20
test_per_class = 20
seeds = [0, 1]
linear_recipe = "mini-sweep"
recipe = "mini-sweep"
heads = [
    { name = "linear, 1 cell", head = { kind = "linear", pool = 1 } },
    { name = "linear, 16 cells", head = { kind = "linear" } },
]
"#;

/// A folder with a file and a network, and no repository around it.
fn folder(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("lab/nets")).unwrap();
    let model = Path::new(ROOT).join(common::MODEL);
    std::fs::copy(model, dir.path().join("lab/nets/model.safetensors")).unwrap();
    std::fs::write(dir.path().join("lab/mine.toml"), text).unwrap();
    dir
}

fn fixtures() -> PathBuf {
    Path::new(ROOT).join("fixtures").canonicalize().unwrap()
}

/// Success, standard output and standard error of a command in a folder.
fn diffrep(dir: &Path, args: &[&str]) -> (bool, String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_diffrep"))
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.success(), text(done.stdout), text(done.stderr))
}

#[test]
fn an_own_file_runs_where_its_paths_begin_and_its_claims_are_judged_anywhere() {
    let dir = folder(OWN);
    let sets = fixtures().display().to_string();
    let (ok, table, said) = diffrep(dir.path(), &["run", "lab/mine.toml", "--data", &sets]);
    assert!(ok, "{said}");
    assert!(table.contains("linear, 16 cells"), "{table}");
    let run = dir.path().join("runs/mine-first");
    for file in ["report.html", "report.md", "results.json"] {
        assert!(run.join(file).exists(), "{file}");
    }
    let record = std::fs::read_to_string(run.join("results.json")).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    // Paths stay as they are written, so that the record is that of another machine.
    assert_eq!(record["data"]["settings"]["data"], "data/fashion-mnist");
    assert_eq!(record["data"]["experiment"]["claims"][0]["at"], "my notes");

    let (ok, _, again) = diffrep(dir.path(), &["run", "lab/mine.toml", "--data", &sets]);
    assert!(ok && again.contains("done before"), "{again}");

    // A page made elsewhere, from the records alone, judges the claim.
    std::fs::rename(&run, dir.path().join("sent to someone")).unwrap();
    let args = ["--json", "report", "sent to someone", "--out", "page.html"];
    let (ok, page, said) = diffrep(dir.path(), &args);
    assert!(ok, "{said}");
    let page: Value = serde_json::from_str(&page).unwrap();
    let claims = page["data"]["claims"].as_array().unwrap();
    assert_eq!(claims.len(), 1, "{page}");
    assert_eq!(claims[0]["claim"], "Sixteen cells tell more than one");
    assert_eq!(claims[0]["verdict"], "yes");
    assert_eq!(page["data"]["published"][0]["paper"], 50.0);
    let markdown = std::fs::read_to_string(dir.path().join("page.md")).unwrap();
    assert!(markdown.contains("claimed: my notes"), "{markdown}");
    assert!(!markdown.contains("The paper's claims"), "{markdown}");
}

#[test]
fn what_a_reader_must_know_is_in_every_report() {
    let dir = folder(OWN);
    let fixtures = format!("\"{}/", fixtures().display());
    let reports = [
        ("figure2", &["report.md"][..]),
        (
            "figure4",
            &["report.md", "two/report.md", "shoes/report.md"],
        ),
    ];
    for (name, reports) in reports {
        let file = format!("{ROOT}/crates/diffrep-plan/experiments/{name}.toml");
        let text = std::fs::read_to_string(file).unwrap();
        let noted = "[scales.smoke]\nnote = \"These probes saw no flips.\"\n";
        let text = text.replace("[scales.smoke]\n", noted);
        let text = text.replace("\"fixtures/", &fixtures);
        let own = format!("lab/{name}.toml");
        std::fs::write(dir.path().join(&own), text).unwrap();
        let (ok, _, said) = diffrep(dir.path(), &["run", &own, "--scale", "smoke"]);
        assert!(ok, "{said}");
        for report in reports {
            let path = dir.path().join(format!("runs/{name}-smoke")).join(report);
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains("These probes saw no flips."), "{path:?}");
        }
    }
}

#[test]
fn what_lacks_a_file_is_left_out_with_the_way_to_it_and_the_rest_runs() {
    let dir = folder(OWN);
    let lacking = OWN
        .replace("\"mine\"", "\"other\"")
        .replace(
            "nets/model.safetensors",
            "checkpoints/256x256_diffusion_uncond.pt",
        )
        .replace("data/fashion-mnist", "data/cub");
    std::fs::write(dir.path().join("lab/other.toml"), lacking).unwrap();
    let sets = fixtures().display().to_string();
    let args = ["run", "lab/other.toml", "lab/mine.toml", "--data", &sets];
    let (ok, _, said) = diffrep(dir.path(), &args);
    assert!(!ok);
    for part in [
        "lab/checkpoints/256x256_diffusion_uncond.pt (`diffrep fetch 256x256_diffusion_uncond --out lab/checkpoints`)",
        "/cub (`diffrep fetch cub --out",
        "1 of 2 experiments were left out",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert!(dir.path().join("runs/mine-first/results.json").exists());
}

#[test]
fn wrong_files_are_refused_with_what_is_right() {
    let dir = folder(OWN);
    let refused = |args: &[&str], part: &str| {
        let (ok, _, said) = diffrep(dir.path(), args);
        assert!(!ok && said.contains(part), "{args:?}: {said}");
    };
    refused(&["run", "table1"], "diffrep reproduce table1");
    refused(&["run", "lab/none.toml"], "lab/none.toml");
    refused(
        &["run", "lab/mine.toml", "--scale", "second"],
        "no scale `second`: use one of first",
    );
    let misnamed = OWN.replace("[[\"linear, 16 cells\"", "[[\"linear, 32 cells\"");
    std::fs::write(dir.path().join("misnamed.toml"), misnamed).unwrap();
    refused(&["run", "misnamed.toml"], "`linear, 32 cells`");
    let two = format!(
        "{OWN}\n{}",
        OWN[OWN.find("[scales.first]").unwrap()..].replace("first", "second")
    );
    std::fs::write(dir.path().join("two.toml"), two).unwrap();
    refused(
        &["run", "two.toml"],
        "say --scale with one of first, second",
    );
}
