//! The Inception-v3 of FID (Heusel et al. 2017): the network of the TensorFlow graph of 2015-12-05
//! with the names that pytorch-fid gave its weights.

use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use diffrep_taps::{
    BlockIndex, Condition, Encoder, Feedback, TapInfo, TapSet, Taps, Visit, require_image,
};
use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, within};
use crate::init::{Scheme, randomised};
use crate::layers::{Linear, global_mean, max_pool};
use crate::mixed::{
    InceptionA, InceptionB, InceptionC, InceptionD, InceptionE, Last, Mixed, Unit, Widths,
};

/// Channels of the 1x1 branch of `Mixed_6d` that make up the spatial features.
const SPATIAL: usize = 7;

/// An Inception-v3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InceptionConfig {
    /// Side of the images, in pixels; 299 in FID.
    pub image_size: usize,
    /// What every number of channels is divided by: 1, or up to 16 for small networks of the same
    /// structure.
    pub divisor: usize,
    /// Classes of `fc`; 1008 in FID.
    pub classes: usize,
}

impl InceptionConfig {
    /// The network of FID: `pt_inception-2015-12-05` of pytorch-fid.
    pub fn fid() -> Self {
        Self {
            image_size: 299,
            divisor: 1,
            classes: 1008,
        }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        within("image_size", self.image_size, 75..=8192)?;
        within("divisor", self.divisor, 1..=16)?;
        if !self.divisor.is_power_of_two() {
            return Err(ConfigError::DoesNotDivide {
                part: "divisor",
                divisor: self.divisor,
                whole: "channels",
                value: 16,
            });
        }
        within("classes", self.classes, 1..=1 << 20)
    }

    /// The two max pools, each named after the unit before it, and the eleven mixed blocks.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit together.
    pub fn taps(&self) -> Result<Vec<TapInfo>, ConfigError> {
        self.validate()?;
        let halved = |size: usize| (size - 3) / 2 + 1;
        let first = halved(halved(self.image_size) - 2);
        let second = halved(first - 2);
        let third = halved(second);
        let fourth = halved(third);
        let blocks = [
            ("Conv2d_2b_3x3", 64, first),
            ("Conv2d_4a_3x3", 192, second),
            ("Mixed_5b", 256, second),
            ("Mixed_5c", 288, second),
            ("Mixed_5d", 288, second),
            ("Mixed_6a", 768, third),
            ("Mixed_6b", 768, third),
            ("Mixed_6c", 768, third),
            ("Mixed_6d", 768, third),
            ("Mixed_6e", 768, third),
            ("Mixed_7a", 1280, fourth),
            ("Mixed_7b", 2048, fourth),
            ("Mixed_7c", 2048, fourth),
        ];
        let tap = |(place, (name, channels, size)): (usize, (&str, usize, usize))| TapInfo {
            block: BlockIndex::at(place),
            name: name.into(),
            channels: channels / self.divisor,
            height: size,
            width: size,
        };
        Ok(blocks.into_iter().enumerate().map(tap).collect())
    }

    /// Builds the network with random weights (Kaiming's by fan-out), a function of `seed`.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit together.
    pub fn init(&self, seed: u64, device: &Device) -> Result<InceptionV3, ConfigError> {
        Ok(randomised(self.blank(device)?, Scheme::KaimingFanOut, seed))
    }

