//! `--dry-run`: what experiments would do, what that takes, and what is missing for it.

mod inputs;
mod kinds;
mod ledger;
mod shown;

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Result, bail};
use burn::tensor::{Device, Tensor};
use diffrep_extract::micro_batch;
use diffrep_taps::{BlockIndex, Condition, Encoder, TapSet};
use diffrep_unet::random_network;
use serde::Serialize;

use self::inputs::{Model, Network};
use self::kinds::Lister;
use self::ledger::{Cost, Ledger, State, Step};
use super::jobs::Job;
use super::{HowArgs, Place};
use crate::device::DeviceSpec;
use crate::printer::Printer;

/// Everything that a plan tells.
#[derive(Debug, Serialize)]
struct Planned {
    experiments: Vec<Row>,
    /// What is to be done, all experiments together.
    total: Cost,
    /// How fast this machine is taken to be.
    rate: Option<Rate>,
    /// Hours of all that is to be done; absent where no rate is known.
    hours: Option<f64>,
    missing: Vec<Missing>,
    /// Tables of the paper that need no run.
    besides: Vec<(&'static str, &'static str)>,
    steps: Vec<Step>,
}

/// An experiment in a plan.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    scale: String,
    /// What of the paper it makes.
    makes: String,
    steps: usize,
    done: usize,
    shared: usize,
    /// What is to be done.
    cost: Cost,
    /// Why its steps are not known, if they are not.
    unknown: Option<String>,
}

/// How fast images go through a network.
#[derive(Clone, Debug, Serialize)]
struct Rate {
    images_per_second: f64,
    /// The block up to which they go.
    block: usize,
    flops_per_second: f64,
    /// Measured, or as given.
    measured: bool,
}

/// Something that experiments read and that is not there.
#[derive(Debug, Serialize)]
struct Missing {
    path: String,
    /// How to get it.
    how: String,
    /// Which experiments read it.
    experiments: Vec<String>,
}

/// What of the paper an experiment makes.
fn makes(name: &str) -> String {
    match name {
        "figure1" => "Figure 1, Tables 7 to 9".into(),
        "table1" => "Table 1".into(),
        "ensemble" | "select" => "of this project".into(),
        _ => match (name.strip_prefix("figure"), name.strip_prefix("table")) {
            (Some(number), _) => format!("Figure {number}"),
            (_, Some(number)) => format!("Table {number}"),
            _ => "your own".into(),
        },
    }
}

/// Tables of the paper that need no run.
const BESIDES: [(&str, &str); 2] = [
    (
        "Table 5",
        "the data sets: `diffrep fetch` has them, and experiments hold them to these counts",
    ),
    (
        "Table 10",
        "parameter counts: `diffrep params 256x256_diffusion_uncond`, and `--block 24` for those that features need",
    ),
];

/// Prints the plan of some experiments.
///
/// # Errors
///
/// When what is on disk cannot be read.
pub(super) fn show(jobs: &[Job], how: &HowArgs, printer: Printer) -> Result<()> {
    // Only a measurement needs the device; shapes and names do not.
    let device = match how.rate {
        Some(_) if cfg!(feature = "flex") => DeviceSpec::Flex.open()?,
        _ => how.device.open()?,
    };
    let mut ledger = Ledger::default();
    let (mut rows, mut steps) = (Vec::new(), Vec::new());
    let mut networks: Vec<Network> = Vec::new();
    let mut missing: BTreeMap<String, Missing> = BTreeMap::new();
    for job in jobs {
        let lacks = job.lacks()?;
        for (path, way) in &lacks {
            let entry = missing.entry(path.clone()).or_insert_with(|| Missing {
                path: path.clone(),
                how: way.clone().unwrap_or_default(),
                experiments: Vec::new(),
            });
            entry.experiments.push(job.plan.name().to_owned());
        }
        let dir = job.dir(&how.runs);
        let place = Place {
            dir: &dir,
            shared: &how.runs,
            roots: &job.roots,
            words: None,
            device: &device,
            spec: how.device,
            printer,
        };
        let listed = steps_of(job, !lacks.is_empty(), &place, &mut ledger);
        let mut row = Row {
            name: job.plan.name().into(),
            scale: job.scale.clone(),
            makes: makes(job.plan.name()),
            steps: 0,
            done: 0,
            shared: 0,
            cost: Cost::default(),
            unknown: None,
        };
        match listed {
            Ok((network, listed)) => {
                row.steps = listed.len();
                for step in &listed {
                    row.done += usize::from(step.state == State::Done);
                    row.shared += usize::from(matches!(step.state, State::Shared(_)));
                    row.cost.add(step.cost);
                }
                steps.extend(listed);
                networks.push(network);
            }
            // Of what is missing not everything is known; what is there must be right.
            Err(error) if !lacks.is_empty() => row.unknown = Some(format!("{error:#}")),
            Err(error) => return Err(error),
        }
        rows.push(row);
    }
    let mut total = Cost::default();
    rows.iter().for_each(|row| total.add(row.cost));
    let rate = rate(&networks, total, how, &device, printer)?;
    let planned = Planned {
        hours: rate
            .as_ref()
            .map(|rate| total.flops / rate.flops_per_second / 3600.0),
        rate,
        total,
        missing: missing.into_values().collect(),
        besides: match jobs.len() > 1 {
            true => BESIDES.to_vec(),
            false => Vec::new(),
        },
        experiments: rows,
        steps,
    };
    printer.result(&if printer.json() {
        serde_json::to_string_pretty(&planned)?
    } else {
        shown::text(&planned)
    });
    Ok(())
}

