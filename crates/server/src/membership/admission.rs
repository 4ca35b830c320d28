//! `JoinService`: a site without a certificate redeems an invitation.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bruri_domain::Sha256;
use bruri_domain::{MemberState, SiteName, limits::PEERS_MAX, member::is_address};
use bruri_ops::status;
use bruri_pki::{Authority, Request as CertificateRequest};
use bruri_replication::tls::NewcomerConnection;
use bruri_store::News;
use bruri_wire::proto::membership::v1::{
    JoinRequest, JoinResponse, join_service_server::JoinService,
};
use tonic::{Request, Response, Status};

use super::{Members, VALID, at, internal, now};

/// Refusals are logged no more often, whoever asks how often.
const LOG_SILENCE: Duration = Duration::from_secs(1);
const REFUSED: &str = "the token is not good here: it has expired, was used already, or its site was \
                       retired; have a new one made with `bruri site invite`";

pub(super) struct Admission {
    members: Members,
    logged: Mutex<Option<Instant>>,
}

/// What was asked for, read.
struct Asked {
    secret: [u8; 32],
    request: CertificateRequest,
    addresses: Vec<String>,
}

impl Admission {
    pub(super) fn new(members: Members) -> Self {
        Self { members, logged: Mutex::new(None) }
    }

    async fn admit(&self, asked: &Asked) -> Result<JoinResponse, Status> {
        let members = &self.members;
        let authority = members.authority();
        let authority = authority.map_err(|error| internal("nobody can join now", &error))?;
        let authority = authority.ok_or_else(|| {
            Status::failed_precondition("this site does not hold the deployment's CA any more")
        })?;
        let (store, key) = (members.store(), asked.request.key_sha256());
        let site = store.invited(&asked.secret, &key).await.map_err(|error| status(&error))?;
        let site = site.ok_or_else(|| Status::permission_denied(REFUSED))?;
        // Signed before the token is spent, so that a failure does not cost a token.
        let certificate = authority
            .sign(site.as_str(), &asked.request, now(), now().saturating_add(VALID))
            .map_err(|error| internal("nobody can join now", &error.into()))?;
        let news = News {
            site: site.clone(),
            state: MemberState::Joined,
            addresses: asked.addresses.clone(),
            issues: false,
            operator: format!("token of {}", members.ours()),
        };
        let redeemed = store.redeem(&asked.secret, &key, news).await;
        if !redeemed.map_err(|error| status(&error))? {
            return Err(Status::permission_denied(REFUSED));
        }
        tracing::info!(site.name = %site, addresses = asked.addresses.join(", "), "a site joined");
        self.answer(site, &authority, certificate, asked).await
    }

    async fn answer(
        &self,
        site: SiteName,
        authority: &Authority,
        certificate: String,
        asked: &Asked,
    ) -> Result<JoinResponse, Status> {
        let peers = self.members.addresses_for(&site).await.map_err(|error| status(&error))?;
        Ok(JoinResponse {
            site: site.to_string(),
            deployment: authority.deployment().to_owned(),
            certificate,
            authorities: authority.trusted_pem().to_owned(),
            deployment_key: self.members.store().key().expose().to_vec(),
            advertise: asked.addresses.first().cloned().unwrap_or_default(),
            peers,
        })
    }

    fn log(&self, connection: &NewcomerConnection, refused: &Status) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|at| at.elapsed() >= LOG_SILENCE) {
            *logged = Some(Instant::now());
            let (address, error) = (connection.address, refused.message());
            tracing::warn!(%address, error, "refused a site that wants to join");
        }
    }
}

#[tonic::async_trait]
impl JoinService for Admission {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let connection = request.extensions().get::<NewcomerConnection>().cloned();
        let connection = connection.ok_or_else(|| Status::internal("no connection"))?;
        let outcome = match self.read(request.into_inner(), &connection) {
            Ok(asked) => self.admit(&asked).await,
            Err(refused) => Err(refused),
        };
        outcome.map(Response::new).inspect_err(|refused| self.log(&connection, refused))
    }
}

impl Admission {
    fn read(&self, asked: JoinRequest, from: &NewcomerConnection) -> Result<Asked, Status> {
        let invalid = |text: &str| Status::invalid_argument(text.to_owned());
        let secret =
            <[u8; 32]>::try_from(asked.secret).map_err(|_| invalid("secret: expected 32 bytes"))?;
        let request = CertificateRequest::read(&asked.certificate_request)
            .map_err(|error| invalid(&error.to_string()))?;
        let check = &asked.deployment_key_check;
        if !check.is_empty() && check[..] != self.members.store().key().check() {
            return Err(Status::failed_precondition(
                "that site holds data under another deployment key, and would lose it: join with an empty \
                 data directory",
            ));
        }
        let port = u16::try_from(asked.listen_port).map_err(|_| invalid("listen_port: no port"))?;
        let advertise = match (asked.advertise.as_str(), port) {
            ("", 0) => None,
            ("", port) => Some(at(from.address, port)),
            (address, _) if is_address(address) => Some(address.to_owned()),
            _ => return Err(invalid("advertise: expected HOST:PORT")),
        };
        let secret = Sha256::of(&secret).0;
        Ok(Asked { secret, request, addresses: advertise.into_iter().collect() })
    }
}

impl Members {
    /// Where a new site finds others: this one first, and no others than those that this one dials: those of a hub are hubs.
    async fn addresses_for(
        &self,
        newcomer: &SiteName,
    ) -> Result<Vec<String>, bruri_store::StoreError> {
        let members = self.store().membership().await?;
        let mut found: Vec<String> = self.0.advertise.iter().cloned().collect();
        let others = members.joined().filter(|member| member.site != *newcomer);
        let others = others.filter(|member| self.0.dials.names(&member.site));
        let configured = self.0.peers.iter();
        for address in others.flat_map(|member| &member.addresses).chain(configured) {
            if !found.contains(address) && found.len() < PEERS_MAX {
                found.push(address.clone());
            }
        }
        Ok(found)
    }
}
