//! Stride-1 "same" convolution with weights that were laid out once: for a frozen network, whose
//! weights are used for every image and never change.
//!
//! Tiles of the map are taken sixteen at a time, one in each lane, and a few hundred at once so that
//! what is computed of them stays in the cache: inputs to components (for each input channel),
//! products with the weights (for each component), components to outputs (for each output channel).
//! A lane never sees its neighbours, and sums run over input channels in their order, so an image's
//! bits depend neither on its batch nor on the number of threads.

use std::cell::Cell;
use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::gemm::{BLOCK, Kernel, LANES, Lanes, VECTORS, kernels};
use super::wide::{Wide, WideJob, dispatch};
use super::winograd::{Four, MAX_IN, Pointwise, Transform, Two, transform_weights};
use super::written;

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

/// Sizes of a batch of maps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maps {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
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

/// A buffer that tasks write side by side, each its own places.
struct Shared<T>(*mut T);

// SAFETY: whoever writes through it promises that no place is touched by two tasks.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// # Safety
    ///
    /// `place` lies inside the buffer.
    unsafe fn at(&self, place: usize) -> *mut T {
        // SAFETY: as promised by the caller.
        unsafe { self.0.add(place) }
    }
}

thread_local! {
    /// Components, taken while in use: fresh memory would cost a page fault every 4096 bytes.
    static SCRATCH: Cell<Vec<Lanes>> = const { Cell::new(Vec::new()) };
    /// Rows of a map that a vector of tiles reads.
    static ROWS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
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

/// Where the tiles of a batch lie. Tiles are numbered row by row, image after image.
#[derive(Debug)]
struct Tiling {
    maps: Maps,
    columns: usize,
    rows: usize,
}

/// Some vectors of tiles.
#[derive(Clone, Copy, Debug)]
struct Part {
    first: usize,
    count: usize,
}

impl Part {
    /// First vector and number of vectors of each group that a kernel takes at once.
    fn groups(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.count)
            .step_by(VECTORS)
            .map(move |group| (group, VECTORS.min(self.count - group)))
    }
}

impl Tiling {
    fn new<T: Transform>(maps: Maps) -> Self {
        Self {
            maps,
            columns: maps.width.div_ceil(T::OUT),
            rows: maps.height.div_ceil(T::OUT),
        }
    }

    fn tiles(&self) -> usize {
        self.maps.batch * self.rows * self.columns
    }

    fn vectors(&self) -> usize {
        self.tiles().div_ceil(LANES)
    }

    /// Row of tiles (over the whole batch) and column of each lane; lanes past the last tile repeat it.
    fn lanes(&self, vector: usize) -> [(usize, usize); LANES] {
        std::array::from_fn(|lane| {
            let tile = (vector * LANES + lane).min(self.tiles() - 1);
            (tile / self.columns, tile % self.columns)
        })
    }

    /// Whether the sixteen tiles of every vector lie side by side.
    fn side_by_side(&self) -> bool {
        self.columns.is_multiple_of(LANES)
    }
}

/// Components of one input channel: `[group][component][input channel][vector]`.
struct Inputs<'a, T> {
    tiling: &'a Tiling,
    part: Part,
    x: &'a [f32],
    channel: usize,
    channels: usize,
    out: &'a Shared<Lanes>,
    transform: std::marker::PhantomData<T>,
}

impl<T: Transform> WideJob for Inputs<'_, T> {
    #[inline(always)]
    unsafe fn run<W: Wide>(self) {
        let tiling = self.tiling;
        // What sixteen tiles side by side are read from goes past the last of them.
        let stride = (tiling.columns - 1) * T::OUT + T::IN + 5 * LANES;
        let mut rows = ROWS.take();
        // What the rows hold: the first and the last row of tiles.
        let mut held = None;
        for (group, vectors) in self.part.groups() {
            for v in 0..vectors {
                let lanes = tiling.lanes(self.part.first + group + v);
                let range = (lanes[0].0, lanes[LANES - 1].0);
                if held != Some(range) {
                    let needed = (range.1 - range.0 + 1) * T::IN * stride;
                    if rows.len() < needed {
                        rows.resize(needed, 0.0);
                    }
                    for row in range.0..=range.1 {
                        let rows = &mut rows[(row - range.0) * T::IN * stride..];
                        self.read_rows(row, stride, rows);
                    }
                    held = Some(range);
                }
                let place = group * T::IN * T::IN * self.channels + self.channel * vectors + v;
                // SAFETY: the caller promises the instructions. Rows are long enough for the tiles;
                // the place is below components * channels * vectors of the part, and belongs to
                // this channel.
                unsafe {
                    let beginning = &rows[lanes[0].1 * T::OUT..];
                    let tile = match T::OUT {
                        1 if tiling.side_by_side() => {
                            [[W::load(beginning[..LANES].as_ptr()); MAX_IN]; MAX_IN]
                        }
                        4 if tiling.side_by_side() => side_by_side::<T, W>(beginning, stride),
                        _ => scattered::<T, W>(&rows, stride, &lanes),
                    };
                    for (row, values) in tile.into_iter().enumerate().take(T::IN) {
                        let components = T::input(values);
                        for (column, component) in components.into_iter().enumerate().take(T::IN) {
                            let of_all = (row * T::IN + column) * self.channels * vectors;
                            component.store(self.out.at(place + of_all).cast());
                        }
                    }
                }
            }
        }
        ROWS.set(rows);
    }
}

