//! Who asks: connections of our own whose every answer is checked byte for byte
//! ([`http`], [`tls`], [`websocket`]), what they ask of ([`backend`]), the thread that
//! keeps many of them busy ([`driver`]) or asks at a fixed rate ([`pace`]), and other
//! people's load generators ([`tools`]).

pub mod backend;
pub mod driver;
pub mod http;
pub mod pace;
pub mod tls;
pub mod tools;
pub mod websocket;
pub mod wire;

use std::io;
use std::thread::{Builder, JoinHandle};

use rustix::thread::{CpuSet, sched_setaffinity};

/// A thread with a runtime of its own, on one processor when that is asked.
pub(crate) fn spawn_runtime<F>(
    name: &str,
    processor: Option<usize>,
    main: impl FnOnce() -> F + Send + 'static,
) -> io::Result<JoinHandle<()>>
where
    F: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Builder::new().name(name.to_owned()).spawn(move || {
        if let Some(processor) = processor {
            let mut set = CpuSet::new();
            set.set(processor);
            // A processor that this process may not use shows in the figures at once:
            // the run asks which it may use first.
            let _bound = sched_setaffinity(None, &set);
        }
        runtime.block_on(main());
    })
}
