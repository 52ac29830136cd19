//! Bars for one topic: systems down the page, its cases side by side, each with its own
//! scale from zero. Tidegate has the accent colour, a dashed line marks the best peer,
//! whiskers reach from the lowest to the highest round.
//!
//! Cases stand in one [`Band`] when mostly the same systems answered them.

use crate::report::panel::{LINE, Panel};
use crate::report::ratio::{ratios, usable};
use crate::report::svg::{Font, Svg, WIDTH};
use crate::report::topic::{Topic, topics};
use crate::results::{Case, Outcome, Results, Scenario, Side, System};

/// One drawing, for a README or a page.
#[derive(Clone, Debug)]
pub struct Chart {
    /// `l4.svg`.
    pub file_name: String,
    /// Also says it to who cannot see the drawing.
    pub title: String,
    /// Whose section it belongs to.
    pub scenario: Scenario,
    /// The content of the file.
    pub svg: String,
}

/// A chart for each topic in which any system has a figure.
pub fn charts(results: &Results) -> Vec<Chart> {
    let topics = topics(results).into_iter();
    let told = topics.filter(|topic| topic.cases.iter().any(|case| has_figure(results, case)));
    let chart = |topic: Topic<'_>| Chart {
        file_name: topic.file_name.to_owned(),
        title: topic.title.to_owned(),
        scenario: topic.scenario,
        svg: draw(results, &topic),
    };
    told.map(chart).collect()
}

const MARGIN: f64 = 24.0;
const GAP: f64 = 24.0;
/// Cases side by side; with more, bars get too short to compare.
const ABREAST: usize = 3;

const TITLE: Font = Font::bold(18.0);
const NAME: Font = Font::plain(12.5);
const OWN_NAME: Font = Font::bold(12.5);
const SMALL: Font = Font::plain(11.5);
const SMALL_BOLD: Font = Font::bold(11.5);

/// Cases side by side, with one list of systems.
struct Band<'a> {
    cases: Vec<&'a Case>,
    lines: Vec<Line<'a>>,
}

enum Line<'a> {
    /// The systems below do the same work.
    Group(&'a str),
    System(&'a System, &'a str),
}

fn draw(results: &Results, topic: &Topic<'_>) -> String {
    let mut svg = Svg::new();
    let mut y = head(&mut svg, results, topic);
    for band in bands(results, &topic.cases) {
        y = draw_band(&mut svg, results, &band, y);
    }
    let cases = topic
        .cases
        .iter()
        .flat_map(|case| ratios(results, &case.id));
    let description: Vec<_> = cases.map(|ratio| format!("{ratio}.")).collect();
    svg.text(
        (MARGIN, y + 4.0),
        SMALL,
        "muted",
        &SMALL.cut(&origin(results), WIDTH - 2.0 * MARGIN),
    );
    svg.finish(y + 22.0, topic.title, &description.join(" "))
}

/// Title, what the bars mean, and the legend.
fn head(svg: &mut Svg, results: &Results, topic: &Topic<'_>) -> f64 {
    svg.text(
        (MARGIN, 38.0),
        TITLE,
        "text",
        &TITLE.cut(topic.title, WIDTH - 2.0 * MARGIN),
    );
    let rounds = match rounds(results, topic) {
        0 | 1 => "One round".to_owned(),
        many => format!("Median of {many} rounds, whiskers from the lowest to the highest"),
    };
    svg.text(
        (MARGIN, 59.0),
        SMALL,
        "muted",
        &format!("Less is better. {rounds}."),
    );
    let mut right = WIDTH - MARGIN;
    for (class, name) in [
        ("", "best peer"),
        ("baseline", "baseline"),
        ("peer", "peer"),
        ("tidegate", "Tidegate"),
    ] {
        svg.text_before((right, 59.0), SMALL, "muted", name);
        right -= SMALL.width(name) + 16.0;
        if class.is_empty() {
            svg.line((right + 5.0, 47.0), (right + 5.0, 62.0), "best");
        } else {
            svg.bar((right, 50.0), (10.0, 10.0), class, "");
        }
        right -= 16.0;
    }
    if results.smoke {
        let text = "A smoke run: its figures say nothing.";
        svg.text((MARGIN, 80.0), SMALL_BOLD, "warning", text);
        return 108.0;
    }
    90.0
}

