//! Heads as plain configuration.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use diffrep_pool::{PoolSize, pyramid};
use diffrep_rng::{Generator, Key, Stream};
use diffrep_taps::TapInfo;
use serde::{Deserialize, Serialize};

use crate::fusion::Tokens;
use crate::{AttentionHead, CnnHead, FusionHead, HeadError, MlpHead, TransformerConfig};

/// A head before it knows its features.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "head", rename_all = "snake_case", deny_unknown_fields)]
pub enum HeadSpec {
    /// One layer on the pooled map.
    Linear {
        /// Cells a side that the map is pooled to.
        pool: PoolSize,
    },
    /// Layers with ReLU between them on the pooled map.
    Mlp {
        /// Cells a side that the map is pooled to.
        pool: PoolSize,
        /// Sizes of the hidden layers.
        hidden: Vec<usize>,
    },
    /// Two convolutions on the map.
    Cnn {
        /// Their channels.
        channels: [usize; 2],
    },
    /// Transformer blocks on the pixels of the map.
    Attention {
        /// Pixels a side that are averaged to a token.
        window: usize,
        /// The blocks.
        transformer: TransformerConfig,
    },
    /// Transformer blocks on the pixels of several maps (DifFormer).
    Fusion {
        /// Cells a side that a map is pooled to at most.
        pool: PoolSize,
        /// Channels of a token.
        width: usize,
        /// The blocks.
        transformer: TransformerConfig,
    },
}

/// A head of any kind.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a run has one of these")]
pub enum Head {
    /// A linear probe or an MLP.
    Mlp(MlpHead),
    /// The CNN head.
    Cnn(CnnHead),
    /// The attention head.
    Attention(AttentionHead),
    /// DifFormer.
    Fusion(FusionHead),
}

/// A head with what it does to a map before its first weight.
#[derive(Debug, Clone)]
pub struct Pooled {
    /// The weights.
    pub head: Head,
    pool: Option<PoolSize>,
}

