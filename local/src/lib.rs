//! Processes on this machine that end when we do: [`child`]ren in general, a
//! private `postgres`, and `databases` on it, one per test (feature `postgres`).
//!
//! For dev mode, the tests, and `scripts/sqlx` (ADR 004). Nothing that a fleet in
//! production runs calls this crate.

pub mod child;
#[cfg(feature = "postgres")]
pub mod databases;
#[cfg(feature = "postgres")]
pub mod postgres;
