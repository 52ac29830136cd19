//! Commands of one session: said as they come, beside whatever else is under way,
//! and what the agent made of each written down. Whoever gave it waits for that
//! row, not for this session.

use tidegate_proto::v1;
use tidegate_proto::v1::command::Command as Wire;
use tidegate_proto::v1::control_message::Message as Down;

use super::{End, Session};
use crate::link::said;
use crate::model::Command;

/// What is told where an agent cannot be: an older version says nothing of it.
const UNKNOWN: &str = "this agent's version cannot close the connections to a backend: update it";

impl Session {
    /// Says it, where the agent understands it.
    pub(super) async fn command(&self, command: Command) -> Result<(), End> {
        let Command { number, cut } = command;
        if !self.cuts_backends {
            self.outcome(number, Err(UNKNOWN)).await;
            return Ok(());
        }
        let command = Some(Wire::CutBackend(cut.into()));
        self.send(Down::Command(v1::Command { number, command }))
            .await
    }

    /// What the agent made of one.
    pub(super) async fn heard_result(&self, result: v1::CommandResult) -> Result<(), End> {
        let v1::CommandResult {
            number,
            error,
            connections,
        } = result;
        let agent = self.peer.agent;
        tracing::info!(%agent, number, error, connections, "command done");
        let error = said::text(&error);
        let outcome = match error.as_str() {
            "" => Ok(connections),
            error => Err(error),
        };
        self.outcome(number, outcome).await;
        Ok(())
    }

    async fn outcome(&self, number: u64, outcome: Result<u64, &str>) {
        let agent = self.peer.agent;
        let written = self.link.store.command_done(agent, number, outcome).await;
        if let Err(error) = written {
            // Nobody waits for it by the time that the database is back.
            tracing::debug!(%agent, number, %error, "a command's outcome was not written");
        }
    }
}
