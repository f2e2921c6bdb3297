use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;

/// The path of the parameter that a traversal stands at.
#[derive(Default)]
pub(crate) struct Path(Vec<String>);

impl Path {
    pub(crate) fn enter(&mut self, name: &str) {
        self.0.push(name.into());
    }

    pub(crate) fn exit(&mut self) {
        self.0.pop();
    }

    pub(crate) fn join(&self) -> String {
        self.0.join(".")
    }
}

/// A module's parameters by path, flattened to `[elements]`, off the autodiff graph.
pub fn parameters<M: Module>(module: &M) -> BTreeMap<String, Tensor<1>> {
    struct Collect(Path, BTreeMap<String, Tensor<1>>);
    impl ModuleVisitor for Collect {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.enter(name);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val().without_autodiff();
            let count = value.dims().iter().product::<usize>();
            self.1.insert(self.0.join(), value.reshape([count]));
        }
    }
    let mut collect = Collect(Path::default(), BTreeMap::new());
    module.visit(&mut collect);
    collect.1
}

/// The module with the parameters that `value` knows replaced by flat tensors of the same size.
/// Whether a parameter takes gradients stays as it is.
///
/// # Panics
///
/// When a value has another number of elements than its parameter.
pub fn with_parameters<M: Module>(module: M, value: impl FnMut(&str) -> Option<Tensor<1>>) -> M {
    struct Replace<F>(Path, F);
    impl<F: FnMut(&str) -> Option<Tensor<1>>> ModuleMapper for Replace<F> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.enter(name);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            match (self.1)(&self.0.join()) {
                None => param,
                Some(value) => param.map(|old| replaced(&old, value)),
            }
        }
    }
    module.map(&mut Replace(Path::default(), value))
}

/// `value` in the shape, on the device and with the gradient tracking of `old`.
pub(crate) fn replaced<const D: usize>(old: &Tensor<D>, value: Tensor<1>) -> Tensor<D> {
    let tracked = old.is_require_grad();
    let value = value.reshape(old.dims());
    if old.is_autodiff() {
        Tensor::from_inner(value).set_require_grad(tracked)
    } else {
        value
    }
}

/// An exponential moving average of a module's parameters.
#[derive(Clone, Debug)]
pub struct Ema {
    /// Share of the old average kept at each step.
    pub decay: f64,
    /// Averages by path.
    pub values: BTreeMap<String, Tensor<1>>,
}

impl Ema {
    /// Starts at the module's parameters.
    pub fn new<M: Module>(module: &M, decay: f64) -> Self {
        Self {
            decay,
            values: parameters(module),
        }
    }

    /// Takes one step towards the module's parameters. Early on the decay is lower,
    /// (1 + step) / (10 + step), so that the first weights are soon forgotten.
    pub fn update<M: Module>(&mut self, module: &M, step: u64) {
        let decay = self.decay.min((1.0 + step as f64) / (10.0 + step as f64));
        for (path, value) in parameters(module) {
            if let Some(average) = self.values.get_mut(&path) {
                *average = average.clone() * decay + value * (1.0 - decay);
            }
        }
    }

    /// `module` with the averages as parameters.
    pub fn apply<M: Module>(&self, module: M) -> M {
        with_parameters(module, |path| self.values.get(path).cloned())
    }
}
