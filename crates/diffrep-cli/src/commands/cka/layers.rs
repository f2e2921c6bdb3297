//! The layers that are compared: columns of a store, tensors of a safetensors file, or blocks of a
//! network on images.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Device;
use diffrep_datasets::{Dataset, Preprocess};
use diffrep_extract::{
    Batch, DRAW, Extraction, FLIP, Noise, Noising, Setting, Settings, Views, features,
};
use diffrep_import::{is_latent, load};
use diffrep_pool::PoolSize;
use diffrep_schedule::Schedule;
use diffrep_store::{FeatureDtype, Store};
use diffrep_taps::Encoder;
use half::{bf16, f16};
use ndarray::Array2;
use safetensors::{Dtype, SafeTensors};

use crate::commands::encoder::{AnyEncoder, LatentSettings, OpenLatent, up_to};
use crate::commands::input::{preprocess_of, process_of, training_record};
use crate::printer::Printer;

/// Images between two reports of progress.
const CHUNK: usize = 64;

/// Layers of one network, or of whatever made some features.
pub(super) struct Layers {
    /// Names, in order.
    pub(super) names: Vec<String>,
    /// How many samples each has.
    pub(super) samples: usize,
    /// Which samples, where that is known.
    ids: Option<Vec<u64>>,
    /// Draw and flip of each row, where a sample has several.
    views: [Option<Vec<i64>>; 2],
    values: Values,
}

#[allow(clippy::large_enum_variant, reason = "a comparison has two")]
enum Values {
    Stored(Store),
    Memory(Vec<Array2<f32>>),
}

/// Which images a network is run on, and how.
pub(super) struct OnImages<'a> {
    pub(super) dataset: &'a Dataset,
    pub(super) t: Option<usize>,
    pub(super) pool: usize,
    pub(super) seed: u64,
    /// Height and width of images for Stable Diffusion, and what it is told.
    pub(super) size: Option<usize>,
    pub(super) prompt: &'a str,
    pub(super) device: &'a Device,
}

/// A diffusion model, and how images reach it.
struct Open {
    network: AnyEncoder,
    preprocess: Preprocess,
    schedule: Schedule,
}

impl Layers {
    /// Opens a store, a file of features, or with images a checkpoint; `wanted` names the layers, all
    /// without it.
    pub(super) fn open(
        path: &Path,
        wanted: &[String],
        images: Option<&OnImages<'_>>,
        printer: Printer,
    ) -> Result<Self> {
        let described = ["config.json", "unet", "model_index.json"];
        let network = described.iter().any(|name| path.join(name).exists());
        match images {
            Some(images) if network || !path.is_dir() => images.layers(path, wanted, printer),
            None if network => bail!(
                "{} is a network: give --images to run it on",
                path.display()
            ),
            _ if path.is_dir() => Self::of_store(path, wanted),
            _ => Self::of_file(path, wanted),
        }
    }

    fn of_store(path: &Path, wanted: &[String]) -> Result<Self> {
        let store = Store::open(path)?;
        let several = |tag: &str| {
            let values = store.tag(tag).unwrap_or_default();
            values.windows(2).any(|pair| pair[0] != pair[1])
        };
        ensure!(
            !several(DRAW) && !several(FLIP),
            "{} has several rows of each image, which are no samples of their own: extract one, without --draws and \
             --flips",
            path.display()
        );
        let there: Vec<String> = store
            .spec()
            .columns
            .iter()
            .map(|c| c.name.clone())
            .collect();
        Ok(Self {
            names: chosen(path, &there, wanted)?,
            samples: store.len(),
            ids: Some(store.ids().to_vec()),
            views: [DRAW, FLIP].map(|tag| store.tag(tag).map(<[i64]>::to_vec)),
            values: Values::Stored(store),
        })
    }

