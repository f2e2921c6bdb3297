//! Batch normalisation in training: one step against PyTorch, and a network that learns.

mod common;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use common::{Golden, assert_near, error};
use diffrep_backbones::{ResNet, ResNetConfig, is_statistic, named_tensors, state_dict};
use diffrep_rng::{Key, Stream};

fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    let [batch, _] = logits.dims();
    let chosen = log_softmax(logits, 1).gather(1, labels.reshape([batch, 1]));
    -chosen.mean()
}

fn config() -> ResNetConfig {
    ResNetConfig {
        image_size: 12,
        width: 4,
        depths: vec![1, 1],
        ..ResNetConfig::small(5)
    }
}

/// Gradients in the order of `named_tensors`; none for running statistics.
fn gradients(network: &ResNet, gradients: &Gradients) -> Vec<Option<Tensor<1>>> {
    struct Collect<'a>(&'a Gradients, Vec<Option<Tensor<1>>>);
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let found = param.val().grad(self.0);
            self.1.push(found.map(|grad| {
                let count = grad.dims().iter().product::<usize>();
                grad.reshape([count])
            }));
        }
    }
    let mut collect = Collect(gradients, Vec::new());
    network.visit(&mut collect);
    collect.1
}

#[test]
fn a_step_of_training_has_pytorch_s_loss_gradients_and_running_statistics() {
    let plain = Device::flex();
    let device = plain.clone().autodiff();
    let golden = Golden::open("resnet_training");
    let network = golden.fill(config().blank(&device).unwrap());
    let labels: Tensor<1> = golden.tensor("labels", &device);
    let logits = network.forward(golden.tensor("x", &device));
    let loss = cross_entropy(logits, labels.int());
    let found = loss.backward();
    assert_near(
        "loss",
        &loss.without_autodiff(),
        &golden.tensor("loss", &plain),
    );
    let tensors = named_tensors(&network);
    for (tensor, gradient) in tensors.iter().zip(gradients(&network, &found)) {
        assert_eq!(
            gradient.is_none(),
            is_statistic(&tensor.key),
            "{}",
            tensor.key
        );
        let Some(gradient) = gradient else { continue };
        let expected = golden.data(&format!("grad.{}", tensor.key));
        let values = expected.try_to_vec::<f32>().unwrap();
        let expected = Tensor::<1>::from_floats(values.as_slice(), &plain);
        let error = error(&gradient.without_autodiff(), &expected);
        // Gradients pass every layer twice.
        assert!(
            error < 5e-4,
            "gradient of {} is off by {error:e}",
            tensor.key
        );
    }
    for (key, data) in state_dict(&network) {
        if key.contains("running") {
            let found = Tensor::<1>::from_data(data, &plain);
            assert_near(
                &key,
                &found,
                &golden.tensor(&format!("after.{key}"), &plain),
            );
        }
    }
}

/// Bright upper or lower halves in noise, draw by draw.
fn halves(count: usize, draw: u32, device: &Device) -> (Tensor<4>, Tensor<1, Int>) {
    let mut noise = vec![0.0f32; count * 144];
    Key::new(1, Stream::Noise)
        .draw(draw)
        .fill_normal(&mut noise);
    let noise = TensorData::new(noise, [count, 1, 12, 12]);
    let noise = Tensor::<4>::from_data(noise, device);
    let labels: Vec<i32> = (0..count as i32).map(|i| i % 2).collect();
    let signs: Vec<f32> = labels
        .iter()
        .map(|label| 2.0 * *label as f32 - 1.0)
        .collect();
    let signs = Tensor::<1>::from_floats(signs.as_slice(), device).reshape([count, 1, 1, 1]);
    let shape = Tensor::cat(
        vec![
            Tensor::<4>::ones([1, 1, 6, 12], device),
            -Tensor::<4>::ones([1, 1, 6, 12], device),
        ],
        2,
    );
    let images = noise + shape.expand([count, 1, 12, 12]) * signs.expand([count, 1, 12, 12]);
    (images, Tensor::from_ints(labels.as_slice(), device))
}

#[test]
fn a_small_resnet_learns_and_keeps_what_it_learned_in_evaluation() {
    let plain = Device::flex();
    let device = plain.clone().autodiff();
    let config = ResNetConfig {
        classes: Some(2),
        ..config()
    };
    let mut network = config.init(3, &device).unwrap();
    let mut optimiser = SgdConfig::new().init();
    for step in 0..60 {
        let (images, labels) = halves(32, step, &device);
        let loss = cross_entropy(network.forward(images), labels);
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        network = optimiser.step(0.05, network, gradients);
    }
    let network = network.valid();
    let (images, labels) = halves(200, 1000, &plain);
    let found = network.forward(images).argmax(1).reshape([200]);
    let right = found.equal(labels).int().sum().into_scalar::<i32>();
    assert!(right >= 195, "{right} of 200");
}

#[test]
#[should_panic(expected = "more than one value per channel")]
fn a_single_value_has_no_variance() {
    let device = Device::flex().autodiff();
    let config = ResNetConfig {
        image_size: 1,
        depths: vec![1],
        ..config()
    };
    let network = config.init(1, &device).unwrap();
    network.forward(Tensor::zeros([1, 1, 1, 1], &device));
}
