//! Images as a training meets them: the paper's own way of feeding, with new noise and flips in each
//! epoch.

use burn::tensor::{Device, Tensor, TensorData};
use diffrep_datasets::{Dataset, Preprocess, View, load_batch, load_views};
use diffrep_extract::{Setting, SettingError, Settings};
use diffrep_pool::{PoolSize, pyramid};
use diffrep_rng::{Key, Stream};
use diffrep_schedule::{Schedule, noise_batch, q_sample};
use diffrep_taps::{BlockIndex, Condition, Encoder, TapInfo, TapSet};
use serde::{Deserialize, Serialize};

use crate::{MapColumn, Maps, ProbeError};

/// Images that go through a frozen encoder at a time when it is only read.
const READ_ROWS: usize = 16;

/// What of an encoder is read: the choices of section 4.1.1 of the paper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// Noise step; `None` for the clean image.
    pub t: Option<usize>,
    /// Blocks, from 1.
    pub blocks: Vec<BlockIndex>,
    /// Side that maps are pooled to; a smaller map stays as it is.
    pub pool: PoolSize,
}

/// What a training does to an image before the network sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// Another noise in each epoch; else the same one as for stored features.
    pub fresh_noise: bool,
    /// Flipped left to right with probability 1/2.
    pub flip: bool,
    /// A part drawn at random in place of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<View>,
}

/// Labelled images on their way to an encoder.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    /// The images.
    pub dataset: &'a Dataset,
    /// How an image becomes the network's input.
    pub preprocess: Preprocess,
    /// The diffusion process.
    pub schedule: &'a Schedule,
    /// Names noise and flips.
    pub seed: u64,
    /// What a training does to them; scoring leaves them as they are.
    pub augment: Augment,
}

impl Reading {
    /// The blocks as a set.
    ///
    /// # Errors
    ///
    /// When a block or the timestep is out of range.
    pub fn check(&self, taps: &[TapInfo], schedule: &Schedule) -> Result<TapSet, SettingError> {
        let settings = self.settings(taps);
        Settings::new(settings, taps, schedule)?;
        Ok(TapSet::new(
            self.blocks.iter().map(|block| block.get()),
            taps,
        )?)
    }

    /// The setting of each block.
    pub(crate) fn settings(&self, taps: &[TapInfo]) -> Vec<Setting> {
        let setting = |&block: &BlockIndex| {
            let side = taps
                .get(block.position())
                .map_or(1, |tap| tap.height.min(tap.width));
            let pool = PoolSize::new(side.min(self.pool.get())).unwrap_or(self.pool);
            Setting {
                t: self.t,
                block,
                pool,
            }
        };
        self.blocks.iter().map(setting).collect()
    }

    /// The blocks as a head sees them, in ascending order.
    pub fn pooled_taps(&self, taps: &[TapInfo]) -> Vec<TapInfo> {
        let mut blocks = self.blocks.clone();
        blocks.sort_unstable();
        blocks.dedup();
        let pooled = blocks.into_iter().map(|block| {
            let tap = &taps[block.position()];
            TapInfo {
                height: tap.height.min(self.pool.get()),
                width: tap.width.min(self.pool.get()),
                ..tap.clone()
            }
        });
        pooled.collect()
    }

    /// Maps `[batch, channels, height, width]` averaged to the side that heads read.
    pub(crate) fn pooled(&self, map: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = map.dims();
        let side = self.pool.get().min(height).min(width);
        if [height, width] == [side, side] {
            return map;
        }
        let size = PoolSize::new(side).unwrap_or(self.pool);
        pyramid(map, &[size])
            .remove(0)
            .reshape([batch, channels, side, side])
    }
}

