//! `cargo xtask parity`: the paper's network at full size against PyTorch, and FID against pytorch-fid.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::python::Python;
use crate::{binary, process};

const HELP: &str = "\
Compare every block of the paper's 256x256 network at full size with PyTorch: in f32 within 1e-4, in
f16 and bf16 no further from f32 than PyTorch's own half precision.

Usage: cargo xtask parity [fid] [--python PROGRAM] [--out DIR] [--no-half] [--double] [--device DEVICE] [--features LIST]

  fid               instead: FID of two folders of images against pytorch-fid, with the same random
                    Inception weights at full size, within 1e-3 (about 9 minutes of processor time)

  --python PROGRAM  a Python with the packages of fixtures/parity/requirements.txt (default python3)
  --out DIR         folder for the checkpoint (2.2 GB) and the activations (default runs/parity)
  --no-half         f32 alone
  --double          also against PyTorch in f64, which tells rounding errors; needs 14 GB of memory
  --device DEVICE   where diffrep computes (default flex)
  --features LIST   cargo features of diffrep-cli, for example `cuda`
  --help            print this

Needs 10 GB of memory and a few minutes. The checkpoint has random weights; a second run keeps it.
";

/// Largest error of a value relative to the largest value of its block.
const TOLERANCE: &str = "1e-4";

/// The same against f64: what Winograd's filtering may cost.
const ROUNDING: &str = "3e-5";

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    if crate::asks_for_help(arguments) {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let options = Options::parse(arguments)?;
    let python = Python::new(&options.python)?;
    let (built, program) = binary::build(&options.features)?;
    if !built.success() {
        return Ok(process::exit_code(built));
    }
    let out = process::root().join(&options.out);
    if options.fid {
        let [program, out] = [program, out.join("fid")].map(|path| path.display().to_string());
        let status = process::status(&mut python.script("fid.py", &[&program, &out]))?;
        return Ok(process::exit_code(status));
    }
    let file = |name: &str| out.join(name).display().to_string();
    let whole = |name: &str| Path::new(&file(name)).is_file();
    let folder = out.display().to_string();
    let written = whole("reference.safetensors")
        && (!options.half || whole("reference_bf16.safetensors"))
        && (!options.double || whole("reference_f64.safetensors"));
    if !written {
        let mut arguments = vec![folder.as_str()];
        arguments.extend(options.half.then_some("--half"));
        arguments.extend(options.double.then_some("--double"));
        succeed(&mut python.script("full_size.py", &arguments))?;
    }
    let mut failed = false;
    let halves = if options.half {
        &["f16", "bf16"][..]
    } else {
        &[]
    };
    for precision in ["f32"].iter().chain(halves) {
        let ours = file(&format!("diffrep_{precision}.safetensors"));
        let mut forward = Command::new(&program);
        forward.args([
            "forward",
            "--precision",
            precision,
            "--device",
            &options.device,
        ]);
        forward.args([
            "--checkpoint",
            &file("model.pt"),
            "--arch",
            &file("arch.json"),
        ]);
        forward.args(["--input", &file("input.safetensors"), "--out", &ours]);
        succeed(&mut forward)?;
        let reference = file("reference.safetensors");
        let half = file(&format!("reference_{precision}.safetensors"));
        let how: [&str; 2] = match *precision {
            "f32" => ["--tolerance", TOLERANCE],
            _ => ["--not-beyond", &half],
        };
        let arguments = [ours.as_str(), &reference, how[0], how[1]];
        println!("{precision} against PyTorch in f32:");
        failed |= !process::status(&mut python.script("compare.py", &arguments))?.success();
        if options.double && *precision == "f32" {
            println!("f32 against PyTorch in f64:");
            let exact = file("reference_f64.safetensors");
            let arguments = [ours.as_str(), &exact, "--tolerance", ROUNDING];
            failed |= !process::status(&mut python.script("compare.py", &arguments))?.success();
        }
    }
    Ok(match failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// Runs a step without which there is nothing to compare.
fn succeed(command: &mut Command) -> Result<()> {
    if !process::status(command)?.success() {
        bail!("`{}` failed", process::shown(command));
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    fid: bool,
    python: String,
    out: String,
    half: bool,
    double: bool,
    device: String,
    features: Vec<String>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            fid: false,
            python: "python3".into(),
            out: "runs/parity".into(),
            half: true,
            double: false,
            device: "flex".into(),
            features: Vec::new(),
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || {
                let value = arguments.next().cloned();
                value.with_context(|| format!("`{argument}` needs a value"))
            };
            match argument.as_str() {
                "fid" => options.fid = true,
                "--python" => options.python = value()?,
                "--out" => options.out = value()?,
                "--device" => options.device = value()?,
                "--features" => options.features.push(value()?),
                "--no-half" => options.half = false,
                "--double" => options.double = true,
                other => bail!("`cargo xtask parity` does not know `{other}`\n\n{HELP}"),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options> {
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        Options::parse(&arguments)
    }

    #[test]
    fn options_have_values_and_unknown_ones_are_refused() {
        let options = parse(&["--python", "venv/bin/python", "--no-half"]).unwrap();
        assert_eq!(options.python, "venv/bin/python");
        assert!(!options.half && !options.fid && options.out == "runs/parity");
        assert!(parse(&["fid"]).unwrap().fid);
        assert!(
            parse(&["--out"])
                .unwrap_err()
                .to_string()
                .contains("needs a value")
        );
        assert!(
            parse(&["--fast"])
                .unwrap_err()
                .to_string()
                .contains("--fast")
        );
    }
}
