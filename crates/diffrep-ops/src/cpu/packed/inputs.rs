//! Tiles of a map to components.

use std::cell::Cell;

use super::tiling::{Maps, Part, Shared, Tiling};
use crate::cpu::gemm::{LANES, Lanes};
use crate::cpu::wide::{Wide, WideJob};
use crate::cpu::winograd::{MAX_IN, Transform};

thread_local! {
    /// Rows of a map that a vector of tiles reads.
    static ROWS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Components of one input channel: `[group][component][input channel][vector]`.
pub(super) struct Inputs<'a, T> {
    pub(super) tiling: &'a Tiling,
    pub(super) part: Part,
    pub(super) x: &'a [f32],
    pub(super) channel: usize,
    pub(super) channels: usize,
    pub(super) out: &'a Shared<Lanes>,
    pub(super) transform: std::marker::PhantomData<T>,
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
