//! Colours: Okabe and Ito's set for series, viridis for heat, one variable per role.

/// Letters of figures; metrics in `labels` are those of Helvetica and its clones.
pub(crate) const FONT: &str = "Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif";

/// Roles with their colour on light and on dark paper.
///
/// The series hues are those of Okabe and Ito (2008), which people with any common colour blindness can tell apart; the darkest are lightened on dark paper.
const ROLES: [(&str, &str, &str); 11] = [
    ("paper", "#ffffff", "#15181c"),
    ("ink", "#1f2328", "#e4e7eb"),
    ("soft", "#5b636d", "#9aa4af"),
    ("grid", "#e3e6ea", "#2c3239"),
    ("s0", "#0072b2", "#56b4e9"),
    ("s1", "#d55e00", "#f0803c"),
    ("s2", "#009e73", "#2cc295"),
    ("s3", "#b7588f", "#dd95bf"),
    ("s4", "#c98a00", "#f0b83a"),
    ("s5", "#3d9bd1", "#3f8fd0"),
    ("s6", "#1f2328", "#e4e7eb"),
];

const FIRST_SERIES: usize = 4;
/// Number of series that get a hue of their own.
const SERIES: usize = ROLES.len() - FIRST_SERIES;

/// Stops of the viridis colour map, evenly spaced.
const VIRIDIS: [[u8; 3]; 11] = [
    [0x44, 0x01, 0x54],
    [0x48, 0x24, 0x75],
    [0x41, 0x44, 0x87],
    [0x35, 0x5f, 0x8d],
    [0x2a, 0x78, 0x8e],
    [0x21, 0x91, 0x8c],
    [0x22, 0xa8, 0x84],
    [0x44, 0xbf, 0x70],
    [0x7a, 0xd1, 0x51],
    [0xbd, 0xdf, 0x26],
    [0xfd, 0xe7, 0x25],
];

/// What something is painted with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Paint {
    Paper,
    Ink,
    Soft,
    Grid,
    Series(usize),
    /// A colour that carries a value and is the same on any paper.
    Fixed([u8; 3]),
}

impl Paint {
    /// The class that fills with this paint; empty for a fixed colour.
    pub(crate) fn fill_class(self) -> String {
        self.role()
            .map_or_else(String::new, |role| format!("dr-f-{}", ROLES[role].0))
    }

    /// The class that strokes with this paint; empty for a fixed colour.
    pub(crate) fn stroke_class(self) -> String {
        self.role()
            .map_or_else(String::new, |role| format!("dr-k-{}", ROLES[role].0))
    }

    /// The colour where no style sheet is read.
    pub(crate) fn fallback(self) -> String {
        match self {
            Self::Fixed(rgb) => hex(rgb),
            _ => ROLES[self.role().unwrap_or(0)].1.to_owned(),
        }
    }

    fn role(self) -> Option<usize> {
        match self {
            Self::Paper => Some(0),
            Self::Ink => Some(1),
            Self::Soft => Some(2),
            Self::Grid => Some(3),
            Self::Series(index) => Some(FIRST_SERIES + index % SERIES),
            Self::Fixed(_) => None,
        }
    }
}

/// The style sheet of all drawings: variables for light, dark and print, and one class per role.
pub(crate) fn style() -> String {
    let variables = |pick: fn(&(&str, &str, &str)) -> String| -> String {
        ROLES
            .iter()
            .map(|role| format!("--dr-{}:{};", role.0, pick(role)))
            .collect()
    };
    let light = variables(|role| role.1.to_owned());
    let dark = variables(|role| role.2.to_owned());
    let classes: String = ROLES
        .iter()
        .map(|(name, ..)| {
            format!(
                ".dr-f-{name}{{fill:var(--dr-{name})}}.dr-k-{name}{{stroke:var(--dr-{name})}}\n"
            )
        })
        .collect();
    format!(
        ":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{classes}"
    )
}

/// The colour of a share of the range, from 0 to 1.
pub(crate) fn heat(share: f64) -> [u8; 3] {
    let place = share.clamp(0.0, 1.0) * (VIRIDIS.len() - 1) as f64;
    let index = (place.floor() as usize).min(VIRIDIS.len() - 2);
    let part = place - index as f64;
    std::array::from_fn(|channel| {
        let (from, to) = (
            f64::from(VIRIDIS[index][channel]),
            f64::from(VIRIDIS[index + 1][channel]),
        );
        (from + (to - from) * part).round() as u8
    })
}

/// Black or white, whichever reads better on `background`.
pub(crate) fn readable_on(background: [u8; 3]) -> [u8; 3] {
    const BLACK: [u8; 3] = [0; 3];
    const WHITE: [u8; 3] = [0xff; 3];
    if contrast(BLACK, background) > contrast(WHITE, background) {
        BLACK
    } else {
        WHITE
    }
}

/// The contrast ratio of WCAG, from 1 to 21.
fn contrast(a: [u8; 3], b: [u8; 3]) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

fn luminance(rgb: [u8; 3]) -> f64 {
    let [red, green, blue] = rgb.map(|byte| {
        let value = f64::from(byte) / 255.0;
        if value <= 0.040_45 {
            value / 12.92
        } else {
            ((value + 0.055) / 1.055).powf(2.4)
        }
    });
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

fn hex([red, green, blue]: [u8; 3]) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rgb(hex: &str) -> [u8; 3] {
        std::array::from_fn(|i| {
            u8::from_str_radix(&hex[1 + 2 * i..3 + 2 * i], 16).expect("six hexadecimal digits")
        })
    }

    #[test]
    fn numbers_on_any_heat_colour_are_readable() {
        for step in 0..=100 {
            let background = heat(f64::from(step) / 100.0);
            assert!(
                contrast(readable_on(background), background) >= 4.5,
                "{step}"
            );
        }
    }

    #[test]
    fn words_and_lines_stand_out_on_both_papers() {
        for (name, light, dark) in &ROLES[1..] {
            let least = match *name {
                "ink" | "soft" => 4.5,
                "grid" => 1.1,
                _ => 2.9,
            };
            assert!(
                contrast(rgb(light), rgb(ROLES[0].1)) >= least,
                "{name} on light"
            );
            assert!(
                contrast(rgb(dark), rgb(ROLES[0].2)) >= least,
                "{name} on dark"
            );
        }
    }

    #[test]
    fn heat_runs_from_violet_to_yellow_and_gets_lighter() {
        assert_eq!(hex(heat(-1.0)), "#440154");
        assert_eq!(hex(heat(2.0)), "#fde725");
        let steps: Vec<f64> = (0..=50)
            .map(|i| luminance(heat(f64::from(i) / 50.0)))
            .collect();
        assert!(steps.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