impl<T: Transform> Inputs<'_, T> {
    /// The IN rows that a row of tiles reads, with zeros around the map: `[IN][stride]`.
    #[inline(always)]
    fn read_rows(&self, row_of_tiles: usize, stride: usize, out: &mut [f32]) {
        let Maps { height, width, .. } = self.tiling.maps;
        let pad = T::KERNEL / 2;
        let (image, row) = (
            row_of_tiles / self.tiling.rows,
            row_of_tiles % self.tiling.rows,
        );
        let plane = &self.x[(image * self.channels + self.channel) * height * width..];
        for (i, out) in out.chunks_exact_mut(stride).take(T::IN).enumerate() {
            let y = (row * T::OUT + i).wrapping_sub(pad);
            if y < height {
                out[..pad].fill(0.0);
                out[pad..pad + width].copy_from_slice(&plane[y * width..][..width]);
                out[pad + width..].fill(0.0);
            } else {
                out.fill(0.0);
            }
        }
    }
}

/// Sixteen tiles that share their rows and lie four apart, columns transformed: `[IN][IN]`.
///
/// # Safety
///
/// The processor has the instructions of `W`; each of IN rows has 80 values.
#[inline(always)]
unsafe fn side_by_side<T: Transform, W: Wide>(
    rows: &[f32],
    stride: usize,
) -> [[W; MAX_IN]; MAX_IN] {
    // SAFETY: as promised by the caller.
    unsafe {
        // Pixels side by side need no shuffling, and are fewer than those of tiles that overlap.
        let mut wide = [[W::splat(0.0); 5]; MAX_IN];
        for part in 0..5 {
            let column = std::array::from_fn(|row| {
                W::load(rows[row.min(T::IN - 1) * stride + part * LANES..][..LANES].as_ptr())
            });
            for (wide, value) in wide.iter_mut().zip(T::input(column)) {
                wide[part] = value;
            }
        }
        let mut tile = [[W::splat(0.0); MAX_IN]; MAX_IN];
        for (tile, wide) in tile.iter_mut().zip(wide) {
            *tile = W::split_four(wide);
        }
        tile
    }
}

/// Sixteen tiles anywhere in the rows, columns transformed: `[IN][IN]`.
///
/// # Safety
///
/// The processor has the instructions of `W`.
#[inline(always)]
unsafe fn scattered<T: Transform, W: Wide>(
    rows: &[f32],
    stride: usize,
    lanes: &[(usize, usize); LANES],
) -> [[W; MAX_IN]; MAX_IN] {
    let mut values = [[Lanes::default(); MAX_IN]; MAX_IN];
    for (lane, place) in lanes.iter().enumerate() {
        let first = (place.0 - lanes[0].0) * T::IN * stride + place.1 * T::OUT;
        for (row, out) in values.iter_mut().enumerate().take(T::IN) {
            let values = &rows[first + row * stride..][..T::IN];
            for (out, &value) in out.iter_mut().zip(values) {
                out.0[lane] = value;
            }
        }
    }
    // SAFETY: as promised by the caller.
    unsafe {
        let mut tile = [[W::splat(0.0); MAX_IN]; MAX_IN];
        for column in 0..T::IN {
            let given = std::array::from_fn(|row| W::load(values[row][column].0.as_ptr()));
            for (tile, value) in tile.iter_mut().zip(T::input(given)) {
                tile[column] = value;
            }
        }
        tile
    }
}

