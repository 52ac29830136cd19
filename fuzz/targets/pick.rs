//! Histories of a pool: checks, connects, ejections, admin states, limits and a queue,
//! in any order. The promises are the simulation's.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tidegate_core::simulation::follow(bytes.to_vec()));
