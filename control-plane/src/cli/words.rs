//! How values of the API are put for people: ages, times to come, lists, numbers,
//! and text that came from elsewhere and may hold anything. Pure.

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What stands where there is nothing.
pub(crate) const NOTHING: &str = "-";

/// The value at a JSON pointer in words; a list with commas, labels as `k=v`.
pub(crate) fn at(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).map_or_else(|| NOTHING.into(), words)
}

/// A value in words.
pub(crate) fn words(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::String(text) => clean(text),
        Value::Array(list) => list.iter().map(words).collect::<Vec<_>>().join(","),
        Value::Object(fields) => {
            let pairs = fields
                .iter()
                .map(|(k, v)| format!("{}={}", clean(k), words(v)));
            pairs.collect::<Vec<_>>().join(",")
        }
        Value::Number(number) => number.to_string(),
    };
    if text.is_empty() {
        NOTHING.to_owned()
    } else {
        text
    }
}

/// Text without what could move the cursor or hide other text. An agent's words
/// reach the terminal of an operator.
pub(crate) fn clean(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .map(|c| if hidden(c) { '\u{fffd}' } else { c })
        .collect()
}

/// The same for text of several lines, whose ends stay.
pub(crate) fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

/// How long ago a time was: `3m`.
pub(crate) fn age(value: &Value, pointer: &str, now: OffsetDateTime) -> String {
    match instant(value, pointer) {
        Some(then) => span((now - then).whole_seconds()),
        None => NOTHING.into(),
    }
}

/// How far off a time is: `in 3h`, or `ended 2d ago`.
pub(crate) fn until(value: &Value, pointer: &str, now: OffsetDateTime) -> String {
    match instant(value, pointer) {
        Some(then) if then > now => format!("in {}", span((then - now).whole_seconds())),
        Some(then) => format!("ended {} ago", span((now - then).whole_seconds())),
        None => NOTHING.into(),
    }
}

fn instant(value: &Value, pointer: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(value.pointer(pointer)?.as_str()?, &Rfc3339).ok()
}

/// Seconds in their largest unit; two clocks that differ a little are no age.
fn span(seconds: i64) -> String {
    match seconds.max(0) {
        s @ ..120 => format!("{s}s"),
        s @ ..7_200 => format!("{}m", s / 60),
        s @ ..172_800 => format!("{}h", s / 3_600),
        s => format!("{}d", s / 86_400),
    }
}

/// A number of bytes: `1.5 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    // Ten bits at a time, so that the rest is exact in tenths.
    let mut whole = count;
    for unit in UNITS {
        let tenths = whole % 1024 * 10 / 1024;
        whole /= 1024;
        if whole < 1024 {
            return format!("{whole}.{tenths} {unit}");
        }
    }
    format!("{whole} PiB")
}

/// `1 agent`, `2 agents`.
pub(crate) fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::testing::noon;

    #[test]
    fn ages_are_told_in_their_largest_unit() {
        for (then, told) in [
            ("2026-11-01T12:00:05Z", "0s"),
            ("2026-11-01T11:59:30Z", "30s"),
            ("2026-11-01T11:57:00Z", "3m"),
            ("2026-11-01T07:00:00Z", "5h"),
            ("2026-10-20T12:00:00Z", "12d"),
            ("nonsense", "-"),
        ] {
            assert_eq!(age(&json!({ "at": then }), "/at", noon()), told, "{then}");
        }
        assert_eq!(age(&json!({}), "/at", noon()), "-");
    }

    #[test]
    fn times_to_come_and_times_gone_are_told_apart() {
        let value = json!({ "a": "2026-11-02T11:00:00Z", "b": "2026-10-30T11:00:00Z" });
        assert_eq!(until(&value, "/a", noon()), "in 23h");
        assert_eq!(until(&value, "/b", noon()), "ended 2d ago");
    }

    #[test]
    fn bytes_keep_a_tenth() {
        for (count, told) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (1 << 20, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16383 PiB"),
        ] {
            assert_eq!(bytes(count), told);
        }
    }

    #[test]
    fn lists_and_labels_are_one_cell() {
        let value = json!({ "roles": ["balancer", "terminator"], "labels": { "tier": "edge" }, "none": [] });
        assert_eq!(at(&value, "/roles"), "balancer,terminator");
        assert_eq!(at(&value, "/labels"), "tier=edge");
        assert_eq!(at(&value, "/none"), "-");
        assert_eq!(at(&value, "/absent"), "-");
    }

    #[test]
    fn text_from_elsewhere_cannot_move_the_cursor() {
        let shown = words(&json!("up\u{1b}[2Jdown\r\n\u{202e}x"));
        assert_eq!(shown, "up\u{fffd}[2Jdown\u{fffd}\u{fffd}\u{fffd}x");
    }
}
