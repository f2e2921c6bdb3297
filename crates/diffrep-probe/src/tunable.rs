//! What a training asks of an encoder beside its maps.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleDisplay};
use burn::optim::GradientsParams;
use burn::tensor::{Gradients, Tensor, TensorData};
use diffrep_latent::Latent;
use diffrep_taps::{BlockIndex, Condition, Encoder, TapSet};
use diffrep_unet::UNet;

/// An encoder that a training may hold: frozen, told a text that is learned, or moved itself.
pub trait TunableEncoder: Encoder + Module + ModuleDisplay + Sync {
    /// Whether [`gradients_block_by_block`](Self::gradients_block_by_block) is there.
    const RECOMPUTES: bool = false;

    /// The network without anything past `last`.
    #[must_use]
    fn up_to(self, last: BlockIndex) -> Self;

    /// How many parameters the blocks up to and including `last` need.
    fn parameters_up_to(&self, last: BlockIndex) -> usize;

    /// The text that it is told about every image, `[1, tokens, width]`, off the autodiff graph; none
    /// for a network that reads no text.
    fn context(&self) -> Option<Tensor<3>> {
        None
    }

    /// Its parameters by the names of the published state dict.
    fn state(&self) -> BTreeMap<String, TensorData>;

    /// The network with every parameter replaced; none when `state` has others.
    fn with_state(self, state: BTreeMap<String, TensorData>) -> Option<Self>;

    /// See [`UNet::gradients_block_by_block`].
    ///
    /// # Panics
    ///
    /// When the network does not [recompute](Self::RECOMPUTES), or as there.
    fn gradients_block_by_block<R>(
        &self,
        image: Tensor<4>,
        condition: &Condition,
        wanted: &TapSet,
        value: impl FnOnce(Vec<Tensor<4>>) -> (Gradients, R),
    ) -> (GradientsParams, R) {
        let _ = (image, condition, wanted, value);
        panic!("this network does not compute its blocks again")
    }
}

/// Whether a state holds just the parameters that are expected, by name and shape.
fn fits<'a>(
    expected: impl Iterator<Item = (&'a str, &'a [usize])>,
    state: &BTreeMap<String, TensorData>,
) -> bool {
    let expected: Vec<_> = expected.collect();
    let found = |(name, shape): &(&str, &[usize])| {
        let data = state.get(*name);
        data.is_some_and(|data| data.shape().to_vec() == *shape)
    };
    expected.len() == state.len() && expected.iter().all(found)
}

impl TunableEncoder for UNet {
    const RECOMPUTES: bool = true;

    fn up_to(self, last: BlockIndex) -> Self {
        UNet::up_to(self, last)
    }

    fn parameters_up_to(&self, last: BlockIndex) -> usize {
        UNet::parameters_up_to(self, last)
    }

    fn state(&self) -> BTreeMap<String, TensorData> {
        diffrep_unet::state_dict(self).into_iter().collect()
    }

    fn with_state(self, mut state: BTreeMap<String, TensorData>) -> Option<Self> {
        let expected = diffrep_unet::named_tensors(&self);
        let names = expected.iter().map(|one| (&*one.key, &*one.shape));
        fits(names, &state).then(|| diffrep_unet::with_state_dict(self, |name| state.remove(name)))
    }

    fn gradients_block_by_block<R>(
        &self,
        image: Tensor<4>,
        condition: &Condition,
        wanted: &TapSet,
        value: impl FnOnce(Vec<Tensor<4>>) -> (Gradients, R),
    ) -> (GradientsParams, R) {
        UNet::gradients_block_by_block(self, image, condition, wanted, value)
    }
}

impl TunableEncoder for Latent<diffrep_latent::UNet> {
    fn up_to(self, last: BlockIndex) -> Self {
        self.map(|network| network.up_to(last))
    }

    fn parameters_up_to(&self, last: BlockIndex) -> usize {
        self.network.parameters_up_to(last)
    }

    fn context(&self) -> Option<Tensor<3>> {
        self.condition.context.clone()
    }

    fn state(&self) -> BTreeMap<String, TensorData> {
        diffrep_latent::state_dict(&self.network)
            .into_iter()
            .collect()
    }

    fn with_state(self, mut state: BTreeMap<String, TensorData>) -> Option<Self> {
        let expected = diffrep_latent::named_tensors(&self.network);
        let names = expected.iter().map(|one| (&*one.key, &*one.shape));
        fits(names, &state).then(|| {
            self.map(|network| diffrep_latent::with_state_dict(network, |name| state.remove(name)))
        })
    }
}
