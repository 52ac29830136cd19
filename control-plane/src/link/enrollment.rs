//! Identities: a join token and a public key become an agent; an agent's new
//! public key becomes its next certificate.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use tidegate_core::addr::unmapped;
use tidegate_core::document::Role;
use tidegate_core::join_token::JoinToken;
use tidegate_proto::{reason, v1};
use tonic::{Code, Status};

use super::Link;
use super::peer::{self, Peer};
use crate::ca::{self, CaError};
use crate::clock;
use crate::model::{AgentId, Joining};
use crate::store::{JoinRefusal, WriteError};

/// An enrolment is a token, a request and an address: anybody may send one.
pub(super) const LARGEST: usize = 16 << 10;

/// Redeems a join token.
pub(super) async fn enroll(
    link: &Link,
    request: v1::EnrollRequest,
) -> Result<v1::EnrollResponse, Status> {
    let token: JoinToken = request.join_token.parse().map_err(|error| {
        let error: tidegate_core::join_token::BadToken = error;
        peer::refusal(
            Code::InvalidArgument,
            reason::TOKEN_UNKNOWN,
            error.to_string(),
        )
    })?;
    let joining = joining(&request)?;
    let enrolled = link.store.enroll(&token, &joining, clock::now()).await;
    let enrolled = match enrolled {
        Ok(Ok(enrolled)) => enrolled,
        Ok(Err(refused)) => return Err(refusal(&refused)),
        Err(WriteError::Mistakes(mistakes)) => return Err(peer::impossible(&mistakes)),
        Err(WriteError::Store(error)) => return Err(peer::away(&error)),
    };
    let agent = enrolled.agent;
    tracing::info!(%agent, again = enrolled.again, address = %joining.address, "enrolled");
    let certificate_chain = issue(link, &request.csr, agent).await?;
    Ok(v1::EnrollResponse {
        agent_id: agent.to_string(),
        certificate_chain,
        trust_bundle: trust_bundle(link),
        roles: enrolled.roles.iter().map(Role::to_string).collect(),
    })
}

/// The next certificate of an agent.
pub(super) async fn renew(
    link: &Link,
    peer: Peer,
    request: &v1::RenewRequest,
) -> Result<v1::RenewResponse, Status> {
    let certificate_chain = issue(link, &request.csr, peer.agent).await?;
    tracing::debug!(agent = %peer.agent, "renewed");
    Ok(v1::RenewResponse {
        certificate_chain,
        trust_bundle: trust_bundle(link),
    })
}

async fn issue(link: &Link, csr: &[u8], agent: AgentId) -> Result<Vec<Vec<u8>>, Status> {
    let lifetime = link.certificate_lifetime;
    let issued = link
        .authority
        .issue_agent(csr, agent, clock::now(), lifetime);
    let (leaf, not_after) = issued.map_err(|error| bad_request(&error))?;
    let noted = link.store.agent_renewed(agent, not_after).await;
    noted.map_err(|error| peer::away(&error))?;
    Ok(vec![leaf.to_vec()])
}

fn trust_bundle(link: &Link) -> Vec<Vec<u8>> {
    vec![link.authority.certificate().to_vec()]
}

fn joining(request: &v1::EnrollRequest) -> Result<Joining, Status> {
    let bad = |what: &str| Status::invalid_argument(format!("{what} is malformed"));
    let address: IpAddr = request.address.parse().map_err(|_| bad("address"))?;
    if address.is_unspecified() || address.is_multicast() {
        return Err(Status::invalid_argument(format!(
            "{address} is not an address that others can reach: give --address"
        )));
    }
    let roles = request.roles.iter().map(|role| match role.as_str() {
        "balancer" => Ok(Role::Balancer),
        "terminator" => Ok(Role::Terminator),
        _ => Err(bad("roles")),
    });
    Ok(Joining {
        key: ca::request_key(&request.csr).map_err(|error| bad_request(&error))?,
        address: unmapped(SocketAddr::new(address, 0)).ip(),
        health_port: u16::try_from(request.health_port).map_err(|_| bad("health_port"))?,
        version: request.version.chars().take(64).collect(),
        roles: roles.collect::<Result<BTreeSet<_>, _>>()?,
    })
}

fn bad_request(error: &CaError) -> Status {
    match error {
        CaError::Request(_) => Status::invalid_argument(error.to_string()),
        CaError::NotAnAgent | CaError::Making(_) | CaError::Seal(_) => {
            tracing::error!(%error, "no certificate");
            Status::internal("the control plane cannot make a certificate")
        }
    }
}

fn refusal(refused: &JoinRefusal) -> Status {
    let kind = match refused {
        JoinRefusal::Unknown => reason::TOKEN_UNKNOWN,
        JoinRefusal::Expired(_) => reason::TOKEN_EXPIRED,
        JoinRefusal::Used(_) => reason::TOKEN_USED,
        JoinRefusal::Role(_) => reason::TOKEN_ROLE,
        JoinRefusal::Revoked => reason::REVOKED,
    };
    peer::refusal(Code::PermissionDenied, kind, refused.to_string())
}
