//! Where the tiles of a batch of maps lie, and the buffers that tasks share.

use crate::cpu::gemm::{LANES, VECTORS};
use crate::cpu::winograd::Transform;

/// Sizes of a batch of maps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maps {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
}

/// A buffer that tasks write side by side, each its own places.
pub(super) struct Shared<T>(pub(super) *mut T);

// SAFETY: whoever writes through it promises that no place is touched by two tasks.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// # Safety
    ///
    /// `place` lies inside the buffer.
    pub(super) unsafe fn at(&self, place: usize) -> *mut T {
        // SAFETY: as promised by the caller.
        unsafe { self.0.add(place) }
    }
}

/// Where the tiles of a batch lie. Tiles are numbered row by row, image after image.
#[derive(Debug)]
pub(super) struct Tiling {
    pub(super) maps: Maps,
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// Some vectors of tiles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) first: usize,
    pub(super) count: usize,
}

impl Part {
    /// First vector and number of vectors of each group that a kernel takes at once.
    pub(super) fn groups(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.count)
            .step_by(VECTORS)
            .map(move |group| (group, VECTORS.min(self.count - group)))
    }
}

impl Tiling {
    pub(super) fn new<T: Transform>(maps: Maps) -> Self {
        Self {
            maps,
            columns: maps.width.div_ceil(T::OUT),
            rows: maps.height.div_ceil(T::OUT),
        }
    }

    pub(super) fn tiles(&self) -> usize {
        self.maps.batch * self.rows * self.columns
    }

    pub(super) fn vectors(&self) -> usize {
        self.tiles().div_ceil(LANES)
    }

    /// Row of tiles (over the whole batch) and column of each lane; lanes past the last tile repeat it.
    pub(super) fn lanes(&self, vector: usize) -> [(usize, usize); LANES] {
        std::array::from_fn(|lane| {
            let tile = (vector * LANES + lane).min(self.tiles() - 1);
            (tile / self.columns, tile % self.columns)
        })
    }

    /// Whether the sixteen tiles of every vector lie side by side.
    pub(super) fn side_by_side(&self) -> bool {
        self.columns.is_multiple_of(LANES)
    }
}
