//! A classifier of any kind in one file: head, feedback layers, a tuned encoder, and everything that
//! is needed to classify an image with them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use diffrep_artifact::write_bytes_atomic;
use diffrep_datasets::Preprocess;
use diffrep_heads::{HeadSpec, load_state, parameters};
use diffrep_schedule::{ProcessSpec, Schedule, ScheduleKind, Target};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use crate::maps::Moments;
use crate::{Classifier, Point, ProbeError, Reading, Recipe, TunableEncoder, Tune};

/// Everything beside its weights that a classifier needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierInfo {
    /// Class names in label order.
    pub classes: Vec<String>,
    /// SHA-256 of the checkpoint that the encoder started from.
    pub encoder_sha256: String,
    /// What was trained beside the head.
    pub tune: Tune,
    /// What of the encoder the head reads.
    pub reading: Reading,
    /// Which head.
    pub head: HeadSpec,
    /// The noise schedule.
    pub schedule: ScheduleKind,
    /// Timesteps of the schedule.
    pub timesteps: usize,
    /// Whether the network is told t * 1000 / timesteps instead of t.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rescaled: bool,
    /// How an image becomes the network's input.
    pub preprocess: Preprocess,
    /// Seed of the noise.
    pub noise_seed: u64,
    /// How it was trained.
    pub recipe: Recipe,
    /// The grid point that won on the validation split.
    pub point: Point,
    /// Share of validation samples classified right.
    pub validation_accuracy: f64,
}

/// Weights by name with their info: one safetensors file. `head.*` and `feedback_layers.*` carry the
/// names of soumik-kanad/diffssl, `encoder.*` those of guided-diffusion or diffusers, `prompt` is the text
/// that was learned; a frozen encoder is not in it.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedClassifier {
    /// What it is for.
    pub info: ClassifierInfo,
    tensors: BTreeMap<String, TensorData>,
}

const INFO: &str = "diffrep.classifier";
/// The text that was learned.
const PROMPT: &str = "prompt";

impl SavedClassifier {
    /// What is to be kept of a classifier.
    pub fn new<E: TunableEncoder>(classifier: &Classifier<E>, info: ClassifierInfo) -> Self {
        let network = &classifier.network;
        let blocks = classifier.blocks();
        let mut tensors = head_tensors(
            parameters(&network.head, &blocks),
            classifier.moments.as_ref(),
        );
        if let Some(layers) = &network.feedback {
            tensors.extend(parameters(layers, &[]));
        }
        if matches!(info.tune, Tune::Encoder { .. }) {
            let weights = network.encoder.state().into_iter();
            tensors.extend(weights.map(|(name, data)| (format!("encoder.{name}"), data)));
        }
        if let Some(prompt) = &network.prompt {
            tensors.insert(PROMPT.into(), prompt.val().without_autodiff().into_data());
        }
        Self { info, tensors }
    }

    /// What is to be kept of a head on a frozen encoder: its parameters by the authors' names.
    pub fn of_head(
        state: BTreeMap<String, TensorData>,
        moments: Option<&Moments>,
        info: ClassifierInfo,
    ) -> Self {
        Self {
            info,
            tensors: head_tensors(state, moments),
        }
    }

