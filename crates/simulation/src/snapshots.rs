//! Snapshots in memory and between the sites of a schedule.
//!
//! What a snapshot passed over stands as blank rows until it is filled in, so that a record's place is always its
//! sequence.

use std::collections::{BTreeMap, BTreeSet};

use bruri_domain::{Chain, Cursor, Dot, FileId, LogId, Sha256, fork::is_void, snapshot::least};
use bruri_replication::{
    engine::io::{Fetch, FetchError, Input, LinkId, Portion},
    snapshot::{records, states},
};
use bruri_store::{
    ApplyError, Copied, CopiedFile, CopiedHead, Gap, IncomingBatch, IncomingStates, Snapshot,
    StoreError,
};
use bruri_wire::record::{RawRecord, encode_state};
use futures_util::FutureExt as _;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::{
    memory::{Memory, Row, Tables},
    world::{What, World},
};

/// The versions that were known of files when their states were these, by what makes them unique: what no message says and
/// the laws ask for. A portion may never arrive, and another supplier's state is another one.
type Lore = BTreeMap<(FileId, Vec<u8>), BTreeMap<[u8; 16], Dot>>;

/// How a schedule has snapshots.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Snapshots {
    /// So many records behind, a site takes one.
    pub beyond: u64,
    /// The last site starts only then.
    pub late_millis: u64,
}

impl Snapshots {
    /// In one of two schedules whose databases do not go back in time.
    pub(crate) fn draw(seed: u64, restores: u32, millis: u64) -> Option<Self> {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x736e_6170);
        let drawn = rng.random_ratio(1, 2) && restores == 0;
        let late = rng.random_ratio(1, 2);
        let late_millis = if late { rng.random_range(0..millis) } else { 0 };
        drawn.then(|| Self { beyond: rng.random_range(0..=12), late_millis })
    }
}

/// What a database holds of a snapshot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    copying: Option<(FileId, u64)>,
    noted: Vec<Cursor>,
    gaps: BTreeMap<LogId, Gap>,
    /// Records of heads that came with states.
    heads: BTreeMap<Dot, CopiedHead>,
    /// What suppliers knew whose chunks are on their way.
    lore: Lore,
}

impl Held {
    pub(crate) fn is_whole(&self) -> bool {
        self.copying.is_none() && self.gaps.is_empty()
    }

    /// How many records of a log may be told after one; an error where the next one is not here.
    pub(crate) fn told_after(&self, log: &LogId, after: u64) -> Result<usize, StoreError> {
        match self.gaps.get(log) {
            Some(gap) if after < gap.filled.sequence => {
                Ok(usize::try_from(gap.filled.sequence - after).unwrap_or(usize::MAX))
            }
            Some(gap) if after < gap.floor.sequence => Err(StoreError::BelowFloor(log.clone())),
            _ => Ok(usize::MAX),
        }
    }

    /// An error where a place is passed over, but for the last.
    pub(crate) fn chain_at(&self, at: &Cursor) -> Result<(), StoreError> {
        let is_missing =
            |gap: &Gap| gap.filled.sequence < at.sequence && at.sequence < gap.floor.sequence;
        let missing = self.gaps.get(&at.log.id).is_some_and(is_missing);
        if missing { Err(StoreError::BelowFloor(at.log.id.clone())) } else { Ok(()) }
    }
}

impl Memory {
    /// Nothing of a snapshot is missing.
    pub fn is_filled(&self) -> bool {
        self.lock().snapshot.is_whole()
    }

    /// One file at a time, so that much happens between two chunks.
    pub(crate) fn copy_after(&self, after: Option<&FileId>) -> Result<Copied, StoreError> {
        let tables = self.lock();
        let mut later = tables.files.iter().filter(|(file, _)| after.is_none_or(|a| *file > a));
        let Some((file, state)) = later.next() else {
            return Ok(Copied { is_last: true, ..Copied::default() });
        };
        let heads = state.heads().iter().map(|head| tables.head(&head.dot));
        let heads = heads.collect::<Option<Vec<_>>>().ok_or(StoreError::StatesIncomplete)?;
        let named: BTreeSet<Sha256> =
            state.heads().iter().filter_map(|head| Some(head.body?.sha256)).collect();
        let bodies = tables.contents(&named);
        let absent = named.into_iter().filter(|hash| !bodies.contains_key(hash)).collect();
        let files = vec![CopiedFile { file: file.clone(), state: state.clone(), heads }];
        Ok(Copied { files, bodies, absent, is_last: later.next().is_none() })
    }

