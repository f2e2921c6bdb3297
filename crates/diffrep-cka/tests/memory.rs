//! What a comparison takes, counted by the allocator, against what was predicted.
#![allow(
    unsafe_code,
    reason = "an allocator that counts is the only way to know"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use diffrep_cka::*;
use ndarray::Array2;

struct Counting;

static NOW: AtomicU64 = AtomicU64::new(0);
static MOST: AtomicU64 = AtomicU64::new(0);

/// Whole pages are the room that `faer` keeps in each thread for its products, which is not predicted.
fn counted(layout: Layout) -> u64 {
    if layout.align() >= 4096 {
        0
    } else {
        layout.size() as u64
    }
}

// SAFETY: everything is handed on to the system's allocator; only sizes are noted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let size = counted(layout);
        let now = NOW.fetch_add(size, Ordering::Relaxed) + size;
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promise is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(counted(layout), Ordering::Relaxed);
        // SAFETY: the caller's promise is the system allocator's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How many bytes more than before were held at the worst moment.
fn most(act: impl FnOnce()) -> u64 {
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    act();
    MOST.load(Ordering::Relaxed) - before
}

fn features(rows: usize, columns: usize, seed: usize) -> Array2<f32> {
    Array2::from_shape_fn((rows, columns), |(i, j)| {
        ((i * i + 31 * j * (seed + 1)) as f32).sin()
    })
}

/// One test, because the counts of two at a time would mix.
#[test]
fn peak_memory_is_below_the_prediction_and_near_it() {
    for (layers, rows, columns) in [
        (6, 1500, 50),
        (37, 300, 400),
        (2, 2000, 700),
        (12, 64, 3000),
    ] {
        let features: Vec<_> = (0..layers)
            .map(|seed| features(rows, columns, seed))
            .collect();
        let named: Vec<Layer<'_>> = features
            .iter()
            .map(|layer| Layer::new("layer", layer.view()))
            .collect();
        let widths = vec![columns; layers];
        for estimator in [
            Estimator::Biased,
            Estimator::Unbiased,
            Estimator::Minibatch { rows: 256 },
        ] {
            for precision in [Precision::Double, Precision::Single] {
                for (kernel, path) in [
                    (Kernel::Linear, Path::Gram),
                    (Kernel::Linear, Path::Covariance),
                    (Kernel::Rbf { fraction: 0.5 }, Path::Auto),
                ] {
                    let options = Options {
                        estimator,
                        kernel,
                        path,
                        precision,
                    };
                    if path == Path::Covariance && layers * columns > 10_000 {
                        continue;
                    }
                    let predicted = peak_bytes(rows, &widths, None, &options, false);
                    let found = most(|| {
                        within(&named, &options).unwrap();
                    });
                    let what =
                        format!("{layers}x{rows}x{columns} {options:?}: {found} of {predicted}");
                    assert!(found <= predicted, "{what}");
                    // Fixed amounts, which small comparisons do not fill, are left out.
                    assert!(predicted <= 3 * found + (8 << 20), "{what}");
                }
            }
        }
    }
    a_long_stream_takes_no_more_than_a_short_one();
}

fn a_long_stream_takes_no_more_than_a_short_one() {
    let layers: Vec<_> = (0..8).map(|seed| features(200, 96, seed)).collect();
    let batch: Vec<Features<'_>> = layers.iter().map(|layer| layer.view().into()).collect();
    for estimator in [Estimator::Unbiased, Estimator::Minibatch { rows: 200 }] {
        let options = Options::new(estimator);
        let predicted = peak_bytes(200, &[96; 8], None, &options, true);
        let stream = |batches| {
            most(|| {
                let mut streaming = Streaming::within(&["layer"; 8], &options).unwrap();
                for _ in 0..batches {
                    streaming.push(&batch, &[]).unwrap();
                }
                streaming.finish().unwrap();
            })
        };
        let (short, long) = (stream(2), stream(60));
        assert!(long <= predicted, "{estimator:?}: {long} of {predicted}");
        // Threads do not take the same pieces of work twice.
        assert!(
            long <= short + short / 4 + 65536,
            "{estimator:?}: {short} {long}"
        );
    }
}
