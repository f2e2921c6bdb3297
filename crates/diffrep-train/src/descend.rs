use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::params::{Path, replaced};

/// A parameter that is about to take a step.
#[derive(Clone, Copy, Debug)]
pub struct Parameter<'a> {
    /// Its path in the module, such as `head.proj.weight`.
    pub path: &'a str,
    /// How many axes it has: one for a bias or the scale of a normalisation.
    pub axes: usize,
}

/// How a parameter takes a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Its learning rate.
    pub learning_rate: f64,
    /// Whether the optimizer's weight decay applies to it.
    pub decays: bool,
}

/// Root of the sum of squares of all gradients.
pub(crate) fn global_norm<M: Module>(module: &M, gradients: &GradientsParams) -> f64 {
    struct Squares<'a>(&'a GradientsParams, Vec<Tensor<1>>);
    impl ModuleVisitor for Squares<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.get::<D>(param.id) {
                self.1.push(gradient.square().sum());
            }
        }
    }
    let mut squares = Squares(gradients, Vec::new());
    module.visit(&mut squares);
    if squares.1.is_empty() {
        return 0.0;
    }
    f64::from(Tensor::cat(squares.1, 0).sum().into_scalar::<f32>()).sqrt()
}

/// What a step makes of a parameter, its value and its gradient.
type Step<'a> = &'a mut dyn FnMut(Parameter<'_>, Tensor<1>, Tensor<1>) -> Tensor<1>;

/// The module with every parameter that has a gradient replaced by what `step` makes of it, its
/// value and its gradient, each `[elements]` and off the autodiff graph.
pub(crate) fn descend<M: Module>(module: M, gradients: GradientsParams, step: Step<'_>) -> M {
    struct Descend<'a> {
        path: Path,
        gradients: GradientsParams,
        step: Step<'a>,
    }
    impl ModuleMapper for Descend<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.enter(name);
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }

        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let Some(gradient) = self.gradients.remove::<D>(param.id) else {
                return param;
            };
            let count = gradient.dims().iter().product::<usize>();
            let gradient = gradient.reshape([count]);
            let path = self.path.join();
            let parameter = Parameter {
                path: &path,
                axes: D,
            };
            param.map(|old| {
                let value = old.clone().without_autodiff().reshape([count]);
                replaced(&old, (self.step)(parameter, value, gradient))
            })
        }
    }
    module.map(&mut Descend {
        path: Path::default(),
        gradients,
        step,
    })
}