    /// Builds the network with zeros for weights: what a state dict is loaded into.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit together.
    pub fn blank(&self, device: &Device) -> Result<InceptionV3, ConfigError> {
        let taps = self.taps()?;
        let divisor = self.divisor;
        let widths = Widths { divisor, device };
        let unit = |inputs, outputs: usize, kernel, stride| {
            Unit::new([inputs, outputs / divisor], [kernel; 2], stride, device)
        };
        Ok(InceptionV3 {
            conv2d_1a_3x3: unit(3, 32, 3, 2).unpadded(),
            conv2d_2a_3x3: unit(32 / divisor, 32, 3, 1).unpadded(),
            conv2d_2b_3x3: unit(32 / divisor, 64, 3, 1),
            conv2d_3b_1x1: unit(64 / divisor, 80, 1, 1),
            conv2d_4a_3x3: unit(80 / divisor, 192, 3, 1).unpadded(),
            mixed_5b: InceptionA::new(widths, 192, 32),
            mixed_5c: InceptionA::new(widths, 256, 64),
            mixed_5d: InceptionA::new(widths, 288, 64),
            mixed_6a: InceptionB::new(widths, 288),
            mixed_6b: InceptionC::new(widths, 768, 128),
            mixed_6c: InceptionC::new(widths, 768, 160),
            mixed_6d: InceptionC::new(widths, 768, 160),
            mixed_6e: InceptionC::new(widths, 768, 192),
            mixed_7a: InceptionD::new(widths, 768),
            mixed_7b: InceptionE::new(widths, 1280),
            mixed_7c: InceptionE::new(widths, 2048),
            fc: Linear::new(2048 / divisor, self.classes, true, device),
            taps,
            config: self.clone(),
        })
    }
}

/// What FID and its relatives read of an image.
#[derive(Clone, Debug)]
pub struct FidFeatures {
    /// `pool_3`: the mean over the pixels of the last block, `[batch, 2048]`.
    pub pool3: Tensor<2>,
    /// The first 7 channels of `mixed_6/conv`, pixel by pixel as TensorFlow flattens them,
    /// `[batch, 17 * 17 * 7]`: what sFID reads.
    pub spatial: Tensor<2>,
}

/// The Inception-v3 of FID. Its state-dict keys begin with capitals (`Mixed_5b`), unlike the fields.
#[derive(Module, Debug)]
#[allow(missing_docs, reason = "the names are those of torchvision")]
pub struct InceptionV3 {
    pub conv2d_1a_3x3: Unit,
    pub conv2d_2a_3x3: Unit,
    pub conv2d_2b_3x3: Unit,
    pub conv2d_3b_1x1: Unit,
    pub conv2d_4a_3x3: Unit,
    pub mixed_5b: InceptionA,
    pub mixed_5c: InceptionA,
    pub mixed_5d: InceptionA,
    pub mixed_6a: InceptionB,
    pub mixed_6b: InceptionC,
    pub mixed_6c: InceptionC,
    pub mixed_6d: InceptionC,
    pub mixed_6e: InceptionC,
    pub mixed_7a: InceptionD,
    pub mixed_7b: InceptionE,
    pub mixed_7c: InceptionE,
    pub fc: Linear,
    #[module(skip)]
    taps: Vec<TapInfo>,
    #[module(skip)]
    config: InceptionConfig,
}

impl InceptionV3 {
    /// What it was built from.
    pub fn config(&self) -> &InceptionConfig {
        &self.config
    }

    /// What FID, sFID and the Inception score read, in one traversal.
    ///
    /// # Shapes
    ///
    /// - `image`: `[batch, 3, image_size, image_size]` within -1 and 1, as [`fid_input`] makes it
    /// - results: `[batch, 2048]` and `[batch, 2023]` for images of 299 pixels
    ///
    /// # Panics
    ///
    /// When the image is of another shape.
    ///
    /// [`fid_input`]: crate::fid_input
    pub fn fid_features(&self, image: Tensor<4>) -> FidFeatures {
        let mixed_6d = TapSet::new([9], &self.taps).expect("one of 13 blocks");
        let mut visit = Visit::whole(Some(&mixed_6d));
        let map = self.traverse(image, &mut visit);
        let spatial = visit
            .taps
            .remove(mixed_6d.last())
            .expect("a block that was asked for");
        // The output of a mixed block begins with that of its 1x1 branch.
        let [batch, _, height, width] = spatial.dims();
        let spatial = spatial
            .narrow(1, 0, SPATIAL)
            .permute([0, 2, 3, 1])
            .reshape([batch, height * width * SPATIAL]);
        FidFeatures {
            pool3: global_mean(map),
            spatial,
        }
    }

