//! `cargo xtask reproduce`: from a clone to results in one command.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::{binary, process};

const HELP: &str = "\
Build `diffrep` in release mode and run its experiments.

Usage: cargo xtask reproduce [--features LIST] [ARGUMENTS]

  --features LIST  cargo features of diffrep-cli, for example `cuda`
  --help           print this

All other arguments go to `diffrep reproduce` as they are, which runs in the root of the workspace
(paths are relative to it, but for experiment files of your own) and whose exit code is passed on.
Everything after `--` goes there too: `cargo xtask reproduce -- --help` lists what it takes.

Examples:
  cargo xtask reproduce --quick
  cargo xtask reproduce --features cuda figure2 --device cuda:0
  cargo xtask reproduce --scale paper --dry-run
  cargo xtask reproduce mine.toml --scale first
";

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    if crate::asks_for_help(arguments) {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let arguments = Arguments::parse(arguments)?;
    let (built, program) = binary::build(&arguments.features)?;
    if !built.success() {
        return Ok(process::exit_code(built));
    }
    let here = std::env::current_dir().context("the folder in which this runs is not known")?;
    let ran = process::status(&mut arguments.reproduce(&program, &here))?;
    Ok(process::exit_code(ran))
}

/// What the user wrote, split between cargo and `diffrep reproduce`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Arguments {
    features: Vec<String>,
    passed_on: Vec<String>,
}

impl Arguments {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            if argument == "--" {
                parsed.passed_on.extend(arguments.by_ref().cloned());
            } else if argument == "--features" {
                match arguments.next() {
                    Some(list) => parsed.features.push(list.clone()),
                    None => bail!("`--features` needs a list, for example `--features cuda`"),
                }
            } else if let Some(list) = argument.strip_prefix("--features=") {
                parsed.features.push(list.to_owned());
            } else {
                parsed.passed_on.push(argument.clone());
            }
        }
        Ok(parsed)
    }

    /// Files of one's own lie where this runs, `here`; the command runs elsewhere.
    fn reproduce(&self, program: &Path, here: &Path) -> Command {
        let arguments = self.passed_on.iter().map(|argument| {
            let file = here.join(argument);
            match argument.ends_with(".toml") && file.is_file() {
                true => file.into_os_string(),
                false => argument.into(),
            }
        });
        let mut command = Command::new(program);
        command
            .arg("reproduce")
            .args(arguments)
            .current_dir(process::root());
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments> {
        Arguments::parse(
            &arguments
                .iter()
                .map(|a| (*a).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn features_go_to_cargo_and_the_rest_to_diffrep() {
        let arguments = parse(&[
            "--quick",
            "--features",
            "cuda",
            "smoke",
            "--features=tch",
            "--",
            "--features",
        ])
        .unwrap();
        assert_eq!(arguments.features, ["cuda", "tch"]);
        assert_eq!(arguments.passed_on, ["--quick", "smoke", "--features"]);

        let build = process::shown(&binary::building(&arguments.features));
        assert!(
            build.ends_with("-p diffrep-cli --features cuda --features tch"),
            "{build}"
        );
        let program = Path::new("target/release/diffrep");
        let reproduce = arguments.reproduce(program, Path::new("/elsewhere"));
        assert_eq!(
            process::shown(&reproduce),
            "diffrep reproduce --quick smoke --features"
        );
    }

    #[test]
    fn files_of_ones_own_are_found_where_the_command_was_given() {
        let here = process::root().join("crates/diffrep-plan");
        let arguments = parse(&["experiments/select.toml", "absent.toml"]).unwrap();
        let command = arguments.reproduce(Path::new("diffrep"), &here);
        let given: Vec<_> = command.get_args().skip(1).collect();
        let file = here.join("experiments/select.toml");
        assert_eq!(given, [file.as_os_str(), "absent.toml".as_ref()]);
    }

    #[test]
    fn features_without_a_list_are_refused() {
        assert!(
            parse(&["--quick", "--features"])
                .unwrap_err()
                .to_string()
                .contains("needs a list")
        );
    }
}
