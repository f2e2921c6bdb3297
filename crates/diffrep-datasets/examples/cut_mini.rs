//! Cuts the small Fashion-MNIST of `fixtures/fashion-mnist` out of the official files.
//!
//! `cargo run --release -p diffrep-datasets --example cut_mini -- SOURCE DESTINATION`

use std::error::Error;
use std::path::PathBuf;

use diffrep_datasets::{CutSpec, TestCut, cut_idx};

#[expect(
    clippy::print_stdout,
    reason = "an example talks to the person who runs it"
)]
fn main() -> Result<(), Box<dyn Error>> {
    let folders: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [source, destination] = folders.as_slice() else {
        return Err("give two folders: the official IDX files, and where the cut goes".into());
    };
    let spec = CutSpec {
        train_per_class: 700,
        validation_per_class: 100,
        test: TestCut::All,
        name: "Fashion-MNIST, 7,000 training images".into(),
        source: "https://github.com/zalandoresearch/fashion-mnist".into(),
        licence: "MIT, (c) 2017 Zalando SE".into(),
    };
    let report = cut_idx(source, destination, &spec, 2023)?;
    for (name, split) in &report.description.splits {
        println!("{name}: {} samples, {}", split.count, split.fingerprint);
    }
    for (path, size) in &report.files {
        println!("{size:>9} bytes  {}", path.display());
    }
    Ok(())
}
