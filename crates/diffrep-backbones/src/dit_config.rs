//! What a diffusion transformer is described by.

use diffrep_state::NamedTensor;
use diffrep_taps::{BlockIndex, TapInfo};
use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, divides, layer_taps, within};

/// A diffusion transformer (Peebles & Xie 2023): a network on latents, whose blocks are modulated by
/// timestep and class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiTConfig {
    /// Side of the latents, an eighth of the images'.
    pub image_size: usize,
    /// Channels of the latents.
    pub in_channels: usize,
    /// Side of a patch.
    pub patch: usize,
    /// Channels of a token.
    pub width: usize,
    /// How many blocks there are.
    pub depth: usize,
    /// Heads of each attention.
    pub heads: usize,
    /// Width of the hidden layer of each MLP.
    pub mlp: usize,
    /// Classes that the network was trained with.
    pub classes: usize,
    /// Whether it also has a null class, for images of no class.
    pub null_class: bool,
    /// Whether it predicts variances beside the noise.
    pub learn_sigma: bool,
}

/// Sines and cosines of a timestep.
pub(crate) const FREQUENCIES: usize = 256;

/// Depth, width and heads of the published sizes.
const SIZES: [(&str, [usize; 3]); 4] = [
    ("s", [12, 384, 6]),
    ("b", [12, 768, 12]),
    ("l", [24, 1024, 16]),
    ("xl", [28, 1152, 16]),
];

/// Names of the known networks, and the side of their images.
const PRESETS: [(&str, usize); 5] = [
    ("dit_xl_2_256", 256),
    ("dit_xl_2_512", 512),
    ("dit_l_2_256", 256),
    ("dit_b_2_256", 256),
    ("dit_s_2_256", 256),
];

impl DiTConfig {
    /// `DiT_XL_2` and its like for images of `image_size` pixels: `size` is s, b, l or xl.
    fn published(size: &str, patch: usize, image_size: usize) -> Option<Self> {
        let (_, [depth, width, heads]) = SIZES.into_iter().find(|(name, _)| *name == size)?;
        Some(Self {
            image_size: image_size / 8,
            in_channels: 4,
            patch,
            width,
            depth,
            heads,
            mlp: 4 * width,
            classes: 1000,
            null_class: true,
            learn_sigma: true,
        })
    }

    /// A known network: `dit_xl_2_256` and `dit_xl_2_512` are the published checkpoints.
    pub fn preset(name: &str) -> Option<Self> {
        let (name, image_size) = PRESETS.into_iter().find(|(known, _)| *known == name)?;
        let size = name.split('_').nth(1)?;
        Self::published(size, 2, image_size)
    }

