use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use diffrep_pool::{PoolError, PoolSize};
use diffrep_schedule::{Schedule, ScheduleError};
use diffrep_taps::{BlockIndex, TapError, TapInfo, TapSet};
use serde::{Deserialize, Serialize};

/// Where a feature comes from: the three choices of section 4.1.1 of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Noise step; `None` for the clean image.
    pub t: Option<usize>,
    /// Block, from 1.
    pub block: BlockIndex,
    /// Pooled side.
    pub pool: PoolSize,
}

impl Setting {
    /// The name of its column in a store, such as `t90_b24_p2` or `clean_b01_p8`.
    pub fn column(&self) -> String {
        match self.t {
            Some(t) => format!("t{t}_b{:02}_p{}", self.block.get(), self.pool),
            None => format!("clean_b{:02}_p{}", self.block.get(), self.pool),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.t {
            Some(t) => write!(f, "t = {t}, block {}, pool {}", self.block, self.pool),
            None => write!(f, "clean, block {}, pool {}", self.block, self.pool),
        }
    }
}

/// A setting that an encoder cannot serve.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// No such block.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// The pool does not fit the map.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// No such timestep.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
}

/// Settings checked against an encoder and a schedule, grouped by timestep so that one forward
/// serves all blocks and pools of a timestep.
#[derive(Clone, Debug)]
pub struct Settings {
    groups: Vec<(Option<usize>, TapSet, BTreeMap<BlockIndex, Vec<PoolSize>>)>,
    columns: Vec<(Setting, usize)>,
}

impl Settings {
    /// Checks `wanted` (any order, duplicates allowed).
    ///
    /// # Errors
    ///
    /// When a block, timestep or pool is out of range, naming the range.
    pub fn new(
        wanted: impl IntoIterator<Item = Setting>,
        taps: &[TapInfo],
        schedule: &Schedule,
    ) -> Result<Self, SettingError> {
        let wanted: BTreeSet<Setting> = wanted.into_iter().collect();
        let mut by_step: BTreeMap<Option<usize>, BTreeMap<BlockIndex, Vec<PoolSize>>> =
            BTreeMap::new();
        let mut columns = Vec::new();
        for setting in wanted {
            if let Some(t) = setting.t {
                schedule.check(t)?;
            }
            TapSet::new([setting.block.get()], taps)?;
            let tap = &taps[setting.block.position()];
            setting.pool.check(tap)?;
            by_step
                .entry(setting.t)
                .or_default()
                .entry(setting.block)
                .or_default()
                .push(setting.pool);
            columns.push((setting, setting.pool.features(tap)));
        }
        let groups = by_step
            .into_iter()
            .map(|(t, blocks)| {
                Ok((
                    t,
                    TapSet::new(blocks.keys().map(|b| b.get()), taps)?,
                    blocks,
                ))
            })
            .collect::<Result<Vec<_>, TapError>>()?;
        if groups.is_empty() {
            return Err(TapError::Empty.into());
        }
        Ok(Self { groups, columns })
    }

    /// The last block that any timestep needs.
    pub fn last_block(&self) -> BlockIndex {
        let last = self.columns.iter().map(|(setting, _)| setting.block).max();
        last.expect("settings are not empty")
    }

    /// Timesteps, the blocks wanted at each, and the pools wanted of each block; ascending.
    pub fn groups(
        &self,
    ) -> impl Iterator<Item = (Option<usize>, &TapSet, &BTreeMap<BlockIndex, Vec<PoolSize>>)> {
        self.groups
            .iter()
            .map(|(t, taps, blocks)| (*t, taps, blocks))
    }

    /// Settings and their feature lengths in the order of columns: by timestep, block, pool.
    pub fn columns(&self) -> &[(Setting, usize)] {
        &self.columns
    }
}
