//! Prints how well up to 64 workers scale on recorded times of shards, one number of seconds a line.
//!
//! ```sh
//! cargo run -p diffrep-plan --example scaling -- [FILE]
//! ```
//!
//! The times of a store that one process wrote are the differences of its shards' times of change:
//!
//! ```sh
//! stat -c %.Y STORE/shard-*.safetensors | awk 'NR > 1 { print $1 - last } { last = $1 }'
//! ```

use std::io::Write;

use diffrep_plan::scaling::{Outcome, Sharing, Trouble, simulate};

/// ImageNet in shards of 1024 images; each is given a recorded time, in turn.
const SHARDS: usize = 1251;
/// Into how many smaller ones a shard is cut, each of which takes as much less time.
const PARTS: [usize; 2] = [1, 4];
const SEEDS: u64 = 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = match std::env::args_os().nth(1) {
        Some(path) => std::fs::read_to_string(path)?,
        None => include_str!("shard-seconds.txt").to_owned(),
    };
    let recorded = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| line.trim().parse())
        .collect::<Result<Vec<f64>, _>>()?;
    if recorded.is_empty() || recorded.iter().any(|s| !s.is_finite() || *s < 0.0) {
        return Err("there must be times, finite and not negative".into());
    }
    let mean = recorded.iter().sum::<f64>() / recorded.len() as f64;
    // In units of a shard of 1024 images, so that the table is of any machine.
    let start = Trouble {
        start: mean,
        ..Trouble::NONE
    };
    let slow = Trouble {
        slow: 0.1,
        slowness: 2.0,
        ..start
    };
    let deadly = Trouble {
        life: Some(100.0 * mean),
        restart: mean,
        ..start
    };
    let troubles = [
        ("processes take one shard's time to start", start),
        ("and one worker in ten has half the speed", slow),
        ("and instead each dies once in 100 shards", deadly),
    ];
    let mut out = std::io::stdout().lock();
    let times = recorded.len();
    writeln!(out, "{times} recorded times, mean {mean:.3} s")?;
    writeln!(
        out,
        "throughput in % of linear: mean (worst) of {SEEDS} seeds"
    )?;
    for parts in PARTS {
        let shards = SHARDS * parts;
        let seconds = recorded.iter().map(|seconds| seconds / parts as f64);
        let seconds: Vec<f64> = seconds.cycle().take(shards).collect();
        for (name, trouble) in &troubles {
            writeln!(out, "\n{shards} shards, {name}")?;
            let [a, b, c] = ["claimed", "strided", "blocks"];
            writeln!(out, "workers  {a:>14}{b:>14}{c:>14}")?;
            for workers in [1, 2, 4, 8, 16, 32, 64] {
                let [a, b, c] = [Sharing::Claimed, Sharing::Strided, Sharing::Blocks]
                    .map(|sharing| summary(&seconds, workers, sharing, trouble));
                writeln!(out, "{workers:>7}  {a:>14}{b:>14}{c:>14}")?;
            }
        }
    }
    Ok(())
}

fn summary(seconds: &[f64], workers: usize, sharing: Sharing, trouble: &Trouble) -> String {
    let percent = |run: Outcome| 100.0 * run.efficiency;
    let runs: Vec<f64> = (0..SEEDS)
        .map(|seed| percent(simulate(seconds, workers, sharing, trouble, seed)))
        .collect();
    let mean = runs.iter().sum::<f64>() / runs.len() as f64;
    let worst = runs.iter().copied().fold(f64::INFINITY, f64::min);
    format!("{mean:.1} ({worst:.1})")
}
