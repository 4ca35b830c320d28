//! What is believed of a batch: nothing that does not follow our cursor and hash to what it says.

use std::collections::BTreeMap;

use bruri_domain::{
    Cursor, DeploymentKey, Envelope, RecordKind, Sha256, Version,
    limits::{FILE_BYTES_MAX, PAGE_RECORDS_MAX, PAYLOAD_BYTES_MAX},
};
use bruri_store::{Incoming, IncomingBatch};
use bruri_wire::{
    proto::replication::v1 as proto,
    record::{InvalidRecord, RawRecord, decode_envelope, decode_version},
    replication::{InvalidMessage, chain},
};
use bytes::Bytes;

/// Why a batch is refused. Nothing of it is stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidBatch {
    #[error("the batch begins at {first}, expected {expected}")]
    Gap { first: u64, expected: u64 },
    #[error("the batch has {0} records, expected 1 to {PAGE_RECORDS_MAX}")]
    Size(usize),
    #[error("the batch has {bodies} bodies for {records} records")]
    Bodies { bodies: usize, records: usize },
    #[error("record {sequence}: {problem}")]
    Record { sequence: u64, problem: InvalidRecord },
    #[error("record {sequence}: {problem}")]
    Content { sequence: u64, problem: Problem },
    #[error("the chain after record {0} is not what the peer says")]
    Chain(u64),
    #[error("a body has more than {FILE_BYTES_MAX} bytes")]
    BodySize,
    #[error(transparent)]
    Message(#[from] InvalidMessage),
}

/// What is wrong with one record.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("the payload's hash is not the one in the envelope")]
    PayloadHash,
    #[error("the payload is missing, and no erasure is known here that took it")]
    PayloadMissing,
    #[error("the subject in the envelope is not that of the file")]
    Subject,
    #[error("the kind in the envelope does not fit the payload")]
    Kind,
    #[error("no body in the batch has the hash and size that it names")]
    Body,
}

/// Bytes of a batch as credit counts them.
pub(crate) fn credit_bytes(batch: &proto::Batch) -> u64 {
    let entries = batch.entries.iter().map(|entry| {
        entry.envelope.len().saturating_add(entry.payload.as_ref().map_or(0, Bytes::len))
    });
    let bodies = batch.bodies.iter().map(Bytes::len);
    entries.chain(bodies).fold(0, |sum, bytes| sum.saturating_add(bytes as u64))
}

/// The sequence of a batch's last record.
pub(crate) fn last_sequence(batch: &proto::Batch) -> u64 {
    batch.first_sequence.saturating_add(batch.entries.len() as u64).saturating_sub(1)
}

/// Checks a batch that must go on right after `from`. It may begin earlier, where it was under way when
/// the log was asked for anew: what is known is passed over, and the chain proves that it is the same.
pub(crate) fn check(
    batch: proto::Batch,
    from: &Cursor,
    key: &DeploymentKey,
) -> Result<IncomingBatch, InvalidBatch> {
    let expected = from.sequence.saturating_add(1);
    if batch.first_sequence > expected {
        return Err(InvalidBatch::Gap { first: batch.first_sequence, expected });
    }
    let count = batch.entries.len();
    if count == 0 || count as u64 > PAGE_RECORDS_MAX {
        return Err(InvalidBatch::Size(count));
    }
    if batch.bodies.len() > count {
        return Err(InvalidBatch::Bodies { bodies: batch.bodies.len(), records: count });
    }
    let bodies = bodies(batch.bodies)?;
    let known = usize::try_from(expected.saturating_sub(batch.first_sequence)).unwrap_or(count);
    let (mut to, mut records) = (from.clone(), Vec::with_capacity(count));
    for entry in batch.entries.into_iter().skip(known) {
        to.sequence = to.sequence.saturating_add(1);
        to.chain = to.chain.next(&entry.envelope);
        records.push(record(entry, to.sequence, &bodies, key)?);
    }
    if to.chain != chain(&batch.chain, "batch.chain")? {
        return Err(InvalidBatch::Chain(to.sequence));
    }
    Ok(IncomingBatch { from: from.clone(), to, bodies: named(bodies, &records), records })
}

fn bodies(contents: Vec<Bytes>) -> Result<BTreeMap<Sha256, Bytes>, InvalidBatch> {
    if contents.iter().any(|content| content.len() > FILE_BYTES_MAX) {
        return Err(InvalidBatch::BodySize);
    }
    Ok(contents.into_iter().map(|content| (Sha256::of(&content), content)).collect())
}

/// Without the bodies that no record names.
fn named(mut bodies: BTreeMap<Sha256, Bytes>, records: &[Incoming]) -> BTreeMap<Sha256, Bytes> {
    let names: std::collections::BTreeSet<Sha256> =
        records.iter().filter_map(|r| r.version.as_ref()?.body).map(|body| body.sha256).collect();
    bodies.retain(|hash, _| names.contains(hash));
    bodies
}

fn record(
    entry: proto::Entry,
    sequence: u64,
    bodies: &BTreeMap<Sha256, Bytes>,
    key: &DeploymentKey,
) -> Result<Incoming, InvalidBatch> {
    let invalid = |problem| InvalidBatch::Record { sequence, problem };
    let wrong = |problem| InvalidBatch::Content { sequence, problem };
    let envelope = decode_envelope(&entry.envelope).map_err(invalid)?;
    let payload = entry.payload.as_ref().ok_or(wrong(Problem::PayloadMissing))?;
    if payload.len() > PAYLOAD_BYTES_MAX {
        let (message, bytes_max) = ("payload", PAYLOAD_BYTES_MAX);
        return Err(invalid(InvalidRecord::TooLarge { message, bytes_max }));
    }
    if Sha256::of(payload) != envelope.payload {
        return Err(wrong(Problem::PayloadHash));
    }
    let version = match envelope.kind {
        RecordKind::Backup | RecordKind::Deletion => {
            let version = decode_version(payload).map_err(invalid)?;
            fits(&envelope, &version, bodies, key).map_err(wrong)?;
            Some(version)
        }
        RecordKind::Unknown(_) => None,
    };
    let raw = RawRecord { envelope: entry.envelope, payload: entry.payload };
    Ok(Incoming { raw, envelope, version })
}

fn fits(
    envelope: &Envelope,
    version: &Version,
    bodies: &BTreeMap<Sha256, Bytes>,
    key: &DeploymentKey,
) -> Result<(), Problem> {
    if envelope.kind != version.kind() {
        return Err(Problem::Kind);
    }
    if envelope.subject != Some(key.subject_hash(version.file.subject())) {
        return Err(Problem::Subject);
    }
    let has_body = |body: &bruri_domain::Body| {
        bodies.get(&body.sha256).is_some_and(|content| content.len() as u64 == body.bytes)
    };
    if version.body.as_ref().is_some_and(|body| !has_body(body)) {
        return Err(Problem::Body);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