    pub(crate) fn held(&self) -> Snapshot {
        let tables = self.lock();
        let gaps = tables.snapshot.gaps.values().cloned().collect();
        Snapshot { copying: tables.snapshot.copying.clone(), gaps }
    }

    pub(crate) fn take(&self, states: &IncomingStates) -> Result<(), StoreError> {
        self.lock().take(states)
    }

    pub(crate) fn fill_in(&self, batch: &IncomingBatch) -> Result<(), ApplyError> {
        self.lock().fill_in(batch)
    }

    fn lore_of(&self, chunk: &Portion) -> Lore {
        let Portion::States { chunk, .. } = chunk else { return Lore::new() };
        let named = |file: &FileId| chunk.files.iter().any(|f| f.name == file.name.as_str());
        let tables = self.lock();
        let states = tables.files.iter().filter(|(file, _)| named(file));
        let lore = states.filter_map(|(file, state)| {
            let known = tables.versions.get(file)?.clone();
            Some(((file.clone(), encode_state(state)), known))
        });
        lore.collect()
    }

    fn hear_lore(&self, lore: Lore) {
        self.lock().snapshot.lore.extend(lore);
    }
}

impl Tables {
    fn head(&self, dot: &Dot) -> Option<CopiedHead> {
        if let Some(head) = self.snapshot.heads.get(dot) {
            return Some(head.clone());
        }
        let rows = self.logs.get(&dot.log)?;
        let row = rows.records.get(usize::try_from(dot.sequence.checked_sub(1)?).ok()?)?;
        let (log, raw) = (rows.cursor.log.clone(), row.raw.clone());
        Some(CopiedHead { log, sequence: dot.sequence, chain: row.chain, raw })
    }

    fn take(&mut self, states: &IncomingStates) -> Result<(), StoreError> {
        let at = self.snapshot.copying.as_ref().map(|(file, _)| file.clone());
        if at != states.after {
            return Err(StoreError::SnapshotMoved);
        }
        let site = self.files_log().site;
        let others = states.vector.iter().filter(|cursor| cursor.log.id.site != site);
        let theirs: Vec<Cursor> = others.cloned().collect();
        let noted = match states.after {
            None => theirs,
            Some(_) => least(&self.snapshot.noted, &theirs),
        };
        self.snapshot.noted = noted;
        let files = self.snapshot.copying.as_ref().map_or(0, |(_, files)| *files);
        let last = states.copied.files.last().map(|copied| copied.file.clone());
        self.snapshot.copying = last.or(at).map(|last| (last, files + 1));
        for copied in &states.copied.files {
            let state = self.files.entry(copied.file.clone()).or_default();
            *state = state.joined(&copied.state);
            let told = (copied.file.clone(), encode_state(&copied.state));
            if let Some(lore) = self.snapshot.lore.remove(&told) {
                self.versions.entry(copied.file.clone()).or_default().extend(lore);
            }
            for (head, known) in copied.heads.iter().zip(copied.state.heads()) {
                self.snapshot.heads.insert(known.dot.clone(), head.clone());
            }
        }
        self.keep_bodies(&states.copied.bodies);
        if states.copied.is_last {
            self.jump();
        }
        Ok(())
    }

    fn jump(&mut self) {
        self.snapshot.copying = None;
        for floor in std::mem::take(&mut self.snapshot.noted) {
            let filled = self.begin(floor.log.clone());
            let Some(rows) = self.logs.get_mut(&floor.log.id) else { continue };
            if self.own.contains(&floor.log.id) || floor.sequence <= filled.sequence {
                continue;
            }
            for _ in filled.sequence..floor.sequence {
                let raw = RawRecord { envelope: Vec::new().into(), payload: None };
                let chain = floor.chain;
                rows.records.push(Row {
                    raw,
                    chain,
                    generation: 0,
                    version: None,
                    is_pruned: false,
                });
            }
            rows.cursor = floor.clone();
            self.snapshot.gaps.insert(floor.log.id.clone(), Gap { filled, floor });
        }
    }