/// How often what the topic shows was measured: scenarios differ in that.
fn rounds(results: &Results, topic: &Topic<'_>) -> usize {
    let rows = results.rows.iter().filter_map(|row| {
        let case = topic.cases.iter().find(|case| case.id == row.case)?;
        match &row.outcome {
            Outcome::Measured(metrics) => Some(metrics.get(&case.headline)?.len()),
            Outcome::Absent(_) | Outcome::Failed(_) => None,
        }
    });
    rows.max().unwrap_or(0)
}

fn origin(results: &Results) -> String {
    let day = results.started.split('T').next().unwrap_or_default();
    let machine = &results.machine;
    format!(
        "{day} · Tidegate {} · {}, {} processors · {}",
        results.commit, machine.processor, machine.processors, machine.kernel
    )
}

fn has_figure(results: &Results, case: &Case) -> bool {
    let mut rows = results.rows.iter().filter(|row| row.case == case.id);
    rows.any(|row| usable(row, &case.headline).is_some())
}

/// Splits the cases so that few cells of a band are empty.
fn bands<'a>(results: &'a Results, cases: &[&'a Case]) -> Vec<Band<'a>> {
    let mut clusters: Vec<Vec<&Case>> = Vec::new();
    for &case in cases.iter().filter(|case| has_figure(results, case)) {
        let alike = clusters.iter_mut().find(|cluster| {
            cluster
                .first()
                .is_some_and(|first| answered_alike(results, first, case))
        });
        match alike {
            Some(cluster) => cluster.push(case),
            None => clusters.push(vec![case]),
        }
    }
    let abreast = |cluster: &[&Case]| {
        cluster
            .len()
            .div_ceil(cluster.len().div_ceil(ABREAST).max(1))
    };
    let parts = clusters
        .iter()
        .flat_map(|cluster| cluster.chunks(abreast(cluster).max(1)));
    parts
        .map(|part| Band {
            cases: part.to_vec(),
            lines: lines(results, part),
        })
        .collect()
}

fn answered_alike(results: &Results, a: &Case, b: &Case) -> bool {
    let in_case = |case: &Case, system: &System| results.row(&case.id, &system.id).is_some();
    let both = results
        .systems
        .iter()
        .filter(|s| in_case(a, s) && in_case(b, s))
        .count();
    let either = results
        .systems
        .iter()
        .filter(|s| in_case(a, s) || in_case(b, s))
        .count();
    both * 2 > either
}

/// Systems with a row in any of the cases, group by group when there are several.
fn lines<'a>(results: &'a Results, cases: &[&Case]) -> Vec<Line<'a>> {
    let mut groups: Vec<(&str, Vec<Line<'_>>)> = Vec::new();
    for system in &results.systems {
        for row in cases
            .iter()
            .filter_map(|case| results.row(&case.id, &system.id))
        {
            let known = groups.iter().position(|(name, _)| *name == row.group);
            let index = known.unwrap_or_else(|| {
                groups.push((&row.group, Vec::new()));
                groups.len() - 1
            });
            let Some((name, members)) = groups.get_mut(index) else {
                continue;
            };
            let listed = members
                .iter()
                .any(|m| matches!(m, Line::System(s, _) if s.id == system.id));
            if !listed {
                members.push(Line::System(system, name));
            }
        }
    }
    let several = groups.len() > 1;
    let with_head = groups.into_iter().map(|(name, members)| {
        several
            .then_some(Line::Group(name))
            .into_iter()
            .chain(members)
    });
    with_head.flatten().collect()
}

