//! What agents see, in rows. A report is added once, whichever control plane it
//! came to and however often: its name is inserted in the transaction that adds
//! its amounts.

use std::collections::{BTreeMap, HashMap, HashSet};

use ipnet::IpNet;
use sqlx::{AssertSqlSafe, PgConnection};
use time::{Date, Duration, OffsetDateTime};
use uuid::Uuid;

use super::{Store, StoreError, signed};
use crate::ingest::Report;

/// Any number of its own: two control planes must not make the same partition
/// at once.
const PARTITIONS_LOCK: i64 = 0x7469_6465;

impl Store {
    /// Takes in reports; those taken in before add nothing.
    ///
    /// # Errors
    /// When the database does not answer; nothing is added then.
    pub(crate) async fn take_in(
        &self,
        reports: &[&Report],
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin("begin").await?;
        let new = new_reports(&mut transaction, reports).await?;
        add_clients(&mut transaction, &new, now).await?;
        add_totals(&mut transaction, &new, now).await?;
        // Of what is seen only the newest counts.
        let mut newest: HashMap<Uuid, &Report> = HashMap::new();
        for report in new {
            newest.insert(report.agent.0, report);
        }
        let newest: Vec<&Report> = newest.into_values().collect();
        see_backends(&mut transaction, &newest, now).await?;
        see_pools(&mut transaction, &newest, now).await?;
        see_listeners(&mut transaction, &newest, now).await?;
        see_clients(&mut transaction, &newest, now).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Makes the tables of today and tomorrow, and drops those of days before
    /// `keep`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn turn_the_day(&self, today: Date, keep: Duration) -> Result<(), StoreError> {
        let mut transaction = self.begin("begin").await?;
        sqlx::query!("select pg_advisory_xact_lock($1)", PARTITIONS_LOCK)
            .execute(&mut *transaction)
            .await?;
        for parent in ["client_stats", "client_totals"] {
            for day in [today, today + Duration::DAY] {
                let (name, next) = (partition(parent, day), day + Duration::DAY);
                let make = format!(
                    "create table if not exists {name} partition of {parent} for values \
                     from ('{day} 00:00:00+00') to ('{next} 00:00:00+00')"
                );
                sqlx::query(AssertSqlSafe(make))
                    .execute(&mut *transaction)
                    .await?;
            }
            let oldest = partition(parent, today - keep);
            let old = sqlx::query_scalar!(
                r#"select c.relname::text as "name!" from pg_inherits i
                   join pg_class c on c.oid = i.inhrelid
                   where i.inhparent = $1::text::regclass and c.relname < $2"#,
                parent,
                oldest
            )
            .fetch_all(&mut *transaction)
            .await?;
            for name in old {
                // A name of ours: letters, digits and underscores.
                sqlx::query(AssertSqlSafe(format!("drop table {name}")))
                    .execute(&mut *transaction)
                    .await?;
            }
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// Days sort as text.
fn partition(parent: &str, day: Date) -> String {
    format!(
        "{parent}_{:04}{:02}{:02}",
        day.year(),
        u8::from(day.month()),
        day.day()
    )
}

fn minute(now: OffsetDateTime) -> OffsetDateTime {
    let seconds = now.unix_timestamp().div_euclid(60) * 60;
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(now)
}

/// Those never taken in before, of agents that are in the fleet; a report that is
/// twice among them counts once.
async fn new_reports<'a>(
    connection: &mut PgConnection,
    reports: &[&'a Report],
) -> Result<Vec<&'a Report>, StoreError> {
    let agents: Vec<Uuid> = reports.iter().map(|r| r.agent.0).collect();
    let boots: Vec<Uuid> = reports.iter().map(|r| r.boot).collect();
    let sequences: Vec<i64> = reports.iter().map(|r| signed(r.sequence)).collect();
    let rows = sqlx::query!(
        "insert into reports (agent, boot, sequence)
         select distinct t.agent, t.boot, t.sequence
         from unnest($1::uuid[], $2::uuid[], $3::bigint[]) as t(agent, boot, sequence)
         join agents a on a.id = t.agent and a.revoked_at is null
         order by t.agent, t.boot, t.sequence
         on conflict do nothing
         returning agent, boot, sequence",
        &agents,
        &boots,
        &sequences
    )
    .fetch_all(connection)
    .await?;
    let mut unseen: HashSet<(Uuid, Uuid, i64)> = rows
        .into_iter()
        .map(|row| (row.agent, row.boot, row.sequence))
        .collect();
    let mut new = reports.to_vec();
    new.retain(|r| unseen.remove(&(r.agent.0, r.boot, signed(r.sequence))));
    Ok(new)
}

async fn add_clients(
    connection: &mut PgConnection,
    reports: &[&Report],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    // Sorted: two control planes that write the same rows must lock them in one order.
    let mut sums: BTreeMap<(&str, &str, IpNet), (u64, u64)> = BTreeMap::new();
    for row in reports.iter().flat_map(|report| &report.clients) {
        let key = (row.measure, row.listener.as_str(), row.client.net());
        let (count, error) = sums.entry(key).or_default();
        *count = count.saturating_add(row.count);
        *error = error.saturating_add(row.error);
    }
    if sums.is_empty() {
        return Ok(());
    }
    let (mut measures, mut listeners, mut clients) = (Vec::new(), Vec::new(), Vec::new());
    let (mut counts, mut errors) = (Vec::new(), Vec::new());
    for ((measure, listener, client), (count, error)) in sums {
        measures.push(measure.to_owned());
        listeners.push(listener.to_owned());
        clients.push(client);
        counts.push(signed(count));
        errors.push(signed(error));
    }
    sqlx::query!(
        "insert into client_stats as old (minute, measure, listener, client, count, error)
         select $1, measure, listener, client, count, error
         from unnest($2::text[], $3::text[], $4::cidr[], $5::bigint[], $6::bigint[])
              as t(measure, listener, client, count, error)
         on conflict (minute, measure, listener, client) do update
         set count = old.count + excluded.count, error = old.error + excluded.error",
        minute(now),
        &measures,
        &listeners,
        &clients,
        &counts,
        &errors
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn add_totals(
    connection: &mut PgConnection,
    reports: &[&Report],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let mut sums: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
    for row in reports.iter().flat_map(|report| &report.totals) {
        let (total, bound) = sums.entry((row.measure, &row.listener)).or_default();
        *total = total.saturating_add(row.total);
        *bound = bound.saturating_add(row.bound);
    }
    if sums.is_empty() {
        return Ok(());
    }
    let (mut measures, mut listeners) = (Vec::new(), Vec::new());
    let (mut totals, mut bounds) = (Vec::new(), Vec::new());
    for ((measure, listener), (total, bound)) in sums {
        measures.push(measure.to_owned());
        listeners.push(listener.to_owned());
        totals.push(signed(total));
        bounds.push(signed(bound));
    }
    sqlx::query!(
        "insert into client_totals as old (minute, measure, listener, total, bound)
         select $1, measure, listener, total, bound
         from unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[])
              as t(measure, listener, total, bound)
         on conflict (minute, measure, listener) do update
         set total = old.total + excluded.total, bound = old.bound + excluded.bound",
        minute(now),
        &measures,
        &listeners,
        &totals,
        &bounds
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn agents(reports: &[&Report]) -> Vec<Uuid> {
    reports.iter().map(|report| report.agent.0).collect()
}

async fn see_backends(
    connection: &mut PgConnection,
    reports: &[&Report],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from observed_backends where agent = any($1)",
        &agents(reports)
    )
    .execute(&mut *connection)
    .await?;
    for report in reports {
        let rows = &report.backends;
        let checked = |row: &tidegate_proto::v1::BackendStats| {
            let age = i64::try_from(row.last_check.as_ref()?.age_ms).unwrap_or(i64::MAX);
            now.checked_sub(Duration::milliseconds(age))
        };
        let check = |row: &tidegate_proto::v1::BackendStats| row.last_check.clone();
        sqlx::query!(
            "insert into observed_backends
                    (agent, pool, backend, address, up, admin, in_flight, connects, connects_failed,
                     connect_rate, check_passed, check_words, checked_at, ejected, weight, at)
             select distinct on (pool, backend) $1, pool, backend, address, up, admin, in_flight,
                    connects, connects_failed, connect_rate, check_passed, check_words, checked_at,
                    ejected, weight, $2
             from unnest($3::text[], $4::text[], $5::text[], $6::bool[], $7::text[], $8::bigint[],
                         $9::bigint[], $10::bigint[], $11::float8[], $12::bool[], $13::text[],
                         $14::timestamptz[], $15::bool[], $16::float8[])
                  as t(pool, backend, address, up, admin, in_flight, connects, connects_failed,
                       connect_rate, check_passed, check_words, checked_at, ejected, weight)",
            report.agent.0,
            now,
            &column(rows, |row| row.pool.clone()),
            &column(rows, |row| row.backend.clone()),
            &column(rows, |row| row.address.clone()),
            &column(rows, |row| row.up),
            &column(rows, |row| row.admin.clone()),
            &column(rows, |row| i64::from(row.in_flight)),
            &column(rows, |row| signed(row.connects)),
            &column(rows, |row| signed(row.connects_failed)),
            &column(rows, |row| row.connect_rate),
            &column(rows, |row| check(row).map(|c| c.passed)) as &[Option<bool>],
            &column(rows, |row| check(row).map(|c| c.words)) as &[Option<String>],
            &column(rows, checked) as &[Option<OffsetDateTime>],
            &column(rows, |row| row.ejected),
            &column(rows, |row| row.weight) as &[Option<f64>],
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn see_pools(
    connection: &mut PgConnection,
    reports: &[&Report],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from observed_pools where agent = any($1)",
        &agents(reports)
    )
    .execute(&mut *connection)
    .await?;
    for report in reports {
        let rows = &report.pools;
        sqlx::query!(
            "insert into observed_pools (agent, pool, queued, serving, at)
             select distinct on (pool) $1::uuid, pool, queued, serving, $2::timestamptz
             from unnest($3::text[], $4::bigint[], $5::text[]) as t(pool, queued, serving)",
            report.agent.0,
            now,
            &column(rows, |row| row.pool.clone()),
            &column(rows, |row| signed(row.queued)),
            &column(rows, |row| row.serving.clone()),
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn see_listeners(
    connection: &mut PgConnection,
    reports: &[&Report],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from observed_listeners where agent = any($1)",
        &agents(reports)
    )
    .execute(&mut *connection)
    .await?;
    for report in reports {
        let rows = &report.listeners;
        sqlx::query!(
            "insert into observed_listeners
                    (agent, listener, role, live, clients_live, accepted, bytes_in, bytes_out,
                     handshakes, handshakes_failed, requests, requests_failed, refused,
                     accept_rate, byte_rate, handshake_rate, resumed, resumed_rate, at)
             select distinct on (listener) $1, listener, role, live, clients_live, accepted,
                    bytes_in, bytes_out, handshakes, handshakes_failed, requests, requests_failed,
                    refused, accept_rate, byte_rate, handshake_rate, resumed, resumed_rate, $2
             from unnest($3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
                         $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[],
                         $13::bigint[], $14::bigint[], $15::float8[], $16::float8[], $17::float8[],
                         $18::bigint[], $19::float8[])
                  as t(listener, role, live, clients_live, accepted, bytes_in, bytes_out,
                       handshakes, handshakes_failed, requests, requests_failed, refused,
                       accept_rate, byte_rate, handshake_rate, resumed, resumed_rate)",
            report.agent.0,
            now,
            &column(rows, |row| row.listener.clone()),
            &column(rows, |row| row.role.clone()),
            &column(rows, |row| signed(row.live)),
            &column(rows, |row| signed(row.clients_live)),
            &column(rows, |row| signed(row.accepted)),
            &column(rows, |row| signed(row.bytes_in)),
            &column(rows, |row| signed(row.bytes_out)),
            &column(rows, |row| signed(row.handshakes)),
            &column(rows, |row| signed(row.handshakes_failed)),
            &column(rows, |row| signed(row.requests)),
            &column(rows, |row| signed(row.requests_failed)),
            &column(rows, |row| signed(row.refused)),
            &column(rows, |row| row.accept_rate),
            &column(rows, |row| row.byte_rate),
            &column(rows, |row| row.handshake_rate),
            &column(rows, |row| signed(row.resumed)),
            &column(rows, |row| row.resumed_rate),
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn see_clients(
    connection: &mut PgConnection,
    reports: &[&Report],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from observed_clients where agent = any($1)",
        &agents(reports)
    )
    .execute(&mut *connection)
    .await?;
    for report in reports {
        let rows = &report.live;
        sqlx::query!(
            "insert into observed_clients
             select distinct on (listener, client) $1, listener, client, live, $2
             from unnest($3::text[], $4::cidr[], $5::bigint[]) as t(listener, client, live)",
            report.agent.0,
            now,
            &column(rows, |(listener, ..)| listener.clone()),
            &column(rows, |(_, client, _)| client.net()),
            &column(rows, |(.., live)| signed(*live)),
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// One column of rows, for `unnest`.
fn column<T, C>(rows: &[T], value: impl Fn(&T) -> C) -> Vec<C> {
    rows.iter().map(value).collect()
}
