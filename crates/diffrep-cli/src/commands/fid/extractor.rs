//! What makes features of images.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use diffrep_backbones::{Backbone, BackboneConfig, FidInput, InceptionV3, fid_input};
use diffrep_datasets::{Channels, Dataset, Fit, Image, Pixels, Preprocess, Split};
use diffrep_extract::{Batch, Extraction, Noise, Noising, Setting, Settings, Views, features};
use diffrep_fid::Source;
use diffrep_import::{load, load_backbone};
use diffrep_pool::PoolSize;
use diffrep_schedule::Schedule;
use diffrep_store::FeatureDtype;
use diffrep_taps::Encoder;
use diffrep_unet::{Kind, UNet};

use crate::commands::input::{preprocess_of, process_of, training_record};

/// A network whose features are compared.
#[allow(clippy::large_enum_variant, reason = "a process has one")]
pub(crate) enum Extractor {
    Inception {
        network: InceptionV3,
        how: FidInput,
        source: Source,
        device: Device,
    },
    Classifier {
        network: UNet,
        preprocess: Preprocess,
        schedule: Schedule,
        source: Source,
        device: Device,
    },
}

/// Features of some images, row after row.
pub(crate) struct Found {
    pub(crate) pool: Vec<f32>,
    pub(crate) spatial: Option<Vec<f32>>,
    pub(crate) probabilities: Option<Vec<f32>>,
}

impl Extractor {
    pub(crate) fn inception(path: &Path, how: FidInput, device: &Device) -> Result<Self> {
        let config =
            BackboneConfig::preset("fid_inception_v3").context("the Inception of FID is known")?;
        let imported = load_backbone(path, &config, device)?;
        let Backbone::Inception(network) = imported.network else {
            bail!("{} is not the Inception network of FID", path.display());
        };
        Ok(Self::Inception {
            network: network.packed(),
            how,
            source: Source {
                extractor: format!(
                    "Inception-v3 of FID, pool3, SHA-256 {}",
                    imported.sha256.short()
                ),
                resize: match how {
                    FidInput::PytorchFid => "bilinear to 299 as pytorch-fid".into(),
                    FidInput::TensorFlow => "bilinear to 299 as TensorFlow 1".into(),
                },
            },
            device: device.clone(),
        })
    }

    pub(crate) fn classifier(path: &Path, device: &Device) -> Result<Self> {
        let imported = load(path, None, device)?;
        let config = imported.network.config();
        ensure!(
            matches!(config.kind, Kind::Encoder(_)),
            "{} draws images and classifies none: give a classifier",
            path.display()
        );
        let record = training_record(&imported.metadata)?;
        let preprocess = preprocess_of(record.as_ref(), config, None)?;
        Ok(Self::Classifier {
            schedule: process_of(&imported.metadata, config)?.schedule()?,
            source: Source {
                extractor: format!(
                    "classifier {}, mean of its last map at t = 0",
                    imported.sha256.short()
                ),
                resize: format!("{:?} to {}", preprocess.fit, preprocess.size),
            },
            network: imported.network,
            preprocess,
            device: device.clone(),
        })
    }

    pub(crate) fn is_inception(&self) -> bool {
        matches!(self, Self::Inception { .. })
    }

    pub(crate) fn source(&self) -> Source {
        match self {
            Self::Inception { source, .. } | Self::Classifier { source, .. } => source.clone(),
        }
    }

    /// Features of images of equal size; `first` is the number of the first among all.
    pub(crate) fn read(&self, images: Vec<Image>, first: usize) -> Result<Found> {
        match self {
            Self::Inception {
                network,
                how,
                device,
                ..
            } => {
                let found = network.fid_features(fid_input(pixels(images, device)?, *how));
                let probabilities = network.score_probabilities(found.pool3.clone());
                Ok(Found {
                    pool: values(found.pool3),
                    spatial: Some(values(found.spatial)),
                    probabilities: Some(values(probabilities)),
                })
            }
            Self::Classifier {
                network,
                preprocess,
                schedule,
                device,
                ..
            } => {
                let dataset = in_memory(images, preprocess, first)?;
                let taps = network.taps();
                let last = taps.last().context("the classifier has no block")?;
                let setting = Setting {
                    t: Some(0),
                    block: last.block,
                    pool: PoolSize::new(1)?,
                };
                let settings = Settings::new([setting], &taps, schedule)?;
                let job = Extraction {
                    dataset: &dataset,
                    preprocess: Preprocess {
                        fit: Fit::Exact,
                        channels: match preprocess.channels {
                            Channels::GreyFromColour => Channels::Grey,
                            channels => channels,
                        },
                        ..*preprocess
                    },
                    schedule,
                    settings: &settings,
                    noising: Noising { seed: 0, draw: 0 },
                    noise: Noise::Seeded,
                    views: Views::default(),
                    flip: false,
                    encoder_hash: String::new(),
                    dtype: FeatureDtype::F32,
                    shard_rows: dataset.len(),
                    missing: serde_json::Value::Null,
                    batch: Batch::default(),
                    workers: 1,
                };
                let indices: Vec<usize> = (0..dataset.len()).collect();
                Ok(Found {
                    pool: features(network, &job, &indices, device)?.concat(),
                    spatial: None,
                    probabilities: None,
                })
            }
        }
    }
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    let data = tensor.into_data().convert::<f32>();
    data.try_into_vec().expect("features are f32")
}

/// Images as `[batch, 3, height, width]` from 0 to 255.
fn pixels(images: Vec<Image>, device: &Device) -> Result<Tensor<4>> {
    let first = images.first().context("there are no images")?;
    let (width, height, count) = (first.width(), first.height(), images.len());
    let mut all = Vec::with_capacity(count * 3 * width * height);
    for image in images {
        let colour = image.into_rgb();
        for channel in 0..3 {
            let plane = colour.pixels().iter().skip(channel).step_by(3);
            all.extend(plane.map(|sample| f32::from(*sample)));
        }
    }
    Ok(Tensor::from_data(
        TensorData::new(all, [count, 3, height, width]),
        device,
    ))
}

/// Images at the size of a network, with their numbers as ids.
fn in_memory(images: Vec<Image>, preprocess: &Preprocess, first: usize) -> Result<Dataset> {
    let count = images.len();
    let mut data = Vec::new();
    for image in &images {
        data.extend_from_slice(preprocess.apply(image)?.pixels());
    }
    Ok(Dataset::from_pixels(
        Split::Test,
        vec!["image".into()],
        vec![0; count],
        (first as u64..).take(count).collect(),
        Pixels {
            height: preprocess.size,
            width: preprocess.size,
            channels: preprocess.channels.count(),
            data,
        },
    ))
}
