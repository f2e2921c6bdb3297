use diffrep_pool::PoolError;

/// A head that does not fit its features, or does not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// Weights and bias are of different sizes.
    #[error("a linear head for {features} features and {classes} classes needs {} weights, not {weights}", features * classes)]
    Weights {
        /// Features it reads.
        features: usize,
        /// Classes it tells apart.
        classes: usize,
        /// Weights given.
        weights: usize,
    },
    /// The features come from elsewhere.
    #[error(
        "the head reads {head} features, but block {block} pooled to {pool} x {pool} gives {found}"
    )]
    Features {
        /// What the head reads.
        head: usize,
        /// The block.
        block: usize,
        /// The pool.
        pool: usize,
        /// What they give.
        found: usize,
    },
    /// A word that names no head.
    #[error("there is no head `{name}`: use one of {known}, or the path of a TOML file")]
    Unknown {
        /// The word.
        name: String,
        /// The words that do.
        known: String,
    },
    /// A pool larger than the map.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A size that must be at least one is zero.
    #[error("{what} is 0: expected at least 1")]
    Zero {
        /// What is zero.
        what: &'static str,
    },
    /// A map too small for the two convolutions.
    #[error(
        "a CNN head halves the map twice and needs at least {least} x {least}, but block {block} is {height} x {width}"
    )]
    Small {
        /// The block.
        block: usize,
        /// Height of its map.
        height: usize,
        /// Width of its map.
        width: usize,
        /// Smallest side that works.
        least: usize,
    },
    /// The attention heads do not divide the width.
    #[error("{heads} attention heads do not divide {width} channels")]
    Heads {
        /// Attention heads.
        heads: usize,
        /// Channels of a token.
        width: usize,
    },
    /// A head that reads one map was given several, or none.
    #[error(
        "a {head} head reads one block at one timestep, not {blocks} blocks at {steps} timesteps: only `fusion` reads several"
    )]
    Several {
        /// The head.
        head: &'static str,
        /// Blocks given.
        blocks: usize,
        /// Timesteps given.
        steps: usize,
    },
    /// A block that cannot be fed back.
    #[error(
        "block {block} cannot be fed back: of {blocks} blocks those after block {middle} can, once each"
    )]
    FedBack {
        /// The block.
        block: usize,
        /// Blocks of the network.
        blocks: usize,
        /// Its middle block.
        middle: usize,
    },
    /// Weights by name that are not those of the head.
    #[error("the weights are not those of this head: {0}")]
    State(String),
}
