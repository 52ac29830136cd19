//! One case in a chart: its title, an axis from zero, and for each system a bar with its
//! whisker and figure, or why there is none. The scale is as large as lets every bar,
//! whisker and figure stay inside. Where it stands is `chart`'s affair.

use crate::report::figure::{Scale, ratio_text, words};
use crate::report::ratio::{Ratio, best, ratios, usable};
use crate::report::svg::{Font, Svg};
use crate::results::{Case, Outcome, Results, Row, Side, Spread, System};

/// The height of a system's line.
pub(super) const LINE: f64 = 22.0;
const BAR: f64 = 12.0;
/// A round this much above the highest median does not squash everybody's bars.
const OUTLIER: f64 = 1.5;

const CASE: Font = Font::bold(13.0);
const SMALL: Font = Font::plain(11.5);
const SMALL_BOLD: Font = Font::bold(11.5);

/// Where one case is drawn.
pub(super) struct Panel<'a> {
    results: &'a Results,
    case: &'a Case,
    scale: Scale,
    left: f64,
    width: f64,
    /// Of one unit of the metric.
    pixels: f64,
    /// Whiskers end here.
    limit: f64,
}

/// What stands in a line of a panel.
struct Text {
    left: f64,
    font: Font,
    class: &'static str,
    text: String,
}

impl<'a> Panel<'a> {
    pub(super) fn new(results: &'a Results, case: &'a Case, left: f64, width: f64) -> Self {
        let rows: Vec<_> = results
            .rows
            .iter()
            .filter(|row| row.case == case.id)
            .collect();
        let spreads = rows.iter().filter_map(|row| usable(row, &case.headline));
        let medians: Vec<_> = spreads.map(|spread| spread.median).collect();
        let limit = medians.iter().copied().fold(0.0, f64::max) * OUTLIER;
        let scale = Scale::of(&case.headline, medians);
        let mut panel = Self {
            results,
            case,
            scale,
            left,
            width,
            pixels: 0.0,
            limit,
        };
        panel.pixels = panel.fit(&rows);
        panel
    }

    /// The largest scale with which each bar, its whisker and its label have room.
    fn fit(&self, rows: &[&Row]) -> f64 {
        let figures = rows
            .iter()
            .filter_map(|row| Some((*row, usable(row, &self.case.headline)?)));
        let room = figures.filter_map(|(row, spread)| {
            let end = spread.high.min(self.limit);
            let label = self.label(row, spread);
            let room = self.width - label.font.width(&label.text) - 8.0;
            (end > 0.0).then(|| room.max(10.0) / end)
        });
        room.fold(f64::INFINITY, f64::min)
    }

    fn x(&self, value: f64) -> f64 {
        let length = value * self.pixels;
        // When every figure is 0, any scale fits, and 0 times any is not a number.
        let length = if length.is_finite() { length } else { 0.0 };
        self.left + length.clamp(0.0, self.width)
    }

    /// Its title and unit; returns where the lines begin.
    pub(super) fn head(&self, svg: &mut Svg, top: f64) -> f64 {
        let mut y = top + 12.0;
        for line in CASE.wrap(&self.case.title, self.width, 2) {
            svg.text((self.left, y), CASE, "text", &line);
            y += 16.0;
        }
        let unit = SMALL.cut(&self.unit(), self.width);
        svg.text((self.left, y), SMALL, "muted", &unit);
        y + 9.0
    }

    /// "CPU, µs per connection"; "KiB per connection", where the unit says what it is.
    fn unit(&self) -> String {
        let what = words(&self.case.headline);
        let unit = format!("{} per {}", self.scale.symbol, self.case.unit);
        if what == self.case.unit {
            unit
        } else {
            format!("{what}, {}", unit.trim())
        }
    }

    /// The axis of some lines.
    pub(super) fn axis(&self, svg: &mut Svg, top: f64, bottom: f64) {
        svg.line((self.left, top + 1.0), (self.left, bottom - 1.0), "axis");
    }

