//! TLS between sites: mutual, 1.3 only, with certificates that reload without a restart.
//!
//! Read in this order: [`peer_id`] (what a certificate says about its site), [`identity`] (our own
//! files), [`refusal`] (why a connection is refused), `verify` (who is let in), then the [`Tls`]
//! handle below, [`accept`] (peers that connect to us), [`mod@connect`] (peers that we connect to) and [`mod@join`] (the
//! site that we connect to while we have no certificate).

pub mod accept;
pub mod connect;
mod der;
mod handshakes;
pub mod identity;
pub mod join;
pub mod peer_id;
pub mod refusal;
mod refusal_log;
mod verify;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::{ClientConfig, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub use accept::{
    Incoming, NewcomerConnection, Newcomers, PeerConnection, PeerStream, incoming,
    incoming_with_newcomers, server,
};
pub use connect::{ConnectError, connect};
pub use identity::{Identity, TlsError, TlsFiles, Validity};
pub use join::join;
pub use peer_id::{InvalidPeerId, PeerId};
pub use refusal::Refusal;

/// What this site proves itself with and holds its peers against. Clones share one state.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: TlsFiles,
    ours: PeerId,
    current: ArcSwap<Current>,
}

#[derive(Debug)]
struct Current {
    validity: Validity,
    server: Arc<ServerConfig>,
    joining: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Tls {
    /// Reads the files and builds both sides of TLS. Reads small files without yielding.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let identity = Identity::load(&files)?;
        let current = ArcSwap::from_pointee(Current::build(&identity)?);
        Ok(Self(Arc::new(Inner { files, ours: identity.id().clone(), current })))
    }

    /// Reads the files again. New handshakes use what they hold now, old connections go on. After an
    /// error everything stays as it was. Files of another site or deployment are refused: a site
    /// does not change its name while it runs.
    pub fn reload(&self) -> Result<(), TlsError> {
        let identity = Identity::load(&self.0.files)?;
        if *identity.id() != self.0.ours {
            return Err(TlsError::OtherIdentity {
                path: self.0.files.cert_file.clone(),
                now: identity.id().clone(),
                was: self.0.ours.clone(),
            });
        }
        self.0.current.store(Arc::new(Current::build(&identity)?));
        Ok(())
    }

    /// Who we are to our peers.
    pub fn ours(&self) -> &PeerId {
        &self.0.ours
    }

    /// When our current certificate is valid; for a metric and an alarm.
    pub fn validity(&self) -> Validity {
        self.0.current.load().validity
    }

    /// For one connection that a peer opened to us. Take a new one for each.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.serving())
    }

    fn serving(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.current.load().server)
    }

    /// For one without a certificate, that joins.
    fn joining(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.current.load().joining)
    }

    /// For one connection that we open to a peer. Take a new one for each.
    pub fn connector(&self) -> TlsConnector {
        TlsConnector::from(Arc::clone(&self.0.current.load().client))
    }
}

impl Current {
    fn build(identity: &Identity) -> Result<Self, TlsError> {
        Ok(Self {
            validity: identity.validity(),
            server: Arc::new(verify::server_config(identity)?),
            joining: Arc::new(verify::join_config(identity)?),
            client: Arc::new(verify::client_config(identity)?),
        })
    }
}
