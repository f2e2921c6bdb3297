//! A Slurm of its own runs what the launcher writes. Needs Debian's `slurm-wlm` and `munge`, or their
//! like; says so and passes where they are not installed.
#![cfg(target_os = "linux")]

mod cluster;

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use cluster::Cluster;
use diffrep_plan::launch::{After, JobId, Resources, SlurmJob, submit};

const SHARDS: usize = 20;
const TASKS: usize = 4;
const RANKS: usize = 2;

/// The example that records a worker's place, which `cargo test` builds beside the tests.
fn place() -> String {
    let tests = std::env::current_exe().unwrap();
    let path = tests
        .parent()
        .unwrap()
        .with_file_name("examples")
        .join("place");
    assert!(
        path.is_file(),
        "run `cargo build -p diffrep-plan --example place` before this test alone"
    );
    path.into_os_string().into_string().unwrap()
}

fn job(dir: &Path, command: &[&str]) -> SlurmJob {
    let folder = |name: &str| {
        let path = dir.join(name);
        fs::create_dir_all(&path).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    SlurmJob {
        name: "it's a \"job\"".into(),
        command: command.iter().map(ToString::to_string).collect(),
        folder: folder("work in \"here\""),
        logs: folder("the 'logs' 50%a #1"),
        array: None,
        at_once: None,
        ranks: NonZeroUsize::MIN,
        resources: Resources::default(),
    }
}

/// Which shards are there, each with its lines.
fn done(folder: &Path) -> Vec<(usize, String)> {
    let mut done: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            let shard = name.strip_prefix("shard-").unwrap().parse().unwrap();
            (shard, fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    done.sort();
    done
}

/// What a shard holds if its worker alone wrote it, once.
fn expected(shard: usize) -> (usize, String) {
    let workers = TASKS * RANKS;
    let by = "by SLURM_ARRAY_TASK_ID and SLURM_PROCID";
    (
        shard,
        format!("worker {}/{workers} ({by})\n", shard % workers),
    )
}

/// Behind jobs that have to end well.
fn well(jobs: &[JobId]) -> After<'_> {
    After {
        well: jobs,
        however: &[],
    }
}

#[test]
fn an_array_handles_every_shard_once_and_the_next_step_waits_for_it() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let dir = cluster.dir.path();
    let shards = dir.join("the 'shards' of $HOME");
    fs::create_dir(&shards).unwrap();
    let folder = shards.to_str().unwrap();
    let place = place();
    let write = |name: &str, job: &SlurmJob| {
        let path = dir.join(name);
        fs::write(&path, job.script().unwrap()).unwrap();
        path
    };
    let sbatch = cluster.path("sbatch");

    // The next step would find shards missing if it did not wait.
    let slowly = ["sh", "-c", "sleep 1; exec \"$@\"", "sh", &place, folder];
    let array = SlurmJob {
        array: NonZeroUsize::new(TASKS),
        ranks: NonZeroUsize::new(RANKS).unwrap(),
        ..job(dir, &slowly)
    };
    let array = write("an array.sh", &array);
    let extraction = submit(&sbatch, &array, After::default()).unwrap();
    let count = [
        "sh",
        "-c",
        "ls \"$1\" | wc -l > count; pwd >> count",
        "sh",
        folder,
    ];
    let next = job(dir, &count);
    let next_script = write("the next.sh", &next);
    submit(&sbatch, &next_script, well(&[extraction])).unwrap();
    cluster.drain();
    let all: Vec<_> = (0..SHARDS).map(expected).collect();
    assert_eq!(done(&shards), all, "{}", cluster.logs());
    let counted = Path::new(&next.folder).join("count");
    let text = fs::read_to_string(&counted).unwrap();
    assert_eq!(text, format!("{SHARDS}\n{}\n", next.folder));
    assert_eq!(fs::read_dir(&next.logs).unwrap().count(), TASKS + 1);

    // A part of the array submitted again: its tasks keep their places, despite the gap.
    fs::remove_dir_all(&shards).unwrap();
    fs::create_dir(&shards).unwrap();
    cluster.ask(&["sbatch", "--array=1,3", array.to_str().unwrap()]);
    cluster.drain();
    let part = (0..SHARDS).filter(|shard| [2, 3, 6, 7].contains(&(shard % (TASKS * RANKS))));
    assert_eq!(
        done(&shards),
        part.map(expected).collect::<Vec<_>>(),
        "{}",
        cluster.logs()
    );

    // What follows a failed step is cancelled, not run and not left waiting.
    fs::remove_file(&counted).unwrap();
    let failing = write("fails.sh", &job(dir, &["false"]));
    let failed = submit(&sbatch, &failing, After::default()).unwrap();
    submit(&sbatch, &next_script, well(&[failed])).unwrap();
    cluster.drain();
    assert!(!counted.exists());
}
