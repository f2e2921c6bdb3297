use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use diffrep_backbones::{Backbone, BackboneConfig, is_statistic};
use diffrep_datasets::Preprocess;
use diffrep_train::parameters;
use serde::{Deserialize, Serialize};

use crate::loss::{classification, right};
use crate::run::PretrainError;
use crate::task::{Batch, Course, Judgement, Task};

/// The training of a ResNet or a vision transformer to classify clean images of -1 to 1: what a
/// diffusion model is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackboneTraining {
    /// The network, with a classifier of as many classes as the images have.
    pub network: BackboneConfig,
    /// How an image becomes the network's input.
    pub preprocess: Preprocess,
    /// How the run goes.
    pub course: Course,
}

impl Task for BackboneTraining {
    type Network = Backbone;

    fn course(&self) -> Course {
        self.course
    }

    fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    fn classes(&self) -> Option<usize> {
        // Without a classifier it tells none apart.
        Some(self.network.classes().unwrap_or(0))
    }

    fn network(&self, device: &Device) -> Result<Backbone, PretrainError> {
        Ok(self.network.init(self.course.seed, device)?)
    }

    fn losses(&self, network: &Backbone, batch: Batch) -> Tensor<1> {
        classification(network.classify(batch.images), &batch.labels)
    }

    fn judge(&self, network: &Backbone, batch: Batch) -> Judgement {
        let logits = network.classify(batch.images);
        Judgement {
            right: Some(right(logits.clone(), &batch.labels)),
            losses: classification(logits, &batch.labels),
        }
    }

    fn statistics(network: &Backbone) -> BTreeMap<String, Tensor<1>> {
        let mut all = parameters(network);
        all.retain(|path, _| is_statistic(path));
        all
    }
}
