//! Stride-1 "same" convolution with weights that were laid out once: for a frozen network, whose
//! weights are used for every image and never change.
//!
//! Tiles of the map are taken sixteen at a time, one in each lane, and a few hundred at once so that
//! what is computed of them stays in the cache: inputs to components (for each input channel),
//! products with the weights (for each component), components to outputs (for each output channel).
//! A lane never sees its neighbours, and sums run over input channels in their order, so an image's
//! bits depend neither on its batch nor on the number of threads.

mod inputs;
mod outputs;
mod tiling;

use std::cell::Cell;
use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::gemm::{BLOCK, Kernel, Lanes, VECTORS, kernels};
use super::wide::dispatch;
use super::winograd::{Four, MAX_IN, Pointwise, Transform, Two, transform_weights};
use super::written;
use inputs::Inputs;
use outputs::Outputs;
pub(crate) use tiling::Maps;
use tiling::{Part, Shared, Tiling};

/// Bytes of components that are worked on at once; more would leave the cache.
const AT_ONCE: usize = 16 << 20;

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// 1x1: a product of matrices.
    Pointwise,
    /// 3x3 by F(2x2, 3x3): 16/9 of the weights' size.
    Two,
    /// 3x3 by F(4x4, 3x3): 4 times the weights' size.
    Four,
}

/// Weights of a convolution as the kernels read them.
#[derive(Debug)]
pub(crate) struct Packed {
    form: Form,
    channels_in: usize,
    channels_out: usize,
    /// `[component][block of output channels][input channel][channel in block]`
    weights: Vec<f32>,
    /// `[output channel]`
    bias: Vec<f32>,
}

impl Packed {
    /// Lays out `weight` (`[channels_out, channels_in, k, k]`) with `bias` (`[channels_out]`), if
    /// this processor has the vector instructions.
    pub(crate) fn new(
        form: Form,
        channels_in: usize,
        weight: &[f32],
        bias: &[f32],
    ) -> Option<Self> {
        kernels()?;
        let lay_out = match form {
            Form::Pointwise => lay_out::<Pointwise>,
            Form::Two => lay_out::<Two>,
            Form::Four => lay_out::<Four>,
        };
        Some(Self {
            form,
            channels_in,
            channels_out: bias.len(),
            weights: lay_out(channels_in, bias.len(), weight),
            bias: bias.to_vec(),
        })
    }

    pub(crate) fn channels_in(&self) -> usize {
        self.channels_in
    }

    pub(crate) fn channels_out(&self) -> usize {
        self.channels_out
    }

