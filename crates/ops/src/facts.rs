//! What a site tells of itself, gathered from where it is known.

use bruri_domain::Cursor;
use bruri_store::{Counts, StoreError};
use bruri_wire::proto::site::v1::Peer;

use crate::Ops;

/// What changes while a site runs.
pub(crate) struct Facts {
    pub(crate) vector: Vec<Cursor>,
    pub(crate) counts: Counts,
    pub(crate) peers: Vec<Peer>,
}

pub(crate) async fn gather(ops: &Ops) -> Result<Facts, StoreError> {
    Ok(Facts {
        vector: ops.store.vector().await?,
        counts: ops.store.counts().await?,
        peers: (ops.about.peers)(),
    })
}
