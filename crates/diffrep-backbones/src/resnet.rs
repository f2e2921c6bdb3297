//! ResNet of He et al. 2016 as torchvision has it (models/resnet.py): in bottlenecks the stride
//! lies in the 3x3 convolution ("v1.5").

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use diffrep_taps::{
    BlockIndex, Condition, Encoder, Feedback, TapInfo, TapSet, Taps, Visit, require_image,
};
use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, within};
use crate::init::{Scheme, randomised};
use crate::layers::{BatchNorm, Conv2d, Linear, global_mean, max_pool};

const EPS: f64 = 1e-5;

/// What a residual block is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockKind {
    /// Two 3x3 convolutions (ResNet-18, ResNet-34).
    Basic,
    /// 1x1, 3x3 and 1x1, with four times the channels at its end (ResNet-50, ResNet-101).
    Bottleneck,
}

/// What comes before the residual blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stem {
    /// A 7x7 convolution of stride 2 and a max pool of stride 2: a quarter of the size.
    ImageNet,
    /// A 3x3 convolution: the size of the image, for images of about 32 pixels.
    Small,
}

/// A ResNet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// Side of the images, in pixels.
    pub image_size: usize,
    /// Channels of the images.
    pub in_channels: usize,
    /// Channels of the stem; each stage doubles them.
    pub width: usize,
    /// Blocks of each stage.
    pub depths: Vec<usize>,
    /// What the blocks are.
    pub block: BlockKind,
    /// How many times as wide the inside of a bottleneck is: 2 for the wide ResNets, else 1.
    pub inner: usize,
    /// What comes before the blocks.
    pub stem: Stem,
    /// Classes of the classifier `fc`, if there is one.
    pub classes: Option<usize>,
}

impl ResNetConfig {
    fn imagenet(block: BlockKind, depths: [usize; 4]) -> Self {
        Self {
            image_size: 224,
            in_channels: 3,
            width: 64,
            depths: depths.into(),
            block,
            inner: 1,
            stem: Stem::ImageNet,
            classes: None,
        }
    }

    /// `resnet18` of torchvision for images of 224 pixels, without classifier.
    pub fn resnet18() -> Self {
        Self::imagenet(BlockKind::Basic, [2, 2, 2, 2])
    }

    /// `resnet34` of torchvision for images of 224 pixels, without classifier.
    pub fn resnet34() -> Self {
        Self::imagenet(BlockKind::Basic, [3, 4, 6, 3])
    }

    /// `resnet50` of torchvision for images of 224 pixels, without classifier.
    pub fn resnet50() -> Self {
        Self::imagenet(BlockKind::Bottleneck, [3, 4, 6, 3])
    }

    /// `resnet101` of torchvision for images of 224 pixels, without classifier.
    pub fn resnet101() -> Self {
        Self::imagenet(BlockKind::Bottleneck, [3, 4, 23, 3])
    }

    /// `wide_resnet50_2` of torchvision for images of 224 pixels, without classifier.
    pub fn wide_resnet50_2() -> Self {
        Self {
            inner: 2,
            ..Self::resnet50()
        }
    }

    /// A ResNet-18 with a 3x3 stem and a quarter of the channels for grey images of 32 pixels: small
    /// enough to be trained beside a diffusion model of such images.
    pub fn small(classes: usize) -> Self {
        Self {
            image_size: 32,
            in_channels: 1,
            width: 16,
            stem: Stem::Small,
            classes: Some(classes),
            ..Self::resnet18()
        }
    }

    /// The same network with a classifier of this many classes.
    #[must_use]
    pub fn with_classes(self, classes: usize) -> Self {
        Self {
            classes: Some(classes),
            ..self
        }
    }

    /// How many times as many channels a block puts out as its stage is wide.
    fn expansion(&self) -> usize {
        match self.block {
            BlockKind::Basic => 1,
            BlockKind::Bottleneck => 4,
        }
    }

    /// Channels of the last block.
    fn features(&self) -> usize {
        (self.width << (self.depths.len() - 1)) * self.expansion()
    }

    fn validate(&self) -> Result<(), ConfigError> {
        within("image_size", self.image_size, 1..=8192)?;
        within("in_channels", self.in_channels, 1..=4096)?;
        within("width", self.width, 1..=4096)?;
        within("depths", self.depths.len(), 1..=8)?;
        for depth in &self.depths {
            within("depths", *depth, 1..=512)?;
        }
        let inner = match self.block {
            BlockKind::Basic => 1..=1,
            BlockKind::Bottleneck => 1..=16,
        };
        within("inner", self.inner, inner)?;
        within("classes", self.classes.unwrap_or(1), 1..=1 << 20)
    }

