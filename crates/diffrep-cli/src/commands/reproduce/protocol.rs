//! The end of the report: how the numbers were obtained, and what they were obtained from.

use diffrep_artifact::{Provenance, Record, Sha256Hex};
use diffrep_datasets::{Channels, Fit};
use diffrep_probe::{Point, Recipe};
use diffrep_report::{Block, Cell as TableCell, Column, Section, Table};

use super::document::PERCENT;
use super::results::{Encoding, Results};

/// The section on how numbers were obtained, in every report.
pub(crate) const PROTOCOL: &str = "Protocol";
/// The section on what they were obtained from.
pub(crate) const PROVENANCE: &str = "Where the numbers come from";

pub(super) fn protocol_section(results: &Results) -> Section {
    let scale = &results.settings;
    let recipe = |recipe: &Recipe| {
        format!(
            "{}: {}, {} epochs, batch {}, learning rate x {} every {} epochs, features {}, rates {:?}, decays {:?}",
            recipe.name,
            recipe.optimizer,
            recipe.epochs,
            recipe.batch,
            recipe.step_factor,
            recipe.step_every,
            if recipe.standardize {
                "standardised"
            } else {
                "as they are"
            },
            recipe.learning_rates,
            recipe.weight_decays
        )
    };
    let swept = format!(
        "{} of {}; networks not swept take the best setting of those that are",
        scale.random_networks_swept, scale.random_networks
    );
    let pairs = [
        ("training images", results.data.train.to_string()),
        ("validation images", results.data.validation.to_string()),
        ("test images", results.data.test.to_string()),
        ("timesteps swept", format!("{:?}", scale.timesteps)),
        ("pools swept", format!("{:?}", scale.pools)),
        ("raw-pixel pools swept", format!("{:?}", scale.pixel_pools)),
        ("random networks swept", swept),
        (
            "seeds (weights, order, noise)",
            format!("{:?}", scale.seeds),
        ),
        ("images to inputs", inputs(&results.encoding)),
        (
            "noise schedule",
            format!(
                "{:?}, {} timesteps",
                results.encoding.schedule, results.encoding.timesteps
            )
            .to_lowercase(),
        ),
        (
            "features",
            "stored as f16; of settings equally good the one with the shortest vector".into(),
        ),
        ("probe", "one linear layer, cross entropy".into()),
        (
            "intervals",
            format!("95 %, {} bootstrap resamples of images", results.resamples),
        ),
        ("diffusion model", trained(&results.encoding)),
        ("final recipe", recipe(&results.recipe)),
        ("sweep recipe", recipe(&results.sweep_recipe)),
    ];
    Section {
        title: PROTOCOL.into(),
        blocks: vec![
            Block::Paragraph(
                "Timestep, block, pool, learning rate and weight decay are chosen on validation \
                 images. Controls are tuned on the same validation images with the same recipe. Raw pixels \
                 carry no noise and are tuned over pools. Intervals resample test images: they do not cover \
                 another training of the diffusion model. A random network has every layer drawn from PyTorch's default \
                 initialisation, those that a training would start at zero included."
                    .into(),
            ),
            Block::KeyValues(pairs.map(|(key, value)| (key.to_string(), value)).to_vec()),
            Block::Details {
                summary: "Every score".into(),
                blocks: vec![Block::Table(scores(results))],
            },
        ],
    }
}

/// How an image becomes an input, in words.
fn inputs(encoding: &Encoding) -> String {
    let p = &encoding.preprocess;
    let size = p.size;
    let fit = match p.fit {
        Fit::PadTo => format!("centred on black {size}x{size}, larger ones resized and cropped"),
        Fit::CenterCrop => format!("resized and centre-cropped to {size}x{size}"),
        Fit::ResizeCrop { short_side, .. } => {
            format!("short side resized to {short_side}, then cropped to {size}x{size}")
        }
        Fit::Exact => format!("{size}x{size}"),
    };
    let channels = match p.channels {
        Channels::Rgb => "colour",
        Channels::Grey | Channels::GreyFromColour => "grey",
    };
    format!("{fit}, {channels}, scaled to -1 to 1")
}

/// What trained the diffusion model, in words.
fn trained(encoding: &Encoding) -> String {
    let Some(record) = &encoding.training else {
        return "its file carries no training record".into();
    };
    let held_out = record.curve.last().map_or_else(String::new, |point| {
        format!(
            ", mean squared error {:.4} on held-out images",
            point.held_out
        )
    });
    format!(
        "{} epochs, {} steps of {} images, without labels{held_out}; training images SHA-256 {}",
        record.position.epoch, record.position.step, record.config.batch, record.data
    )
}

