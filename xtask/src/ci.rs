//! `cargo xtask ci`: what continuous integration runs, cheapest first.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{book, fixtures, process, release, reproduce, tidy};

const HELP: &str = "\
Run everything that continuous integration runs, cheapest first, up to the first failure.

Usage: cargo xtask ci [STEP]...

  STEP    run only these, in the order below
  --help  print this

Steps:
";

/// One thing that must hold.
struct Step {
    name: &'static str,
    run: Run,
}

enum Run {
    /// A command of ours.
    Own(&'static str, fn() -> Result<bool>),
    /// `cargo ARGUMENTS` with environment variables.
    Cargo(
        &'static [&'static str],
        &'static [(&'static str, &'static str)],
    ),
}

const STEPS: [Step; 9] = [
    Step {
        name: "fmt",
        run: Run::Cargo(&["fmt", "--all", "--", "--check"], &[]),
    },
    Step {
        name: "tidy",
        run: Run::Own("cargo xtask tidy", tidy::passes),
    },
    Step {
        name: "fixtures",
        run: Run::Own("cargo xtask fixtures --check", fixtures::passes),
    },
    Step {
        name: "book",
        run: Run::Own("cargo xtask book --check", book::passes),
    },
    Step {
        name: "release",
        run: Run::Own("cargo xtask release --check", release::passes),
    },
    Step {
        name: "clippy",
        run: Run::Cargo(
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--",
                "-D",
                "warnings",
            ],
            &[],
        ),
    },
    Step {
        name: "test",
        run: Run::Cargo(&["test", "--workspace", "--locked"], &[]),
    },
    Step {
        name: "doc",
        run: Run::Cargo(
            &["doc", "--workspace", "--no-deps", "--locked"],
            &[("RUSTDOCFLAGS", "-Dwarnings")],
        ),
    },
    Step {
        name: "smoke",
        run: Run::Own("cargo xtask reproduce smoke", smoke),
    },
];

/// The whole way from images to a report, in under a minute.
fn smoke() -> Result<bool> {
    Ok(reproduce::run(&["smoke".to_owned()])? == ExitCode::SUCCESS)
}

impl Step {
    /// What to type to run this step alone.
    fn command(&self) -> String {
        match self.run {
            Run::Own(command, _) => command.to_owned(),
            Run::Cargo(arguments, variables) => {
                let variables = variables
                    .iter()
                    .map(|(name, value)| format!("{name}={value} "));
                format!(
                    "{}cargo {}",
                    variables.collect::<String>(),
                    arguments.join(" ")
                )
            }
        }
    }

    fn passes(&self) -> Result<bool> {
        match self.run {
            Run::Own(_, run) => run(),
            Run::Cargo(arguments, variables) => {
                let mut command = process::cargo(arguments);
                command.envs(variables.iter().copied());
                Ok(process::status(&mut command)?.success())
            }
        }
    }
}

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    if crate::asks_for_help(arguments) {
        print!("{HELP}");
        for step in &STEPS {
            println!("  {:<9} {}", step.name, step.command());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let steps = chosen(arguments)?;
    let mut done = Vec::new();
    for step in &steps {
        println!("\n==> {}: {}", step.name, step.command());
        let start = Instant::now();
        let passed = step.passes()?;
        done.push((step.name, start.elapsed(), passed));
        if !passed {
            break;
        }
    }
    print!("\n{}", summary(&done, steps.len()));
    let passed = done.iter().all(|(_, _, passed)| *passed);
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The steps named, or all, in our order.
fn chosen(names: &[String]) -> Result<Vec<&'static Step>> {
    if let Some(unknown) = names
        .iter()
        .find(|name| STEPS.iter().all(|step| step.name != **name))
    {
        let known = STEPS.map(|step| step.name).join(", ");
        bail!("there is no step `{unknown}`; the steps are {known}");
    }
    let is_chosen = |step: &&Step| names.is_empty() || names.iter().any(|name| step.name == name);
    Ok(STEPS.iter().filter(is_chosen).collect())
}

/// A line per step that ran, and one on those that did not.
fn summary(done: &[(&str, Duration, bool)], wanted: usize) -> String {
    let mut lines = String::new();
    for (name, took, passed) in done {
        let verdict = if *passed { "passed" } else { "FAILED" };
        lines.push_str(&format!(
            "{name:<9} {verdict} {:>7.1} s\n",
            took.as_secs_f64()
        ));
    }
    let total: Duration = done.iter().map(|(_, took, _)| *took).sum();
    lines.push_str(&format!(
        "{:<9}        {:>7.1} s\n",
        "all",
        total.as_secs_f64()
    ));
    if done.len() < wanted {
        lines.push_str(&format!(
            "{} of {wanted} steps did not run\n",
            wanted - done.len()
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(wanted: &[&str]) -> Result<Vec<&'static str>> {
        let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        Ok(chosen(&wanted)?.iter().map(|step| step.name).collect())
    }

    #[test]
    fn steps_run_in_our_order() {
        assert_eq!(names(&["test", "fmt"]).unwrap(), ["fmt", "test"]);
        assert_eq!(names(&[]).unwrap().len(), STEPS.len());
        assert!(
            names(&["tests"])
                .unwrap_err()
                .to_string()
                .contains("clippy, test, doc")
        );
    }

    #[test]
    fn a_step_can_be_typed() {
        let doc = STEPS.iter().find(|step| step.name == "doc").unwrap();
        let typed = "RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --locked";
        assert_eq!(doc.command(), typed);
    }

    #[test]
    fn a_failure_stands_out_and_what_it_kept_back_is_counted() {
        let done = [
            ("fmt", Duration::from_millis(1500), true),
            ("tidy", Duration::from_secs(2), false),
        ];
        let text = summary(&done, 7);
        assert!(
            text.contains("fmt       passed     1.5 s\ntidy      FAILED     2.0 s\n"),
            "{text}"
        );
        assert!(text.contains("all                  3.5 s\n"), "{text}");
        assert!(text.ends_with("5 of 7 steps did not run\n"), "{text}");
    }
}