    /// Every block with what it puts out.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit together.
    pub fn taps(&self) -> Result<Vec<TapInfo>, ConfigError> {
        self.validate()?;
        let halved = |size: usize| size.div_ceil(2);
        let mut size = match self.stem {
            Stem::ImageNet => halved(halved(self.image_size)),
            Stem::Small => self.image_size,
        };
        let mut taps = Vec::new();
        for (stage, depth) in self.depths.iter().enumerate() {
            if stage > 0 {
                size = halved(size);
            }
            for place in 0..*depth {
                taps.push(TapInfo {
                    block: BlockIndex::at(taps.len()),
                    name: format!("layer{}.{place}", stage + 1),
                    channels: (self.width << stage) * self.expansion(),
                    height: size,
                    width: size,
                });
            }
        }
        Ok(taps)
    }

    /// Builds the network with torchvision's initialisation, a function of `seed`.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit together.
    pub fn init(&self, seed: u64, device: &Device) -> Result<ResNet, ConfigError> {
        Ok(randomised(self.blank(device)?, Scheme::KaimingFanOut, seed))
    }

    /// Builds the network with zeros for weights: what a state dict is loaded into.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit together.
    pub fn blank(&self, device: &Device) -> Result<ResNet, ConfigError> {
        let taps = self.taps()?;
        let (kernel, stride) = match self.stem {
            Stem::ImageNet => (7, 2),
            Stem::Small => (3, 1),
        };
        let channels = [self.in_channels, self.width];
        let mut inputs = self.width;
        let mut layers = Vec::new();
        for (stage, depth) in self.depths.iter().enumerate() {
            let width = self.width << stage;
            let block = |place: usize| {
                let stride = if stage > 0 && place == 0 { 2 } else { 1 };
                let block = self.residual(inputs, width, stride, device);
                inputs = width * self.expansion();
                block
            };
            layers.push((0..*depth).map(block).collect());
        }
        Ok(ResNet {
            conv1: Conv2d::new(channels, [kernel; 2], stride, device),
            bn1: BatchNorm::new(self.width, EPS, device),
            layers,
            fc: self
                .classes
                .map(|classes| Linear::new(self.features(), classes, true, device)),
            taps,
            config: self.clone(),
        })
    }

    fn residual(&self, inputs: usize, width: usize, stride: usize, device: &Device) -> Residual {
        let outputs = width * self.expansion();
        let conv = |channels, kernel, stride| Conv2d::new(channels, [kernel; 2], stride, device);
        let norm = |channels| BatchNorm::new(channels, EPS, device);
        let downsample = (stride != 1 || inputs != outputs).then(|| Downsample {
            conv: conv([inputs, outputs], 1, stride),
            bn: norm(outputs),
        });
        match self.block {
            BlockKind::Basic => Residual::Basic(Basic {
                conv1: conv([inputs, width], 3, stride),
                bn1: norm(width),
                conv2: conv([width, width], 3, 1),
                bn2: norm(width),
                downsample,
            }),
            BlockKind::Bottleneck => {
                let inner = width * self.inner;
                Residual::Bottleneck(Bottleneck {
                    conv1: conv([inputs, inner], 1, 1),
                    bn1: norm(inner),
                    conv2: conv([inner, inner], 3, stride),
                    bn2: norm(inner),
                    conv3: conv([inner, outputs], 1, 1),
                    bn3: norm(outputs),
                    downsample,
                })
            }
        }
    }
}

/// The way around a block that changes channels or size.
#[derive(Module, Debug)]
pub struct Downsample {
    /// `downsample.0`
    pub conv: Conv2d,
    /// `downsample.1`
    pub bn: BatchNorm,
}

/// Two 3x3 convolutions.
#[derive(Module, Debug)]
#[allow(missing_docs, reason = "the names are those of torchvision")]
pub struct Basic {
    pub conv1: Conv2d,
    pub bn1: BatchNorm,
    pub conv2: Conv2d,
    pub bn2: BatchNorm,
    pub downsample: Option<Downsample>,
}

/// 1x1, 3x3 and 1x1 convolutions.
#[derive(Module, Debug)]
#[allow(missing_docs, reason = "the names are those of torchvision")]
pub struct Bottleneck {
    pub conv1: Conv2d,
    pub bn1: BatchNorm,
    pub conv2: Conv2d,
    pub bn2: BatchNorm,
    pub conv3: Conv2d,
    pub bn3: BatchNorm,
    pub downsample: Option<Downsample>,
}

/// One residual block.
#[derive(Module, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a network has a few dozen of these"
)]
pub enum Residual {
    /// Two 3x3 convolutions.
    Basic(Basic),
    /// 1x1, 3x3 and 1x1.
    Bottleneck(Bottleneck),
}

