//! A feature is a function of the image, the setting and the seed: not of the batch, the threads,
//! the shards or a kill in the middle.

mod common;

use std::num::NonZeroUsize;
use std::path::Path;

use burn::tensor::Device;
use diffrep_datasets::Split;
use diffrep_extract::{Batch, Extraction, Noising, Setting, Settings, features};
use diffrep_schedule::Schedule;
use diffrep_store::Store;
use diffrep_taps::{Encoder, TapSet};
use diffrep_unet::{UNetConfig, blocks_evaluated, random_network};

use common::{bits, dataset, dataset_of, job, network, settings};

#[test]
fn any_batch_and_any_number_of_threads_give_the_same_bits() {
    let (network, schedule, dataset) = (network(), Schedule::linear(1000), dataset(64));
    let settings = settings(&network, &schedule);
    let job = job(&dataset, &settings, &schedule);
    let device = Device::flex();
    let all: Vec<usize> = (0..64).collect();
    let whole = features(&network, &job, &all, &device).unwrap();
    for batch in [1, 7, 64] {
        let mut joined: Vec<Vec<f32>> = vec![Vec::new(); whole.len()];
        for part in all.chunks(batch) {
            for (joined, part) in joined
                .iter_mut()
                .zip(features(&network, &job, part, &device).unwrap())
            {
                joined.extend(part);
            }
        }
        assert_eq!(bits(&joined), bits(&whole), "batches of {batch}");
    }
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let found = pool.install(|| features(&network, &job, &all, &device).unwrap());
        assert_eq!(bits(&found), bits(&whole), "{threads} threads");
    }
}

/// A batch that the rows do not fill is filled up, so that every batch of a job has one shape; and of whatever
/// shape it is, the bits are the same.
#[test]
fn a_batch_of_any_shape_gives_the_same_bits() {
    let (mini, schedule, dataset) = (network(), Schedule::linear(1000), dataset(23));
    // Frozen networks are packed for extraction, which from 128 channels on brings in other kernels.
    let wide = UNetConfig {
        image_size: 32,
        in_channels: 1,
        model_channels: 128,
        num_res_blocks: 1,
        channel_mult: vec![1.0, 1.0],
        attention_resolutions: vec![2],
        ..UNetConfig::adm_256_uncond()
    };
    let wide = random_network(&wide, 0, &Device::flex()).unwrap().packed();
    let cases = [
        (mini.clone(), 23, &[1, 2, 5, 23, 40][..]),
        (mini.packed(), 23, &[1, 2, 5, 23, 40]),
        (wide, 7, &[1, 3, 7]),
    ];
    for (network, rows, shapes) in cases {
        let settings = settings(&network, &schedule);
        let usual = job(&dataset, &settings, &schedule);
        let device = Device::flex();
        let rows: Vec<usize> = (0..rows).collect();
        let whole = features(&network, &usual, &rows, &device).unwrap();
        for &shape in shapes {
            let job = Extraction {
                batch: Batch {
                    rows: NonZeroUsize::new(shape),
                    ..Batch::default()
                },
                ..usual.clone()
            };
            let found = features(&network, &job, &rows, &device).unwrap();
            assert_eq!(bits(&found), bits(&whole), "batches of {shape}");
            assert_eq!(
                job.store_spec().unwrap(),
                usual.store_spec().unwrap(),
                "a store begun with another batch goes on"
            );
        }
    }
}

#[test]
fn a_killed_job_goes_on_to_the_same_bytes() {
    let (network, schedule, dataset) = (network(), Schedule::linear(1000), dataset(35));
    let settings = settings(&network, &schedule);
    let job = job(&dataset, &settings, &schedule);
    let device = Device::flex();
    let dir = tempfile::tempdir().unwrap();
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    job.run(&network, &whole, &device, |_, _| {}).unwrap();
    // The process "dies" after the second of four shards: a panic unwinds out of the job.
    let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = job.run(&network, &cut, &device, |done, _| {
            assert!(done <= 20, "killed")
        });
    }));
    assert!(died.is_err());
    let mut resumed = Vec::new();
    job.run(&network, &cut, &device, |done, total| {
        resumed.push((done, total))
    })
    .unwrap();
    assert_eq!(
        resumed.first(),
        Some(&(30, 35)),
        "only what is missing is computed"
    );
    let shard = |dir: &Path, i: usize| {
        std::fs::read(dir.join(format!("shard-{i:05}.safetensors"))).unwrap()
    };
    for i in 0..4 {
        assert_eq!(shard(&whole, i), shard(&cut, i), "shard {i}");
    }
    let store = Store::open(&whole).unwrap();
    assert_eq!(store.ids(), (1000..1035).collect::<Vec<u64>>());
    // f32 storage keeps the bits of the features themselves.
    let direct = features(&network, &job, &[34], &device).unwrap();
    let column = store.column("t10_b07_p4").unwrap();
    let mut row = vec![0.0; column.dim()];
    column.read_rows(&[34], &mut row).unwrap();
    assert_eq!(bits(&[row]), bits(&direct[..1]));
}

