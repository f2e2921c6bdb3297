//! Which rows an image has.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

/// The tag of a row's draw in a store.
pub const DRAW: &str = "draw";
/// The tag in a store that says whether a row's image was mirrored: 0 or 1.
pub const FLIP: &str = "flip";

/// Rows of every image: one for each draw of noise and, with flips, each once more of the mirrored image. A
/// head that is trained on all of them sees what the paper's training shows it, several noises and both
/// sides, without another forward of the network.
///
/// Rows of an image follow each other: by draw, the mirrored one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Views {
    /// How many noises an image gets, from [`Noising::draw`](crate::Noising::draw) on.
    pub draws: NonZeroU32,
    /// Whether each also has a row of the mirrored image.
    pub flips: bool,
}

impl Default for Views {
    /// One row an image.
    fn default() -> Self {
        Self {
            draws: NonZeroU32::MIN,
            flips: false,
        }
    }
}

impl Views {
    /// Rows of one image.
    pub fn count(self) -> usize {
        self.draws.get() as usize * self.of_a_draw()
    }

    fn of_a_draw(self) -> usize {
        1 + usize::from(self.flips)
    }

    /// What a row is of.
    pub(crate) fn row(self, row: usize) -> Row {
        let (image, view) = (row / self.count(), row % self.count());
        Row {
            image,
            draw: (view / self.of_a_draw()) as u32,
            flip: !view.is_multiple_of(self.of_a_draw()),
        }
    }
}

/// What a row is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Position of the image in the data set.
    pub(crate) image: usize,
    /// Which of the image's draws, from 0.
    pub(crate) draw: u32,
    /// Whether it is the mirrored one of two.
    pub(crate) flip: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_has_every_draw_both_ways() {
        let rows = |draws: u32, flips: bool| {
            let draws = NonZeroU32::new(draws).unwrap();
            let views = Views { draws, flips };
            let rows = (0..2 * views.count()).map(|row| views.row(row));
            rows.map(|row| (row.image, row.draw, row.flip))
                .collect::<Vec<_>>()
        };
        assert_eq!(rows(1, false), [(0, 0, false), (1, 0, false)]);
        assert_eq!(
            rows(1, true),
            [(0, 0, false), (0, 0, true), (1, 0, false), (1, 0, true)]
        );
        assert_eq!(rows(3, false)[2..4], [(0, 2, false), (1, 0, false)]);
        assert_eq!(
            rows(2, true)[..5],
            [
                (0, 0, false),
                (0, 0, true),
                (0, 1, false),
                (0, 1, true),
                (1, 0, false)
            ]
        );
    }
}
