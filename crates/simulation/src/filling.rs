//! History of a snapshot in memory: filled in, or given up.

use std::collections::BTreeSet;

use bruri_domain::{Chain, Cursor, DeploymentKey, Dot, FileId, fork::is_void};
use bruri_store::{ApplyError, Gap, Incoming, IncomingBatch};

use crate::memory::{Row, Tables};

impl Tables {
    /// What came with a snapshot that is not filled in goes: all is as its records say that are here.
    pub(crate) fn give_snapshot_up(&mut self, key: &DeploymentKey) {
        if self.snapshot.is_whole() {
            return;
        }
        let held = std::mem::take(&mut self.snapshot);
        for Gap { filled, .. } in held.gaps.into_values() {
            if let Some(rows) = self.logs.get_mut(&filled.log.id) {
                rows.records.truncate(usize::try_from(filled.sequence).unwrap_or(usize::MAX));
                rows.cursor = filled;
            }
        }
        let logs = &self.logs;
        let is_here =
            |dot: &Dot| logs.get(&dot.log).is_some_and(|rows| dot.sequence <= rows.cursor.sequence);
        self.wanted.retain(is_here);
        self.stated.clear();
        let files: BTreeSet<FileId> = self.files.keys().cloned().collect();
        self.make_anew(&files, key);
    }

    pub(crate) fn fill_in(
        &mut self,
        batch: &IncomingBatch,
        key: &DeploymentKey,
    ) -> Result<(), ApplyError> {
        let id = &batch.from.log.id;
        let moved = || ApplyError::CursorMoved(id.clone());
        let gap = self.snapshot.gaps.get(id).filter(|gap| gap.filled == batch.from);
        let Gap { mut filled, floor } = gap.cloned().ok_or_else(moved)?;
        let (mut rows, mut places) = (Vec::new(), Vec::<(u64, Chain)>::new());
        for incoming in &batch.records {
            if filled.sequence == floor.sequence {
                break;
            }
            filled.sequence += 1;
            filled.chain = filled.chain.next(&incoming.raw.envelope);
            places.push((filled.sequence, filled.chain));
            rows.push((filled.clone(), incoming));
        }
        let stays = self.set_back.get(id).copied();
        let is_another = is_void(places.iter().copied(), (floor.sequence, floor.chain))
            || stays.is_some_and(|stays| is_void(places.iter().copied(), stays));
        if is_another {
            return Err(ApplyError::VoidBranch(id.clone()));
        }
        for (place, incoming) in rows {
            self.fill_one(&place, incoming, batch, key);
        }
        if filled.sequence < floor.sequence {
            self.snapshot.gaps.insert(id.clone(), Gap { filled, floor });
        } else {
            self.snapshot.gaps.remove(id);
        }
        Ok(())
    }

    /// The file's state knows of the version, but one that was erased since.
    fn fill_one(
        &mut self,
        place: &Cursor,
        incoming: &Incoming,
        batch: &IncomingBatch,
        key: &DeploymentKey,
    ) {
        let dot = Dot { log: place.log.id.clone(), sequence: place.sequence };
        let generation = incoming.envelope.generation;
        let version = incoming.version.clone();
        let version = version.filter(|v| generation >= self.floor(&v.file, key));
        let mut raw = incoming.raw.clone();
        if version.is_none() && incoming.version.is_some() {
            raw.payload = None;
        }
        let early = self.snapshot.arrived(&dot, place.chain);
        let body = version.as_ref().and_then(|version| version.body).map(|body| body.sha256);
        let content = body.and_then(|body| batch.bodies.get_key_value(&body));
        let content = content.filter(|_| early.is_none());
        self.bodies.extend(content.map(|(hash, content)| (*hash, content.clone())));
        if let Some(version) = &version
            && generation == self.state(&version.file, key).generation()
        {
            let known = self.versions.entry(version.file.clone()).or_default();
            known.insert(version.random, dot.clone());
        }
        let is_absent = body.is_some_and(|body| !self.bodies.contains_key(&body));
        let is_pruned = early.map_or(is_absent, |early| early.is_pruned);
        if let Some(blank) = self.row_mut(&dot) {
            *blank = Row { raw, chain: place.chain, generation, version, is_pruned };
        }
    }
}
