//! Records of other sites, as the real store applies them: rows, file states and cursor in one transaction.

use bruri_domain::{
    Applied, Chain, Cursor, DeploymentKey, Dot, Head, LogId,
    fork::{Moved, is_void},
    mutant::{self, Mutant},
};
use bruri_store::{ApplyError, Incoming, IncomingBatch};
use bruri_wire::record::encode_version;

use crate::memory::Tables;

impl Tables {
    pub(crate) fn apply(
        &mut self,
        batch: &IncomingBatch,
        key: &DeploymentKey,
        dies: bool,
    ) -> Result<(), ApplyError> {
        let moved = || ApplyError::CursorMoved(batch.from.log.id.clone());
        let id = &batch.from.log.id;
        let begin = || Cursor::at_beginning(batch.from.log.clone());
        let at = self.logs.get(id).map_or_else(begin, |rows| rows.cursor.clone());
        if at != batch.from || self.own.contains(id) {
            return Err(moved());
        }
        if self.set_back.get(id).is_some_and(|stays| is_void(places(batch), *stays)) {
            return Err(ApplyError::VoidBranch(id.clone()));
        }
        self.begin(batch.from.log.clone());
        if mutant::is(Mutant::CursorFirst) && dies {
            if let Some(rows) = self.logs.get_mut(id) {
                rows.cursor = batch.to.clone();
            }
            return Ok(());
        }
        for incoming in &batch.records {
            self.apply_one(id, incoming, batch, key);
        }
        self.want(id, batch);
        Ok(())
    }

    /// The branch of an own log that stays comes back: what has a number that the other branch had too is written again,
    /// as [`bruri_store::Store::apply`] does. Returns where the open log is then.
    pub(crate) fn give_again(
        &mut self,
        batch: &IncomingBatch,
        key: &DeploymentKey,
    ) -> Option<Cursor> {
        let id = &batch.from.log.id;
        let void_end = self.void_ends.get(id).copied()?;
        let mut given = Vec::new();
        for sequence in batch.from.sequence + 1..=batch.to.sequence.min(void_end) {
            let dot = Dot { log: id.clone(), sequence };
            let row = self.row_mut(&dot).cloned();
            given.extend(row.and_then(|row| Some((dot, row.version.clone()?, row))));
        }
        if given.is_empty() {
            return None;
        }
        let open = self.files_log();
        let before = self.logs.get(&open)?.cursor.sequence;
        let mut moved = Moved::beyond(id.clone(), batch.from.sequence);
        for ((dot, version, _), sequence) in given.iter().zip(before + 1..) {
            moved.note(version.file.clone(), dot.sequence, Dot { log: open.clone(), sequence });
        }
        for (dot, version, row) in given {
            let version = moved.version_that_stays(&version, &dot);
            let raw = encode_version(&version, row.generation, key);
            let rows = self.logs.get_mut(&open)?;
            rows.push(raw, row.generation, Some(version.clone()));
            let again = Dot { log: open.clone(), sequence: rows.cursor.sequence };
            if let Some(last) = rows.records.last_mut() {
                last.is_pruned = row.is_pruned;
            }
            let mut state = self.state(&version.file, key);
            state.apply(&again, row.generation, &version);
            self.files.insert(version.file.clone(), state);
            self.keep(&version, &again, None);
            self.given_again.insert(version.random);
        }
        self.logs.get(&open).map(|rows| rows.cursor.clone())
    }

    /// Notes the heads among a batch that came without their bodies.
    fn want(&mut self, log: &LogId, batch: &IncomingBatch) {
        for sequence in batch.from.sequence + 1..=batch.to.sequence {
            let dot = Dot { log: log.clone(), sequence };
            let row = self.row_mut(&dot).filter(|row| row.is_pruned);
            let Some(version) = row.and_then(|row| row.version.clone()) else { continue };
            let hash = version.body.map(|body| body.sha256);
            let names = |head: &Head| head.body.map(|body| body.sha256) == hash;
            if self.files.get(&version.file).is_some_and(|state| state.heads().iter().any(names)) {
                self.wanted.insert(dot);
            }
        }
    }

    fn apply_one(
        &mut self,
        log: &LogId,
        incoming: &Incoming,
        batch: &IncomingBatch,
        key: &DeploymentKey,
    ) {
        let Incoming { raw, envelope, version, control } = incoming;
        let Some(rows) = self.logs.get_mut(log) else { return };
        rows.push(raw.clone(), envelope.generation, version.clone());
        let dot = Dot { log: log.clone(), sequence: rows.cursor.sequence };
        let early = self.snapshot.arrived(&dot, rows.cursor.chain);
        if let Some(control) = control {
            self.apply_control(&log.site, (envelope.subject, envelope.generation), control, key);
        }
        let Some(version) = version else { return };
        if envelope.generation < self.floor(&version.file, key) {
            // Only its place in the log is kept.
            if let Some(row) = self.row_mut(&dot) {
                row.forget();
            }
            return;
        }
        let mut state = self.state(&version.file, key);
        if envelope.generation > state.generation() {
            self.versions.remove(&version.file);
        }
        let applied = state.apply(&dot, envelope.generation, version);
        self.files.insert(version.file.clone(), state);
        let content = version.body.and_then(|body| batch.bodies.get(&body.sha256)).cloned();
        let content = content.filter(|_| early.is_none());
        let absent = version.body.filter(|body| batch.absent.contains(&body.sha256));
        let is_absent = absent.is_some_and(|body| !self.bodies.contains_key(&body.sha256));
        let is_pruned = early.map_or(is_absent, |early| early.is_pruned);
        if let Some(row) = self.row_mut(&dot) {
            row.is_pruned = is_pruned;
            if applied == Applied::Erased {
                row.forget();
                return;
            }
        }
        self.keep(version, &dot, content);
    }
}

/// Where a batch leads, record by record.
fn places(batch: &IncomingBatch) -> impl Iterator<Item = (u64, Chain)> {
    let mut chain = batch.from.chain;
    batch.records.iter().zip(batch.from.sequence + 1..).map(move |(record, sequence)| {
        chain = chain.next(&record.raw.envelope);
        (sequence, chain)
    })
}
