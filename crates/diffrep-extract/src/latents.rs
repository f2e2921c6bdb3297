//! Latents that are computed once and read by every later job on the same images.

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use diffrep_plan::Place;
use diffrep_pool::PoolSize;
use diffrep_rng::Key;
use diffrep_store::{FeatureDtype, Store};
use diffrep_taps::{BlockIndex, Condition, Encoder, Feedback, TapInfo, TapSet, Taps};

use crate::batch::Batch;
use crate::engine::{ExtractError, Extraction, Noising};
use crate::noise::Noise;
use crate::rows::Views;
use crate::setting::{Setting, Settings};

/// What makes latents, for the key of their store.
#[derive(Clone, Debug)]
pub struct FirstStageInfo {
    /// Its weights and settings; not those of the network that reads its latents.
    pub hash: String,
    /// Channels of latents.
    pub channels: usize,
    /// Height and width of latents.
    pub side: usize,
    /// Whether latents are drawn at random, so that seed and draw are part of what they are.
    pub drawn: bool,
}

/// The first stage of an encoder alone: its only block is what the diffusion process noises.
struct FirstStageOf<'a, E> {
    encoder: &'a E,
    tap: TapInfo,
}

impl<E: Encoder> Encoder for FirstStageOf<'_, E> {
    fn taps(&self) -> Vec<TapInfo> {
        vec![self.tap.clone()]
    }

    fn first_stage(&self, image: Tensor<4>, keys: &[Key]) -> Tensor<4> {
        self.encoder.first_stage(image, keys)
    }

    fn forward_taps(
        &self,
        latents: Tensor<4>,
        _condition: &Condition,
        _wanted: &TapSet,
        _feedback: Option<&Feedback>,
    ) -> Taps {
        let mut taps = Taps::new();
        taps.insert(self.tap.block, latents);
        taps
    }
}

/// An encoder whose first stage reads what a store keeps.
pub struct WithLatents<'a, E> {
    encoder: &'a E,
    store: Store,
    column: String,
    /// The row of the image that a key names.
    rows: HashMap<Key, usize>,
    shape: [usize; 3],
}

impl<E: Encoder> Encoder for WithLatents<'_, E> {
    fn taps(&self) -> Vec<TapInfo> {
        self.encoder.taps()
    }

    fn first_stage(&self, image: Tensor<4>, keys: &[Key]) -> Tensor<4> {
        let row = |key: &Key| *self.rows.get(key).expect("an image of the store");
        let rows: Vec<usize> = keys.iter().map(row).collect();
        let mut values = vec![0.0; rows.len() * self.shape.iter().product::<usize>()];
        let column = self.store.column(&self.column);
        column
            .and_then(|column| column.read_rows(&rows, &mut values))
            .expect("rows and a column that were there when the store was opened");
        let [channels, height, width] = self.shape;
        let data = TensorData::new(values, [rows.len(), channels, height, width]);
        Tensor::from_data(data, &image.device())
    }

    fn forward_taps(
        &self,
        image: Tensor<4>,
        condition: &Condition,
        wanted: &TapSet,
        feedback: Option<&Feedback>,
    ) -> Taps {
        self.encoder
            .forward_taps(image, condition, wanted, feedback)
    }
}

impl Extraction<'_> {
    /// The encoder with the latents of this job's images from the store at `dir`, where they are computed
    /// first as far as they are missing: by this process alone, or as one of several workers. They are stored in
    /// f32, so that features have the bits that they would have without.
    ///
    /// # Errors
    ///
    /// As [`Extraction::run`], and when other workers still have some of them.
    ///
    /// # Panics
    ///
    /// When images have rows of their mirror image too: a key names both.
    pub fn with_latents<'e, E: Encoder + Sync>(
        &self,
        encoder: &'e E,
        first_stage: &FirstStageInfo,
        place: Option<&Place>,
        dir: &Path,
        device: &Device,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<WithLatents<'e, E>, ExtractError> {
        assert!(!self.views.flips, "latents are kept of images one way");
        let &FirstStageInfo {
            channels,
            side,
            drawn,
            ..
        } = first_stage;
        let only = FirstStageOf {
            encoder,
            tap: TapInfo {
                block: BlockIndex::at(0),
                name: "latents".into(),
                channels,
                height: side,
                width: side,
            },
        };
        let setting = Setting {
            t: None,
            block: only.tap.block,
            pool: PoolSize::new(side).expect("latents have pixels"),
        };
        let settings = Settings::new([setting], &only.taps(), self.schedule)?;
        let job = Extraction {
            settings: &settings,
            noising: match drawn {
                true => self.noising,
                false => Noising { seed: 0, draw: 0 },
            },
            noise: Noise::Seeded,
            views: match drawn {
                true => self.views,
                false => Views::default(),
            },
            encoder_hash: first_stage.hash.clone(),
            dtype: FeatureDtype::F32,
            // Latents serve jobs of any batch, so theirs is the usual one.
            batch: Batch::default(),
            ..self.clone()
        };
        match place {
            None => job.run(&only, dir, device, &mut progress)?,
            Some(place) => {
                job.run_as(place, &only, dir, device, &mut progress)?;
            }
        }
        // All draws of noise are added to the same latents, if those are not drawn themselves.
        let rows = (0..self.rows()).map(|row| {
            let of = self.views.row(row);
            (self.noise_key(of), if drawn { row } else { of.image })
        });
        Ok(WithLatents {
            encoder,
            store: Store::open(dir)?,
            column: setting.column(),
            rows: rows.collect(),
            shape: [channels, side, side],
        })
    }
}
