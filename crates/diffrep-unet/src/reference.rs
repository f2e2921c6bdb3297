//! The reference's constructor arguments as JSON (`UNetModel(...)`, `EncoderUNetModel(...)`).

use serde::Deserialize;

use crate::config::{
    AttentionOrder, ClassifierPool, ConfigError, Details, Heads, Kind, Resample, UNetConfig,
};

/// Keyword arguments of `guided_diffusion.unet.UNetModel` or `EncoderUNetModel`, with their
/// defaults. `attention_resolutions` are down-sampling factors, as in the constructor.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceArgs {
    /// `UNetModel` or `EncoderUNetModel`.
    pub class: String,
    /// A parameter count to check, if given.
    pub params: Option<usize>,
    /// Height and width of the input.
    pub image_size: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the first level.
    pub model_channels: usize,
    /// Channels or logits of the output.
    pub out_channels: usize,
    /// Residual blocks a level.
    pub num_res_blocks: usize,
    /// Down-sampling factors with attention.
    pub attention_resolutions: Vec<usize>,
    /// Channel multipliers.
    #[serde(default = "default_mult")]
    pub channel_mult: Vec<f64>,
    /// Heads, if `num_head_channels` is not given.
    #[serde(default = "one")]
    pub num_heads: usize,
    /// Channels a head.
    pub num_head_channels: Option<i64>,
    /// Classes, if conditional.
    pub num_classes: Option<usize>,
    /// Whether the timestep also scales.
    #[serde(default)]
    pub use_scale_shift_norm: bool,
    /// Whether residual blocks change resolution.
    #[serde(default)]
    pub resblock_updown: bool,
    /// Whether resampling layers have a convolution.
    #[serde(default = "yes")]
    pub conv_resample: bool,
    /// Row order of attention projections.
    #[serde(default)]
    pub use_new_attention_order: bool,
    /// Dropout of training; features never see it.
    #[serde(default)]
    pub dropout: f64,
    /// Pooling of the classifier.
    pub pool: Option<ClassifierPool>,
}

fn default_mult() -> Vec<f64> {
    vec![1.0, 2.0, 4.0, 8.0]
}

fn one() -> usize {
    1
}

fn yes() -> bool {
    true
}

impl TryFrom<ReferenceArgs> for UNetConfig {
    type Error = ConfigError;

    fn try_from(args: ReferenceArgs) -> Result<Self, ConfigError> {
        let kind = match args.class.as_str() {
            "UNetModel" => Kind::UNet,
            "EncoderUNetModel" => Kind::Encoder(args.pool.unwrap_or(ClassifierPool::Adaptive)),
            other => {
                let reason = format!(
                    "`{other}` is not a network of this crate: use UNetModel or EncoderUNetModel"
                );
                return Err(ConfigError { reason });
            }
        };
        let config = UNetConfig {
            kind,
            image_size: args.image_size,
            in_channels: args.in_channels,
            model_channels: args.model_channels,
            out_channels: args.out_channels,
            num_res_blocks: args.num_res_blocks,
            attention_resolutions: args.attention_resolutions,
            channel_mult: args.channel_mult,
            heads: match args.num_head_channels {
                Some(size) if size > 0 => Heads::Channels(size as usize),
                _ => Heads::Count(args.num_heads),
            },
            num_classes: args.num_classes,
            use_scale_shift_norm: args.use_scale_shift_norm,
            resample: match (args.resblock_updown, args.conv_resample) {
                (true, _) => Resample::Residual,
                (false, true) => Resample::Convolution,
                (false, false) => Resample::Plain,
            },
            attention_order: if args.use_new_attention_order {
                AttentionOrder::New
            } else {
                AttentionOrder::Legacy
            },
            details: Details::default(),
        };
        config.blocks()?;
        Ok(config)
    }
}
