//! The membership in the daemon: the CA where it is held, who joins, who renews, and what is dialled.
//!
//! Read in this order: [`Members`] (what all of it works with), `invite`, `admission` (a site joins), `renewal`
//! (certificates before they expire), `follow` (what others told). The joining site's own side is
//! [`crate::join`].

mod admission;
mod follow;
mod invite;
mod renewal;
mod renewing;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use bruri_domain::limits::JOIN_MESSAGE_BYTES_MAX;
use bruri_domain::{Clock as _, SiteName};
use bruri_pki::{Authority, files};
use bruri_replication::{Dials, Doors, Replication, tls::Tls};
use bruri_store::Store;
use bruri_wire::proto::membership::v1::{
    join_service_server::JoinServiceServer, membership_service_server::MembershipServiceServer,
};
use time::{Duration, OffsetDateTime};
use tonic::{Status, service::Routes};

use crate::{clock::SystemClock, config::Config, lifecycle::Tasks, services::reachable};

/// For how long certificates are issued.
const VALID: Duration = Duration::days(365);

/// What the membership works with; clones share everything.
#[derive(Clone)]
pub(crate) struct Members(Arc<Inner>);

struct Inner {
    store: Store,
    replication: Replication,
    tls: Tls,
    /// Where the CA is, if this site holds it.
    pki: PathBuf,
    /// The certificate is in that folder, where brurid may replace it.
    renews: bool,
    /// Where other sites reach this one.
    advertise: Option<String>,
    /// First contacts.
    peers: Vec<String>,
    dials: Dials,
}

impl Members {
    pub(crate) fn new(config: &Config, store: Store, replication: Replication, tls: Tls) -> Self {
        let pki = config.site.data_dir.join("pki");
        let own = pki.join(files::SITE_CERT);
        let listening = config.replication.listen.map(|address| reachable(address).to_string());
        Self(Arc::new(Inner {
            store,
            replication,
            tls,
            renews: config.replication.tls.as_ref().is_some_and(|tls| tls.cert_file == own),
            pki,
            advertise: config.replication.advertise.clone().or(listening),
            peers: config.replication.peers.clone(),
            dials: config.replication.dials.clone(),
        }))
    }

    /// What is served to peers and to those who join.
    pub(crate) fn doors(&self) -> Doors {
        let peers = MembershipServiceServer::new(renewal::Renewals::new(self.clone()))
            .max_decoding_message_size(JOIN_MESSAGE_BYTES_MAX);
        let newcomers = JoinServiceServer::new(admission::Admission::new(self.clone()))
            .max_decoding_message_size(JOIN_MESSAGE_BYTES_MAX);
        Doors { peers: Some(Routes::new(peers)), newcomers: Some(Routes::new(newcomers)) }
    }

    /// Follows what is told of members, and renews our certificate.
    pub(crate) fn start(&self, tasks: &Tasks) {
        let (following, stop) = (self.clone(), tasks.stop());
        tasks.spawn("members", async move {
            following.follow(stop).await;
            Ok(())
        });
        let (renewing, stop) = (self.clone(), tasks.stop());
        tasks.spawn("certificates", async move {
            renewing.keep_certificate(stop).await;
            Ok(())
        });
    }

    fn store(&self) -> &Store {
        &self.0.store
    }

    fn ours(&self) -> &SiteName {
        self.0.store.site()
    }

    fn holds_ca(&self) -> bool {
        self.0.pki.join(files::CA_KEY).exists()
    }

    /// The deployment's CA, where this site holds it. Read each time: it is seldom needed, and may be moved.
    fn authority(&self) -> anyhow::Result<Option<Authority>> {
        if !self.holds_ca() {
            return Ok(None);
        }
        let authority = Authority::load(&self.0.pki, now()).context("read the deployment's CA")?;
        let (of, ours) = (authority.deployment(), &self.0.tls.ours().deployment);
        anyhow::ensure!(
            of == ours,
            "the CA in {} is of deployment {of}, this site of {ours}",
            self.0.pki.display()
        );
        Ok(Some(authority))
    }
}

/// The wall clock, as certificates have it.
fn now() -> OffsetDateTime {
    let micros = i128::from(SystemClock.now_micros());
    OffsetDateTime::from_unix_timestamp_nanos(micros.saturating_mul(1000))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// Logs why and tells the other side no more than that.
fn internal(what: &'static str, error: &anyhow::Error) -> Status {
    tracing::error!("{what}: {error:#}");
    Status::unavailable(format!("{what}: its log has the reason"))
}

/// An address that needs no name.
fn at(address: SocketAddr, port: u16) -> String {
    SocketAddr::new(address.ip(), port).to_string()
}