    /// Bytes of the weights as they are laid out.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.weights.as_slice())
    }

    /// The convolution of `x` (`[batch, channels_in, height, width]`), plus `addend` (as the result)
    /// if there is one: `[batch, channels_out, height, width]`.
    pub(crate) fn forward(&self, maps: Maps, x: &[f32], addend: Option<&[f32]>) -> Vec<f32> {
        let plane = maps.height * maps.width;
        let size = maps.batch * self.channels_out * plane;
        assert_eq!(x.len(), maps.batch * self.channels_in * plane);
        assert!(addend.is_none_or(|addend| addend.len() == size));
        let fill = |y: &mut [MaybeUninit<f32>]| match self.form {
            // Without neighbours, a plane is one row.
            Form::Pointwise => self.run::<Pointwise>(
                Maps {
                    height: 1,
                    width: plane,
                    ..maps
                },
                x,
                addend,
                y,
            ),
            Form::Two => self.run::<Two>(maps, x, addend, y),
            Form::Four => self.run::<Four>(maps, x, addend, y),
        };
        // SAFETY: the tiles cover every pixel, and `run` writes all tiles of all output channels.
        unsafe { written(size, fill) }
    }

    fn run<T: Transform>(
        &self,
        maps: Maps,
        x: &[f32],
        addend: Option<&[f32]>,
        y: &mut [MaybeUninit<f32>],
    ) {
        let kernels = kernels().expect("`new` asked for them");
        let tiling = Tiling::new::<T>(maps);
        let components = T::IN * T::IN;
        let blocks = self.channels_out.div_ceil(BLOCK);
        let rows = self.channels_in + blocks * BLOCK;
        let groups = AT_ONCE / (components * rows * size_of::<Lanes>() * VECTORS);
        let at_once = groups.max(1) * VECTORS;
        let y = Shared(y.as_mut_ptr());
        for first in (0..tiling.vectors()).step_by(at_once) {
            let part = Part {
                first,
                count: at_once.min(tiling.vectors() - first),
            };
            let values = components * part.count;
            with_scratch(values * rows, |scratch| {
                let (inputs, products) = scratch.split_at_mut(values * self.channels_in);
                let shared = Shared(inputs.as_mut_ptr());
                (0..self.channels_in).into_par_iter().for_each(|channel| {
                    dispatch(Inputs::<T> {
                        tiling: &tiling,
                        part,
                        x,
                        channel,
                        channels: self.channels_in,
                        out: &shared,
                        transform: std::marker::PhantomData,
                    });
                });
                let shared = Shared(products.as_mut_ptr());
                self.multiply(&kernels, components, part, inputs, &shared);
                let products = &*products;
                (0..self.channels_out).into_par_iter().for_each(|channel| {
                    dispatch(Outputs::<T> {
                        tiling: &tiling,
                        part,
                        products,
                        channel,
                        channels: self.channels_out,
                        bias: self.bias[channel],
                        addend,
                        y: &y,
                        transform: std::marker::PhantomData,
                    });
                });
            });
        }
    }

    /// Products of all components of a part: `[group][output channel][component][vector]`.
    fn multiply(
        &self,
        kernels: &[Kernel; VECTORS],
        components: usize,
        part: Part,
        inputs: &[Lanes],
        products: &Shared<Lanes>,
    ) {
        let blocks = self.channels_out.div_ceil(BLOCK);
        // Enough tasks for all threads to end together, and few enough that each reads its input
        // from the near cache.
        let wanted = (8 * rayon::current_num_threads()).div_ceil(components);
        let chunk = blocks.div_ceil(wanted.min(blocks));
        let chunks = blocks.div_ceil(chunk);
        (0..components * chunks).into_par_iter().for_each(|task| {
            let (component, chunk_of_blocks) = (task / chunks, task % chunks);
            let first_block = chunk_of_blocks * chunk;
            for (group, vectors) in part.groups() {
                let input = &inputs[group * components * self.channels_in..]
                    [component * self.channels_in * vectors..][..self.channels_in * vectors];
                for block in first_block..(first_block + chunk).min(blocks) {
                    let panel = (component * blocks + block) * self.channels_in * BLOCK;
                    let weights = &self.weights[panel..][..self.channels_in * BLOCK];
                    let stride = components * vectors;
                    let place = group * components * blocks * BLOCK
                        + block * BLOCK * stride
                        + component * vectors;
                    // SAFETY: `kernels` were chosen for this processor; the panels were just cut to
                    // size; each task writes its own component of its own channels.
                    unsafe {
                        kernels[vectors - 1](
                            self.channels_in,
                            weights.as_ptr(),
                            input.as_ptr(),
                            products.at(place),
                            stride,
                        );
                    }
                }
            }
        });
    }
}

fn lay_out<T: Transform>(channels_in: usize, channels_out: usize, weight: &[f32]) -> Vec<f32> {
    let (components, taps) = (T::IN * T::IN, T::KERNEL * T::KERNEL);
    assert_eq!(weight.len(), channels_out * channels_in * taps);
    let blocks = channels_out.div_ceil(BLOCK);
    let panel = channels_in * BLOCK;
    let mut packed = vec![0.0f32; components * blocks * panel];
    let shared = Shared(packed.as_mut_ptr());
    (0..blocks).into_par_iter().for_each(|block| {
        let mut values = [0.0; MAX_IN * MAX_IN];
        for row in 0..BLOCK.min(channels_out - block * BLOCK) {
            let output = block * BLOCK + row;
            for input in 0..channels_in {
                let kernel = &weight[(output * channels_in + input) * taps..][..taps];
                transform_weights::<T>(kernel, &mut values);
                for (component, &value) in values[..components].iter().enumerate() {
                    let place = (component * blocks + block) * panel + input * BLOCK + row;
                    // SAFETY: `place` is below the size of `packed`, and belongs to this block.
                    unsafe { shared.at(place).write(value) };
                }
            }
        }
    });
    packed
}

thread_local! {
    /// Components, taken while in use: fresh memory would cost a page fault every 4096 bytes.
    static SCRATCH: Cell<Vec<Lanes>> = const { Cell::new(Vec::new()) };
}

fn with_scratch<R>(size: usize, f: impl FnOnce(&mut [Lanes]) -> R) -> R {
    let mut buffer = SCRATCH.take();
    if buffer.len() < size {
        buffer = vec![Lanes::default(); size];
    }
    let result = f(&mut buffer[..size]);
    SCRATCH.set(buffer);
    result
}
