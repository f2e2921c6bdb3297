use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use diffrep_artifact::{Sha256Hex, read_bytes, write_bytes_atomic};
use diffrep_datasets::{Crop, Draw, Image, Normalise, Transform, decode, to_unit_range};
use safetensors::tensor::{Dtype, TensorView};

use crate::printer::Printer;

/// Fractions of the image's short side between which the reference's random crop draws
/// (`random_crop_arr` of guided_diffusion/image_datasets.py).
const FRACTIONS: [f64; 2] = [0.8, 1.0];

/// Write exactly what a network would see of some images: to check parity, and for curiosity.
///
/// The file holds a tensor for each image, named like the image without its extension: u8
/// `[size, size, 3]`, or with --float the network's input, f32 `[3, size, size]` between -1 and 1.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep preprocess cat.jpg --size 256 --out cat.safetensors\n  \
    diffrep preprocess *.JPEG --crop random --seed 1 --epoch 3 --float --out inputs.safetensors\n  \
    diffrep preprocess shoe.png --crop none --out shoe.safetensors")]
pub(crate) struct PreprocessArgs {
    /// PNG or JPEG files.
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// How images are brought to the size: the reference's centre crop, its random crop, or not at
    /// all.
    #[arg(long, default_value = "center")]
    crop: CropArg,
    /// Height and width of a crop.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=16384))]
    size: u64,
    /// Mirror images left to right.
    #[arg(long)]
    flip: bool,
    /// Names the random crop, with the epoch and the content of the file.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Which pass over the images a random crop is of.
    #[arg(long, default_value_t = 0)]
    epoch: u32,
    /// Write the values that the network reads instead of bytes.
    #[arg(long)]
    float: bool,
    /// The safetensors file to write.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CropArg {
    Center,
    Random,
    None,
}

pub(crate) fn run(args: &PreprocessArgs, printer: Printer) -> Result<()> {
    // A slip of the hand must not replace an image.
    ensure!(
        args.out.extension().is_some_and(|end| end == "safetensors"),
        "{} does not end in .safetensors, which is what --out becomes",
        args.out.display()
    );
    let mut pictures = BTreeMap::new();
    for path in &args.images {
        let name = stem(path)?;
        let picture = fit(args, path)?;
        if pictures.insert(name.clone(), picture).is_some() {
            bail!("two images are called `{name}`, and a tensor is named like its image");
        }
    }
    write(args, &pictures)?;
    let shapes: BTreeMap<&str, [usize; 3]> = pictures
        .iter()
        .map(|(name, picture)| (name.as_str(), shape(picture, args.float)))
        .collect();
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&serde_json::json!({
            "out": args.out,
            "dtype": if args.float { "f32" } else { "u8" },
            "tensors": shapes,
        }))?);
    } else {
        for (name, shape) in shapes {
            printer.result(&format!("{name}: {shape:?}"));
        }
    }
    Ok(())
}

fn stem(path: &Path) -> Result<String> {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    // The format keeps this name for itself.
    Ok(stem
        .filter(|stem| *stem != "__metadata__")
        .with_context(|| format!("{} has no name that a tensor can have", path.display()))?
        .to_owned())
}

/// The picture of three channels that the network would see.
fn fit(args: &PreprocessArgs, path: &Path) -> Result<Image> {
    let bytes = read_bytes(path)?;
    let image = decode(path, &bytes)?.to_rgb();
    let crop = match args.crop {
        CropArg::None if args.flip => return Ok(image.flipped()),
        CropArg::None => return Ok(image),
        CropArg::Center => Crop::Center,
        CropArg::Random => Crop::Random {
            fractions: FRACTIONS,
        },
    };
    let transform = Transform {
        size: args.size as usize,
        crop,
        flip: f64::from(u8::from(args.flip)),
        normalise: Normalise::UnitRange,
    };
    // As `classify` names images.
    let digest = Sha256Hex::hash_bytes(&bytes);
    let draw = Draw {
        seed: args.seed,
        sample: u64::from_str_radix(&digest.as_str()[..15], 16)?,
        epoch: args.epoch,
    };
    Ok(transform.apply(&image, draw))
}

fn shape(picture: &Image, float: bool) -> [usize; 3] {
    let (height, width, channels) = (picture.height(), picture.width(), picture.channels());
    match float {
        true => [channels, height, width],
        false => [height, width, channels],
    }
}

fn write(args: &PreprocessArgs, pictures: &BTreeMap<String, Image>) -> Result<()> {
    let values: Vec<(&str, Dtype, [usize; 3], Vec<u8>)> = pictures
        .iter()
        .map(|(name, picture)| {
            let shape = shape(picture, args.float);
            match args.float {
                true => (name.as_str(), Dtype::F32, shape, floats(picture)),
                false => (name.as_str(), Dtype::U8, shape, picture.pixels().to_vec()),
            }
        })
        .collect();
    let views = values
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            Ok((*name, TensorView::new(*dtype, shape.to_vec(), bytes)?))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(write_bytes_atomic(
        &args.out,
        &safetensors::serialize(views, None)?,
    )?)
}

/// Planes of values between -1 and 1, little-endian.
fn floats(picture: &Image) -> Vec<u8> {
    let channels = picture.channels();
    (0..channels)
        .flat_map(|channel| picture.pixels().iter().skip(channel).step_by(channels))
        .flat_map(|&sample| to_unit_range(sample).to_le_bytes())
        .collect()
}
