//! The network that was trained to classify: the U-Net encoder of Table 1 of the paper.

use burn::tensor::Tensor;
use diffrep_artifact::Sha256Hex;
use diffrep_taps::Condition;
use diffrep_train::parameters;
use diffrep_unet::{Kind, UNet};

use crate::train_head::{right, share};
use crate::{
    Augment, Bits, HeadScore, Images, Point, ProbeError, Progress, Splits, StepKey, Study, Subject,
};

/// Images classified at a time.
const ROWS: usize = 64;

impl Study<'_> {
    /// The step of a seed in [`classifier`](Self::classifier).
    ///
    /// # Errors
    ///
    /// When a data set's fingerprint cannot be taken.
    pub fn classifier_key(
        &self,
        subject: &Subject<'_, UNet>,
        splits: &Splits,
        t: usize,
        seed: u64,
    ) -> Result<StepKey, ProbeError> {
        let name = format!("classifier-{}-seed{seed}", subject.name);
        let determines = serde_json::json!({
            "network": subject.hash, "t": t, "seed": seed, "preprocess": self.preprocess,
            "images": [splits.validation.fingerprint()?, splits.test.fingerprint()?],
            "splits": [splits.validation.split().to_string(), splits.test.split().to_string()],
            "timesteps": self.schedule.timestep_map.len(),
            "betas": Sha256Hex::hash_json(&self.schedule.betas)?,
            "timestep_scale": self.schedule.timestep_scale,
            "version": env!("CARGO_PKG_VERSION"),
        });
        StepKey::new(name, &determines)
    }

    /// Scores an encoder classifier by itself on images noised to `t`, with the noise of each seed.
    /// Nothing is trained or chosen.
    ///
    /// # Errors
    ///
    /// When the network is no classifier of these classes, or an image cannot be read.
    pub fn classifier(
        &self,
        subject: &Subject<'_, UNet>,
        splits: &Splits,
        t: usize,
        seeds: &[u64],
        on: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<Vec<HeadScore>, ProbeError> {
        let network = subject.encoder;
        let (config, classes) = (network.config(), splits.train.class_names().len());
        if !matches!(config.kind, Kind::Encoder(_)) || config.out_channels != classes {
            return Err(ProbeError::NotAClassifier { classes });
        }
        let mut scores = Vec::new();
        for &seed in seeds {
            let key = self.classifier_key(subject, splits, t, seed)?;
            let name = key.name.clone();
            scores.push(self.step(&key, on, |on| {
                let total = splits.validation.len() + splits.test.len();
                let mut done = 0;
                let mut found = Vec::new();
                for dataset in [&splits.validation, &splits.test] {
                    let images = Images {
                        dataset,
                        preprocess: self.preprocess,
                        schedule: self.schedule,
                        seed,
                        augment: Augment::default(),
                    };
                    let rows: Vec<usize> = (0..dataset.len()).collect();
                    let mut logits: Vec<f32> = Vec::new();
                    for rows in rows.chunks(ROWS) {
                        let (image, _) = images.batch(network, rows, Some(t), None, self.device)?;
                        let step = self.schedule.told(t);
                        let condition = Condition {
                            t: Some(Tensor::full([rows.len()], step, self.device)),
                            ..Condition::default()
                        };
                        let values = network.forward(image, &condition).into_data();
                        let values = values.convert::<f32>().try_into_vec::<f32>();
                        logits.extend(values.expect("logits are f32"));
                        done += rows.len();
                        on(Progress::At {
                            name: &name,
                            done,
                            total,
                        });
                    }
                    found.push(right(&logits, dataset.labels()));
                }
                let [validation, test] = [&found[0], &found[1]].map(|right| share(right));
                Ok(HeadScore {
                    candidate: None,
                    point: Point {
                        learning_rate: 0.0,
                        weight_decay: 0.0,
                    },
                    parameters: parameters(network).values().map(|w| w.dims()[0]).sum(),
                    seed,
                    epoch: 0,
                    curve: Vec::new(),
                    validation,
                    test,
                    correct: Bits(found.remove(1)),
                })
            })?);
        }
        Ok(scores)
    }
}