    /// The names that [`preset`](Self::preset) knows.
    pub fn preset_names() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|(name, _)| *name)
    }

    /// Heads of the published size with this depth and width, which a checkpoint does not tell.
    pub fn usual_heads(depth: usize, width: usize) -> Option<usize> {
        let mut sizes = SIZES.iter().map(|(_, sizes)| sizes);
        let found = sizes.find(|[deep, wide, _]| [*deep, *wide] == [depth, width]);
        found.map(|[_, _, heads]| *heads)
    }

    /// Patches along a side.
    pub(crate) fn grid(&self) -> usize {
        self.image_size / self.patch
    }

    /// Channels of the network's output.
    pub fn out_channels(&self) -> usize {
        match self.learn_sigma {
            true => 2 * self.in_channels,
            false => self.in_channels,
        }
    }

    /// Every tensor of the network, in module order, as the reference names it: what a checkpoint has to
    /// hold is known before a single weight is allocated.
    pub fn tensors(&self) -> Vec<NamedTensor> {
        let mut found = Vec::new();
        let mut add = |key: String, shape: Vec<usize>| found.push(NamedTensor { key, shape });
        let (width, patch) = (self.width, self.patch);
        let layers = |add: &mut dyn FnMut(String, Vec<usize>), all: &[(String, Vec<usize>)]| {
            for (name, shape) in all {
                add(format!("{name}.weight"), shape.clone());
                add(format!("{name}.bias"), shape[..1].to_vec());
            }
        };
        layers(
            &mut add,
            &[
                (
                    "x_embedder.proj".into(),
                    vec![width, self.in_channels, patch, patch],
                ),
                ("t_embedder.mlp.0".into(), vec![width, FREQUENCIES]),
                ("t_embedder.mlp.2".into(), vec![width, width]),
            ],
        );
        let rows = self.classes + usize::from(self.null_class);
        add(
            "y_embedder.embedding_table.weight".into(),
            vec![rows, width],
        );
        add(
            "pos_embed".into(),
            vec![1, self.grid() * self.grid(), width],
        );
        for block in 0..self.depth {
            let within = [
                ("attn.qkv", [3 * width, width]),
                ("attn.proj", [width, width]),
                ("mlp.fc1", [self.mlp, width]),
                ("mlp.fc2", [width, self.mlp]),
                ("adaLN_modulation.1", [6 * width, width]),
            ];
            layers(
                &mut add,
                &within.map(|(name, shape)| (format!("blocks.{block}.{name}"), shape.to_vec())),
            );
        }
        let outputs = patch * patch * self.out_channels();
        layers(
            &mut add,
            &[
                ("final_layer.linear".into(), vec![outputs, width]),
                (
                    "final_layer.adaLN_modulation.1".into(),
                    vec![2 * width, width],
                ),
            ],
        );
        found
    }

    /// How many parameters there are, the fixed position embedding among them, as the reference counts.
    pub fn parameters(&self) -> usize {
        count(self.tensors().iter())
    }

    /// How many of them features of a block need.
    pub fn parameters_up_to(&self, block: BlockIndex) -> usize {
        let tensors = self.tensors();
        let needed = tensors.iter().filter(|tensor| {
            let mut parts = tensor.key.split('.');
            match (parts.next(), parts.next()) {
                (Some("final_layer"), _) => false,
                (Some("blocks"), Some(number)) => number
                    .parse()
                    .is_ok_and(|number: usize| number < block.get()),
                _ => true,
            }
        });
        count(needed)
    }

    /// Every block with what it puts out, `blocks.0` being block 1.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit together.
    pub fn taps(&self) -> Result<Vec<TapInfo>, ConfigError> {
        within("image_size", self.image_size, 1..=1024)?;
        within("in_channels", self.in_channels, 1..=4096)?;
        within("patch", self.patch, 1..=self.image_size)?;
        within("width", self.width, 1..=65536)?;
        within("depth", self.depth, 1..=512)?;
        within("heads", self.heads, 1..=self.width)?;
        within("mlp", self.mlp, 1..=1 << 18)?;
        within("classes", self.classes, 1..=1 << 20)?;
        divides(("patch", self.patch), ("image_size", self.image_size))?;
        divides(("heads", self.heads), ("width", self.width))?;
        Ok(layer_taps(self.depth, false, self.width, self.grid()))
    }
}

fn count<'a>(tensors: impl Iterator<Item = &'a NamedTensor>) -> usize {
    tensors
        .map(|tensor| tensor.shape.iter().product::<usize>())
        .sum()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::named_tensors;

    /// Counts of the reference implementation (`fixtures/parity/generative.py --counts`).
    #[test]
    fn presets_have_the_published_counts() {
        let counts = [
            675_129_632,
            676_014_368,
            458_102_816,
            130_512_416,
            32_963_360,
        ];
        for (name, count) in DiTConfig::preset_names().zip(counts) {
            let config = DiTConfig::preset(name).unwrap();
            assert_eq!(config.parameters(), count, "{name}");
            let heads = DiTConfig::usual_heads(config.depth, config.width);
            assert_eq!(heads, Some(config.heads));
        }
        assert_eq!(DiTConfig::preset("dit_xl_4_256"), None);
        let xl = DiTConfig::preset("dit_xl_2_256").unwrap();
        let last = xl.parameters_up_to(BlockIndex::at(27));
        // The output's normalisation has no weights: two linear layers are left.
        assert_eq!(xl.parameters() - last, 1153 * 2304 + 1153 * 32);
    }

    #[test]
    fn tensors_are_those_of_the_network() {
        let config = DiTConfig {
            width: 12,
            depth: 2,
            heads: 3,
            mlp: 20,
            classes: 4,
            image_size: 4,
            ..DiTConfig::preset("dit_s_2_256").unwrap()
        };
        let network = config.blank(&Device::flex()).unwrap();
        assert_eq!(named_tensors(&network), config.tensors());
    }
}
