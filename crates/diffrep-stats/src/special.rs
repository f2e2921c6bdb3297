//! The special functions behind the intervals: normal and Student quantiles, ln gamma.

use std::f64::consts::PI;

/// ln gamma(x) for x > 0: Stirling's series, after shifting x above 15 where it has full accuracy.
pub(crate) fn ln_gamma(x: f64) -> f64 {
    let mut shifted = x;
    let mut product = 1.0;
    while shifted < 15.0 {
        product *= shifted;
        shifted += 1.0;
    }
    let inverse = 1.0 / shifted;
    let square = inverse * inverse;
    // Bernoulli numbers: B_2k / (2k (2k - 1)).
    let series = inverse
        * (1.0 / 12.0
            - square
                * (1.0 / 360.0
                    - square * (1.0 / 1260.0 - square * (1.0 / 1680.0 - square * (1.0 / 1188.0)))));
    (shifted - 0.5) * shifted.ln() - shifted + 0.5 * (2.0 * PI).ln() + series - product.ln()
}

/// The quantile of the standard normal distribution at 0 < p < 1.
///
/// Wichura (1988), algorithm AS 241, relative accuracy about 1e-16.
#[allow(
    clippy::excessive_precision,
    reason = "the coefficients are given as published"
)]
pub(crate) fn normal_quantile(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180625 - q * q;
        let above = [
            2.5090809287301226727e+3,
            3.3430575583588128105e+4,
            6.7265770927008700853e+4,
            4.5921953931549871457e+4,
            1.3731693765509461125e+4,
            1.9715909503065514427e+3,
            1.3314166789178437745e+2,
            3.3871328727963666080e+0,
        ];
        let below = [
            5.2264952788528545610e+3,
            2.8729085735721942674e+4,
            3.9307895800092710610e+4,
            2.1213794301586595867e+4,
            5.3941960214247511077e+3,
            6.8718700749205790830e+2,
            4.2313330701600911252e+1,
            1.0,
        ];
        return q * polynomial(&above, r) / polynomial(&below, r);
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    let r = (-tail.ln()).sqrt();
    let x = if r <= 5.0 {
        let above = [
            7.74545014278341407640e-4,
            2.27238449892691845833e-2,
            2.41780725177450611770e-1,
            1.27045825245236838258e+0,
            3.64784832476320460504e+0,
            5.76949722146069140550e+0,
            4.63033784615654529590e+0,
            1.42343711074968357734e+0,
        ];
        let below = [
            1.05075007164441684324e-9,
            5.47593808499534494600e-4,
            1.51986665636164571966e-2,
            1.48103976427480074590e-1,
            6.89767334985100004550e-1,
            1.67638483018380384940e+0,
            2.05319162663775882187e+0,
            1.0,
        ];
        polynomial(&above, r - 1.6) / polynomial(&below, r - 1.6)
    } else {
        let above = [
            2.01033439929228813265e-7,
            2.71155556874348757815e-5,
            1.24266094738807843860e-3,
            2.65321895265761230930e-2,
            2.96560571828504891230e-1,
            1.78482653991729133580e+0,
            5.46378491116411436990e+0,
            6.65790464350110377720e+0,
        ];
        let below = [
            2.04426310338993978564e-15,
            1.42151175831644588870e-7,
            1.84631831751005468180e-5,
            7.86869131145613259100e-4,
            1.48753612908506148525e-2,
            1.36929880922735805310e-1,
            5.99832206555887937690e-1,
            1.0,
        ];
        polynomial(&above, r - 5.0) / polynomial(&below, r - 5.0)
    };
    if q < 0.0 { -x } else { x }
}

