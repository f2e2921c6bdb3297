//! A small data set, a small network and a job on both.
#![allow(dead_code, reason = "each test uses some of these")]

use burn::tensor::Device;
use diffrep_datasets::{Channels, Dataset, Fit, Pixels, Preprocess, Split};
use diffrep_extract::{Batch, Extraction, Noise, Noising, Setting, Settings, Views};
use diffrep_schedule::Schedule;
use diffrep_store::FeatureDtype;
use diffrep_taps::Encoder;
use diffrep_unet::{UNet, UNetConfig, random_network};

pub(crate) const PREPROCESS: Preprocess = Preprocess {
    size: 32,
    channels: Channels::Grey,
    fit: Fit::PadTo,
};

/// Images of the training split.
pub(crate) fn dataset(images: usize) -> Dataset {
    dataset_of(Split::Train, images)
}

pub(crate) fn dataset_of(split: Split, images: usize) -> Dataset {
    let data = (0..images * 28 * 28).map(|i| (i * i % 251) as u8).collect();
    let labels = (0..images as u32).map(|i| i % 2).collect();
    let ids = (0..images as u64).map(|i| 1000 + i).collect();
    let names = vec!["even".into(), "odd".into()];
    Dataset::from_pixels(
        split,
        names,
        labels,
        ids,
        Pixels {
            height: 28,
            width: 28,
            channels: 1,
            data,
        },
    )
}

pub(crate) fn network() -> UNet {
    random_network(&UNetConfig::mini(), 1, &Device::flex()).unwrap()
}

pub(crate) fn settings(network: &UNet, schedule: &Schedule) -> Settings {
    let wanted: Vec<Setting> = [(10, 7, 4), (10, 9, 1), (100, 7, 8)]
        .into_iter()
        .map(|(t, block, pool)| {
            serde_json::from_value(serde_json::json!({"t": t, "block": block, "pool": pool}))
                .unwrap()
        })
        .collect();
    Settings::new(wanted, &network.taps(), schedule).unwrap()
}

pub(crate) fn job<'a>(
    dataset: &'a Dataset,
    settings: &'a Settings,
    schedule: &'a Schedule,
) -> Extraction<'a> {
    Extraction {
        dataset,
        preprocess: PREPROCESS,
        schedule,
        settings,
        noising: Noising { seed: 3, draw: 0 },
        noise: Noise::Seeded,
        views: Views::default(),
        flip: false,
        encoder_hash: "test".into(),
        dtype: FeatureDtype::F32,
        shard_rows: 10,
        missing: serde_json::Value::Null,
        batch: Batch::default(),
        workers: 2,
    }
}

pub(crate) fn bits(columns: &[Vec<f32>]) -> Vec<Vec<u32>> {
    columns
        .iter()
        .map(|column| column.iter().map(|v| v.to_bits()).collect())
        .collect()
}
