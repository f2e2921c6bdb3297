use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use diffrep_artifact::Sha256Hex;
use diffrep_backbones::BackboneConfig;
use diffrep_import::{
    ArchSource, ImportError, RawCheckpoint, Unknown, check, check_backbone, infer, infer_dit,
    is_dit, is_latent, read_arch, require_complete, resolve,
};
use diffrep_report::{Cell, Column, Table, to_terminal_table};
use diffrep_schedule::{ProcessSpec, ScheduleKind};
use diffrep_unet::parameter_count;
use serde_json::{Value, json};

use super::latent;
use crate::commands::architecture::{Architecture, dit_arch};
use crate::commands::input::process_of;
use crate::device::DeviceSpec;
use crate::printer::Printer;

/// Say what is in a checkpoint: architecture, blocks with shapes, parameters, and what would fail.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  diffrep inspect fixtures/mini/model.safetensors\n  \
    diffrep inspect 256x256_diffusion_uncond.pt --json\n  diffrep inspect stable-diffusion-v1-5/\n  diffrep inspect model.pt --arch arch.json"
)]
pub(crate) struct InspectArgs {
    /// A .pt, .ckpt or .safetensors file, or a folder that diffusers wrote.
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
    let sha256 = raw.sha256()?;
    if is_dit(&raw) {
        return dit(args, &raw, sha256, printer);
    }
    let arch = args.arch.as_deref().map(read_arch).transpose()?;
    let (config, source) = match resolve(&raw, arch) {
        Err(ImportError::Underdetermined { unknown, .. }) => {
            return tell_known(&raw, sha256, &unknown, printer);
        }
        resolved => resolved?,
    };
    let report = check(&raw, &config, source.clone())?;
    let outcome = require_complete(&raw, &config, &report);
    let told = Told {
        description: serde_json::to_value(&config)?,
        by: source.to_string(),
        by_value: serde_json::to_value(&source)?,
        process: process_of(raw.metadata(), &config)?,
        tensors: report.counts(),
        outcome: outcome.map_err(|error| error.to_string()),
        report: serde_json::to_value(&report)?,
        architecture: Architecture::UNet(config),
    };
    told.tell(args, &raw, sha256, printer)
}

/// A diffusion transformer.
fn dit(args: &InspectArgs, raw: &RawCheckpoint, sha256: Sha256Hex, printer: Printer) -> Result<()> {
    let (config, by) = match &args.arch {
        Some(path) => (dit_arch(path)?, ArchSource::Given),
        None => (infer_dit(raw)?, ArchSource::Tensors),
    };
    let tensors = config.tensors();
    let description = BackboneConfig::DiT(config.clone());
    let plan = check_backbone(raw, &description, &tensors);
    let left = plan.as_ref().map_or(Vec::new(), |plan| plan.left.clone());
    let mut counts = BTreeMap::from([("applied".to_string(), 0), ("left".to_string(), left.len())]);
    if let Ok(plan) = &plan {
        counts.insert("applied".into(), plan.sources.len());
    }
    counts.retain(|_, count| *count > 0);
    let left: Vec<Value> = left
        .iter()
        .map(|left| json!({ "name": left.name, "reason": left.reason }))
        .collect();
    let told = Told {
        description: serde_json::to_value(&description)?,
        by: by.to_string(),
        by_value: serde_json::to_value(&by)?,
        // What the reference trains with, and there is no description beside it.
        process: ScheduleKind::Linear.into(),
        tensors: counts,
        outcome: match plan {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{:#}", anyhow::Error::from(error))),
        },
        report: json!({ "left": left }),
        architecture: Architecture::DiT(config),
    };
    told.tell(args, raw, sha256, printer)
}

/// What is told of a checkpoint whose architecture is known.
struct Told {
    architecture: Architecture,
    description: Value,
    /// Who said so.
    by: String,
    by_value: Value,
    process: ProcessSpec,
    /// How many tensors meet which fate.
    tensors: BTreeMap<String, usize>,
    /// Whether it loads, or why not.
    outcome: Result<(), String>,
    report: Value,
}

impl Told {
    fn tell(
        &self,
        args: &InspectArgs,
        raw: &RawCheckpoint,
        sha256: Sha256Hex,
        printer: Printer,
    ) -> Result<()> {
        let total = self.architecture.parameters()?;
        let mut rows = Vec::new();
        let mut taps = Vec::new();
        for tap in self.architecture.taps()? {
            let up_to = self.architecture.parameters_up_to(tap.block)?;
            rows.push(vec![
                Cell::text(tap.block.to_string()),
                Cell::text(tap.name.clone()),
                Cell::text(format!("{} x {} x {}", tap.channels, tap.height, tap.width)),
                Cell::text(up_to.to_string()),
            ]);
            taps.push(json!({ "tap": tap, "parameters_up_to": up_to }));
        }
        if printer.json() {
            printer.result(&serde_json::to_string_pretty(&json!({
                "file": args.file,
                "container": raw.container(),
                "sha256": sha256,
                "architecture": self.description,
                "architecture_by": self.by_value,
                "noise": self.process,
                "parameters": total,
                "taps": taps,
                "tensors": self.tensors,
                "loads": self.outcome.is_ok(),
                "report": self.report,
            }))?);
            return Ok(());
        }
        printer.result(&format!(
            "{}: {}, SHA-256 {sha256}",
            args.file.display(),
            raw.container()
        ));
        printer.result(&format!(
            "architecture ({}): {}",
            self.by,
            serde_json::to_string(&self.description)?
        ));
        printer.result(&format!("noise: {}", self.process));
        printer.result(&format!("parameters: {total}"));
        printer.result(&to_terminal_table(&Table {
            caption: "Blocks in the paper's numbering, with the parameters needed up to each"
                .into(),
            columns: vec![
                Column::number("block"),
                Column::text("name"),
                Column::text("channels x height x width"),
                Column::number("parameters up to it"),
            ],
            rows,
            highlight: Vec::new(),
        }));
        let counts: Vec<String> = self
            .tensors
            .iter()
            .map(|(fate, count)| format!("{count} {fate}"))
            .collect();
        let verdict = match &self.outcome {
            Ok(()) => "this file loads".to_string(),
            Err(error) => format!("this file does not load: {error}"),
        };
        printer.result(&format!("tensors: {}; {verdict}", counts.join(", ")));
        Ok(())
    }
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
