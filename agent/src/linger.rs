//! Closing after a last word: with something unread the kernel would reset, and the
//! client may not have our word by then (RFC 9112 section 9.6).

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::engine::{self, timeout_at};

/// What is read of a few more packets that nobody wants, in bytes.
pub(crate) const LITTLE: u64 = 64 << 10;
/// How long it may take.
const LONGEST: Duration = Duration::from_secs(1);

/// Ends our direction, and reads until the client ends, or has had its time or sent `most`
/// bytes.
pub(crate) async fn linger<S>(mut client: S, most: u64)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let reading = async {
        client.shutdown().await?;
        let (mut buffer, mut client) = ([0; 4096], client.take(most));
        while client.read(&mut buffer).await? > 0 {}
        io::Result::Ok(())
    };
    // Whatever came of it: the word is sent.
    let _ = timeout_at(engine::now() + LONGEST, reading).await;
}
