//! A log of another site, written by hand: whatever a peer might send.

use std::collections::BTreeMap;

use bruri_domain::{
    Body, Context, Cursor, Dot, Epoch, FileId, Log, LogId, LogKind, Sha256, SiteName, Stamp,
    Version,
};
use bruri_store::IncomingBatch;
use bruri_wire::record::{RawRecord, encode_version};
use bytes::Bytes;

use super::{phone, replicate::batch_of, site::key};

pub(crate) struct Origin {
    cursor: Cursor,
    records: Vec<RawRecord>,
    bodies: BTreeMap<Sha256, Bytes>,
}

impl Origin {
    pub(crate) fn new(site: &str, epoch: u64) -> Self {
        let id = LogId { site: SiteName::parse(site).unwrap(), epoch: Epoch(epoch) };
        let log = Log { id, kind: LogKind::Files, predecessor: None };
        let cursor = Cursor::at_beginning(log);
        Self { cursor, records: Vec::new(), bodies: BTreeMap::new() }
    }

    pub(crate) fn log(&self) -> &LogId {
        &self.cursor.log.id
    }

    /// Writes a record of any kind.
    pub(crate) fn write(&mut self, raw: RawRecord) -> Dot {
        self.records.push(raw);
        let sequence = self.cursor.sequence + self.records.len() as u64;
        Dot { log: self.log().clone(), sequence }
    }

    /// Writes a version under a generation.
    pub(crate) fn version(&mut self, version: &Version, generation: u64) -> Dot {
        self.write(encode_version(version, generation, &key()))
    }

    /// Writes a backup by a phone, at a time, by a writer that has seen nothing.
    pub(crate) fn backup(&mut self, file: &FileId, content: &[u8], micros: u64) -> Dot {
        self.add_body(content);
        self.version(&version_of(file, content, micros), 0)
    }

    /// Sends a body with the next batch.
    pub(crate) fn add_body(&mut self, content: &[u8]) {
        self.bodies.insert(Sha256::of(content), Bytes::copy_from_slice(content));
    }

    /// Forgets a body that it has written, as if it got lost on the way.
    pub(crate) fn lose_bodies(&mut self) {
        self.bodies.clear();
    }

    /// A batch without any body, as of a peer whose retention dropped them.
    pub(crate) fn pruned_batch(&mut self) -> IncomingBatch {
        let mut batch = self.batch();
        batch.absent = std::mem::take(&mut batch.bodies).into_keys().collect();
        batch
    }

    /// What was written since the last batch.
    pub(crate) fn batch(&mut self) -> IncomingBatch {
        let records = std::mem::take(&mut self.records);
        let bodies = std::mem::take(&mut self.bodies);
        let batch = batch_of(self.cursor.clone(), records, bodies);
        self.cursor = batch.to.clone();
        batch
    }
}

/// A backup by a phone that has seen nothing.
pub(crate) fn version_of(file: &FileId, content: &[u8], micros: u64) -> Version {
    Version {
        random: rand::random(),
        stamp: Stamp { trusted: true, micros },
        file: file.clone(),
        context: Context::default(),
        body: Some(Body::of(content)),
        suspect: false,
        author: phone(),
    }
}
