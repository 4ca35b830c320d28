//! Logs made by hand: records as a true origin would encode them, to be bent by a test.

use bruri_domain::{
    Author, Body, Context, Cursor, DeploymentKey, Envelope, Epoch, Log, LogId, LogKind, RecordKind,
    Sha256, SiteName, Stamp, Version,
};
use bruri_wire::{
    proto::replication::v1 as proto,
    record::{RawRecord, encode_envelope, encode_version},
};
use bytes::Bytes;

use super::site::{file, file_id};

/// A kind of a release to come.
pub(crate) const UNKNOWN: RecordKind = RecordKind::Unknown(77);

/// The place before the first record of a new log.
pub(crate) fn log(site: &str, kind: LogKind) -> Cursor {
    let site = SiteName::parse(site).unwrap();
    let epoch = match kind {
        LogKind::Control => Epoch(0xc0ff_ee00_0000_0001),
        LogKind::Files => Epoch(0xf11e_5000_0000_0002),
    };
    Cursor::at_beginning(Log { id: LogId { site, epoch }, kind, predecessor: None })
}

/// The backup of an extension's file.
pub(crate) fn backup(extension: u32, content: &[u8], key: &DeploymentKey) -> RawRecord {
    let version = Version {
        random: [9; 16],
        stamp: Stamp { micros: 1_760_000_000_000_000, trusted: true },
        file: file_id(&file(extension)),
        context: Context::default(),
        body: Some(Body::of(content)),
        suspect: false,
        author: Author::Unknown,
    };
    encode_version(&version, 0, key)
}

/// A record with any payload.
pub(crate) fn record(kind: RecordKind, payload: &[u8]) -> RawRecord {
    let envelope = Envelope { kind, subject: None, generation: 0, payload: Sha256::of(payload) };
    RawRecord {
        envelope: encode_envelope(&envelope),
        payload: Some(Bytes::copy_from_slice(payload)),
    }
}

/// The batch of these records after `from`, and the cursor after it.
pub(crate) fn batch(
    from: &Cursor,
    records: &[RawRecord],
    bodies: &[&[u8]],
) -> (proto::Batch, Cursor) {
    let mut to = from.clone();
    for record in records {
        to.sequence += 1;
        to.chain = to.chain.next(&record.envelope);
    }
    let entry = |record: &RawRecord| proto::Entry {
        envelope: record.envelope.clone(),
        payload: record.payload.clone(),
    };
    let batch = proto::Batch {
        log: Some((&from.log).into()),
        first_sequence: from.sequence + 1,
        entries: records.iter().map(entry).collect(),
        bodies: bodies.iter().map(|body| Bytes::copy_from_slice(body)).collect(),
        chain: to.chain.0.as_bytes().to_vec(),
        absent_bodies: Vec::new(),
    };
    (batch, to)
}