/// The steps of an experiment, and its network.
fn steps_of(
    job: &Job,
    lacking: bool,
    place: &Place<'_>,
    ledger: &mut Ledger,
) -> Result<(Network, Vec<Step>)> {
    let checkpoint = match job.plan.assets(&job.scale)?.first() {
        Some(checkpoint) => checkpoint.to_path_buf(),
        None => bail!("{} reads no checkpoint", job.plan.name()),
    };
    let model = Model::of(&checkpoint, &job.scale, place)?;
    let mut lister = Lister {
        experiment: job.plan.name().into(),
        lacking,
        place,
        model: &model,
        ledger,
        steps: Vec::new(),
    };
    lister.list(&job.plan, &job.scale)?;
    let steps = lister.steps;
    Ok((model.network, steps))
}

/// How fast the largest of the networks is, up to the middle of its decoder or to the last block.
fn rate(
    networks: &[Network],
    total: Cost,
    how: &HowArgs,
    device: &Device,
    printer: Printer,
) -> Result<Option<Rate>> {
    let largest = networks.iter().max_by(|a, b| a.whole.total_cmp(&b.whole));
    let Some(network) = largest.filter(|_| total.flops > 0.0) else {
        return Ok(None);
    };
    // The paper's block 24 of 37, and the like of it in other networks.
    let position = (network.taps.len() * 24).div_ceil(37) - 1;
    let flops = network.up_to[position] as f64;
    let (images_per_second, measured) = match how.rate {
        Some(given) => (given, false),
        None => {
            printer.say(
                "measuring how fast this machine is, with random weights (--rate IMAGES_PER_S leaves it out)",
            );
            (measured(network, position, device)?, true)
        }
    };
    Ok(Some(Rate {
        images_per_second,
        block: position + 1,
        flops_per_second: images_per_second * flops,
        measured,
    }))
}

/// Images a second through a network with random weights up to a block: the second of two micro-batches.
fn measured(network: &Network, position: usize, device: &Device) -> Result<f64> {
    let config = &network.config;
    let images = micro_batch(config.image_size);
    let random = random_network(config, 0, device)?.packed();
    let block = BlockIndex::at(position);
    let wanted = TapSet::new([block.get()], &random.taps())?;
    let shape = [
        images,
        config.in_channels,
        config.image_size,
        config.image_size,
    ];
    let pass = || -> Result<f64> {
        let start = Instant::now();
        let image = Tensor::<4>::zeros(shape, device);
        let condition = Condition::timestep(0.0, device);
        let mut taps = random.forward_taps(image, &condition, &wanted, None);
        // Reading a value waits for the device.
        let map = taps.remove(block).map(|map| map.mean().into_data());
        anyhow::ensure!(map.is_some(), "the network gave no map");
        Ok(start.elapsed().as_secs_f64())
    };
    pass()?;
    Ok(images as f64 / pass()?)
}
