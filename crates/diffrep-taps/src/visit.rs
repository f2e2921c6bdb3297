//! What every traversal of a network does at a block: count it, add feedback, keep what is wanted.

use std::cell::Cell;

use burn::tensor::Tensor;
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};

use crate::{Feedback, TapInfo, TapSet, Taps};

thread_local! {
    /// Blocks evaluated on this thread, so that early exit can be held to its word.
    static BLOCKS_EVALUATED: Cell<usize> = const { Cell::new(0) };
}

/// How many blocks all traversals by a [`Visit`] on this thread have evaluated so far.
pub fn blocks_evaluated() -> usize {
    BLOCKS_EVALUATED.with(Cell::get)
}

/// What a traversal is to bring back, and what it has found so far.
#[derive(Debug)]
pub struct Visit<'a> {
    wanted: Option<&'a TapSet>,
    feedback: Option<&'a Feedback>,
    to_the_end: bool,
    /// The outputs of the wanted blocks so far.
    pub taps: Taps,
}

impl<'a> Visit<'a> {
    /// As far as the last wanted block.
    pub fn taps(wanted: &'a TapSet, feedback: Option<&'a Feedback>) -> Self {
        Self {
            wanted: Some(wanted),
            feedback,
            to_the_end: false,
            taps: Taps::new(),
        }
    }

    /// Through all blocks.
    pub fn whole(wanted: Option<&'a TapSet>) -> Self {
        Self {
            wanted,
            feedback: None,
            to_the_end: true,
            taps: Taps::new(),
        }
    }

    /// How many of a network's blocks are to be evaluated.
    pub fn blocks(&self, all: usize) -> usize {
        match (self.to_the_end, self.wanted) {
            (false, Some(wanted)) => wanted.last().get(),
            _ => all,
        }
    }

    /// To be called before a block is evaluated.
    pub fn enter(info: &TapInfo) -> tracing::span::EnteredSpan {
        BLOCKS_EVALUATED.with(|count| count.set(count.get() + 1));
        tracing::trace_span!("network.block", block = info.block.get()).entered()
    }

    /// Feedback for a block, in the size of its output.
    pub fn addend(&self, info: &TapInfo) -> Option<Tensor<4>> {
        let addend = self.feedback?.addends.get(&info.block)?;
        Some(resize(addend.clone(), [info.height, info.width]))
    }

    /// Keeps what `map` makes, if the block is wanted.
    pub fn keep(&mut self, info: &TapInfo, map: impl FnOnce() -> Tensor<4>) {
        if self
            .wanted
            .is_some_and(|wanted| wanted.contains(info.block))
        {
            self.taps.insert(info.block, map());
        }
    }

    /// Adds feedback to a block's output and keeps the sum, if it is wanted.
    pub fn leave(&mut self, info: &TapInfo, map: Tensor<4>) -> Tensor<4> {
        let map = match self.addend(info) {
            Some(addend) => map + addend,
            None => map,
        };
        self.keep(info, || map.clone());
        map
    }
}

/// Bilinear, corners not aligned; the identity where the size is right already.
///
/// # Shapes
///
/// - `map`: `[batch, channels, height, width]`; result: `[batch, channels, size[0], size[1]]`
pub fn resize(map: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    let [_, _, height, width] = map.dims();
    if [height, width] == size {
        return map;
    }
    let options = InterpolateOptions::new(InterpolateMode::Bilinear).with_align_corners(false);
    interpolate(map, options.with_output_size(size))
}

/// Holds a batch of images to what a network takes.
///
/// # Panics
///
/// When the image is not of the network's input shape.
pub fn require_image(image: &Tensor<4>, channels: usize, size: usize) {
    let [_, found, height, width] = image.dims();
    assert_eq!(
        [found, height, width],
        [channels, size, size],
        "this network takes images of {channels} x {size} x {size}"
    );
}
