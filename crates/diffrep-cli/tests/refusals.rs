//! Bad input, and the sentence that each must give: `refusals.toml` is the table.
//!
//! `UPDATE=1 cargo test --test refusals` writes the sentences anew, to be read before they are committed.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

/// One row of the table.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Arguments, separated by spaces; `{name}` is a file or folder that the test made.
    command: String,
    /// All that the program says on standard error.
    says: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    case: Vec<Case>,
}

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/refusals.toml");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

#[test]
fn every_bad_input_gives_its_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    prepare(&dir);
    let text = std::fs::read_to_string(TABLE).unwrap();
    let mut table: Table = toml::from_str(&text).unwrap();
    assert!(table.case.len() >= 60, "{} cases", table.case.len());
    let update = std::env::var_os("UPDATE").is_some();
    let (mut wrong, mut faults) = (Vec::new(), Vec::new());
    for case in &mut table.case {
        let said = match said(&case.command, &dir) {
            Ok(said) => said,
            Err(fault) => {
                faults.push(format!("`{}` {fault}", case.command));
                continue;
            }
        };
        if said != case.says {
            wrong.push(format!(
                "{}\n  expected: {}\n  found: {said}",
                case.command, case.says
            ));
            case.says = said;
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    if update {
        let header = text.split("[[case]]").next().unwrap_or_default();
        let written = format!("{header}{}", toml::to_string_pretty(&table).unwrap());
        std::fs::write(TABLE, written).unwrap();
        return;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// What the program says when it refuses a command, or what is wrong with that beside the words: a refusal is an exit
/// code, no panic, and leaves nothing in `{dir}/out`.
fn said(command: &str, dir: &Path) -> Result<String, String> {
    let folder = dir.display().to_string();
    let done = Command::new(env!("CARGO_BIN_EXE_diffrep"))
        .args(command.split(' ').map(|word| expanded(word, &folder)))
        .current_dir(ROOT)
        .env("COLUMNS", "1000")
        .output()
        .unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    let out = dir.join("out");
    let fault = match done.status.code() {
        Some(0) => "worked",
        None => "was ended by a signal",
        _ if said.contains("panicked") => "panicked",
        _ if out.exists() => "left its output behind",
        _ => return Ok(said.replace(&folder, "{dir}").trim_end().to_owned()),
    };
    let _ = std::fs::remove_dir_all(&out);
    let _ = std::fs::remove_file(&out);
    Err(format!("{fault}: {said}"))
}

/// `{name}` as the path of what [`prepare`] made by that name.
fn expanded(word: &str, folder: &str) -> String {
    let inner = word.replace('{', &format!("{folder}/"));
    inner.replace('}', "")
}

/// Everything that the commands are given.
fn prepare(dir: &Path) {
    let at = |name: &str| -> PathBuf { dir.join(name) };
    let write = |name: &str, bytes: &[u8]| std::fs::write(at(name), bytes).unwrap();
    let model = std::fs::read(Path::new(ROOT).join("fixtures/mini/model.safetensors")).unwrap();
    write("empty", b"");
    write("text", b"these are words");
    write("picture", b"\x89PNG\r\n\x1a\n0000000000000000");
    write("page", b"<!DOCTYPE html><title>404</title>");
    write(
        "pointer",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    );
    write("gzip", b"\x1f\x8b\x08\0\0\0\0\0");
    write("half", &model[..model.len() / 2]);
    write(
        "long",
        &[&u64::from(u32::MAX).to_le_bytes()[..], b"{}"].concat(),
    );
    write("claims", &[&100u64.to_le_bytes()[..], b"{}"].concat());
    write("zip", b"PK\x03\x04 and nothing more");
    std::fs::create_dir(at("folder")).unwrap();

    for (name, class) in [
        ("photos", "cat"),
        ("photos", "dog"),
        ("broken", "cat"),
        ("broken", "dog"),
    ] {
        let folder = at(name).join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..3u8 {
            let picture = image::GrayImage::from_pixel(28, 28, image::Luma([i * 60]));
            picture.save(folder.join(format!("{i}.png"))).unwrap();
        }
    }
    std::fs::write(at("broken").join("dog/1.png"), b"\x89PNG\r\n\x1a\nno image").unwrap();
    std::fs::create_dir(at("one")).unwrap();
    std::fs::create_dir(at("one").join("cat")).unwrap();
    std::fs::copy(at("photos").join("cat/0.png"), at("one").join("cat/0.png")).unwrap();
    image::GrayImage::from_pixel(28, 28, image::Luma([9]))
        .save(at("grey.png"))
        .unwrap();
    std::fs::create_dir(at("listed")).unwrap();
    std::fs::write(at("listed").join("train.csv"), "cat/0.png,cat\n").unwrap();
    std::fs::create_dir(at("escape")).unwrap();
    std::fs::write(at("escape").join("train.csv"), "../photos/cat/0.png,cat\n").unwrap();

    write("arch.json", b"{\"image_size\": 32}");
    write("noarch.json", b"[1, 2");
    let experiment = "name = \"mine\"\ntitle = \"?\"\n[scales.mine]\ncheckpoint = \"none\"\n";
    write("nokind.toml", experiment.as_bytes());
    write(
        "kind.toml",
        format!("kind = \"prob\"\n{experiment}").as_bytes(),
    );
    write(
        "keys.toml",
        format!("kind = \"probe\"\n{experiment}colour = 1\n").as_bytes(),
    );
    write("broken.toml", b"kind = ");
    write("recipe.toml", b"name = \"mine\"\nepochs = 0\n");
    write("head.toml", b"head = \"lstm\"\n");

    std::fs::create_dir(at("store")).unwrap();
    std::fs::write(
        at("store").join("manifest.json"),
        "{\"format\": \"diffrep-store\", \"version\": 9}",
    )
    .unwrap();
    std::fs::create_dir(at("garbled")).unwrap();
    std::fs::write(at("garbled").join("manifest.json"), "{").unwrap();
    let features = |name: &str, tensors: &[(&str, safetensors::Dtype, &[usize], &[u8])]| {
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            let view = safetensors::tensor::TensorView::new(*dtype, shape.to_vec(), bytes).unwrap();
            (*name, view)
        });
        safetensors::serialize_to_file(views, None, &at(name)).unwrap();
    };
    let values: Vec<u8> = [1f32, 2.0, 3.0, 4.0]
        .into_iter()
        .flat_map(f32::to_le_bytes)
        .collect();
    let nan: Vec<u8> = [1f32, f32::NAN, 3.0, 4.0]
        .into_iter()
        .flat_map(f32::to_le_bytes)
        .collect();
    use safetensors::Dtype::{F32, U8};
    features(
        "good",
        &[
            ("features", F32, &[2, 2], &values),
            ("labels", U8, &[2], &[0, 1]),
        ],
    );
    features("nolabels", &[("features", F32, &[2, 2], &values)]);
    features(
        "flat",
        &[
            ("features", F32, &[4], &values),
            ("labels", U8, &[4], &[0, 1, 0, 1]),
        ],
    );
    features(
        "nan",
        &[
            ("features", F32, &[2, 2], &nan),
            ("labels", U8, &[2], &[0, 1]),
        ],
    );
    features(
        "fewer",
        &[
            ("features", F32, &[2, 2], &values),
            ("labels", U8, &[1], &[0]),
        ],
    );
    features(
        "single",
        &[
            ("features", F32, &[2, 2], &values),
            ("labels", U8, &[2], &[1, 1]),
        ],
    );
}
