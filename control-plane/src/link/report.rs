//! What agents see, on a stream of its own. A report is acknowledged when it is
//! in the database; one that cannot be taken in now is not, and comes again.

use tidegate_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::Link;
use crate::ingest::Report;
use crate::model::AgentId;

/// Acknowledgements to an agent.
pub(super) type Acks = ReceiverStream<Result<v1::ReportAck, Status>>;

/// Acknowledgements that are not on the wire yet: an agent keeps few reports.
const ACKS: usize = 32;

/// Takes in an agent's reports until it ends them.
pub(super) fn begin(link: &Link, agent: AgentId, mut incoming: Streaming<v1::StatsReport>) -> Acks {
    let (acks, outgoing) = mpsc::channel(ACKS);
    let ingest = link.ingest.clone();
    tokio::spawn(async move {
        loop {
            let message = tokio::select! {
                () = acks.closed() => return,
                message = incoming.message() => message,
            };
            let report = match message {
                Ok(Some(report)) => report,
                Ok(None) => return,
                Err(status) => {
                    tracing::debug!(%agent, %status, "reports broke off");
                    return;
                }
            };
            match Report::read(agent, report) {
                Ok(report) => ingest.take(report, acks.clone()),
                Err(why) => {
                    tracing::warn!(%agent, %why, "a report that none is");
                    // If it does not listen any more, it need not know.
                    let _ = acks.try_send(Err(Status::invalid_argument(why.to_string())));
                    return;
                }
            }
        }
    });
    ReceiverStream::new(outgoing)
}
