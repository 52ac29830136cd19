//! One line of a program's log, which is JSON: what tests wait for and look into.

use std::net::SocketAddr;

use serde_json::Value;

/// One line of a log.
#[derive(Debug, Clone)]
pub struct Event(Value);

impl Event {
    pub(crate) fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok().map(Self)
    }

    /// What it says.
    pub fn message(&self) -> &str {
        self.text("message")
    }

    /// A text field; empty when absent.
    pub fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    /// A number field.
    pub fn number(&self, field: &str) -> u64 {
        self.0[field]
            .as_u64()
            .unwrap_or_else(|| panic!("no number {field} in {:?}", self.0))
    }

    /// Whether the field is there.
    pub fn has(&self, field: &str) -> bool {
        self.0.get(field).is_some_and(|value| !value.is_null())
    }

    /// Why a connection ended.
    pub fn cause(&self) -> &str {
        self.text("cause")
    }

    /// How far a connection came.
    pub fn phase(&self) -> &str {
        self.text("phase")
    }

    /// The client of a connection.
    pub fn client(&self) -> SocketAddr {
        let client = self.text("client").parse();
        client.unwrap_or_else(|_| panic!("no client in {:?}", self.0))
    }

    /// Whether it tells the end of a connection.
    pub fn is_closed(&self) -> bool {
        self.text("target") == "access" && self.message() == "closed"
    }
}
