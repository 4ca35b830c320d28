//! gRPC for operators: history, conflicts, realms and the state of the site, with health and reflection.
//!
//! Each handler is three moves: decode the request, one call, encode the answer. Read in this order:
//! [`Ops`] (what the services work with), `history`, `conflicts`, `erasures`, `realms` and `site` (the handlers), `members`,
//! `restore` and `facts`
//! (what they call), `decode` and `encode`, `status` (which code a failure is), `operator` (who asks),
//! and for serving them `socket`, `connection`, `health` and `serve`.

mod conflicts;
mod connection;
mod decode;
mod encode;
mod erasures;
mod error;
mod facts;
mod health;
mod history;
mod members;
mod operator;
mod prove;
mod realms;
mod restore;
mod serve;
mod site;
mod socket;
mod status;

use std::sync::Arc;

use bruri_store::{Store, committer::Commits};
use bruri_wire::proto::site::v1::Peer;

pub use encode::timestamp;
pub use error::OpsError;
pub use members::{Invitation, Inviter};
pub use prove::Prover;
pub use serve::serve_socket;
pub use socket::Socket;
pub use status::status;

/// What the services work with; clones share everything.
#[derive(Clone)]
pub struct Ops {
    /// What the site holds.
    pub store: Store,
    /// The way to its committer.
    pub commits: Commits,
    /// What only the daemon knows.
    pub about: Arc<About>,
}

/// What the daemon knows of itself and its links, and the store does not.
pub struct About {
    /// The deployment in its certificate; empty where the site does not replicate.
    pub deployment: String,
    /// The release of the daemon.
    pub release: String,
    /// When it started, microseconds since 1970.
    pub started_micros: u64,
    /// How its links are now, in the order of the peers' names or addresses.
    pub peers: Box<dyn Fn() -> Vec<Peer> + Send + Sync>,
    /// Makes invitations; none where the site does not replicate.
    pub inviter: Option<Box<dyn Inviter>>,
    /// Looks for damage here and at peers, and mends it.
    pub prover: Box<dyn Prover>,
}
