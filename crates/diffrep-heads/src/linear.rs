use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use diffrep_pool::PoolSize;
use diffrep_taps::TapInfo;

use crate::HeadError;

/// One fully connected layer: the linear probe of section 3.3 of the paper.
#[derive(Module, Debug)]
pub struct LinearHead {
    /// `[classes, features]`
    pub weight: Param<Tensor<2>>,
    /// `[classes]`
    pub bias: Param<Tensor<1>>,
}

impl LinearHead {
    /// A head from its values, weights class by class.
    ///
    /// # Errors
    ///
    /// When there are not `features * classes` weights.
    pub fn from_values(
        weight: Vec<f32>,
        bias: Vec<f32>,
        features: usize,
        device: &Device,
    ) -> Result<Self, HeadError> {
        let classes = bias.len();
        if weight.len() != features * classes {
            return Err(HeadError::Weights {
                features,
                classes,
                weights: weight.len(),
            });
        }
        Ok(Self {
            weight: Param::from_tensor(Tensor::from_data(
                TensorData::new(weight, [classes, features]),
                device,
            )),
            bias: Param::from_tensor(Tensor::from_data(TensorData::new(bias, [classes]), device)),
        })
    }

    /// Logits `[batch, classes]` of features `[batch, features]`.
    ///
    /// # Panics
    ///
    /// Panics when the number of features differs (see [`check`](Self::check)).
    pub fn forward(&self, features: Tensor<2>) -> Tensor<2> {
        features.matmul(self.weight.val().transpose()) + self.bias.val().unsqueeze()
    }

    /// That the head reads what `tap` pooled to `pool` gives.
    ///
    /// # Errors
    ///
    /// When it does not, naming both sides.
    pub fn check(&self, tap: &TapInfo, pool: PoolSize) -> Result<(), HeadError> {
        let [_, head] = self.weight.dims();
        let found = pool.features(tap);
        if head == found {
            return Ok(());
        }
        Err(HeadError::Features {
            head,
            block: tap.block.get(),
            pool: pool.get(),
            found,
        })
    }

    /// Parameters of a linear head: weights and biases.
    pub fn parameters(features: usize, classes: usize) -> usize {
        (features + 1) * classes
    }
}

#[cfg(test)]
mod tests {
    use diffrep_taps::BlockIndex;

    use super::*;

    /// Table 7 of the paper counts 1000 classes on 1024 channels pooled to 1, 2, 4 and 8.
    #[test]
    fn linear_rows_of_table_7() {
        let rows = [
            (1, 1_025_000),
            (2, 4_097_000),
            (4, 16_385_000),
            (8, 65_537_000),
        ];
        for (pool, parameters) in rows {
            assert_eq!(LinearHead::parameters(1024 * pool * pool, 1000), parameters);
        }
    }

    #[test]
    fn a_head_for_other_features_names_both_sides() {
        let device = Device::flex();
        let head = LinearHead::from_values(vec![0.0; 40], vec![0.0; 10], 4, &device).unwrap();
        let tap = TapInfo {
            block: BlockIndex::new(7).unwrap(),
            name: "middle_block".into(),
            channels: 8,
            height: 4,
            width: 4,
        };
        let error = head
            .check(&tap, PoolSize::new(1).unwrap())
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "the head reads 4 features, but block 7 pooled to 1 x 1 gives 8"
        );
        assert!(LinearHead::from_values(vec![0.0; 39], vec![0.0; 10], 4, &device).is_err());
    }
}
