//! Components to tiles of a map.

use std::mem::MaybeUninit;

use super::tiling::{Maps, Part, Shared, Tiling};
use crate::cpu::gemm::{BLOCK, LANES, Lanes};
use crate::cpu::wide::{Wide, WideJob};
use crate::cpu::winograd::{MAX_IN, Transform};

/// Outputs of one channel, from its products.
pub(super) struct Outputs<'a, T> {
    pub(super) tiling: &'a Tiling,
    pub(super) part: Part,
    pub(super) products: &'a [Lanes],
    pub(super) channel: usize,
    pub(super) channels: usize,
    pub(super) bias: f32,
    pub(super) addend: Option<&'a [f32]>,
    pub(super) y: &'a Shared<MaybeUninit<f32>>,
    pub(super) transform: std::marker::PhantomData<T>,
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
                    for (row, tile) in tile.iter_mut().enumerate().take(T::IN) {
                        let values = std::array::from_fn(|column| {
                            let component = row * T::IN + column.min(T::IN - 1);
                            W::load(products[component * vectors + v].0.as_ptr())
                        });
                        *tile = T::output(values);
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
