//! gRPC between sites: supply logs, consume logs.
//!
//! A consumer per peer pulls the peer's own logs and keeps the cursors; the supplier keeps nothing but a
//! few pages per stream, so that a slow or dead peer costs the others nothing. Read in this order:
//! [`tls`] (who a peer is), `hello` (whether we understand each other), `batch` (what is believed of what
//! it sends), `supplier` and `supply`, `consumer`, `session` and `intake`, and [`status`].

mod backoff;
mod batch;
mod consumer;
mod hello;
mod intake;
mod metrics;
mod session;
pub mod status;
mod subscription;
mod supplier;
mod supply;
pub mod tls;
mod vector;

use std::sync::Arc;

use bruri_store::Store;
use tokio_util::sync::CancellationToken;

pub use status::{PeerState, PeerStatus};

use crate::{status::Peers, tls::Tls, vector::Vector};

/// Replication of one site. Clones share everything.
#[derive(Clone)]
pub struct Replication {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    tls: Tls,
    vector: Vector,
    peers: Peers,
    release: &'static str,
}

impl Replication {
    /// Replication of the store's site with the peers at these addresses (host:port). `release` is told
    /// to peers.
    pub async fn new(
        store: Store,
        tls: Tls,
        addresses: &[String],
        release: &'static str,
    ) -> Result<Self, bruri_store::StoreError> {
        let vector = Vector::read(&store).await?;
        let peers = Peers::new(addresses);
        metrics::observe(&peers, &tls);
        Ok(Self { inner: Arc::new(Inner { store, tls, vector, peers, release }) })
    }

    /// How each peer is, in the order of the configuration.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.inner.peers.all()
    }

    /// Keeps the vector that suppliers look at; run it as a task.
    pub async fn follow_vector(&self, stop: CancellationToken) {
        self.inner.vector.follow(&self.inner.store, stop).await;
    }
}
