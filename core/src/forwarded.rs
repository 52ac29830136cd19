//! Headers that tell an HTTP app where a request comes from: those a client
//! could forge are removed, ours are put in their place; and the hop-by-hop
//! headers of RFC 9110, which are about one connection and end with it.
//!
//! Owns names and values only. Parsing, framing and choosing the host (an
//! absolute request target wins over `Host`) are hyper's and the agent's, which
//! calls [`strip_hop_by_hop`] and [`Forwarding::set`] once per request it forwards.

use std::net::IpAddr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::addr::ClientAddr;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// By what a request is found in the logs of all who had it.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Beginnings of names that tell an app who its client is.
const FORGEABLE_PREFIXES: [&str; 2] = ["x-forwarded-", "x-original-forwarded-"];

/// Names by which proxies, CDNs and platforms tell an app who its client is, or
/// by what scheme it came. To add one: lower case, words joined by `-`.
const FORGEABLE: [&str; 35] = [
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "client-ip",
    "cloudfront-viewer-address",
    "cluster-client-ip",
    "do-connecting-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "forwarded",
    "forwarded-for",
    "front-end-https",
    "proxy-client-ip",
    "remote-addr",
    "true-client-ip",
    "wl-proxy-client-ip",
    "x-appengine-remote-addr",
    "x-appengine-user-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-forwarded",
    "x-nf-client-connection-ip",
    "x-original-host",
    "x-original-proto",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-real-port",
    "x-remote-addr",
    "x-remote-ip",
    "x-url-scheme",
    "x-vercel-forwarded-for",
];

/// How the client spoke to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// Without TLS.
    Http,
    /// Over TLS.
    Https,
}

impl Proto {
    /// As the headers say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What the app is told about where a connection's requests come from; made once for
/// all of them.
#[derive(Clone, Debug)]
pub struct Forwarding {
    client: IpAddr,
    proto: Proto,
    address: HeaderValue,
    port: HeaderValue,
    /// The last host and the `Forwarded` for it: most connections have no other.
    last: Option<(Option<HeaderValue>, HeaderValue)>,
}

impl Forwarding {
    /// From a client that spoke to us in this way on this port.
    pub fn new(client: ClientAddr, proto: Proto, port: u16) -> Self {
        Self {
            client: client.ip(),
            proto,
            address: ascii(client.ip().to_string()),
            port: HeaderValue::from(port),
            last: None,
        }
    }

    /// [`strip`]s, then says where the request comes from: `X-Forwarded-For` (the
    /// address alone), `-Proto`, `-Port`, `-Host`, and all but the port in `Forwarded`
    /// (RFC 7239). `host` is what the client asked for, with the port if it wrote one.
    ///
    /// A host is repeated only if it has no byte outside those of names, addresses
    /// and ports. Anything else, a comma or quote above all, could read as further
    /// elements to an app that splits before it unquotes; such a host is left to the
    /// `Host` header, where it means nothing else.
    pub fn set(&mut self, headers: &mut HeaderMap, host: Option<HeaderValue>) {
        strip(headers);
        let host = host.filter(|host| is_plain_host(host.as_bytes()));
        headers.insert(FORWARDED, self.forwarded(host.as_ref()));
        headers.insert(X_FORWARDED_FOR, self.address.clone());
        let proto = HeaderValue::from_static(self.proto.as_str());
        headers.insert(X_FORWARDED_PROTO, proto);
        headers.insert(X_FORWARDED_PORT, self.port.clone());
        if let Some(host) = host {
            headers.insert(X_FORWARDED_HOST, host);
        }
    }

    /// As [`Forwarding::set`], for a client that itself forwards for others and is trusted
    /// to: what it says stays. Its own address is appended to `X-Forwarded-For` and
    /// `Forwarded`, as further elements; the scheme, host and port it tells are those of the
    /// first client, and ours only where it tells none.
    pub fn append(&mut self, headers: &mut HeaderMap, host: Option<HeaderValue>) {
        let mut ours = HeaderMap::new();
        self.set(&mut ours, host);
        for (name, value) in &ours {
            let is_list = [X_FORWARDED_FOR, FORWARDED].contains(name);
            match joined(headers, name) {
                Some(said) if is_list => {
                    headers.insert(name, listed(&said, value));
                }
                Some(_) => {}
                None => {
                    headers.insert(name, value.clone());
                }
            }
        }
    }

