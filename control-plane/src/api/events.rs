//! What happens, as it happens: server-sent events, for pages and for programs. An
//! event says what to read again; how it reads is elsewhere in the API.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::time::{Instant, sleep_until};

use super::Api;
use super::auth::{Caller, Viewer};
use super::problem::Problem;
use crate::journal::{News, Reader};

/// Between two looks whether the reader's token or session still stands.
const LOOK: Duration = Duration::from_secs(10);
/// When there is nothing to say, so that nobody in between thinks it has died.
const STILL_HERE: Duration = Duration::from_secs(15);
/// For a reader to come back after the connection broke.
const RETRY: Duration = Duration::from_secs(1);
const LAST_EVENT_ID: &str = "last-event-id";
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Somebody who reads.
struct Stream {
    reader: Reader,
    caller: Caller<Viewer>,
    api: Api,
    /// Read, and not yet sent.
    ready: VecDeque<Sent>,
    /// When to look again whether the caller still stands.
    look_at: Instant,
}

/// What happens, as server-sent events: `change {change, revision}`, `agent {agent}`,
/// `backend {pool, backend, agent}`, `audit {number}`, and `sample {at}` when there are new
/// figures. Many agents or backends at once are one event that names none. `reset` comes
/// first and says to read everything; with the `Last-Event-ID` of an event from here what
/// was missed comes instead, if it is still known.
#[utoipa::path(
    get,
    path = "/events",
    tag = "fleet",
    params(("Last-Event-ID" = Option<String>, Header, description = "Of the last event that was read")),
    responses((
        status = 200,
        description = "Until the token or the session ends",
        content((String = "text/event-stream"))
    ))
)]
pub(super) async fn follow(
    caller: Caller<Viewer>,
    State(api): State<Api>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = headers.get(LAST_EVENT_ID);
    let after = after.and_then(|value| value.to_str().ok());
    let reader = api.journal.read(after).ok_or_else(|| {
        Problem::unavailable("too many are watching here: try again in a while", None)
    })?;
    let stream = Stream {
        reader,
        caller,
        api,
        ready: VecDeque::from([Sent::default().retry(RETRY).comment("")]),
        look_at: Instant::now() + LOOK,
    };
    let events = stream::unfold(stream, |mut stream| async {
        let event = stream.next().await?;
        Some((Ok::<_, Infallible>(event), stream))
    });
    let keep_alive = KeepAlive::new().interval(STILL_HERE);
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would gather what is to be read at once.
    headers.insert(UNBUFFERED, HeaderValue::from_static("no"));
    Ok(response)
}

impl Stream {
    /// The next event to send; `None` at the end.
    async fn next(&mut self) -> Option<Sent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            tokio::select! {
                () = self.api.stop.cancelled() => return None,
                () = sleep_until(self.look_at) => {
                    // A database that is away ends nobody's session.
                    if let Ok(false) = self.caller.stands(&self.api.store).await {
                        return None;
                    }
                    self.look_at = Instant::now() + LOOK;
                }
                news = self.reader.next() => self.ready.extend(events(news)),
            }
        }
    }
}

