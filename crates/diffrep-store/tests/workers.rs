//! Several processes write one store, and may be killed at any instant.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use diffrep_artifact::ArtifactError;
use diffrep_rng::{Key, Stream};
use diffrep_store::{
    ColumnSpec, FeatureDtype, ShardData, ShardRange, Store, StoreError, StoreSpec, StoreWriter,
};

/// Set in the processes that the test starts: the folder they write to.
const FOLDER: &str = "DIFFREP_TEST_STORE_WORKER";

/// 20 shards of half a megabyte: a kill has a good chance to hit in the middle of one.
fn spec() -> StoreSpec {
    StoreSpec {
        columns: vec![ColumnSpec::new("a", 1000), ColumnSpec::new("b", 24)],
        dtype: FeatureDtype::F32,
        tags: Vec::new(),
        samples: 2530,
        shard_rows: 128,
        key: "0123abcd".into(),
        info: serde_json::json!({"model": "toy"}),
        contract: 1,
    }
}

fn data(spec: &StoreSpec, range: ShardRange) -> ShardData {
    let rows = range.start..range.end;
    let column = |dim: usize| {
        rows.clone()
            .flat_map(|row| (0..dim).map(move |i| (row * dim + i) as f32))
            .collect()
    };
    ShardData {
        ids: rows.clone().map(|row| row as u64).collect(),
        labels: rows.clone().map(|row| row as i64 % 7).collect(),
        tags: Vec::new(),
        columns: spec.columns.iter().map(|c| column(c.dim)).collect(),
    }
}

/// Writes whatever can be claimed; returns how many shards that were.
fn work(dir: &Path) -> usize {
    let mut writer = StoreWriter::join(dir, spec()).unwrap();
    let mut written = 0;
    for range in writer.missing_shards() {
        if writer.claim(range).unwrap() {
            let data = data(writer.spec(), range);
            writer.write_shard(range, &data).unwrap();
            written += 1;
        }
    }
    writer.leave().unwrap();
    written
}

/// Kills its process when dropped, so that none outlives a failed test.
struct Worker(Child);

impl Worker {
    /// Starts this test once more, as a worker.
    fn start(test: &str, dir: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact"])
            .env(FOLDER, dir)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Whether it has ended, as it should.
    fn has_ended(&mut self) -> bool {
        let status = self.0.try_wait().unwrap();
        assert!(status.is_none_or(|status| status.success()), "{status:?}");
        status.is_some()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn files(dir: &Path) -> BTreeMap<OsString, Vec<u8>> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap()))
        .collect()
}

/// A reader meets whole shards and missing ones, never a part of one.
fn read_while_written(dir: &Path) {
    match Store::open(dir) {
        Ok(store) => store.verify().unwrap(),
        Err(StoreError::Missing { .. }) => {}
        Err(StoreError::Artifact(ArtifactError::Read { source, .. }))
            if source.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn fifty_kills_of_two_workers_leave_the_bytes_of_an_undisturbed_run() {
    if let Some(dir) = std::env::var_os(FOLDER) {
        work(dir.as_ref());
        return;
    }
    let test = "fifty_kills_of_two_workers_leave_the_bytes_of_an_undisturbed_run";
    let straight = tempfile::tempdir().unwrap();
    let mut writer = StoreWriter::open(straight.path(), spec()).unwrap();
    for range in writer.missing_shards() {
        let data = data(writer.spec(), range);
        writer.write_shard(range, &data).unwrap();
    }
    writer.finish().unwrap();

    let dir = tempfile::tempdir().unwrap();
    let mut random = Key::new(0, Stream::Order).generator();
    let mut workers = [0, 1].map(|_| Worker::start(test, dir.path()));
    let mut kills_in_flight = 0;
    let mut kills = 0;
    while kills < 50 {
        // Now and then long enough for a busy machine to get to a shard.
        let most = if random.below(5) == 0 {
            300_000
        } else {
            30_000
        };
        std::thread::sleep(Duration::from_micros(random.below(most)));
        let index = random.below(2) as usize;
        if workers[index].has_ended() {
            // Whole before its time: some of the work is taken away again.
            for shard in 0..spec().shard_count() {
                if random.below(2) == 0 {
                    let name = format!("shard-{shard:05}.safetensors");
                    let _ = fs::remove_file(dir.path().join(name));
                }
            }
        } else {
            workers[index].kill();
            kills += 1;
            let temps = fs::read_dir(dir.path()).unwrap();
            kills_in_flight += usize::from(temps.into_iter().any(|entry| {
                let name = entry.unwrap().file_name();
                name.to_string_lossy().ends_with(".tmp")
            }));
            read_while_written(dir.path());
        }
        workers[index] = Worker::start(test, dir.path());
    }
    for worker in &mut workers {
        assert!(worker.0.wait().unwrap().success());
    }
    // A worker may have left a shard to the other one, which was killed after that.
    work(dir.path());

    assert!(kills_in_flight > 0, "no kill hit a shard that was written");
    let (found, expected) = (files(dir.path()), files(straight.path()));
    let names = |files: &BTreeMap<OsString, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected));
    assert!(found == expected, "the bytes of a file differ");
    Store::open(dir.path()).unwrap().verify().unwrap();
}

