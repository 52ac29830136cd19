//! The facts that planning looks at: rows, never anybody's connections.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use sqlx::PgConnection;
use tidegate_core::document::{AdminState, Labels, Name, Role};
use tidegate_core::keyed::HashKey;
use tidegate_core::plan::{Admin, AdminKey, Agent, Chain, Facts, Pace};
use time::OffsetDateTime;

use super::{StoreError, broken};

/// All facts of the fleet.
pub(super) async fn load(connection: &mut PgConnection) -> Result<Facts, StoreError> {
    Ok(Facts {
        agents: agents(connection).await?,
        certificates: certificates(connection).await?,
        admin: admin_states(connection).await?,
        hash_key: Some(hash_key(connection).await?),
        standalone: false,
    })
}

async fn hash_key(connection: &mut PgConnection) -> Result<HashKey, StoreError> {
    let row = sqlx::query!("select hash_key from cluster")
        .fetch_one(connection)
        .await?;
    let key: [u8; 16] = row.hash_key.as_slice().try_into().map_err(|_| {
        let why = format!("{} bytes instead of 16", row.hash_key.len());
        broken("the hash key", why)
    })?;
    Ok(HashKey::new(key))
}

/// Those that are enrolled, not revoked; by id.
pub(super) async fn agents(connection: &mut PgConnection) -> Result<Vec<Agent>, StoreError> {
    let rows = sqlx::query!(
        "select id, roles, labels, address, health_port from agents
         where revoked_at is null order by id"
    )
    .fetch_all(connection)
    .await?;
    let mut agents = Vec::with_capacity(rows.len());
    for row in rows {
        let id = row.id.to_string().parse();
        let health_port = u16::try_from(row.health_port);
        agents.push(Agent {
            id: id.map_err(|why| broken("an agent", why))?,
            roles: roles(&row.roles)?,
            labels: labels(&row.labels)?,
            address: row.address.addr(),
            health_port: health_port.map_err(|why| broken("a port", why))?,
        });
    }
    Ok(agents)
}

/// The chain in use of each name: the one uploaded last.
async fn certificates(connection: &mut PgConnection) -> Result<BTreeMap<Name, Chain>, StoreError> {
    let rows = sqlx::query!(
        "select distinct on (name) name, chain from certificate_versions order by name, number desc"
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let name = row
                .name
                .parse()
                .map_err(|why| broken("a certificate", why))?;
            Ok((name, Chain { pem: row.chain }))
        })
        .collect()
}

async fn admin_states(
    connection: &mut PgConnection,
) -> Result<BTreeMap<AdminKey, Admin>, StoreError> {
    let rows = sqlx::query!(
        "select pool, backend, agent, state, pace_per_second, pace_since, pace_until
         from admin_states"
    )
    .fetch_all(connection)
    .await?;
    let mut states = BTreeMap::new();
    for row in rows {
        let bad = |why| broken("an admin state", why);
        let agent = row.agent.map(|id| id.to_string().parse()).transpose();
        let key = AdminKey {
            pool: row.pool.parse().map_err(bad)?,
            backend: row.backend.parse().map_err(bad)?,
            agent: agent.map_err(bad)?,
        };
        let state: AdminState = row.state.parse().map_err(bad)?;
        let pace = pace(row.pace_per_second, row.pace_since, row.pace_until)?;
        states.insert(key, Admin { state, pace });
    }
    Ok(states)
}

/// A pace as stored.
pub(super) fn pace(
    per_second: Option<i32>,
    since: Option<OffsetDateTime>,
    until: Option<OffsetDateTime>,
) -> Result<Option<Pace>, StoreError> {
    let bad = |why: &dyn std::fmt::Display| broken("a pace", why);
    if let Some(rate) = per_second {
        let rate = u32::try_from(rate).and_then(NonZeroU32::try_from);
        return Ok(Some(Pace::PerSecond(rate.map_err(|why| bad(&why))?)));
    }
    let Some((since, until)) = since.zip(until) else {
        return Ok(None);
    };
    let within = std::time::Duration::try_from(until - since).map_err(|why| bad(&why))?;
    Ok(Some(Pace::Within {
        since: u64::try_from(since.unix_timestamp_nanos() / 1_000_000).map_err(|why| bad(&why))?,
        within: within.try_into().map_err(|why| bad(&why))?,
    }))
}

/// Roles as stored.
pub(super) fn roles(names: &[String]) -> Result<BTreeSet<Role>, StoreError> {
    names
        .iter()
        .map(|name| match name.as_str() {
            "balancer" => Ok(Role::Balancer),
            "terminator" => Ok(Role::Terminator),
            other => Err(broken("a role", other)),
        })
        .collect()
}

/// Labels as stored.
pub(super) fn labels(stored: &serde_json::Value) -> Result<Labels, StoreError> {
    serde::Deserialize::deserialize(stored).map_err(|why| broken("labels", why))
}
