//! How each peer is, for operators and metrics.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bruri_domain::SiteName;
use tokio::sync::Notify;

/// A peer as seen from here.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PeerStatus {
    /// host:port, as configured.
    pub address: String,
    /// Whom its certificate names; none until it was reached once.
    pub site: Option<SiteName>,
    /// How the link is.
    pub state: PeerState,
    /// Why it is not live; empty where it is.
    pub last_error: String,
    /// When it was last heard, microseconds since 1970.
    pub last_heard_micros: Option<u64>,
    /// Records of its own logs that it has and this site has not applied.
    pub lag_records: u64,
    /// Its release.
    pub release: String,
}

/// How a link is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PeerState {
    /// Being dialled, or waiting to dial again.
    #[default]
    Connecting,
    /// Behind; records are arriving.
    CatchingUp,
    /// Level; records arrive as they are written.
    Live,
    /// It will stay so until a person does something: see `last_error`.
    Refused,
}

/// All peers of a site. Clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Peers(Arc<[Arc<Peer>]>);

/// One peer's status, and the way to wake its consumer.
#[derive(Debug)]
pub(crate) struct Peer {
    status: Mutex<PeerStatus>,
    /// The peer was heard by another way: it is worth dialling now.
    pub(crate) seen: Notify,
}

impl Peers {
    pub(crate) fn new(addresses: &[String]) -> Self {
        let peer = |address: &String| {
            let status = PeerStatus { address: address.clone(), ..PeerStatus::default() };
            Arc::new(Peer { status: Mutex::new(status), seen: Notify::new() })
        };
        Self(addresses.iter().map(peer).collect())
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.0.iter()
    }

    pub(crate) fn all(&self) -> Vec<PeerStatus> {
        self.0.iter().map(|peer| peer.get()).collect()
    }

    /// A peer has connected to us, so it can be reached. One that was never reached may be it too.
    pub(crate) fn seen(&self, site: &SiteName) {
        let may_be_it = |peer: &Peer| peer.lock().site.as_ref().is_none_or(|known| known == site);
        for peer in self.0.iter().filter(|peer| may_be_it(peer)) {
            peer.seen.notify_one();
        }
    }
}

impl Peer {
    pub(crate) fn get(&self) -> PeerStatus {
        self.lock().clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut PeerStatus)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, PeerStatus> {
        // A status is whole after each assignment, so one that a panic left behind is still a status.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
