//! Feature maps in memory, for heads that read more than a vector.

use burn::tensor::{Device, Tensor, TensorData};
use diffrep_extract::{Gathered, Setting};
use diffrep_pool::PoolSize;
use diffrep_store::Store;
use diffrep_taps::TapInfo;

use crate::{Features, ProbeError};

/// Maps of one setting: a column of a store, seen as `[samples, channels, side, side]`.
#[derive(Clone, Debug, PartialEq)]
pub struct MapColumn {
    /// Timestep, block and the side that maps were pooled to.
    pub setting: Setting,
    /// Channels of the map.
    pub channels: usize,
    /// `[samples, channels, side, side]`, row-major.
    pub values: Vec<f32>,
}

impl MapColumn {
    /// Height and width.
    pub fn side(&self) -> usize {
        self.setting.pool.get()
    }

    /// Values of one map.
    pub fn len(&self) -> usize {
        self.channels * self.side() * self.side()
    }

    /// Whether maps have no values.
    pub fn is_empty(&self) -> bool {
        self.channels == 0
    }

    fn tap(&self) -> TapInfo {
        TapInfo {
            block: self.setting.block,
            name: self.setting.column(),
            channels: self.channels,
            height: self.side(),
            width: self.side(),
        }
    }
}

/// Maps of the same samples at several settings, for each timestep the same blocks in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Maps {
    columns: Vec<MapColumn>,
    labels: Vec<u32>,
    steps: usize,
}

impl Maps {
    /// Columns of a store by name; they are put in order of timestep, then block.
    ///
    /// # Errors
    ///
    /// When there is none, the store lacks one, a block occurs twice at a timestep, or timesteps
    /// have other blocks or pools.
    pub fn read(store: &Store, names: &[String]) -> Result<Self, ProbeError> {
        Self::read_from(|_| Some(store), names)
    }

    /// Columns of gathered stores.
    ///
    /// # Errors
    ///
    /// As [`Maps::read`].
    pub fn gathered(gathered: &Gathered, names: &[String]) -> Result<Self, ProbeError> {
        let stores = gathered.stores();
        Self::read_from(|name| gathered.store(name).or(stores.first()), names)
    }

