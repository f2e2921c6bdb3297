use std::collections::BTreeMap;

use burn::tensor::{Device, Int, Tensor};
use diffrep_rng::Key;

use crate::{BlockIndex, TapInfo, TapSet};

/// What an encoder is told beside the image. Networks ignore what they have no input for and
/// panic where something they need is missing.
#[derive(Clone, Debug, Default)]
pub struct Condition {
    /// Timestep per image, `[batch]`, or `[1]` for all; fractional where a schedule was rescaled.
    pub t: Option<Tensor<1>>,
    /// Class label per image, `[batch]`.
    pub label: Option<Tensor<1, Int>>,
    /// Text embedding per image, `[batch, tokens, dim]`.
    pub context: Option<Tensor<3>>,
}

impl Condition {
    /// The same timestep for every image: embedded once, whatever the batch, so that an image's
    /// features have the same bits in any batch.
    pub fn timestep(t: f32, device: &Device) -> Self {
        Self {
            t: Some(Tensor::full([1], t, device)),
            ..Self::default()
        }
    }

    /// The same condition with class labels `[batch]`.
    #[must_use]
    pub fn with_label(self, label: Tensor<1, Int>) -> Self {
        Self {
            label: Some(label),
            ..self
        }
    }
}

/// Features that a second traversal adds to the outputs of early blocks (DifFeed,
/// arXiv 2311.17921): the map for block k, `[batch, channels, height, width]`, is resized
/// bilinearly to that block's output and added to it, and the sum is also what the decoder sees
/// as skip connection.
#[derive(Clone, Debug, Default)]
pub struct Feedback {
    /// Addend per block.
    pub addends: BTreeMap<BlockIndex, Tensor<4>>,
}

/// Feature maps `[batch, channels, height, width]` by block: whatever order they were asked in,
/// they are looked up by block, never by position.
#[derive(Clone, Debug, Default)]
pub struct Taps {
    maps: BTreeMap<BlockIndex, Tensor<4>>,
}

impl Taps {
    /// No maps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores the output of `block`.
    pub fn insert(&mut self, block: BlockIndex, map: Tensor<4>) {
        self.maps.insert(block, map);
    }

    /// The output of `block`, if it was asked for.
    pub fn get(&self, block: BlockIndex) -> Option<&Tensor<4>> {
        self.maps.get(&block)
    }

    /// Takes the output of `block` out.
    pub fn remove(&mut self, block: BlockIndex) -> Option<Tensor<4>> {
        self.maps.remove(&block)
    }

    /// Blocks and maps, ascending by block.
    pub fn iter(&self) -> impl Iterator<Item = (BlockIndex, &Tensor<4>)> {
        self.maps.iter().map(|(block, map)| (*block, map))
    }

    /// How many maps there are.
    pub fn len(&self) -> usize {
        self.maps.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.maps.is_empty()
    }
}

impl IntoIterator for Taps {
    type Item = (BlockIndex, Tensor<4>);
    type IntoIter = std::collections::btree_map::IntoIter<BlockIndex, Tensor<4>>;

    fn into_iter(self) -> Self::IntoIter {
        self.maps.into_iter()
    }
}

/// A network that maps images to feature maps. It never learns which head reads them.
pub trait Encoder {
    /// Every tap, in the order of computation.
    fn taps(&self) -> Vec<TapInfo>;

    /// What the diffusion process noises in place of an image: the image itself, or what the first
    /// stage of a network in a latent space makes of it. It is called once an image, before noise of
    /// its result's shape is added; that result, noised, is the `image` of
    /// [`forward_taps`](Self::forward_taps).
    ///
    /// # Shapes
    ///
    /// - `image`: `[batch, channels, height, width]`, without noise
    /// - `keys`: one an image, which names it to a first stage that draws at random
    /// - result: `[batch, channels, height, width]` of the network's input
    ///
    /// # Panics
    ///
    /// When the image's shape is not what the first stage takes.
    fn first_stage(&self, image: Tensor<4>, keys: &[Key]) -> Tensor<4> {
        let _ = keys;
        image
    }

    /// The outputs of the blocks in `wanted`, in one traversal that computes nothing past the last.
    ///
    /// # Shapes
    ///
    /// - `image`: `[batch, channels, height, width]`, already noised to the condition's timestep
    /// - result: per block `[batch, tap.channels, tap.height, tap.width]`
    ///
    /// # Panics
    ///
    /// When the image's shape is not the encoder's input shape, or the condition lacks something
    /// the encoder needs.
    fn forward_taps(
        &self,
        image: Tensor<4>,
        condition: &Condition,
        wanted: &TapSet,
        feedback: Option<&Feedback>,
    ) -> Taps;
}
