//! The pure half of Tidegate: what people write ([`document`]), what an agent
//! must run ([`plan`], [`snapshot`], [`diff`]) and every decision on the data
//! path ([`admit`], [`pick`], [`health`], ...).
//!
//! Nothing here opens a socket, reads a clock or draws a random number: time,
//! entropy and bytes are arguments, so that each rule can be tested as a
//! function. The agent and the control plane are thin I/O around it.

pub mod addr;
pub mod admit;
pub mod backoff;
pub mod client_hello;
pub mod diff;
pub mod document;
pub mod drain;
pub mod ejection;
pub mod forwarded;
pub mod framing;
pub mod health;
pub mod join_token;
pub mod keyed;
pub mod pick;
pub mod plan;
pub mod proxy_protocol;
pub mod rate;
pub mod redirect;
pub mod route;
#[cfg(test)]
mod simulation;
// For the fuzz targets: its promises are kept in one place.
#[cfg(all(feature = "fuzzing", not(test)))]
#[doc(hidden)]
pub mod simulation;
pub mod snapshot;
pub mod tally;
pub mod tickets;
pub mod transparent;
