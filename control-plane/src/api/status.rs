//! The whole at a glance.

use axum::extract::State;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Api;
use super::answer::Tagged;
use super::auth::{Caller, Viewer};
use super::problem::Problem;
use crate::picture;
use crate::store::{AgentCounts, BackendCounts, ConnectionCounts, ReplicaSeen};

/// The whole at a glance.
#[derive(Serialize, ToSchema)]
pub(super) struct Status {
    cluster: Uuid,
    /// The database's incarnation: numbers of two epochs are never compared.
    epoch: Uuid,
    /// Of the control plane that answers.
    version: &'static str,
    /// The control plane that answers.
    replica: Uuid,
    change: u64,
    revision: u64,
    /// Control planes that live.
    replicas: Vec<ReplicaSeen>,
    agents: AgentCounts,
    backends: BackendCounts,
    connections: ConnectionCounts,
    certificates: Vec<CertificateEnd>,
}

/// Until when a certificate is valid.
#[derive(Serialize, ToSchema)]
pub(super) struct CertificateEnd {
    name: String,
    #[serde(with = "time::serde::rfc3339")]
    not_after: OffsetDateTime,
}

/// The whole at a glance.
#[utoipa::path(
    get,
    path = "/status",
    tag = "fleet",
    responses((status = 200, description = "Counts over the whole fleet", body = Status))
)]
pub(super) async fn read_status(
    _: Caller<Viewer>,
    State(api): State<Api>,
) -> Result<Tagged, Problem> {
    let (_, document) = api.store.document().await?;
    let overview = api
        .store
        .overview(&picture::edge(&document), api.fresh_since())
        .await?;
    let certificates = api.store.certificates().await?;
    let ends = certificates.into_iter().map(|stored| CertificateEnd {
        name: stored.name,
        not_after: stored.not_after,
    });
    Tagged::of(&Status {
        cluster: api.cluster,
        epoch: overview.numbers.epoch,
        version: api.version,
        replica: api.replica,
        change: overview.numbers.change,
        revision: overview.numbers.revision,
        replicas: overview.replicas,
        agents: overview.agents,
        backends: overview.backends,
        connections: overview.connections,
        certificates: ends.collect(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidegate_core::document::Role;

    use super::super::testing::Fixture;
    use crate::model::Outcome;

    #[tokio::test]
    async fn the_fleet_is_counted_as_it_reports() {
        let api = Fixture::new().await;
        api.apply(
            "
listeners: [{ name: edge, role: balancer, bind: ':443', pool: p }]
pools: [{ name: p, backends: [{ address: '10.0.0.9:1' }] }]
",
        )
        .await;
        let (one, two) = (
            api.agent(1, &[Role::Balancer], &[]).await,
            api.agent(2, &[Role::Balancer], &[]).await,
        );
        api.connect(one, 1).await;
        api.says(one, Outcome::Applied).await;
        api.says(two, Outcome::Failed(Vec::new())).await;
        let sql = format!(
            "insert into replicas (id, address) values ('{one}', '127.0.0.1:7444');
             insert into observed_backends
             select agent::uuid, 'p', backend, '', up, admin, 0, 0, 0, 0, null, null, null, now() - age
             from (values ('{one}', 'a', true, 'ready', interval '0'), ('{one}', 'b', false, 'ready', '0'),
                          ('{one}', 'c', true, 'drain', '0'), ('{two}', 'a', true, 'ready', '1 minute'))
                  as t(agent, backend, up, admin, age);
             insert into observed_listeners
             select agent::uuid, listener, '', live, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2.5, 0, 0, now() - age
             from (values ('{one}', 'edge', 7, interval '0'), ('{one}', 'behind', 100, '0'),
                          ('{two}', 'edge', 100, '1 minute')) as t(agent, listener, live, age)"
        );
        api.store.execute(&sql).await;
        let status = api.get("/status").await;
        assert_eq!(
            status["agents"],
            json!({ "total": 2, "connected": 1, "in_sync": 1, "failed": 1, "revoked": 0 })
        );
        assert_eq!(
            status["backends"],
            json!({ "up": 1, "down": 1, "drained": 1 })
        );
        assert_eq!(
            status["connections"],
            json!({ "live": 7, "accept_rate": 2.5 })
        );
        assert_eq!(status["replicas"][0]["address"], "127.0.0.1:7444");
        assert_eq!(
            (&status["revision"], &status["change"]),
            (&json!(1), &json!(3))
        );
        assert_eq!(status["version"], "0.0.0-test");
    }
}
