//! `diffrep`: how good a classifier is hidden inside a diffusion model?

mod commands;
mod device;
mod printer;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    /// Write spans and events of this level to standard error (error, warn, info, debug, trace).
    #[arg(long, global = true, default_value = "warn")]
    log: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    Pretrain(commands::pretrain::PretrainArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(&cli.log))
        .with_writer(std::io::stderr)
        .without_time()
        .init();
    let printer = Printer::new(cli.quiet, cli.json);
    let result = match &cli.command {
        Command::Pretrain(args) => commands::pretrain::run(args, printer),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            printer::print_error(&error);
            ExitCode::FAILURE
        }
    }
}
