//! What `inspect` and `params` say of latent diffusion models.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, bail};
use burn::tensor::Device;
use diffrep_import::{Dtype, LatentPart, describe_latent, is_latent, read_unet_config};
use diffrep_latent::{UNetConfig, parameter_count};
use diffrep_report::{Cell, Column, Table, to_terminal_table};
use diffrep_taps::{Encoder, TapInfo};

use crate::printer::Printer;

/// A block with the parameters that its features need.
type Counted = (TapInfo, usize);

/// All parameters of a U-Net, and those up to each block. It has shapes and no weights.
fn counted(config: &UNetConfig, device: &Device) -> Result<(usize, Vec<Counted>)> {
    let network = config.blank(device)?;
    let blocks = network.taps().into_iter().map(|tap| {
        let up_to = network.parameters_up_to(tap.block);
        (tap, up_to)
    });
    Ok((parameter_count(&network), blocks.collect()))
}

fn blocks_as_json(blocks: &[Counted]) -> Vec<serde_json::Value> {
    let one = |(tap, up_to): &Counted| serde_json::json!({ "tap": tap, "parameters_up_to": up_to });
    blocks.iter().map(one).collect()
}

/// The table of a U-Net's blocks.
fn table(caption: String, total: usize, blocks: &[Counted]) -> Table {
    let rows = blocks.iter().map(|(tap, up_to)| {
        vec![
            Cell::text(tap.block.to_string()),
            Cell::text(tap.name.clone()),
            Cell::text(format!("{} x {} x {}", tap.channels, tap.height, tap.width)),
            Cell::text(up_to.to_string()),
            Cell::number(*up_to as f64 / total as f64 * 100.0, 1),
        ]
    });
    Table {
        caption,
        columns: vec![
            Column::number("block"),
            Column::text("name"),
            Column::text("channels x height x width"),
            Column::number("parameters up to it"),
            Column::number("share").with_unit("%"),
        ],
        rows: rows.collect(),
        highlight: Vec::new(),
    }
}

/// What is in a diffusers folder or a file of the original release.
pub(crate) fn inspect(
    path: &Path,
    arch: Option<&Path>,
    device: &Device,
    printer: Printer,
) -> Result<()> {
    let found = describe_latent(path, arch, None, device)?;
    let (total, blocks) = counted(&found.unet, device)?;
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&serde_json::json!({
            "file": path,
            "kind": "latent diffusion",
            "model": found,
            "parameters": total,
            "taps": blocks_as_json(&blocks),
            "loads": true,
        }))?);
        return Ok(());
    }
    let (unet, first) = (&found.unet, &found.first_stage);
    let container = found.container;
    let (path, channels) = (path.display(), first.latent_channels);
    let (size, side) = (first.image_size, unet.sample_size);
    printer.result(&format!(
        "{path}: latent diffusion ({container}), images of {size} x {size} through latents of \
         {channels} x {side} x {side}"
    ));
    printer.result(&format!(
        "architecture: {}",
        serde_json::to_string(&found.unet)?
    ));
    if found.prediction.is_none() {
        printer.result(
            "the file does not tell the size of its images: Stable Diffusion 2's models that predict v were \
             trained at 768 (`--size 768` where features are made)",
        );
    }
    let prediction = found.prediction.as_deref().unwrap_or("not told");
    printer.result(&format!(
        "prediction: {prediction} (features do not depend on it)"
    ));
    for part in &found.parts {
        printer.result(&sentence(part));
    }
    if let Some(sentence) = precision(&found.parts) {
        printer.result(&sentence);
    }
    let caption =
        "Blocks of the U-Net in the paper's numbering, with the parameters needed up to each";
    printer.result(&to_terminal_table(&table(caption.into(), total, &blocks)));
    printer.result("this model loads");
    Ok(())
}

