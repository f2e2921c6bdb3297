//! What a prefetcher holds in memory, and that it keeps every thread busy.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use diffrep_datasets::{
    BatchPlan, Channels, Dataset, Fit, OnError, Pixels, Prefetcher, Preprocess, Split,
};

/// Bytes of a batch: larger than anything else that these tests hold.
const BATCH: usize = 64 * 64 * 64 * 4;

/// Counts the blocks that are as large as a batch.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[expect(
    unsafe_code,
    reason = "there is no safe way to count what is allocated"
)]
// SAFETY: every call is passed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if layout.size() >= BATCH {
            LIVE.fetch_sub(1, Ordering::SeqCst);
        }
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn count(size: usize) {
    if size >= BATCH {
        let live = LIVE.fetch_add(1, Ordering::SeqCst) + 1;
        PEAK.fetch_max(live, Ordering::SeqCst);
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Threads that decode, whatever the machine has.
const THREADS: usize = 4;

/// The tests count in the same place, so one runs at a time.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    static POOL: Once = Once::new();
    POOL.call_once(|| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(THREADS);
        pool.build_global().unwrap();
    });
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn dataset() -> Dataset {
    let pixels = Pixels {
        height: 64,
        width: 64,
        channels: 1,
        data: vec![7; 64 * 64],
    };
    Dataset::from_pixels(Split::Train, vec!["a".into()], vec![0], vec![0], pixels)
}

fn preprocess(size: usize) -> Preprocess {
    Preprocess {
        size,
        channels: Channels::Grey,
        fit: Fit::Exact,
    }
}

#[test]
fn at_most_two_batches_more_than_the_depth_are_alive() {
    let _guard = one_at_a_time();
    for depth in [0, 1, 3] {
        let before = LIVE.load(Ordering::SeqCst);
        PEAK.store(before, Ordering::SeqCst);
        let plans = (0..20).map(|_| BatchPlan {
            indices: vec![0; 64],
            flips: None,
        });
        let fetched = Prefetcher::new(dataset(), preprocess(64), plans, OnError::Fail, depth);
        for (number, batch) in fetched.enumerate() {
            let batch = batch.unwrap();
            assert_eq!(batch.images.len() * 4, BATCH);
            // The user is slow, so the thread gets as far ahead as it may.
            let ahead = before + (depth + 2).min(20 - number);
            let start = Instant::now();
            while LIVE.load(Ordering::SeqCst) < ahead && start.elapsed() < Duration::from_secs(20) {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(
                LIVE.load(Ordering::SeqCst),
                ahead,
                "depth {depth}, batch {number}"
            );
        }
        assert_eq!(
            PEAK.load(Ordering::SeqCst) - before,
            depth + 2,
            "depth {depth}"
        );
        assert_eq!(LIVE.load(Ordering::SeqCst), before, "all are let go");
    }
}

/// Images in pipes: each read waits for a writer, and a writer for its reader. All writers get in only if as many
/// images are read at the same time as there are threads.
#[cfg(unix)]
#[test]
fn every_thread_decodes() {
    use std::fs::File;
    use std::io::Write;
    use std::process::Command;
    use std::sync::mpsc::channel;

    let _guard = one_at_a_time();

    let folder = tempfile::tempdir().unwrap();
    let class = folder.path().join("a");
    std::fs::create_dir(&class).unwrap();
    let pipes: Vec<_> = (0..THREADS)
        .map(|number| class.join(format!("{number}.png")))
        .collect();
    assert!(
        Command::new("mkfifo")
            .args(&pipes)
            .status()
            .unwrap()
            .success()
    );
    let dataset = diffrep_datasets::open(folder.path(), Split::Train).unwrap();
    assert_eq!(dataset.len(), THREADS);

    let plan = BatchPlan {
        indices: (0..THREADS).collect(),
        flips: None,
    };
    let mut fetched = Prefetcher::new(dataset, preprocess(3), [plan], OnError::Fail, 1);
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        // Opening waits for the reader, so all are read once all are open.
        let files: Vec<File> = pipes
            .iter()
            .map(|pipe| File::options().write(true).open(pipe).unwrap())
            .collect();
        let mut png = std::io::Cursor::new(Vec::new());
        image::GrayImage::from_pixel(3, 3, image::Luma([5]))
            .write_to(&mut png, image::ImageFormat::Png)
            .unwrap();
        for mut file in files {
            file.write_all(png.get_ref()).unwrap();
        }
        sender.send(()).unwrap();
    });
    let waited = receiver.recv_timeout(Duration::from_secs(60));
    if waited.is_err() {
        // The thread waits for ever, and dropping this would wait for it.
        std::mem::forget(fetched);
        panic!("fewer than {THREADS} images were read at the same time");
    }
    assert_eq!(fetched.next().unwrap().unwrap().indices.len(), THREADS);
}
