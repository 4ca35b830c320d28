//! Invitations, made where the CA is.

use std::{collections::BTreeSet, time::Duration};

use bruri_domain::{Clock as _, MemberState, Membership, SiteName};
use bruri_ops::{Invitation, Inviter, status};
use bruri_pki::{Token, token::Secret};
use bruri_store::{News, StoreError};
use tonic::Status;

use super::{Members, internal};
use crate::clock::SystemClock;

#[tonic::async_trait]
impl Inviter for Members {
    async fn invite(
        &self,
        site: SiteName,
        valid: Duration,
        operator: &str,
    ) -> Result<Invitation, Status> {
        let members = self.store().membership().await.map_err(|error| status(&error))?;
        let authority =
            self.authority().map_err(|error| internal("the CA cannot be used", &error))?;
        let authority = authority.ok_or_else(|| self.elsewhere(&members))?;
        let address = self.0.advertise.clone().ok_or_else(|| {
            Status::failed_precondition(
                "nobody can join here: set replication.listen, and replication.advertise where other \
                 sites reach it by another name",
            )
        })?;
        let ca = authority
            .fingerprint()
            .map_err(|error| internal("the CA cannot be used", &error.into()))?;
        self.introduce(&members, operator).await.map_err(|error| status(&error))?;
        let secret =
            Secret::make().map_err(|error| internal("no token can be made", &error.into()))?;
        let noted = self.store().invite(&secret.sha256(), &site, valid).await;
        noted.map_err(|error| status(&error))?;
        let token = Token { site, addresses: vec![address], ca, secret };
        let valid_micros = u64::try_from(valid.as_micros()).unwrap_or(u64::MAX);
        let expires_micros = SystemClock.now_micros().saturating_add(valid_micros);
        Ok(Invitation { token: token.text(), expires_micros })
    }
}

impl Members {
    fn elsewhere(&self, members: &Membership) -> Status {
        let holder = members.joined().find(|member| member.issues);
        let pki = self.0.pki.display();
        Status::failed_precondition(match holder {
            Some(holder) => format!("site {} holds the deployment's CA: invite there", holder.site),
            None => {
                format!("this site does not hold the deployment's CA in {pki}: invite where it is")
            }
        })
    }

    /// The first invitation closes the deployment to sites that are no members. So those that belong to it
    /// already are named as such before, and this one as the holder of the CA.
    async fn introduce(&self, members: &Membership, operator: &str) -> Result<(), StoreError> {
        let mut news = Vec::new();
        let us = self.about_us(true);
        if !is_told(members, &us) {
            news.push(News { operator: operator.to_owned(), ..us });
        }
        if !members.is_closed() {
            let vector = self.store().vector().await?;
            let peers = self.0.replication.peers();
            let mut known: BTreeSet<SiteName> =
                vector.into_iter().map(|cursor| cursor.log.id.site).collect();
            known.extend(peers.iter().filter_map(|peer| peer.site.clone()));
            known.retain(|site| site != self.ours() && members.get(site).is_none());
            news.extend(known.into_iter().map(|site| {
                let of_it = peers.iter().filter(|peer| peer.site.as_ref() == Some(&site));
                let addresses = of_it.map(|peer| peer.address.clone()).take(1).collect();
                let (state, operator) = (MemberState::Joined, operator.to_owned());
                News { site, state, addresses, issues: false, operator }
            }));
        }
        if news.is_empty() { Ok(()) } else { self.store().tell_members(news).await }
    }

    /// What others are to know of this site.
    pub(super) fn about_us(&self, issues: bool) -> News {
        News {
            site: self.ours().clone(),
            state: MemberState::Joined,
            addresses: self.0.advertise.iter().cloned().collect(),
            issues,
            operator: String::new(),
        }
    }
}

/// Whether the membership has it so already.
pub(super) fn is_told(members: &Membership, news: &News) -> bool {
    members.get(&news.site).is_some_and(|known| {
        known.state == MemberState::Retired
            || (known.addresses == news.addresses && known.issues == news.issues)
    })
}
