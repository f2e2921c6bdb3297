use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use diffrep_artifact::Sha256Hex;
use diffrep_import::{
    ArchSource, ImportError, RawCheckpoint, Unknown, check, infer, is_latent, read_arch,
    require_complete, resolve,
};
use diffrep_report::{Cell, Column, Table, to_terminal_table};
use diffrep_unet::{parameter_count, parameter_count_up_to};

use super::latent;
use crate::device::DeviceSpec;
use crate::printer::Printer;

/// Say what is in a checkpoint: architecture, blocks with shapes, parameters, and what would fail.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  diffrep inspect fixtures/mini/model.safetensors\n  \
    diffrep inspect 256x256_diffusion_uncond.pt --json\n  diffrep inspect stable-diffusion-v1-5/\n  diffrep inspect model.pt --arch arch.json"
)]
pub(crate) struct InspectArgs {
    /// A .pt, .ckpt or .safetensors file, or the folder of a Stable Diffusion model.
    file: PathBuf,
    /// Its architecture as the reference's constructor arguments, where the file does not tell; for
    /// one file of Stable Diffusion a diffusers folder that describes it.
    #[arg(long)]
    arch: Option<PathBuf>,
}

pub(crate) fn run(args: &InspectArgs, printer: Printer) -> Result<()> {
    if is_latent(&args.file) {
        let device = DeviceSpec::Flex.open()?;
        return latent::inspect(&args.file, args.arch.as_deref(), &device, printer);
    }
    let raw = RawCheckpoint::open(&args.file)?;
    let sha256 = Sha256Hex::hash_file(&args.file)?;
    let arch = args.arch.as_deref().map(read_arch).transpose()?;
    let (config, source) = match resolve(&raw, arch) {
        Err(ImportError::Underdetermined { unknown, .. }) => {
            return tell_known(&raw, sha256, &unknown, printer);
        }
        resolved => resolved?,
    };
    let report = check(&raw, &config, source.clone())?;
    let blocks = config.blocks()?;
    let total = parameter_count(&config)?;
    let mut rows = Vec::new();
    let mut taps = Vec::new();
    for block in blocks.iter() {
        let tap = &block.tap;
        let up_to = parameter_count_up_to(&config, tap.block)?;
        rows.push(vec![
            Cell::text(tap.block.to_string()),
            Cell::text(tap.name.clone()),
            Cell::text(format!("{} x {} x {}", tap.channels, tap.height, tap.width)),
            Cell::text(up_to.to_string()),
        ]);
        taps.push(serde_json::json!({ "tap": tap, "parameters_up_to": up_to }));
    }
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&serde_json::json!({
            "file": args.file,
            "container": raw.container(),
            "sha256": sha256,
            "architecture": config,
            "architecture_by": source,
            "parameters": total,
            "taps": taps,
            "tensors": report.counts(),
            "loads": report.is_complete(),
            "report": report,
        }))?);
        return Ok(());
    }
    printer.result(&format!(
        "{}: {}, SHA-256 {sha256}",
        args.file.display(),
        raw.container()
    ));
    printer.result(&format!(
        "architecture ({source}): {}",
        serde_json::to_string(&config)?
    ));
    printer.result(&format!("parameters: {total}"));
    printer.result(&to_terminal_table(&Table {
        caption: "Blocks in the paper's numbering, with the parameters needed up to each".into(),
        columns: vec![
            Column::number("block"),
            Column::text("name"),
            Column::text("channels x height x width"),
            Column::number("parameters up to it"),
        ],
        rows,
        highlight: Vec::new(),
    }));
    let counts: Vec<String> = report
        .counts()
        .iter()
        .map(|(fate, count)| format!("{count} {fate}"))
        .collect();
    let verdict = match require_complete(&raw, &config, &report) {
        Ok(()) => "this file loads".to_string(),
        Err(error) => format!("this file does not load: {error}"),
    };
    printer.result(&format!("tensors: {}; {verdict}", counts.join(", ")));
    Ok(())
}

/// What the tensors tell where they leave something open, and an architecture file to complete.
fn tell_known(
    raw: &RawCheckpoint,
    sha256: Sha256Hex,
    unknown: &[Unknown],
    printer: Printer,
) -> Result<()> {
    let known = infer(raw.path(), raw.tensors())?.config;
    let report = check(raw, &known, ArchSource::Given)?;
    require_complete(raw, &known, &report)?;
    let parameters = parameter_count(&known)?;
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&serde_json::json!({
            "file": raw.path(),
            "container": raw.container(),
            "sha256": sha256,
            "architecture": null,
            "nearest": known,
            "unknown": unknown,
            "parameters": parameters,
            "loads": false,
        }))?);
        return Ok(());
    }
    let (path, container) = (raw.path().display(), raw.container());
    printer.result(&format!("{path}: {container}, SHA-256 {sha256}"));
    printer.result(&format!("parameters: {parameters}"));
    printer.result("architecture: the tensors leave open");
    for open in unknown {
        printer.result(&format!("  {open}"));
    }
    printer.result(&format!(
        "This file loads with --arch FILE, where FILE holds this with those entries set right \
         (here they are the first of the options):\n{}",
        serde_json::to_string_pretty(&known)?
    ));
    Ok(())
}