/// The t with P(|T| <= t) = `level` for a Student variable T of `df` >= 1 degrees of freedom.
pub(crate) fn student_two_sided(level: f64, df: f64) -> f64 {
    let outside = 1.0 - level;
    let tails = |t: f64| {
        let scale = df + t * t;
        incomplete_beta(0.5 * df, 0.5, df / scale, t * t / scale)
    };
    let mut high = 1.0;
    while tails(high) > outside && high < 1e150 {
        high *= 2.0;
    }
    let mut low = 0.0;
    // Halving until the two neighbours touch: at most the bits of a double.
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return middle;
        }
        if tails(middle) > outside {
            low = middle;
        } else {
            high = middle;
        }
    }
}

/// The regularised incomplete beta function I_x(a, b); `rest` is 1 - x, given for accuracy.
fn incomplete_beta(a: f64, b: f64, x: f64, rest: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if rest <= 0.0 {
        return 1.0;
    }
    let log_front = ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * rest.ln();
    if x < (a + 1.0) / (a + b + 2.0) {
        log_front.exp() * beta_fraction(a, b, x) / a
    } else {
        1.0 - log_front.exp() * beta_fraction(b, a, rest) / b
    }
}

/// The continued fraction of the incomplete beta function, by Lentz's method.
fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away_from_zero = |value: f64| if value.abs() < TINY { TINY } else { value };

    let mut c = 1.0;
    let mut d = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    for step in 1..100_000 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / away_from_zero(1.0 + even * d);
        c = away_from_zero(1.0 + even / c);
        fraction *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / away_from_zero(1.0 + odd * d);
        c = away_from_zero(1.0 + odd / c);
        fraction *= d * c;
        if (d * c - 1.0).abs() < 1e-16 {
            break;
        }
    }
    fraction
}

/// Horner's rule, highest power first.
fn polynomial(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().fold(0.0, |sum, c| sum * x + c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(found: f64, expected: f64, relative: f64) {
        assert!(
            (found - expected).abs() <= relative * expected.abs().max(1e-300),
            "found {found:e}, expected {expected:e}"
        );
    }

    #[test]
    fn ln_gamma_matches_the_c_library() {
        // math.lgamma of CPython 3.11.
        for (x, expected) in [
            (0.5, 0.5723649429247004),
            (3.3, 0.9870985778947339),
            (10.5, 13.940625219403763),
            (100_000.5, 1_051_293.465_435_139_4),
        ] {
            assert_close(ln_gamma(x), expected, 1e-14);
        }
        assert!(ln_gamma(1.0).abs() < 2e-14);
        // 20! = 2432902008176640000.
        assert_close(ln_gamma(21.0), 2_432_902_008_176_640_000f64.ln(), 1e-15);
    }

    #[test]
    fn normal_quantiles_match_tables_in_every_branch() {
        assert_eq!(normal_quantile(0.5), 0.0);
        assert_close(normal_quantile(0.75), 0.6744897501960817, 1e-15);
        assert_close(normal_quantile(0.975), 1.959963984540054, 1e-15);
        assert_close(normal_quantile(0.005), -2.5758293035489004, 1e-14);
        assert_close(normal_quantile(1e-20), -9.262340089798408, 1e-14);
    }

    #[test]
    fn student_quantiles_match_tables() {
        for (df, expected) in [
            (5.0, 2.5705818366147395),
            (6.0, 2.4469118487916806),
            (10.0, 2.2281388519649385),
            (30.0, 2.0422724563012373),
        ] {
            // The tables are good to about ten digits; the closed forms below ask for more.
            assert_close(student_two_sided(0.95, df), expected, 1e-9);
        }
        // One degree of freedom is the Cauchy distribution, two have a closed form.
        for level in [0.1, 0.5, 0.9, 0.999] {
            assert_close(
                student_two_sided(level, 1.0),
                (PI * level / 2.0).tan(),
                1e-12,
            );
            let two = level * (2.0 / (1.0 - level * level)).sqrt();
            assert_close(student_two_sided(level, 2.0), two, 1e-12);
        }
        // Many degrees of freedom approach the normal distribution.
        assert_close(student_two_sided(0.95, 1e7), 1.959963984540054, 1e-6);
    }
}
