//! Retention in memory: bodies go by the rule of `domain`, records and states stay.

use std::collections::BTreeMap;

use bruri_domain::{Context, Dot, Fate, FileId, FileState, HeldBy, Retention, Stamp};

use crate::memory::{Memory, Tables};

impl Memory {
    /// Drops the bodies that the rule lets go; returns how many versions lost theirs.
    pub fn prune(&self, retention: &Retention, now_micros: u64) -> u64 {
        let mut tables = self.lock();
        if !tables.snapshot.is_whole() {
            // The rule must see all versions of a file.
            return 0;
        }
        let going = tables.going(retention, now_micros);
        for dot in &going {
            if let Some(row) = tables.row_mut(dot) {
                row.is_pruned = true;
            }
        }
        if !going.is_empty() {
            tables.sweep();
        }
        going.len() as u64
    }

    /// Whether the bodies of all that phones get are here, of a file.
    pub fn has_bodies(&self, file: &FileId) -> bool {
        let tables = self.lock();
        let state = tables.files.get(file).cloned().unwrap_or_default();
        let mut bodies = state.heads().iter().filter_map(|head| head.body);
        bodies.all(|body| tables.bodies.contains_key(&body.sha256))
    }
}

impl Tables {
    /// The versions that lose their body.
    fn going(&self, retention: &Retention, now_micros: u64) -> Vec<Dot> {
        let mut histories: BTreeMap<&FileId, Vec<Whole>> = BTreeMap::new();
        for (dot, row) in self.rows().filter(|(_, row)| !row.is_pruned) {
            let Some(version) = &row.version else { continue };
            let whole = Whole { dot, stamp: version.stamp, has_body: version.body.is_some() };
            histories.entry(&version.file).or_default().push(whole);
        }
        let of_file =
            |(file, versions)| judge(versions, &HeldBy(self.heads(file)), retention, now_micros);
        histories.into_iter().flat_map(of_file).collect()
    }

    /// The heads of a file, each with the context that its record carries.
    pub(crate) fn heads(&self, file: &FileId) -> Vec<(Dot, Context)> {
        let heads = self.files.get(file).map(FileState::heads).unwrap_or_default();
        let context = |dot: &Dot| {
            let place = usize::try_from(dot.sequence).ok()?.checked_sub(1)?;
            let early = self.snapshot.early_at(dot);
            let row = early.or_else(|| self.logs.get(&dot.log)?.records.get(place))?;
            Some((dot.clone(), row.version.as_ref()?.context.clone()))
        };
        heads.iter().filter_map(|head| context(&head.dot)).collect()
    }
}

/// A version that was not pruned.
struct Whole {
    dot: Dot,
    stamp: Stamp,
    has_body: bool,
}

/// Judges the versions of a file as the real store does: newest first.
fn judge(
    mut versions: Vec<Whole>,
    held_by: &HeldBy,
    retention: &Retention,
    now_micros: u64,
) -> Vec<Dot> {
    versions.sort_by(|a, b| (a.stamp.micros, &a.dot).cmp(&(b.stamp.micros, &b.dot)));
    let (mut next, mut going): (Option<Stamp>, Vec<Dot>) = (None, Vec::new());
    for Whole { dot, stamp, has_body } in versions.into_iter().rev() {
        let fate = retention.fate(now_micros, stamp, next);
        if Retention::counts(now_micros, stamp) {
            next = Some(stamp);
        }
        if fate == Fate::Dropped && has_body && !held_by.holds(&dot) {
            going.push(dot);
        }
    }
    going
}
