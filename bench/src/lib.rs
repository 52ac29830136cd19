//! The comparison: Tidegate beside HAProxy, nginx, hitch, Apache and Node.js, measured
//! in one run on one machine.
//!
//! [`scenario`] says which systems answer which questions, [`systems`] starts them,
//! [`load`] asks and checks every answer, [`measure`] reads the kernel's accounts, and
//! [`run`] goes round and writes [`results`], from which [`report`] and [`compare`] are
//! made. A new system is a [`systems::Layer`] named in a scenario; a new question is an
//! experiment of a scenario.

pub mod compare;
pub mod load;
pub mod measure;
pub mod report;
pub mod results;
pub mod run;
pub mod scenario;
pub mod stage;
pub mod systems;