    /// Writes the file atomically.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ProbeError> {
        let broken = |reason: String| ProbeError::NotAHead {
            path: path.into(),
            reason,
        };
        let views = self
            .tensors
            .iter()
            .map(|(name, data)| {
                let shape = data.shape().to_vec();
                let view = TensorView::new(Dtype::F32, shape, data.as_bytes());
                Ok((name.as_str(), view.map_err(|e| broken(e.to_string()))?))
            })
            .collect::<Result<Vec<_>, ProbeError>>()?;
        let info = serde_json::to_string(&self.info).map_err(|e| broken(e.to_string()))?;
        let metadata = HashMap::from([(INFO.to_string(), info)]);
        let file =
            safetensors::serialize(views, Some(metadata)).map_err(|e| broken(e.to_string()))?;
        Ok(write_bytes_atomic(path, &file)?)
    }

    /// Whether a file says that it is one.
    pub fn is_in(path: &Path) -> bool {
        let Ok(bytes) = diffrep_artifact::read_bytes(path) else {
            return false;
        };
        let header = SafeTensors::read_metadata(&bytes);
        header.is_ok_and(|(_, header)| {
            let metadata = header.metadata().as_ref();
            metadata.is_some_and(|metadata| metadata.contains_key(INFO))
        })
    }

    /// Reads a file that [`write`](Self::write) wrote.
    ///
    /// # Errors
    ///
    /// When it cannot be read or is no such file.
    pub fn read(path: &Path) -> Result<Self, ProbeError> {
        let broken = |reason: String| ProbeError::NotAHead {
            path: path.into(),
            reason,
        };
        let bytes = diffrep_artifact::read_bytes(path)?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| broken(e.to_string()))?;
        let info = header
            .metadata()
            .as_ref()
            .and_then(|metadata| metadata.get(INFO))
            .ok_or_else(|| broken(format!("its header has no `{INFO}`")))?;
        let info: ClassifierInfo = serde_json::from_str(info).map_err(|e| broken(e.to_string()))?;
        let process = ProcessSpec {
            schedule: info.schedule,
            steps: info.timesteps,
            rescaled: info.rescaled,
            predicts: Target::default(),
        };
        process.schedule().map_err(|e| broken(e.to_string()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| broken(e.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            if view.dtype() != Dtype::F32 {
                return Err(broken(format!("`{name}` is not f32")));
            }
            let (values, _) = view.data().as_chunks::<4>();
            let values: Vec<f32> = values.iter().map(|v| f32::from_le_bytes(*v)).collect();
            if values.iter().any(|value| !value.is_finite()) {
                return Err(broken(format!("a value of `{name}` is not finite")));
            }
            tensors.insert(name.into(), TensorData::new(values, view.shape().to_vec()));
        }
        Ok(Self { info, tensors })
    }

    /// The classifier on the network that it started from.
    ///
    /// # Errors
    ///
    /// When a weight is missing, left over or misshapen, or something does not fit the network.
    pub fn classifier<E: TunableEncoder>(
        &self,
        encoder: E,
        device: &Device,
    ) -> Result<Classifier<E>, ProbeError> {
        let info = &self.info;
        let schedule = Schedule::new(info.schedule, info.timesteps).with_rescaled(info.rescaled);
        let mut built = Classifier::untrained(
            &info.tune,
            &info.reading,
            &info.head,
            info.classes.len(),
            0,
            encoder,
            &schedule,
            device,
        )?;
        let mut parts: [BTreeMap<String, TensorData>; 4] = Default::default();
        let [head, feedback, encoder, moments] = &mut parts;
        let mut prompt = None;
        for (name, data) in &self.tensors {
            let data = data.clone();
            if name.starts_with("feedback_layers.") {
                feedback.insert(name.clone(), data);
            } else if let Some(name) = name.strip_prefix("encoder.") {
                encoder.insert(name.into(), data);
            } else if let Some(name) = name.strip_prefix("moments.") {
                moments.insert(name.into(), data);
            } else if name == PROMPT {
                prompt = Some(data);
            } else {
                let name = name.strip_prefix("head.").unwrap_or(name);
                head.insert(name.into(), data);
            }
        }
        let blocks = built.blocks();
        let network = &mut built.network;
        network.head = load_state(network.head.clone(), &blocks, std::mem::take(head))?;
        network.feedback = network
            .feedback
            .take()
            .map(|layers| load_state(layers, &[], std::mem::take(feedback)))
            .transpose()?;
        let unfit = |text: &str| diffrep_heads::HeadError::State(text.into());
        if matches!(info.tune, Tune::Encoder { .. }) {
            let moved = network.encoder.clone().with_state(std::mem::take(encoder));
            network.encoder = moved.ok_or_else(|| unfit("its encoder is not the network's"))?;
        }
        let shape = network.prompt.as_ref().map(|prompt| prompt.dims().to_vec());
        if shape != prompt.as_ref().map(|data| data.shape().to_vec()) {
            return Err(unfit("its text is not one that the network reads").into());
        }
        network.prompt = prompt.map(|data| Param::from_tensor(Tensor::from_data(data, device)));
        built.moments = read_moments(moments, &built)?;
        Ok(built)
    }
}

/// The head's tensors, and the means and deviations in front of it.
fn head_tensors(
    state: BTreeMap<String, TensorData>,
    moments: Option<&Moments>,
) -> BTreeMap<String, TensorData> {
    let mut tensors: BTreeMap<String, TensorData> = state
        .into_iter()
        .map(|(name, data)| (format!("head.{name}"), data))
        .collect();
    for (index, (mean, deviation)) in moments.iter().flat_map(|m| m.0.iter()).enumerate() {
        for (name, values) in [("mean", mean), ("deviation", deviation)] {
            let data = TensorData::new(values.clone(), [values.len()]);
            tensors.insert(format!("moments.{index}.{name}"), data);
        }
    }
    tensors
}

fn read_moments<E: TunableEncoder>(
    found: &BTreeMap<String, TensorData>,
    classifier: &Classifier<E>,
) -> Result<Option<Moments>, ProbeError> {
    if found.is_empty() {
        return Ok(None);
    }
    let values = |index: usize, name: &str| -> Option<Vec<f32>> {
        let data = found.get(&format!("{index}.{name}"))?.clone();
        data.try_into_vec().ok()
    };
    let pairs = classifier.lengths().into_iter().enumerate();
    let pairs: Option<Vec<_>> = pairs
        .map(|(index, lengths)| {
            let (mean, deviation) = (values(index, "mean")?, values(index, "deviation")?);
            let fits = lengths.contains(&mean.len()) && mean.len() == deviation.len();
            (fits && deviation.iter().all(|d| *d > 0.0)).then_some((mean, deviation))
        })
        .collect();
    let pairs = pairs.ok_or_else(|| {
        let text = "its means and deviations are not those of what it reads".to_string();
        diffrep_heads::HeadError::State(text)
    })?;
    Ok(Some(Moments(pairs)))
}
