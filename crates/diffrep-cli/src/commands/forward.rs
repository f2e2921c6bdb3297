use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use clap::Args;
use diffrep_import::{RawCheckpoint, is_dit, load, read_arch, write_tensors};
use diffrep_taps::{Condition, Encoder, TapSet, Taps};

use crate::commands::encoder::load_dit;
use crate::commands::input::PrecisionArg;
use crate::device::DeviceSpec;
use crate::printer::Printer;

/// Run a network on given tensors and write every block's output: how parity is checked.
///
/// The input file holds `x` `[N, C, H, W]` (f32, taken as already noised; latents for a diffusion
/// transformer), `t` `[N]` and, for a class-conditional network, `y` `[N]`. The output file holds `block_01`.. in the paper's numbering
/// and `out`, all f32.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    diffrep forward --checkpoint fixtures/golden/adm_classcond.pt --arch fixtures/golden/adm_classcond.json \\\n      \
    --input fixtures/golden/adm_classcond.safetensors --out out.safetensors")]
pub(crate) struct ForwardArgs {
    /// The network's weights.
    #[arg(long)]
    checkpoint: PathBuf,
    /// Its architecture as the reference's constructor arguments, where the file does not tell.
    #[arg(long)]
    arch: Option<PathBuf>,
    /// Tensors `x`, `t` and `y`.
    #[arg(long)]
    input: PathBuf,
    /// The file to write.
    #[arg(long)]
    out: PathBuf,
    /// What the network computes with.
    #[arg(long, default_value = "f32")]
    precision: PrecisionArg,
    /// Where to compute: flex, cuda:N, tch.
    #[arg(long, default_value = "flex")]
    device: DeviceSpec,
}

pub(crate) fn run(args: &ForwardArgs, printer: Printer) -> Result<()> {
    let device = args.device.open()?;
    let (taps, out) = match is_dit(&RawCheckpoint::open(&args.checkpoint)?) {
        true => transformer(args, &device)?,
        false => unet(args, &device)?,
    };
    let mut tensors: Vec<(String, TensorData)> = taps
        .into_iter()
        .map(|(block, map)| {
            let map = map.cast(DType::F32);
            (format!("block_{:02}", block.get()), map.into_data())
        })
        .collect();
    let [batch, outputs, height, width] = out.dims();
    let out = if [height, width] == [1, 1] {
        out.reshape([batch, outputs]).into_data()
    } else {
        out.into_data()
    };
    tensors.push(("out".into(), out));
    write_tensors(&args.out, &tensors, &BTreeMap::new())?;
    printer.result(&format!(
        "{}: {} blocks and out",
        args.out.display(),
        tensors.len() - 1
    ));
    Ok(())
}

fn unet(args: &ForwardArgs, device: &Device) -> Result<(Taps, Tensor<4>)> {
    let arch = args.arch.as_deref().map(read_arch).transpose()?;
    let imported = load(&args.checkpoint, arch, device)?;
    let network = imported.network.with_precision(args.precision.into());
    let network = network.packed();
    let config = network.config();
    let takes = Takes {
        channels: config.in_channels,
        side: config.image_size,
        labels: config.num_classes,
        label_needed: true,
    };
    let (x, condition) = read_input(&args.input, &takes, device)?;
    Ok(network.forward_with_taps(x, &condition, &TapSet::all(&network.taps())?))
}

fn transformer(args: &ForwardArgs, device: &Device) -> Result<(Taps, Tensor<4>)> {
    let network = load_dit(&args.checkpoint, args.arch.as_deref(), device)?.0;
    ensure!(
        args.precision == PrecisionArg::F32,
        "diffusion transformers compute with f32 alone"
    );
    let config = network.config();
    let takes = Takes {
        channels: config.in_channels,
        side: config.image_size,
        labels: Some(config.classes + usize::from(config.null_class)),
        label_needed: !config.null_class,
    };
    let (x, condition) = read_input(&args.input, &takes, device)?;
    let all = TapSet::all(&network.taps())?;
    Ok(network.forward_with_taps(x, &condition, Some(&all)))
}

/// What a network takes.
struct Takes {
    channels: usize,
    side: usize,
    /// How many labels it knows, if any.
    labels: Option<usize>,
    /// Whether it has no answer without a label.
    label_needed: bool,
}

/// Finite numbers of one tensor of the input file, whatever their type, with its shape.
fn numbers(file: &RawCheckpoint, name: &str) -> Result<(Vec<f32>, Vec<usize>)> {
    let data = file.values(name)?;
    let shape = data.shape().to_vec();
    let values = data.try_into_vec::<f32>().context("values are f32")?;
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        let (path, value) = (file.path().display(), values[at]);
        bail!("{path}: `{name}` holds {value} at position {at}, and inputs must be finite");
    }
    Ok((values, shape))
}

fn read_input(path: &Path, takes: &Takes, device: &Device) -> Result<(Tensor<4>, Condition)> {
    let file = RawCheckpoint::open(path)?;
    let (x, shape) = numbers(&file, "x")?;
    let expected = [takes.channels, takes.side, takes.side];
    ensure!(
        shape.len() == 4 && shape[0] > 0 && shape[1..] == expected,
        "{}: `x` is {shape:?}, the network takes [N, {}, {}, {}]",
        path.display(),
        expected[0],
        expected[1],
        expected[2]
    );
    let batch = shape[0];
    let (t, t_shape) = numbers(&file, "t")?;
    ensure!(
        t_shape == [batch],
        "{}: `t` is {t_shape:?}, not [{batch}]",
        path.display()
    );
    let mut condition = Condition {
        t: Some(Tensor::from_data(TensorData::new(t, [batch]), device)),
        ..Condition::default()
    };
    let told = file.tensors().iter().any(|tensor| tensor.name == "y");
    if let Some(classes) = takes.labels.filter(|_| told || takes.label_needed) {
        let (y, y_shape) = numbers(&file, "y")?;
        ensure!(
            y_shape == [batch],
            "{}: `y` is {y_shape:?}, not [{batch}]",
            path.display()
        );
        ensure!(
            y.iter()
                .all(|label| *label >= 0.0 && (*label as usize) < classes),
            "{}: a label of `y` is out of range 0..={}",
            path.display(),
            classes - 1
        );
        let labels: Vec<i64> = y.iter().map(|label| *label as i64).collect();
        let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [batch]), device);
        condition = condition.with_label(labels);
    }
    let x = Tensor::from_data(
        TensorData::new(x, [batch, expected[0], expected[1], expected[2]]),
        device,
    );
    Ok((x, condition))
}
