//! `MembershipService`: another certificate for who has one that is valid.

use std::time::Duration;

use bruri_domain::limits::JOIN_MESSAGE_BYTES_MAX;
use bruri_domain::{
    Membership, SiteName,
    limits::{JOIN_CONNECTIONS_MAX, JOIN_SECONDS_MAX, PEERS_MAX},
};
use bruri_ops::status;
use bruri_pki::{Authority, Request as CertificateRequest};
use bruri_replication::tls;
use bruri_wire::proto::membership::v1::{
    RenewRequest, RenewResponse, membership_service_client::MembershipServiceClient,
    membership_service_server::MembershipService,
};
use tokio::{sync::Semaphore, time::timeout};
use tonic::{Request, Response, Status};

use super::{Members, VALID, internal, now};

const PATIENCE: Duration = Duration::from_secs(JOIN_SECONDS_MAX);

pub(super) struct Renewals {
    members: Members,
    /// Each may open a connection to another site.
    room: Semaphore,
}

impl Renewals {
    pub(super) fn new(members: Members) -> Self {
        Self { members, room: Semaphore::new(JOIN_CONNECTIONS_MAX) }
    }
}

#[tonic::async_trait]
impl MembershipService for Renewals {
    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<RenewResponse>, Status> {
        let asked = request.into_inner();
        let _room = self.room.try_acquire().map_err(|_| {
            Status::resource_exhausted("too many certificates are being renewed; try again")
        })?;
        let members = &self.members;
        let authority = members.authority();
        let authority = authority.map_err(|error| internal("nothing can be renewed", &error))?;
        let renewed = match authority {
            Some(authority) => members.renew(&authority, &asked).await?,
            None if asked.forwarded => {
                return Err(Status::failed_precondition("this site does not hold the CA"));
            }
            None => members.pass_on(asked).await?,
        };
        Ok(Response::new(renewed))
    }
}

impl Members {
    /// Signs here. The request carries its own proof of who asks.
    pub(super) async fn renew(
        &self,
        authority: &Authority,
        asked: &RenewRequest,
    ) -> Result<RenewResponse, Status> {
        let refused = |error: bruri_pki::PkiError| Status::permission_denied(error.to_string());
        let request = CertificateRequest::read(&asked.certificate_request).map_err(refused)?;
        let until = now().saturating_add(VALID);
        let renewed = authority.renew(&asked.certificate, &request, now(), until);
        let (site, certificate) = renewed.map_err(refused)?;
        let site = SiteName::parse(&site).map_err(|e| Status::permission_denied(e.to_string()))?;
        let members = self.store().membership().await.map_err(|error| status(&error))?;
        members.admits(&site).map_err(|error| Status::failed_precondition(error.to_string()))?;
        tracing::info!(site.name = %site, "renewed the certificate of a site");
        Ok(RenewResponse { certificate, authorities: authority.trusted_pem().to_owned() })
    }

    async fn pass_on(&self, asked: RenewRequest) -> Result<RenewResponse, Status> {
        let members = self.store().membership().await.map_err(|error| status(&error))?;
        let asked = RenewRequest { forwarded: true, ..asked };
        let holders =
            members.joined().filter(|member| member.issues && member.site != *self.ours());
        let addresses: Vec<String> = holders.flat_map(|holder| holder.addresses.clone()).collect();
        self.ask_for_renewal(&addresses, &asked).await
    }

    /// Asks at each of these addresses until one renews.
    pub(super) async fn ask_for_renewal(
        &self,
        addresses: &[String],
        asked: &RenewRequest,
    ) -> Result<RenewResponse, Status> {
        let mut failed = Status::unavailable("no site is known that holds the CA");
        for address in addresses.iter().take(PEERS_MAX) {
            let renewing = timeout(PATIENCE, self.ask_at(address, asked.clone())).await;
            match renewing.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer"))) {
                Ok(renewed) => return Ok(renewed),
                Err(error) => {
                    failed = Status::new(error.code(), format!("{address}: {}", error.message()));
                }
            }
        }
        Err(failed)
    }

    async fn ask_at(&self, address: &str, asked: RenewRequest) -> Result<RenewResponse, Status> {
        let connected = tls::connect(&self.0.tls, address).await;
        let (channel, peer) = connected.map_err(|error| Status::unavailable(error.to_string()))?;
        let members = self.store().membership().await.map_err(|error| status(&error))?;
        members
            .admits(&peer.site)
            .map_err(|error| Status::failed_precondition(error.to_string()))?;
        let mut client =
            MembershipServiceClient::new(channel).max_decoding_message_size(JOIN_MESSAGE_BYTES_MAX);
        Ok(client.renew(asked).await?.into_inner())
    }

    /// Whom to ask, who holds the CA first.
    pub(super) fn whom_to_ask(&self, members: &Membership) -> Vec<String> {
        let others = || members.joined().filter(|member| member.site != *self.ours());
        let holders = others().filter(|member| member.issues);
        let rest = others().filter(|member| !member.issues);
        let known = holders.chain(rest).flat_map(|member| &member.addresses);
        let mut found: Vec<String> = Vec::new();
        for address in known.chain(&self.0.peers) {
            if !found.contains(address) && Some(address) != self.0.advertise.as_ref() {
                found.push(address.clone());
            }
        }
        found
    }
}