/// What becomes of a part's tensors.
fn sentence(part: &LatentPart) -> String {
    let types: Vec<String> = part
        .dtypes
        .iter()
        .map(|(dtype, count)| format!("{count} of {dtype}"))
        .collect();
    let left: Vec<String> = part
        .left_out
        .iter()
        .map(|left| format!("{} left out ({})", left.tensors, left.reason))
        .collect();
    format!(
        "{}: {} parameters in {} tensors ({}), {} files{}",
        part.part,
        part.parameters,
        part.loaded,
        types.join(", "),
        part.files.len(),
        if left.is_empty() {
            String::new()
        } else {
            format!("; {}", left.join("; "))
        }
    )
}

/// What becomes of weights that are not all f32.
fn precision(parts: &[LatentPart]) -> Option<String> {
    let types: BTreeSet<Dtype> = parts
        .iter()
        .flat_map(|part| part.dtypes.keys().copied())
        .collect();
    if types.iter().all(|dtype| *dtype == Dtype::F32) {
        return None;
    }
    let types: Vec<String> = types.iter().map(ToString::to_string).collect();
    Some(format!(
        "precision: weights in {}, all of which are computed with in f32, as diffusers does unless it is told a \
         torch_dtype",
        types.join(", ")
    ))
}

/// The U-Net that a word names: published, in a folder, or in a file of the original release; none
/// if it is no latent diffusion model's.
pub(crate) fn named(word: &str, device: &Device) -> Result<Option<UNetConfig>> {
    if let Some(config) = UNetConfig::preset(word) {
        return Ok(Some(config));
    }
    let path = Path::new(word);
    let config = path.join("unet").join("config.json");
    if config.is_file() && is_latent(path) {
        return Ok(Some(read_unet_config(&config)?));
    }
    match is_latent(path) {
        true => Ok(Some(describe_latent(path, None, None, device)?.unet)),
        false => Ok(None),
    }
}

/// Counts the parameters of a U-Net.
pub(crate) fn params(
    word: &str,
    config: &UNetConfig,
    block: Option<usize>,
    device: &Device,
    printer: Printer,
) -> Result<()> {
    let (total, mut blocks) = counted(config, device)?;
    if let Some(block) = block {
        if !(1..=blocks.len()).contains(&block) {
            bail!(
                "block {block} does not exist: this network has blocks 1..={}",
                blocks.len()
            );
        }
        blocks.retain(|(tap, _)| tap.block.get() == block);
    }
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&serde_json::json!({
            "network": word,
            "parameters": total,
            "blocks": blocks_as_json(&blocks),
        }))?);
        return Ok(());
    }
    let caption = format!("{word}: the U-Net has {total} parameters");
    printer.result(&to_terminal_table(&table(caption, total, &blocks)));
    Ok(())
}

/// Every published network, with its blocks and parameters.
pub(crate) fn published(device: &Device) -> Result<Vec<(&'static str, usize, usize)>> {
    let networks = UNetConfig::preset_names().into_iter();
    let known = networks.filter_map(|name| Some((name, UNetConfig::preset(name)?)));
    known
        .map(|(name, config)| {
            let (total, blocks) = counted(&config, device)?;
            Ok((name, blocks.len(), total))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn mixed_precision_is_said() {
        let part = |dtypes: &[(Dtype, usize)]| LatentPart {
            part: "U-Net",
            files: Vec::new(),
            parameters: 0,
            loaded: 0,
            dtypes: dtypes.iter().copied().collect::<BTreeMap<_, _>>(),
            left_out: Vec::new(),
        };
        assert_eq!(
            precision(&[part(&[(Dtype::F32, 2)]), part(&[(Dtype::F32, 1)])]),
            None
        );
        let said = precision(&[
            part(&[(Dtype::F16, 2)]),
            part(&[(Dtype::F32, 1), (Dtype::BF16, 1)]),
        ]);
        let said = said.unwrap();
        assert!(
            said.contains("f32, f16, bf16, all of which are computed with in f32"),
            "{said}"
        );
    }
}