/// Else what one experiment stores could not serve another that asks for less.
#[test]
fn a_column_alone_has_the_bits_that_it_has_beside_others() {
    let (network, schedule, dataset) = (network(), Schedule::linear(1000), dataset(5));
    let wanted = |pools: &[usize]| {
        let wanted = pools.iter().map(|pool| {
            let setting = serde_json::json!({"t": 10, "block": 7, "pool": pool});
            serde_json::from_value::<Setting>(setting).unwrap()
        });
        Settings::new(wanted, &network.taps(), &schedule).unwrap()
    };
    let rows: Vec<usize> = (0..5).collect();
    let columns = |settings: &Settings| {
        let job = job(&dataset, settings, &schedule);
        let found = features(&network, &job, &rows, &Device::flex()).unwrap();
        let names = settings.columns().iter().map(|(setting, _)| *setting);
        names.zip(bits(&found)).collect::<Vec<_>>()
    };
    for (setting, beside) in columns(&wanted(&[1, 2, 3, 4, 8])) {
        let alone = columns(&wanted(&[setting.pool.get()])).remove(0);
        assert_eq!(alone.1, beside, "pool {}", setting.pool);
    }
}

/// Shared noise would let a probe recognise an image's noise from training: on random pixels in
/// class folders whose splits bear the same file names, it would score 100 %.
#[test]
fn images_of_two_splits_share_no_noise() {
    let (network, schedule) = (network(), Schedule::linear(1000));
    let settings = settings(&network, &schedule);
    let found = [Split::Train, Split::Validation, Split::Test].map(|split| {
        let dataset = dataset_of(split, 2);
        let job = job(&dataset, &settings, &schedule);
        bits(&features(&network, &job, &[0, 1], &Device::flex()).unwrap())
    });
    assert_ne!(found[0], found[1]);
    assert_ne!(found[0], found[2]);
    assert_ne!(found[1], found[2]);
}

#[test]
fn nothing_past_the_last_block_is_computed() {
    let (network, schedule, dataset) = (network(), Schedule::linear(1000), dataset(3));
    let settings = settings(&network, &schedule);
    let job = job(&dataset, &settings, &schedule);
    let before = blocks_evaluated();
    features(&network, &job, &[0, 1, 2], &Device::flex()).unwrap();
    // One forward to block 9 at t = 10 and one to block 7 at t = 100.
    assert_eq!(blocks_evaluated() - before, 9 + 7);
    assert_eq!(TapSet::all(&network.taps()).unwrap().last().get(), 13);
}

#[test]
fn a_setting_out_of_range_names_the_range() {
    let (network, schedule) = (network(), Schedule::linear(1000));
    let refuse = |t: usize, block: usize, pool: usize| {
        let setting: Setting =
            serde_json::from_value(serde_json::json!({"t": t, "block": block, "pool": pool}))
                .unwrap();
        Settings::new([setting], &network.taps(), &schedule)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refuse(1000, 7, 1),
        "timestep 1000 is out of range: this schedule has timesteps 0..=999"
    );
    assert_eq!(
        refuse(10, 14, 1),
        "block 14 does not exist: this network has blocks 1..=13"
    );
    assert_eq!(
        refuse(10, 7, 9),
        "pool 9 is larger than the map of block 7, which is 8 x 8: choose 1..=8"
    );
    let none: [Setting; 0] = [];
    assert!(
        Settings::new(none, &network.taps(), &schedule)
            .unwrap_err()
            .to_string()
            .contains("no block")
    );
}

