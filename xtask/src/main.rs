//! The project's own commands, run as `cargo xtask COMMAND`.
//!
//! This file only dispatches: each command has a file of its own, whose `HELP` documents it.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program"
)]

mod bench;
mod binary;
mod book;
mod ci;
mod fixtures;
mod parity;
mod process;
mod python;
mod release;
mod reproduce;
mod tidy;
mod torture;
mod tree;

use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
The project's own commands.

Usage: cargo xtask COMMAND [ARGUMENTS]

Commands:
  reproduce  build diffrep in release mode and run its experiments
  parity     compare the paper's network at full size with PyTorch
  bench      time diffrep against PyTorch and Pillow in pairs
  tidy       check the rules of the house: layers, manifests, documents
  torture    kill, starve and interfere with diffrep, and compare what it leaves
  fixtures   check the files under fixtures/ against their hashes
  book       check the pages of docs/ and build them as a book
  release    check the crates as products, and keep the order of publishing
  ci         run everything that continuous integration runs
  help       print this

`cargo xtask COMMAND --help` says more about one of them.
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    match run(&command, &arguments.collect::<Vec<_>>()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &str, arguments: &[String]) -> Result<ExitCode> {
    match command {
        "reproduce" => reproduce::run(arguments),
        "parity" => parity::run(arguments),
        "bench" => bench::run(arguments),
        "tidy" => tidy::run(arguments),
        "fixtures" => fixtures::run(arguments),
        "torture" => torture::run(arguments),
        "book" => book::run(arguments),
        "release" => release::run(arguments),
        "ci" => ci::run(arguments),
        "" | "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("there is no command `{command}`\n\n{HELP}"),
    }
}

/// Whether the user asks what a command does.
fn asks_for_help(arguments: &[String]) -> bool {
    matches!(arguments, [first, ..] if first == "--help" || first == "-h")
}
