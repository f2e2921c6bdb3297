use std::collections::BTreeMap;
use std::fmt::Debug;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use diffrep_datasets::Preprocess;
use diffrep_rng::{Key, Stream};
use diffrep_train::{AdamWConfig, LearningRate};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::run::PretrainError;

/// How a run goes, whatever it trains.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Course {
    /// Passes over the images.
    pub epochs: u32,
    /// Images a step.
    pub batch: usize,
    /// Parts of a batch that are computed side by side, their gradients summed in order. Fills the
    /// processor where single operators do not; 1 on a GPU. Batch normalisation takes its statistics of
    /// a part.
    pub micro_batches: usize,
    /// Learning rate by step.
    pub learning_rate: LearningRate,
    /// The optimiser.
    pub optimizer: AdamWConfig,
    /// Decay of the moving average of weights.
    pub ema_decay: f64,
    /// Whether images are flipped left to right with probability 1/2.
    pub flip: bool,
    /// Images taken out of training for the loss curve.
    pub held_out: usize,
    /// Names every random number of the run.
    pub seed: u64,
}

/// Images on their way through a network.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `[batch, channels, height, width]`, -1 to 1.
    pub images: Tensor<4>,
    /// Their classes.
    pub labels: Vec<u32>,
    /// What names their random numbers: seed, image and epoch.
    pub(crate) names: Vec<(u64, u64, u32)>,
}

impl Batch {
    /// Keys of the random numbers of one purpose, one an image.
    pub fn keys(&self, stream: Stream) -> Vec<Key> {
        let key =
            |&(seed, id, draw): &(u64, u64, u32)| Key::new(seed, stream).sample(id).draw(draw);
        self.names.iter().map(key).collect()
    }
}

/// What a network is worth on some images.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// Loss of each image, `[batch]`.
    pub losses: Tensor<1>,
    /// How many images a classifier is right about.
    pub right: Option<usize>,
}

/// What is trained, on what, and by which loss: everything that determines a run beside the images.
pub trait Task: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Sync {
    /// The network.
    type Network: Module + Sync;

    /// How the run goes.
    fn course(&self) -> Course;

    /// How an image becomes the network's input.
    fn preprocess(&self) -> &Preprocess;

    /// How many classes the network tells apart, if it is a classifier.
    fn classes(&self) -> Option<usize>;

    /// The network before its first step, a function of the seed.
    ///
    /// # Errors
    ///
    /// When its description does not fit together.
    fn network(&self, device: &Device) -> Result<Self::Network, PretrainError>;

    /// What is minimised, of each image, `[batch]`.
    fn losses(&self, network: &Self::Network, batch: Batch) -> Tensor<1>;

    /// What stands in the loss curve.
    fn judge(&self, network: &Self::Network, batch: Batch) -> Judgement;

    /// What the network keeps beside its parameters and moves in training by itself, by path: running
    /// statistics of batch normalisation.
    fn statistics(_network: &Self::Network) -> BTreeMap<String, Tensor<1>> {
        BTreeMap::new()
    }
}
