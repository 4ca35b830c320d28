//! Logs that forked, in memory: set back to where their branches part, and cleansed of what states that a peer copied
//! know of the branch that gave way.

use std::collections::BTreeSet;

use bruri_domain::{
    Control, Cursor, DeploymentKey, Dot, FileId, LogId, LogKind, Random, Stamp, Version,
    fork::{Branch, Moved, Parting},
};
use bruri_wire::{control::encode_control, record::encode_version};

use crate::memory::{Memory, Row, Tables};

impl Memory {
    /// Sets a log back to a place that it shares with the branch that stays, and where it is the site's own tells so
    /// under these bits at this time. Returns the versions that lost their place; none where it may not be.
    pub fn set_back(
        &self,
        parting: &Parting,
        (random, stamp): (Random, Stamp),
    ) -> Option<BTreeSet<[u8; 16]>> {
        let (to, mut tables) = (&parting.common, self.lock());
        let is_own = to.log.id.site == tables.files_log().site;
        let is_open = tables.own.contains(&to.log.id);
        if is_open || (is_own && tables.set_back.contains_key(&to.log.id)) {
            return None;
        }
        tables.give_snapshot_up(&self.key);
        let common = usize::try_from(to.sequence).ok()?;
        let rows = tables.logs.get_mut(&to.log.id)?;
        let void = rows.records.split_off(common.min(rows.records.len()));
        let void_end = std::mem::replace(&mut rows.cursor, to.clone()).sequence;
        let mut void: Vec<(u64, Row)> = (to.sequence + 1..).zip(void).collect();
        void.extend(tables.snapshot.early_beyond(&to.log.id, to.sequence));
        tables.wanted.retain(|dot| dot.log != to.log.id || dot.sequence <= to.sequence);
        tables.set_back.insert(to.log.id.clone(), (parting.sequence(), parting.stays));
        let versions = void.iter().filter_map(|(_, row)| row.version.as_ref());
        let (mut touched, moved): (BTreeSet<FileId>, _) =
            versions.map(|version| (version.file.clone(), version.random)).unzip();
        if is_own {
            tables.void_ends.insert(to.log.id.clone(), void_end);
            let end = tables.append_again(&void, to, &self.key);
            self.beside().saw(&end);
            let branch = Control::Branch(Branch::of(parting, random, stamp));
            let end = tables.append_control(&branch, &self.key);
            self.beside().saw(&end);
        }
        touched.extend(tables.copied_beyond(&to.log.id, to.sequence));
        tables.make_anew(&touched, &self.key);
        tables.partings_due.remove(&to.log.id);
        Some(moved)
    }

    /// Keeps to the branches that stay of the logs of which their sites told; returns whether there was something to do.
    pub fn keep_to_staying_branches(&self) -> bool {
        let due: Vec<LogId> = self.lock().partings_due.iter().cloned().collect();
        for id in &due {
            let void = self.lock().void_branch(id);
            if let Some(parting) = void {
                // It is of another site, which tells of it itself.
                self.set_back(&parting, ([0; 16], Stamp { trusted: false, micros: 0 }));
                continue;
            }
            let mut tables = self.lock();
            tables.give_snapshot_up(&self.key);
            let Some((first, _)) = tables.set_back.get(id).copied() else { continue };
            let touched = tables.copied_beyond(id, first.saturating_sub(1));
            tables.make_anew(&touched, &self.key);
            tables.partings_due.remove(id);
        }
        !due.is_empty()
    }

    /// A snapshot that is not filled in ends: all is as its records say that are here.
    pub fn end_snapshot(&self) {
        self.lock().give_snapshot_up(&self.key);
    }

    /// Whether it is to keep to branches of which it was told.
    pub fn has_due_partings(&self) -> bool {
        !self.lock().partings_due.is_empty()
    }
}

impl Tables {
    /// A site has told which branch of a log of its own stays.
    pub(crate) fn told_parting(&mut self, parting: &Parting) {
        let log = &parting.common.log;
        self.begin(log.clone());
        if self.own.contains(&log.id) {
            return;
        }
        let stays = (parting.sequence(), parting.stays);
        self.set_back.entry(log.id.clone()).or_insert(stays);
        self.partings_due.insert(log.id.clone());
    }

    /// Where the branch that gave way is what is here of a log of another site.
    fn void_branch(&self, id: &LogId) -> Option<Parting> {
        let (first, stays) = self.set_back.get(id).copied()?;
        let rows = self.logs.get(id).filter(|_| id.site != self.files_log().site)?;
        let place = usize::try_from(first).ok()?.checked_sub(1)?;
        let is_void = rows.records.get(place).is_some_and(|row| row.chain != stays);
        let before = place.checked_sub(1).and_then(|place| rows.records.get(place));
        let beginning = Cursor::at_beginning(rows.cursor.log.clone());
        let chain = before.map_or(beginning.chain, |row| row.chain);
        let common = Cursor { sequence: first - 1, chain, ..beginning };
        is_void.then_some(Parting { common, stays })
    }

    /// The files of which a state that came with a snapshot may know more of a log than is before a place.
    fn copied_beyond(&self, id: &LogId, sequence: u64) -> BTreeSet<FileId> {
        if self.stated.get(id).is_none_or(|stated| *stated <= sequence) {
            return BTreeSet::new();
        }
        let names = self.files.iter().filter(|(_, s)| s.context().last_of(id) > sequence);
        names.map(|(file, _)| file.clone()).collect()
    }

    pub(crate) fn make_anew(&mut self, files: &BTreeSet<FileId>, key: &DeploymentKey) {
        for file in files {
            self.rebuild(file, key);
        }
        self.remembered.retain(|(file, _), _| !files.contains(file));
        self.controls.forgotten.extend(files.iter().cloned());
        self.sweep();
    }

    fn append_control(&mut self, control: &Control, key: &DeploymentKey) -> Cursor {
        let open = self.open_log(LogKind::Control);
        let raw = encode_control(control, None, 0);
        let rows = self.logs.get_mut(&open).map(|rows| {
            rows.push(raw, 0, None);
            rows.cursor.clone()
        });
        self.apply_control(&open.site, (None, 0), control, key);
        rows.unwrap_or_else(|| unreachable!("a site has a control log"))
    }

    /// Writes a void branch once more at the end of the open log, as [`bruri_store::Store::set_back`] does.
    fn append_again(&mut self, void: &[(u64, Row)], to: &Cursor, key: &DeploymentKey) -> Cursor {
        let open = self.open_log(to.log.kind);
        let before = self.logs.get(&open).map_or(0, |rows| rows.cursor.sequence);
        let mut moved = Moved::beyond(to.log.id.clone(), to.sequence);
        for ((sequence, row), offset) in void.iter().zip(1..) {
            if let Some(version) = &row.version {
                let dot = Dot { log: open.clone(), sequence: before + offset };
                moved.note(version.file.clone(), *sequence, dot);
            }
        }
        for (_, row) in void {
            let version: Option<Version> = row.version.as_ref().map(|v| moved.version(v));
            let raw = version.as_ref().map(|v| encode_version(v, row.generation, key));
            let raw = raw.unwrap_or_else(|| row.raw.clone());
            if let Some(rows) = self.logs.get_mut(&open) {
                rows.push(raw, row.generation, version);
                if let Some(again) = rows.records.last_mut() {
                    again.is_pruned = row.is_pruned;
                }
            }
        }
        self.logs.get(&open).map_or_else(|| to.clone(), |rows| rows.cursor.clone())
    }
}
