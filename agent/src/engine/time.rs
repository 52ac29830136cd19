//! Waiting for a time on a data thread: one entry in its wheel, exact to a
//! millisecond and never early.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::{Engine, now, with};

/// Ends at a time.
pub(crate) struct Sleep {
    until: Instant,
    /// Its entry in the wheel, and the time that is set for.
    timer: Option<(u32, Instant)>,
}

/// Sleeps until then.
pub(crate) fn sleep_until(until: Instant) -> Sleep {
    Sleep { until, timer: None }
}

impl Sleep {
    /// Another end. A later one costs nothing: the entry moves when it is due.
    pub(crate) fn reset(&mut self, until: Instant) {
        self.until = until;
    }

    /// Whether it was polled already and will wake that task later.
    pub(crate) fn is_waiting(&self) -> bool {
        self.timer.is_some() && now() < self.until
    }

    fn arm(&mut self, engine: &Engine, cx: &Context<'_>) {
        let mut timers = engine.timers.borrow_mut();
        if let Some((key, at)) = self.timer
            && at <= self.until
            && timers.is_set(key)
        {
            if let Some(waker) = timers.value(key)
                && !waker.will_wake(cx.waker())
            {
                waker.clone_from(cx.waker());
            }
            return;
        }
        if let Some((key, _)) = self.timer.take() {
            timers.remove(key);
        }
        // Rounded up: a timer that ends early would only be set again.
        let at = engine.tick(self.until).saturating_add(1);
        self.timer = Some((timers.insert(at, cx.waker().clone()), self.until));
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.until <= now() {
            return Poll::Ready(());
        }
        // Elsewhere there is nothing that would wake it.
        let _ = with(|engine| self.arm(engine, cx));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((key, _)) = self.timer.take() {
            // The wheel of a thread that ends goes with it.
            let _ = with(|engine| engine.timers.borrow_mut().remove(key));
        }
    }
}

/// The time was up first.
#[derive(Debug)]
pub(crate) struct Elapsed;

/// Gives a future until then.
///
/// # Errors
/// When it has not ended by then.
pub(crate) async fn timeout_at<F: Future>(until: Instant, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut sleep = sleep_until(until);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(&mut sleep).poll(cx).map(|()| Err(Elapsed))
    })
    .await
}

impl From<Elapsed> for io::Error {
    fn from(_: Elapsed) -> Self {
        io::ErrorKind::TimedOut.into()
    }
}

/// hyper's timers on a data thread.
#[derive(Clone, Debug)]
pub(crate) struct HyperTimer;

impl hyper::rt::Timer for HyperTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(sleep_until(now() + duration))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(sleep_until(deadline))
    }

    fn now(&self) -> Instant {
        now()
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn hyper::rt::Sleep>>, deadline: Instant) {
        *sleep = self.sleep_until(deadline);
    }
}

impl hyper::rt::Sleep for Sleep {}
