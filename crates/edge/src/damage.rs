//! A GET of a file that is damaged here: never the wrong bytes, and never "not found".
//!
//! The file's row is made anew from its records. Where its body is damaged, or its records are, the peers are asked for all that
//! they have of it, as long as a phone waits for a file that is not here; the body is fetched and replaced behind.

use bruri_domain::{FileId, FileState, Remembered};
use bruri_store::{Found, Served, StoreError};

use crate::{
    Edge, EdgeError,
    fresh::{ASK_NOTHING, Origin},
};

/// Where what a phone gets came from.
pub(crate) enum Mended {
    /// From here, as if it had never been damaged.
    Here(Served),
    /// From peers.
    There(Served, Origin),
}

/// Reads a file whose row or body turned out damaged.
pub(crate) async fn mended(
    edge: &Edge,
    file: &FileId,
    error: &StoreError,
) -> Result<Mended, EdgeError> {
    tracing::warn!(%error, file.name = %file, "a file cannot be served as it is stored");
    let known = edge.inner.store.mend(file).await?;
    if known.is_some() {
        match edge.inner.lookup.served(file).await {
            Ok(served) => return Ok(Mended::Here(served)),
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let here = known.unwrap_or_default();
    let told = edge.inner.peers.ask(file, &nothing(&here), ASK_NOTHING).await;
    let state = here.joined(&told.state);
    let served = state.served().and_then(|head| Some((head.clone(), head.body?)));
    let (head, body) = served.ok_or(EdgeError::Damaged)?;
    let content = match told.bodies.get(&body.sha256) {
        Some(content) => Some(content.clone()),
        None => edge.inner.store.contents(&[body]).await?.remove(&body.sha256),
    };
    let content = content.ok_or_else(|| StoreError::BodyAbsent(head.dot.clone()))?;
    let version = Some(Found { head, content });
    let remembered = Remembered::served(&state);
    edge.inner.store.note_told(state.context());
    Ok(Mended::There(Served { version, remembered, state }, Origin::told(&told)))
}

/// Of the same generation, so that peers tell all that they have and nothing that was erased.
fn nothing(here: &FileState) -> FileState {
    let mut nothing = FileState::default();
    nothing.raise_to(here.generation());
    nothing
}
