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
        self.answer(size, after, count).await?;
        if after == After::Close {
            self.end().await?;
        }
        Ok(())
    }

    /// The same, but does not wait for the server's close, which [`end`](Self::end) does.
    ///
    /// # Errors
    /// As of [`get`](Self::get).
    pub async fn answer(
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
        self.body(head, filled, size, count).await
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
    ///
    /// # Errors
    /// When something else comes, or nothing.
    pub async fn end(&mut self) -> Result<(), Trouble> {
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    static BLOCK: &[u8] = b"0123456789";

    /// What a client says of an answer to `GET /12`, after which the server closes.
    async fn asked(answer: &'static [u8]) -> Result<(), Trouble> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /12 HTTP/1.1\r\n"));
            stream.write_all(answer).await.unwrap();
        };
        let asking = async {
            let wire = Wire::connect(address, None).await.unwrap();
            let count = AtomicU64::new(0);
            let got = Client::new(wire, BLOCK, 0)
                .get(12, After::Close, &count)
                .await;
            assert!(got.is_err() || count.into_inner() == 12);
            got
        };
        tokio::join!(answering, asking).1
    }

    #[tokio::test]
    async fn the_bytes_that_were_asked_for_are_a_right_answer() {
        let right = b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n012345678901";
        asked(right).await.unwrap();
    }

    #[tokio::test]
    async fn every_other_answer_is_a_wrong_one() {
        let wrong: [&[u8]; 8] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n01234567890x",
            b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n0123456789012",
            b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n01234567890",
            b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n01234567890",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc\r\n012345678901\r\n0\r\n\r\n",
            b"HTTP/1.1 503 No\r\nContent-Length: 12\r\n\r\n012345678901",
            b"HTTP/1.1 200 OK\r\n",
            b"SSH-2.0-x\r\n\r\n",
        ];
        for answer in wrong {
            let got = asked(answer).await;
            let text = String::from_utf8_lossy(answer);
            assert!(matches!(got, Err(Trouble::Wrong(_))), "{text}: {got:?}");
        }
    }
}
