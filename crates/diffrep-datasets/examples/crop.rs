//! Decodes and centre-crops files over and over, and prints how long it took and which bytes came out.
//!
//! `cargo run --release -p diffrep-datasets --example crop -- [--approximate] SIZE SECONDS FILE..`
//!
//! For each line on standard input, one pass after another over all files for `SECONDS`, on one thread; a line of
//! output holds images per second. At the end, each file with the hash of its crop, or why there is none. A size of 0
//! leaves the crop out.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use diffrep_artifact::Sha256Hex;
use diffrep_datasets::{DatasetError, Image, JpegDecoder, center_crop, decode_with};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let decoder = if arguments
        .first()
        .is_some_and(|first| first == "--approximate")
    {
        arguments.remove(0);
        JpegDecoder::Approximate
    } else {
        JpegDecoder::Exact
    };
    let [size, seconds, files @ ..] = arguments.as_slice() else {
        return Err("give a size, seconds and files".into());
    };
    let (size, seconds) = (size.parse()?, Duration::from_secs_f64(seconds.parse()?));
    let files: Vec<(PathBuf, Vec<u8>)> = files
        .iter()
        .map(|file| Ok((file.into(), fs::read(file)?)))
        .collect::<std::io::Result<_>>()?;
    let cropped = |(path, bytes): &(PathBuf, Vec<u8>)| crop(decoder, path, bytes, size);

    let mut output = std::io::stdout();
    for line in std::io::stdin().lines() {
        line?;
        let (start, mut count) = (Instant::now(), 0);
        while start.elapsed() < seconds {
            for file in &files {
                std::hint::black_box(cropped(file)).ok();
                count += 1;
            }
        }
        let speed = f64::from(count) / start.elapsed().as_secs_f64();
        writeln!(output, "{speed}")?;
        output.flush()?;
    }
    for file in &files {
        let found = match cropped(file) {
            Ok(image) => Sha256Hex::hash_bytes(image.to_rgb().pixels()).to_string(),
            Err(error) => format!("{error}"),
        };
        writeln!(output, "{}\t{found}", file.0.display())?;
    }
    Ok(())
}

fn crop(
    decoder: JpegDecoder,
    path: &Path,
    bytes: &[u8],
    size: usize,
) -> Result<Image, DatasetError> {
    let image = decode_with(decoder, path, bytes)?;
    Ok(if size == 0 {
        image
    } else {
        center_crop(&image, size)
    })
}