    /// Logits of the classifier.
    ///
    /// # Shapes
    ///
    /// - `pool3`: `[batch, 2048]`
    /// - result: `[batch, classes]`
    pub fn logits(&self, pool3: Tensor<2>) -> Tensor<2> {
        self.fc.forward(pool3)
    }

    /// Class probabilities as the evaluator of guided diffusion takes them for the Inception score:
    /// **without the bias** of the classifier.
    ///
    /// # Shapes
    ///
    /// - `pool3`: `[batch, 2048]`
    /// - result: `[batch, classes]`
    pub fn score_probabilities(&self, pool3: Tensor<2>) -> Tensor<2> {
        softmax(pool3.matmul(self.fc.weight.val().transpose()), 1)
    }

    /// The network with every normalisation taken into the convolution before it: see
    /// [`ResNet::packed`](crate::ResNet::packed), whose restrictions hold here too.
    #[must_use]
    pub fn packed(mut self) -> Self {
        let halved = |size: [usize; 2]| size.map(|side| (side - 3) / 2 + 1);
        let size = self.conv2d_1a_3x3.pack([self.config.image_size; 2]);
        let size = self.conv2d_2a_3x3.pack(size);
        let size = halved(self.conv2d_2b_3x3.pack(size));
        let size = self.conv2d_3b_1x1.pack(size);
        self.conv2d_4a_3x3.pack(size);
        let inputs: Vec<[usize; 2]> = self.taps[1..]
            .iter()
            .map(|tap| [tap.height, tap.width])
            .collect();
        let blocks: [&mut dyn Mixed; 11] = [
            &mut self.mixed_5b,
            &mut self.mixed_5c,
            &mut self.mixed_5d,
            &mut self.mixed_6a,
            &mut self.mixed_6b,
            &mut self.mixed_6c,
            &mut self.mixed_6d,
            &mut self.mixed_6e,
            &mut self.mixed_7a,
            &mut self.mixed_7b,
            &mut self.mixed_7c,
        ];
        for (block, input) in blocks.into_iter().zip(inputs) {
            block.pack(input);
        }
        self
    }

    /// Block `place`, counted from 0.
    fn block(&self, place: usize, x: Tensor<4>) -> Tensor<4> {
        match place {
            0 => {
                let x = self.conv2d_2a_3x3.forward(self.conv2d_1a_3x3.forward(x));
                max_pool(self.conv2d_2b_3x3.forward(x), 2, 0)
            }
            1 => {
                let x = self.conv2d_4a_3x3.forward(self.conv2d_3b_1x1.forward(x));
                max_pool(x, 2, 0)
            }
            2 => self.mixed_5b.forward(x),
            3 => self.mixed_5c.forward(x),
            4 => self.mixed_5d.forward(x),
            5 => self.mixed_6a.forward(x),
            6 => self.mixed_6b.forward(x),
            7 => self.mixed_6c.forward(x),
            8 => self.mixed_6d.forward(x),
            9 => self.mixed_6e.forward(x),
            10 => self.mixed_7a.forward(x),
            11 => self.mixed_7b.forward(x),
            _ => Last(&self.mixed_7c).forward(x),
        }
    }

    /// The one loop over blocks; returns the output of the last that was evaluated.
    fn traverse(&self, image: Tensor<4>, visit: &mut Visit<'_>) -> Tensor<4> {
        require_image(&image, 3, self.config.image_size);
        let last = visit.blocks(self.taps.len());
        let mut map = image;
        for (place, info) in self.taps.iter().enumerate().take(last) {
            let _span = Visit::enter(info);
            map = visit.leave(info, self.block(place, map));
        }
        map
    }
}

impl Encoder for InceptionV3 {
    fn taps(&self) -> Vec<TapInfo> {
        self.taps.clone()
    }

    /// The condition is not read: the network knows no timestep.
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
