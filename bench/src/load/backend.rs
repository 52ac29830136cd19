//! The app behind proxies whose cost is measured: HTTP/1.1, as little of it as will
//! do. `GET /N` is answered with N bytes of the stage's block.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::spawn_runtime;

/// What a request's head may be long.
const HEAD_LIMIT: usize = 8 * 1024;

/// Twelve bytes that begin a PROXY v2 header (haproxy's proxy-protocol.txt, 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// A running backend; stopped when dropped.
pub struct Backend {
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy)]
struct Rules {
    proxied: bool,
    block: &'static [u8],
}

impl Backend {
    /// Listens, on a thread of its own. A `proxied` one wants a PROXY v2 header first,
    /// and closes on anything else.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start(
        address: SocketAddr,
        proxied: bool,
        processor: Option<usize>,
        block: &'static [u8],
    ) -> io::Result<Self> {
        let listener = listen(address)?;
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let rules = Rules { proxied, block };
        let thread = spawn_runtime("backend", processor, move || async move {
            tokio::select! {
                () = stopped.notified() => {}
                () = serve(listener, rules) => {}
            }
        })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

async fn serve(listener: std::net::TcpListener, rules: Rules) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(async move {
                    // A client that breaks off has its own words for it.
                    let _broken_off = converse(stream, rules).await;
                });
            }
            // Out of descriptors: the client's side says so.
            Err(_) => tokio::task::yield_now().await,
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(mut stream: TcpStream, rules: Rules) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if rules.proxied {
        skip_proxy_header(&mut stream).await?;
    }
    let mut buffer = vec![0; 1024];
    let mut filled = 0;
    loop {
        let Some(request) = parse(buffer.get(..filled).unwrap_or_default())? else {
            if filled == buffer.len() {
                if filled >= HEAD_LIMIT {
                    return Err(io::Error::other("a head without end"));
                }
                buffer.resize(filled * 2, 0);
            }
            let read = stream
                .read(buffer.get_mut(filled..).unwrap_or_default())
                .await?;
            if read == 0 {
                return Ok(());
            }
            filled += read;
            continue;
        };
        answer(&mut stream, &request, rules.block).await?;
        buffer.copy_within(request.head..filled, 0);
        filled -= request.head;
        if !request.keep {
            stream.shutdown().await?;
            // Until the other side has closed too: a close before that may reset.
            while stream.read(&mut buffer).await? > 0 {}
            return Ok(());
        }
    }
}

async fn skip_proxy_header(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = [0; 16];
    stream.read_exact(&mut head).await?;
    let (signature, rest) = head.split_at(SIGNATURE.len());
    // Version 2, LOCAL or PROXY; family; length of the addresses.
    match *rest {
        [0x20 | 0x21, _, high, low] if signature == SIGNATURE => {
            let mut addresses = vec![0; usize::from(u16::from_be_bytes([high, low]))];
            stream.read_exact(&mut addresses).await?;
            Ok(())
        }
        _ => Err(io::Error::other("no PROXY v2 header")),
    }
}

struct Request {
    size: usize,
    keep: bool,
    /// How long its head was.
    head: usize,
}

/// The first request in the bytes, when it is whole.
fn parse(bytes: &[u8]) -> io::Result<Option<Request>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(bytes).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let size = request
        .path
        .and_then(|path| path.strip_prefix('/')?.parse().ok());
    let connection = request
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("connection"))
        .map(|header| header.value);
    let keep = match connection {
        Some(value) if value.eq_ignore_ascii_case(b"close") => false,
        Some(value) if value.eq_ignore_ascii_case(b"keep-alive") => true,
        _ => request.version == Some(1),
    };
    Ok(Some(Request {
        size: size.unwrap_or(0),
        keep,
        head,
    }))
}

async fn answer(stream: &mut TcpStream, request: &Request, block: &[u8]) -> io::Result<()> {
    let connection = if request.keep { "keep-alive" } else { "close" };
    let mut head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
        request.size
    )
    .into_bytes();
    let first = block
        .get(..request.size.min(block.len()))
        .unwrap_or_default();
    if first.len() <= 16 * 1024 {
        head.extend_from_slice(first);
        return stream.write_all(&head).await;
    }
    stream.write_all(&head).await?;
    let mut left = request.size;
    while left > 0 {
        let part = block.get(..left.min(block.len())).unwrap_or_default();
        stream.write_all(part).await?;
        left -= part.len();
    }
    Ok(())
}
