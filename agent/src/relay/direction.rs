//! Bytes one way: read, written, and kept only where the writer does not take them.
//! Knows nothing of timers and of what an end means for the other way.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::End;
use super::held::Held;
use super::pipe::{self, Pipe};

/// How much is read at once, in bytes; what fills the last is spliced from then on,
/// where both ends can.
const SIZES: [usize; 3] = [SMALLEST, 64 << 10, LARGEST];
/// Beyond the last of [`SIZES`].
const SPLICED: u8 = 3;
/// A splice of less than this ends the splicing: copying it is as cheap.
const MUCH: usize = 64 << 10;
const SMALLEST: usize = 16 << 10;
const LARGEST: usize = 256 << 10;
/// Read by one direction before others get their turn.
const TURN: usize = 4 * LARGEST;

/// Which side of a direction failed.
pub(super) enum Broken {
    Reading,
    Writing,
}

/// Bytes one way.
#[derive(Default)]
pub(super) struct Direction {
    /// Read, and refused by the writer so far.
    pending: Held,
    /// While it splices, and has not written all of it.
    pipe: Option<Pipe>,
    /// Bytes written since they were last counted.
    pub(super) uncounted: usize,
    /// All that the reader will ever say is read.
    is_whole: bool,
    /// Index into [`SIZES`] for the next read.
    size: u8,
    stage: Stage,
    /// A write to the reader has failed: the kernel has told of the reset there
    /// already, and a read will say that it is a plain end.
    pub(super) reader_broken: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Reading,
    /// Written; the writer (TLS) may still hold some of it back.
    Flushing,
    /// The reader has ended: the writer is told.
    Closing,
    Ended,
}

impl Direction {
    /// One that has these bytes to write first.
    pub(super) fn after(leftover: Vec<u8>) -> Self {
        Self {
            pending: Held::of(leftover.into_boxed_slice()),
            ..Self::default()
        }
    }

