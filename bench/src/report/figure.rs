//! How a figure is written: three significant digits, in the unit that suits its size.
//! A [`Scale`] is chosen once for all figures that stand together, so that a column
//! reads down without looking at units.

use crate::results::Spread;

/// A unit to write figures of one metric in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    /// "µs"; empty for a bare number.
    pub(crate) symbol: &'static str,
    /// What a value of the metric is multiplied by.
    factor: f64,
}

impl Scale {
    /// The unit in which the median of `values` has one to three digits before the point.
    pub(crate) fn of(metric: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let sizes: Vec<f64> = values
            .into_iter()
            .map(f64::abs)
            .filter(|v| v.is_finite() && *v > 0.0)
            .collect();
        let (units, base) = units(metric);
        let typical = Spread::of(&sizes).map_or(0.0, |sizes| sizes.median) * base;
        // Half a unit in the last digit: 999.6 µs is written as 1.00 ms.
        let fits = units
            .iter()
            .rev()
            .find(|(_, size)| typical >= size * 0.9995);
        let nearest = if typical > 0.0 {
            fits.or(units.first())
        } else {
            own_unit(units, base)
        };
        nearest.map_or(
            Self {
                symbol: "",
                factor: 1.0,
            },
            |&(symbol, size)| Self {
                symbol,
                factor: base / size,
            },
        )
    }

    /// "25.1".
    pub(crate) fn number(&self, value: f64) -> String {
        significant(value * self.factor)
    }

    /// "25.1 µs".
    pub(crate) fn figure(&self, value: f64) -> String {
        if self.symbol.is_empty() {
            self.number(value)
        } else {
            format!("{} {}", self.number(value), self.symbol)
        }
    }

    /// "25.1 (24.8–25.9)"; of one round only "25.1".
    pub(crate) fn range(&self, spread: Spread) -> String {
        let median = self.number(spread.median);
        let (low, high) = (self.number(spread.low), self.number(spread.high));
        if low == median && high == median {
            median
        } else {
            format!("{median} ({low}–{high})")
        }
    }

    /// "25.1 ±3%": how far the furthest round lies from the median; of one round only
    /// "25.1". A median that percents make no sense of gets its range.
    pub(crate) fn percent(&self, spread: Spread) -> String {
        let median = self.number(spread.median);
        if spread.low == spread.high {
            return median;
        }
        if spread.median <= 0.0 {
            return self.range(spread);
        }
        let furthest = (spread.high - spread.median).max(spread.median - spread.low);
        format!("{median} ±{:.0}%", furthest / spread.median * 100.0)
    }
}