fn draw_band(svg: &mut Svg, results: &Results, band: &Band<'_>, top: f64) -> f64 {
    let names = band.lines.iter().map(|line| match line {
        Line::Group(name) => SMALL.width(name),
        Line::System(system, _) => font_of(system).width(&system.title),
    });
    let names = names.fold(120.0, f64::max).min(290.0);
    let panels = panels(results, band, names);
    let head = panels
        .iter()
        .map(|panel| panel.head(svg, top))
        .fold(top, f64::max);
    let mut y = head;
    for (index, line) in band.lines.iter().enumerate() {
        match line {
            Line::Group(name) => {
                y += if index == 0 { 0.0 } else { 6.0 };
                svg.text((MARGIN, y + 15.0), SMALL, "muted", &SMALL.cut(name, names));
            }
            Line::System(system, group) => {
                if index == 0 || matches!(band.lines.get(index - 1), Some(Line::Group(_))) {
                    let bottom = y + LINE * members(band, group);
                    panels.iter().for_each(|panel| panel.axis(svg, y, bottom));
                }
                draw_line(svg, &panels, system, group, y, names);
            }
        }
        y += LINE;
    }
    y + 26.0
}

fn members(band: &Band<'_>, group: &str) -> f64 {
    let own = band
        .lines
        .iter()
        .filter(|line| matches!(line, Line::System(_, g) if *g == group));
    own.map(|_| 1.0).sum()
}