/// One row for each final probe.
fn scores(results: &Results) -> Table {
    let rows = results
        .subjects
        .iter()
        .flat_map(|subject| subject.finals.iter().map(move |score| (subject, score)))
        .map(|(subject, score)| {
            vec![
                TableCell::text(subject.name.clone()),
                TableCell::text(score.setting.to_string()),
                TableCell::text(score.seed.to_string()),
                TableCell::text(format!("{:.0e}", score.point.learning_rate)),
                TableCell::text(score.point.weight_decay.to_string()),
                TableCell::number(score.validation * PERCENT, 2),
                TableCell::number(score.test * PERCENT, 2),
            ]
        })
        .collect();
    Table {
        caption: "Every probe that read the test images.".into(),
        columns: vec![
            Column::text("encoder"),
            Column::text("setting"),
            Column::number("seed"),
            Column::number("rate"),
            Column::number("decay"),
            Column::number("validation %"),
            Column::number("test %"),
        ],
        rows,
        highlight: Vec::new(),
    }
}

pub(super) fn provenance_section(record: &Record<Results>) -> Section {
    let p = &record.provenance;
    let hash = |hash: &Option<diffrep_artifact::Sha256Hex>| {
        hash.as_ref()
            .map_or_else(|| "none".into(), ToString::to_string)
    };
    let pairs = [
        ("diffrep", p.diffrep_version.clone()),
        ("device", p.device.clone()),
        (
            "machine",
            format!("{} {}, {} processors", p.host.os, p.host.arch, p.host.cpus),
        ),
        ("checkpoint SHA-256", hash(&p.checkpoint_sha256)),
        ("training images SHA-256", hash(&p.data_sha256)),
        (
            "validation images SHA-256",
            record.data.data.validation_sha256.clone(),
        ),
        ("test images SHA-256", record.data.data.test_sha256.clone()),
        ("settings SHA-256", p.config_sha256.to_string()),
        ("noise contract", diffrep_rng::CONTRACT.to_string()),
    ];
    Section {
        title: PROVENANCE.into(),
        blocks: vec![
            Block::KeyValues(pairs.map(|(key, value)| (key.to_string(), value)).to_vec()),
            Block::Paragraph("Everything on this page is in `results.json` beside it.".into()),
        ],
    }
}

/// What a record was made by and from: the end of every report.
pub(super) fn made_from(p: &Provenance) -> Vec<(String, String)> {
    let pair = |name: &str, value: String| (name.to_string(), value);
    let mut pairs = vec![
        pair("diffrep", p.diffrep_version.clone()),
        pair("device", p.device.clone()),
    ];
    let hash = |name, hash: &Option<Sha256Hex>| hash.as_ref().map(|h| pair(name, h.to_string()));
    pairs.extend(hash("checkpoint SHA-256", &p.checkpoint_sha256));
    pairs.extend(hash("training images SHA-256", &p.data_sha256));
    pairs.push(pair("settings SHA-256", p.config_sha256.to_string()));
    pairs
}

/// Where the points that were chosen lie at an end of a recipe's grid: what is beyond was not tried. A decay
/// of 0 is no end, since there is nothing below it. Each end in words, and how many of the points lie at it.
pub(super) fn ends_of_grid(
    recipe: &Recipe,
    chosen: impl Iterator<Item = Point>,
) -> Vec<(String, usize)> {
    let chosen: Vec<Point> = chosen.collect();
    let ends = |name: &str, grid: &[f64], of: fn(&Point) -> f64| -> Vec<(String, usize)> {
        let highest = grid.iter().copied().fold(f64::MIN, f64::max);
        let lowest = grid.iter().copied().fold(f64::MAX, f64::min);
        [("highest", highest), ("lowest", lowest)]
            .into_iter()
            .filter(|(_, end)| grid.len() > 1 && *end > 0.0)
            .filter_map(|(which, end)| {
                let count = chosen.iter().filter(|point| of(point) == end).count();
                (count > 0).then(|| (format!("the {which} {name} of the recipe ({end})"), count))
            })
            .collect()
    };
    let mut found = ends("learning rate", &recipe.learning_rates, |p| p.learning_rate);
    found.extend(ends("weight decay", &recipe.weight_decays, |p| {
        p.weight_decay
    }));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_of_grids_with_more_than_one_point() {
        let recipe = Recipe {
            learning_rates: vec![1e-3, 3e-3, 1e-2],
            weight_decays: vec![0.0, 0.1],
            ..Recipe::named("mini").unwrap()
        };
        let point = |learning_rate, weight_decay| Point {
            learning_rate,
            weight_decay,
        };
        let ends = |points: &[Point]| ends_of_grid(&recipe, points.iter().copied());
        let told = ends(&[point(1e-2, 0.0), point(3e-3, 0.0), point(1e-2, 0.1)]);
        assert_eq!(
            told,
            [
                ("the highest learning rate of the recipe (0.01)".into(), 2),
                ("the highest weight decay of the recipe (0.1)".into(), 1),
            ]
        );
        assert_eq!(ends(&[point(3e-3, 0.0)]), []);
        let one = Recipe {
            learning_rates: vec![1e-2],
            ..recipe.clone()
        };
        assert_eq!(ends_of_grid(&one, [point(1e-2, 0.0)].into_iter()), []);
    }
}
