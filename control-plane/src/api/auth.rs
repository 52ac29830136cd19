//! Who asks. A handler takes a [`Caller`] of the least role that may do it, first
//! among its arguments: nothing else of the request is read before.

use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use subtle::ConstantTimeEq;
use time::OffsetDateTime;

use super::Api;
use super::problem::{Kind, Problem};
use super::token::ApiToken;
use crate::clock;
use crate::model::{ApiRole, Author};
use crate::store::KnownApiToken;

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
    rank: PhantomData<R>,
}

impl<R: Rank> FromRequestParts<Api> for Caller<R> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let token = bearer(&parts.headers)?;
        let known = api.store.api_token(&token.id).await?;
        let known = valid(&token, known, clock::now())?;
        if known.role < R::ROLE {
            return Err(Problem::new(
                Kind::Forbidden,
                format!(
                    "this needs the role {}, and the token has the role {}",
                    R::ROLE.as_str(),
                    known.role.as_str()
                ),
            ));
        }
        Ok(Self {
            author: Author(format!("token {} ({})", known.label, token.id)),
            rank: PhantomData,
        })
    }
}

fn bearer(headers: &HeaderMap) -> Result<ApiToken, Problem> {
    let Some(written) = headers.get(header::AUTHORIZATION) else {
        return Err(unauthenticated(
            "send a token: Authorization: Bearer tga1.<id>.<secret>",
        ));
    };
    let token = written.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    });
    token.and_then(ApiToken::parse).ok_or_else(|| {
        unauthenticated("that is no API token: send Authorization: Bearer tga1.<id>.<secret>")
    })
}

/// The row of a token that may be used.
fn valid(
    token: &ApiToken,
    known: Option<KnownApiToken>,
    now: OffsetDateTime,
) -> Result<KnownApiToken, Problem> {
    let hash = token.secret_hash();
    // Which of both it is, the id or the secret, is nobody's business.
    let known = known
        .filter(|known| bool::from(hash.as_bytes().ct_eq(known.secret_hash.as_bytes())))
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

fn unauthenticated(detail: &str) -> Problem {
    Problem::new(Kind::Unauthenticated, detail)
}
