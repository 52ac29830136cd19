//! Where a command writes, and what it may assume of the reader: colours only on a
//! terminal, explanations apart from results, so that results can be piped.

use std::io::{self, IsTerminal, Stderr, Stdout, Write};

use time::OffsetDateTime;

/// Standard output and error, or a test's.
pub(crate) struct Screen<'a> {
    /// The result.
    out: Box<dyn Write + 'a>,
    /// What explains it.
    notes: Box<dyn Write + 'a>,
    /// Whether somebody looks at `out`.
    terminal: bool,
    colours: bool,
    /// The time that ages are told by.
    clock: fn() -> OffsetDateTime,
}

/// What a line of a difference is about.
#[derive(Clone, Copy)]
pub(crate) enum Mark {
    Added,
    Removed,
    Changed,
}

impl Mark {
    /// The sign at the beginning of the line.
    pub(crate) fn sign(self) -> char {
        match self {
            Self::Added => '+',
            Self::Removed => '-',
            Self::Changed => '~',
        }
    }

    /// ANSI: green, red, yellow.
    fn colour(self) -> &'static str {
        match self {
            Self::Added => "\x1b[32m",
            Self::Removed => "\x1b[31m",
            Self::Changed => "\x1b[33m",
        }
    }
}

impl Screen<'static> {
    /// This process's own. `NO_COLOR` (no-color.org) is honoured.
    pub(crate) fn of_this_process() -> Self {
        let out: Stdout = io::stdout();
        let notes: Stderr = io::stderr();
        let terminal = out.is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self {
            out: Box::new(out),
            notes: Box::new(notes),
            terminal,
            colours: terminal && !plain,
            clock: OffsetDateTime::now_utc,
        }
    }
}

impl<'a> Screen<'a> {
    /// One for a test: without colours, at a fixed time.
    #[cfg(test)]
    pub(crate) fn of_a_test(
        out: &'a mut Vec<u8>,
        notes: &'a mut Vec<u8>,
        clock: fn() -> OffsetDateTime,
    ) -> Self {
        Self {
            out: Box::new(out),
            notes: Box::new(notes),
            terminal: false,
            colours: false,
            clock,
        }
    }

    /// Now.
    pub(crate) fn now(&self) -> OffsetDateTime {
        (self.clock)()
    }

    /// Whether somebody looks at the result, and could see it redrawn.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// A line of the result; several when it holds line ends.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.out, "{}", text.as_ref())
    }

    /// The result as it is.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    /// A line that explains, and is not part of the result.
    pub(crate) fn note(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.notes, "{}", text.as_ref())
    }

    /// `text` in the colour of a mark, where colours are shown.
    pub(crate) fn paint(&self, mark: Mark, text: &str) -> String {
        if self.colours {
            format!("{}{text}\x1b[0m", mark.colour())
        } else {
            text.to_owned()
        }
    }

    /// Begins the terminal's page anew.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.raw(b"\x1b[H\x1b[2J\x1b[3J")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals() {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let mut screen = Screen::of_a_test(&mut out, &mut notes, OffsetDateTime::now_utc);
        assert_eq!(screen.paint(Mark::Added, "+ x"), "+ x");
        screen.colours = true;
        assert_eq!(screen.paint(Mark::Added, "+ x"), "\x1b[32m+ x\x1b[0m");
    }
}