    fn fill_in(&mut self, batch: &IncomingBatch) -> Result<(), ApplyError> {
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
            let (raw, generation) = (incoming.raw.clone(), incoming.envelope.generation);
            let (chain, version) = (filled.chain, incoming.version.clone());
            rows.push(Row { raw, chain, generation, version, is_pruned: false });
        }
        if is_void(places, (floor.sequence, floor.chain)) {
            return Err(ApplyError::VoidBranch(id.clone()));
        }
        self.keep_bodies(&batch.bodies);
        let begin = usize::try_from(batch.from.sequence).unwrap_or(usize::MAX);
        for (row, place) in rows.into_iter().zip(begin..) {
            let dot = Dot { log: id.clone(), sequence: place as u64 + 1 };
            if let Some(version) = &row.version {
                let known = self.versions.entry(version.file.clone()).or_default();
                known.insert(version.random, dot);
            }
            if let Some(blank) = self.logs.get_mut(id).and_then(|log| log.records.get_mut(place)) {
                *blank = row;
            }
        }
        if filled.sequence < floor.sequence {
            self.snapshot.gaps.insert(id.clone(), Gap { filled, floor });
        } else {
            self.snapshot.gaps.remove(id);
        }
        Ok(())
    }
}

impl World {
    pub(crate) fn start_all(&mut self) {
        for site in 0..self.options.sites {
            let late = self.options.snapshots.filter(|_| site + 1 == self.options.sites);
            match late.map(|snapshots| snapshots.late_millis).filter(|millis| *millis > 0) {
                Some(millis) => self.after(millis * 1000, What::Restart { site }),
                None => self.start(site),
            }
        }
    }

    /// A peer is asked for the next portion of a snapshot; the question takes its time, and so does the answer.
    pub(crate) fn ask_portion(&mut self, site: usize, link: LinkId, number: u64, fetch: Fetch) {
        let incarnation = self.sites[site].incarnation;
        let takes = self.delay();
        self.after(takes, What::Fetch { site, incarnation, link, number, fetch });
    }

    pub(crate) fn answer_portion(
        &mut self,
        (site, incarnation): (usize, u64),
        (link, number): (LinkId, u64),
        fetch: Fetch,
    ) {
        let takes = self.delay();
        let place = usize::try_from(link.0).unwrap_or(usize::MAX);
        let Some(peer) = self.sites[site].peers.get(place).copied() else { return };
        let cut = self.is_cut(site, peer) || self.is_cut(peer, site);
        let result = if cut || self.sites[peer].process.is_none() {
            Err(FetchError { text: "no answer".to_owned() })
        } else {
            self.portion_of(peer, fetch)
        };
        if let Ok(portion) = &result {
            self.report.portions += 1;
            let lore = self.sites[peer].memory.lore_of(portion);
            self.sites[site].memory.hear_lore(lore);
        }
        let input = Input::Fetched { link, number, result };
        self.after(takes, What::Input { site, incarnation, input });
    }

    fn portion_of(&self, peer: usize, fetch: Fetch) -> Result<Portion, FetchError> {
        let memory = &self.sites[peer].memory;
        let failed = |error: StoreError| FetchError { text: error.to_string() };
        let nothing = || FetchError { text: "it is not here".to_owned() };
        match fetch {
            Fetch::States { after } => {
                let chunk = states(memory, after.as_ref()).now_or_never().ok_or_else(nothing)?;
                chunk.map(|chunk| Portion::States { after, chunk }).map_err(failed)
            }
            Fetch::Records { from } => {
                let batch = records(memory, &from).now_or_never().ok_or_else(nothing)?;
                let batch = batch.map_err(failed)?.ok_or_else(nothing)?;
                Ok(Portion::Records { from, batch })
            }
        }
    }
}
