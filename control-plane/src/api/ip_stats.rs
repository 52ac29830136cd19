//! Clients: who did most, and what one did. Amounts are those of bounded summaries,
//! so each comes with how wrong it may be; connections now are exact.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::extract::State;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tidegate_core::addr::ClientKey;
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Api;
use super::answer::Tagged;
use super::auth::{Caller, Viewer};
use super::extract::{Asked, Place};
use super::problem::Problem;
use crate::clock;
use crate::picture;
use crate::store::{LiveAt, Ranked, WindowSum};

/// What clients are ranked by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Measure {
    #[default]
    Connections,
    Bytes,
    HandshakeFailures,
    Refused,
    /// Connections now, where they enter the fleet: exact, of the agents that still
    /// report.
    Live,
}

impl Measure {
    /// Those that are summed up over time.
    const SUMMED: [Self; 4] = [
        Self::Connections,
        Self::Bytes,
        Self::HandshakeFailures,
        Self::Refused,
    ];

    /// As stored.
    fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Bytes => "bytes",
            Self::HandshakeFailures => "handshake_failures",
            Self::Refused => "refused",
            Self::Live => "live",
        }
    }
}

/// How far back from now, in whole minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) enum Window {
    #[serde(rename = "1m")]
    Minute,
    #[default]
    #[serde(rename = "1h")]
    Hour,
    #[serde(rename = "24h")]
    Day,
}

impl Window {
    const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "1m",
            Self::Hour => "1h",
            Self::Day => "24h",
        }
    }

    /// Where it begins. Amounts are kept by the minute, and the minute it begins in
    /// counts whole: a window is a little longer than it says, never shorter.
    fn since(self, now: OffsetDateTime) -> OffsetDateTime {
        let length = match self {
            Self::Minute => Duration::MINUTE,
            Self::Hour => Duration::HOUR,
            Self::Day => Duration::DAY,
        };
        let since = now - length;
        since
            - Duration::nanoseconds(since.nanosecond().into())
            - Duration::seconds(since.second().into())
    }
}

/// The query of a ranking.
#[derive(Clone, Copy, Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct TopQuery {
    /// `connections` unless written.
    #[param(inline)]
    by: Measure,
    /// `1h` unless written; plays no part for `live`.
    #[param(inline)]
    window: Window,
    /// How many: 50 unless written, 1000 at most.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: u32,
}

impl Default for TopQuery {
    fn default() -> Self {
        Self {
            by: Measure::default(),
            window: Window::default(),
            limit: 50,
        }
    }
}

/// Those who did most.
#[derive(Serialize, ToSchema)]
pub(super) struct Top {
    by: Measure,
    /// Absent for `live`, which is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<Window>,
    /// The whole minute it begins with.
    #[serde(with = "time::serde::rfc3339")]
    from: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    to: OffsetDateTime,
    /// Of all clients, exact.
    total: u64,
    /// What each client may have beyond its `count`, in minutes and on agents where
    /// others did more; a client that is nowhere counted had this at most.
    bound: u64,
    /// Most first.
    items: Vec<Counted>,
}

/// A client with what it did: at least `count - error`, at most `count + bound`.
#[derive(Serialize, ToSchema)]
pub(super) struct Counted {
    /// An IPv4 address or an IPv6 /64.
    client: String,
    count: u64,
    error: u64,
}

/// What one client did.
#[derive(Serialize, ToSchema)]
pub(super) struct Client {
    /// The IPv4 address or the IPv6 /64 it is counted under.
    client: String,
    /// Where it is connected now.
    live: Vec<Live>,
    /// By window (`1m`, `1h`, `24h`) and measure (`connections`, `bytes`,
    /// `handshake_failures`, `refused`).
    windows: BTreeMap<&'static str, BTreeMap<&'static str, Amount>>,
}

/// Connections of a client now.
#[derive(Serialize, ToSchema)]
pub(super) struct Live {
    listener: String,
    agent: Uuid,
    live: u64,
}

