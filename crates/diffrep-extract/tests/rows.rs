//! Several rows of an image, and noise that is not drawn: each row is what a job for it alone gives.

mod common;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use diffrep_extract::{
    DRAW, Extraction, FLIP, Noise, NoiseFile, Noising, Setting, Settings, Views, features,
};
use diffrep_schedule::Schedule;
use diffrep_store::Store;
use diffrep_taps::Encoder;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use common::{bits, dataset, job, network, settings};

const COLUMN: &str = "t10_b07_p4";

fn views(draws: u32, flips: bool) -> Views {
    let draws = NonZeroU32::new(draws).unwrap();
    Views { draws, flips }
}

#[test]
fn every_row_has_the_bits_of_a_job_for_its_draw_and_side() {
    let (network, schedule, dataset) = (network(), Schedule::linear(1000), dataset(9));
    let settings = settings(&network, &schedule);
    let device = Device::flex();
    let plain = job(&dataset, &settings, &schedule);
    let many = Extraction {
        views: views(2, true),
        ..plain.clone()
    };
    let dir = tempfile::tempdir().unwrap();
    let told = std::cell::RefCell::new(Vec::new());
    many.run(&network, dir.path(), &device, |done, of| {
        told.borrow_mut().push((done, of));
    })
    .unwrap();
    assert_eq!(told.borrow().last(), Some(&(36, 36)));
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.len(), 9 * 4);
    let column = store.column(COLUMN).unwrap();
    let all: Vec<usize> = (0..9).collect();
    for (view, (draw, flip)) in [(0, false), (0, true), (1, false), (1, true)]
        .into_iter()
        .enumerate()
    {
        let alone = Extraction {
            noising: Noising { seed: 3, draw },
            flip,
            ..plain.clone()
        };
        let expected = features(&network, &alone, &all, &device).unwrap().remove(0);
        let rows: Vec<usize> = (0..9).map(|image| image * 4 + view).collect();
        let mut found = vec![0.0; expected.len()];
        column.read_rows(&rows, &mut found).unwrap();
        assert_eq!(
            bits(&[found]),
            bits(&[expected]),
            "draw {draw}, flip {flip}"
        );
        for &row in &rows {
            assert_eq!(store.tag(DRAW).unwrap()[row], i64::from(draw));
            assert_eq!(store.tag(FLIP).unwrap()[row], i64::from(flip));
            assert_eq!(store.ids()[row], 1000 + row as u64 / 4);
            assert_eq!(store.labels()[row], row as i64 / 4 % 2);
        }
    }
    assert_eq!(
        store.spec().info["rows"],
        serde_json::json!({"draws": 2, "flips": true})
    );
    // Without several rows the store is as it always was.
    let spec = plain.store_spec().unwrap();
    assert!(spec.tags.is_empty() && spec.info.get("rows").is_none() && spec.samples == 9);
    // The package of Python reads the tags as it reads the labels.
    let bytes = std::fs::read(dir.path().join("shard-00000.safetensors")).unwrap();
    let shard = SafeTensors::deserialize(&bytes).unwrap();
    let flips = shard.tensor(FLIP).unwrap();
    assert_eq!((flips.dtype(), flips.shape()), (Dtype::I64, &[10][..]));
}

#[test]
fn a_killed_job_for_several_rows_goes_on_to_the_same_bytes() {
    let (network, schedule, dataset) = (network(), Schedule::linear(1000), dataset(9));
    let settings = settings(&network, &schedule);
    let device = Device::flex();
    let job = Extraction {
        views: views(3, false),
        ..job(&dataset, &settings, &schedule)
    };
    let dir = tempfile::tempdir().unwrap();
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    job.run(&network, &whole, &device, |_, _| {}).unwrap();
    let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = job.run(&network, &cut, &device, |done, _| {
            assert!(done <= 10, "killed")
        });
    }));
    assert!(died.is_err());
    let place = "0/1".parse().unwrap();
    let left = job.run_as(&place, &network, &cut, &device, |_, _| {});
    assert_eq!(left.unwrap(), 0);
    let shard = |dir: &Path, i: usize| {
        std::fs::read(dir.join(format!("shard-{i:05}.safetensors"))).unwrap()
    };
    for i in 0..3 {
        assert_eq!(shard(&whole, i), shard(&cut, i), "shard {i}");
    }
    // A job for other rows is another one.
    let other = Extraction {
        views: views(2, false),
        ..job.clone()
    };
    let error = other.run(&network, &cut, &device, |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("`rows`"), "{error}");
}

