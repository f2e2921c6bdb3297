//! Numbers as people and as SVG read them.

/// Beyond this, a value is treated as missing: sums and squares of coordinates must stay finite.
const LARGEST: f64 = 1e100;

/// Whether a value can be drawn at all.
pub(crate) fn is_drawable(value: f64) -> bool {
    value.is_finite() && value.abs() < LARGEST
}

/// A coordinate with at most two decimals.
pub(crate) fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

/// A value with four significant digits, for labels and tooltips.
pub(crate) fn readable(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = value.abs().log10().floor();
    if !(-4.0..6.0).contains(&magnitude) {
        return scientific(value, magnitude);
    }
    let decimals = (3.0 - magnitude).clamp(0.0, 8.0) as usize;
    with_decimals(value, decimals, true)
}

/// A value as charts print it: fixed decimals, a dash for none, powers of ten for the very large.
pub(crate) fn printed(value: f64, decimals: usize) -> String {
    if value.is_finite() && value.abs() < 1e9 {
        with_decimals(value, decimals, false)
    } else {
        readable(value)
    }
}

/// A value with fixed decimals, a true minus sign and separated thousands from 10,000 on.
pub(crate) fn with_decimals(value: f64, decimals: usize, trim: bool) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let fraction = if trim {
        fraction.trim_end_matches('0')
    } else {
        fraction
    };
    let mut out = String::new();
    let is_zero = text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    if value < 0.0 && !is_zero {
        out.push('−');
    }
    for (index, digit) in whole.chars().enumerate() {
        let left = whole.len() - index;
        if index > 0 && whole.len() > 4 && left.is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

fn scientific(value: f64, magnitude: f64) -> String {
    let mantissa = value / 10f64.powf(magnitude);
    let power = superscript(magnitude as i32);
    if (mantissa.abs() - 1.0).abs() < 1e-9 {
        format!("{}10{power}", if value < 0.0 { "−" } else { "" })
    } else {
        format!("{}×10{power}", with_decimals(mantissa, 2, true))
    }
}

fn superscript(power: i32) -> String {
    power
        .to_string()
        .chars()
        .map(|c| match c {
            '-' => '⁻',
            '1' => '¹',
            '2' => '²',
            '3' => '³',
            '0' => '⁰',
            digit => char::from_u32('⁰' as u32 + digit.to_digit(10).unwrap_or(0)).unwrap_or(digit),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (value, text) in [
            (0.0, "0"),
            (90.0, "90"),
            (0.5, "0.5"),
            (-1.25, "−1.25"),
            (1000.0, "1000"),
            (60000.0, "60,000"),
            (62.666_66, "62.67"),
            (0.0001, "0.0001"),
            (1e-5, "10⁻⁵"),
            (2.5e6, "2.5×10⁶"),
            (-1e9, "−10⁹"),
        ] {
            assert_eq!(readable(value), text);
        }
    }

    #[test]
    fn coordinates_are_short_and_never_minus_zero() {
        assert_eq!(short(-0.0001), "0");
        assert_eq!(short(12.5), "12.5");
        assert_eq!(short(100.0), "100");
        assert_eq!(short(1.0 / 3.0), "0.33");
    }
}