    fn read_from<'s>(
        store: impl Fn(&str) -> Option<&'s Store>,
        names: &[String],
    ) -> Result<Self, ProbeError> {
        let mut columns = Vec::new();
        let mut labels = Vec::new();
        for name in names {
            let store = store(name).ok_or(ProbeError::Empty { split: "stores" })?;
            let features = Features::read(store, name)?;
            let refuse = |reason: &str| ProbeError::Column {
                column: name.clone(),
                reason: reason.into(),
            };
            let spec = store.spec().columns.iter().find(|spec| spec.name == *name);
            let setting: Setting = spec
                .and_then(|spec| serde_json::from_value(spec.meta.clone()).ok())
                .ok_or_else(|| refuse("the store does not tell its block and pool"))?;
            let cells = setting.pool.get() * setting.pool.get();
            if !features.dim.is_multiple_of(cells) {
                return Err(refuse("its length is no multiple of the pooled cells"));
            }
            columns.push(MapColumn {
                setting,
                channels: features.dim / cells,
                values: features.values,
            });
            labels = features.labels;
        }
        Self::new(columns, labels)
    }

    /// Maps in memory.
    ///
    /// # Errors
    ///
    /// As [`Maps::read`], and when lengths disagree.
    pub fn new(mut columns: Vec<MapColumn>, labels: Vec<u32>) -> Result<Self, ProbeError> {
        columns.sort_by_key(|column| column.setting);
        let first = columns.first().ok_or(ProbeError::Empty { split: "maps" })?;
        let t = first.setting.t;
        let blocks = columns
            .iter()
            .take_while(|column| column.setting.t == t)
            .count();
        let kind = |column: &MapColumn| (column.setting.block, column.setting.pool);
        for (index, column) in columns.iter().enumerate() {
            let model = &columns[index % blocks];
            let twice = (index % blocks > 0) && kind(&columns[index - 1]).0 == column.setting.block;
            let whole = columns.len().is_multiple_of(blocks);
            let reason = if column.values.len() != labels.len() * column.len() {
                "it has another number of samples than there are labels"
            } else if twice {
                "its block is there twice"
            } else if !whole || kind(column) != kind(model) {
                "timesteps must have the same blocks and pools"
            } else {
                continue;
            };
            return Err(ProbeError::Column {
                column: column.setting.column(),
                reason: reason.into(),
            });
        }
        let steps = columns.len() / blocks;
        Ok(Self {
            columns,
            labels,
            steps,
        })
    }

    /// The columns, in order of timestep, then block.
    pub fn columns(&self) -> &[MapColumn] {
        &self.columns
    }

    /// Class of each sample.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// How many timesteps there are.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Shapes of the blocks of one timestep.
    pub fn taps(&self) -> Vec<TapInfo> {
        let blocks = self.columns.len() / self.steps;
        self.columns[..blocks].iter().map(MapColumn::tap).collect()
    }

    /// The maps of some samples, in their order.
    pub fn select(&self, rows: &[usize]) -> Self {
        let columns = self.columns.iter().map(|column| {
            let size = column.len();
            let maps = rows.iter().map(|row| &column.values[row * size..][..size]);
            MapColumn {
                values: maps.flatten().copied().collect(),
                ..*column
            }
        });
        Self {
            columns: columns.collect(),
            labels: rows.iter().map(|&row| self.labels[row]).collect(),
            steps: self.steps,
        }
    }

    /// The maps of some samples as tensors `[rows, channels, side, side]`, in order of the columns.
    pub fn batch(&self, rows: &[usize], device: &Device) -> Vec<Tensor<4>> {
        self.columns
            .iter()
            .map(|column| {
                let size = column.len();
                let mut values = Vec::with_capacity(rows.len() * size);
                for &row in rows {
                    values.extend_from_slice(&column.values[row * size..(row + 1) * size]);
                }
                let shape = [rows.len(), column.channels, column.side(), column.side()];
                Tensor::from_data(TensorData::new(values, shape), device)
            })
            .collect()
    }

    /// The maps of a single column as vectors, averaged to a smaller side before.
    ///
    /// # Errors
    ///
    /// When there are several columns, or the side does not divide theirs.
    pub(crate) fn pooled(&self, pool: PoolSize) -> Result<Features, ProbeError> {
        let refuse = |column: &MapColumn, reason: String| ProbeError::Column {
            column: column.setting.column(),
            reason,
        };
        let [column] = self.columns.as_slice() else {
            return Err(refuse(
                &self.columns[0],
                "a linear head reads one column".into(),
            ));
        };
        let (side, pool) = (column.side(), pool.get());
        if side % pool != 0 {
            let reason = format!("maps of side {side} are not pooled to {pool}: use a divisor");
            return Err(refuse(column, reason));
        }
        let window = side / pool;
        let share = 1.0 / (window * window) as f32;
        let dim = column.channels * pool * pool;
        let mut values = vec![0.0f32; self.len() * dim];
        let planes = column.values.chunks_exact(side * side);
        for (plane, out) in planes.zip(values.chunks_exact_mut(pool * pool)) {
            for (index, value) in plane.iter().enumerate() {
                let (y, x) = (index / side / window, index % side / window);
                out[y * pool + x] += value;
            }
            out.iter_mut().for_each(|sum| *sum *= share);
        }
        Ok(Features {
            values,
            dim,
            labels: self.labels.clone(),
        })
    }

    /// Mean and deviation of every channel of every column over samples and pixels, or of every
    /// value of the map over samples.
    pub fn moments(&self, each: Each) -> Moments {
        let moments = self.columns.iter().map(|column| {
            let groups = match each {
                Each::Channel => column.channels,
                Each::Value => column.len(),
            };
            let cells = column.len() / groups;
            let mut sums = vec![(0.0f64, 0.0f64); groups];
            for (index, group) in column.values.chunks_exact(cells).enumerate() {
                let (sum, square) = &mut sums[index % groups];
                for &value in group {
                    *sum += f64::from(value);
                    *square += f64::from(value) * f64::from(value);
                }
            }
            let count = (self.len() * cells).max(1) as f64;
            let mean = sums.iter().map(|(sum, _)| (sum / count) as f32).collect();
            let deviation = sums.iter().map(|(sum, square)| {
                let deviation = (square / count - (sum / count).powi(2)).max(0.0).sqrt();
                if deviation > 1e-6 {
                    deviation as f32
                } else {
                    1.0
                }
            });
            (mean, deviation.collect())
        });
        Moments(moments.collect())
    }

    /// Everything shifted by its mean and divided by its deviation.
    ///
    /// # Panics
    ///
    /// When the moments are of other columns.
    pub fn standardize(&mut self, moments: &Moments) {
        assert_eq!(moments.0.len(), self.columns.len(), "moments of other maps");
        for (column, (mean, deviation)) in self.columns.iter_mut().zip(&moments.0) {
            let groups = mean.len();
            let cells = column.len() / groups;
            for (index, group) in column.values.chunks_exact_mut(cells).enumerate() {
                let (mean, deviation) = (mean[index % groups], deviation[index % groups]);
                group
                    .iter_mut()
                    .for_each(|value| *value = (*value - mean) / deviation);
            }
        }
    }
}

