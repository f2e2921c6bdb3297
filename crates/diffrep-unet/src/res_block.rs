use burn::module::Module;
use burn::tensor::{Tensor, activation::silu};
use diffrep_ops::{Activation, double, halve};

use crate::config::{Details, Direction};
use crate::layers::{Conv2d, GroupNorm, Init, Linear, zeroed};

/// `ResBlock` of the reference: two convolutions around the timestep's scale and shift, a skip
/// connection, and an optional change of resolution before the first convolution.
#[derive(Module, Debug)]
pub struct ResBlock {
    /// `in_layers.0`
    pub in_norm: GroupNorm,
    /// `in_layers.2`
    pub in_conv: Conv2d,
    /// `emb_layers.1`
    pub emb: Linear,
    /// `out_layers.0`
    pub out_norm: GroupNorm,
    /// `out_layers.3`
    pub out_conv: Conv2d,
    /// `skip_connection`, where the number of channels changes
    pub skip_connection: Option<Conv2d>,
    #[module(skip)]
    pub(crate) resample: Option<Direction>,
    #[module(skip)]
    pub(crate) scale_shift: bool,
}

impl ResBlock {
    pub(crate) fn new(
        [inputs, outputs]: [usize; 2],
        embedding: usize,
        scale_shift: bool,
        resample: Option<Direction>,
        details: Details,
        init: Init<'_>,
    ) -> Self {
        let modulation = if scale_shift { 2 * outputs } else { outputs };
        Self {
            in_norm: GroupNorm::new(inputs, details, init),
            in_conv: Conv2d::new([inputs, outputs], 3, init),
            emb: Linear::new(embedding, modulation, init),
            out_norm: GroupNorm::new(outputs, details, init),
            out_conv: zeroed(Conv2d::new([outputs, outputs], 3, init)),
            skip_connection: (inputs != outputs).then(|| Conv2d::new([inputs, outputs], 1, init)),
            resample,
            scale_shift,
        }
    }

    /// `x`: `[batch, in, height, width]`; `embedding`: `[batch, embedding]`, already through SiLU.
    pub(crate) fn forward(&self, x: Tensor<4>, embedding: Tensor<2>) -> Tensor<4> {
        let hidden = self.in_norm.forward(x.clone(), Activation::Silu);
        let (hidden, x) = match self.resample {
            None => (hidden, x),
            Some(direction) => (change(hidden, direction), change(x, direction)),
        };
        let hidden = self.in_conv.forward(hidden);
        let modulation = self.emb.forward(embedding);
        let hidden = if self.scale_shift {
            let [scale, shift]: [Tensor<2>; 2] = modulation
                .chunk(2, 1)
                .try_into()
                .expect("an even number of channels");
            self.out_norm
                .forward_modulated(hidden, scale, shift, Activation::Silu)
        } else {
            let [batch, channels] = modulation.dims();
            let modulation = modulation.cast(hidden.dtype());
            let shifted = hidden + modulation.reshape([batch, channels, 1, 1]);
            self.out_norm.forward(shifted, Activation::Silu)
        };
        let skip = match &self.skip_connection {
            Some(conv) => conv.forward(x),
            None => x,
        };
        self.out_conv.forward_plus(hidden, skip)
    }

    /// Packs all convolutions, of maps that come in with the given side.
    pub(crate) fn pack(&mut self, side: usize) {
        let side = changed(side, self.resample);
        self.in_conv.pack(side);
        self.out_conv.pack(side);
        if let Some(skip) = &mut self.skip_connection {
            skip.pack(side);
        }
    }
}

/// 2x2 average pooling, or nearest neighbour to twice the size.
pub(crate) fn change(x: Tensor<4>, direction: Direction) -> Tensor<4> {
    match direction {
        Direction::Down => halve(x),
        Direction::Up => double(x),
    }
}

/// The side of a map after a change of resolution, if there is one.
pub(crate) fn changed(side: usize, direction: Option<Direction>) -> usize {
    match direction {
        None => side,
        Some(Direction::Down) => side / 2,
        Some(Direction::Up) => side * 2,
    }
}

/// The timestep embedding's activation, shared by all blocks.
pub(crate) fn activate(embedding: Tensor<2>) -> Tensor<2> {
    silu(embedding)
}

/// `Downsample` or `Upsample` of the reference.
#[derive(Module, Debug)]
pub struct ResampleLayer {
    /// `op` going down, `conv` going up; absent where resampling has no weights
    pub conv: Option<Conv2d>,
    #[module(skip)]
    pub(crate) direction: Direction,
    #[module(skip)]
    pads_after: bool,
}

impl ResampleLayer {
    pub(crate) fn new(
        channels: usize,
        direction: Direction,
        convolve: bool,
        details: Details,
        init: Init<'_>,
    ) -> Self {
        Self {
            pads_after: details.pads_after,
            conv: convolve.then(|| Conv2d::new([channels, channels], 3, init)),
            direction,
        }
    }

    /// Packs the convolution, of maps that come in with the given side.
    pub(crate) fn pack(&mut self, side: usize) {
        // Going down it has a stride, for which there are no packed kernels.
        if let (Some(conv), Direction::Up) = (&mut self.conv, self.direction) {
            conv.pack(2 * side);
        }
    }

    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match (&self.conv, self.direction) {
            (None, direction) => change(x, direction),
            (Some(conv), Direction::Down) => conv.forward_strided(x, self.pads_after),
            (Some(conv), Direction::Up) => conv.forward(change(x, Direction::Up)),
        }
    }
}
