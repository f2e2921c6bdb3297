//! Names and shapes of a network's parameters, from its configuration alone: what a checkpoint has
//! to hold is known before a single weight is allocated.

use diffrep_taps::BlockIndex;

use crate::config::{
    ClassifierPool, ConfigError, Direction, Kind, LayerSpec, Resample, UNetConfig,
};
use crate::head::HIDDEN;

/// In which part of a network a parameter lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The embeddings of timestep and class, which every block reads.
    Embedding,
    /// A block.
    Block(BlockIndex),
    /// What turns the last block's output into the network's.
    Head,
}

/// A parameter that a network has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterShape {
    /// Key in the reference's state dict.
    pub key: String,
    /// Shape in PyTorch's layout.
    pub shape: Vec<usize>,
    /// The part of the network it belongs to.
    pub place: Place,
}

/// Every parameter of the network that `config` describes, in module order: the order of
/// [`named_tensors`](crate::named_tensors).
///
/// # Errors
///
/// When the configuration does not fit together.
pub fn parameter_shapes(config: &UNetConfig) -> Result<Vec<ParameterShape>, ConfigError> {
    let blocks = config.blocks()?;
    let (base, embedding) = (config.model_channels, config.embedding_channels());
    let mut list = List {
        found: Vec::new(),
        place: Place::Embedding,
    };
    list.weight_and_bias("time_embed.0", &[embedding, base]);
    list.weight_and_bias("time_embed.2", &[embedding, embedding]);
    if let Some(classes) = config.num_classes {
        list.add("label_emb.weight".into(), vec![classes, embedding]);
    }
    for block in blocks.iter() {
        list.place = Place::Block(block.tap.block);
        for (i, layer) in block.layers.iter().enumerate() {
            list.layer(&format!("{}.{i}", block.tap.name), layer, config);
        }
    }
    list.place = Place::Head;
    let (channels, outputs) = (blocks.head_channels, config.out_channels);
    match config.kind {
        Kind::UNet => {
            list.weight_and_bias("out.0", &[channels]);
            list.weight_and_bias("out.2", &[outputs, channels, 3, 3]);
        }
        Kind::Encoder(ClassifierPool::Adaptive) => {
            list.weight_and_bias("out.0", &[channels]);
            list.weight_and_bias("out.3", &[outputs, channels, 1, 1]);
        }
        Kind::Encoder(ClassifierPool::Attention) => {
            let side = blocks.middle.tap.height;
            list.weight_and_bias("out.0", &[channels]);
            list.add(
                "out.2.positional_embedding".into(),
                vec![channels, side * side + 1],
            );
            list.weight_and_bias("out.2.qkv_proj", &[3 * channels, channels, 1]);
            list.weight_and_bias("out.2.c_proj", &[outputs, channels, 1]);
        }
        Kind::Encoder(pool @ (ClassifierPool::Spatial | ClassifierPool::SpatialV2)) => {
            let means = blocks.iter().map(|block| block.tap.channels).sum();
            list.weight_and_bias("out.0", &[HIDDEN, means]);
            if pool == ClassifierPool::SpatialV2 {
                list.weight_and_bias("out.1", &[HIDDEN]);
                list.weight_and_bias("out.3", &[outputs, HIDDEN]);
            } else {
                list.weight_and_bias("out.2", &[outputs, HIDDEN]);
            }
        }
    }
    Ok(list.found)
}

/// How many parameters the network that `config` describes has.
///
/// # Errors
///
/// When the configuration does not fit together.
pub fn parameter_count(config: &UNetConfig) -> Result<usize, ConfigError> {
    Ok(parameter_shapes(config)?
        .iter()
        .map(ParameterShape::count)
        .sum())
}

/// How many parameters it takes to compute block `last`: the embeddings and all blocks up to it.
///
/// # Errors
///
/// When the configuration does not fit together.
pub fn parameter_count_up_to(config: &UNetConfig, last: BlockIndex) -> Result<usize, ConfigError> {
    let shapes = parameter_shapes(config)?;
    let needed = shapes.iter().filter(|parameter| match parameter.place {
        Place::Embedding => true,
        Place::Block(block) => block <= last,
        Place::Head => false,
    });
    Ok(needed.map(ParameterShape::count).sum())
}

impl ParameterShape {
    /// How many numbers it holds.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

struct List {
    found: Vec<ParameterShape>,
    place: Place,
}

impl List {
    fn add(&mut self, key: String, shape: Vec<usize>) {
        self.found.push(ParameterShape {
            key,
            shape,
            place: self.place,
        });
    }

    /// A weight and a bias of as many elements as the weight's first axis.
    fn weight_and_bias(&mut self, layer: &str, weight: &[usize]) {
        self.add(format!("{layer}.weight"), weight.to_vec());
        self.add(format!("{layer}.bias"), vec![weight[0]]);
    }

