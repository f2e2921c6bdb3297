use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::{Args, ValueEnum};
use diffrep_import::{WeightDtype, load, read_arch, write};

use crate::device::DeviceSpec;
use crate::memory;
use crate::printer::Printer;
use crate::process;

/// Rewrite a checkpoint as one self-describing safetensors file.
///
/// Loading is strict: a tensor that is missing, unused, misshapen or not finite is an error. With --check
/// nothing is written.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep import 256x256_diffusion_uncond.pt --out adm256.safetensors\n  \
    diffrep import model.pt --arch arch.json --dtype f16 --out model.safetensors\n  \
    diffrep import 256x256_diffusion_uncond.pt --check")]
pub(crate) struct ImportArgs {
    /// A .pt or .safetensors file.
    file: PathBuf,
    /// The file to write.
    #[arg(long, required_unless_present = "check")]
    out: Option<PathBuf>,
    /// Only read the checkpoint into the network it is for, and say what it is.
    #[arg(long, conflicts_with_all = ["out", "dtype"])]
    check: bool,
    /// Its architecture as the reference's constructor arguments, where the file does not tell.
    #[arg(long)]
    arch: Option<PathBuf>,
    /// Type of the written weights; with f16 or bf16 the convolutions of the blocks have it and all
    /// else stays f32, as in the reference.
    #[arg(long, default_value = "f32")]
    dtype: DtypeArg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DtypeArg {
    F32,
    F16,
    Bf16,
}

pub(crate) fn run(args: &ImportArgs, printer: Printer) -> Result<()> {
    let device = DeviceSpec::Flex.open()?;
    let arch = args.arch.as_deref().map(read_arch).transpose()?;
    let (start, before) = (Instant::now(), processor_seconds());
    let imported = load(&args.file, arch, &device)?;
    let dtype = match args.dtype {
        DtypeArg::F32 => WeightDtype::F32,
        DtypeArg::F16 => WeightDtype::F16,
        DtypeArg::Bf16 => WeightDtype::Bf16,
    };
    let loaded = start.elapsed().as_secs_f64();
    let processor = processor_seconds() - before;
    let peak = memory::resident().map(|resident| resident.peak);
    let written = match &args.out {
        None => None,
        Some(out) => {
            let sha256 = write(out, &imported.network, dtype, &imported.metadata)?;
            Some((out, sha256))
        }
    };
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&serde_json::json!({
            "from": { "file": args.file, "sha256": imported.sha256 },
            "seconds": {
                "load": loaded,
                "load_processor": processor,
                "write": start.elapsed().as_secs_f64() - loaded,
            },
            "peak_bytes": peak,
            "to": written.map(|(file, sha256)| serde_json::json!({ "file": file, "sha256": sha256 })),
            "report": imported.report,
        }))?);
    } else {
        let counts = imported.report.counts();
        let counts: Vec<String> = counts
            .iter()
            .map(|(fate, count)| format!("{count} {fate}"))
            .collect();
        // What was only looked at is named by what it is.
        let (file, sha256) = written.unwrap_or((&args.file, imported.sha256));
        printer.result(&format!(
            "{}: {}; architecture {}; SHA-256 {sha256}",
            file.display(),
            counts.join(", "),
            imported.report.source
        ));
    }
    Ok(())
}

/// Of all threads so far; 0 where the system does not tell.
fn processor_seconds() -> f64 {
    process::usage().map_or(0.0, |usage| usage.processor_seconds)
}