fn draw_line(
    svg: &mut Svg,
    panels: &[Panel<'_>],
    system: &System,
    group: &str,
    y: f64,
    names: f64,
) {
    let ours = system.side == Side::Tidegate;
    if ours {
        svg.bar(
            (MARGIN - 8.0, y + 0.5),
            (WIDTH - 2.0 * MARGIN + 16.0, LINE - 1.0),
            "own",
            "",
        );
    }
    let class = if ours { "accent" } else { "text" };
    let font = font_of(system);
    svg.text(
        (MARGIN, y + 15.5),
        font,
        class,
        &font.cut(&system.title, names),
    );
    for panel in panels {
        panel.row(svg, system, group, y);
    }
}

fn font_of(system: &System) -> Font {
    if system.side == Side::Tidegate {
        OWN_NAME
    } else {
        NAME
    }
}

fn panels<'a>(results: &'a Results, band: &Band<'a>, names: f64) -> Vec<Panel<'a>> {
    let count: f64 = band.cases.iter().map(|_| 1.0).sum();
    let width = (WIDTH - 2.0 * MARGIN - names - GAP * count) / count;
    let lefts = std::iter::successors(Some(MARGIN + names + GAP), |left| Some(left + width + GAP));
    let cases = band.cases.iter().zip(lefts);
    cases
        .map(|(case, left)| Panel::new(results, case, left, width))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::Sample;

    fn drawn(sample: Sample) -> Vec<Chart> {
        let charts = charts(&sample.results());
        charts.iter().for_each(|chart| well_formed(&chart.svg));
        charts
    }

    /// Elements nest and end, and text holds no markup.
    fn well_formed(svg: &str) {
        let mut open = Vec::new();
        for part in svg.split('<').skip(1) {
            let (tag, text) = part.split_once('>').expect("a tag ends");
            assert!(!text.contains('>'), "{part}");
            for entity in part.split('&').skip(1) {
                let name = entity.split_once(';').expect("an entity ends").0;
                assert!(["amp", "lt", "gt", "quot"].contains(&name), "{part}");
            }
            let name = tag.split([' ', '\n']).next().unwrap();
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "{part}");
            } else if !tag.ends_with('/') {
                open.push(name);
            }
            assert!(tag.matches('"').count().is_multiple_of(2), "{part}");
        }
        assert!(open.is_empty(), "{open:?}");
        assert!(
            svg.starts_with("<svg ") && !svg.contains("NaN") && !svg.contains("inf"),
            "{svg}"
        );
    }

    fn tcp() -> Sample {
        Sample::tcp_short()
            .measured("direct", "tcp", &[4.0, 4.1, 4.2])
            .measured("nginx", "tcp", &[10.0, 10.5, 11.0])
            .measured("tidegate", "tcp", &[8.0, 8.4, 8.8])
            .absent("haproxy", "tcp", "no <splice> & no \"pipe\" | here, in words that go on and on and on and on and on and on, much further than a chart is wide")
    }

    #[test]
    fn a_chart_shows_figures_ratios_and_reasons() {
        let charts = drawn(tcp());
        assert_eq!(charts.len(), 1);
        assert_eq!(charts[0].file_name, "l4.svg");
        let svg = &charts[0].svg;
        for part in [
            "<title id=\"title\">TCP: processor time of the proxy</title>",
            "tidegate balancer 0.80 × nginx stream (0.80-0.80).</desc>",
            ">short TCP connection</text>",
            ">CPU, µs per connection</text>",
            ">10.5</text>",
            ">8.40 · 0.80×</text>",
            "<title>nginx stream: 10.5 (10.0–11.0) µs</title>",
            ">— no &lt;splice&gt; &amp; no &quot;pipe&quot; | here, in words",
            "…</text>",
            "Median of 3 rounds",
            "prefers-color-scheme:dark",
        ] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
    }

    #[test]
    fn a_topic_without_a_figure_gives_no_file() {
        assert!(drawn(Sample::tcp_short()).is_empty());
        assert!(drawn(Sample::tcp_short().absent("nginx", "tcp", "none")).is_empty());
        assert!(drawn(Sample::tcp_short().measured("nginx", "tcp", &[f64::NAN])).is_empty());
    }

    #[test]
    fn one_round_has_no_whiskers_and_a_smoke_run_says_so() {
        let sample = Sample::tcp_short()
            .measured("nginx", "tcp", &[10.0])
            .with(|results| {
                results.rounds = 1;
                results.smoke = true;
            });
        let svg = &drawn(sample)[0].svg;
        assert!(!svg.contains("class=\"whisker\""), "{svg}");
        assert!(
            svg.contains("Less is better. One round.") && svg.contains("A smoke run"),
            "{svg}"
        );
    }

    #[test]
    fn zeros_and_outliers_can_be_drawn() {
        let zero = Sample::tcp_short()
            .measured("nginx", "tcp", &[0.0, 0.0])
            .measured("tidegate", "tcp", &[0.0, 0.0]);
        assert!(drawn(zero)[0].svg.contains(">0</text>"));
        let wild = tcp().measured("haproxy-noisy", "tcp", &[1.0]).case(
            Scenario::Cores,
            "tcp-bulk",
            "bulk",
            "GiB",
            "cpu_us",
        );
        let wild = wild.measured("nginx", "tcp", &[1.0, 2.0, f64::INFINITY]);
        drawn(wild.measured("tidegate", "tcp", &[-1.0, 1.0, 9e9]));
    }

    #[test]
    fn cases_of_the_same_systems_stand_abreast_and_others_below() {
        let case =
            |sample: Sample, id: &str| sample.case(Scenario::Cores, id, id, "unit", "cpu_us");
        let mut sample = Sample::tcp_short().with(|results| results.cases.clear());
        for id in ["tcp-a", "tcp-b", "tcp-c", "tcp-d"] {
            sample = case(sample, id).measured("nginx", "tcp", &[1.0]);
        }
        sample = case(sample, "tcp-e").measured("haproxy", "tcp", &[1.0]);
        let results = sample.results();
        let cases: Vec<_> = results.cases.iter().collect();
        let bands = bands(&results, &cases);
        let ids = |band: &Band<'_>| band.cases.iter().map(|c| c.id.clone()).collect::<Vec<_>>();
        let ids: Vec<_> = bands.iter().map(ids).collect();
        assert_eq!(
            ids,
            [
                vec!["tcp-a", "tcp-b"],
                vec!["tcp-c", "tcp-d"],
                vec!["tcp-e"]
            ]
        );
    }

    #[test]
    fn groups_have_heads_when_there_are_several() {
        let sample = tcp().with(|results| results.rows[1].group = "http".to_owned());
        let svg = &drawn(sample)[0].svg;
        assert!(
            svg.contains(">tcp</text>") && svg.contains(">http</text>"),
            "{svg}"
        );
    }
}
