//! `?wait=applied`: after a commit, until every connected agent has applied what
//! is wanted of it, or has said why it cannot. The commit stands either way.

use std::time::Duration;

use axum::extract::Query;
use axum::http::Uri;
use serde::{Deserialize, Serialize};
use tidegate_core::document::Timeout;
use tokio::time::Instant;
use utoipa::ToSchema;
use uuid::Uuid;

use super::problem::Problem;
use crate::store::{AgentMistake, Rollout, Store, StoreError};

/// Between two looks at the agents.
const LOOK: Duration = Duration::from_millis(100);
const DEFAULT: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(300);

/// The query of writes.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct WaitQuery {
    /// Answer only when every connected agent has applied this, or has failed to.
    #[param(inline)]
    wait: Option<WaitFor>,
    /// For how long at most: `30s` unless written, `5m` at most. Then `pending` is
    /// not empty; the answer is 200 all the same.
    #[param(value_type = Option<String>, example = "30s")]
    timeout: Option<Timeout>,
}

/// The query of writes of the document.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct WriteQuery {
    /// Answer what would change, and change nothing. The ETag is that of what is
    /// there: in If-Match it makes sure that what was shown is what is done.
    dry_run: bool,
    /// Answer only when every connected agent has applied this, or has failed to.
    #[param(inline)]
    wait: Option<WaitFor>,
    /// For how long at most: `30s` unless written, `5m` at most. Then `pending` is
    /// not empty; the answer is 200 all the same.
    #[param(value_type = Option<String>, example = "30s")]
    timeout: Option<Timeout>,
}

/// How a write of the document ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing is changed.
    DryRun,
    /// It is committed, and agents are waited for so long; not at all when nobody
    /// asked.
    Commit(Option<Duration>),
}

impl WriteQuery {
    /// How the write is to end. To be called before it, so that a bad query changes
    /// nothing.
    pub(super) fn end(self) -> Result<End, Problem> {
        let Self {
            dry_run,
            wait,
            timeout,
        } = self;
        let patience = WaitQuery { wait, timeout }.patience()?;
        Ok(match dry_run {
            true => End::DryRun,
            false => End::Commit(patience),
        })
    }
}

impl End {
    /// For how long agents are waited for.
    pub(super) fn patience(self) -> Option<Duration> {
        match self {
            Self::DryRun => None,
            Self::Commit(patience) => patience,
        }
    }
}

/// What there is to wait for.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum WaitFor {
    Applied,
}

/// Which agents run what is wanted of them.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Applied {
    /// These do.
    applied: Vec<Uuid>,
    /// These cannot, and go on as before.
    failed: Vec<Failed>,
    /// These are connected, and have not said.
    pending: Vec<Uuid>,
    /// These are not connected; they follow when they are back.
    offline: Vec<Uuid>,
}

/// An agent that cannot run what is wanted of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Failed {
    agent: Uuid,
    mistakes: Vec<AgentMistake>,
}

impl WaitQuery {
    /// How long to wait; not at all when nobody asked. To be called before the
    /// write, so that a bad query changes nothing.
    pub(super) fn patience(self) -> Result<Option<Duration>, Problem> {
        let patience = self.timeout.map_or(DEFAULT, Timeout::duration);
        if patience > LONGEST {
            return Err(Problem::malformed("the query: timeout is 5m at most"));
        }
        Ok(self.wait.map(|WaitFor::Applied| patience))
    }
}

/// What the query adds to a request's deadline.
pub(super) fn asked_for(uri: &Uri) -> Duration {
    #[derive(Default, Deserialize)]
    struct Waiting {
        wait: Option<WaitFor>,
        timeout: Option<Timeout>,
    }
    let Query(Waiting { wait, timeout }) = Query::try_from_uri(uri).unwrap_or_default();
    wait.map_or(Duration::ZERO, |WaitFor::Applied| {
        timeout.map_or(DEFAULT, Timeout::duration).min(LONGEST)
    })
}

/// Waits until nobody is pending, for `patience` at most.
pub(super) async fn until_applied(
    store: &Store,
    patience: Duration,
) -> Result<Applied, StoreError> {
    let end = Instant::now() + patience;
    while store.agents_pending().await? > 0 && Instant::now() < end {
        tokio::time::sleep(LOOK.min(end - Instant::now())).await;
    }
    Ok(store.rollout().await?.into())
}

impl From<Rollout> for Applied {
    fn from(rollout: Rollout) -> Self {
        let failed = rollout.failed.into_iter();
        let failed = failed.map(|(agent, mistakes)| Failed { agent, mistakes });
        Self {
            applied: rollout.applied,
            failed: failed.collect(),
            pending: rollout.pending,
            offline: rollout.offline,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Result<Option<Duration>, ()> {
        let uri: Uri = format!("/x?{text}").parse().unwrap();
        let Query(query) = Query::<WaitQuery>::try_from_uri(&uri).map_err(|_| ())?;
        query.patience().map_err(|_| ())
    }

    #[test]
    fn a_write_waits_when_asked_and_never_for_ever() {
        let secs = Duration::from_secs;
        let table = [
            ("", Ok(None)),
            ("timeout=10s", Ok(None)),
            ("wait=applied", Ok(Some(secs(30)))),
            ("wait=applied&timeout=5m", Ok(Some(secs(300)))),
            ("wait=applied&timeout=301s", Err(())),
            ("wait=applied&timeout=soon", Err(())),
            ("wait=yes", Err(())),
            ("wiat=applied", Err(())),
        ];
        for (text, expected) in table {
            assert_eq!(query(text), expected, "{text}");
        }
    }

    #[test]
    fn who_waits_has_that_much_longer() {
        let asked = |text: &str| asked_for(&format!("/x?{text}").parse().unwrap());
        assert_eq!(asked(""), Duration::ZERO);
        assert_eq!(asked("wait=applied&dry_run=false"), DEFAULT);
        assert_eq!(asked("wait=applied&timeout=366d"), LONGEST);
        assert_eq!(asked("timeout=1h"), Duration::ZERO);
    }
}
