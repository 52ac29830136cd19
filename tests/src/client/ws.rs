//! A WebSocket client, and what the sample app said in its hello.

use std::io;

use futures_util::{SinkExt, StreamExt};
use http::HeaderMap;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::within;

/// An open WebSocket.
pub struct Ws {
    stream: WebSocketStream<TlsStream<TcpStream>>,
    hello: Value,
}

impl Ws {
    /// Upgrades a TLS stream and reads the app's hello.
    ///
    /// # Errors
    /// When the upgrade is refused or the hello does not come.
    pub async fn over(
        stream: TlsStream<TcpStream>,
        host: &str,
        headers: HeaderMap,
    ) -> io::Result<Self> {
        let url = format!("wss://{host}/socket");
        let mut request = url.into_client_request().map_err(io::Error::other)?;
        for (name, value) in &headers {
            // Beside those of the upgrade, not instead of them.
            request.headers_mut().append(name, value.clone());
        }
        // Its default reserves 128 KiB per connection; tests open hundreds.
        let config = WebSocketConfig::default()
            .read_buffer_size(4096)
            .write_buffer_size(0);
        let (stream, _) = client_async_with_config(request, stream, Some(config))
            .await
            .map_err(io::Error::other)?;
        let mut ws = Self {
            stream,
            hello: Value::Null,
        };
        let hello = ws.receive().await?;
        ws.hello = serde_json::from_str(&hello).map_err(io::Error::other)?;
        Ok(ws)
    }

    /// The process that answers.
    pub fn backend(&self) -> &str {
        self.hello["hello"].as_str().expect("the app says its name")
    }

    /// The client's address as the app sees it.
    pub fn client_ip(&self) -> &str {
        self.hello["client_ip"]
            .as_str()
            .expect("the app says whom it sees")
    }

    /// A header of the upgrade request as the app received it.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.hello["headers"][name].as_str()
    }

    /// Sends `text` and waits for it to come back.
    ///
    /// # Errors
    /// When the connection ends instead.
    pub async fn echo(&mut self, text: &str) -> io::Result<()> {
        within("an echo", async {
            self.stream
                .send(Message::text(text))
                .await
                .map_err(io::Error::other)?;
            let answer = self.receive().await?;
            if answer == text {
                Ok(())
            } else {
                Err(io::Error::other(answer))
            }
        })
        .await
    }

    /// Whether what is sent comes back.
    pub async fn is_open(&mut self) -> bool {
        self.echo("still there?").await.is_ok()
    }

    /// Waits for the end.
    pub async fn ended(&mut self) {
        within("the end of a WebSocket", async {
            while let Some(Ok(_)) = self.stream.next().await {}
        })
        .await;
    }

    /// Says goodbye and waits until the other side has too.
    pub async fn close(mut self) {
        let goodbye = self.stream.close(None).await;
        if goodbye.is_ok() {
            self.ended().await;
        }
    }

    async fn receive(&mut self) -> io::Result<String> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                Some(Ok(Message::Close(_))) | None => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(io::Error::other(error)),
            }
        }
    }
}
