//! Asking over HTTP/1.1 for bodies that are known, and comparing every byte of them.
//!
//! `GET /N` is answered with the first N bytes of the stage's block, repeated. An
//! answer with another status, length or byte is [`Trouble::Wrong`].

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::wire::{PATIENCE, Wire};
use crate::systems::Trouble;

/// What a head may be long.
const HEAD_LIMIT: usize = 8 * 1024;

/// A connection on which requests are made one after another.
pub struct Client {
    wire: Wire,
    buffer: Vec<u8>,
    block: &'static [u8],
}

/// What becomes of the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It stays open.
    Keep,
    /// The server closes it.
    Close,
}

impl Client {
    /// On a connection, with a buffer of so many bytes to read into.
    pub fn new(wire: Wire, block: &'static [u8], buffer: usize) -> Self {
        Self {
            wire,
            buffer: vec![0; buffer.max(1024)],
            block,
        }
    }

    /// The connection.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Asks for `size` bytes and checks what comes; body bytes are added to `count` as
    /// they come.
    ///
    /// # Errors
    /// When the answer is wrong, or does not come.
    pub async fn get(
        &mut self,
        size: usize,
        after: After,
        count: &AtomicU64,
    ) -> Result<(), Trouble> {
        let connection = if after == After::Close {
            "close"
        } else {
            "keep-alive"
        };
        let request =
            format!("GET /{size} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n");
        self.wire.write_all(request.as_bytes()).await?;
        self.wire.flush().await?;
        let (head, filled) = self.head().await?;
        self.check_head(head, size)?;
        self.body(head, filled, size, count).await?;
        if after == After::Close {
            self.end().await?;
        }
        Ok(())
    }

    /// Reads up to the end of the head: where that is, and how much is in the buffer.
    async fn head(&mut self) -> Result<(usize, usize), Trouble> {
        let mut filled = 0;
        loop {
            let read = self.read(filled).await?;
            if read == 0 {
                return Err(Trouble::Wrong(format!(
                    "an end after {filled} bytes of the head"
                )));
            }
            filled += read;
            let so_far = self.buffer.get(..filled).unwrap_or_default();
            if let Some(end) = so_far.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                return Ok((end + 4, filled));
            }
            if filled >= HEAD_LIMIT.min(self.buffer.len()) {
                return Err(Trouble::Wrong(format!(
                    "a head of more than {filled} bytes"
                )));
            }
        }
    }

    fn check_head(&self, head: usize, size: usize) -> Result<(), Trouble> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let text = self.buffer.get(..head).unwrap_or_default();
        let told = || String::from_utf8_lossy(text).into_owned();
        response
            .parse(text)
            .map_err(|error| Trouble::Wrong(format!("{error}: {}", told())))?;
        if response.code != Some(200) {
            return Err(Trouble::Wrong(format!("not 200: {}", told())));
        }
        let length = response
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case("content-length"))
            .and_then(|header| {
                std::str::from_utf8(header.value)
                    .ok()?
                    .parse::<usize>()
                    .ok()
            });
        if length != Some(size) {
            return Err(Trouble::Wrong(format!("not {size} bytes long: {}", told())));
        }
        Ok(())
    }

    /// Compares the body, of which the buffer holds the beginning.
    async fn body(
        &mut self,
        head: usize,
        filled: usize,
        size: usize,
        count: &AtomicU64,
    ) -> Result<(), Trouble> {
        let mut place = self.compare(head..filled, 0, size)?;
        count.fetch_add(place as u64, Ordering::Relaxed);
        while place < size {
            let read = self.read(0).await?;
            if read == 0 {
                return Err(Trouble::Wrong(format!(
                    "an end after {place} of {size} bytes"
                )));
            }
            place = self.compare(0..read, place, size)?;
            count.fetch_add(read as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Compares a part of the buffer with the body at `place`; the place after it.
    fn compare(
        &self,
        part: std::ops::Range<usize>,
        mut place: usize,
        size: usize,
    ) -> Result<usize, Trouble> {
        let mut came = self.buffer.get(part).unwrap_or_default();
        if came.len() > size - place {
            return Err(Trouble::Wrong(format!(
                "more than the {size} bytes asked for"
            )));
        }
        while !came.is_empty() {
            let due = self
                .block
                .get(place % self.block.len()..)
                .unwrap_or_default();
            let (now, later) = came.split_at(came.len().min(due.len()));
            if !due.starts_with(now) {
                return Err(Trouble::Wrong(format!(
                    "other bytes in a body of {size}, after {place}"
                )));
            }
            place += now.len();
            came = later;
        }
        Ok(place)
    }

    /// Waits for the server's close. TLS without close_notify is a close too.
    async fn end(&mut self) -> Result<(), Trouble> {
        match self.read(0).await {
            Ok(0) => Ok(()),
            Ok(_) => Err(Trouble::Wrong("bytes after the last answer".to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn read(&mut self, from: usize) -> std::io::Result<usize> {
        let room = self.buffer.get_mut(from..).unwrap_or_default();
        timeout(PATIENCE, self.wire.read(room)).await?
    }
}
