//! Prometheus text, as far as tests read it: names, labels, numbers.

/// All samples of one reading.
#[derive(Debug, Clone)]
pub struct Metrics(Vec<Sample>);

#[derive(Debug, Clone)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Metrics {
    /// Reads the text format; a line that is none of it is a panic.
    pub fn parse(text: &str) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(
            samples
                .map(|line| parse_sample(line).unwrap_or_else(|| panic!("{line}")))
                .collect(),
        )
    }

    /// The sum of the samples of `name` that have all these labels; 0 without any.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &Sample, (key, value): &(&str, &str)| {
            sample.labels.iter().any(|(k, v)| k == key && v == value)
        };
        self.0
            .iter()
            .filter(|s| s.name == name && labels.iter().all(|label| has(s, label)))
            .map(|s| s.value)
            .sum()
    }

    /// Connections that ended for `cause`.
    pub fn closed(&self, cause: &str) -> f64 {
        self.sum("tidegate_connections_closed_total", &[("cause", cause)])
    }

    /// Connections that live.
    pub fn live(&self) -> f64 {
        self.sum("tidegate_connections_live", &[])
    }

    /// Every value of a label, over all metrics.
    pub fn label_values(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .flat_map(|s| s.labels.iter().map(|(_, value)| value.as_str()))
    }
}

fn parse_sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, rest)) => (name, parse_labels(rest.strip_suffix('}')?)?),
        None => (series, Vec::new()),
    };
    Some(Sample {
        name: name.to_owned(),
        labels,
        value: value.parse().ok()?,
    })
}

/// `a="b",c="d"`. Values here never hold a quote.
fn parse_labels(mut rest: &str) -> Option<Vec<(String, String)>> {
    let mut labels = Vec::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_once("=\"")?;
        let (value, after) = after.split_once('"')?;
        labels.push((key.to_owned(), value.to_owned()));
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_label() {
        let text = "# TYPE a counter\na{l=\"x\",c=\"y\"} 2\na{l=\"x\",c=\"z\"} 3\nb 7\n# EOF\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.sum("a", &[]), 5.0);
        assert_eq!(metrics.sum("a", &[("c", "z"), ("l", "x")]), 3.0);
        assert_eq!(metrics.sum("a", &[("c", "other")]), 0.0);
        assert_eq!(metrics.sum("b", &[]), 7.0);
    }
}
