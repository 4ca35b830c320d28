//! HTTP for phones: the BRURI protocol.
//!
//! A connection ([`serve()`]) carries requests; each becomes a [`PhoneRequest`] before anything of its body is
//! read, is handled in `backup` or `restore`, and leaves one line in the log (`exchange`). Bytes come in
//! and go out unread. How fresh what is served must be is seen to in `fresh`. Whether a phone got its whole answer is found out in `delivery`. Phones try once, so a refusal always reaches its phone: what the phone still sends is
//! read and thrown away (`stream`).

mod backup;
mod body;
mod conditional;
mod connections;
mod damage;
mod delivery;
mod error;
mod exchange;
mod fresh;
mod limits;
mod metrics;
mod request;
mod response;
mod restore;
mod serve;
mod sources;
mod stream;

use std::sync::Arc;

use bruri_domain::{FileId, FileName, RealmId, limits::EDGE_REFUSALS_MAX};
use bruri_store::{Lookup, Store, committer::Commits};
use tokio::sync::Semaphore;

pub use error::EdgeError;
pub use fresh::{Alone, Peers, Standing, Told};
pub use limits::Limits;
pub use request::PhoneRequest;
pub use serve::serve;

/// Tells whether a body looks like no phone's file. Handed in, since bytes come in and go out unread here.
pub type IsSuspect = fn(&[u8]) -> bool;

/// What serves phones: clones share everything, the bound on connections included.
#[derive(Clone)]
pub struct Edge {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    commits: Commits,
    lookup: Lookup,
    peers: Arc<dyn Peers>,
    realm: RealmId,
    limits: Limits,
    is_suspect: IsSuspect,
    connections: connections::Connections,
    large_bodies: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

impl Edge {
    /// An edge over this store, whose reads ask these peers. The tasks behind `commits` and `lookup` must run for longer than
    /// [`serve()`] does, since it ends with the last request in flight.
    pub fn new(
        store: Store,
        (commits, lookup): (Commits, Lookup),
        peers: Arc<dyn Peers>,
        (limits, is_suspect): (Limits, IsSuspect),
    ) -> Self {
        let inner = Inner {
            store,
            commits,
            lookup,
            peers,
            realm: RealmId::built_in(),
            connections: connections::Connections::new(limits.connections),
            large_bodies: Arc::new(Semaphore::new(limits.large_bodies)),
            limits,
            is_suspect,
            refusals: Arc::new(Semaphore::new(EDGE_REFUSALS_MAX)),
        };
        Self { inner: Arc::new(inner) }
    }

    fn file(&self, name: &FileName) -> FileId {
        FileId { realm: self.inner.realm.clone(), name: name.clone() }
    }
}
