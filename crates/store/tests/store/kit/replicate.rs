//! Records on their way from one site to another, as replication brings them.

use std::collections::{BTreeMap, BTreeSet};

use bruri_domain::{Cursor, LogId, LogKind, Sha256};
use bruri_store::{ApplyError, Incoming, IncomingBatch, Page, Store};
use bruri_wire::control::decode_control;
use bruri_wire::record::{RawRecord, decode_envelope, decode_version};
use bytes::Bytes;

/// Brings `to` all that `from` knows of other sites; returns how many batches were applied.
pub(crate) async fn pull(from: &Store, to: &Store) -> usize {
    pull_some(from, to, |theirs| theirs.log.id.site != *to.site()).await
}

/// Brings `to` what `from` has of one log.
pub(crate) async fn pull_log(from: &Store, to: &Store, log: &LogId) -> usize {
    pull_some(from, to, |theirs| theirs.log.id == *log).await
}

/// Brings `to` what `from` has of control logs.
pub(crate) async fn pull_control(from: &Store, to: &Store) -> usize {
    let is_wanted =
        |theirs: &Cursor| theirs.log.id.site != *to.site() && theirs.log.kind == LogKind::Control;
    pull_some(from, to, is_wanted).await
}

/// Brings `to` what `from` has of the logs that `to` has closed.
pub(crate) async fn pull_own(from: &Store, to: &Store) -> usize {
    let is_closed = |id: &LogId| id.site == *to.site() && !to.appends_to(id);
    pull_some(from, to, |theirs| is_closed(&theirs.log.id)).await
}

async fn pull_some(from: &Store, to: &Store, is_wanted: impl Fn(&Cursor) -> bool) -> usize {
    let mut applied = 0;
    for theirs in from.vector().await.unwrap() {
        if !is_wanted(&theirs) {
            continue;
        }
        while let Some(batch) = next_batch(from, to, &theirs.log.id).await {
            match to.apply(&batch).await {
                Ok(()) => applied += 1,
                // Another task of the test pulls the same log: go on from where it is.
                Err(ApplyError::CursorMoved(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    }
    applied
}

/// What `to` lacks of a log, as far as one page goes; none where it is level.
pub(crate) async fn next_batch(from: &Store, to: &Store, log: &LogId) -> Option<IncomingBatch> {
    let of = |vector: Vec<Cursor>| vector.into_iter().find(|cursor| cursor.log.id == *log);
    let theirs = of(from.vector().await.unwrap()).unwrap();
    let ours = of(to.vector().await.unwrap());
    let cursor = ours.unwrap_or_else(|| Cursor::at_beginning(theirs.log));
    let page = from.records_after(log, cursor.sequence).await.unwrap();
    (!page.records.is_empty()).then(|| batch(cursor, page))
}

/// What fills the first gap in the history of `to`, as far as one page goes; none where nothing is missing.
pub(crate) async fn next_fill(from: &Store, to: &Store) -> Option<IncomingBatch> {
    let gap = to.snapshot().await.unwrap().gaps.into_iter().next()?;
    let page = from.records_after(&gap.filled.log.id, gap.filled.sequence).await.unwrap();
    Some(batch(gap.filled, page))
}

fn batch(from: Cursor, page: Page) -> IncomingBatch {
    let bodies = page.bodies.into_iter().map(|b| (Sha256::of(&b), b)).collect();
    IncomingBatch { absent: page.absent, ..batch_of(from, page.records, bodies) }
}

/// A run of records right after a cursor.
pub(crate) fn batch_of(
    from: Cursor,
    records: Vec<RawRecord>,
    bodies: BTreeMap<Sha256, Bytes>,
) -> IncomingBatch {
    let mut to = from.clone();
    for record in &records {
        to.sequence += 1;
        to.chain = to.chain.next(&record.envelope);
    }
    let records = records.into_iter().map(incoming).collect();
    IncomingBatch { from, to, records, bodies, absent: BTreeSet::new() }
}

fn incoming(raw: RawRecord) -> Incoming {
    let envelope = decode_envelope(&raw.envelope).unwrap();
    let payload = raw.payload.as_ref();
    let version = payload.filter(|_| envelope.kind.is_version());
    let version = version.map(|payload| decode_version(payload).unwrap());
    let control = payload.and_then(|payload| decode_control(&envelope, payload).unwrap());
    Incoming { raw, envelope, version, control }
}