    fn of_file(path: &Path, wanted: &[String]) -> Result<Self> {
        let bytes = diffrep_artifact::read_bytes(path)?;
        let file = SafeTensors::deserialize(&bytes)
            .with_context(|| format!("{} is no safetensors file", path.display()))?;
        let (_, header) = SafeTensors::read_metadata(&bytes)?;
        let described = header.metadata().as_ref();
        ensure!(
            !described.is_some_and(|texts| texts.contains_key("diffrep.arch")),
            "{} is a network: give --images to run it on",
            path.display()
        );
        let mut there: Vec<String> = file
            .iter()
            .filter(|(_, view)| view.shape().len() == 2 && is_float(view.dtype()))
            .map(|(name, _)| name.to_string())
            .collect();
        there.sort();
        ensure!(
            !there.is_empty(),
            "{} has no tensor of two axes (samples, features) in f16, bf16, f32 or f64: for a checkpoint give \
             --images too",
            path.display()
        );
        let names = chosen(path, &there, wanted)?;
        let values: Vec<Array2<f32>> = names
            .iter()
            .map(|name| read(&file, name).with_context(|| path.display().to_string()))
            .collect::<Result<_>>()?;
        let samples = values.first().map_or(0, |first| first.nrows());
        for (name, layer) in names.iter().zip(&values) {
            ensure!(
                layer.nrows() == samples,
                "{}: {name} has {} samples and {} has {samples}: choose layers with --key",
                path.display(),
                layer.nrows(),
                names[0]
            );
        }
        Ok(Self {
            names,
            samples,
            ids: None,
            views: [None, None],
            values: Values::Memory(values),
        })
    }

    /// That both have the same samples in the same order.
    pub(super) fn same_samples(&self, other: &Self) -> Result<()> {
        ensure!(
            self.samples == other.samples,
            "the first has {} samples and the second {}: both must be of the same images",
            self.samples,
            other.samples
        );
        if let (Some(ours), Some(theirs)) = (&self.ids, &other.ids) {
            ensure!(
                ours == theirs,
                "the two hold other images, or the same in another order"
            );
            ensure!(
                self.views == other.views,
                "the rows of an image are of other draws or flips in the two: extract both with the same \
                 --draws and --flips"
            );
        }
        Ok(())
    }

    /// Features of some samples, a matrix for each layer.
    pub(super) fn rows(&self, rows: Range<usize>) -> Result<Vec<Array2<f32>>> {
        match &self.values {
            Values::Memory(layers) => {
                let part =
                    |layer: &Array2<f32>| layer.slice(ndarray::s![rows.clone(), ..]).to_owned();
                Ok(layers.iter().map(part).collect())
            }
            Values::Stored(store) => {
                let indices: Vec<usize> = rows.collect();
                let layer = |name: &String| -> Result<Array2<f32>> {
                    let column = store.column(name)?;
                    let mut values = vec![0.0; indices.len() * column.dim()];
                    column.read_rows(&indices, &mut values)?;
                    Ok(Array2::from_shape_vec(
                        (indices.len(), column.dim()),
                        values,
                    )?)
                };
                self.names.iter().map(layer).collect()
            }
        }
    }
}

impl OnImages<'_> {
    fn open(&self, path: &Path, printer: Printer) -> Result<Open> {
        if is_latent(path) {
            let settings = LatentSettings {
                size: self.size,
                prompt: self.prompt,
                ..LatentSettings::default()
            };
            let open = OpenLatent::load(path, &settings, self.device)?;
            if let Some(sentence) = open.cut() {
                printer.say(&sentence);
            }
            return Ok(Open {
                network: AnyEncoder::Latent(open.network),
                preprocess: open.preprocess,
                schedule: open.schedule,
            });
        }
        let imported = load(path, None, self.device)?;
        let record = training_record(&imported.metadata)?;
        let config = imported.network.config();
        Ok(Open {
            preprocess: preprocess_of(record.as_ref(), config, None)?,
            schedule: process_of(&imported.metadata, config)?.schedule()?,
            network: AnyEncoder::Diffusion(imported.network),
        })
    }

    fn layers(&self, path: &Path, wanted: &[String], printer: Printer) -> Result<Layers> {
        ensure!(
            self.t.is_some(),
            "a diffusion model needs a timestep: give --t, 0 for almost no noise"
        );
        let Open {
            network,
            preprocess,
            schedule,
        } = self.open(path, printer)?;
        let taps = network.taps();
        let there: Vec<String> = taps
            .iter()
            .map(|tap| format!("block {}", tap.block))
            .collect();
        let names = chosen(path, &there, wanted)?;
        let mut read = Vec::new();
        for (_, tap) in there
            .iter()
            .zip(&taps)
            .filter(|(name, _)| names.contains(name))
        {
            let side = self.pool.min(tap.height).min(tap.width);
            read.push(Setting {
                t: self.t,
                block: tap.block,
                pool: PoolSize::new(side)?,
            });
        }
        let last = read.iter().map(|setting| setting.block).max();
        let last = last.context("there is no layer to read")?;
        let network = up_to(network, last);
        let blocks = Blocks {
            dataset: self.dataset,
            preprocess,
            schedule: &schedule,
            seed: self.seed,
            device: self.device,
        };
        let title = path.display().to_string();
        Ok(Layers {
            names,
            samples: self.dataset.len(),
            ids: Some(self.dataset.ids().to_vec()),
            views: [None, None],
            values: Values::Memory(blocks.read(&network, &read, &title, printer)?),
        })
    }
}

