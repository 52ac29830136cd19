//! The REST API as an administrator uses it: one connection a request, so that a
//! control plane that was killed and started again is simply asked again.

use std::io;
use std::net::SocketAddr;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, IF_MATCH};
use http::{Method, StatusCode};
use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::client::Client;
use crate::client::http::Answer;
use crate::pki::Issued;

/// Where the API is, and who asks.
#[derive(Clone)]
pub struct Rest {
    address: SocketAddr,
    name: String,
    client: Client,
    token: String,
}

/// A request's body.
pub enum Body<'a> {
    /// None.
    Empty,
    /// JSON.
    Json(&'a Value),
    /// YAML.
    Yaml(&'a str),
}

impl Rest {
    /// The API at `address`, whose certificate is for `name`, with a bearer's token.
    pub fn new(address: SocketAddr, name: &str, client: Client, token: &str) -> Self {
        Self {
            address,
            name: name.to_owned(),
            client,
            token: token.to_owned(),
        }
    }

    /// The same with another token.
    #[must_use]
    pub fn as_bearer(&self, token: &str) -> Self {
        Self {
            token: token.to_owned(),
            ..self.clone()
        }
    }

    /// A request below `/api/v1`, with one more header where it is given.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        header: Option<(HeaderName, &str)>,
        body: Body<'_>,
    ) -> io::Result<Answer> {
        let value = |text: &str| text.parse().expect("tests send what a header takes");
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value(&format!("Bearer {}", self.token)));
        let body = match body {
            Body::Empty => Bytes::new(),
            Body::Json(json) => {
                headers.insert(CONTENT_TYPE, value("application/json"));
                Bytes::from(json.to_string())
            }
            Body::Yaml(text) => {
                headers.insert(CONTENT_TYPE, value("application/yaml"));
                Bytes::copy_from_slice(text.as_bytes())
            }
        };
        if let Some((name, text)) = header {
            headers.insert(name, value(text));
        }
        let mut http = self.client.http(self.address, &self.name).await?;
        let path = format!("/api/v1{path}");
        http.send(method, &path, headers, body).await
    }

    /// What a GET answers, which succeeds.
    pub async fn get(&self, path: &str) -> Value {
        self.ask(Method::GET, path, Body::Empty).await
    }

    /// The document as YAML.
    pub async fn yaml(&self) -> String {
        let accept = Some((ACCEPT, "application/yaml"));
        let answer = self.send(Method::GET, "/config", accept, Body::Empty).await;
        answer.expect("the control plane answers").text()
    }

    /// The ETag of what a GET answers.
    pub async fn etag(&self, path: &str) -> String {
        let answer = self.send(Method::GET, path, None, Body::Empty).await;
        let answer = answer.expect("the control plane answers");
        let etag = answer.headers.get(ETAG);
        let etag = etag.unwrap_or_else(|| panic!("no ETag: {answer:?}"));
        etag.to_str().expect("an ETag is ASCII").to_owned()
    }

    /// A PUT that succeeds.
    pub async fn put(&self, path: &str, body: &Value) -> Value {
        self.ask(Method::PUT, path, Body::Json(body)).await
    }

    /// A POST that succeeds.
    pub async fn post(&self, path: &str, body: &Value) -> Value {
        self.ask(Method::POST, path, Body::Json(body)).await
    }

    /// A DELETE that succeeds.
    pub async fn delete(&self, path: &str) -> Value {
        self.ask(Method::DELETE, path, Body::Empty).await
    }

    /// A PUT of what was read with `etag`: the status and the answer.
    pub async fn put_if(&self, path: &str, etag: &str, body: &Value) -> (u16, Value) {
        let matching = Some((IF_MATCH, etag));
        let answer = self.send(Method::PUT, path, matching, Body::Json(body));
        let answer = answer.await.expect("the control plane answers");
        (answer.status.as_u16(), answer.json())
    }

    /// A request that is refused with this status: the problem.
    pub async fn refused(&self, status: u16, method: Method, path: &str, body: Body<'_>) -> Value {
        let what = format!("{method} {path}");
        let answer = self.send(method, path, None, body).await;
        let answer = answer.expect("the control plane answers");
        assert_eq!(answer.status.as_u16(), status, "{what}: {}", answer.text());
        let kind = answer.headers.get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok());
        assert_eq!(kind, Some("application/problem+json"), "{what}");
        answer.json()
    }

    /// Applies a whole document and waits until every agent runs it.
    pub async fn apply(&self, document: &Value) -> Value {
        let commit = self.put("/config?wait=applied", document).await;
        is_applied(&commit);
        commit
    }

    /// Uploads a certificate.
    pub async fn upload(&self, name: &str, certificate: &Issued) -> Value {
        let body = json!({
            "chain": certificate.chain,
            "private_key": certificate.private_key,
        });
        let path = format!("/certificates/{name}?wait=applied");
        let commit = self.put(&path, &body).await;
        is_applied(&commit);
        commit
    }

    /// Makes a join token that is used once.
    pub async fn join_token(&self, role: &str, labels: Value) -> String {
        let wanted = json!({ "roles": [role], "labels": labels });
        let made = self.post("/join-tokens", &wanted).await;
        made["token"]
            .as_str()
            .expect("a new token is shown")
            .to_owned()
    }

    /// The agent with that address, as the control plane sees it.
    pub async fn agent_at(&self, address: std::net::IpAddr) -> Value {
        let agents = self.get("/agents").await;
        let items = agents["items"].as_array().expect("a list");
        let found = items.iter().find(|a| a["address"] == address.to_string());
        found
            .unwrap_or_else(|| panic!("no agent at {address} in {agents}"))
            .clone()
    }

    async fn ask(&self, method: Method, path: &str, body: Body<'_>) -> Value {
        let what = format!("{method} {path}");
        let answer = self.send(method, path, None, body).await;
        let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(answer.status.is_success(), "{what}: {}", answer.text());
        match answer.status {
            StatusCode::NO_CONTENT => Value::Null,
            _ => answer.json(),
        }
    }
}

/// Nobody failed, and nobody that is connected is late.
fn is_applied(commit: &Value) {
    for left in ["failed", "pending"] {
        assert_eq!(commit["applied"][left], json!([]), "{commit:#}");
    }
}
