#![doc = include_str!("../README.md")]

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

/// A parameter or running statistic by its key in a state dict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTensor {
    /// The key.
    pub key: String,
    /// The shape, which is that of the checkpoint where the module keeps PyTorch's layout.
    pub shape: Vec<usize>,
}

/// Every parameter and running statistic of a module, in module order; `key` makes the key of a module path.
/// No parameter is made for it that is not made yet.
pub fn named_tensors<M: Module>(module: &M, key: impl Fn(&[String]) -> String) -> Vec<NamedTensor> {
    let mut found = Vec::new();
    module.visit(&mut Each {
        path: Vec::new(),
        each: Listing(|path: &[String], shape| {
            let key = key(path);
            found.push(NamedTensor { key, shape });
        }),
    });
    found
}

/// Every parameter and running statistic of a module with its values, in module order; `key` makes the key of
/// a module path.
pub fn state_dict<M: Module>(
    module: &M,
    key: impl Fn(&[String]) -> String,
) -> Vec<(String, TensorData)> {
    let mut found = Vec::new();
    module.visit(&mut Each {
        path: Vec::new(),
        each: Reading(|path: &[String], data| found.push((key(path), data))),
    });
    found
}

/// The module with the parameters and running statistics for which `values` has data replaced, one at a time;
/// `key` makes the key of a module path. Whether a parameter takes gradients stays as it is.
///
/// Clones of a module share their running statistics: those of a clone are replaced too.
///
/// # Panics
///
/// When data has another shape than its parameter.
pub fn with_state_dict<M: Module>(
    module: M,
    key: impl Fn(&[String]) -> String,
    values: impl FnMut(&str) -> Option<TensorData>,
) -> M {
    module.map(&mut Replace {
        path: Vec::new(),
        key,
        values,
    })
}

/// What is done with each parameter.
trait Visitor {
    fn visit<const D: usize>(&mut self, path: &[String], param: &Param<Tensor<D>>);
}

struct Listing<F>(F);

impl<F: FnMut(&[String], Vec<usize>)> Visitor for Listing<F> {
    fn visit<const D: usize>(&mut self, path: &[String], param: &Param<Tensor<D>>) {
        (self.0)(path, param.lazy_shape().to_vec());
    }
}

struct Reading<F>(F);

impl<F: FnMut(&[String], TensorData)> Visitor for Reading<F> {
    fn visit<const D: usize>(&mut self, path: &[String], param: &Param<Tensor<D>>) {
        (self.0)(path, param.val().into_data());
    }
}

/// A traversal with the path that it stands at.
struct Each<V> {
    path: Vec<String>,
    each: V,
}

impl<V: Visitor> ModuleVisitor for Each<V> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.each.visit(&self.path, param);
    }
}

struct Replace<K, F> {
    path: Vec<String>,
    key: K,
    values: F,
}

impl<K, F> ModuleMapper for Replace<K, F>
where
    K: Fn(&[String]) -> String,
    F: FnMut(&str) -> Option<TensorData>,
{
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match (self.values)(&(self.key)(&self.path)) {
            None => param,
            Some(data) => {
                let shape = param.lazy_shape();
                assert_eq!(*data.shape(), shape, "values of the wrong shape");
                let values = Tensor::from_data(data, &param.lazy_device());
                let id = param.id;
                param.transform_for_load(values, id)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::module::ParamId;
    use burn::nn::{BatchNorm, BatchNormConfig, LinearConfig};
    use burn::tensor::Device;

    use super::*;

    fn joined(path: &[String]) -> String {
        path.join(".")
    }

    #[test]
    fn what_takes_gradients_goes_on_doing_so_and_what_does_not_does_not() {
        let device = Device::flex().autodiff();
        let layer = LinearConfig::new(2, 2).init(&device);
        let ones = |key: &str| (key == "bias").then(|| TensorData::from([1.0f32, 1.0]));
        let replaced = with_state_dict(layer.clone(), joined, ones);
        let bias = replaced.bias.as_ref().unwrap();
        assert!(bias.is_require_grad() && replaced.weight.is_require_grad());
        assert_eq!(bias.id, layer.bias.as_ref().unwrap().id);

        let frozen = with_state_dict(layer.no_grad(), joined, ones);
        assert!(!frozen.bias.as_ref().unwrap().is_require_grad());
        let thawed = frozen.valid().train();
        assert!(!thawed.bias.unwrap().is_require_grad());
    }

    #[test]
    fn a_network_that_is_loaded_off_the_graph_trains_on_it() {
        let layer = LinearConfig::new(2, 2).init(&Device::flex());
        let loaded = with_state_dict(layer, joined, |_| None);
        let loaded = with_state_dict(loaded, joined, |key| {
            (key == "bias").then(|| TensorData::from([1.0f32, 1.0]))
        });
        let trained = loaded.train();
        assert!(trained.bias.unwrap().is_require_grad());
    }

    #[test]
    fn running_statistics_are_listed_and_replaced() {
        let norm: BatchNorm = BatchNormConfig::new(2).init(&Device::flex());
        let shapes = named_tensors(&norm, joined);
        let mean = shapes.iter().find(|t| t.key == "running_mean").unwrap();
        assert_eq!(mean.shape, [2]);
        let norm = with_state_dict(norm, joined, |key| {
            (key == "running_mean").then(|| TensorData::from([3.0f32, 4.0]))
        });
        let found = norm.running_mean.value().into_data();
        assert_eq!(found.as_slice::<f32>().unwrap(), [3.0, 4.0]);
    }

    #[test]
    fn what_is_not_made_yet_is_neither_made_by_listing_nor_by_loading() {
        let never = |_: &Device, _: bool| -> Tensor<1> { panic!("made") };
        let param =
            |make| Param::uninitialized(ParamId::new(), make, Device::flex(), true, [2].into());
        let mut layer = LinearConfig::new(2, 2).init(&Device::flex());
        layer.bias = Some(param(never));
        assert_eq!(named_tensors(&layer, joined)[1].shape, [2]);
        let loaded = with_state_dict(layer, joined, |key| {
            (key == "bias").then(|| TensorData::from([1.0f32, 2.0]))
        });
        let bias = loaded.bias.unwrap().val().into_data();
        assert_eq!(bias.as_slice::<f32>().unwrap(), [1.0, 2.0]);
    }

    #[test]
    #[should_panic(expected = "values of the wrong shape")]
    fn another_shape_is_a_mistake_of_the_caller() {
        let layer = LinearConfig::new(2, 2).init(&Device::flex());
        with_state_dict(layer, joined, |_| Some(TensorData::from([1.0f32])));
    }
}
