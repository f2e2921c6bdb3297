//! Heads on several data sets.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{DataSource, Feed, PlannedBackbone, PlannedContender, Settings};

/// The name in results of the linear probe on raw pixels.
pub const RAW_PIXELS: &str = "raw pixels, linear";

/// Which heads compete on which data sets at one scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferScale {
    /// The diffusion model.
    pub checkpoint: PathBuf,
    /// The data sets, each with heads of its own training.
    pub data: Vec<NamedData>,
    /// Timestep of heads that do not say another.
    pub timestep: usize,
    /// Blocks that heads choose among, which do not say others.
    pub blocks: Vec<usize>,
    /// Side that maps are pooled to, for heads that do not say another.
    pub pool: usize,
    /// Training images a class; all without it.
    pub train_per_class: Option<usize>,
    /// Test images a class; all without it.
    pub test_per_class: Option<usize>,
    /// What a reader of the results must know, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Seeds of initial weights, batch order and noise.
    pub seeds: Vec<u64>,
    /// Recipe of linear probes.
    pub linear_recipe: String,
    /// Recipe of every other head.
    pub recipe: String,
    /// Where the heads' features come from.
    #[serde(default)]
    pub feed: Feed,
    /// Whether linear probes on raw pixels compete too.
    #[serde(default)]
    pub pixels: bool,
    /// Networks of other kinds whose last layer linear probes compete on too, averaged over the image.
    #[serde(default)]
    pub networks: Vec<PlannedBackbone>,
    /// The heads; the others are compared with the first.
    pub heads: Vec<PlannedContender>,
}

/// A data set with a name for tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedData {
    /// Its name in results and folders.
    pub name: String,
    /// Where its images are.
    pub data: DataSource,
}

impl NamedData {
    /// Its name as a folder's.
    pub fn folder(&self) -> String {
        crate::file_name(&self.name)
    }
}

impl Settings for TransferScale {
    fn seeds_mut(&mut self) -> Option<&mut Vec<u64>> {
        Some(&mut self.seeds)
    }

    fn check(&self) -> Result<(), String> {
        crate::at_least_one(&[
            ("data", self.data.len()),
            ("blocks", self.blocks.len()),
            ("pool", self.pool),
            ("seeds", self.seeds.len()),
            ("heads", self.heads.len()),
        ])?;
        let folders: Vec<String> = self.data.iter().map(NamedData::folder).collect();
        crate::distinct("data", folders.iter().map(String::as_str))?;
        let networks = self.networks.iter().map(|network| network.name.as_str());
        let heads = self.heads.iter().map(PlannedContender::title);
        crate::distinct("networks", networks.chain(heads))?;
        crate::heads::check_contenders(&self.heads, &self.feed)
    }

    fn assets(&self) -> Vec<&Path> {
        let mut assets = vec![self.checkpoint.as_path()];
        assets.extend(crate::heads::own_checkpoints(&self.heads));
        assets.extend(self.data.iter().map(|named| named.data.path()));
        assets.extend(
            self.networks
                .iter()
                .map(|network| network.checkpoint.as_path()),
        );
        assets
    }

    fn contenders(&self) -> Vec<&str> {
        let heads = self.heads.iter().map(PlannedContender::title);
        let networks = self.networks.iter().map(|network| network.name.as_str());
        heads
            .chain(self.pixels.then_some(RAW_PIXELS))
            .chain(networks)
            .collect()
    }
}