/// At least `count - error`, at most `count + bound`.
#[derive(Clone, Copy, Default, Serialize, ToSchema)]
pub(super) struct Amount {
    count: u64,
    error: u64,
    bound: u64,
}

/// Who did most.
#[utoipa::path(
    get,
    path = "/ip-stats/top",
    tag = "clients",
    params(TopQuery),
    responses((status = 200, description = "Most first", body = Top))
)]
pub(super) async fn top_clients(
    _: Caller<Viewer>,
    State(api): State<Api>,
    Asked(query): Asked<TopQuery>,
) -> Result<Tagged, Problem> {
    let TopQuery { by, window, limit } = query;
    if !(1..=1000).contains(&limit) {
        return Err(Problem::malformed("the query: limit is 1 to 1000"));
    }
    let to = clock::now();
    if by == Measure::Live {
        // A connection is live on every listener that it passes: it counts where it enters.
        let (_, document) = api.store.document().await?;
        let edge = picture::edge(&document);
        let ranked = api.store.top_live(&edge, api.fresh_since(), limit).await?;
        return Tagged::of(&Top::of(by, None, (to, to), ranked));
    }
    let from = window.since(to);
    let ranked = api.store.top_clients(by.as_str(), from, limit).await?;
    Tagged::of(&Top::of(by, Some(window), (from, to), ranked))
}

/// What one client did; of an IPv6 address the whole /64.
#[utoipa::path(
    get,
    path = "/ip-stats/{ip}",
    tag = "clients",
    params(("ip" = String, Path)),
    responses((status = 200, description = "Zeros for one that nobody saw", body = Client))
)]
pub(super) async fn read_client(
    _: Caller<Viewer>,
    State(api): State<Api>,
    Place(ip): Place<String>,
) -> Result<Tagged, Problem> {
    let client = client(&ip)?;
    let now = clock::now();
    let since = Window::ALL.map(|window| window.since(now));
    let sums = api.store.client_sums(client.net(), &since).await?;
    let live = api
        .store
        .client_live(client.net(), api.fresh_since())
        .await?;
    Tagged::of(&Client {
        client: client.to_string(),
        live: live.into_iter().map(Live::from).collect(),
        windows: windows(&sums),
    })
}

impl Top {
    fn of(
        by: Measure,
        window: Option<Window>,
        (from, to): (OffsetDateTime, OffsetDateTime),
        ranked: Ranked,
    ) -> Self {
        let clients = ranked.clients.into_iter();
        let items = clients.map(|sum| Counted {
            client: ClientKey::new(sum.client.addr()).to_string(),
            count: sum.count,
            error: sum.error,
        });
        Self {
            by,
            window,
            from,
            to,
            total: ranked.total,
            bound: ranked.bound,
            items: items.collect(),
        }
    }
}

impl From<LiveAt> for Live {
    fn from(at: LiveAt) -> Self {
        Self {
            listener: at.listener,
            agent: at.agent,
            live: at.live,
        }
    }
}

/// An address, or the /64 as lists show it.
fn client(written: &str) -> Result<ClientKey, Problem> {
    if let Ok(ip) = written.parse::<IpAddr>() {
        return Ok(ClientKey::new(ip));
    }
    let net = written.parse::<IpNet>().ok();
    let key = net.map(|net| ClientKey::new(net.addr()));
    key.filter(|key| net == Some(key.net())).ok_or_else(|| {
        Problem::malformed(
            "the path: write an IPv4 or IPv6 address, such as 192.0.2.7 or 2001:db8::1",
        )
    })
}

