//! Pictures of the report: images under rising noise (Figure 3), and the model's own samples.

use std::path::Path;

use anyhow::Result;
use diffrep_datasets::{Dataset, Preprocess, load_batch};
use diffrep_report::ImageGrid;
use diffrep_rng::{Key, Stream};
use diffrep_schedule::Schedule;

use crate::commands::pretrain::grid_png;

/// Classes shown.
const ROWS: usize = 6;

const NOISED: &str = "Training images noised to the timesteps of the sweep (Figure 3 of the paper). This is all \
    that the encoder sees.";
const DRAWN: &str = "What the same network generates: DDIM samples, none of them chosen.";

/// Labels of the columns: the image itself, then each timestep.
pub(crate) fn steps(timesteps: &[usize]) -> Vec<String> {
    let noised = timesteps.iter().map(|t| format!("t = {t}"));
    std::iter::once("clean".to_string()).chain(noised).collect()
}

/// The first training image of some classes, clean and noised to each timestep.
pub(crate) fn noised(
    dataset: &Dataset,
    preprocess: &Preprocess,
    schedule: &Schedule,
    timesteps: &[usize],
) -> Result<ImageGrid> {
    let classes = dataset.class_names().len().min(ROWS);
    let firsts: Vec<usize> = (0..classes)
        .filter_map(|c| dataset.labels().iter().position(|l| *l as usize == c))
        .collect();
    let (size, channels) = (preprocess.size, preprocess.channels.count());
    let mut clean = vec![0.0; firsts.len() * preprocess.len()];
    load_batch(dataset, preprocess, &firsts, None, &mut clean)?;
    let mut images = Vec::new();
    for (&index, x0) in firsts.iter().zip(clean.chunks_exact(preprocess.len())) {
        images.push(bytes(x0, channels));
        for &t in timesteps {
            let mut noise = vec![0.0f32; x0.len()];
            let key = Key::new(0, Stream::Noise)
                .sample(dataset.noise_id(index))
                .t(schedule.check(t)? as u32);
            key.fill_normal(&mut noise);
            let signal = schedule.sqrt_alphas_cumprod[t] as f32;
            let sigma = schedule.sqrt_one_minus_alphas_cumprod[t] as f32;
            let x_t: Vec<f32> = x0
                .iter()
                .zip(&noise)
                .map(|(x, e)| signal * x + sigma * e)
                .collect();
            images.push(bytes(&x_t, channels));
        }
    }
    let columns = timesteps.len() + 1;
    let names = dataset.class_names();
    Ok(ImageGrid {
        caption: NOISED.into(),
        columns,
        row_labels: firsts
            .iter()
            .map(|&i| names[dataset.label(i) as usize].clone())
            .collect(),
        column_labels: steps(timesteps),
        png: grid_png(&images, columns, size, channels)?,
        width: (columns * size) as u32,
        height: (firsts.len() * size) as u32,
        scale: if size <= 64 { 2 } else { 1 },
    })
}

/// `[channels, height, width]` in [-1, 1] to bytes, channels last.
fn bytes(values: &[f32], channels: usize) -> Vec<u8> {
    let plane = values.len() / channels;
    (0..values.len())
        .map(|i| values[i % channels * plane + i / channels])
        .map(|v| ((v + 1.0) * 127.5).clamp(0.0, 255.0) as u8)
        .collect()
}

/// The samples that lie beside a checkpoint as `samples.png`, if there are any.
pub(crate) fn samples(checkpoint: &Path) -> Option<ImageGrid> {
    let png = std::fs::read(checkpoint.with_file_name("samples.png")).ok()?;
    drawn(png)
}

/// Drawn images as a picture without labels.
fn drawn(png: Vec<u8>) -> Option<ImageGrid> {
    let picture = image::load_from_memory(&png).ok()?;
    Some(ImageGrid {
        caption: DRAWN.into(),
        columns: 1,
        row_labels: Vec::new(),
        column_labels: Vec::new(),
        width: picture.width(),
        height: picture.height(),
        scale: if picture.width() <= 300 { 2 } else { 1 },
        png,
    })
}

/// The pictures of a report that was written to a folder before, in their order.
pub(crate) fn kept(dir: &Path) -> Vec<ImageGrid> {
    let Ok(entries) = std::fs::read_dir(dir.join("figures")) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with("-images.png"))
        .collect();
    files.sort();
    let pictures = files
        .iter()
        .filter_map(|path| drawn(std::fs::read(path).ok()?));
    pictures.collect()
}

/// The same with the names of what they show: noised images, whose rows have no names then, and drawn
/// ones.
pub(crate) fn beside(dir: &Path, timesteps: &[usize]) -> Vec<ImageGrid> {
    let mut pictures = kept(dir);
    if let Some(noised) = pictures.first_mut() {
        let columns = timesteps.len() + 1;
        // Tiles are square and at most six lie above each other.
        let side = noised.width as usize / columns;
        let rows = noised.height as usize / side.max(1);
        if rows <= ROWS && side * columns == noised.width as usize {
            noised.caption = NOISED.into();
            noised.columns = columns;
            noised.column_labels = steps(timesteps);
        }
    }
    pictures
}
