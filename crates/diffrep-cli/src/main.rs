#![doc = include_str!("../README.md")]

mod commands;
mod device;
mod hint;
mod memory;
mod printer;
mod process;
mod tensorboard;
#[cfg(test)]
mod typed;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use diffrep_artifact::Held;
use diffrep_train::metrics;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::prelude::*;

use crate::printer::Printer;
use crate::tensorboard::EventFiles;

#[global_allocator]
static ALLOCATOR: process::LargePages = process::LargePages;

/// How good a classifier is hidden inside a diffusion model?
#[derive(Debug, Parser)]
#[command(name = "diffrep", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say nothing but results and errors.
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Print results as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Write spans and events of this level to standard error (off, error, warn, info, debug, trace).
    ///
    /// `json`, or `json:LEVEL`, writes everything there as JSON, an object a line with the time: messages,
    /// progress with what is done, the total and the seconds left, and errors, for programs that watch a run.
    #[arg(long, global = true, default_value = "warn", value_name = "LEVEL", value_parser = log)]
    log: Log,
    /// Write losses, accuracies and learning rates of trainings as TensorBoard's event files into DIR, a
    /// folder for each (probe, finetune, pretrain, reproduce, run).
    #[arg(long, global = true, value_name = "DIR")]
    tensorboard: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Reproduce(commands::reproduce::ReproduceArgs),
    Run(commands::reproduce::RunArgs),
    Report(commands::report::ReportArgs),
    Compare(commands::compare::CompareArgs),
    Classify(commands::classify::ClassifyArgs),
    Dataset(commands::dataset::DatasetArgs),
    Fetch(commands::fetch::FetchArgs),
    Preprocess(commands::preprocess::PreprocessArgs),
    Extract(commands::extract::ExtractArgs),
    Probe(commands::probe::ProbeArgs),
    Finetune(commands::finetune::FinetuneArgs),
    Select(commands::select::SelectArgs),
    Pretrain(commands::pretrain::PretrainArgs),
    Cka(commands::cka::CkaArgs),
    Sample(commands::sample::SampleArgs),
    Fid(commands::fid::FidArgs),
    Store(commands::store::StoreArgs),
    Inspect(commands::inspect::InspectArgs),
    Params(commands::params::ParamsArgs),
    Import(commands::import::ImportArgs),
    Forward(commands::forward::ForwardArgs),
    Launch(commands::launch::LaunchArgs),
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug)]
struct Log {
    level: LevelFilter,
    json: bool,
}

fn log(text: &str) -> Result<Log, String> {
    let (json, level) = match text.split_once(':') {
        _ if text == "json" => (true, "info"),
        Some(("json", level)) => (true, level),
        _ => (false, text),
    };
    let level = level.parse().map_err(|_| {
        "levels are off, error, warn, info, debug and trace; `json` and `json:LEVEL` write JSON"
    })?;
    Ok(Log { level, json })
}

/// Whether several workers share the work of a command; an error if it is not one that can be launched.
fn shares_work(command: &[String]) -> anyhow::Result<bool> {
    let words = std::iter::once("diffrep").chain(command.iter().map(String::as_str));
    match Cli::try_parse_from(words).map(|cli| cli.command) {
        Ok(Command::Launch(_)) => anyhow::bail!("`launch` cannot launch itself"),
        Ok(Command::Extract(args)) => args.check_shared().map(|()| true),
        Ok(Command::Reproduce(args)) => Ok(args.shares_work()),
        Ok(Command::Run(args)) => Ok(args.shares_work()),
        Ok(_) => Ok(false),
        Err(error) => {
            let text = error.to_string();
            // The reason, which may be a list, ends before an empty line.
            let lines = text.lines().take_while(|line| !line.is_empty());
            let reason: Vec<&str> = lines.map(str::trim).collect();
            let reason = reason.join(" ");
            let reason = reason.trim_start_matches("error: ");
            anyhow::bail!("what is to be launched is no command of diffrep: {reason}")
        }
    }
}

fn main() -> ExitCode {
    process::keep_freed();
    let cli = Cli::parse();
    let printer = Printer::new(cli.quiet, cli.json, cli.log.json);
    let result = listen(cli.log, cli.tensorboard.as_deref()).and_then(|()| run(&cli, printer));
    let result = result.and_then(|()| match printer::unsaid() {
        None => Ok(()),
        Some(error) => Err(anyhow::anyhow!("cannot write to standard output: {error}")),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let words: Vec<String> = std::env::args_os()
                .skip(1)
                .map(|word| word.to_string_lossy().into_owned())
                .collect();
            printer.error(&error, hint::missing(&error, &words).as_deref());
            match is_busy(&error) {
                true => ExitCode::from(BUSY),
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// The exit code where another process works in a folder, so that the same command may work later; it is that of
/// sysexits.h for a failure that passes. A scheduler tries such a job again, and no other that ended by an error.
const BUSY: u8 = 75;

/// Whether a command failed only because another process works in a folder.
fn is_busy(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<Held>())
}

/// Sets up who hears of spans and events: standard error, and files for the numbers of trainings.
fn listen(log: Log, tensorboard: Option<&Path>) -> anyhow::Result<()> {
    let text = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let text = match log.json {
        true => text.json().flatten_event(true).with_target(false).boxed(),
        false => text.without_time().boxed(),
    };
    let files = tensorboard.map(EventFiles::new).transpose();
    let (files, failed) = match files {
        Ok(files) => (files, Ok(())),
        Err(error) => (None, Err(error)),
    };
    let numbers = filter_fn(|metadata| metadata.target() == metrics::TARGET);
    tracing_subscriber::registry()
        .with(text.with_filter(log.level))
        .with(files.map(|files| files.with_filter(numbers)))
        .init();
    failed
}

fn run(cli: &Cli, printer: Printer) -> anyhow::Result<()> {
    let tensorboard = cli.tensorboard.as_deref();
    match &cli.command {
        Command::Reproduce(args) => commands::reproduce::run(args, tensorboard, printer),
        Command::Run(args) => commands::reproduce::run_own(args, tensorboard, printer),
        Command::Report(args) => commands::report::run(args, printer),
        Command::Compare(args) => commands::compare::run(args, printer),
        Command::Classify(args) => commands::classify::run(args, printer),
        Command::Dataset(args) => commands::dataset::run(args, printer),
        Command::Fetch(args) => commands::fetch::run(args, printer),
        Command::Preprocess(args) => commands::preprocess::run(args, printer),
        Command::Extract(args) => commands::extract::run(args, printer),
        Command::Probe(args) => commands::probe::run(args, printer),
        Command::Select(args) => commands::select::run(args, printer),
        Command::Finetune(args) => commands::finetune::run(args, printer),
        Command::Pretrain(args) => commands::pretrain::run(args, printer),
        Command::Cka(args) => commands::cka::run(args, printer),
        Command::Sample(args) => commands::sample::run(args, printer),
        Command::Fid(args) => commands::fid::run(args, printer),
        Command::Store(args) => commands::store::run(args, printer),
        Command::Inspect(args) => commands::inspect::run(args, printer),
        Command::Params(args) => commands::params::run(args, printer),
        Command::Import(args) => commands::import::run(args, printer),
        Command::Forward(args) => commands::forward::run(args, printer),
        Command::Launch(args) => shares_work(args.command())
            .and_then(|shares| commands::launch::run(args, shares, printer)),
    }
}