/// Outputs of one channel, from its products.
struct Outputs<'a, T> {
    tiling: &'a Tiling,
    part: Part,
    products: &'a [Lanes],
    channel: usize,
    channels: usize,
    bias: f32,
    addend: Option<&'a [f32]>,
    y: &'a Shared<MaybeUninit<f32>>,
    transform: std::marker::PhantomData<T>,
}

impl<T: Transform> WideJob for Outputs<'_, T> {
    #[inline(always)]
    unsafe fn run<W: Wide>(self) {
        let components = T::IN * T::IN;
        let padded = self.channels.next_multiple_of(BLOCK);
        for (group, vectors) in self.part.groups() {
            let start = group * components * padded + self.channel * components * vectors;
            let products = &self.products[start..][..components * vectors];
            for v in 0..vectors {
                // SAFETY: the caller promises the instructions.
                unsafe {
                    let mut tile = [[W::splat(0.0); MAX_IN]; MAX_IN];
                    for row in 0..T::IN {
                        let values = std::array::from_fn(|column| {
                            let component = row * T::IN + column.min(T::IN - 1);
                            W::load(products[component * vectors + v].0.as_ptr())
                        });
                        tile[row] = T::output(values);
                    }
                    let mut rows = [[W::splat(0.0); MAX_IN]; MAX_IN];
                    for column in 0..T::OUT {
                        let values = std::array::from_fn(|row| tile[row][column]);
                        for (row, value) in rows.iter_mut().zip(T::output(values)) {
                            row[column] = value;
                        }
                    }
                    self.write(self.part.first + group + v, rows);
                }
            }
        }
    }
}

impl<T: Transform> Outputs<'_, T> {
    /// # Safety
    ///
    /// The processor has the instructions of `W`.
    #[inline(always)]
    unsafe fn write<W: Wide>(&self, vector: usize, tile: [[W; MAX_IN]; MAX_IN]) {
        let Maps { height, width, .. } = self.tiling.maps;
        let lanes = self.tiling.lanes(vector);
        let place = |row_of_tiles: usize| {
            let (image, row) = (
                row_of_tiles / self.tiling.rows,
                row_of_tiles % self.tiling.rows,
            );
            let plane = (image * self.channels + self.channel) * height * width;
            (plane, row * T::OUT)
        };
        let whole = self.tiling.side_by_side() && width.is_multiple_of(T::OUT);
        if whole && (T::OUT == 1 || T::OUT == 4) {
            let (plane, top) = place(lanes[0].0);
            for (row, values) in tile.into_iter().enumerate().take(T::OUT.min(height - top)) {
                let start = plane + (top + row) * width + lanes[0].1 * T::OUT;
                // SAFETY: the caller promises the instructions; 16 * OUT pixels from `start` on lie
                // in a row of this channel's plane, and `addend` is as large as the result.
                unsafe {
                    let columns = std::array::from_fn(|column| values[column]);
                    let line = match T::OUT {
                        1 => columns,
                        _ => W::join_four(columns),
                    };
                    for (part, value) in line.into_iter().enumerate().take(T::OUT) {
                        let start = start + part * LANES;
                        let mut value = value.add(W::splat(self.bias));
                        if let Some(addend) = self.addend {
                            value = value.add(W::load(addend[start..][..LANES].as_ptr()));
                        }
                        value.store(self.y.at(start).cast());
                    }
                }
            }
            return;
        }
        let mut values = [[Lanes::default(); MAX_IN]; MAX_IN];
        for (values, tile) in values.iter_mut().zip(tile).take(T::OUT) {
            for (values, tile) in values.iter_mut().zip(tile).take(T::OUT) {
                // SAFETY: the caller promises the instructions.
                unsafe { tile.store(values.0.as_mut_ptr()) };
            }
        }
        let count = LANES.min(self.tiling.tiles() - vector * LANES);
        for (lane, &(row_of_tiles, column_of_tiles)) in lanes.iter().enumerate().take(count) {
            let (plane, top) = place(row_of_tiles);
            let left = column_of_tiles * T::OUT;
            for (row, values) in values.iter().enumerate().take(T::OUT.min(height - top)) {
                let start = plane + (top + row) * width + left;
                for (column, values) in values.iter().enumerate().take(T::OUT.min(width - left)) {
                    let place = start + column;
                    let addend = self.addend.map_or(0.0, |addend| addend[place]);
                    // SAFETY: `place` lies in a plane of this channel.
                    unsafe {
                        let value = values.0[lane] + self.bias + addend;
                        (*self.y.at(place)).write(value);
                    }
                }
            }
        }
    }
}