    fn forwarded(&mut self, host: Option<&HeaderValue>) -> HeaderValue {
        match &self.last {
            Some((last, value)) if last.as_ref() == host => value.clone(),
            _ => {
                let value = forwarded(self.client, self.proto, host);
                // The bytes of a request's own are part of all that was read with it.
                let own = host.and_then(|host| HeaderValue::from_bytes(host.as_bytes()).ok());
                self.last = Some((own, value.clone()));
                value
            }
        }
    }
}

/// Removes every header by which a client could forge where it comes from.
///
/// Names are compared with any sign taken for `-`: CGI, WSGI and PHP make the
/// same variable of `X_Forwarded_For` and `X-Forwarded-For`.
pub fn strip(headers: &mut HeaderMap) {
    let forged: Vec<_> = headers
        .keys()
        .filter(|name| forgeable(name))
        .cloned()
        .collect();
    for name in forged {
        headers.remove(name);
    }
}

/// All lines of a header in one; `None` without any that says something.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let lines: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    let said = lines.join(b", ".as_slice());
    (!said.trim_ascii().is_empty()).then_some(said)
}

fn listed(said: &[u8], last: &HeaderValue) -> HeaderValue {
    let all = [said, b", ", last.as_bytes()].concat();
    HeaderValue::from_bytes(&all).unwrap_or_else(|_| last.clone())
}

/// Names a request: as `made` does, or as a trusted client has.
pub fn identify(headers: &mut HeaderMap, made: String, is_trusted: bool) {
    let is_named = headers.get(X_REQUEST_ID).is_some_and(|id| !id.is_empty());
    if let (false, Ok(id)) = (is_trusted && is_named, HeaderValue::try_from(made)) {
        headers.insert(X_REQUEST_ID, id);
    }
}

/// Removes what concerns only the connection a message came by (RFC 9110 section
/// 7.6.1): the headers `Connection` names and those that always do.
///
/// - Framing (`Transfer-Encoding`, `Content-Length`) is hyper's and stays; neither
///   it, nor `Host`, nor a header that [`strip`] knows goes because `Connection`
///   names it.
/// - `TE` stays as `trailers`, if it says so, named in `Connection` as section
///   10.1.4 demands.
/// - With `keep_upgrade`, a message whose `Upgrade` offers `websocket` leaves with
///   exactly `Upgrade: websocket` and `Connection: Upgrade`, and no `TE`. Other
///   protocols never pass: an app that takes `h2c` would then serve requests that
///   we do not see.
pub fn strip_hop_by_hop(headers: &mut HeaderMap, keep_upgrade: bool) {
    let upgrade = keep_upgrade && lists(headers, &UPGRADE, "websocket");
    let trailers = lists(headers, &TE, "trailers");
    for name in nominated(headers) {
        headers.remove(name);
    }
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        PROXY_CONNECTION,
        TE,
        UPGRADE,
    ] {
        headers.remove(name);
    }
    if upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    } else if trailers {
        headers.insert(CONNECTION, HeaderValue::from_static("TE"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// What `Connection` names, short of what it must not.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    // Nearly always one of these, which go anyway.
    let usual = ["keep-alive", "upgrade"];
    let is_usual = |element: &&[u8]| {
        let is = |usual: &str| element.eq_ignore_ascii_case(usual.as_bytes());
        usual.into_iter().any(is)
    };
    elements(headers, &CONNECTION)
        .filter(|element| !is_usual(element))
        .filter_map(|element| HeaderName::from_bytes(element).ok())
        .filter(|name| ![HOST, TRANSFER_ENCODING, CONTENT_LENGTH].contains(name))
        .filter(|name| !forgeable(name))
        .collect()
}

fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    elements(headers, name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

/// The elements of a list header over all its lines (RFC 9110 section 5.6.1).
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).iter();
    lines.flat_map(|line| {
        line.as_bytes()
            .split(|&byte| byte == b',')
            .map(<[u8]>::trim_ascii)
    })
}

fn forgeable(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    let begins = |known: &str| {
        name.len() >= known.len()
            && name
                .iter()
                .zip(known.as_bytes())
                .all(|(&a, &b)| fold(a) == b)
    };
    FORGEABLE_PREFIXES.into_iter().any(begins)
        || FORGEABLE
            .into_iter()
            .any(|known| known.len() == name.len() && begins(known))
}

fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() {
        byte
    } else {
        b'-'
    }
}

/// Names, IP literals, ports. RFC 3986 section 3.2.2 has more signs in it, none of
/// which a host in use has.
fn is_plain_host(host: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%:[]".contains(byte);
    !host.is_empty() && host.iter().all(plain)
}