    /// Whether it has ended, or failed.
    pub(super) fn ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Moves what can be moved. Ready once: at its end, or at its failure. `closes`
    /// says that the writer is closed next.
    pub(super) fn poll<R: End, W: End>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        closes: bool,
    ) -> Poll<Result<(), Broken>> {
        if self.ended() {
            return Poll::Pending;
        }
        let end = match self.advance(cx, reader, writer, closes) {
            Poll::Ready(end) => end,
            // Nobody reads on, and so nobody would learn of it.
            Poll::Pending if self.is_held_back() && reader.is_reset(cx) => Err(Broken::Reading),
            Poll::Pending => return Poll::Pending,
        };
        self.pending = Held::default();
        self.pipe = None;
        self.stage = Stage::Ended;
        Poll::Ready(end)
    }

    fn advance<R: End, W: End>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        closes: bool,
    ) -> Poll<Result<(), Broken>> {
        let mut turn = TURN;
        loop {
            if !self.pending.is_empty() && ready!(self.write_pending(cx, writer)).is_err() {
                return Poll::Ready(Err(Broken::Writing));
            }
            if self.pipe.is_some() && ready!(self.write_spliced(cx, writer)).is_err() {
                return Poll::Ready(Err(Broken::Writing));
            }
            match self.stage {
                Stage::Flushing => {
                    if ready!(Pin::new(&mut *writer).poll_flush(cx)).is_err() {
                        return Poll::Ready(Err(Broken::Writing));
                    }
                    self.stage = match self.is_whole {
                        true => Stage::Closing,
                        false => Stage::Reading,
                    };
                }
                Stage::Reading if turn == 0 => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Stage::Reading if self.size == SPLICED => {
                    let read = ready!(self.splice(cx, reader, writer));
                    turn = turn.saturating_sub(read?);
                }
                Stage::Reading => {
                    let read = with_scratch(|scratch| self.carry(cx, reader, writer, scratch));
                    turn = turn.saturating_sub(ready!(read)?);
                }
                Stage::Closing if closes => return Poll::Ready(Ok(())),
                // A writer that is gone already cannot be told, and need not be.
                Stage::Closing | Stage::Ended => {
                    return Pin::new(&mut *writer).poll_shutdown(cx).map(|_| Ok(()));
                }
            }
        }
    }

    /// Whether the writer has not taken all that was read.
    fn is_held_back(&self) -> bool {
        self.stage == Stage::Flushing || !self.pending.is_empty() || self.pipe.is_some()
    }

    /// Reads into `scratch` and writes from there; keeps only what the writer does
    /// not take. Answers how much was read.
    fn carry<R: End, W: End>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        scratch: &mut [u8],
    ) -> Poll<Result<usize, Broken>> {
        let capacity = self.capacity();
        let mut bytes = match ready!(self.read(cx, reader, scratch)) {
            Ok([]) if self.reader_broken => return Poll::Ready(Err(Broken::Reading)),
            Ok(bytes) => bytes,
            Err(_) => return Poll::Ready(Err(Broken::Reading)),
        };
        let count = bytes.len();
        if count == 0 {
            self.stage = Stage::Closing;
            return Poll::Ready(Ok(0));
        }
        self.stage = Stage::Flushing;
        // The end came before this was read, and is next (urgent data, RFC 6093, apart). It
        // need not be read, and a FIN of its own would be a packet more.
        self.is_whole = count < capacity && reader.peer_has_ended() && !self.reader_broken;
        while !bytes.is_empty() {
            let writing = Pin::new(&mut *writer);
            let written = match self.is_whole {
                true => writing.poll_write_last(cx, bytes),
                false => writing.poll_write(cx, bytes),
            };
            match written {
                Poll::Ready(Ok(written)) if written > 0 => {
                    self.uncounted += written;
                    bytes = bytes.get(written..).unwrap_or_default();
                }
                Poll::Ready(_) => return Poll::Ready(Err(Broken::Writing)),
                Poll::Pending => {
                    self.pending = Held::of(bytes.into());
                    break;
                }
            }
        }
        Poll::Ready(Ok(count))
    }

    /// Moves what has come into a pipe. Answers how much.
    fn splice<R: End, W: End>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &R,
        writer: &W,
    ) -> Poll<Result<usize, Broken>> {
        let ends = reader.socket().zip(writer.socket());
        let Some((reader, mut pipe)) = ends.and_then(|(r, _)| Some((r, Pipe::take()?))) else {
            self.size = SPLICED - 1;
            return Poll::Ready(Ok(0));
        };
        // Dropped, and so given back, where there is nothing to move.
        match ready!(reader.poll_splice_from(cx, pipe.write_end(), pipe::CAPACITY)) {
            Ok(0) if self.reader_broken => return Poll::Ready(Err(Broken::Reading)),
            Ok(0) => self.stage = Stage::Closing,
            Ok(count) => {
                if count < MUCH {
                    self.size = SPLICED - 1;
                }
                pipe.held = count;
                self.pipe = Some(pipe);
                return Poll::Ready(Ok(count));
            }
            Err(_) => return Poll::Ready(Err(Broken::Reading)),
        }
        Poll::Ready(Ok(0))
    }

    fn write_spliced<W: End>(&mut self, cx: &mut Context<'_>, writer: &W) -> Poll<io::Result<()>> {
        while let Some(pipe) = &mut self.pipe
            && let Some(writer) = writer.socket()
        {
            let moved = writer.poll_splice_to(cx, pipe.read_end(), pipe.held);
            let count = ready!(moved)?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            pipe.held = pipe.held.saturating_sub(count);
            self.uncounted += count;
            if pipe.held == 0 {
                self.pipe = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn read<'s, R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        scratch: &'s mut [u8],
    ) -> Poll<io::Result<&'s [u8]>> {
        let capacity = self.capacity();
        let mut filled = ReadBuf::new(scratch.get_mut(..capacity).unwrap_or_default());
        match ready!(Pin::new(reader).poll_read(cx, &mut filled)) {
            Ok(()) => {}
            Err(e) => return Poll::Ready(Err(e)),
        }
        let count = filled.filled().len();
        // Records seldom fill it to the last byte.
        if count > capacity - capacity / 8 {
            self.size = (self.size + 1).min(SPLICED);
        } else if count < capacity / 8 {
            self.size = self.size.saturating_sub(1);
        }
        Poll::Ready(Ok(scratch.get(..count).unwrap_or_default()))
    }

    fn capacity(&self) -> usize {
        if Held::is_much() {
            return SMALLEST;
        }
        let capacity = SIZES.get(usize::from(self.size)).copied();
        capacity.unwrap_or(LARGEST)
    }

    fn write_pending<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
    ) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let count = ready!(Pin::new(&mut *writer).poll_write(cx, self.pending.rest()))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.advance(count);
            self.uncounted += count;
            self.stage = Stage::Flushing;
        }
        Poll::Ready(Ok(()))
    }
}

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; LARGEST].into_boxed_slice());
}

/// Lends the thread's one buffer: it is in the processor's cache already, and no
/// connection keeps it.
pub(crate) fn with_scratch<T>(act: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| act(scratch))
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Always has more to say, or takes nothing.
    struct Endless;
    struct Full;

    impl AsyncRead for Endless {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            buffer.initialize_unfilled();
            buffer.set_filled(buffer.capacity());
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Full {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    macro_rules! takes_nothing {
        ($($end:ty)*) => { $(
            impl AsyncWrite for $end {
                fn poll_write(
                    self: Pin<&mut Self>,
                    _: &mut Context<'_>,
                    _: &[u8],
                ) -> Poll<io::Result<usize>> {
                    Poll::Pending
                }

                fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                    Poll::Pending
                }

                fn poll_shutdown(
                    self: Pin<&mut Self>,
                    _: &mut Context<'_>,
                ) -> Poll<io::Result<()>> {
                    Poll::Pending
                }
            }

            impl End for $end {
                fn reset_on_close(&self) {}

                fn keep_alive(&self, _: &crate::connection::Connection) {}

                fn is_reset(&self, _: &Context<'_>) -> bool {
                    false
                }
            }
        )* };
    }

    takes_nothing!(Endless Full);

    #[test]
    fn many_slow_readers_are_held_little_for_each_and_it_is_given_back() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut held = Vec::new();
        for _ in 0..1000 {
            let mut direction = Direction {
                size: SPLICED - 1,
                ..Direction::default()
            };
            let moved = direction.poll(&mut cx, &mut Endless, &mut Full, false);
            assert!(moved.is_pending() && direction.is_held_back());
            held.push(direction);
        }
        let most = Held::MOST + LARGEST + 1000 * SMALLEST;
        assert!(Held::sum() <= most, "{} bytes, not {most}", Held::sum());
        drop(held);
        assert_eq!(Held::sum(), 0);
    }
}
