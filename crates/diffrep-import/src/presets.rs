//! The published networks of guided diffusion and improved diffusion (README of openai/guided-diffusion,
//! MODEL_FLAGS, and of openai/improved-diffusion) and of DDPM in diffusers' format: what their files'
//! names and shapes leave open is known from the publication.

use diffrep_schedule::{ProcessSpec, ScheduleKind};
use diffrep_unet::{AttentionOrder, ClassifierPool, Details, Heads, Kind, Resample, UNetConfig};

/// Who published a network, and what all of theirs have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    /// Diffusion models of guided diffusion.
    Guided,
    /// Classifiers of guided diffusion.
    Classifier,
    /// Improved diffusion.
    Improved,
    /// DDPM (Ho et al. 2020) as converted for diffusers.
    Ddpm,
}

/// A published network.
struct Published {
    name: &'static str,
    family: Family,
    size: usize,
    channels: usize,
    depth: usize,
    mult: &'static [f64],
    /// Sides of the maps with attention, in pixels.
    attention: &'static [usize],
    classes: Option<usize>,
}

const MULT_64: &[f64] = &[1.0, 2.0, 3.0, 4.0];
const MULT_128: &[f64] = &[1.0, 1.0, 2.0, 3.0, 4.0];
const MULT_256: &[f64] = &[1.0, 1.0, 2.0, 2.0, 4.0, 4.0];
const MULT_512: &[f64] = &[0.5, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0];
const MULT_32: &[f64] = &[1.0, 2.0, 2.0, 2.0];

const fn guided(
    name: &'static str,
    size: usize,
    channels: usize,
    depth: usize,
    mult: &'static [f64],
    classes: Option<usize>,
) -> Published {
    Published {
        name,
        family: Family::Guided,
        size,
        channels,
        depth,
        mult,
        attention: &[32, 16, 8],
        classes,
    }
}

const fn classifier(
    name: &'static str,
    size: usize,
    depth: usize,
    mult: &'static [f64],
) -> Published {
    Published {
        family: Family::Classifier,
        ..guided(name, size, 128, depth, mult, None)
    }
}

const fn improved(
    name: &'static str,
    size: usize,
    channels: usize,
    mult: &'static [f64],
    classes: Option<usize>,
) -> Published {
    Published {
        family: Family::Improved,
        attention: &[16, 8],
        ..guided(name, size, channels, 3, mult, classes)
    }
}

const fn ddpm(name: &'static str, size: usize, mult: &'static [f64]) -> Published {
    Published {
        family: Family::Ddpm,
        attention: &[16],
        ..guided(name, size, 128, 2, mult, None)
    }
}

/// Networks that share an architecture stand here once: those of LSUN (`lsun_bedroom.pt` and so on)
/// with the unconditional one, those trained with the variational bound with the others of improved
/// diffusion, and DDPM's for faces, bedrooms and cats with the one for churches.
const PUBLISHED: [Published; 15] = [
    guided("256x256_diffusion_uncond", 256, 256, 2, MULT_256, None),
    guided("256x256_diffusion", 256, 256, 2, MULT_256, Some(1000)),
    guided("128x128_diffusion", 128, 256, 2, MULT_128, Some(1000)),
    guided("64x64_diffusion", 64, 192, 3, MULT_64, Some(1000)),
    guided("512x512_diffusion", 512, 256, 2, MULT_512, Some(1000)),
    classifier("64x64_classifier", 64, 4, MULT_64),
    classifier("128x128_classifier", 128, 2, MULT_128),
    classifier("256x256_classifier", 256, 2, MULT_256),
    classifier("512x512_classifier", 512, 2, MULT_512),
    improved("cifar10_uncond_50M_500K", 32, 128, MULT_32, None),
    improved("imagenet64_uncond_100M_1500K", 64, 128, MULT_64, None),
    improved("imagenet64_cond_270M_250K", 64, 192, MULT_64, Some(1000)),
    Published {
        depth: 2,
        attention: &[16],
        ..improved(LSUN, 256, 128, MULT_256, None)
    },
    ddpm("ddpm-cifar10-32", 32, MULT_32),
    ddpm("ddpm-ema-church-256", 256, MULT_256),
];

/// The network of improved diffusion without scale and shift.
const LSUN: &str = "lsun_uncond_100M_1200K_bs128";

impl Published {
    fn config(&self) -> UNetConfig {
        let guided = UNetConfig {
            kind: match self.family {
                Family::Classifier => Kind::Encoder(ClassifierPool::Attention),
                _ => Kind::UNet,
            },
            image_size: self.size,
            in_channels: 3,
            model_channels: self.channels,
            out_channels: match self.family {
                Family::Classifier => 1000,
                Family::Ddpm => 3,
                _ => 6,
            },
            num_res_blocks: self.depth,
            attention_resolutions: self.attention.iter().map(|side| self.size / side).collect(),
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
            details: Details::default(),
        };
        match self.family {
            Family::Guided | Family::Classifier => guided,
            Family::Improved => UNetConfig {
                heads: Heads::Count(if self.name == LSUN { 1 } else { 4 }),
                use_scale_shift_norm: self.name != LSUN,
                resample: Resample::Convolution,
                ..guided
            },
            Family::Ddpm => UNetConfig {
                heads: Heads::Count(1),
                use_scale_shift_norm: false,
                resample: Resample::Convolution,
                attention_order: AttentionOrder::New,
                details: Details {
                    norm_eps: 1e-6,
                    sines_first: true,
                    frequency_shift: 1.0,
                    pads_after: true,
                    ..Details::default()
                },
                ..guided
            },
        }
    }

    /// How it was trained (the same pages, DIFFUSION_FLAGS; `scheduler_config.json` of DDPM's).
    fn process(&self) -> ProcessSpec {
        match (self.family, self.name) {
            (_, "64x64_diffusion") => ScheduleKind::Cosine.into(),
            (Family::Improved, name) if name != LSUN => ProcessSpec {
                steps: 4000,
                rescaled: self.classes.is_none(),
                ..ScheduleKind::Cosine.into()
            },
            _ => ScheduleKind::Linear.into(),
        }
    }
}

/// How a published network with exactly this architecture was trained.
pub fn published_process(config: &UNetConfig) -> Option<ProcessSpec> {
    let mut published = PUBLISHED.iter();
    let found = published.find(|published| published.config() == *config);
    found.map(Published::process)
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

    /// Counts of parameters, tensors and blocks, from the reference implementations (diffusers has the
    /// queries, keys and values of an attention apart and so four tensors more for each).
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
            ("cifar10_uncond_50M_500K", 52_546_438, 446, 33),
            ("imagenet64_uncond_100M_1500K", 121_063_942, 450, 33),
            ("imagenet64_cond_270M_250K", 273_049_350, 451, 33),
            ("lsun_uncond_100M_1200K_bs128", 113_676_678, 426, 37),
            ("ddpm-cifar10-32", 35_746_307, 304, 25),
            ("ddpm-ema-church-256", 113_673_219, 426, 37),
        ] {
            let config = preset(name).unwrap();
            assert_eq!(parameter_count(&config).unwrap(), parameters, "{name}");
            assert_eq!(parameter_shapes(&config).unwrap().len(), tensors, "{name}");
            assert_eq!(config.blocks().unwrap().iter().count(), blocks, "{name}");
        }
        assert_eq!(preset_names().count(), 15);
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
