//! `cargo xtask bench`: paired timings against what people use now.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::python::Python;
use crate::{binary, process};

const HELP: &str = "\
Time diffrep in interleaved pairs, most against PyTorch or Pillow; docs/benchmarks.md says what was found.

Usage: cargo xtask bench NAME [--python PROGRAM] [-- ARGUMENTS OF THE SCRIPT]

Names:
  extract     images per second of `diffrep extract`, mini network
  full-size   seconds per image of the paper's 256x256 network (after `cargo xtask parity --no-half`)
  latent      seconds per image of Stable Diffusion 1.5 at full size against diffusers, which has to be there
  import      time and memory of opening its checkpoint (after the same)
  workers     images per second of one worker process and of two, mini network
  preprocess  decoding and centre crop of photographs against Pillow

  --python PROGRAM  a Python with the packages of fixtures/parity/requirements.txt (default python3)
  --help            print this

Prints JSON with every sample. Nothing else should run on the machine.
";

/// Where the model of `latent` lies, which is written once.
const LATENT: &str = "runs/latent-full-size";

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    if crate::asks_for_help(arguments) {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let (name, rest) = arguments
        .split_first()
        .with_context(|| format!("which benchmark?\n\n{HELP}"))?;
    let (python, passed_on) = match rest {
        [flag, program, rest @ ..] if flag == "--python" => (program.as_str(), rest),
        rest => ("python3", rest),
    };
    let passed_on = match passed_on {
        [dashes, rest @ ..] if dashes == "--" => rest,
        rest => rest,
    };
    let (script, mut arguments): (&str, Vec<&str>) = match name.as_str() {
        "extract" => ("bench_extract.py", vec![]),
        "full-size" => ("bench_full_size.py", vec!["runs/parity"]),
        "latent" => ("bench_latent.py", vec![LATENT]),
        "import" => ("bench_import.py", vec!["runs/parity"]),
        "workers" => ("bench_workers.py", vec![]),
        "preprocess" => ("bench_preprocess.py", vec![]),
        other => bail!("there is no benchmark `{other}`\n\n{HELP}"),
    };
    let given = Path::new("runs/parity/model.pt");
    if ["full-size", "import"].contains(&name.as_str()) && !process::root().join(given).is_file() {
        bail!(
            "{} is not there: run `cargo xtask parity --no-half` first",
            given.display()
        );
    }
    arguments.extend(passed_on.iter().map(String::as_str));
    let python = Python::new(python)?;
    if name == "latent" && !process::root().join(LATENT).join("unet").is_dir() {
        let status = process::status(&mut python.script(script, &["--write", LATENT]))?;
        if !status.success() {
            return Ok(process::exit_code(status));
        }
    }
    let built = match name.as_str() {
        "preprocess" => {
            let build = ["build", "--release", "--locked", "-p", "diffrep-datasets"];
            process::status(process::cargo(&build).args(["--example", "crop"]))?
        }
        _ => binary::build(&[])?.0,
    };
    if !built.success() {
        return Ok(process::exit_code(built));
    }
    let status = process::status(&mut python.script(script, &arguments))?;
    Ok(process::exit_code(status))
}
