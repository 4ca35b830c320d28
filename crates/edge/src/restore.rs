//! GET and HEAD: the served version, byte for byte.

use std::sync::Arc;

use bruri_domain::{FileName, Sha256, limits::EDGE_SMALL_BODY_BYTES_MAX};
use bruri_store::{Found, Served};
use bytes::Bytes;
use http::HeaderMap;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    Edge, EdgeError, body, conditional::Validators, delivery::Delivery, exchange::Done, response,
};

/// Answers with what is served now. Once it is delivered the phone has seen all that is known of the file
/// here, also where that is nothing.
pub(crate) async fn restore(
    edge: &Edge,
    name: &FileName,
    headers: &HeaderMap,
    delivery: &Delivery,
) -> Result<Done, EdgeError> {
    let Served { version, remembered } = look_up(edge, name).await?;
    let done = version
        .map(|found| answer(found, headers, |content| placed(content, &edge.inner.large_bodies)));
    // Not where there is no room for the answer.
    let done = done.transpose()?;
    delivery.answer(remembered);
    done.ok_or(EdgeError::NotFound)
}

/// The same without the bytes, which leaves no mark.
pub(crate) async fn look(
    edge: &Edge,
    name: &FileName,
    headers: &HeaderMap,
) -> Result<Done, EdgeError> {
    let found = look_up(edge, name).await?.version.ok_or(EdgeError::NotFound)?;
    answer(found, headers, |_| Ok(Bytes::new()))
}

async fn look_up(edge: &Edge, name: &FileName) -> Result<Served, EdgeError> {
    let file = edge.file(name);
    let served = timeout(edge.inner.limits.store, edge.inner.lookup.served(&file)).await;
    Ok(served.map_err(|_| EdgeError::Late)??)
}

fn answer(
    found: Found,
    headers: &HeaderMap,
    shown: impl FnOnce(Bytes) -> Result<Bytes, EdgeError>,
) -> Result<Done, EdgeError> {
    let hash = found.head.body.map_or_else(|| Sha256::of(&found.content), |body| body.sha256);
    let validators = Validators::new(hash, found.head.stamp);
    let dot = Some(found.head.dot);
    if validators.are_known_to(headers) {
        return Ok(Done { answer: response::unchanged(validators), dot });
    }
    let bytes = found.content.len();
    Ok(Done { answer: response::served(validators, bytes, shown(found.content)?), dot })
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
