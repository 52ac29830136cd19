//! Writes SVG: the few shapes a bar chart is made of, text that is known to fit, and
//! the colours, for light and dark pages. What is drawn where is `chart`'s affair.

use std::fmt::Write as _;

/// Of the whole drawing; its height is up to its content.
pub(super) const WIDTH: f64 = 860.0;

/// A drawing in the making.
pub(super) struct Svg(String);

/// How big text is written, and how strong.
#[derive(Clone, Copy)]
pub(super) struct Font {
    pub(super) size: f64,
    pub(super) bold: bool,
}

/// A page chooses by itself; no script, no fonts from elsewhere.
const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;\
font-variant-numeric:tabular-nums}\
.page{fill:#fff;stroke:#d5dce4}.text{fill:#1b2530}.muted{fill:#5b6875}.accent{fill:#00796b}\
.warning{fill:#b3261e}.tidegate{fill:#00897b}.peer{fill:#9db0c4}.baseline{fill:#dde5ec}\
.own{fill:#00897b;fill-opacity:.08}.axis{stroke:#c3cdd7}.whisker{stroke:#1b2530;stroke-opacity:.65}\
.best{stroke:#5b6875;stroke-dasharray:2 3}\
@media (prefers-color-scheme:dark){\
.page{fill:#0f161d;stroke:#2b3743}.text{fill:#e4ebf1}.muted{fill:#93a1af}.accent{fill:#3fd5c4}\
.warning{fill:#ff8a80}.tidegate{fill:#26b8a8}.peer{fill:#566b81}.baseline{fill:#2b3947}\
.own{fill:#26b8a8;fill-opacity:.11}.axis{stroke:#3b4957}.whisker{stroke:#e4ebf1}.best{stroke:#93a1af}}";

impl Svg {
    pub(super) fn new() -> Self {
        Self(String::new())
    }

    /// The file: `title` and `description` are what a screen reader says.
    pub(super) fn finish(self, height: f64, title: &str, description: &str) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-labelledby=\"title description\">\n\
             <title id=\"title\">{}</title>\n<desc id=\"description\">{}</desc>\n<style>{STYLE}</style>\n\
             <rect class=\"page\" x=\"0.5\" y=\"0.5\" width=\"{:.1}\" height=\"{:.1}\" rx=\"8\"/>\n\
             {}</svg>\n",
            escape(title),
            escape(description),
            WIDTH - 1.0,
            height - 1.0,
            self.0
        )
    }

    /// Text that begins at `x`, with its base line at `y`.
    pub(super) fn text(&mut self, (x, y): (f64, f64), font: Font, class: &str, text: &str) {
        self.anchored((x, y), font, class, "start", text);
    }

    /// Text that ends at `x`.
    pub(super) fn text_before(&mut self, (x, y): (f64, f64), font: Font, class: &str, text: &str) {
        self.anchored((x, y), font, class, "end", text);
    }

    fn anchored(&mut self, at: (f64, f64), font: Font, class: &str, anchor: &str, text: &str) {
        let weight = if font.bold {
            " font-weight=\"600\""
        } else {
            ""
        };
        let anchor = if anchor == "start" {
            ""
        } else {
            " text-anchor=\"end\""
        };
        let _ = writeln!(
            self.0,
            "<text class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" font-size=\"{}\"{weight}{anchor}>{}</text>",
            at.0,
            at.1,
            font.size,
            escape(text)
        );
    }

    /// A filled rectangle; `tip` is shown where the file is opened by itself.
    pub(super) fn bar(
        &mut self,
        (x, y): (f64, f64),
        (width, height): (f64, f64),
        class: &str,
        tip: &str,
    ) {
        let tip = if tip.is_empty() {
            String::new()
        } else {
            format!("<title>{}</title>", escape(tip))
        };
        let _ = writeln!(
            self.0,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\" rx=\"2\">{tip}</rect>"
        );
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let _ = writeln!(
            self.0,
            "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
            from.0, from.1, to.0, to.1
        );
    }
}

impl Font {
    pub(super) const fn plain(size: f64) -> Self {
        Self { size, bold: false }
    }

    pub(super) const fn bold(size: f64) -> Self {
        Self { size, bold: true }
    }

    /// An upper estimate: which font a page has is not known.
    pub(super) fn width(self, text: &str) -> f64 {
        let weight = if self.bold { 1.08 } else { 1.0 };
        text.chars().map(em).sum::<f64>() * self.size * weight
    }

    /// The text, cut where it would be wider than that.
    pub(super) fn cut(self, text: &str, width: f64) -> String {
        if self.width(text) <= width {
            return text.to_owned();
        }
        let mut kept = String::new();
        for character in text.chars() {
            kept.push(character);
            if self.width(&format!("{kept}…")) > width {
                kept.pop();
                break;
            }
        }
        format!("{}…", kept.trim_end())
    }

    /// The text on at most `most` lines, the last of them cut if it must be.
    pub(super) fn wrap(self, text: &str, width: f64, most: usize) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for word in text.split_whitespace() {
            match lines.last_mut() {
                Some(line) if self.width(&format!("{line} {word}")) <= width => {
                    line.push(' ');
                    line.push_str(word);
                }
                _ => lines.push(word.to_owned()),
            }
        }
        if lines.len() > most {
            let rest = lines.split_off(most.saturating_sub(1)).join(" ");
            lines.push(rest);
        }
        lines.iter().map(|line| self.cut(line, width)).collect()
    }
}

fn em(character: char) -> f64 {
    match character {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | ' ' => 0.32,
        'f' | 'r' | 't' | '(' | ')' | '[' | ']' | '-' | '/' => 0.42,
        'm' | 'w' | 'M' | 'W' | '@' | '%' | '—' | '→' | '…' | '+' | '×' => 0.92,
        _ if character.is_ascii_uppercase() => 0.72,
        _ if character.is_ascii() || character.is_alphabetic() => 0.61,
        _ => 1.0,
    }
}

/// Text for XML: what is markup is written as entities, what XML forbids is left out.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\r' | '\t' => escaped.push(' '),
            _ if character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}') => {}
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_to_its_room() {
        let font = Font::plain(12.0);
        let cut = font.cut("OpenSSL 3.0 has no ML-KEM, and this goes on", 120.0);
        assert!(cut.ends_with('…') && cut.starts_with("OpenSSL"), "{cut}");
        assert!(font.width(&cut) <= 120.0);
        assert_eq!(font.cut("short", 120.0), "short");
    }

    #[test]
    fn text_wraps_at_words_and_cuts_the_last_line() {
        let lines = Font::plain(12.0).wrap("one two three four five six seven", 60.0, 2);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0], "one two");
        assert!(lines[1].ends_with('…'), "{lines:?}");
    }

    #[test]
    fn markup_and_what_xml_forbids_do_not_reach_the_file() {
        assert_eq!(
            escape("a<b>&\"c\"|\n\u{7}d"),
            "a&lt;b&gt;&amp;&quot;c&quot;| d"
        );
    }
}
