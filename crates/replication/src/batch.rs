//! What is believed of a batch: nothing that does not follow our cursor and hash to what it says.

use std::collections::{BTreeMap, BTreeSet};

use bruri_domain::{
    Body, Cursor, DeploymentKey, Envelope, LogKind, RecordKind, Sha256, Version,
    limits::{FILE_BYTES_MAX, PAGE_RECORDS_MAX, PAYLOAD_BYTES_MAX},
    mutant::{self, Mutant},
};
use bruri_store::{Incoming, IncomingBatch};
use bruri_wire::{
    control::decode_control,
    proto::replication::v1 as proto,
    record::{InvalidRecord, RawRecord, decode_envelope, decode_version},
    replication::{InvalidMessage, chain, invalid},
};
use bytes::Bytes;

/// Why a batch is refused. Nothing of it is stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidBatch {
    #[error("the batch begins at {first}, expected {expected}")]
    Gap { first: u64, expected: u64 },
    #[error("the batch has {0} records, expected 1 to {PAGE_RECORDS_MAX}")]
    Size(usize),
    #[error("the batch has or lacks {bodies} bodies for {records} records")]
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
    let named = batch.bodies.len().saturating_add(batch.absent_bodies.len());
    if named > count {
        return Err(InvalidBatch::Bodies { bodies: named, records: count });
    }
    let bodies = Bodies::check(batch.bodies, &batch.absent_bodies)?;
    let known = usize::try_from(expected.saturating_sub(batch.first_sequence)).unwrap_or(count);
    let (mut to, mut records) = (from.clone(), Vec::with_capacity(count));
    for entry in batch.entries.into_iter().skip(known) {
        to.sequence = to.sequence.saturating_add(1);
        to.chain = to.chain.next(&entry.envelope);
        records.push(record(entry, &to, &bodies, key)?);
    }
    if to.chain != chain(&batch.chain, "batch.chain")? {
        return Err(InvalidBatch::Chain(to.sequence));
    }
    let Bodies { here, absent } = bodies.named_by(&records);
    Ok(IncomingBatch { from: from.clone(), to, records, bodies: here, absent })
}

/// What a batch has of the bodies that its records name.
struct Bodies {
    here: BTreeMap<Sha256, Bytes>,
    /// Those that the supplier says it has no more.
    absent: BTreeSet<Sha256>,
}

impl Bodies {
    fn check(contents: Vec<Bytes>, absent: &[Vec<u8>]) -> Result<Self, InvalidBatch> {
        if contents.iter().any(|content| content.len() > FILE_BYTES_MAX) {
            return Err(InvalidBatch::BodySize);
        }
        let here: BTreeMap<_, _> =
            contents.into_iter().map(|content| (Sha256::of(&content), content)).collect();
        let absent = absent.iter().map(|hash| Sha256::from_slice(hash));
        let absent: Option<BTreeSet<_>> = absent.collect();
        let mut absent = absent.ok_or(invalid("batch.absent_bodies"))?;
        absent.retain(|hash| !here.contains_key(hash));
        Ok(Self { here, absent })
    }

    /// Whether the batch has it, or is excused.
    fn answer_for(&self, body: &Body) -> bool {
        self.absent.contains(&body.sha256)
            || self.here.get(&body.sha256).is_some_and(|c| c.len() as u64 == body.bytes)
    }

    /// Without those that no record names.
    fn named_by(mut self, records: &[Incoming]) -> Self {
        let bodies = records.iter().filter_map(|record| record.version.as_ref()?.body);
        let names: BTreeSet<Sha256> = bodies.map(|body| body.sha256).collect();
        self.here.retain(|hash, _| names.contains(hash));
        self.absent.retain(|hash| names.contains(hash));
        self
    }
}

fn record(
    entry: proto::Entry,
    to: &Cursor,
    bodies: &Bodies,
    key: &DeploymentKey,
) -> Result<Incoming, InvalidBatch> {
    let sequence = to.sequence;
    let invalid = |problem| InvalidBatch::Record { sequence, problem };
    let wrong = |problem| InvalidBatch::Content { sequence, problem };
    let envelope = decode_envelope(&entry.envelope).map_err(invalid)?;
    let Some(payload) = &entry.payload else {
        return erased(entry.envelope, envelope, to.log.kind).ok_or(wrong(Problem::PayloadMissing));
    };
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
        _ => None,
    };
    let version = version.filter(|version| !is_taken_for_erased(version, bodies));
    let control = decode_control(&envelope, payload).map_err(invalid)?;
    let raw = RawRecord { envelope: entry.envelope, payload: entry.payload };
    Ok(Incoming { raw, envelope, version, control })
}

fn is_taken_for_erased(version: &Version, bodies: &Bodies) -> bool {
    let is_absent = |body: Body| bodies.absent.contains(&body.sha256);
    mutant::is(Mutant::PrunedForErased) && version.body.is_some_and(is_absent)
}

/// A record that lost its payload: it may be that an erasure took it, which [`unerased`] finds out.
fn erased(bytes: Bytes, envelope: Envelope, log: LogKind) -> Option<Incoming> {
    // Of a kind that is not known here it can be a version, too, unless it is of a control log.
    let unread = matches!(envelope.kind, RecordKind::Unknown(_)) && log == LogKind::Files;
    let can_be = (envelope.kind.is_version() || unread) && envelope.subject.is_some();
    let raw = RawRecord { envelope: bytes, payload: None };
    can_be.then_some(Incoming { raw, envelope, version: None, control: None })
}

/// The subjects of records without payload.
pub(crate) fn subjects_without_payload(batch: &IncomingBatch) -> BTreeSet<Sha256> {
    let without = batch.records.iter().filter(|record| record.raw.payload.is_none());
    without.filter_map(|record| record.envelope.subject).collect()
}

/// The first record without payload that no erasure took, as far as is known here.
pub(crate) fn unerased(
    batch: &IncomingBatch,
    generations: &BTreeMap<Sha256, u64>,
) -> Option<InvalidBatch> {
    let first = batch.from.sequence.saturating_add(1);
    let mut numbered = (first..).zip(&batch.records);
    numbered.find_map(|(sequence, record)| {
        let subject = record.envelope.subject.and_then(|subject| generations.get(&subject));
        let is_erased = subject.is_some_and(|known| record.envelope.generation < *known);
        let problem = Problem::PayloadMissing;
        let is_sound = record.raw.payload.is_some() || is_erased;
        (!is_sound).then_some(InvalidBatch::Content { sequence, problem })
    })
}

fn fits(
    envelope: &Envelope,
    version: &Version,
    bodies: &Bodies,
    key: &DeploymentKey,
) -> Result<(), Problem> {
    if envelope.kind != version.kind() {
        return Err(Problem::Kind);
    }
    if envelope.subject != Some(key.subject_hash(version.file.subject())) {
        return Err(Problem::Subject);
    }
    if version.body.as_ref().is_some_and(|body| !bodies.answer_for(body)) {
        return Err(Problem::Body);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
