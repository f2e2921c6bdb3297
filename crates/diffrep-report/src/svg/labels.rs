//! How wide words are, and how they wrap, shorten and keep apart.

/// Widths of the printable ASCII characters of Helvetica in thousandths of the letter size.
const WIDTHS: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556,
    556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667,
    611, 778, 722, 278, 500, 667, 556, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667,
    667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500,
    222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
];

/// Room for fonts a little wider than Helvetica.
const SAFETY: f64 = 1.05;

/// The width of a line of text, rounded up.
pub(crate) fn width(text: &str, size: f64, bold: bool) -> f64 {
    let thousandths: f64 = text
        .chars()
        .map(|c| match c as u32 {
            code @ 32..=126 => f64::from(WIDTHS[code as usize - 32]),
            0x300..=0x36f => 0.0,
            0..0x1100 | 0x2000..0x2e80 => 600.0,
            _ => 1000.0,
        })
        .sum();
    let weight = if bold { 1.07 } else { 1.0 };
    thousandths / 1000.0 * size * SAFETY * weight
}

/// The widest of several lines.
pub(crate) fn widest<'a>(lines: impl IntoIterator<Item = &'a str>, size: f64, bold: bool) -> f64 {
    lines
        .into_iter()
        .map(|line| width(line, size, bold))
        .fold(0.0, f64::max)
}

/// Breaks text into lines no wider than `room`, between words where that is possible.
pub(crate) fn wrap(text: &str, size: f64, bold: bool, room: f64) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let longer = if line.is_empty() {
            word.to_owned()
        } else {
            format!("{line} {word}")
        };
        if width(&longer, size, bold) <= room {
            line = longer;
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        for c in word.chars() {
            line.push(c);
            if line.chars().count() > 1 && width(&line, size, bold) > room {
                line.pop();
                lines.push(std::mem::replace(&mut line, c.to_string()));
            }
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// Wraps into at most `most` lines and shortens the last with an ellipsis.
pub(crate) fn wrap_within(
    text: &str,
    size: f64,
    bold: bool,
    room: f64,
    most: usize,
) -> Vec<String> {
    let mut lines = wrap(text, size, bold, room);
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            while !last.is_empty() && width(&format!("{last}…"), size, bold) > room {
                last.pop();
            }
            last.push('…');
        }
    }
    lines
}

/// How the names of evenly spaced places are written beneath them.
#[derive(Debug, PartialEq)]
pub(crate) enum Names {
    /// Upright, each on one or more lines.
    Upright(Vec<Vec<String>>),
    /// Slanted, each on one line that ends at its place.
    Slanted(Vec<String>),
}

/// Degrees by which slanted names are turned.
pub(crate) const SLANT: f64 = -38.0;
/// Distance between the baselines of two lines, in letter sizes.
pub(crate) const LEADING: f64 = 1.22;

/// Fits names into slots of equal width.
pub(crate) fn names(labels: &[String], size: f64, slot: f64) -> Names {
    let room = slot - 6.0;
    let breaks_a_word = |label: &str| {
        label
            .split_whitespace()
            .any(|word| width(word, size, false) > room)
    };
    let wrapped: Vec<Vec<String>> = labels
        .iter()
        .map(|label| wrap(label, size, false, room))
        .collect();
    let is_upright = !labels.iter().any(|label| breaks_a_word(label))
        && wrapped.iter().all(|lines| lines.len() <= 3);
    if is_upright {
        Names::Upright(wrapped)
    } else {
        Names::Slanted(
            labels
                .iter()
                .map(|label| wrap_within(label, size, false, 150.0, 1).concat())
                .collect(),
        )
    }
}

impl Names {
    /// The height that the names take.
    pub(crate) fn height(&self, size: f64) -> f64 {
        match self {
            Self::Upright(labels) => {
                let most = labels.iter().map(Vec::len).max().unwrap_or(0);
                most as f64 * size * LEADING
            }
            Self::Slanted(labels) => {
                let longest = widest(labels.iter().map(String::as_str), size, false);
                longest * (-SLANT).to_radians().sin() + size
            }
        }
    }

    /// How far the first name reaches to the left of its place.
    pub(crate) fn overhang(&self, size: f64) -> f64 {
        match self {
            Self::Upright(_) => 0.0,
            Self::Slanted(labels) => labels.first().map_or(0.0, |label| {
                width(label, size, false) * SLANT.to_radians().cos()
            }),
        }
    }
}

/// Which of the labels at `centres` with `widths` can stand on one line without touching.
///
/// The first and the last are kept where possible, since they show the range.
pub(crate) fn apart(centres: &[f64], widths: &[f64], gap: f64) -> Vec<bool> {
    let mut keep = vec![false; centres.len()];
    let mut order: Vec<usize> = (0..centres.len()).collect();
    if centres.len() > 2 {
        order.swap_remove(centres.len() - 1);
        order.insert(1, centres.len() - 1);
    }
    for index in order {
        let free = (0..centres.len())
            .filter(|other| keep[*other])
            .all(|other| {
                (centres[index] - centres[other]).abs()
                    >= (widths[index] + widths[other]) / 2.0 + gap
            });
        keep[index] = free;
    }
    keep
}

/// Moves labels of given heights along one direction until none touch, within `low..=high`.
///
/// Returns the middles, in the order given.
pub(crate) fn spread(wanted: &[f64], heights: &[f64], low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]));
    let mut middles = wanted.to_vec();
    let mut edge = low;
    for &index in &order {
        middles[index] = middles[index].max(edge + heights[index] / 2.0);
        edge = middles[index] + heights[index] / 2.0;
    }
    let mut edge = high;
    for &index in order.iter().rev() {
        middles[index] = middles[index].min(edge - heights[index] / 2.0);
        edge = middles[index] - heights[index] / 2.0;
    }
    middles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_lines_fit_and_keep_every_letter() {
        let text = "linear probe on block 24 of a 512-channel-network-with-a-very-long-name";
        let lines = wrap(text, 12.0, false, 90.0);
        assert!(lines.iter().all(|line| width(line, 12.0, false) <= 90.0));
        let squeeze = |text: &str| text.replace(' ', "");
        assert_eq!(squeeze(&lines.concat()), squeeze(text));
        let short = wrap_within(text, 12.0, false, 90.0, 2);
        assert_eq!(short.len(), 2);
        assert!(short[1].ends_with('…'));
    }

    #[test]
    fn labels_keep_apart_and_show_the_ends() {
        let keep = apart(&[0.0, 5.0, 40.0, 78.0, 80.0], &[20.0; 5], 4.0);
        assert_eq!(keep, [true, false, true, false, true]);
    }

    #[test]
    fn spread_labels_do_not_touch_and_stay_inside() {
        let middles = spread(&[50.0, 51.0, 52.0, 99.0], &[14.0; 4], 0.0, 100.0);
        let mut sorted = middles.clone();
        sorted.sort_by(f64::total_cmp);
        assert!(
            sorted
                .windows(2)
                .all(|pair| pair[1] - pair[0] >= 14.0 - 1e-9)
        );
        assert!(sorted[3] <= 93.0 && sorted[0] >= 7.0);
        assert_eq!(spread(&[20.0], &[14.0], 0.0, 100.0), [20.0]);
    }

    #[test]
    fn long_names_slant_and_short_ones_stand() {
        let short = vec!["raw pixels".to_owned(), "block 24".to_owned()];
        assert!(matches!(names(&short, 12.0, 60.0), Names::Upright(_)));
        let long = vec!["unconditional".to_owned(); 2];
        assert!(matches!(names(&long, 12.0, 40.0), Names::Slanted(_)));
    }
}
