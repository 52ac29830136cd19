//! Closing after a last word: with something unread the kernel would reset, and the
//! client may not have our word by then.

use std::time::Duration;

use tokio::io::AsyncReadExt;

use crate::engine::{self, TcpStream, timeout_at};

/// What is read that nobody wants, at most, in bytes and time.
const MOST: u64 = 64 << 10;
const LONGEST: Duration = Duration::from_secs(1);

/// Ends our direction, and reads until the client ends or has had its time.
pub(crate) async fn linger(client: TcpStream) {
    if client.end().is_err() {
        return;
    }
    let deadline = engine::now() + LONGEST;
    let reading = async {
        let (mut buffer, mut client) = ([0; 4096], client.take(MOST));
        while client.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    };
    // Whatever came of it: the word is sent.
    let _ = timeout_at(deadline, reading).await;
}
