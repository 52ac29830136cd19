//! `top`: which clients do most. Counts are estimates with known bounds, except
//! live connections, which are exact.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::cli::client::{Call, Client};
use crate::cli::connection::Given;
use crate::cli::error::Error;
use crate::cli::screen::Screen;
use crate::cli::table::grid;
use crate::cli::words::{bytes, clean};

/// Agents report every few seconds: faster shows nothing new.
const REDRAW: Duration = Duration::from_secs(2);

/// `tidegate top`.
#[derive(Args)]
pub(crate) struct Top {
    #[command(flatten)]
    given: Given,

    /// What clients are ranked by.
    #[arg(long, value_enum, default_value_t = By::Connections)]
    by: By,

    /// The same as --by live: who is connected now.
    #[arg(long, conflicts_with = "by")]
    live: bool,

    /// Over how long.
    #[arg(long, value_enum, default_value_t = Window::Minute)]
    window: Window,

    /// How many clients.
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,

    /// Go on, and draw it again when there is something new.
    #[arg(short, long)]
    watch: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum By {
    Connections,
    Bytes,
    HandshakeFailures,
    Refused,
    Live,
}

#[derive(Clone, Copy, ValueEnum)]
enum Window {
    #[value(name = "1m")]
    Minute,
    #[value(name = "1h")]
    Hour,
    #[value(name = "24h")]
    Day,
}

#[derive(Deserialize)]
struct Ranking {
    #[serde(default)]
    total: u64,
    #[serde(default)]
    bound: u64,
    items: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    client: String,
    count: u64,
    #[serde(default)]
    error: u64,
}

impl By {
    fn query(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Bytes => "bytes",
            Self::HandshakeFailures => "handshake_failures",
            Self::Refused => "refused",
            Self::Live => "live",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Bytes => "bytes",
            Self::HandshakeFailures => "failed handshakes",
            Self::Refused => "refused connections",
            Self::Live => "live connections",
        }
    }

    fn count(self, count: u64) -> String {
        match self {
            Self::Bytes => bytes(count),
            _ => count.to_string(),
        }
    }
}

impl Window {
    fn query(self) -> &'static str {
        match self {
            Self::Minute => "1m",
            Self::Hour => "1h",
            Self::Day => "24h",
        }
    }
}

impl Top {
    pub(crate) async fn run(self, screen: &mut Screen<'_>) -> Result<(), Error> {
        let client = self.given.client()?;
        let by = if self.live { By::Live } else { self.by };
        let mut page = self.page(&client, by).await?;
        // Ctrl-C ends it, as it ends any program.
        while self.watch && screen.is_terminal() {
            screen.clear()?;
            screen.line(page)?;
            tokio::time::sleep(REDRAW).await;
            page = self.page(&client, by).await?;
        }
        screen.line(page)?;
        Ok(())
    }

    async fn page(&self, client: &Client, by: By) -> Result<String, Error> {
        let call = Call::get(&["ip-stats", "top"])
            .query("by", by.query())
            .query("window", self.window.query())
            .query("limit", self.limit.to_string());
        let ranking: Ranking = client.send(call).await?.json()?;
        Ok(page(&ranking, by, self.window))
    }
}

fn page(ranking: &Ranking, by: By, window: Window) -> String {
    let over = match by {
        By::Live => "now".to_owned(),
        _ => format!("in {}", window.query()),
    };
    let head = format!(
        "{} {over}: {} of all clients together",
        by.words(),
        by.count(ranking.total)
    );
    if ranking.items.is_empty() {
        return format!("{head}\nno client yet");
    }
    if by == By::Live {
        let rows = ranking.items.iter();
        let rows = rows.map(|row| [clean(&row.client), by.count(row.count)]);
        return format!("{head}\n\n{}", grid(["CLIENT", "LIVE"], rows));
    }
    let rows = ranking.items.iter().map(|row| {
        let least = row.count.saturating_sub(row.error);
        [clean(&row.client), by.count(least), by.count(row.count)]
    });
    format!(
        "{head}\n\n{}\n\nwho is not listed has {} at most",
        grid(["CLIENT", "AT LEAST", "AT MOST"], rows),
        by.count(ranking.bound)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::testing::{Captured, Rest};

    #[tokio::test]
    async fn a_count_is_shown_with_its_bounds() {
        let rest = Rest::start().await;
        let answer = json!({ "by": "bytes", "window": "1h", "total": 4096, "bound": 10, "items": [
            { "client": "10.0.0.1", "count": 3072, "error": 1024 },
            { "client": "2001:db8::/64", "count": 100, "error": 0 },
        ] });
        rest.answer("GET /ip-stats/top", 200, &answer);
        let top = Top {
            given: Given::default(),
            by: By::Bytes,
            live: false,
            window: Window::Hour,
            limit: 5,
            watch: true,
        };
        let page = top.page(&rest.client(), By::Bytes).await.unwrap();
        assert_eq!(
            page,
            "bytes in 1h: 4.0 KiB of all clients together\n\n\
             CLIENT         AT LEAST  AT MOST\n\
             10.0.0.1       2.0 KiB   3.0 KiB\n\
             2001:db8::/64  100 B     100 B\n\n\
             who is not listed has 10 B at most"
        );
        assert_eq!(
            rest.seen()[0].line,
            "GET /ip-stats/top?by=bytes&window=1h&limit=5"
        );
        // A page for a file or a pipe is drawn once, also when it should be watched.
        assert!(!Captured::default().screen().is_terminal());
    }

    #[test]
    fn live_connections_are_exact() {
        let ranking: Ranking = serde_json::from_value(
            json!({ "total": 3, "items": [{ "client": "10.0.0.1", "count": 3 }] }),
        )
        .unwrap();
        let page = page(&ranking, By::Live, Window::Minute);
        assert!(page.starts_with("live connections now: 3"), "{page}");
        assert!(!page.contains("AT MOST"), "{page}");
    }
}