impl HeadSpec {
    /// The words of [`HeadSpec::named`].
    pub const NAMES: [&'static str; 5] = ["linear", "mlp", "cnn", "attention", "fusion"];

    /// A head in the paper's proportions for maps of `taps`: an MLP with twice as many hidden units
    /// as channels, a CNN with a half and a quarter of them, attention in windows of 2 x 2 with 2
    /// blocks of 8 heads, fusion likewise on at most 16 x 16 tokens as wide as the widest map.
    ///
    /// # Errors
    ///
    /// When there is no such head or no tap.
    pub fn named(name: &str, taps: &[TapInfo]) -> Result<Self, HeadError> {
        let tap = taps.first().ok_or(HeadError::Zero {
            what: "the number of blocks",
        })?;
        let pool = PoolSize::new(tap.height.min(tap.width))?;
        let transformer = TransformerConfig {
            heads: 8,
            mlp_ratio: 4,
            depth: 2,
        };
        Ok(match name {
            "linear" => Self::Linear { pool },
            "mlp" => Self::Mlp {
                pool,
                hidden: vec![2 * tap.channels],
            },
            "cnn" => Self::Cnn {
                channels: [tap.channels.div_ceil(2), tap.channels.div_ceil(4)],
            },
            "attention" => Self::Attention {
                window: 2.min(pool.get()),
                transformer,
            },
            "fusion" => Self::Fusion {
                pool: PoolSize::new(16)?,
                width: taps.iter().map(|tap| tap.channels).max().unwrap_or(0),
                transformer,
            },
            _ => {
                return Err(HeadError::Unknown {
                    name: name.into(),
                    known: Self::NAMES.join(", "),
                });
            }
        })
    }

    /// As a word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Linear { .. } => "linear",
            Self::Mlp { .. } => "mlp",
            Self::Cnn { .. } => "cnn",
            Self::Attention { .. } => "attention",
            Self::Fusion { .. } => "fusion",
        }
    }

    /// That the head fits maps of `taps` at each of `steps` timesteps.
    ///
    /// # Errors
    ///
    /// When it does not, naming both sides.
    pub fn check(&self, taps: &[TapInfo], steps: usize, classes: usize) -> Result<(), HeadError> {
        let positive = |count: usize, what| match count {
            0 => Err(HeadError::Zero { what }),
            _ => Ok(()),
        };
        positive(classes, "the number of classes")?;
        positive(taps.len(), "the number of blocks")?;
        positive(steps, "the number of timesteps")?;
        if let Self::Fusion {
            width, transformer, ..
        } = self
        {
            positive(*width, "the width of a token")?;
            return transformer.check(*width);
        }
        let ([tap], 1) = (taps, steps) else {
            return Err(HeadError::Several {
                head: self.name(),
                blocks: taps.len(),
                steps,
            });
        };
        match self {
            Self::Linear { pool } => pool.check(tap).map(|_| ())?,
            Self::Mlp { pool, hidden } => {
                pool.check(tap)?;
                for size in hidden {
                    positive(*size, "the size of a hidden layer")?;
                }
            }
            Self::Cnn { channels } => {
                for count in channels {
                    positive(*count, "the number of channels")?;
                }
                CnnHead::check(tap)?;
            }
            Self::Attention {
                window,
                transformer,
            } => {
                transformer.check(tap.channels)?;
                PoolSize::new(*window)?.check(tap)?;
            }
            Self::Fusion { .. } => {}
        }
        Ok(())
    }

    /// The head for maps of `taps` at each of `steps` timesteps. Initial weights are PyTorch's
    /// defaults, a function of `seed` alone.
    ///
    /// # Errors
    ///
    /// When the head does not fit the maps, naming both sides.
    pub fn build(
        &self,
        taps: &[TapInfo],
        steps: usize,
        classes: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Pooled, HeadError> {
        self.check(taps, steps, classes)?;
        let tap = &taps[0];
        let draw = &mut Key::new(seed, Stream::Init).generator();
        let mlp = |pool: PoolSize, hidden: &[usize], draw: &mut Generator| {
            let head = MlpHead::new(pool.features(tap), hidden, classes, draw, device);
            (Head::Mlp(head), Some(pool))
        };
        let (head, pool) = match self {
            Self::Linear { pool } => mlp(*pool, &[], draw),
            Self::Mlp { pool, hidden } => mlp(*pool, hidden, draw),
            Self::Cnn { channels } => {
                let head = CnnHead::new(tap, *channels, classes, draw, device);
                (Head::Cnn(head), None)
            }
            Self::Attention {
                window,
                transformer,
            } => {
                let head = AttentionHead::new(tap, *window, *transformer, classes, draw, device);
                (Head::Attention(head), None)
            }
            Self::Fusion {
                pool,
                width,
                transformer,
            } => {
                let tokens = Tokens {
                    pool: *pool,
                    width: *width,
                };
                let head =
                    FusionHead::new(taps, steps, tokens, *transformer, classes, draw, device);
                (Head::Fusion(head), None)
            }
        };
        Ok(Pooled { head, pool })
    }

    /// How many parameters the head has, without building it.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub fn parameters(
        &self,
        taps: &[TapInfo],
        steps: usize,
        classes: usize,
    ) -> Result<usize, HeadError> {
        self.check(taps, steps, classes)?;
        let tap = &taps[0];
        let dense = |sizes: &[usize]| -> usize {
            let pairs = sizes.windows(2).map(|pair| (pair[0] + 1) * pair[1]);
            pairs.sum()
        };
        Ok(match self {
            Self::Linear { pool } => dense(&[pool.features(tap), classes]),
            Self::Mlp { pool, hidden } => {
                dense(&[&[pool.features(tap)], hidden.as_slice(), &[classes]].concat())
            }
            Self::Cnn {
                channels: [first, second],
            } => {
                let convolutions = (4 * tap.channels + 1) * first + (4 * first + 1) * second;
                convolutions + dense(&[4 * second, classes])
            }
            Self::Attention { transformer, .. } => {
                transformer.parameters(tap.channels) + dense(&[tap.channels, classes])
            }
            Self::Fusion {
                pool,
                width,
                transformer,
            } => {
                let pre_layer = |tap: &TapInfo| {
                    let cells = tap.height.min(pool.get()) * tap.width.min(pool.get());
                    2 * tap.channels * cells + dense(&[tap.channels, *width])
                };
                let pre_layers: usize = taps.iter().map(pre_layer).sum();
                pre_layers + transformer.parameters(*width) + dense(&[width * steps, classes])
            }
        })
    }
}

impl Pooled {
    /// The weights.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The same with another head in it, such as one off the autodiff graph.
    pub fn map(self, change: impl FnOnce(Head) -> Head) -> Self {
        Self {
            head: change(self.head),
            pool: self.pool,
        }
    }

    /// The same with another head in it, such as one with other weights.
    ///
    /// # Errors
    ///
    /// When `change` fails.
    pub fn try_map<E>(self, change: impl FnOnce(Head) -> Result<Head, E>) -> Result<Self, E> {
        Ok(Self {
            head: change(self.head)?,
            pool: self.pool,
        })
    }

    /// Logits `[batch, classes]` of maps `[batch, channels, height, width]`, for each timestep one of
    /// each block in their order.
    ///
    /// # Panics
    ///
    /// Panics when a map has other sizes than the head was built for.
    pub fn forward(&self, mut maps: Vec<Tensor<4>>) -> Tensor<2> {
        if let Head::Fusion(head) = &self.head {
            return head.forward(maps);
        }
        assert_eq!(maps.len(), 1, "this head reads one map");
        let map = maps.remove(0);
        match (&self.head, self.pool) {
            (Head::Mlp(head), Some(pool)) => head.forward(pyramid(map, &[pool]).remove(0)),
            (Head::Mlp(head), None) => head.forward(map.flatten(1, 3)),
            (Head::Cnn(head), _) => head.forward(map),
            (Head::Attention(head), _) => head.forward(map),
            (Head::Fusion(_), _) => unreachable!("returned above"),
        }
    }
}
