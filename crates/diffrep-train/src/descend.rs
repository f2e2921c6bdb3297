use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::params::{Path, replaced};

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

/// The module with every parameter that has a gradient replaced by what `step` makes of its path,
/// its value and its gradient, each `[elements]` and off the autodiff graph.
pub(crate) fn descend<M: Module>(
    module: M,
    gradients: GradientsParams,
    step: &mut dyn FnMut(&str, Tensor<1>, Tensor<1>) -> Tensor<1>,
) -> M {
    struct Descend<'a> {
        path: Path,
        gradients: GradientsParams,
        step: &'a mut dyn FnMut(&str, Tensor<1>, Tensor<1>) -> Tensor<1>,
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
            param.map(|old| {
                let value = old.clone().without_autodiff().reshape([count]);
                replaced(&old, (self.step)(&path, value, gradient))
            })
        }
    }
    module.map(&mut Descend {
        path: Path::default(),
        gradients,
        step,
    })
}
