//! Bytes that wait, in memory of exactly their size, and how many of them a thread has.

use std::cell::Cell;

/// Bytes that a thread holds for others before it reads little at once: beyond that
/// a slow reader costs what it does elsewhere.
const MOST: usize = 16 << 20;

thread_local! {
    static SUM: Cell<usize> = const { Cell::new(0) };
}

/// Bytes that wait, from `from` on. Without any it holds no memory.
#[derive(Default)]
pub(crate) struct Held {
    bytes: Box<[u8]>,
    from: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        SUM.set(SUM.get().saturating_sub(self.bytes.len()));
    }
}

impl Held {
    /// All of `bytes`.
    pub(crate) fn of(bytes: Box<[u8]>) -> Self {
        SUM.set(SUM.get().saturating_add(bytes.len()));
        Self { bytes, from: 0 }
    }

    /// Whether this thread holds so much that it should hold no more.
    pub(crate) fn is_much() -> bool {
        SUM.get() > MOST
    }

    /// What is left of them.
    pub(crate) fn rest(&self) -> &[u8] {
        self.bytes.get(self.from..).unwrap_or_default()
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.from >= self.bytes.len()
    }

    /// Lets go of the next `count`.
    pub(crate) fn advance(&mut self, count: usize) {
        self.from += count;
        if self.is_empty() && !self.bytes.is_empty() {
            *self = Self::default();
        }
    }

    /// Adds more behind them.
    pub(crate) fn push(&mut self, more: &[u8]) {
        *self = Self::of([self.rest(), more].concat().into());
    }

    /// Holds `bytes` instead.
    pub(crate) fn replace(&mut self, bytes: &[u8]) {
        if self.bytes.is_empty() && bytes.is_empty() {
            return;
        }
        *self = Self::of(bytes.into());
    }

    /// Copies what there is room for into the beginning of `buffer`; answers how much.
    pub(crate) fn copy_to(&self, buffer: &mut [u8]) -> usize {
        let rest = self.rest();
        let rest = rest.get(..buffer.len()).unwrap_or(rest);
        if let Some(room) = buffer.get_mut(..rest.len()) {
            room.copy_from_slice(rest);
        }
        rest.len()
    }

    /// Bytes that this thread holds.
    #[cfg(test)]
    pub(super) fn sum() -> usize {
        SUM.get()
    }

    /// See [`Held::is_much`].
    #[cfg(test)]
    pub(super) const MOST: usize = MOST;
}
