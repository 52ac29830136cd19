//! Clients, by what they did: sums of what agents reported, each with its bounds.
//!
//! An agent lists the clients that did most, with a count that may be too large by
//! `error`; one that it does not list had `bound` there at most. Summed over agents,
//! listeners and minutes, a client's true amount is at least `count - error` and at
//! most `count + bound`: somewhere it may have been too small to be listed. One that
//! is listed nowhere had `bound` at most.

use sqlx::types::ipnet::IpNet;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, StoreError, counted};

/// A client with what it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientSum {
    pub(crate) client: IpNet,
    pub(crate) count: u64,
    pub(crate) error: u64,
}

/// Those who did most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ranked {
    /// Of all clients, exact.
    pub(crate) total: u64,
    /// The most that a client can have beyond its count.
    pub(crate) bound: u64,
    /// Most first.
    pub(crate) clients: Vec<ClientSum>,
}

/// What one client did by one measure since some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WindowSum {
    /// Which of the times asked for, from 0.
    pub(crate) window: usize,
    pub(crate) measure: String,
    pub(crate) count: u64,
    pub(crate) error: u64,
    pub(crate) bound: u64,
}

/// Where a client is connected now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LiveAt {
    pub(crate) listener: String,
    pub(crate) agent: Uuid,
    pub(crate) live: u64,
}

impl Store {
    /// Who did most by a measure, in the minutes from `since` on.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn top_clients(
        &self,
        measure: &str,
        since: OffsetDateTime,
        limit: u32,
    ) -> Result<Ranked, StoreError> {
        let sums = sqlx::query!(
            r#"select least(coalesce(sum(total), 0), 9223372036854775807)::bigint as "total!",
                      least(coalesce(sum(bound), 0), 9223372036854775807)::bigint as "bound!"
               from client_totals where minute >= $1 and measure = $2"#,
            since,
            measure
        )
        .fetch_one(&self.pool)
        .await?;
        let rows = sqlx::query!(
            r#"select client, least(sum(count), 9223372036854775807)::bigint as "count!",
                      least(sum(error), 9223372036854775807)::bigint as "error!"
               from client_stats where minute >= $1 and measure = $2
               group by client order by sum(count) desc, client limit $3"#,
            since,
            measure,
            i64::from(limit)
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(Ranked {
            total: counted(sums.total),
            bound: counted(sums.bound),
            clients: rows
                .into_iter()
                .map(|row| ClientSum {
                    client: row.client,
                    count: counted(row.count),
                    error: counted(row.error),
                })
                .collect(),
        })
    }

    /// Who has most connections now at these listeners; exact, of the agents that still
    /// report.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn top_live(
        &self,
        listeners: &[String],
        fresh_since: OffsetDateTime,
        limit: u32,
    ) -> Result<Ranked, StoreError> {
        let total = sqlx::query_scalar!(
            r#"select least(coalesce(sum(live), 0), 9223372036854775807)::bigint as "total!" from observed_clients
               where at >= $1 and listener = any($2)"#,
            fresh_since,
            listeners
        )
        .fetch_one(&self.pool)
        .await?;
        let rows = sqlx::query!(
            r#"select client, least(sum(live), 9223372036854775807)::bigint as "live!" from observed_clients
               where at >= $1 and listener = any($3)
               group by client order by sum(live) desc, client limit $2"#,
            fresh_since,
            i64::from(limit),
            listeners
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(Ranked {
            total: counted(total),
            bound: 0,
            clients: rows
                .into_iter()
                .map(|row| ClientSum {
                    client: row.client,
                    count: counted(row.live),
                    error: 0,
                })
                .collect(),
        })
    }

    /// Where a client is connected now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn client_live(
        &self,
        client: IpNet,
        fresh_since: OffsetDateTime,
    ) -> Result<Vec<LiveAt>, StoreError> {
        let rows = sqlx::query!(
            "select listener, agent, live from observed_clients where client = $1 and at >= $2
             order by listener, agent",
            client,
            fresh_since
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| LiveAt {
                listener: row.listener,
                agent: row.agent,
                live: counted(row.live),
            })
            .collect())
    }

    /// What a client did since each of these times, by every measure that anybody
    /// was counted by.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn client_sums(
        &self,
        client: IpNet,
        since: &[OffsetDateTime],
    ) -> Result<Vec<WindowSum>, StoreError> {
        let rows = sqlx::query!(
            r#"with windows as
                 (select * from unnest($1::timestamptz[]) with ordinality as t(since, place)),
               bounds as
                 (select place, measure, least(sum(bound), 9223372036854775807)::bigint as bound
                  from windows join client_totals on minute >= since group by place, measure),
               sums as
                 (select place, measure, least(sum(count), 9223372036854775807)::bigint as count,
                         least(sum(error), 9223372036854775807)::bigint as error
                  from windows join client_stats on minute >= since and client = $2
                  group by place, measure)
               select b.place as "place!", b.measure as "measure!", b.bound as "bound!",
                      coalesce(s.count, 0) as "count!", coalesce(s.error, 0) as "error!"
               from bounds b left join sums s using (place, measure) order by place, measure"#,
            since,
            client
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| WindowSum {
                window: usize::try_from(row.place - 1).unwrap_or(usize::MAX),
                measure: row.measure,
                count: counted(row.count),
                error: counted(row.error),
                bound: counted(row.bound),
            })
            .collect())
    }
}