type Unit = (&'static str, f64);

/// Smallest first, each with its size in seconds.
const TIMES: &[Unit] = &[("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)];
/// Smallest first, each with its size in bytes. An idle connection is compared in KiB.
const SIZES: &[Unit] = &[
    ("B", 1.0),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
];
/// Says "per second" in words already.
const RATES: &[Unit] = &[("", 1.0)];

/// The units a metric can be written in, and the size of the one its name ends in.
fn units(metric: &str) -> (&'static [Unit], f64) {
    let ends = |unit: &str| {
        metric
            .strip_suffix(unit)
            .is_some_and(|m| m.is_empty() || m.ends_with('_'))
    };
    // The part of one program is measured as the whole is: `cpu_s/node`.
    if let Some((whole, _)) = metric.split_once('/') {
        return units(whole);
    }
    if ends("per_s") {
        (RATES, 1.0)
    } else if ends("us") {
        (TIMES, 1e-6)
    } else if ends("ms") {
        (TIMES, 1e-3)
    } else if ends("s") {
        (TIMES, 1.0)
    } else if ends("kib") {
        (SIZES, 1024.0)
    } else {
        (&[], 1.0)
    }
}

/// When every figure is 0, the metric's own unit is as good as any.
fn own_unit(units: &'static [Unit], base: f64) -> Option<&'static Unit> {
    units.iter().rev().find(|(_, size)| *size <= base)
}

/// Of a rate more is better, of everything else less.
pub(crate) fn is_rate(metric: &str) -> bool {
    metric.ends_with("_per_s")
}

/// A metric in words, without its unit: `handshake_p99_ms` as "handshake p99".
pub(crate) fn words(metric: &str) -> String {
    if let Some(rate) = metric.strip_suffix("_per_s") {
        return format!("{} per second", rate.replace('_', " "));
    }
    match metric.rsplit_once('_') {
        Some((bare, "us" | "ms" | "s" | "kib")) => bare.replace("cpu", "CPU").replace('_', " "),
        None if matches!(metric, "us" | "ms" | "s") => "time".to_owned(),
        _ => metric.replace('_', " "),
    }
}

/// "0.97"; "∞" when the base was 0 in a round.
pub(crate) fn ratio_text(ratio: f64) -> String {
    if ratio.is_nan() {
        return "?".to_owned();
    }
    if ratio.is_infinite() {
        return "∞".to_owned();
    }
    match ratio.abs() {
        size if size >= 99.95 => grouped(&format!("{ratio:.0}")),
        size if size >= 9.995 => format!("{ratio:.1}"),
        size if size >= 0.0995 || size == 0.0 => format!("{ratio:.2}"),
        _ => format!("{ratio:.3}"),
    }
}

fn significant(value: f64) -> String {
    if !value.is_finite() {
        return "?".to_owned();
    }
    match value.abs() {
        size if size >= 99.95 => grouped(&format!("{value:.0}")),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.9995 => format!("{value:.2}"),
        size if size >= 0.09995 => format!("{value:.3}"),
        size if size >= 0.000_05 => format!("{value:.4}"),
        _ => "0".to_owned(),
    }
}

/// 1234567 as 1,234,567.
pub(crate) fn grouped(digits: &str) -> String {
    let (sign, digits) = digits
        .strip_prefix('-')
        .map_or(("", digits), |rest| ("-", rest));
    let mut text = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_count_and_thousands_are_grouped() {
        for (value, text) in [
            (0.0, "0"),
            (0.012_34, "0.0123"),
            (0.123_4, "0.123"),
            (9.996, "10.0"),
            (99.96, "100"),
            (1_234.4, "1,234"),
            (1_234_567.0, "1,234,567"),
            (-2.5, "-2.50"),
            (f64::NAN, "?"),
        ] {
            assert_eq!(significant(value), text, "{value}");
        }
    }

    #[test]
    fn a_unit_suits_the_size() {
        for (metric, value, text) in [
            ("cpu_us", 25.14, "25.1 µs"),
            ("cpu_us", 312_000.0, "312 ms"),
            ("cpu_us", 999.7, "1.00 ms"),
            ("cpu_us", 0.25, "250 ns"),
            ("ms", 1_500.0, "1.50 s"),
            ("cpu_s/node", 12.34, "12.3 s"),
            ("total_s", 0.5, "500 ms"),
            ("connection_kib", 3.2, "3.20 KiB"),
            ("base_kib", 20_480.0, "20.0 MiB"),
            ("left_kib", 0.0, "0 KiB"),
            ("requests_per_s", 25_000.0, "25,000"),
            ("opened", 7.0, "7.00"),
        ] {
            assert_eq!(
                Scale::of(metric, [value]).figure(value),
                text,
                "{metric} {value}"
            );
        }
    }

    #[test]
    fn figures_that_stand_together_share_the_unit_of_their_median() {
        let scale = Scale::of("cpu_us", [900.0, 1_100.0, 1_200.0]);
        assert_eq!(scale.symbol, "ms");
        assert_eq!(scale.number(900.0), "0.900");
    }

    #[test]
    fn a_spread_is_a_range_or_the_furthest_round_in_percent() {
        let scale = Scale::of("cpu_us", [25.0]);
        let spread = Spread {
            median: 25.0,
            low: 24.0,
            high: 25.5,
        };
        assert_eq!(scale.range(spread), "25.0 (24.0–25.5)");
        assert_eq!(scale.percent(spread), "25.0 ±4%");
    }

    #[test]
    fn one_round_has_no_spread() {
        let scale = Scale::of("cpu_us", [25.0]);
        let spread = Spread {
            median: 25.0,
            low: 25.0,
            high: 25.0,
        };
        assert_eq!(scale.range(spread), "25.0");
        assert_eq!(scale.percent(spread), "25.0");
    }

    #[test]
    fn a_median_of_zero_has_a_range_instead_of_percents() {
        let scale = Scale::of("left_kib", [0.0]);
        let spread = Spread {
            median: 0.0,
            low: -0.5,
            high: 2.0,
        };
        assert_eq!(scale.percent(spread), "0 (-0.500–2.00)");
    }

    #[test]
    fn a_metric_is_told_in_words() {
        for (metric, text) in [
            ("handshake_p99_ms", "handshake p99"),
            ("cpu_us", "CPU"),
            ("ms", "time"),
            ("requests_per_s", "requests per second"),
            ("open_files", "open files"),
        ] {
            assert_eq!(words(metric), text);
        }
    }

    #[test]
    fn ratios_keep_two_decimals_where_they_matter() {
        for (ratio, text) in [
            (0.974, "0.97"),
            (0.052_1, "0.052"),
            (0.0, "0.00"),
            (12.34, "12.3"),
            (1_234.0, "1,234"),
            (f64::INFINITY, "∞"),
            (f64::NAN, "?"),
        ] {
            assert_eq!(ratio_text(ratio), text);
        }
    }
}