impl Images<'_> {
    /// Some images as `encoder` is to see them, noised to `t` (in its latent space, if it has one),
    /// with the condition that tells it: as they are in an epoch of training, or as they are scored.
    ///
    /// # Errors
    ///
    /// When an image cannot be read.
    pub(crate) fn batch<E: Encoder>(
        &self,
        encoder: &E,
        rows: &[usize],
        t: Option<usize>,
        epoch: Option<usize>,
        device: &Device,
    ) -> Result<(Tensor<4>, Condition), ProbeError> {
        let draw = match epoch {
            Some(epoch) if self.augment.fresh_noise => epoch as u32 + 1,
            _ => 0,
        };
        let flips: Option<Vec<bool>> = epoch.filter(|_| self.augment.flip).map(|epoch| {
            let flip = |&row: &usize| {
                let key = Key::new(self.seed, Stream::Flip).sample(self.dataset.id(row));
                key.draw(epoch as u32).generator().next_u32() & 1 == 1
            };
            rows.iter().map(flip).collect()
        });
        let preprocess = &self.preprocess;
        let mut values = vec![0.0; rows.len() * preprocess.len()];
        let flips = flips.as_deref();
        match epoch.zip(self.augment.view) {
            None => load_batch(self.dataset, preprocess, rows, flips, &mut values)?,
            Some((epoch, view)) => load_views(
                self.dataset,
                preprocess,
                view,
                rows,
                flips,
                self.seed,
                epoch as u32,
                &mut values,
            )?,
        }
        let (channels, size) = (preprocess.channels.count(), preprocess.size);
        let shape = [rows.len(), channels, size, size];
        let image = Tensor::<4>::from_data(TensorData::new(values, shape), device);
        let key = |&row: &usize| {
            let key = Key::new(self.seed, Stream::Noise).sample(self.dataset.noise_id(row));
            key.draw(draw)
        };
        let keys: Vec<Key> = rows.iter().map(key).collect();
        let x0 = encoder.first_stage(image, &keys);
        let Some(t) = t else {
            return Ok((x0, Condition::default()));
        };
        let keys: Vec<Key> = keys.iter().map(|key| key.t(t as u32)).collect();
        let [_, channels, height, width] = x0.dims();
        let noise = noise_batch(&keys, [channels, height, width], device);
        let image = q_sample(self.schedule, x0, &vec![t; rows.len()], noise);
        let condition = Condition::timestep(self.schedule.told(t), device);
        Ok((image, condition))
    }

    /// The maps that a frozen encoder makes of some images, as they are scored: what an extraction
    /// stores.
    ///
    /// # Errors
    ///
    /// When an image cannot be read, or the encoder has no such block.
    pub fn maps<E: Encoder>(
        &self,
        encoder: &E,
        reading: &Reading,
        rows: &[usize],
        device: &Device,
    ) -> Result<Maps, ProbeError> {
        self.maps_of(encoder, reading, rows, None, device)
    }

    /// The same of images as they are in an epoch of training.
    pub(crate) fn maps_of<E: Encoder>(
        &self,
        encoder: &E,
        reading: &Reading,
        rows: &[usize],
        epoch: Option<usize>,
        device: &Device,
    ) -> Result<Maps, ProbeError> {
        let taps = encoder.taps();
        let wanted = reading.check(&taps, self.schedule)?;
        let settings = reading.settings(&taps);
        let mut columns: Vec<MapColumn> = wanted
            .iter()
            .filter_map(|block| settings.iter().find(|setting| setting.block == block))
            .map(|&setting| MapColumn {
                setting,
                channels: taps[setting.block.position()].channels,
                values: Vec::new(),
            })
            .collect();
        for rows in rows.chunks(READ_ROWS) {
            let (image, condition) = self.batch(encoder, rows, reading.t, epoch, device)?;
            let maps = encoder.forward_taps(image, &condition, &wanted, None);
            for (column, (_, map)) in columns.iter_mut().zip(maps) {
                let values: Vec<f32> = reading
                    .pooled(map)
                    .into_data()
                    .convert::<f32>()
                    .try_into_vec()
                    .expect("maps are f32");
                column.values.extend(values);
            }
        }
        let labels = rows.iter().map(|&row| self.dataset.label(row)).collect();
        Maps::new(columns, labels)
    }
}
