use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::tensor::activation::softmax;
use burn::tensor::{Tensor, TensorData};
use clap::Args;
use diffrep_artifact::{Sha256Hex, read_bytes};
use diffrep_datasets::{Channels, Dataset, Fit, Image, Pixels, Preprocess, Split};
use diffrep_extract::{Extraction, Noising, Settings, features};
use diffrep_import::load;
use diffrep_probe::SavedHead;
use diffrep_report::{Cell, Column, Table, to_terminal_table};
use diffrep_schedule::Schedule;
use diffrep_store::FeatureDtype;
use diffrep_taps::Encoder;
use serde::Serialize;

use crate::device::DeviceSpec;
use crate::printer::Printer;

/// Classify images with a saved head.
///
/// Each image is noised to the head's timestep (the noise is a function of the file's content and
/// the head's seed), goes through the diffusion model up to the head's block, and the head gives the
/// probabilities.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep classify shoe.png --head runs/mini-quick/head.safetensors\n  \
    diffrep classify *.jpg --head head.safetensors --checkpoint model.safetensors --json")]
pub(crate) struct ClassifyArgs {
    /// PNG or JPEG files.
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// The head, as `reproduce` writes it.
    #[arg(long, default_value = "runs/mini-quick/head.safetensors")]
    head: PathBuf,
    /// The diffusion model that the head was trained on.
    #[arg(long, default_value = "fixtures/mini/model.safetensors")]
    checkpoint: PathBuf,
    /// How many classes are shown.
    #[arg(long, default_value_t = 5)]
    top: usize,
    /// Where to compute: flex, cuda:N, tch.
    #[arg(long, default_value = "flex")]
    device: DeviceSpec,
}

/// The classes of one image, most probable first.
#[derive(Debug, Serialize)]
struct Classified {
    image: PathBuf,
    top: Vec<Probability>,
}

#[derive(Debug, Serialize)]
struct Probability {
    class: String,
    probability: f64,
}

pub(crate) fn run(args: &ClassifyArgs, printer: Printer) -> Result<()> {
    let device = args.device.open()?;
    let saved = SavedHead::read(&args.head).with_context(|| {
        "no head to classify with (`diffrep reproduce --quick` makes one)".to_string()
    })?;
    let encoder = load(&args.checkpoint, None, &device)?;
    if encoder.sha256.as_str() != saved.info.encoder_sha256 {
        bail!(
            "{} is not the encoder of this head: its SHA-256 is {}, the head was trained on {}",
            args.checkpoint.display(),
            encoder.sha256.short(),
            saved.info.encoder_sha256.get(..12).unwrap_or_default()
        );
    }
    let schedule = Schedule::new(saved.info.schedule, saved.info.timesteps);
    let taps = encoder.network.taps();
    let settings = Settings::new([saved.info.setting], &taps, &schedule)?;
    let head = saved.head(&device)?;
    head.check(
        &taps[saved.info.setting.block.position()],
        saved.info.setting.pool,
    )?;

    let mut found = Vec::new();
    for path in &args.images {
        let (dataset, preprocess) = one_image(path, &saved.info.preprocess)?;
        let job = Extraction {
            dataset: &dataset,
            preprocess,
            schedule: &schedule,
            settings: &settings,
            noising: Noising {
                seed: saved.info.noise_seed,
                draw: 0,
            },
            encoder_hash: saved.info.encoder_sha256.clone(),
            dtype: FeatureDtype::F32,
            shard_rows: 1,
            workers: 1,
        };
        let columns = features(&encoder.network, &job, &[0], &device)?;
        let vector = columns
            .into_iter()
            .next()
            .context("one setting gives one column")?;
        let dim = vector.len();
        let x = Tensor::<2>::from_data(TensorData::new(vector, [1, dim]), &device);
        let chances: Vec<f32> = softmax(head.forward(x), 1)
            .into_data()
            .convert::<f32>()
            .try_into_vec()
            .map_err(|error| anyhow::anyhow!("the probabilities cannot be read: {error:?}"))?;
        let mut top: Vec<Probability> = saved
            .info
            .classes
            .iter()
            .zip(chances)
            .map(|(class, chance)| Probability {
                class: class.clone(),
                probability: f64::from(chance),
            })
            .collect();
        top.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        top.truncate(args.top);
        found.push(Classified {
            image: path.clone(),
            top,
        });
    }
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&found)?);
    } else {
        for classified in &found {
            printer.result(&table(classified));
        }
    }
    Ok(())
}

/// A data set of one image; its id, which names its noise, is the start of its file's hash.
fn one_image(path: &Path, preprocess: &Preprocess) -> Result<(Dataset, Preprocess)> {
    let bytes = read_bytes(path)?;
    let decoded = image::load_from_memory(&bytes).with_context(|| {
        format!(
            "{} is not an image that can be read (PNG and JPEG can)",
            path.display()
        )
    })?;
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    let grey = matches!(decoded.color().channel_count(), 1 | 2);
    let image = if grey {
        Image::new(width, height, 1, decoded.into_luma8().into_raw())
    } else {
        Image::new(width, height, 3, decoded.into_rgb8().into_raw())
    };
    let digest = Sha256Hex::hash_bytes(&bytes);
    let id = u64::from_str_radix(&digest.as_str()[..15], 16).unwrap_or(0);
    let channels = match (preprocess.channels, image.channels()) {
        (Channels::Rgb, _) => Channels::Rgb,
        (_, 1) => Channels::Grey,
        _ => Channels::GreyFromColour,
    };
    let fit = match preprocess.fit {
        Fit::PadTo if width.max(height) > preprocess.size => Fit::CenterCrop,
        fit => fit,
    };
    let pixels = Pixels {
        height,
        width,
        channels: image.channels(),
        data: image.pixels().to_vec(),
    };
    let dataset = Dataset::from_pixels(
        Split::Test,
        vec!["unknown".into()],
        vec![0],
        vec![id],
        pixels,
    );
    Ok((
        dataset,
        Preprocess {
            size: preprocess.size,
            channels,
            fit,
        },
    ))
}

fn table(classified: &Classified) -> String {
    let rows = classified
        .top
        .iter()
        .map(|p| {
            vec![
                Cell::text(p.class.clone()),
                Cell::number(p.probability * 100.0, 2),
            ]
        })
        .collect();
    to_terminal_table(&Table {
        caption: classified.image.display().to_string(),
        columns: vec![
            Column::text("class"),
            Column::number("probability").with_unit("%"),
        ],
        rows,
        highlight: Vec::new(),
    })
}