/// What has a mean and a deviation of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Each {
    /// A channel, all its pixels together.
    Channel,
    /// Every value of a map.
    Value,
}

/// Mean and deviation of every channel or value of every column.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments(pub Vec<(Vec<f32>, Vec<f32>)>);

#[cfg(test)]
mod tests {
    use super::*;

    fn column(t: usize, block: usize, samples: usize) -> MapColumn {
        let setting: Setting =
            serde_json::from_value(serde_json::json!({"t": t, "block": block, "pool": 2})).unwrap();
        let values = (0..samples * 3 * 4).map(|i| (i * i % 17) as f32).collect();
        MapColumn {
            setting,
            channels: 3,
            values,
        }
    }

    #[test]
    fn columns_are_ordered_and_must_make_a_grid() {
        let grid = [(10, 3), (5, 3), (10, 2), (5, 2)].map(|(t, b)| column(t, b, 2));
        let maps = Maps::new(grid.to_vec(), vec![0, 1]).unwrap();
        let order: Vec<String> = maps.columns().iter().map(|c| c.setting.column()).collect();
        assert_eq!(
            order,
            ["t5_b02_p2", "t5_b03_p2", "t10_b02_p2", "t10_b03_p2"]
        );
        assert_eq!((maps.steps(), maps.taps().len()), (2, 2));
        let refused = |columns: &[(usize, usize)], labels: usize| {
            let columns = columns.iter().map(|&(t, b)| column(t, b, 2)).collect();
            Maps::new(columns, vec![0; labels]).unwrap_err().to_string()
        };
        assert!(refused(&[(5, 2), (5, 3), (10, 2)], 2).contains("same blocks"));
        assert!(refused(&[(5, 2), (10, 3)], 2).contains("same blocks"));
        assert!(refused(&[(5, 2), (5, 2)], 2).contains("twice"));
        assert!(refused(&[(5, 2)], 3).contains("number of samples"));
        assert!(refused(&[], 0).contains("no samples"));
    }

    #[test]
    fn standardised_maps_have_mean_0_and_deviation_1() {
        for (each, groups) in [(Each::Channel, 3), (Each::Value, 12)] {
            let mut maps = Maps::new(vec![column(5, 2, 40)], vec![0; 40]).unwrap();
            maps.standardize(&maps.moments(each));
            for (mean, deviation) in maps.moments(each).0 {
                assert_eq!(mean.len(), groups);
                assert!(mean.iter().all(|m| m.abs() < 1e-5), "{mean:?}");
                let one = |d: &f32| (d - 1.0).abs() < 1e-4;
                assert!(deviation.iter().all(one), "{deviation:?}");
            }
        }
    }

    #[test]
    fn a_batch_is_its_rows() {
        let maps = Maps::new(vec![column(5, 2, 4)], vec![0; 4]).unwrap();
        let batch = maps.batch(&[2, 0], &Device::flex()).remove(0);
        assert_eq!(batch.dims(), [2, 3, 2, 2]);
        let values: Vec<f32> = batch.into_data().try_into_vec().unwrap();
        let all = &maps.columns()[0].values;
        assert_eq!(values, [&all[24..36], &all[..12]].concat());
    }
}