#[test]
fn jobs_for_the_same_rows_share_columns() {
    let (network, schedule, dataset) = (network(), Schedule::linear(1000), dataset(3));
    let device = Device::flex();
    let dir = tempfile::tempdir().unwrap();
    let gather = |wanted: &[(usize, usize)], views: Views| -> (usize, Vec<usize>) {
        let wanted = wanted.iter().map(|(t, block)| {
            let setting = serde_json::json!({"t": t, "block": block, "pool": 1});
            serde_json::from_value::<Setting>(setting).unwrap()
        });
        let settings = Settings::new(wanted, &network.taps(), &schedule).unwrap();
        let mut done = 0;
        let job = Extraction {
            views,
            ..job(&dataset, &settings, &schedule)
        };
        let gathered = job.gather(&network, dir.path(), &device, |rows, _| done = rows);
        let stores = gathered.unwrap();
        (done, stores.stores().iter().map(Store::len).collect())
    };
    let two = views(2, false);
    assert_eq!(gather(&[(10, 4), (10, 5)], two), (6, vec![6]));
    assert_eq!(gather(&[(10, 5)], two), (0, vec![6]), "all is there");
    assert_eq!(gather(&[(10, 5), (10, 6)], two), (6, vec![6, 6]));
    assert_eq!(gather(&[(10, 5)], Views::default()), (3, vec![3]));
}

/// Writes a tensor of noise.
fn written(dir: &Path, name: &str, shape: [usize; 4], values: &[f32]) -> PathBuf {
    let path = dir.join("noise.safetensors");
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, shape.to_vec(), &bytes).unwrap();
    std::fs::write(&path, safetensors::serialize([(name, view)], None).unwrap()).unwrap();
    path
}

#[test]
fn given_noise_is_what_the_network_sees() {
    let (network, schedule, dataset) = (network(), Schedule::linear(1000), dataset(3));
    let settings = settings(&network, &schedule);
    let device = Device::flex();
    let drawn = Extraction {
        views: views(2, false),
        ..job(&dataset, &settings, &schedule)
    };
    let rows: Vec<usize> = (0..6).collect();
    let column = |job: &Extraction<'_>| {
        let first = features(&network, job, &rows, &device).unwrap().remove(0);
        bits(&[first])
    };
    // What the seed draws at t = 10, written to a file, gives the same features there.
    let mut values = vec![0.0f32; 6 * 32 * 32];
    for (row, values) in values.chunks_mut(32 * 32).enumerate() {
        diffrep_rng::Key::new(3, diffrep_rng::Stream::Noise)
            .sample(dataset.noise_id(row / 2))
            .draw(row as u32 % 2)
            .t(10)
            .fill_normal(values);
    }
    let dir = tempfile::tempdir().unwrap();
    let file = NoiseFile::open(&written(dir.path(), "noise", [6, 1, 32, 32], &values)).unwrap();
    let given = Extraction {
        noise: Noise::Given(&file),
        ..drawn.clone()
    };
    assert_eq!(column(&given), column(&drawn));
    // Zeros in a file are no noise, and neither is drawn noise.
    let zeros = vec![0.0; values.len()];
    let file = NoiseFile::open(&written(dir.path(), "noise", [6, 1, 32, 32], &zeros)).unwrap();
    let zero = Extraction {
        noise: Noise::Given(&file),
        ..drawn.clone()
    };
    let none = Extraction {
        noise: Noise::Zero,
        ..drawn.clone()
    };
    assert_eq!(column(&zero), column(&none));
    assert_ne!(column(&none), column(&drawn));
    // Each is a job of its own.
    let key = |job: &Extraction<'_>| job.store_spec().unwrap().key;
    let keys = [key(&drawn), key(&given), key(&zero), key(&none)];
    let distinct: std::collections::BTreeSet<&String> = keys.iter().collect();
    assert_eq!(distinct.len(), 4);
}

#[test]
fn noise_that_does_not_fit_is_refused() {
    let (network, schedule, dataset) = (network(), Schedule::linear(1000), dataset(3));
    let settings = settings(&network, &schedule);
    let plain = job(&dataset, &settings, &schedule);
    let dir = tempfile::tempdir().unwrap();
    let refused = |name: &str, shape: [usize; 4], first: f32| {
        let mut values = vec![0.0; shape.iter().product()];
        values[0] = first;
        let path = written(dir.path(), name, shape, &values);
        let file = match NoiseFile::open(&path) {
            Ok(file) => file,
            Err(error) => return error.to_string(),
        };
        let job = Extraction {
            noise: Noise::Given(&file),
            ..plain.clone()
        };
        let error = features(&network, &job, &[0, 1, 2], &Device::flex()).unwrap_err();
        error.to_string()
    };
    for (name, shape, first, words) in [
        ("x", [3, 1, 32, 32], 0.0, "no tensor `noise`, but `x`"),
        (
            "noise",
            [2, 1, 32, 32],
            0.0,
            "for 2 rows where there are 3 images",
        ),
        (
            "noise",
            [3, 3, 32, 32],
            0.0,
            "shape [3, 32, 32] where the network takes [1, 32, 32]",
        ),
        (
            "noise",
            [3, 1, 32, 32],
            f32::NAN,
            "row 0 has a value that is not finite",
        ),
    ] {
        let error = refused(name, shape, first);
        assert!(error.contains(words), "{error}");
    }
}
