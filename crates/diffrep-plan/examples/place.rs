//! Prints which worker this process is and which of 20 shards are its own; with a folder as its
//! argument it writes that there instead, one file for each shard.
//!
//! ```sh
//! SLURM_ARRAY_TASK_ID=2 DIFFREP_ARRAY_COUNT=8 cargo run -p diffrep-plan --example place
//! ```

use std::io::Write;
use std::path::Path;

use diffrep_plan::{Place, ShardList};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = Place::detect(|name| std::env::var(name).ok())?;
    let own: Vec<usize> = ShardList::new(2000, 100).own(&place).collect();
    match std::env::args_os().nth(1) {
        None => writeln!(std::io::stdout(), "{place}: shards {own:?}")?,
        Some(folder) => {
            for shard in own {
                let path = Path::new(&folder).join(format!("shard-{shard}"));
                // Appended, so that a shard that two workers take shows two lines.
                let mut file = std::fs::File::options()
                    .create(true)
                    .append(true)
                    .open(path)?;
                writeln!(file, "{place}")?;
            }
        }
    }
    Ok(())
}