#[test]
fn a_folder_with_another_run_is_refused() {
    let (network, schedule, dataset) = (network(), Schedule::linear(1000), dataset(5));
    let settings = settings(&network, &schedule);
    let first = job(&dataset, &settings, &schedule);
    let other = Extraction {
        noising: Noising { seed: 4, draw: 0 },
        flip: false,
        ..first.clone()
    };
    let dir = tempfile::tempdir().unwrap();
    let device = Device::flex();
    first.run(&network, dir.path(), &device, |_, _| {}).unwrap();
    let error = other
        .run(&network, dir.path(), &device, |_, _| {})
        .unwrap_err()
        .to_string();
    assert!(error.contains(&dir.path().display().to_string()), "{error}");
}

#[test]
fn a_half_done_store_goes_when_others_have_its_columns() {
    let (network, schedule, dataset) = (network(), Schedule::linear(1000), dataset(25));
    let device = Device::flex();
    let dir = tempfile::tempdir().unwrap();
    let wanted = |wanted: &[(usize, usize, usize)]| {
        let wanted = wanted.iter().map(|(t, block, pool)| {
            let setting = serde_json::json!({"t": t, "block": block, "pool": pool});
            serde_json::from_value::<Setting>(setting).unwrap()
        });
        Settings::new(wanted, &network.taps(), &schedule).unwrap()
    };
    let (one, both) = (wanted(&[(10, 5, 2)]), wanted(&[(10, 5, 2), (10, 4, 1)]));
    let gather = |settings: &Settings| {
        let job = job(&dataset, settings, &schedule);
        job.gather(&network, dir.path(), &device, |_, _| {})
            .unwrap();
    };
    let stores = || -> Vec<std::path::PathBuf> {
        let images = std::fs::read_dir(dir.path())
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        let stores = std::fs::read_dir(images.path()).unwrap();
        stores.map(|entry| entry.unwrap().path()).collect()
    };
    // A job for both columns is stopped after its first shard.
    gather(&both);
    let half = stores().pop().unwrap();
    std::fs::remove_file(half.join("shard-00001.safetensors")).unwrap();
    // Another computes one of them: the other is still to come from the first job.
    gather(&one);
    assert_eq!(stores().len(), 2);
    // The first job comes back, lacks one column, and leaves nothing of its first try.
    gather(&both);
    assert_eq!(stores().len(), 2);
    assert!(!half.exists());
    for store in stores() {
        Store::open(store).unwrap();
    }
}

#[test]
fn jobs_share_the_columns_that_both_ask_for() {
    let (network, schedule, dataset) = (network(), Schedule::linear(1000), dataset(5));
    let device = Device::flex();
    let dir = tempfile::tempdir().unwrap();
    // Blocks computed for these settings, once each column is compared with what a job of its own gives.
    let gather = |wanted: &[(usize, usize, usize)], seed: u64| {
        let wanted = wanted.iter().map(|(t, block, pool)| {
            let setting = serde_json::json!({"t": t, "block": block, "pool": pool});
            serde_json::from_value::<Setting>(setting).unwrap()
        });
        let settings = Settings::new(wanted, &network.taps(), &schedule).unwrap();
        let job = Extraction {
            noising: Noising { seed, draw: 0 },
            // On this thread, which counts.
            workers: 1,
            ..job(&dataset, &settings, &schedule)
        };
        let before = blocks_evaluated();
        let gathered = job
            .gather(&network, dir.path(), &device, |_, _| {})
            .unwrap();
        let computed = blocks_evaluated() - before;
        let all: Vec<usize> = (0..dataset.len()).collect();
        let direct = features(&network, &job, &all, &device).unwrap();
        for ((setting, _), direct) in settings.columns().iter().zip(direct) {
            let column = setting.column();
            let store = gathered.store(&column).unwrap();
            let found = store.column(&column).unwrap().to_f32();
            assert_eq!(bits(&[found]), bits(&[direct]), "{column}");
        }
        computed
    };
    assert_eq!(gather(&[(10, 7, 4), (10, 5, 2), (100, 7, 8)], 3), 7 + 7);
    assert_eq!(gather(&[(10, 7, 4), (100, 7, 8)], 3), 0, "all is there");
    assert_eq!(gather(&[(10, 7, 4), (10, 6, 1), (100, 7, 8)], 3), 6);
    assert_eq!(
        gather(&[(10, 6, 1), (10, 5, 2), (200, 2, 1)], 3),
        2,
        "from two stores"
    );
    assert_eq!(gather(&[(10, 7, 4)], 4), 7, "another noise");
}
