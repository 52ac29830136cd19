//! What agents see, on a stream of its own. A report is acknowledged when it is
//! in the database; one that cannot be written now is not, and comes again.

use std::sync::Arc;

use tidegate_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Link, peer};
use crate::ingest::{Places, Report};
use crate::model::AgentId;
use crate::store::AgentState;

/// Acknowledgements to an agent.
pub(super) type Acks = ReceiverStream<Result<v1::ReportAck, Status>>;

/// Acknowledgements that are not on the wire yet: an agent keeps few reports.
const ACKS: usize = 32;

/// Takes in an agent's reports until it ends them.
pub(super) fn begin(
    link: Arc<Link>,
    agent: AgentId,
    mut incoming: Streaming<v1::StatsReport>,
) -> Acks {
    let (acks, outgoing) = mpsc::channel(ACKS);
    tokio::spawn(async move {
        let following = follow(&link, agent, &mut incoming, &acks);
        tokio::select! {
            () = acks.closed() => {}
            Err(status) = following => {
                tracing::debug!(%agent, %status, "reports broke off");
                // If it does not listen any more, it need not know.
                let _ = acks.try_send(Err(status));
            }
        }
    });
    ReceiverStream::new(outgoing)
}

async fn follow(
    link: &Link,
    agent: AgentId,
    incoming: &mut Streaming<v1::StatsReport>,
    acks: &mpsc::Sender<Result<v1::ReportAck, Status>>,
) -> Result<std::convert::Infallible, Status> {
    let places = Places::default();
    loop {
        let report = incoming.message().await?;
        let report = report.ok_or_else(|| Status::cancelled("the agent ended its reports"))?;
        // It may have been revoked since the stream began. While the database is
        // away nothing is written either.
        if let Ok(AgentState::Revoked) = link.store.agent_state(agent).await {
            return Err(peer::revoked());
        }
        let report = Report::read(agent, report).map_err(|why| {
            tracing::warn!(%agent, %why, "a report that none is");
            Status::invalid_argument(why.to_string())
        })?;
        link.ingest.take(report, acks.clone(), &places).await;
    }
}
