//! The network that a contender reads, where it is not the experiment's.

use anyhow::{Context, Result, ensure};
use diffrep_import::is_latent;
use diffrep_plan::{PlannedEncoder, PlannedText};
use diffrep_probe::{Study, Subject, TunableEncoder};

use super::{Ground, Place};
use crate::commands::encoder::{LatentSettings, OpenLatent};

/// A network with a study on it.
pub(super) struct Reader<'a, E> {
    pub(super) study: Study<'a>,
    pub(super) subject: Subject<'a, E>,
}

/// What is done with a reader of whatever network.
pub(super) trait Use {
    type Made;

    fn on<E: TunableEncoder>(self, reader: &Reader<'_, E>) -> Result<Self::Made>;
}

/// A contender's own network.
pub(super) struct Own {
    network: Network,
    name: String,
}

#[allow(
    clippy::large_enum_variant,
    reason = "an experiment holds one at a time"
)]
enum Network {
    Diffusion(Ground),
    Latent(OpenLatent),
}

impl Own {
    pub(super) fn open(planned: &PlannedEncoder, place: &Place<'_>) -> Result<Self> {
        let path = &place.roots.find(&planned.checkpoint);
        let network = match is_latent(path) {
            true => {
                let settings = LatentSettings {
                    size: planned.size,
                    prompt: match &planned.text {
                        PlannedText::Given(text) => text.as_str(),
                        PlannedText::Empty | PlannedText::Learned { .. } => "",
                    },
                    ..LatentSettings::default()
                };
                let open = OpenLatent::load(path, &settings, place.device).with_context(|| {
                    format!(
                        "in place of the experiment's own network, {}",
                        path.display()
                    )
                })?;
                if let Some(sentence) = open.cut() {
                    place.printer.say(&sentence);
                }
                Network::Latent(open)
            }
            false => {
                ensure!(
                    planned.size.is_none() && planned.text == PlannedText::Empty,
                    "a size and a text are for Stable Diffusion, which {} is not",
                    path.display()
                );
                Network::Diffusion(Ground::open(&planned.checkpoint, "a contender", place)?)
            }
        };
        Ok(Self {
            network,
            name: planned.file_name(),
        })
    }

    /// What it is, in words.
    pub(super) fn told(&self, planned: &PlannedEncoder) -> String {
        let path = planned.checkpoint.display();
        let (size, text, name) = match &self.network {
            Network::Diffusion(ground) => (
                ground.preprocess.size,
                String::new(),
                ground.sha256.to_string(),
            ),
            Network::Latent(open) => (
                open.preprocess.size,
                match &planned.text {
                    PlannedText::Empty => ", told the empty text".to_string(),
                    PlannedText::Given(text) => format!(", told {text:?}"),
                    PlannedText::Learned { rate } => format!(
                        ", told a text that is learned from the empty one, at {rate} times the rate of the head"
                    ),
                },
                open.name.clone(),
            ),
        };
        format!("{path} at {size} x {size} pixels{text} ({name})")
    }

    pub(super) fn with<U: Use>(&self, place: &Place<'_>, what: U) -> Result<U::Made> {
        match &self.network {
            Network::Diffusion(ground) => what.on(&Reader {
                study: ground.study(place),
                subject: Subject {
                    name: self.name.clone(),
                    encoder: &ground.network,
                    hash: ground.sha256.to_string(),
                },
            }),
            Network::Latent(open) => what.on(&Reader {
                study: Study {
                    dir: place.shared,
                    preprocess: open.preprocess,
                    schedule: &open.schedule,
                    device: place.device,
                    workers: place.spec.workers(),
                },
                subject: Subject {
                    name: self.name.clone(),
                    encoder: &open.network,
                    hash: open.name.clone(),
                },
            }),
        }
    }
}