/// Every window and every measure, also those where nothing was counted.
fn windows(sums: &[WindowSum]) -> BTreeMap<&'static str, BTreeMap<&'static str, Amount>> {
    let amount = |place: usize, measure: &str| {
        let mut sums = sums.iter();
        let found = sums.find(|sum| sum.window == place && sum.measure == measure);
        found.map_or_else(Amount::default, |sum| Amount {
            count: sum.count,
            error: sum.error,
            bound: sum.bound,
        })
    };
    let measures = |place: usize| {
        let summed = Measure::SUMMED.map(Measure::as_str);
        summed
            .map(|measure| (measure, amount(place, measure)))
            .into()
    };
    let windows = Window::ALL.iter().enumerate();
    windows
        .map(|(place, window)| (window.as_str(), measures(place)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn a_window_begins_with_a_whole_minute_and_is_never_too_short() {
        let now = OffsetDateTime::from_unix_timestamp_nanos(1_800_000_059_999_999_999).unwrap();
        for (window, expected) in [
            (Window::Minute, 1_799_999_940),
            (Window::Hour, 1_799_996_400),
            (Window::Day, 1_799_913_600),
        ] {
            assert_eq!(
                window.since(now).unix_timestamp_nanos(),
                expected * 1_000_000_000
            );
        }
    }

    #[test]
    fn a_client_goes_by_its_address_or_by_its_network() {
        for (written, expected) in [
            ("192.0.2.7", Some("192.0.2.7")),
            ("::ffff:192.0.2.7", Some("192.0.2.7")),
            ("192.0.2.7/32", Some("192.0.2.7")),
            ("2001:db8::1", Some("2001:db8::/64")),
            ("2001:db8::/64", Some("2001:db8::/64")),
            ("2001:db8::/48", None),
            ("192.0.2.0/24", None),
            ("top", None),
            ("", None),
        ] {
            let read = client(written).ok().map(|key| key.to_string());
            assert_eq!(read.as_deref(), expected, "{written}");
        }
    }

    #[test]
    fn every_window_has_every_measure() {
        let sum = WindowSum {
            window: 1,
            measure: "bytes".into(),
            count: 5,
            error: 2,
            bound: 1,
        };
        let windows = windows(&[sum]);
        assert_eq!(
            windows.keys().copied().collect::<Vec<_>>(),
            ["1h", "1m", "24h"]
        );
        assert!(windows.values().all(|measures| measures.len() == 4));
        let there = windows["1h"]["bytes"];
        assert_eq!((there.count, there.error, there.bound), (5, 2, 1));
        assert_eq!(windows["1m"]["bytes"].count, 0);
    }

    /// Two minutes of two agents, already summed as reports are: `203.0.113.1` was
    /// listed by both, `203.0.113.2` in one minute only.
    async fn counted() -> Fixture {
        let api = Fixture::new().await;
        let sql = "
create table client_stats_all partition of client_stats default;
create table client_totals_all partition of client_totals default;
insert into client_stats
select date_trunc('minute', now() - ago * interval '1 minute'), measure, listener, client::cidr, count, error
from (values (0, 'connections', 'edge', '203.0.113.1/32', 10, 1),
             (30, 'connections', 'edge', '203.0.113.1/32', 5, 0),
             (30, 'connections', 'other', '203.0.113.1/32', 2, 0),
             (30, 'connections', 'edge', '203.0.113.2/32', 40, 3),
             (600, 'connections', 'edge', '2001:db8::/64', 1000, 0),
             (0, 'bytes', 'edge', '203.0.113.2/32', 7, 0)) as t(ago, measure, listener, client, count, error);
insert into client_totals
select date_trunc('minute', now() - ago * interval '1 minute'), measure, listener, total, bound
from (values (0, 'connections', 'edge', 12, 1), (30, 'connections', 'edge', 50, 2),
             (30, 'connections', 'other', 2, 0), (600, 'connections', 'edge', 1000, 4),
             (0, 'bytes', 'edge', 7, 0)) as t(ago, measure, listener, total, bound);
";
        api.store.execute(sql).await;
        api
    }

    #[tokio::test]
    async fn the_top_sums_up_agents_listeners_and_minutes() {
        let api = counted().await;
        let hour = api.get("/ip-stats/top").await;
        assert_eq!(
            (&hour["by"], &hour["window"]),
            (&json!("connections"), &json!("1h"))
        );
        assert_eq!((&hour["total"], &hour["bound"]), (&json!(64), &json!(3)));
        assert_eq!(
            hour["items"],
            json!([
                { "client": "203.0.113.2", "count": 40, "error": 3 },
                { "client": "203.0.113.1", "count": 17, "error": 1 },
            ])
        );
        let day = api.get("/ip-stats/top?window=24h&limit=1").await;
        assert_eq!(
            day["items"],
            json!([{ "client": "2001:db8::/64", "count": 1000, "error": 0 }])
        );
        assert_eq!((&day["total"], &day["bound"]), (&json!(1064), &json!(7)));
        let minute = api.get("/ip-stats/top?window=1m").await;
        assert_eq!(
            minute["items"],
            json!([{ "client": "203.0.113.1", "count": 10, "error": 1 }])
        );
        let bytes = api.get("/ip-stats/top?by=bytes").await;
        assert_eq!(bytes["items"][0]["client"], "203.0.113.2");
        let none = api.get("/ip-stats/top?by=refused").await;
        assert_eq!((&none["items"], &none["total"]), (&json!([]), &json!(0)));
    }

    #[tokio::test]
    async fn a_client_has_every_window_and_measure() {
        let api = counted().await;
        let one = api.get("/ip-stats/203.0.113.1").await;
        let amount = |window: &str, measure: &str| one["windows"][window][measure].clone();
        assert_eq!(
            amount("1m", "connections"),
            json!({ "count": 10, "error": 1, "bound": 1 })
        );
        assert_eq!(
            amount("1h", "connections"),
            json!({ "count": 17, "error": 1, "bound": 3 })
        );
        assert_eq!(
            amount("24h", "connections"),
            json!({ "count": 17, "error": 1, "bound": 7 })
        );
        assert_eq!(
            amount("1h", "bytes"),
            json!({ "count": 0, "error": 0, "bound": 0 })
        );
        let six = api.get("/ip-stats/2001:db8::77").await;
        assert_eq!(six["client"], "2001:db8::/64");
        assert_eq!(six["windows"]["24h"]["connections"]["count"], 1000);
    }

    #[tokio::test]
    async fn who_is_connected_now_is_exact_and_forgets_agents_that_are_silent() {
        let api = Fixture::new().await;
        let sql = "
insert into observed_clients
select ('00000000-0000-0000-0000-00000000000' || agent)::uuid, listener, client::cidr, live,
       now() - ago * interval '1 second'
from (values (1, 'edge', '203.0.113.1/32', 3, 0), (2, 'edge', '203.0.113.1/32', 4, 1),
             (1, 'edge', '203.0.113.2/32', 5, 0), (3, 'edge', '203.0.113.2/32', 100, 16),
             (4, 'behind', '203.0.113.3/32', 7, 0))
     as t(agent, listener, client, live, ago);
";
        api.store.execute(sql).await;
        api.apply(
            "
listeners: [{ name: edge, role: balancer, bind: ':443', pool: p }]
pools: [{ name: p, backends: [{ address: '10.0.0.9:1' }] }]
",
        )
        .await;
        let top = api.get("/ip-stats/top?by=live").await;
        assert_eq!(top.get("window"), None);
        assert_eq!((&top["total"], &top["bound"]), (&json!(12), &json!(0)));
        let counts: Vec<_> = top["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| &i["count"])
            .collect();
        assert_eq!(counts, [&json!(7), &json!(5)]);
        let one = api.get("/ip-stats/203.0.113.1").await;
        let live: Vec<_> = one["live"]
            .as_array()
            .unwrap()
            .iter()
            .map(|l| &l["live"])
            .collect();
        assert_eq!(live, [&json!(3), &json!(4)]);
    }
}
