//! gRPC between sites: supply logs, consume logs.
//!
//! [`engine`] decides everything and does nothing; [`store`] is what it needs of a store, `driver` runs it, `jobs` joins what
//! costs less together, `dial` and `serve` are the two sides of a connection, `ask`, `flights` and `answer` what sites ask
//! each other while a phone waits, `compare` and `repair` find and mend what is damaged, `batch` says what is believed of
//! what a peer sends, and [`tls`] who a peer is.

mod answer;
mod ask;
mod batch;
mod compare;
mod dial;
mod driver;
pub mod engine;
mod flights;
mod fork;
mod jobs;
mod members;
mod metrics;
mod repair;
mod serve;
pub mod snapshot;
pub mod status;
pub mod store;
pub mod tls;

use std::sync::{Arc, Mutex, atomic::AtomicU64};

use arc_swap::ArcSwap;
use bruri_domain::Membership;
use bruri_store::{Store, StoreError};
use tokio::time::Instant;

pub use ask::Told;
pub use compare::Compared;
pub use driver::AlreadyRunning;
pub use members::Dials;
pub use serve::Doors;
pub use status::{PeerState, PeerStatus};

use crate::{
    driver::{Arrivals, Consumers, Inputs, Reached},
    engine::{Engine, Identity},
    members::Ways,
    tls::Tls,
};

/// Replication of one site. Clones share everything.
#[derive(Clone)]
pub struct Replication {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    tls: Tls,
    ways: Ways,
    dials: Dials,
    members: ArcSwap<Membership>,
    engine: Mutex<Engine>,
    began: Instant,
    inputs: Inputs,
    /// Taken by who runs the engine.
    arrivals: Mutex<Option<Arrivals>>,
    consumers: Consumers,
    reached: Reached,
    askers: ask::Askers,
    flights: flights::Flights,
    jobs: jobs::Jobs,
    read_noted: AtomicU64,
    /// One peer at a time has all files here summed up.
    comparing: tokio::sync::Mutex<()>,
}

impl Replication {
    /// Replication of the store's site with the peers at these addresses (host:port). of the members those are
    /// dialled that `dials` says. `release` is told to peers.
    pub async fn new(
        store: Store,
        tls: Tls,
        addresses: &[String],
        dials: Dials,
        release: &'static str,
    ) -> Result<Self, StoreError> {
        let identity = Identity {
            site: store.site().clone(),
            key_check: store.key().check(),
            release: release.to_owned(),
        };
        let links = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        let vector = store::with_open(&store, store.vector().await?);
        let engine = Engine::new(&identity, vector, links, rand::random());
        let (inputs, arrivals) = driver::inputs();
        let inner = Inner {
            store,
            tls,
            ways: Ways::of_configuration(addresses),
            dials,
            members: ArcSwap::default(),
            engine: Mutex::new(engine),
            began: Instant::now(),
            inputs,
            arrivals: Mutex::new(Some(arrivals)),
            consumers: Consumers::default(),
            reached: Reached::default(),
            askers: ask::Askers::default(),
            flights: flights::Flights::default(),
            jobs: jobs::Jobs::default(),
            read_noted: AtomicU64::new(0),
            comparing: tokio::sync::Mutex::default(),
        };
        let replication = Self { inner: Arc::new(inner) };
        metrics::observe(&replication);
        Ok(replication)
    }

    /// So many records behind a peer, this site takes a snapshot before it goes on.
    pub fn snapshot_beyond(&self, records: u64) {
        self.engine().snapshot_beyond(records);
    }
}
