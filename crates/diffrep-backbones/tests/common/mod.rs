//! Files of fixtures/backbones: weights, images and outputs of the reference libraries.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};
use diffrep_backbones::{NamedTensor, named_tensors, plan, with_state_dict};
use safetensors::SafeTensors;

/// Tensors of a file.
pub(crate) struct Golden(Vec<u8>);

impl Golden {
    pub(crate) fn open(case: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/backbones");
        Self(std::fs::read(folder.join(format!("{case}.safetensors"))).unwrap())
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.0).unwrap()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let tensors = self.tensors();
        tensors.names().into_iter().map(String::from).collect()
    }

    pub(crate) fn data(&self, name: &str) -> TensorData {
        let tensors = self.tensors();
        let view = tensors.tensor(name).unwrap_or_else(|_| panic!("no {name}"));
        assert_eq!(view.dtype(), safetensors::Dtype::F32, "{name}");
        TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), DType::F32)
    }

    pub(crate) fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        Tensor::from_data(self.data(name), device)
    }

    /// The network with the file's weights, every one of them accounted for.
    pub(crate) fn fill<M: Module>(&self, network: M) -> M {
        let wanted = named_tensors(&network);
        let names = self.names();
        let weights = names.iter().filter_map(|name| name.strip_prefix("w."));
        let plan = plan(weights, &wanted).unwrap();
        assert!(
            plan.left
                .iter()
                .all(|left| left.name.ends_with("num_batches_tracked")),
            "{:?}",
            plan.left
        );
        with_state_dict(network, |key| {
            let tensor = wanted.iter().find(|tensor| tensor.key == key).unwrap();
            Some(self.stacked(tensor, &plan.sources[key]))
        })
    }

    /// Parts stacked along the first axis.
    fn stacked(&self, tensor: &NamedTensor, sources: &[String]) -> TensorData {
        let mut values = Vec::new();
        for source in sources {
            values.extend(
                self.data(&format!("w.{source}"))
                    .try_to_vec::<f32>()
                    .unwrap(),
            );
        }
        TensorData::new(values, tensor.shape.clone())
    }
}

/// The largest difference, relative to the largest expected value.
pub(crate) fn error<const D: usize>(found: &Tensor<D>, expected: &Tensor<D>) -> f32 {
    assert_eq!(found.dims(), expected.dims());
    let largest = expected.clone().abs().max().into_scalar::<f32>();
    let off = (found.clone() - expected.clone()).abs().max();
    assert!(largest > 0.0);
    off.into_scalar::<f32>() / largest
}

/// What sums in other orders cost in f32 is a few units of the seventh digit a layer; a wrong formula
/// is off by far more.
pub(crate) const TOLERANCE: f32 = 1e-4;

#[track_caller]
pub(crate) fn assert_near<const D: usize>(what: &str, found: &Tensor<D>, expected: &Tensor<D>) {
    let error = error(found, expected);
    assert!(error < TOLERANCE, "{what} is off by {error:e}");
}
