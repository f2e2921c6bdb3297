//! The key of a step names all that its result depends on.

use std::path::Path;

use burn::tensor::Device;
use diffrep_datasets::{Channels, Dataset, Fit, Pixels, Preprocess, Split};
use diffrep_probe::{Recipe, Search, Splits, Study, Subject};
use diffrep_schedule::Schedule;
use diffrep_unet::{UNet, UNetConfig, random_network};

fn dataset(split: Split) -> Dataset {
    let pixels = Pixels {
        height: 28,
        width: 28,
        channels: 1,
        data: vec![7; 2 * 28 * 28],
    };
    let names = vec!["even".into(), "odd".into()];
    Dataset::from_pixels(split, names, vec![0, 1], vec![1, 2], pixels)
}

/// Schedules that begin alike and have as many timesteps are still several.
#[test]
fn steps_of_two_schedules_have_two_keys() {
    let device = Device::flex();
    let network = random_network(&UNetConfig::mini(), 1, &device).unwrap();
    let splits = Splits {
        train: dataset(Split::Train),
        validation: dataset(Split::Validation),
        test: dataset(Split::Test),
    };
    let keys = |schedule: &Schedule| {
        let study = Study {
            dir: Path::new("runs"),
            preprocess: Preprocess {
                size: 32,
                channels: Channels::Grey,
                fit: Fit::PadTo,
            },
            schedule,
            device: &device,
            workers: 1,
        };
        let subject: Subject<'_, UNet> = Subject {
            name: "network".into(),
            encoder: &network,
            hash: "hash".into(),
        };
        let recipe = Recipe::named("paper").unwrap();
        let classifier = study.classifier_key(&subject, &splits, 10, 0).unwrap();
        let select = study
            .select_key(&subject, &splits, [1, 1], &[], Search::Grid, &recipe, 0)
            .unwrap();
        [classifier.key, select.key]
    };
    let plain = Schedule::linear(1000);
    let mut bent = plain.clone();
    bent.betas[500] *= 1.5;
    let mut scaled = plain.clone();
    scaled.timestep_scale = 0.25;
    assert_eq!(keys(&plain), keys(&plain.clone()));
    for (name, other) in [("betas", bent), ("timestep_scale", scaled)] {
        for (one, another) in keys(&plain).into_iter().zip(keys(&other)) {
            assert_ne!(one, another, "{name}");
        }
    }
}
