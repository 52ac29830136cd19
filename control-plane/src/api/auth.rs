//! Who asks. A handler takes a [`Caller`] of the least role that may do it, first
//! among its arguments: nothing else of the request is read before.
//!
//! Programs show an API token in `Authorization`. A browser that has logged in shows
//! the cookie of its session; it sends that whatever page made it ask, so what
//! changes something must come from a page of this control plane (`Origin`).

use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use subtle::ConstantTimeEq;
use tidegate_core::snapshot::Fingerprint;
use time::OffsetDateTime;

use super::Api;
use super::problem::{Kind, Problem};
use super::token::{self, Token};
use crate::clock;
use crate::model::{ApiRole, Author};
use crate::store::{KnownApiToken, Store, StoreError};

/// The cookie of a session. The prefix makes browsers refuse it unless it is Secure,
/// of this host alone and of every path (RFC 6265bis section 4.1.3.2).
pub(super) const COOKIE: &str = "__Host-tidegate";

/// A role as a type.
pub(super) trait Rank {
    /// The least role that has it.
    const ROLE: ApiRole;
}

/// Reads.
pub(super) struct Viewer;
/// Changes what the fleet does.
pub(super) struct Operator;
/// Gives tokens to others.
pub(super) struct Admin;

impl Rank for Viewer {
    const ROLE: ApiRole = ApiRole::Viewer;
}

impl Rank for Operator {
    const ROLE: ApiRole = ApiRole::Operator;
}

impl Rank for Admin {
    const ROLE: ApiRole = ApiRole::Admin;
}

/// Somebody whose token is known, valid, and of this role at least.
pub(super) struct Caller<R> {
    /// For the audit.
    pub(super) author: Author,
    /// Whose rights these are.
    pub(super) token: KnownApiToken,
    pub(super) proof: Proof,
    /// When the proof is worth nothing any more.
    pub(super) expires_at: OffsetDateTime,
    rank: PhantomData<R>,
}

/// What a caller has shown.
pub(super) enum Proof {
    /// The API token itself.
    Token,
    /// The cookie of a session, by its id.
    Session(String),
}

impl<R: Rank> FromRequestParts<Api> for Caller<R> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let caller = Self::known(parts, api).await?;
        let role = caller.token.role;
        if role < R::ROLE {
            return Err(Problem::new(
                Kind::Forbidden,
                format!(
                    "this needs the role {}, and the token has the role {}",
                    R::ROLE.as_str(),
                    role.as_str()
                ),
            ));
        }
        Ok(caller)
    }
}

impl<R> Caller<R> {
    async fn known(parts: &Parts, api: &Api) -> Result<Self, Problem> {
        let now = clock::now();
        if !parts.headers.contains_key(header::AUTHORIZATION)
            && let Some(written) = cookie(&parts.headers)
        {
            return Self::of_session(written, parts, api, now).await;
        }
        let shown = bearer(&parts.headers)?;
        let token = known_token(&api.store, &shown, now).await?;
        let expires_at = token.expires_at;
        Ok(Self::new(token, Proof::Token, expires_at))
    }

    async fn of_session(
        written: &str,
        parts: &Parts,
        api: &Api,
        now: OffsetDateTime,
    ) -> Result<Self, Problem> {
        let over = || unauthenticated("this session has ended: log in again");
        let shown = Token::parse(token::Kind::Session, written).ok_or_else(over)?;
        let known = api.store.session(&shown.id).await?;
        let known = known
            .filter(|known| is_secret(&shown, known.secret_hash) && now < known.expires_at)
            .ok_or_else(over)?;
        if !parts.method.is_safe() {
            from_own_page(&parts.method, &parts.headers)?;
        }
        let proof = Proof::Session(shown.id);
        Ok(Self::new(known.token, proof, known.expires_at))
    }

    fn new(token: KnownApiToken, proof: Proof, expires_at: OffsetDateTime) -> Self {
        Self {
            author: Author::token(&token.label, &token.id),
            token,
            proof,
            expires_at,
            rank: PhantomData,
        }
    }

    /// Whether the proof still holds: for answers that go on for long.
    pub(super) async fn stands(&self, store: &Store) -> Result<bool, StoreError> {
        if self.expires_at <= clock::now() {
            return Ok(false);
        }
        match &self.proof {
            Proof::Token => Ok(store.api_token(&self.token.id).await?.is_some()),
            Proof::Session(id) => Ok(store.session(id).await?.is_some()),
        }
    }
}

/// Refuses what a page of somebody else may have made a browser send. Every browser
/// says where such a request comes from (Fetch, section "HTTP extensions").
pub(super) fn from_own_page(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST);
    // Whoever is in the network can answer plain HTTP in our name.
    let origin = text(header::ORIGIN).and_then(|origin| origin.strip_prefix("https://"));
    match (origin, host) {
        (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host) => Ok(()),
        _ => Err(Problem::new(
            Kind::Forbidden,
            format!(
                "{method} by a browser has to come from this control plane's own pages: its Origin \
                 and its Host are the same, also behind a proxy, which has to pass Host on; \
                 programs send Authorization: Bearer"
            ),
        )),
    }
}

/// The value of the session's cookie (RFC 6265 section 4.2).
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).iter();
    let mut pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| (name == COOKIE).then_some(value))
}

fn bearer(headers: &HeaderMap) -> Result<Token, Problem> {
    let Some(written) = headers.get(header::AUTHORIZATION) else {
        return Err(unauthenticated(
            "send a token: Authorization: Bearer tga1.<id>.<secret>",
        ));
    };
    let token = written.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    });
    let token = token.and_then(|text| Token::parse(token::Kind::Api, text));
    token.ok_or_else(|| {
        unauthenticated("that is no API token: send Authorization: Bearer tga1.<id>.<secret>")
    })
}

/// The row of a token that may be used.
pub(super) async fn known_token(
    store: &Store,
    shown: &Token,
    now: OffsetDateTime,
) -> Result<KnownApiToken, Problem> {
    let known = store.api_token(&shown.id).await?;
    // Which of both it is, the id or the secret, is nobody's business.
    let known = known
        .filter(|known| is_secret(shown, known.secret_hash))
        .ok_or_else(|| {
            unauthenticated("this API token is not known here: an admin makes another one")
        })?;
    if known.expires_at <= now {
        return Err(unauthenticated(
            "this API token has expired: an admin makes another one",
        ));
    }
    Ok(known)
}

fn is_secret(shown: &Token, stored: Fingerprint) -> bool {
    let hash = shown.secret_hash();
    bool::from(hash.as_bytes().ct_eq(stored.as_bytes()))
}

pub(super) fn unauthenticated(detail: &str) -> Problem {
    Problem::new(Kind::Unauthenticated, detail)
}
