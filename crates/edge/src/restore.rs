//! GET and HEAD: the served version, byte for byte.

use std::sync::Arc;

use bruri_domain::{FileName, Sha256, limits::EDGE_SMALL_BODY_BYTES_MAX};
use bruri_store::Found;
use bytes::Bytes;
use http::HeaderMap;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    Edge, EdgeError, body,
    conditional::Validators,
    exchange::Done,
    response::{self},
};

/// Answers with what is served now; without its bytes where the phone only looks.
pub(crate) async fn restore(
    edge: &Edge,
    name: &FileName,
    headers: &HeaderMap,
    only_look: bool,
) -> Result<Done, EdgeError> {
    let found = look_up(edge, name).await?;
    let hash = found.head.body.map_or_else(|| Sha256::of(&found.content), |body| body.sha256);
    let validators = Validators::new(hash, found.head.stamp);
    let dot = Some(found.head.dot);
    if validators.are_known_to(headers) {
        return Ok(Done { answer: response::unchanged(validators), dot });
    }
    let bytes = found.content.len();
    let content =
        if only_look { Bytes::new() } else { placed(found.content, &edge.inner.large_bodies)? };
    Ok(Done { answer: response::served(validators, bytes, content), dot })
}

async fn look_up(edge: &Edge, name: &FileName) -> Result<Found, EdgeError> {
    let file = edge.file(name);
    let found = timeout(edge.inner.limits.store, edge.inner.lookup.served(&file)).await;
    found.map_err(|_| EdgeError::Late)??.ok_or(EdgeError::NotFound)
}

/// Bytes that keep their place among the large bodies until the phone has read them.
struct Placed {
    content: Bytes,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Placed {
    fn as_ref(&self) -> &[u8] {
        &self.content
    }
}

fn placed(content: Bytes, large_bodies: &Arc<Semaphore>) -> Result<Bytes, EdgeError> {
    if content.len() <= EDGE_SMALL_BODY_BYTES_MAX {
        return Ok(content);
    }
    let place = body::take_place(large_bodies)?;
    Ok(Bytes::from_owner(Placed { content, _place: place }))
}
