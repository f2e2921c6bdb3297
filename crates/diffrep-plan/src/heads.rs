//! Heads of several kinds on the same frozen maps.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{DataSource, Settings};

/// The name in results of the classifier that heads are compared with.
pub const U_NET_ENCODER: &str = "U-Net encoder";

/// Which heads compete at one scale, and on what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadsScale {
    /// The diffusion model.
    pub checkpoint: PathBuf,
    /// Images with training and test splits.
    pub data: DataSource,
    /// Timestep of heads that do not say another.
    pub timestep: usize,
    /// Blocks that heads choose among, which do not say others.
    pub blocks: Vec<usize>,
    /// Side that maps are pooled to, for heads that do not say another.
    pub pool: usize,
    /// Training images a class; all without it.
    pub train_per_class: Option<usize>,
    /// Validation images a class; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_per_class: Option<usize>,
    /// Test images a class; all without it.
    pub test_per_class: Option<usize>,
    /// What a reader of the results must know, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The paper's order of these heads from best to worst, where it tells one, as a sentence without its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// Seeds of initial weights, batch order and noise.
    pub seeds: Vec<u64>,
    /// Recipe of the linear probe.
    pub linear_recipe: String,
    /// Recipe of every other head.
    pub recipe: String,
    /// An encoder classifier that was trained on the same images, for comparison: the U-Net encoder of
    /// Table 1 of the paper.
    pub classifier: Option<PathBuf>,
    /// The timestep at which it classifies: the paper does not say; almost no noise is its best.
    #[serde(default)]
    pub classifier_timestep: usize,
    /// Where the heads' features come from.
    #[serde(default)]
    pub feed: Feed,
    /// What the diffusion model draws, and who judges it.
    pub generation: Option<PlannedGeneration>,
    /// The heads; the others are compared with the first.
    pub heads: Vec<PlannedContender>,
}

/// Images that the diffusion model draws, scored against real ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedGeneration {
    /// How many are drawn.
    pub samples: u64,
    /// How, as `diffrep sample --sampler` reads it.
    pub sampler: String,
    /// Which timesteps are visited, as `diffrep sample --steps` reads it.
    pub steps: String,
    /// Images drawn together.
    pub batch: u64,
    /// Names their noise.
    pub seed: u64,
    /// Whose features tell images apart.
    pub judge: Judge,
    /// A published file of real images and their statistics; the test images without it.
    pub reference: Option<PathBuf>,
    /// Test images that are compared, at most.
    pub images: Option<usize>,
    /// The distance that the paper prints.
    pub published: Option<f64>,
}

/// The network in whose features distances are measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Judge {
    /// A classifier that this project trained; distances are Frechet distances, and not FID.
    Classifier(PathBuf),
    /// FID's Inception-v3, as pytorch-fid publishes it.
    Inception(PathBuf),
}

impl Judge {
    /// Its weights.
    pub fn path(&self) -> &Path {
        match self {
            Self::Classifier(path) | Self::Inception(path) => path,
        }
    }
}

impl PlannedGeneration {
    fn check(&self) -> Result<(), String> {
        if self.samples < 2 || self.images.is_some_and(|images| images < 2) {
            return Err("`samples` and `images` are at least 2: a covariance needs two".into());
        }
        crate::at_least_one(&[("batch", self.batch as usize)])
    }
}

/// Where the features of heads come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Feed {
    /// From disk, computed once a seed.
    #[default]
    Stored,
    /// From the network in each epoch, which is the paper's own way.
    Streamed {
        /// Whether each epoch has another noise.
        fresh_noise: bool,
        /// Whether images are flipped with probability 1/2.
        flip: bool,
        /// Which random part of each training image is seen.
        #[serde(default)]
        view: Cut,
        /// Parts of a batch that are computed side by side.
        parts: usize,
    },
}

/// Which random part of a training image is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Cut {
    /// What the recipe says, which is mostly the whole image.
    #[default]
    Recipe,
    /// A square of a share of the short side: the crop of the authors' released training.
    Crop {
        /// The least and the greatest share.
        fractions: [f64; 2],
    },
    /// A rectangle of a share of the area, resized: torchvision's `RandomResizedCrop`.
    ResizedCrop {
        /// The least and the greatest share.
        area: [f64; 2],
    },
}

impl Cut {
    pub(crate) fn check(self) -> Result<(), String> {
        let ([least, most], key) = match self {
            Self::Recipe => return Ok(()),
            Self::Crop { fractions } => (fractions, "fractions"),
            Self::ResizedCrop { area } => (area, "area"),
        };
        if 0.0 < least && least <= most && most <= 1.0 {
            return Ok(());
        }
        Err(format!(
            "`{key}` must be two numbers in order, above 0 and at most 1"
        ))
    }
}

/// A head with its name and what it reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedContender {
    /// Its name in results; the kind of the head without it.
    pub name: Option<String>,
    /// The head.
    pub head: PlannedHead,
    /// Its own timestep.
    pub timestep: Option<usize>,
    /// Its own blocks to choose among.
    pub blocks: Option<Vec<usize>>,
    /// Its own side of maps.
    pub pool: Option<usize>,
    /// Its own random part of each training image, where features are streamed.
    pub view: Option<Cut>,
    /// The network that it reads, where it is not the experiment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<PlannedEncoder>,
}

/// A diffusion model of a contender's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedEncoder {
    /// Its weights: a folder of diffusers, or a file.
    pub checkpoint: PathBuf,
    /// Height and width of its images, for Stable Diffusion; those of its training without it.
    pub size: Option<usize>,
    /// What Stable Diffusion is told about every image.
    #[serde(default)]
    pub text: PlannedText,
}

