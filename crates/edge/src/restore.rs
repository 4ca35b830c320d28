//! GET and HEAD: the served version, byte for byte.

use std::sync::Arc;

use bruri_domain::{FileName, Sha256, limits::EDGE_SMALL_BODY_BYTES_MAX};
use bruri_store::{Found, Served};
use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    Edge, EdgeError, body, conditional::Validators, delivery::Delivery, exchange::Done, fresh,
    response,
};

/// Answers with what is served now. Once it is delivered the phone has seen all that is known of the file
/// here and was told by peers, also where that is nothing.
pub(crate) async fn restore(
    edge: &Edge,
    name: &FileName,
    headers: &HeaderMap,
    delivery: &Delivery,
) -> Result<Done, EdgeError> {
    let (Served { version, remembered, .. }, origin) = fresh::read(edge, &edge.file(name)).await?;
    let done = version
        .map(|found| answer(found, headers, |content| placed(content, &edge.inner.large_bodies)));
    // Not where there is no room for the answer.
    let done = done.transpose()?;
    delivery.answer(remembered);
    Ok(done.unwrap_or_else(|| Done::refused(EdgeError::NotFound)).from(origin))
}

/// The same without the bytes, which leaves no mark.
pub(crate) async fn look(
    edge: &Edge,
    name: &FileName,
    headers: &HeaderMap,
) -> Result<Done, EdgeError> {
    let (Served { version, .. }, origin) = fresh::read(edge, &edge.file(name)).await?;
    let done = version.map(|found| answer(found, headers, |_| Ok(Bytes::new()))).transpose()?;
    Ok(done.unwrap_or_else(|| Done::refused(EdgeError::NotFound)).from(origin))
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
        return Ok(Done { answer: response::unchanged(validators), dot, error: None });
    }
    let bytes = found.content.len();
    let answer = response::served(validators, bytes, shown(found.content)?);
    Ok(Done { answer, dot, error: None })
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
