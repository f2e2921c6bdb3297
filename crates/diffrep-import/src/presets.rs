//! The published networks of guided diffusion (README of openai/guided-diffusion, MODEL_FLAGS):
//! what their files' names and shapes leave open is known from the publication.

use diffrep_unet::{AttentionOrder, ClassifierPool, Heads, Kind, Resample, UNetConfig};

/// A published network.
struct Published {
    name: &'static str,
    size: usize,
    channels: usize,
    depth: usize,
    mult: &'static [f64],
    classes: Option<usize>,
    classifier: bool,
}

const MULT_64: &[f64] = &[1.0, 2.0, 3.0, 4.0];
const MULT_128: &[f64] = &[1.0, 1.0, 2.0, 3.0, 4.0];
const MULT_256: &[f64] = &[1.0, 1.0, 2.0, 2.0, 4.0, 4.0];
const MULT_512: &[f64] = &[0.5, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0];

const fn diffusion(
    name: &'static str,
    size: usize,
    channels: usize,
    depth: usize,
    mult: &'static [f64],
    classes: Option<usize>,
) -> Published {
    Published {
        name,
        size,
        channels,
        depth,
        mult,
        classes,
        classifier: false,
    }
}

const fn classifier(
    name: &'static str,
    size: usize,
    depth: usize,
    mult: &'static [f64],
) -> Published {
    Published {
        name,
        size,
        channels: 128,
        depth,
        mult,
        classes: None,
        classifier: true,
    }
}

/// The LSUN networks (`lsun_bedroom.pt` and so on) have the architecture of the unconditional one.
const PUBLISHED: [Published; 9] = [
    diffusion("256x256_diffusion_uncond", 256, 256, 2, MULT_256, None),
    diffusion("256x256_diffusion", 256, 256, 2, MULT_256, Some(1000)),
    diffusion("128x128_diffusion", 128, 256, 2, MULT_128, Some(1000)),
    diffusion("64x64_diffusion", 64, 192, 3, MULT_64, Some(1000)),
    diffusion("512x512_diffusion", 512, 256, 2, MULT_512, Some(1000)),
    classifier("64x64_classifier", 64, 4, MULT_64),
    classifier("128x128_classifier", 128, 2, MULT_128),
    classifier("256x256_classifier", 256, 2, MULT_256),
    classifier("512x512_classifier", 512, 2, MULT_512),
];

impl Published {
    fn config(&self) -> UNetConfig {
        UNetConfig {
            kind: match self.classifier {
                true => Kind::Encoder(ClassifierPool::Attention),
                false => Kind::UNet,
            },
            image_size: self.size,
            in_channels: 3,
            model_channels: self.channels,
            out_channels: if self.classifier { 1000 } else { 6 },
            num_res_blocks: self.depth,
            attention_resolutions: [32, 16, 8].map(|pixels| self.size / pixels).to_vec(),
            channel_mult: self.mult.to_vec(),
            heads: match self.name {
                "128x128_diffusion" => Heads::Count(4),
                _ => Heads::Channels(64),
            },
            num_classes: self.classes,
            use_scale_shift_norm: true,
            resample: Resample::Residual,
            attention_order: match self.name {
                "64x64_diffusion" => AttentionOrder::New,
                _ => AttentionOrder::Legacy,
            },
        }
    }
}

/// Names of the published networks, which are those of their files without `.pt`.
pub fn preset_names() -> impl Iterator<Item = &'static str> {
    PUBLISHED.iter().map(|published| published.name)
}

/// The architecture of a published network.
pub fn preset(name: &str) -> Option<UNetConfig> {
    PUBLISHED
        .iter()
        .find(|published| published.name == name)
        .map(Published::config)
}

/// The published network with the sizes of `config`, whatever its image size, heads and attention
/// order, which names and shapes do not tell.
pub(crate) fn recognise(config: &UNetConfig) -> Option<(&'static str, UNetConfig)> {
    PUBLISHED
        .iter()
        .map(|published| (published.name, published.config()))
        .find(|(_, known)| {
            *known
                == UNetConfig {
                    image_size: known.image_size,
                    heads: known.heads,
                    attention_order: known.attention_order,
                    attention_resolutions: known.attention_resolutions.clone(),
                    ..config.clone()
                }
                && sorted(&known.attention_resolutions) == sorted(&config.attention_resolutions)
        })
}

fn sorted(values: &[usize]) -> Vec<usize> {
    let mut values = values.to_vec();
    values.sort_unstable();
    values
}

#[cfg(test)]
mod tests {
    use diffrep_unet::{parameter_count, parameter_shapes};

    use super::*;

    /// Counts of parameters, tensors and blocks, from the reference implementation.
    #[test]
    fn presets_have_the_published_counts() {
        for (name, parameters, tensors, blocks) in [
            ("256x256_diffusion_uncond", 552_814_086, 566, 37),
            ("256x256_diffusion", 553_838_086, 567, 37),
            ("128x128_diffusion", 421_529_606, 493, 31),
            ("64x64_diffusion", 295_904_454, 541, 33),
            ("512x512_diffusion", 558_997_638, 645, 43),
            ("64x64_classifier", 65_438_568, 307, 21),
            ("128x128_classifier", 42_568_040, 221, 16),
            ("256x256_classifier", 54_096_360, 249, 19),
            ("512x512_classifier", 54_448_360, 281, 22),
        ] {
            let config = preset(name).unwrap();
            assert_eq!(parameter_count(&config).unwrap(), parameters, "{name}");
            assert_eq!(parameter_shapes(&config).unwrap().len(), tensors, "{name}");
            assert_eq!(config.blocks().unwrap().iter().count(), blocks, "{name}");
        }
        assert_eq!(preset_names().count(), 9);
        assert_eq!(
            preset("256x256_diffusion_uncond").map(|config| UNetConfig {
                attention_resolutions: vec![8, 16, 32],
                ..config
            }),
            Some(UNetConfig::adm_256_uncond())
        );
        assert_eq!(preset("unheard of"), None);
    }
}