#[test]
fn workers_share_the_work_and_the_last_one_tidies_up() {
    let dir = tempfile::tempdir().unwrap();
    let written: Vec<usize> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(|| work(dir.path()))).collect();
        workers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    assert_eq!(written.iter().sum::<usize>(), spec().shard_count());
    Store::open(dir.path()).unwrap().verify().unwrap();
    assert!(!dir.path().join(".claims").exists());
}

#[test]
fn a_shard_belongs_to_whoever_claims_it_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = StoreWriter::join(dir.path(), spec()).unwrap();
    let mut two = StoreWriter::join(dir.path(), spec()).unwrap();
    let range = spec().shard(3);
    let unclaimed = one.write_shard(range, &data(&spec(), range)).unwrap_err();
    assert!(matches!(unclaimed, StoreError::NotClaimed { index: 3 }));
    assert!(one.claim(range).unwrap());
    assert!(one.claim(range).unwrap(), "a claim may be repeated");
    assert!(!two.claim(range).unwrap());
    one.give_back(range);
    assert!(two.claim(range).unwrap());
    two.write_shard(range, &data(&spec(), range)).unwrap();
    // Written by another worker since this one looked.
    assert!(one.missing_shards().contains(&range));
    assert!(!one.claim(range).unwrap());
    assert!(!one.missing_shards().contains(&range));
    let beyond = ShardRange { index: 99, ..range };
    assert!(matches!(
        one.claim(beyond),
        Err(StoreError::Range { index: 99, .. })
    ));

    let alone = StoreWriter::open(dir.path(), spec()).unwrap_err();
    assert!(
        matches!(alone, StoreError::Artifact(ArtifactError::Locked { .. })),
        "{alone}"
    );
    assert_eq!(one.leave().unwrap().len(), spec().shard_count() - 1);
    assert!(matches!(
        two.finish(),
        Err(StoreError::Missing { missing: 19, .. })
    ));
    let alone = StoreWriter::open(dir.path(), spec()).unwrap();
    assert_eq!(alone.missing_shards().len(), 19);
}

#[test]
fn a_worker_leaves_alone_what_another_is_writing() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = StoreWriter::join(dir.path(), spec()).unwrap();
    assert!(one.claim(spec().shard(0)).unwrap());
    let temp = |shard: usize, n: usize| {
        let path = dir
            .path()
            .join(format!(".shard-{shard:05}.safetensors.1.{n}.tmp"));
        fs::write(&path, b"part").unwrap();
        path
    };
    let (living, dead) = (temp(0, 1), [temp(1, 1), temp(1, 2)]);
    let foreign = dir.path().join(".notes.1.1.tmp");
    fs::write(&foreign, b"not a shard").unwrap();
    let two = StoreWriter::join(dir.path(), spec()).unwrap();
    assert!(living.exists() && foreign.exists());
    assert!(!dead[0].exists() && !dead[1].exists());
    two.leave().unwrap();
    assert!(living.exists());
    one.leave().unwrap();
    assert!(!living.exists());
}

#[test]
fn workers_of_two_runs_never_share_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|run| {
                let dir = dir.path();
                scope.spawn(move || {
                    let key = format!("run {}", run % 2);
                    StoreWriter::join(dir, StoreSpec { key, ..spec() })
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    let (joined, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((joined.len(), refused.len()), (4, 4));
    for refusal in refused {
        assert!(matches!(refusal, Err(StoreError::OtherRun { .. })));
    }
}