/// RFC 7239 section 4. What is not a token goes in quotes: section 6 says so of
/// IPv6 addresses, and a host may have `:` and brackets. Nothing in a plain host
/// needs a backslash.
fn forwarded(client: IpAddr, proto: Proto, host: Option<&HeaderValue>) -> HeaderValue {
    let mut text = match client {
        IpAddr::V4(v4) => format!("for={v4}"),
        IpAddr::V6(v6) => format!("for=\"[{v6}]\""),
    };
    if let Some(host) = host.and_then(|host| host.to_str().ok()) {
        let quote = if host.contains([':', '[', ']']) {
            "\""
        } else {
            ""
        };
        text.extend([";host=", quote, host, quote]);
    }
    text.extend([";proto=", proto.as_str()]);
    ascii(text)
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("addresses, plain hosts and words are visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::SocketAddr;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|&(name, value)| {
                (
                    HeaderName::try_from(name).unwrap(),
                    HeaderValue::try_from(value).unwrap(),
                )
            })
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            })
    }

    fn forwarding(client: &str) -> Forwarding {
        let client = ClientAddr::new(client.parse().unwrap());
        Forwarding::new(client, Proto::Https, 443)
    }

    fn value(bytes: &[u8]) -> Option<HeaderValue> {
        Some(HeaderValue::from_bytes(bytes).unwrap())
    }

    #[test]
    fn the_app_is_told_where_a_request_comes_from() {
        for (client, host, address, forwarded) in [
            (
                "192.0.2.1:50000",
                None,
                "192.0.2.1",
                "for=192.0.2.1;proto=https",
            ),
            (
                "[::ffff:192.0.2.1]:50000",
                Some("play.example.com"),
                "192.0.2.1",
                "for=192.0.2.1;host=play.example.com;proto=https",
            ),
            (
                "[2001:db8::1]:50000",
                Some("h:8443"),
                "2001:db8::1",
                "for=\"[2001:db8::1]\";host=\"h:8443\";proto=https",
            ),
            (
                "192.0.2.1:1",
                Some("[2001:db8::2]"),
                "192.0.2.1",
                "for=192.0.2.1;host=\"[2001:db8::2]\";proto=https",
            ),
        ] {
            let mut headers = HeaderMap::new();
            let asked = host.and_then(|host| value(host.as_bytes()));
            forwarding(client).set(&mut headers, asked);
            let mut expected = map(&[
                ("x-forwarded-for", address),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-port", "443"),
                ("forwarded", forwarded),
            ]);
            if let Some(host) = host {
                expected.insert(X_FORWARDED_HOST, HeaderValue::from_str(host).unwrap());
            }
            assert_eq!(headers, expected, "{client} {host:?}");
        }
    }

    #[test]
    fn each_request_is_told_of_its_own_host() {
        let mut forwarding = forwarding("192.0.2.1:1");
        for host in [Some("a"), Some("a"), Some("b"), None, Some("a")] {
            let mut headers = HeaderMap::new();
            forwarding.set(&mut headers, host.and_then(|host| value(host.as_bytes())));
            let told = headers.get(X_FORWARDED_HOST);
            assert_eq!(told.map(|told| told.to_str().unwrap()), host);
            let named = host.map_or_else(String::new, |host| format!("host={host};"));
            let expected = format!("for=192.0.2.1;{named}proto=https");
            assert_eq!(headers[FORWARDED], expected);
        }
    }

    #[test]
    fn what_a_trusted_client_says_stays_and_is_appended_to() {
        let before = [
            ("x-forwarded-for", "198.51.100.1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "http"),
            ("forwarded", "for=198.51.100.1"),
            ("x-real-ip", "198.51.100.1"),
        ];
        let mut headers = map(&before);
        forwarding("192.0.2.1:1").append(&mut headers, value(b"h"));
        let after = [
            ("x-forwarded-for", "198.51.100.1, 10.0.0.1, 192.0.2.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-port", "443"),
            ("x-forwarded-host", "h"),
            (
                "forwarded",
                "for=198.51.100.1, for=192.0.2.1;host=h;proto=https",
            ),
            ("x-real-ip", "198.51.100.1"),
        ];
        assert_eq!(headers, map(&after));

        let (mut one, mut other) = (HeaderMap::new(), HeaderMap::new());
        forwarding("192.0.2.1:1").append(&mut one, None);
        forwarding("192.0.2.1:1").set(&mut other, None);
        assert_eq!(one, other, "it has said nothing");
    }

    #[test]
    fn a_request_has_one_name() {
        for (before, is_trusted, after) in [
            (vec![], false, "ours"),
            (
                vec![("x-request-id", "a"), ("x-request-id", "b")],
                false,
                "ours",
            ),
            (vec![("x-request-id", "a")], true, "a"),
            (vec![("x-request-id", "")], true, "ours"),
        ] {
            let mut headers = map(&before);
            identify(&mut headers, "ours".to_owned(), is_trusted);
            assert_eq!(headers, map(&[("x-request-id", after)]), "{before:?}");
        }
    }

    #[test]
    fn an_odd_host_is_not_repeated() {
        for host in [
            "",
            "a,for=6.6.6.6",
            "a;b",
            "a\"b",
            "a\\b",
            "a b",
            "a\tb",
            "a/b",
            "a@b",
            "a=b",
        ] {
            let mut headers = map(&[("x-forwarded-host", "forged")]);
            forwarding("192.0.2.1:1").set(&mut headers, value(host.as_bytes()));
            assert_eq!(headers[FORWARDED], "for=192.0.2.1;proto=https", "{host}");
            assert!(!headers.contains_key(X_FORWARDED_HOST), "{host}");
        }
        let mut headers = HeaderMap::new();
        forwarding("192.0.2.1:1").set(&mut headers, value(b"\xff"));
        assert!(!headers.contains_key(X_FORWARDED_HOST));
    }

    #[test]
    fn what_a_client_could_forge_is_removed() {
        for name in [
            "Forwarded",
            "X-Forwarded-For",
            "X_Forwarded_For",
            "x-forwarded_proto",
            "X.Forwarded.Host",
            "X-Forwarded-",
            "X-Forwarded-Ssl",
            "X-Original-Forwarded-For",
            "X-Real-IP",
            "x_real_ip",
            "X-Client-IP",
            "True-Client-IP",
            "X-Cluster-Client-IP",
            "CF-Connecting-IP",
            "Fastly-Client-IP",
            "X-Appengine-User-IP",
            "Client-IP",
        ] {
            let mut headers = map(&[(name, "127.0.0.1"), (name, "again")]);
            strip(&mut headers);
            assert!(headers.is_empty(), "{name}");
        }
        for name in [
            "X-Forwardedfor",
            "X-Real-IPs",
            "Host",
            "Via",
            "Origin",
            "X-Request-Id",
        ] {
            let mut headers = map(&[(name, "1")]);
            strip(&mut headers);
            assert_eq!(headers.len(), 1, "{name}");
        }
    }

    #[test]
    fn the_table_is_sorted_and_folded() {
        assert!(FORGEABLE.is_sorted());
        for name in FORGEABLE.into_iter().chain(FORGEABLE_PREFIXES) {
            assert!(
                name.bytes()
                    .all(|b| fold(b) == b && !b.is_ascii_uppercase()),
                "{name}"
            );
        }
    }

    #[test]
    fn hop_by_hop_headers_end_here() {
        let websocket = [("connection", "Upgrade"), ("upgrade", "websocket")];
        for (keep_upgrade, before, after) in [
            (
                false,
                vec![
                    ("connection", "close, X-Token"),
                    ("connection", " keep-alive ,,x-other"),
                    ("keep-alive", "timeout=5"),
                    ("proxy-connection", "keep-alive"),
                    ("proxy-authorization", "Basic YTpi"),
                    ("proxy-authenticate", "Basic"),
                    ("x-token", "1"),
                    ("x-other", "2"),
                    ("x-kept", "3"),
                ],
                vec![("x-kept", "3")],
            ),
            (
                false,
                vec![
                    (
                        "connection",
                        "Host, Transfer-Encoding, content-length, X-Forwarded-For",
                    ),
                    ("connection", "bad name, x_real_ip"),
                    ("host", "h"),
                    ("transfer-encoding", "chunked"),
                    ("content-length", "3"),
                    ("x-forwarded-for", "192.0.2.1"),
                ],
                vec![
                    ("host", "h"),
                    ("transfer-encoding", "chunked"),
                    ("content-length", "3"),
                    ("x-forwarded-for", "192.0.2.1"),
                ],
            ),
            (
                false,
                vec![("te", "gzip;q=0.5, Trailers"), ("connection", "te")],
                vec![("te", "trailers"), ("connection", "TE")],
            ),
            (false, vec![("te", "gzip"), ("connection", "te")], vec![]),
            (false, websocket.to_vec(), vec![]),
            (true, websocket.to_vec(), websocket.to_vec()),
            (
                true,
                vec![
                    ("connection", "keep-alive, upgrade"),
                    ("upgrade", "h2c, WebSocket"),
                    ("te", "trailers"),
                ],
                websocket.to_vec(),
            ),
            (
                true,
                vec![
                    ("connection", "upgrade, http2-settings"),
                    ("upgrade", "h2c"),
                ],
                vec![],
            ),
            (true, vec![("connection", "upgrade")], vec![]),
        ] {
            let mut headers = map(&before);
            strip_hop_by_hop(&mut headers, keep_upgrade);
            assert_eq!(headers, map(&after), "{before:?}");
        }
    }

    fn any_name() -> impl Strategy<Value = HeaderName> {
        let known = FORGEABLE.into_iter().chain([
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-forwarded-port",
            "x-forwarded-ssl",
            "connection",
            "upgrade",
            "te",
            "host",
            "cookie",
        ]);
        let known = prop::sample::select(known.collect::<Vec<_>>());
        let folded = (known, any::<u16>()).prop_map(|(name, signs)| {
            let sign = |i: usize| if signs >> (i % 16) & 1 == 1 { '_' } else { '-' };
            let fold = |(i, c)| if c == '-' { sign(i) } else { c };
            name.chars().enumerate().map(fold).collect::<String>()
        });
        prop_oneof![folded, "[a-z_.-]{1,12}"]
            .prop_map(|name| HeaderName::from_bytes(name.as_bytes()).unwrap())
    }

    fn any_value() -> impl Strategy<Value = HeaderValue> {
        let byte = any::<u8>().prop_map(|b| if b < b' ' || b == 0x7f { b'\t' } else { b });
        let noise = proptest::collection::vec(byte, 0..30);
        let listing = "(upgrade|close|te|trailers|websocket|host|x-forwarded-for|[ ,]){0,6}";
        prop_oneof![noise, listing.prop_map(String::into_bytes)]
            .prop_map(|bytes| HeaderValue::from_bytes(&bytes).unwrap())
    }

    fn any_headers() -> impl Strategy<Value = HeaderMap> {
        proptest::collection::vec((any_name(), any_value()), 0..12).prop_map(|lines| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(name, value);
            }
            headers
        })
    }

    proptest! {
        #[test]
        fn after_set_the_headers_are_ours_and_no_others_changed(
            before in any_headers(),
            client in (any::<IpAddr>(), any::<u16>()),
            host in proptest::option::of(any_value()),
            port in any::<u16>(),
        ) {
            let client = ClientAddr::new(SocketAddr::from(client));
            let mut forwarding = Forwarding::new(client, Proto::Http, port);
            let mut ours = HeaderMap::new();
            forwarding.set(&mut ours, host.clone());
            let mut headers = before.clone();
            forwarding.set(&mut headers, host);
            let mut others = before;
            strip(&mut others);
            prop_assert!(!others.keys().any(forgeable));
            for name in headers.keys() {
                let values: Vec<_> = headers.get_all(name).iter().collect();
                if forgeable(name) {
                    prop_assert_eq!(values, vec![&ours[name]], "{}", name);
                } else {
                    prop_assert_eq!(values, others.get_all(name).iter().collect::<Vec<_>>());
                }
            }
            prop_assert_eq!(headers.len(), ours.len() + others.len());
            let elements = ours[FORWARDED].to_str().unwrap();
            prop_assert!(!elements.contains(',') && elements.matches(';').count() <= 2);
        }

        #[test]
        fn nothing_about_the_old_connection_is_left(
            before in any_headers(),
            keep_upgrade in any::<bool>(),
        ) {
            let mut headers = before.clone();
            strip_hop_by_hop(&mut headers, keep_upgrade);
            let connection = headers.get(CONNECTION).map(HeaderValue::as_bytes);
            prop_assert_eq!(headers.contains_key(UPGRADE), connection == Some(b"Upgrade"));
            prop_assert_eq!(headers.contains_key(TE), connection == Some(b"TE"));
            prop_assert!(keep_upgrade || !headers.contains_key(UPGRADE));
            for name in before.keys().filter(|name| forgeable(name) || *name == HOST) {
                prop_assert_eq!(before.get_all(name), headers.get_all(name));
            }
        }
    }
}