    fn layer(&mut self, name: &str, layer: &LayerSpec, config: &UNetConfig) {
        match *layer {
            LayerSpec::Conv {
                channels: [inputs, outputs],
            } => {
                self.weight_and_bias(name, &[outputs, inputs, 3, 3]);
            }
            LayerSpec::Res {
                channels: [inputs, outputs],
                ..
            } => {
                let modulation = if config.use_scale_shift_norm {
                    2 * outputs
                } else {
                    outputs
                };
                self.weight_and_bias(&format!("{name}.in_layers.0"), &[inputs]);
                self.weight_and_bias(&format!("{name}.in_layers.2"), &[outputs, inputs, 3, 3]);
                let embedding = config.embedding_channels();
                self.weight_and_bias(&format!("{name}.emb_layers.1"), &[modulation, embedding]);
                self.weight_and_bias(&format!("{name}.out_layers.0"), &[outputs]);
                self.weight_and_bias(&format!("{name}.out_layers.3"), &[outputs, outputs, 3, 3]);
                if inputs != outputs {
                    self.weight_and_bias(
                        &format!("{name}.skip_connection"),
                        &[outputs, inputs, 1, 1],
                    );
                }
            }
            LayerSpec::Attention { channels } => {
                self.weight_and_bias(&format!("{name}.norm"), &[channels]);
                self.weight_and_bias(&format!("{name}.qkv"), &[3 * channels, channels, 1]);
                self.weight_and_bias(&format!("{name}.proj_out"), &[channels, channels, 1]);
            }
            LayerSpec::Resample {
                channels,
                direction,
            } => {
                let conv = if direction == Direction::Down {
                    "op"
                } else {
                    "conv"
                };
                if config.resample == Resample::Convolution {
                    self.weight_and_bias(&format!("{name}.{conv}"), &[channels, channels, 3, 3]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{Heads, named_tensors};

    /// Real networks of every kind have exactly these parameters, in this order.
    #[test]
    fn shapes_are_those_of_real_networks() {
        let base = UNetConfig {
            image_size: 8,
            ..UNetConfig::mini()
        };
        let kinds = [
            Kind::UNet,
            Kind::Encoder(ClassifierPool::Adaptive),
            Kind::Encoder(ClassifierPool::Attention),
            Kind::Encoder(ClassifierPool::Spatial),
            Kind::Encoder(ClassifierPool::SpatialV2),
        ];
        let mut configs: Vec<_> = kinds
            .map(|kind| UNetConfig {
                kind,
                ..base.clone()
            })
            .into();
        for resample in [Resample::Convolution, Resample::Plain] {
            configs.push(UNetConfig {
                resample,
                num_classes: Some(7),
                ..base.clone()
            });
        }
        configs.push(UNetConfig {
            use_scale_shift_norm: false,
            num_res_blocks: 2,
            channel_mult: vec![1.0, 3.0],
            attention_resolutions: vec![1],
            heads: Heads::Count(2),
            ..base
        });
        for config in configs {
            let network = config.init(&Device::flex()).unwrap();
            let real: Vec<_> = named_tensors(&network)
                .into_iter()
                .map(|p| (p.key, p.shape))
                .collect();
            let expected = parameter_shapes(&config).unwrap();
            let told: Vec<_> = expected
                .iter()
                .map(|p| (p.key.clone(), p.shape.clone()))
                .collect();
            assert_eq!(real, told, "{config:?}");
            let blocks = config.blocks().unwrap();
            for block in blocks.iter().map(|block| block.tap.block) {
                let up_to = parameter_count_up_to(&config, block).unwrap();
                assert_eq!(
                    up_to,
                    network.parameters_up_to(block),
                    "{config:?}, block {block}"
                );
            }
        }
    }

    /// The table of the paper's network, from the reference implementation.
    #[test]
    fn the_paper_s_network_has_the_published_counts() {
        let config = UNetConfig::adm_256_uncond();
        assert_eq!(parameter_count(&config).unwrap(), 552_814_086);
        assert_eq!(parameter_shapes(&config).unwrap().len(), 566);
        let taps: Vec<_> = config
            .blocks()
            .unwrap()
            .iter()
            .map(|block| block.tap.clone())
            .collect();
        assert_eq!(taps.len(), 37);
        for (number, channels, side, up_to) in [
            (19, 1024, 8, 210_904_064),
            (24, 1024, 16, 415_471_616),
            (30, 512, 64, 522_755_584),
            (37, 256, 256, 552_799_744),
        ] {
            let tap = &taps[number - 1];
            assert_eq!(
                (tap.channels, tap.height, tap.width),
                (channels, side, side)
            );
            assert_eq!(tap.block.get(), number);
            assert_eq!(parameter_count_up_to(&config, tap.block).unwrap(), up_to);
        }
    }
}
