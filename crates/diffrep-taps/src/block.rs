use std::{collections::BTreeSet, fmt, num::NonZeroUsize};

use serde::{Deserialize, Serialize};

/// A block of a network, counted from 1 as in the paper (section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlockIndex(NonZeroUsize);

impl BlockIndex {
    /// Block `index`, or `None` for 0.
    pub fn new(index: usize) -> Option<Self> {
        NonZeroUsize::new(index).map(Self)
    }

    /// The number as the paper writes it, from 1.
    pub fn get(self) -> usize {
        self.0.get()
    }

    /// The position of this block in a list of blocks, from 0.
    pub fn position(self) -> usize {
        self.0.get() - 1
    }

    /// The block at `position` in a list of blocks.
    pub fn at(position: usize) -> Self {
        Self(NonZeroUsize::MIN.saturating_add(position))
    }
}

impl fmt::Display for BlockIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a block puts out: `[batch, channels, height, width]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapInfo {
    /// Which block.
    pub block: BlockIndex,
    /// Its name in the reference's state dict, such as `output_blocks.4`.
    pub name: String,
    /// Channels of its output.
    pub channels: usize,
    /// Height of its output in pixels.
    pub height: usize,
    /// Width of its output in pixels.
    pub width: usize,
}

/// A set of blocks that an encoder has, checked once; knows where a traversal may stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapSet {
    blocks: BTreeSet<BlockIndex>,
    last: BlockIndex,
}

impl TapSet {
    /// The given blocks of an encoder with these `taps`, in any order, duplicates allowed.
    ///
    /// # Errors
    ///
    /// When no block is asked for, or one that the encoder does not have.
    pub fn new(
        blocks: impl IntoIterator<Item = usize>,
        taps: &[TapInfo],
    ) -> Result<Self, TapError> {
        let known: BTreeSet<_> = taps.iter().map(|tap| tap.block).collect();
        let blocks = blocks
            .into_iter()
            .map(|block| {
                BlockIndex::new(block)
                    .filter(|index| known.contains(index))
                    .ok_or(TapError::OutOfRange {
                        block,
                        blocks: taps.len(),
                    })
            })
            .collect::<Result<BTreeSet<_>, _>>()?;
        let last = *blocks.last().ok_or(TapError::Empty)?;
        Ok(Self { blocks, last })
    }

    /// Every block of an encoder.
    ///
    /// # Errors
    ///
    /// When the encoder has none.
    pub fn all(taps: &[TapInfo]) -> Result<Self, TapError> {
        Self::new(taps.iter().map(|tap| tap.block.get()), taps)
    }

    /// The last block to compute.
    pub fn last(&self) -> BlockIndex {
        self.last
    }

    /// Whether `block` is wanted.
    pub fn contains(&self, block: BlockIndex) -> bool {
        self.blocks.contains(&block)
    }

    /// The wanted blocks, ascending.
    pub fn iter(&self) -> impl Iterator<Item = BlockIndex> + '_ {
        self.blocks.iter().copied()
    }

    /// How many blocks are wanted; at least 1.
    #[allow(clippy::len_without_is_empty, reason = "a tap set is never empty")]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }
}

/// Why a set of blocks cannot be tapped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// The network has no such block.
    #[error("block {block} does not exist: this network has blocks 1..={blocks}")]
    OutOfRange {
        /// The block asked for.
        block: usize,
        /// How many blocks there are.
        blocks: usize,
    },
    /// No block was asked for.
    #[error("no block was asked for: name at least one")]
    Empty,
}
