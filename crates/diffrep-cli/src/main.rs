#![doc = include_str!("../README.md")]

mod commands;
mod device;
mod memory;
mod printer;
#[cfg(test)]
mod typed;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::filter::LevelFilter;

use crate::printer::Printer;

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
    #[arg(long, global = true, default_value = "warn", value_parser = level)]
    log: LevelFilter,
}

#[derive(Debug, Subcommand)]
enum Command {
    Reproduce(commands::reproduce::ReproduceArgs),
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
    Inspect(commands::inspect::InspectArgs),
    Params(commands::params::ParamsArgs),
    Import(commands::import::ImportArgs),
    Forward(commands::forward::ForwardArgs),
}

fn level(text: &str) -> Result<LevelFilter, String> {
    text.parse()
        .map_err(|_| "levels are off, error, warn, info, debug and trace".into())
}

fn main() -> ExitCode {
    memory::keep_freed();
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_max_level(cli.log)
        .with_writer(std::io::stderr)
        .without_time()
        .init();
    let printer = Printer::new(cli.quiet, cli.json);
    let result = match &cli.command {
        Command::Reproduce(args) => commands::reproduce::run(args, printer),
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
        Command::Inspect(args) => commands::inspect::run(args, printer),
        Command::Params(args) => commands::params::run(args, printer),
        Command::Import(args) => commands::import::run(args, printer),
        Command::Forward(args) => commands::forward::run(args, printer),
    };
    let result = result.and_then(|()| match printer::unsaid() {
        None => Ok(()),
        Some(error) => Err(anyhow::anyhow!("cannot write to standard output: {error}")),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            printer::print_error(&error);
            ExitCode::FAILURE
        }
    }
}
