//! The REST client: one request, one bounded answer, or an error that names the
//! mend. It follows no redirect, and no proxy stands before loopback.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, Method, StatusCode, Url, redirect};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cli::connection::Connection;
use crate::cli::error::Error;
use crate::cli::nearest;
use crate::cli::problem::{Refusal, Who};
use crate::cli::transport;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For an answer that waits for nothing but the database.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Thousands of agents with all they tell; beyond that somebody else answers.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A control plane, and who we are to it.
pub(crate) struct Client {
    http: reqwest::Client,
    connection: Connection,
    authorization: HeaderValue,
}

/// A request.
pub(crate) struct Call<'a> {
    method: Method,
    segments: Vec<&'a str>,
    query: Vec<(&'static str, String)>,
    body: Option<(&'static str, Vec<u8>)>,
    accept: &'static str,
    /// On top of what an answer may take.
    wait: Duration,
}

/// An answer that is no refusal.
pub(crate) struct Answer {
    url: String,
    body: Vec<u8>,
}

impl<'a> Call<'a> {
    /// Reads what is at these segments below `/api/v1`.
    pub(crate) fn get(segments: &[&'a str]) -> Self {
        Self::of(Method::GET, segments)
    }

    /// Does something.
    pub(crate) fn post(segments: &[&'a str]) -> Self {
        Self::of(Method::POST, segments)
    }

    /// Writes.
    pub(crate) fn put(segments: &[&'a str]) -> Self {
        Self::of(Method::PUT, segments)
    }

    /// Removes.
    pub(crate) fn delete(segments: &[&'a str]) -> Self {
        Self::of(Method::DELETE, segments)
    }

    fn of(method: Method, segments: &[&'a str]) -> Self {
        Self {
            method,
            segments: segments.to_vec(),
            query: Vec::new(),
            body: None,
            accept: "application/json",
            wait: Duration::ZERO,
        }
    }

    /// `?name=value`.
    pub(crate) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// A JSON body.
    pub(crate) fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string().into_bytes())
    }

    /// A body of some type.
    pub(crate) fn body(mut self, content_type: &'static str, body: Vec<u8>) -> Self {
        self.body = Some((content_type, body));
        self
    }

    /// Wants the answer as YAML.
    pub(crate) fn yaml(mut self) -> Self {
        self.accept = "application/yaml";
        self
    }

    /// Answers only when the agents have applied it, or after that time.
    pub(crate) fn wait_applied(mut self, wait: Option<Duration>) -> Self {
        let Some(wait) = wait else { return self };
        self.wait = wait;
        self.query("wait", "applied")
            .query("timeout", humantime::format_duration(wait).to_string())
    }

    /// What a token has to be for this.
    fn role(&self) -> &'static str {
        match (&self.method, self.segments.first()) {
            (_, Some(&"api-tokens")) => "admin",
            (method, _) if method == Method::GET => "viewer",
            _ => "operator",
        }
    }
}

impl Client {
    /// A client for this connection; nothing is sent yet.
    pub(crate) fn new(connection: Connection) -> Result<Self, Error> {
        let bearer = zeroize::Zeroizing::new(format!("Bearer {}", *connection.token));
        let mut authorization = HeaderValue::from_str(&bearer)
            .map_err(|_| Error::BadToken(connection.token_from.clone()))?;
        authorization.set_sensitive(true);
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            // A redirect would carry the token to another place.
            .redirect(redirect::Policy::none());
        if let Some(path) = &connection.ca_file {
            http = http.tls_certs_only(authorities(path)?);
        }
        if is_loopback(&connection.url) {
            http = http.no_proxy();
        }
        let http = http
            .build()
            .map_err(|error| Error::Transport(format!("cannot speak TLS: {error}")))?;
        Ok(Self {
            http,
            connection,
            authorization,
        })
    }

    /// Where the control plane is, as people write it.
    pub(crate) fn url(&self) -> &str {
        self.connection.url.as_str().trim_end_matches('/')
    }

    /// On which host that is.
    pub(crate) fn host(&self) -> &str {
        self.connection.url.host_str().unwrap_or("HOST")
    }

    /// The answer to a call; a refusal with the mend in it.
    pub(crate) async fn send(&self, call: Call<'_>) -> Result<Answer, Error> {
        let answer = self.try_send(&call).await?;
        let mut refusal = match answer {
            Ok(answer) => return Ok(answer),
            Err(refusal) => refusal,
        };
        if refusal.status == StatusCode::NOT_FOUND {
            refusal.nearest = self.nearest(&call.segments).await;
        }
        Err(Error::Refused(refusal))
    }

    async fn try_send(&self, call: &Call<'_>) -> Result<Result<Answer, Box<Refusal>>, Error> {
        let url = self.address(call);
        let failed = |error| transport::explain(&error, &self.connection);
        let mut request = self
            .http
            .request(call.method.clone(), url.clone())
            .header(reqwest::header::AUTHORIZATION, self.authorization.clone())
            .header(ACCEPT, call.accept)
            .timeout(ANSWER_TIMEOUT + call.wait);
        if let Some((content_type, body)) = &call.body {
            request = request
                .header(CONTENT_TYPE, *content_type)
                .body(body.clone());
        }
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER_BYTES {
                return Err(unknown(&url, format!("more than {MAX_ANSWER_BYTES} bytes")));
            }
        }
        if status.is_success() {
            let url = url.to_string();
            return Ok(Ok(Answer { url, body }));
        }
        if !status.is_client_error() && !status.is_server_error() {
            return Err(unknown(&url, format!("status {status}")));
        }
        let who = Who {
            token_from: self.connection.token_from.clone(),
            role: call.role(),
        };
        Ok(Err(Box::new(Refusal::read(status, &body, who))))
    }

    fn address(&self, call: &Call<'_>) -> Url {
        let mut url = self.connection.url.clone();
        // An https address has segments; the connection holds no other.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v1"]);
            path.extend(&call.segments);
        }
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        url
    }

    /// Names like the one that is not there; none when they cannot be told.
    async fn nearest(&self, segments: &[&str]) -> Option<String> {
        let [kind, name, rest @ ..] = segments else {
            return None;
        };
        let names = self.names(&[kind]).await?;
        let (names, wanted) = match rest {
            ["backends", backend, ..] if names.iter().any(|n| n == name) => {
                (self.names(&[kind, name, "backends"]).await?, *backend)
            }
            _ => (names, *name),
        };
        nearest::alike(wanted, &names)
    }

    async fn names(&self, list: &[&str]) -> Option<Vec<String>> {
        let answer = self.try_send(&Call::get(list)).await.ok()?.ok()?;
        Some(nearest::names(&answer.items().ok()?))
    }
}

impl Answer {
    /// The answer as it came.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// The answer, read.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| Error::Answer {
            url: self.url.clone(),
            why: format!(
                "line {}, column {} of what it said",
                error.line(),
                error.column()
            ),
        })
    }

    /// The items of a list.
    pub(crate) fn items(&self) -> Result<Vec<Value>, Error> {
        match self.json::<Value>()?.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => Ok(items),
            _ => Err(Error::Answer {
                url: self.url.clone(),
                why: "a list without items".into(),
            }),
        }
    }
}