/// What a network is told about every image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PlannedText {
    /// The empty text.
    #[default]
    Empty,
    /// A text.
    Given(String),
    /// The embeddings of the tokens, which are trained with the head from those of the empty text on.
    Learned {
        /// Their learning rate as a share of the head's.
        rate: f64,
    },
}

impl PlannedEncoder {
    /// Its name as a part of files' names.
    pub fn file_name(&self) -> String {
        let name = self.checkpoint.file_name().unwrap_or_default();
        crate::file_name(&name.to_string_lossy())
    }

    fn check(&self, feed: &Feed) -> Result<(), String> {
        crate::at_least_one(&[("size", self.size.unwrap_or(1))])?;
        let PlannedText::Learned { rate } = self.text else {
            return Ok(());
        };
        if !rate.is_finite() || rate < 0.0 {
            return Err("the `rate` of a learned text must be a number of at least 0".into());
        }
        match feed {
            Feed::Streamed { .. } => Ok(()),
            Feed::Stored => Err(
                "a learned text is for streamed features: stored ones are those of another text"
                    .into(),
            ),
        }
    }
}

/// The weights of contenders' own networks, each once.
pub(crate) fn own_checkpoints(heads: &[PlannedContender]) -> Vec<&Path> {
    let mut found: Vec<&Path> = Vec::new();
    for encoder in heads.iter().filter_map(|head| head.encoder.as_ref()) {
        if !found.contains(&encoder.checkpoint.as_path()) {
            found.push(&encoder.checkpoint);
        }
    }
    found
}

impl PlannedContender {
    /// The name in results.
    pub fn title(&self) -> &str {
        match &self.name {
            Some(name) => name,
            None => self.head.name(),
        }
    }
}

/// That heads have names of their own, and what reads several timesteps does not read a stream.
pub(crate) fn check_contenders(heads: &[PlannedContender], feed: &Feed) -> Result<(), String> {
    crate::distinct("heads", heads.iter().map(PlannedContender::title))?;
    for contender in heads {
        if let Some(view) = contender.view {
            view.check()?;
            if *feed == Feed::Stored {
                return Err(
                    "`view` is for streamed features: stored ones are those of whole images".into(),
                );
            }
        }
        if let Some(encoder) = &contender.encoder {
            encoder.check(feed)?;
        }
        let own = contender.blocks.as_ref().map_or(1, Vec::len);
        let mut required = vec![("blocks", own), ("pool", contender.pool.unwrap_or(1))];
        if let PlannedHead::Fusion {
            blocks, timesteps, ..
        } = &contender.head
        {
            required.push(("blocks", blocks.len()));
            required.push(("timesteps", timesteps.len()));
            if *feed != Feed::Stored && timesteps.len() > 1 {
                return Err("a streamed head reads one timestep".into());
            }
        }
        crate::at_least_one(&required)?;
    }
    match feed {
        Feed::Stored => Ok(()),
        Feed::Streamed { view, parts, .. } => {
            view.check()?;
            crate::at_least_one(&[("parts", *parts)])
        }
    }
}

/// A head before the shape of its maps is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum PlannedHead {
    /// One layer on the map.
    Linear {
        /// Side that the map is pooled to before; the whole map without it.
        pool: Option<usize>,
    },
    /// Layers with ReLU between them on the whole map.
    Mlp {
        /// Sizes of the hidden layers.
        hidden: Vec<usize>,
    },
    /// Two convolutions.
    Cnn {
        /// Their channels.
        channels: [usize; 2],
    },
    /// Transformer blocks on the pixels of the map.
    Attention {
        /// Pixels a side that are averaged to a token.
        window: usize,
        /// Attention heads.
        heads: usize,
        /// Hidden size of the MLP over the width of a token.
        mlp_ratio: usize,
        /// Blocks.
        depth: usize,
    },
    /// Transformer blocks on the pixels of several maps (DifFormer).
    Fusion {
        /// Blocks of the diffusion model.
        blocks: Vec<usize>,
        /// Timesteps.
        timesteps: Vec<usize>,
        /// Side that each map is pooled to.
        pool: usize,
        /// Channels of a token.
        width: usize,
        /// Attention heads.
        heads: usize,
        /// Hidden size of the MLP over the width of a token.
        mlp_ratio: usize,
        /// Transformer blocks.
        depth: usize,
    },
}

impl PlannedHead {
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
}

impl Settings for HeadsScale {
    fn seeds_mut(&mut self) -> Option<&mut Vec<u64>> {
        Some(&mut self.seeds)
    }

    fn check(&self) -> Result<(), String> {
        crate::at_least_one(&[
            ("blocks", self.blocks.len()),
            ("pool", self.pool),
            ("seeds", self.seeds.len()),
            ("heads", self.heads.len()),
        ])?;
        if let Some(generation) = &self.generation {
            generation.check()?;
        }
        check_contenders(&self.heads, &self.feed)
    }

    fn assets(&self) -> Vec<&Path> {
        let mut assets = vec![self.checkpoint.as_path(), self.data.path()];
        assets.extend(own_checkpoints(&self.heads));
        assets.extend(self.classifier.as_deref());
        if let Some(generation) = &self.generation {
            assets.push(generation.judge.path());
            assets.extend(generation.reference.as_deref());
        }
        // The judge of a small scale is often the classifier.
        assets.dedup();
        assets
    }

    fn contenders(&self) -> Vec<&str> {
        let heads = self.heads.iter().map(PlannedContender::title);
        heads
            .chain(self.classifier.is_some().then_some(U_NET_ENCODER))
            .collect()
    }
}