fn events(news: News) -> Vec<Sent> {
    match news {
        News::Missed(name) => vec![Sent::default().event("reset").id(name).data("{}")],
        News::Events(events) => {
            let sent = events.into_iter().filter_map(|(name, event)| {
                let sent = Sent::default().event(event.name()).id(name);
                // Plain structs into memory: there is no failing case.
                sent.json_data(&event).ok()
            });
            sent.collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use http_body_util::BodyExt;
    use serde_json::{Value, json};
    use tidegate_core::document::Role;
    use uuid::Uuid;

    use super::super::testing::Fixture;
    use super::*;
    use crate::journal::Event;
    use crate::model::{ApiRole, Outcome};
    use crate::observer::Observer;

    /// For what should happen at once.
    const SOON: Duration = Duration::from_secs(20);

    /// Somebody who watches.
    struct Watcher {
        body: Body,
        read: String,
    }

    impl Watcher {
        async fn new(api: &Fixture, after: Option<&str>) -> Self {
            let token = format!("Bearer {}", api.token(ApiRole::Viewer));
            let mut request = Request::get("/api/v1/events").header(header::AUTHORIZATION, token);
            if let Some(after) = after {
                request = request.header(LAST_EVENT_ID, after);
            }
            let response = api.open(request.body(Body::empty()).unwrap()).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(
                response.headers()[header::CONTENT_TYPE],
                "text/event-stream"
            );
            assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
            Self {
                body: response.into_body(),
                read: String::new(),
            }
        }

        /// The data of the next event of a kind.
        async fn until(&mut self, kind: &str) -> Value {
            loop {
                let [next, _, data] = self.next().await.unwrap();
                if next == kind {
                    return serde_json::from_str(&data).unwrap();
                }
            }
        }

        /// The next event: kind, id, data; nothing at the end.
        async fn next(&mut self) -> Option<[String; 3]> {
            loop {
                if let Some((event, rest)) = self.read.split_once("\n\n") {
                    let (event, rest) = (event.to_owned(), rest.to_owned());
                    self.read = rest;
                    let field = |name: &str| {
                        let mut lines = event.lines();
                        let value = lines.find_map(|line| line.strip_prefix(name));
                        value.map(|value| value.trim().to_owned())
                    };
                    if let Some(kind) = field("event:") {
                        return Some([kind, field("id:")?, field("data:")?]);
                    }
                    continue;
                }
                let frame = tokio::time::timeout(SOON, self.body.frame())
                    .await
                    .unwrap()?;
                let data = frame.unwrap().into_data().unwrap();
                self.read.push_str(std::str::from_utf8(&data).unwrap());
            }
        }
    }

    #[tokio::test]
    async fn a_watcher_hears_everything_and_after_a_break_what_it_missed() {
        let api = Fixture::new().await;
        let mut watcher = Watcher::new(&api, None).await;
        let [kind, id, data] = watcher.next().await.unwrap();
        assert_eq!((kind.as_str(), data.as_str()), ("reset", "{}"));
        api.journal.write(vec![
            Event::Change {
                change: 4,
                revision: 2,
            },
            Event::Agent {
                agent: Some(Uuid::nil()),
            },
        ]);
        let [kind, change, data] = watcher.next().await.unwrap();
        assert_eq!(
            (kind.as_str(), data.as_str()),
            ("change", r#"{"change":4,"revision":2}"#)
        );
        assert_eq!(watcher.next().await.unwrap()[0], "agent");
        drop(watcher);

        api.journal.write(vec![Event::Audit { number: 9 }]);
        let mut back = Watcher::new(&api, Some(&change)).await;
        assert_eq!(back.next().await.unwrap()[0], "agent");
        assert_eq!(back.next().await.unwrap()[0], "audit");
        let mut early = Watcher::new(&api, Some(&id)).await;
        assert_eq!(early.next().await.unwrap()[0], "change");
        let mut stranger = Watcher::new(&api, Some("elsewhere-1")).await;
        assert_eq!(stranger.next().await.unwrap()[0], "reset");
    }

    #[tokio::test]
    async fn watching_ends_when_the_control_plane_stops() {
        let api = Fixture::new().await;
        let mut watcher = Watcher::new(&api, None).await;
        watcher.next().await.unwrap();
        api.stop.cancel();
        assert_eq!(watcher.next().await, None);
    }

    #[tokio::test]
    async fn watching_ends_with_the_token() {
        let api = Fixture::new().await;
        let mut watcher = Watcher::new(&api, None).await;
        watcher.next().await.unwrap();
        api.store
            .execute("delete from api_tokens where role = 'viewer'")
            .await;
        assert_eq!(watcher.next().await, None);
    }

    #[tokio::test]
    async fn what_changes_in_the_fleet_is_heard() {
        let api = Fixture::new().await;
        let observer = Observer {
            store: api.store.clone(),
            series: Arc::clone(&api.series),
            journal: Arc::clone(&api.journal),
            report_interval: Duration::from_secs(1),
        };
        let mut watcher = Watcher::new(&api, None).await;
        tokio::spawn(observer.run(api.stop.clone()));
        // The first look is what others are compared with.
        watcher.until("sample").await;
        api.apply(
            "
listeners: [{ name: edge, role: balancer, bind: ':443', pool: p }]
pools: [{ name: p, backends: [{ address: '10.0.0.9:1' }] }]
",
        )
        .await;
        assert_eq!(
            watcher.until("change").await,
            json!({ "change": 1, "revision": 1 })
        );
        watcher.until("audit").await;
        let agent = api.agent(1, &[Role::Balancer], &[]).await;
        assert_eq!(watcher.until("agent").await, json!({ "agent": agent }));
        api.connect(agent, 1).await;
        api.says(agent, Outcome::Applied).await;
        assert_eq!(watcher.until("agent").await, json!({ "agent": agent }));

        let sees = |up: bool| {
            format!(
                "delete from observed_backends;
                 insert into observed_backends
                 values ('{agent}', 'p', '10.0.0.9:1', '', {up}, 'ready', 3, 0, 0, 0.5,
                         false, 'refused', now(), now() + interval '1 hour');"
            )
        };
        let of = json!({ "pool": "p", "backend": "10.0.0.9:1", "agent": agent });
        for up in [true, false] {
            api.store.execute(&sees(up)).await;
            assert_eq!(watcher.until("backend").await, of);
        }
        api.store
            .execute(&format!(
                "insert into observed_pools values ('{agent}', 'p', 2, 'nobody', now() + interval '1 hour');
                 insert into observed_listeners
                 values ('{agent}', 'edge', 'balancer', 7, 5, 0, 0, 0, 0, 0, 0, 0, 0, 2.5, 90, 0, now() + interval '1 hour')"
            ))
            .await;
        let picture = api.get("/topology").await;
        assert_eq!(
            picture["clients"],
            json!({ "live": 7, "accept_rate": 2.5, "byte_rate": 90.0 })
        );
        assert_eq!(picture["pools"][0]["seen"]["down"], 1);
        assert_eq!(picture["pools"][0]["queued"], 2);
        assert_eq!(picture["listeners"][0]["agents"]["serving"], 1);
        let attention = api.get("/attention").await;
        let kinds = ["pool_down", "backend_down"].map(Value::from);
        let told = attention["items"].as_array().unwrap().iter();
        assert_eq!(
            told.map(|item| item["kind"].clone()).collect::<Vec<_>>(),
            kinds
        );
        assert_eq!(attention["total"], 2);
        // A point was taken at the first look, and is taken again every few seconds.
        loop {
            watcher.until("sample").await;
            let series = api.get("/series/pools/p").await;
            let last = |measure: &str| series["measures"][measure].as_array()?.last().cloned();
            if last("queued") == Some(json!(2.0)) {
                assert_eq!(last("down"), Some(json!(1.0)));
                break;
            }
        }
        let fleet = api.get("/series").await;
        let last = |measure: &str| {
            fleet["measures"][measure]
                .as_array()
                .unwrap()
                .last()
                .cloned()
        };
        assert_eq!(
            (last("live"), last("agents_in_sync")),
            (Some(json!(7.0)), Some(json!(1.0)))
        );
    }
}
