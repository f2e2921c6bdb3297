use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use diffrep_import::RawCheckpoint;
use diffrep_report::{Cell, Column, Table, to_terminal_table};
use diffrep_taps::BlockIndex;

use super::latent;
use crate::commands::architecture::Architecture;
use crate::device::DeviceSpec;
use crate::printer::Printer;

/// Count a network's parameters: all of them, and those that features of a block need (Table 10).
///
/// What features of block b need is the network up to block b, with the timestep's MLP; nothing past
/// it is loaded or computed when features are extracted.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep params\n  \
    diffrep params 256x256_diffusion_uncond\n  \
    diffrep params 256x256_diffusion_uncond --block 24 --json\n  \
    diffrep params stable-diffusion-1 --block 18\n  \
    diffrep params fixtures/mini/model.safetensors")]
pub(crate) struct ParamsArgs {
    /// A published network by name, a checkpoint or a folder that diffusers wrote, or an architecture in
    /// JSON; without it, all published ones.
    network: Option<String>,
    /// Only up to this block, counted from 1; every block without it.
    #[arg(long, requires = "network")]
    block: Option<usize>,
}

pub(crate) fn run(args: &ParamsArgs, printer: Printer) -> Result<()> {
    let Some(network) = &args.network else {
        return list(printer);
    };
    let device = DeviceSpec::Flex.open()?;
    if let Some(config) = latent::named(network, &device)? {
        return latent::params(network, &config, args.block, &device, printer);
    }
    let architecture = architecture(network)?;
    let total = architecture.parameters()?;
    let taps = architecture.taps()?;
    if let Some(block) = args.block
        && !(1..=taps.len()).contains(&block)
    {
        bail!(
            "block {block} does not exist: this network has blocks 1..={}",
            taps.len()
        );
    }
    let wanted = |index: BlockIndex| args.block.is_none_or(|block| block == index.get());
    let mut counts = Vec::new();
    for tap in taps.iter().filter(|tap| wanted(tap.block)) {
        counts.push((tap, architecture.parameters_up_to(tap.block)?));
    }
    if printer.json() {
        let blocks: Vec<_> = counts
            .iter()
            .map(|(tap, count)| serde_json::json!({ "tap": tap, "parameters_up_to": count }))
            .collect();
        printer.result(&serde_json::to_string_pretty(&serde_json::json!({
            "network": network,
            "parameters": total,
            "blocks": blocks,
        }))?);
        return Ok(());
    }
    let rows = counts
        .iter()
        .map(|(tap, count)| {
            vec![
                Cell::text(tap.block.to_string()),
                Cell::text(format!("{} x {} x {}", tap.channels, tap.height, tap.width)),
                Cell::text(count.to_string()),
                Cell::number(*count as f64 / total as f64 * 100.0, 1),
            ]
        })
        .collect();
    printer.result(&to_terminal_table(&Table {
        caption: format!("{network}: {total} parameters"),
        columns: vec![
            Column::number("block"),
            Column::text("channels x height x width"),
            Column::number("parameters up to it"),
            Column::number("share").with_unit("%"),
        ],
        rows,
        highlight: Vec::new(),
    }));
    Ok(())
}

fn architecture(network: &str) -> Result<Architecture> {
    if let Some(published) = Architecture::published(network) {
        return Ok(published);
    }
    let path = PathBuf::from(network);
    if !path.exists() {
        let latent = diffrep_latent::UNetConfig::preset_names();
        let names: Vec<&str> = Architecture::names().chain(latent).collect();
        bail!(
            "`{network}` is no file, no folder and no published network; those are {}",
            names.join(", ")
        );
    }
    if Path::new(network)
        .extension()
        .is_some_and(|end| end == "json")
    {
        return Architecture::read(&path);
    }
    Architecture::of(&RawCheckpoint::open(&path)?)
}

fn list(printer: Printer) -> Result<()> {
    let mut counts = Vec::new();
    for name in Architecture::names() {
        if let Some(known) = Architecture::published(name) {
            counts.push((name, known.taps()?.len(), known.parameters()?));
        }
    }
    counts.extend(latent::published(&DeviceSpec::Flex.open()?)?);
    if printer.json() {
        let all: Vec<_> = counts
            .iter()
            .map(|(name, blocks, count)| {
                serde_json::json!({ "network": name, "blocks": blocks, "parameters": count })
            })
            .collect();
        printer.result(&serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    let rows = counts
        .into_iter()
        .map(|(name, blocks, count)| {
            vec![
                Cell::text(name),
                Cell::text(blocks.to_string()),
                Cell::text(count.to_string()),
            ]
        })
        .collect();
    printer.result(&to_terminal_table(&Table {
        caption: "Published networks".into(),
        columns: vec![
            Column::text("network"),
            Column::number("blocks"),
            Column::number("parameters"),
        ],
        rows,
        highlight: Vec::new(),
    }));
    Ok(())
}