/// Images on their way through a network whose layers are compared.
#[derive(Clone, Copy)]
pub(crate) struct Blocks<'a> {
    pub(crate) dataset: &'a Dataset,
    pub(crate) preprocess: Preprocess,
    pub(crate) schedule: &'a Schedule,
    pub(crate) seed: u64,
    pub(crate) device: &'a Device,
}

impl Blocks<'_> {
    /// The features of every setting, in their order: `[images, features]` each.
    pub(crate) fn read<E: Encoder>(
        &self,
        encoder: &E,
        read: &[Setting],
        title: &str,
        printer: Printer,
    ) -> Result<Vec<Array2<f32>>> {
        let settings = Settings::new(read.iter().copied(), &encoder.taps(), self.schedule)?;
        let job = Extraction {
            dataset: self.dataset,
            preprocess: self.preprocess,
            schedule: self.schedule,
            settings: &settings,
            noising: Noising {
                seed: self.seed,
                draw: 0,
            },
            noise: Noise::Seeded,
            views: Views::default(),
            flip: false,
            encoder_hash: String::new(),
            dtype: FeatureDtype::F32,
            shard_rows: CHUNK,
            missing: serde_json::Value::Null,
            batch: Batch::default(),
            workers: 1,
        };
        let total = self.dataset.len();
        let mut progress = printer.progress(title, total as u64);
        let mut columns: Vec<Vec<f32>> = vec![Vec::new(); settings.columns().len()];
        let indices: Vec<usize> = (0..total).collect();
        for part in indices.chunks(CHUNK) {
            let found = features(encoder, &job, part, self.device)?;
            for (column, values) in columns.iter_mut().zip(found) {
                column.extend(values);
            }
            progress.at(part.last().map_or(0, |last| last + 1) as u64, "");
        }
        progress.finish();
        let matrices = settings.columns().iter().zip(columns);
        let matrices =
            matrices.map(|((_, dim), values)| Array2::from_shape_vec((total, *dim), values));
        Ok(matrices.collect::<Result<_, _>>()?)
    }
}

/// The layers asked for, in their order there.
fn chosen(path: &Path, there: &[String], wanted: &[String]) -> Result<Vec<String>> {
    for name in wanted {
        ensure!(
            there.contains(name),
            "{} has no layer {name}: it has {}",
            path.display(),
            there.join(", ")
        );
    }
    let taken = |name: &&String| wanted.is_empty() || wanted.contains(name);
    Ok(there.iter().filter(taken).cloned().collect())
}

fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64)
}

fn read(file: &SafeTensors<'_>, name: &str) -> Result<Array2<f32>> {
    let view = file.tensor(name)?;
    let &[rows, columns] = view.shape() else {
        bail!("{name} has {} axes", view.shape().len());
    };
    let bytes = view.data();
    let values: Vec<f32> = match view.dtype() {
        Dtype::F32 => words(bytes, f32::from_le_bytes),
        Dtype::F64 => words(bytes, |word| f64::from_le_bytes(word) as f32),
        Dtype::F16 => words(bytes, |word| f16::from_le_bytes(word).to_f32()),
        Dtype::BF16 => words(bytes, |word| bf16::from_le_bytes(word).to_f32()),
        other => bail!("{name} is of type {other:?}"),
    };
    Ok(Array2::from_shape_vec((rows, columns), values)?)
}

fn words<const N: usize>(bytes: &[u8], of: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (words, _) = bytes.as_chunks::<N>();
    words.iter().map(|word| of(*word)).collect()
}
