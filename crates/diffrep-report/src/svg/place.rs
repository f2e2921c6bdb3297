//! Finds room for words inside a plot.

use super::canvas::{Place, Rect};

/// What words inside a plot must stay clear of.
#[derive(Debug, Default)]
pub(crate) struct Obstacles {
    /// Places that ink covers, sampled along lines.
    ink: Vec<Place>,
    /// Words that are already placed.
    words: Vec<Rect>,
}

impl Obstacles {
    /// Adds a straight piece of ink.
    pub(crate) fn add_segment(&mut self, from: Place, to: Place) {
        const STEP: f64 = 3.0;
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let steps = (length / STEP).ceil().max(1.0) as usize;
        self.ink.extend((0..=steps).map(|step| {
            let part = step as f64 / steps as f64;
            (
                from.0 + (to.0 - from.0) * part,
                from.1 + (to.1 - from.1) * part,
            )
        }));
    }

    /// Adds words that later words must not touch.
    pub(crate) fn add_words(&mut self, words: Rect) {
        self.words.push(words);
    }

    /// Whether words there touch neither ink nor other words.
    pub(crate) fn leaves_free(&self, rect: Rect) -> bool {
        let room = rect.grown(1.5);
        !self.ink.iter().any(|place| room.contains(*place))
            && !self.words.iter().any(|words| words.touches(&room))
    }

    /// How much ink lies within three pixels of a straight line.
    pub(crate) fn near(&self, from: Place, to: Place) -> usize {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = dx.hypot(dy).max(1e-9);
        let is_near = |place: &&Place| {
            let (px, py) = (place.0 - from.0, place.1 - from.1);
            let along = (px * dx + py * dy) / length;
            let aside = (px * dy - py * dx) / length;
            (0.0..=length).contains(&along) && aside.abs() <= 3.0
        };
        self.ink.iter().filter(is_near).count()
    }

    /// The candidate that covers least, given what else speaks against each.
    ///
    /// The earlier one wins where they are equal.
    /// Leaving `inside` or touching other words is worse than covering any line.
    pub(crate) fn best(&self, candidates: &[(Rect, usize)], inside: Rect) -> Option<Rect> {
        let cost = |(candidate, penalty): &(Rect, usize)| {
            let outside = candidate.x < inside.x
                || candidate.y < inside.y
                || candidate.right() > inside.right()
                || candidate.bottom() > inside.bottom();
            let words = self
                .words
                .iter()
                .filter(|words| words.touches(&candidate.grown(2.0)))
                .count();
            let room = candidate.grown(3.0);
            let ink = self
                .ink
                .iter()
                .filter(|place| room.contains(**place))
                .count();
            usize::from(outside) * 100_000 + words * 10_000 + ink + penalty
        };
        candidates
            .iter()
            .min_by_key(|one| cost(one))
            .map(|one| one.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLOT: Rect = Rect {
        x: 0.0,
        y: 0.0,
        width: 200.0,
        height: 100.0,
    };

    fn at(x: f64, y: f64) -> Rect {
        Rect {
            x,
            y,
            width: 40.0,
            height: 12.0,
        }
    }

    #[test]
    fn words_avoid_lines_words_and_edges() {
        let mut obstacles = Obstacles::default();
        obstacles.add_segment((0.0, 10.0), (200.0, 10.0));
        let (on_line, free, outside) = (at(10.0, 5.0), at(10.0, 50.0), at(180.0, 50.0));
        let all = [outside, on_line, free].map(|rect| (rect, 0));
        assert_eq!(obstacles.best(&all, PLOT), Some(free));
        obstacles.add_words(free);
        assert_eq!(obstacles.best(&all, PLOT), Some(on_line));
        assert_eq!(obstacles.best(&[], PLOT), None);
    }
}