impl Residual {
    /// `[batch, in, height, width]` to `[batch, out, height / stride, width / stride]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (residual, downsample) = match self {
            Self::Basic(block) => {
                let hidden = relu(block.bn1.forward(block.conv1.forward(x.clone())));
                let residual = block.bn2.forward(block.conv2.forward(hidden));
                (residual, &block.downsample)
            }
            Self::Bottleneck(block) => {
                let hidden = relu(block.bn1.forward(block.conv1.forward(x.clone())));
                let hidden = relu(block.bn2.forward(block.conv2.forward(hidden)));
                let residual = block.bn3.forward(block.conv3.forward(hidden));
                (residual, &block.downsample)
            }
        };
        let around = match downsample {
            Some(downsample) => downsample.bn.forward(downsample.conv.forward(x)),
            None => x,
        };
        relu(residual + around)
    }

    fn pack(&mut self, input: [usize; 2]) -> [usize; 2] {
        let (size, downsample) = match self {
            Self::Basic(block) => {
                let size = block.conv1.pack(&mut block.bn1, input);
                let size = block.conv2.pack(&mut block.bn2, size);
                (size, &mut block.downsample)
            }
            Self::Bottleneck(block) => {
                let size = block.conv1.pack(&mut block.bn1, input);
                let size = block.conv2.pack(&mut block.bn2, size);
                let size = block.conv3.pack(&mut block.bn3, size);
                (size, &mut block.downsample)
            }
        };
        if let Some(downsample) = downsample {
            downsample.conv.pack(&mut downsample.bn, input);
        }
        size
    }
}

/// A ResNet.
#[derive(Module, Debug)]
pub struct ResNet {
    /// The stem's convolution.
    pub conv1: Conv2d,
    /// The stem's normalisation.
    pub bn1: BatchNorm,
    /// `layer1`, `layer2` and so on.
    pub layers: Vec<Vec<Residual>>,
    /// The classifier.
    pub fc: Option<Linear>,
    #[module(skip)]
    taps: Vec<TapInfo>,
    #[module(skip)]
    config: ResNetConfig,
}

impl ResNet {
    /// What it was built from.
    pub fn config(&self) -> &ResNetConfig {
        &self.config
    }

    /// Logits of the classifier.
    ///
    /// # Shapes
    ///
    /// - `image`: `[batch, in_channels, image_size, image_size]`
    /// - result: `[batch, classes]`
    ///
    /// # Panics
    ///
    /// When the image is of another shape or the network has no classifier.
    pub fn forward(&self, image: Tensor<4>) -> Tensor<2> {
        let fc = self.fc.as_ref().expect("a ResNet with a classifier");
        fc.forward(self.features(image))
    }

    /// The mean over the pixels of the last block: what the classifier reads.
    ///
    /// # Shapes
    ///
    /// - `image`: `[batch, in_channels, image_size, image_size]`
    /// - result: `[batch, channels of the last block]`
    ///
    /// # Panics
    ///
    /// When the image is of another shape.
    pub fn features(&self, image: Tensor<4>) -> Tensor<2> {
        global_mean(self.traverse(image, &mut Visit::whole(None)))
    }

    /// The network with every normalisation taken into the convolution before it and, on the CPU,
    /// weights laid out for kernels that only go forward: what features are extracted with. Outputs
    /// agree with those before to rounding. It gives no gradients, its convolutions no longer
    /// count as parameters, and it is not to be moved, written or loaded into.
    #[must_use]
    pub fn packed(mut self) -> Self {
        let size = [self.config.image_size; 2];
        let size = self.conv1.pack(&mut self.bn1, size);
        let mut size = match self.config.stem {
            Stem::ImageNet => size.map(|side| side.div_ceil(2)),
            Stem::Small => size,
        };
        for block in self.layers.iter_mut().flatten() {
            size = block.pack(size);
        }
        self
    }

    /// The one loop over blocks; returns the output of the last that was evaluated.
    fn traverse(&self, image: Tensor<4>, visit: &mut Visit<'_>) -> Tensor<4> {
        require_image(&image, self.config.in_channels, self.config.image_size);
        let mut map = relu(self.bn1.forward(self.conv1.forward(image)));
        if self.config.stem == Stem::ImageNet {
            map = max_pool(map, 2, 1);
        }
        let last = visit.blocks(self.taps.len());
        for (block, info) in self.layers.iter().flatten().zip(&self.taps).take(last) {
            let _span = Visit::enter(info);
            map = visit.leave(info, block.forward(map));
        }
        map
    }
}

impl Encoder for ResNet {
    fn taps(&self) -> Vec<TapInfo> {
        self.taps.clone()
    }

    /// The condition is not read: a ResNet knows no timestep.
    fn forward_taps(
        &self,
        image: Tensor<4>,
        _condition: &Condition,
        wanted: &TapSet,
        feedback: Option<&Feedback>,
    ) -> Taps {
        let mut visit = Visit::taps(wanted, feedback);
        self.traverse(image, &mut visit);
        visit.taps
    }
}