fn unknown(url: &Url, why: String) -> Error {
    Error::Answer {
        url: url.to_string(),
        why,
    }
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, Error> {
    let pem = std::fs::read(path).map_err(Error::file(path))?;
    let no_pem = || Error::Content {
        path: path.to_owned(),
        why: "there is no certificate in it; --ca-file wants the authority as PEM, such as ca.pem \
              of the control plane's state directory"
            .into(),
    };
    let found = Certificate::from_pem_bundle(&pem).map_err(|_| no_pem())?;
    if found.is_empty() {
        return Err(no_pem());
    }
    Ok(found)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.ends_with(".localhost")
        || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::testing::Rest;

    #[tokio::test]
    async fn names_go_into_the_path_whole() {
        let rest = Rest::start().await;
        rest.answer("GET /pools/a%2Fb/backends", 200, &json!({ "items": [] }));
        let call = Call::get(&["pools", "a/b", "backends"]);
        assert!(rest.client().send(call).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_not_there_is_told_with_what_is() {
        let rest = Rest::start().await;
        rest.problem("GET /pools/gmae-node", 404, "there is no pool gmae-node");
        let pools = json!({ "items": [{ "name": "game-node" }, { "name": "chat" }] });
        rest.answer("GET /pools", 200, &pools);
        let call = Call::get(&["pools", "gmae-node"]);
        let error = rest.client().send(call).await.err().unwrap().to_string();
        assert!(error.contains("there is no pool gmae-node"), "{error}");
        assert!(error.contains("Did you mean game-node?"), "{error}");
    }

    #[tokio::test]
    async fn a_backend_that_is_not_there_is_looked_for_in_its_pool() {
        let rest = Rest::start().await;
        let missing = "PUT /pools/game/backends/127.0.0.1:3002/state";
        rest.problem(missing, 404, "no such backend");
        rest.answer("GET /pools", 200, &json!({ "items": [{ "name": "game" }] }));
        let backends = json!({ "items": [{ "name": "127.0.0.1:3000" }, { "name": "other" }] });
        rest.answer("GET /pools/game/backends", 200, &backends);
        let call = Call::put(&["pools", "game", "backends", "127.0.0.1:3002", "state"]);
        let error = rest.client().send(call).await.err().unwrap().to_string();
        assert!(error.contains("Did you mean 127.0.0.1:3000?"), "{error}");
    }

    #[tokio::test]
    async fn an_answer_of_somebody_else_is_not_taken_for_one() {
        let rest = Rest::start().await;
        rest.answer("GET /status", 302, &json!({}));
        let error = rest
            .client()
            .send(Call::get(&["status"]))
            .await
            .err()
            .unwrap();
        assert!(matches!(error, Error::Answer { .. }), "{error}");
        rest.answer("GET /pools", 200, &json!([1]));
        let answer = rest
            .client()
            .send(Call::get(&["pools"]))
            .await
            .ok()
            .unwrap();
        assert!(answer.items().is_err());
    }

    #[test]
    fn no_proxy_stands_before_this_machine() {
        for (url, loopback) in [
            ("https://localhost:1", true),
            ("https://play.localhost:1", true),
            ("https://127.9.9.9:1", true),
            ("https://[::1]:1", true),
            ("https://10.0.0.1", false),
            ("https://localhost.example.com", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), loopback, "{url}");
        }
    }
}
