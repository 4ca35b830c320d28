//! The sites of the deployment: listed, invited, admitted, retired.

use std::time::Duration;

use bruri_domain::{
    Member, MemberState, Membership, SiteName, limits::INVITE_SECONDS_MAX, member::are_addresses,
};
use bruri_store::News;
use bruri_wire::proto::site::v1 as proto;
use tonic::Status;

use crate::{Ops, encode::timestamp, status};

/// An invitation as it was made.
#[derive(Debug)]
pub struct Invitation {
    /// What the operator carries to the new site; a secret.
    pub token: String,
    /// Until when it is good, microseconds since 1970.
    pub expires_micros: u64,
}

/// What only the daemon can do for the membership, since it has the CA.
#[tonic::async_trait]
pub trait Inviter: Send + Sync {
    /// Makes a token with which one site of this name joins.
    async fn invite(
        &self,
        site: SiteName,
        valid: Duration,
        operator: &str,
    ) -> Result<Invitation, Status>;
}

pub(crate) async fn list(ops: &Ops) -> Result<proto::ListMembersResponse, Status> {
    let members = membership(ops).await?;
    Ok(proto::ListMembersResponse { members: members.all().map(message).collect() })
}

pub(crate) async fn invite(
    ops: &Ops,
    asked: proto::InviteSiteRequest,
    operator: &str,
) -> Result<proto::InviteSiteResponse, Status> {
    let site = name(&asked.site)?;
    if !(1..=INVITE_SECONDS_MAX).contains(&asked.valid_seconds) {
        let expected = format!("valid_seconds: expected 1 to {INVITE_SECONDS_MAX}");
        return Err(Status::invalid_argument(expected));
    }
    not_us(ops, &site, "it is this site")?;
    not_retired(&membership(ops).await?, &site)?;
    let inviter = ops.about.inviter.as_ref().ok_or_else(|| {
        Status::failed_precondition(
            "this site has no certificates yet: make the deployment's with `bruri pki init` and `bruri pki issue`",
        )
    })?;
    let valid = Duration::from_secs(asked.valid_seconds);
    let Invitation { token, expires_micros } =
        inviter.invite(site.clone(), valid, operator).await?;
    tracing::info!(site.name = %site, operator, "invited a site");
    Ok(proto::InviteSiteResponse { token, expires_at: Some(timestamp(expires_micros)) })
}

pub(crate) async fn admit(
    ops: &Ops,
    asked: proto::AdmitSiteRequest,
    operator: &str,
) -> Result<proto::AdmitSiteResponse, Status> {
    let site = name(&asked.site)?;
    if !are_addresses(&asked.addresses) {
        return Err(Status::invalid_argument(
            "addresses: expected at most 8 of the form HOST:PORT",
        ));
    }
    let members = membership(ops).await?;
    not_retired(&members, &site)?;
    let issues = members.get(&site).is_some_and(|known| known.issues);
    let state = MemberState::Joined;
    tell(
        ops,
        News { site, state, addresses: asked.addresses, issues, operator: operator.to_owned() },
    )
    .await?;
    Ok(proto::AdmitSiteResponse {})
}

pub(crate) async fn retire(
    ops: &Ops,
    asked: &proto::RetireSiteRequest,
    operator: &str,
) -> Result<proto::RetireSiteResponse, Status> {
    let site = name(&asked.site)?;
    not_us(ops, &site, "retire it at another site, which goes on")?;
    let members = membership(ops).await?;
    let known = members.get(&site);
    if known.is_none() && !is_heard_of(ops, &site).await? {
        return Err(Status::not_found(format!("nothing is known of a site {site}")));
    }
    let addresses = known.map(|known| known.addresses.clone()).unwrap_or_default();
    let state = MemberState::Retired;
    tell(ops, News { site, state, addresses, issues: false, operator: operator.to_owned() })
        .await?;
    Ok(proto::RetireSiteResponse {})
}

async fn tell(ops: &Ops, news: News) -> Result<(), Status> {
    tracing::info!(site.name = %news.site, state = ?news.state, operator = news.operator, "membership changed");
    ops.store.tell_members(vec![news]).await.map_err(|error| status(&error))
}

/// Whether a log of it is here, or it is a peer.
async fn is_heard_of(ops: &Ops, site: &SiteName) -> Result<bool, Status> {
    let vector = ops.store.vector().await.map_err(|error| status(&error))?;
    let is_peer = || (ops.about.peers)().iter().any(|peer| peer.site == site.as_str());
    Ok(vector.iter().any(|cursor| cursor.log.id.site == *site) || is_peer())
}

async fn membership(ops: &Ops) -> Result<Membership, Status> {
    ops.store.membership().await.map_err(|error| status(&error))
}

fn name(text: &str) -> Result<SiteName, Status> {
    SiteName::parse(text).map_err(|error| Status::invalid_argument(format!("site: {error}")))
}

fn not_us(ops: &Ops, site: &SiteName, why: &str) -> Result<(), Status> {
    if site == ops.store.site() {
        return Err(Status::failed_precondition(format!("site {site}: {why}")));
    }
    Ok(())
}

fn not_retired(members: &Membership, site: &SiteName) -> Result<(), Status> {
    match members.get(site).map(|known| known.state) {
        Some(MemberState::Retired) => Err(Status::failed_precondition(format!(
            "site {site} was retired, and a retired name never comes back: choose another name"
        ))),
        _ => Ok(()),
    }
}

fn message(member: &Member) -> proto::Member {
    use proto::member::State;
    let state = match member.state {
        MemberState::Joined => State::Joined,
        MemberState::Retired => State::Retired,
    };
    proto::Member {
        site: member.site.to_string(),
        state: state.into(),
        addresses: member.addresses.clone(),
        issues: member.issues,
        since: Some(timestamp(member.stamp.micros)),
    }
}