    /// What the system answered, if it is of this group, and the mark of the best peer.
    pub(super) fn row(&self, svg: &mut Svg, system: &System, group: &str, y: f64) {
        let row = self.results.row(&self.case.id, &system.id);
        let row = row.filter(|row| row.group == group);
        let metric = &self.case.headline;
        let best = best(self.results, self.case, group, Side::Peer, metric);
        let mark = best.map(|(_, peer)| self.x(peer.median));
        let text = row.and_then(|row| self.text(row));
        // Text and the mark would spoil each other.
        let is_free = |x: &f64| {
            let taken = text.as_ref();
            taken.is_none_or(|text| *x < text.left - 3.0 || *x > text.right() + 3.0)
        };
        if let Some(x) = mark.filter(is_free) {
            svg.line((x, y), (x, y + LINE), "best");
        }
        if let Some(spread) = row.and_then(|row| usable(row, metric)) {
            self.bar(svg, system, spread, y);
        }
        if let Some(text) = text {
            svg.text((text.left, y + 15.0), text.font, text.class, &text.text);
        }
    }

    /// The figure, for Tidegate with its ratio to the best peer, or why there is none.
    fn text(&self, row: &Row) -> Option<Text> {
        let (class, why) = match (&row.outcome, usable(row, &self.case.headline)) {
            (Outcome::Measured(_), Some(spread)) => return Some(self.label(row, spread)),
            (Outcome::Measured(_), None) => ("muted", "— no figure".to_owned()),
            (Outcome::Absent(why), _) => ("muted", format!("— {why}")),
            (Outcome::Failed(why), _) => ("warning", format!("FAILED: {why}")),
        };
        let text = SMALL.cut(&why, self.width - 6.0);
        Some(Text {
            left: self.left + 6.0,
            font: SMALL,
            class,
            text,
        })
    }

    fn label(&self, row: &Row, spread: Spread) -> Text {
        let left = self.x(spread.high.min(self.limit)) + 6.0;
        let value = self.scale.number(spread.median);
        let ratios = ratios(self.results, &self.case.id);
        let own = ratios.iter().find(|ratio| ratio.system.id == row.system);
        match own.and_then(Ratio::spread) {
            Some(ratio) => {
                let text = format!("{value} · {}×", ratio_text(ratio.median));
                Text {
                    left,
                    font: SMALL_BOLD,
                    class: "accent",
                    text,
                }
            }
            None => Text {
                left,
                font: SMALL,
                class: "text",
                text: value,
            },
        }
    }

    fn bar(&self, svg: &mut Svg, system: &System, spread: Spread, y: f64) {
        let class = match system.side {
            Side::Tidegate => "tidegate",
            Side::Peer => "peer",
            Side::Baseline => "baseline",
        };
        let (range, unit) = (self.scale.range(spread), self.scale.symbol);
        let tip = format!("{}: {range} {unit}", system.title);
        let width = (self.x(spread.median) - self.left).max(1.0);
        svg.bar(
            (self.left, y + (LINE - BAR) / 2.0),
            (width, BAR),
            class,
            tip.trim(),
        );
        if spread.high > spread.low {
            self.whisker(svg, spread, y);
        }
    }

    fn whisker(&self, svg: &mut Svg, spread: Spread, y: f64) {
        let middle = y + LINE / 2.0;
        let (low, high) = (self.x(spread.low), self.x(spread.high.min(self.limit)));
        svg.line((low, middle), (high, middle), "whisker");
        // One that goes on has no end.
        let end = (spread.high <= self.limit).then_some(high);
        for x in [low].into_iter().chain(end) {
            svg.line((x, middle - 3.0), (x, middle + 3.0), "whisker");
        }
    }
}

impl Text {
    fn right(&self) -> f64 {
        self.left + self.font.width(&self.text)
    }
}
