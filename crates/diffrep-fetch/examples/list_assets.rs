//! Lists what can be fetched and how each file will be checked; speaks to no network.
//!
//! ```sh
//! cargo run -p diffrep-fetch --example list_assets
//! cargo run -p diffrep-fetch --example list_assets -- cars
//! ```

#![allow(clippy::print_stdout)] // an example talks to the terminal

use std::process::ExitCode;

use diffrep_fetch::{Asset, KnownFile, catalogue, find};

fn main() -> ExitCode {
    let Some(name) = std::env::args().nth(1) else {
        for asset in catalogue() {
            println!("{:26} {}", asset.name, asset.title);
        }
        return ExitCode::SUCCESS;
    };
    match find(&name) {
        Some(asset) => {
            describe(asset);
            ExitCode::SUCCESS
        }
        None => {
            println!("there is no {name}; run without a name to see what there is");
            ExitCode::FAILURE
        }
    }
}

fn describe(asset: &Asset) {
    println!("{}\nlicence: {}", asset.title, asset.licence);
    for (number, step) in asset.steps().iter().enumerate() {
        println!("{}. {step}", number + 1);
    }
    for remote in asset.downloads() {
        println!("from {}", remote.url);
    }
    for file in asset.known_files() {
        println!(
            "{}: {}, checked by {}",
            file.name,
            size(&file),
            evidence(&file)
        );
    }
    println!("afterwards: {}", asset.layout);
}

fn size(file: &KnownFile) -> String {
    let in_megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    file.bytes.map_or("size unknown".to_owned(), in_megabytes)
}

fn evidence(file: &KnownFile) -> &'static str {
    match (file.sha256, file.md5) {
        (Some(_), _) => "SHA-256",
        (None, Some(_)) => "MD5",
        (None, None) => "nothing: no hash is published",
    }
}
