//! The commands in the project's pages are what this program takes. (Those that can run do, in `tests/book`.)

#[path = "../tests/book/shell.rs"]
mod shell;

use std::path::Path;

use clap::Parser;
use clap::error::ErrorKind;

use crate::Cli;

/// Programs of others, which no test of ours can hold a page to.
const OTHERS: [&str; 23] = [
    "apptainer",
    "bash",
    "cat",
    "cd",
    "cp",
    "echo",
    "export",
    "git",
    "kubectl",
    "ls",
    "mdbook",
    "mkdir",
    "pip",
    "podman",
    "python",
    "rustup",
    "sbatch",
    "scancel",
    "sha256sum",
    "squeue",
    "tail",
    "tensorboard",
    "unzip",
];

/// Programs of others that start ours, with the words that make them do so.
const STARTERS: [&[&str]; 6] = [
    &["srun"],
    &["torchrun"],
    &["mpirun"],
    &["nohup"],
    &["apptainer", "exec"],
    &["podman", "run"],
];

/// What of cargo a page may tell a reader to run, beside `cargo xtask`.
const CARGO: [&str; 7] = ["add", "build", "doc", "fuzz", "install", "new", "test"];

#[test]
fn every_command_of_the_pages_has_arguments_that_are_taken() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let tasks = std::fs::read_to_string(root.join("xtask/src/main.rs")).unwrap();
    let (mut count, mut wrong) = (0, Vec::new());
    for (_, blocks) in shell::pages(&root) {
        for block in blocks {
            for words in shell::commands(&block.text) {
                count += 1;
                if let Err(reason) = check(&words, &tasks) {
                    let command = words.join(" ");
                    wrong.push(format!(
                        "{} ({:?}): `{command}`: {reason}",
                        block.place, block.kind
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 50, "only {count} commands were found");
}

/// Whether a command could be run.
fn check(words: &[String], tasks: &str) -> Result<(), String> {
    let is_setting = |word: &&String| word.split_once('=').is_some_and(|(name, _)| is_name(name));
    let settings = words.iter().take_while(is_setting).count();
    let words = &words[settings..];
    let Some(first) = words.first() else {
        return Ok(());
    };
    let ours = |word: &String| word == "diffrep" || word.ends_with("/diffrep");
    if let Some(at) = words.iter().position(ours)
        && (at == 0
            || STARTERS
                .iter()
                .any(|starter| words[..at].starts_with(&owned(starter))))
    {
        return parse(words[at + 1..].iter().map(String::as_str));
    }
    if first == "cargo" {
        return match words.get(1).map(String::as_str) {
            Some("xtask") => task(&words[2..], tasks),
            Some(name) if name.starts_with('+') || CARGO.contains(&name) => Ok(()),
            _ => Err("it is no command of cargo that a page may use".into()),
        };
    }
    match OTHERS.contains(&first.as_str()) {
        true => Ok(()),
        false => Err(format!("nothing holds `{first}` to anything")),
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|char| char.is_ascii_uppercase() || char == '_')
}

/// A command of `cargo xtask`: that it exists, and for `reproduce` that what it passes on is taken.
fn task(words: &[String], tasks: &str) -> Result<(), String> {
    let name = words.first().map_or("help", String::as_str);
    if !tasks.contains(&format!("\"{name}\" =>")) {
        return Err(format!("there is no `cargo xtask {name}`"));
    }
    if name != "reproduce" {
        return Ok(());
    }
    let mut passed_on = vec!["reproduce"];
    let mut words = words[1..].iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--features" => drop(words.next()),
            "--" => {}
            word => passed_on.push(word),
        }
    }
    parse(passed_on.into_iter())
}

/// Whether the program takes these arguments.
fn parse<'a>(arguments: impl Iterator<Item = &'a str>) -> Result<(), String> {
    match Cli::try_parse_from(std::iter::once("diffrep").chain(arguments)) {
        Ok(_) => Ok(()),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(()),
            _ => Err(error.to_string()),
        },
    }
}

#[test]
fn arguments_that_are_not_taken_are_found() {
    let tasks = "\"reproduce\" => x, \"ci\" => y";
    let checked = |text: &str| check(&shell::commands(text)[0], tasks);
    for good in [
        "diffrep inspect a.pt --json",
        "podman build --tag diffrep .",
        "apptainer exec --nv diffrep.sif diffrep inspect a.pt",
        "A=1 srun -n 4 target/release/diffrep probe a b --seeds 3",
        "cargo xtask reproduce --features cuda table1 --device cuda:0",
        "cargo xtask ci fmt",
        "diffrep --help",
    ] {
        checked(good).unwrap();
    }
    for (wrong, hint) in [
        ("diffrep inspekt a.pt", "unrecognized subcommand"),
        ("diffrep probe a b --seeds 0", "--seeds"),
        ("srun diffrep extract a", "required"),
        ("cargo xtask publish", "no `cargo xtask publish`"),
        ("cargo xtask reproduce --scales paper", "--scales"),
        ("cargo frobnicate", "no command of cargo"),
        ("ouch now", "nothing holds `ouch`"),
    ] {
        let error = checked(wrong).unwrap_err();
        assert!(error.contains(hint), "{wrong}: {error}");
    }
}
