//! Snapshots in memory and between the sites of a schedule.
//!
//! What a snapshot passed over stands as blank rows until it is filled in, so that a record's place is always its
//! sequence.

use std::collections::{BTreeMap, BTreeSet};

use bruri_domain::{
    Chain, Cursor, DeploymentKey, Dot, FileId, FileState, Log, LogId, Sha256, snapshot::least,
};
use bruri_replication::{
    engine::io::{Fetch, FetchError, Input, LinkId, Portion},
    snapshot::{records, states, why_not},
};
use bruri_store::{
    ApplyError, Copied, CopiedFile, CopiedHead, Gap, IncomingBatch, IncomingStates, Snapshot,
    StoreError,
};
use bruri_wire::{
    proto::replication::v1::refusal::Reason,
    record::{RawRecord, decode_envelope, decode_version, encode_state},
};
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
    /// In one of two schedules.
    pub(crate) fn draw(seed: u64, millis: u64) -> Option<Self> {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x736e_6170);
        let drawn = rng.random_ratio(1, 2);
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
    pub(crate) gaps: BTreeMap<LogId, Gap>,
    /// Records of heads that came with states, ahead of their logs.
    heads: BTreeMap<Dot, Early>,
    /// What suppliers knew whose chunks are on their way.
    lore: Lore,
}

/// A head's record that came with its file's state.
#[derive(Clone, Debug)]
pub(crate) struct Early {
    log: Log,
    row: Row,
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

    /// The record of a head whose log is not that far.
    pub(crate) fn early_mut(&mut self, dot: &Dot) -> Option<&mut Row> {
        self.heads.get_mut(dot).map(|early| &mut early.row)
    }

    /// The same to look at.
    pub(crate) fn early_at(&self, dot: &Dot) -> Option<&Row> {
        self.heads.get(dot).map(|early| &early.row)
    }

    /// Those records.
    pub(crate) fn early(&self) -> impl Iterator<Item = (&Dot, &Row)> {
        self.heads.iter().map(|(dot, early)| (dot, &early.row))
    }

    /// The same to change.
    pub(crate) fn early_rows_mut(&mut self) -> impl Iterator<Item = &mut Row> {
        self.heads.values_mut().map(|early| &mut early.row)
    }

    /// What states name that suppliers sent, whether they came or were lost.
    pub(crate) fn on_their_way(&self) -> impl Iterator<Item = &Dot> {
        self.lore.values().flat_map(BTreeMap::values)
    }

    /// Takes out those of a log beyond a place.
    pub(crate) fn early_beyond(&mut self, log: &LogId, sequence: u64) -> Vec<(u64, Row)> {
        let is_beyond = |dot: &Dot, _: &mut Early| dot.log == *log && dot.sequence > sequence;
        let taken = self.heads.extract_if(.., is_beyond);
        taken.map(|(dot, early)| (dot.sequence, early.row)).collect()
    }

    /// The log came as far as a head. What is here of it stays as it is, unless it is of a branch that gave way.
    pub(crate) fn arrived(&mut self, dot: &Dot, chain: Chain) -> Option<Row> {
        self.heads.remove(dot).map(|early| early.row).filter(|row| row.chain == chain)
    }

    /// Where what came last is erased, goes on after a file that is still there, or begins again.
    pub(crate) fn step_back(&mut self, erased: &[FileId], files: &BTreeMap<FileId, FileState>) {
        let Some((last, count)) = self.copying.take_if(|(last, _)| erased.contains(last)) else {
            return;
        };
        let here = files.range(..last).next_back();
        self.copying = here.map(|(file, _)| (file.clone(), count));
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
        if !tables.partings_due.is_empty() {
            // They may know of a branch that gave way.
            return Err(StoreError::StatesIncomplete);
        }
        let partings = tables.partings();
        let mut later = tables.files.iter().filter(|(file, _)| after.is_none_or(|a| *file > a));
        let Some((file, state)) = later.next() else {
            return Ok(Copied { partings, is_last: true, ..Copied::default() });
        };
        let heads = state.heads().iter().map(|head| tables.head(&head.dot));
        let heads = heads.collect::<Option<Vec<_>>>().ok_or(StoreError::StatesIncomplete)?;
        let named: BTreeSet<Sha256> =
            state.heads().iter().filter_map(|head| Some(head.body?.sha256)).collect();
        let bodies = tables.contents(&named);
        let absent = named.into_iter().filter(|hash| !bodies.contains_key(hash)).collect();
        let files = vec![CopiedFile { file: file.clone(), state: state.clone(), heads }];
        Ok(Copied { files, bodies, absent, partings, is_last: later.next().is_none() })
    }

    pub(crate) fn held(&self) -> Snapshot {
        let tables = self.lock();
        let gaps = tables.snapshot.gaps.values().cloned().collect();
        Snapshot { copying: tables.snapshot.copying.clone(), gaps, given_up: false }
    }

    pub(crate) fn take(&self, states: &IncomingStates) -> Result<(), StoreError> {
        self.lock().take(states, &self.key)
    }

    pub(crate) fn fill_in(&self, batch: &IncomingBatch) -> Result<(), ApplyError> {
        self.lock().fill_in(batch, &self.key)
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
        let (log, row) = if let Some(early) = self.snapshot.heads.get(dot) {
            (early.log.clone(), &early.row)
        } else {
            let rows = self.logs.get(&dot.log)?;
            let row = rows.records.get(usize::try_from(dot.sequence.checked_sub(1)?).ok()?)?;
            (rows.cursor.log.clone(), row)
        };
        let (sequence, raw) = (dot.sequence, row.raw.clone());
        row.version.as_ref().map(|_| CopiedHead { log, sequence, chain: row.chain, raw })
    }

    fn take(&mut self, states: &IncomingStates, key: &DeploymentKey) -> Result<(), StoreError> {
        let at = self.snapshot.copying.as_ref().map(|(file, _)| file.clone());
        if at != states.after {
            return Err(StoreError::SnapshotMoved);
        }
        if !self.partings_due.is_empty() {
            return Err(StoreError::StatesIncomplete);
        }
        let is_unheard = |ours: &Cursor| !states.copied.partings.contains(ours);
        if let Some(unheard) = self.partings().into_iter().find(is_unheard) {
            return Err(StoreError::PartingUnheard(unheard.log.id));
        }
        for cursor in &states.vector {
            let known = self.stated.entry(cursor.log.id.clone()).or_default();
            *known = (*known).max(cursor.sequence);
            self.begin(cursor.log.clone());
        }
        let site = self.files_log().site;
        let others = states.vector.iter().filter(|cursor| cursor.log.id.site != site);
        let mut theirs: Vec<Cursor> = others.cloned().collect();
        theirs.retain(|cursor| !self.snapshot.gaps.contains_key(&cursor.log.id));
        self.snapshot.noted = match states.after {
            None => theirs,
            Some(_) => least(&self.snapshot.noted, &theirs),
        };
        let files = self.snapshot.copying.as_ref().map_or(0, |(_, files)| *files);
        let last = states.copied.files.last().map(|copied| copied.file.clone());
        let count = files + states.copied.files.len() as u64;
        self.snapshot.copying = last.or(at).map(|last| (last, count));
        for copied in &states.copied.files {
            self.take_file(copied, &states.copied, key);
        }
        if states.copied.is_last {
            self.jump();
        }
        Ok(())
    }

    fn take_file(&mut self, copied: &CopiedFile, of: &Copied, key: &DeploymentKey) {
        let file = &copied.file;
        let before = self.state(file, key);
        let joined = before.joined(&copied.state);
        if joined.generation() > before.generation() {
            self.versions.remove(file);
        }
        let lore = self.snapshot.lore.remove(&(file.clone(), encode_state(&copied.state)));
        if let Some(lore) = lore.filter(|_| joined.generation() == copied.state.generation()) {
            self.versions.entry(file.clone()).or_default().extend(lore);
        }
        let named = joined.heads().iter().filter_map(|head| head.body);
        for sha256 in named.map(|body| body.sha256) {
            let content = of.bodies.get(&sha256).map(|content| (sha256, content.clone()));
            self.bodies.extend(content);
        }
        for (head, known) in copied.heads.iter().zip(copied.state.heads()) {
            if joined.heads().contains(known) {
                self.keep_head(head, &of.absent);
            }
        }
        if joined.is_blank() && self.is_erased(file, key) {
            self.files.remove(file);
        } else {
            self.files.insert(file.clone(), joined);
        }
    }

    /// Keeps the record of a head that is not here. Those of the site's own logs come with the logs.
    fn keep_head(&mut self, head: &CopiedHead, absent: &BTreeSet<Sha256>) {
        let dot = Dot { log: head.log.id.clone(), sequence: head.sequence };
        let is_here = self.row_mut(&dot).is_some_and(|row| row.version.is_some());
        let payload = head.raw.payload.as_ref().filter(|_| !is_here);
        let envelope = decode_envelope(&head.raw.envelope);
        let read = payload.and_then(|payload| decode_version(payload).ok()).zip(envelope.ok());
        let Some((version, envelope)) = read else { return };
        if dot.log.site == self.files_log().site {
            return;
        }
        self.begin(head.log.clone());
        let missing = version.body.filter(|body| absent.contains(&body.sha256));
        let row = Row {
            raw: head.raw.clone(),
            chain: head.chain,
            generation: envelope.generation,
            is_pruned: missing.is_some_and(|body| !self.bodies.contains_key(&body.sha256)),
            version: Some(version),
        };
        if row.is_pruned {
            self.wanted.insert(dot.clone());
        }
        self.snapshot.heads.insert(dot, Early { log: head.log.clone(), row });
    }

    fn jump(&mut self) {
        self.snapshot.copying = None;
        for floor in std::mem::take(&mut self.snapshot.noted) {
            let filled = self.begin(floor.log.clone());
            let Some(rows) = self.logs.get_mut(&floor.log.id) else { continue };
            if floor.sequence <= filled.sequence {
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

    /// Where the branches begin that stay, of logs that forked.
    fn partings(&self) -> Vec<Cursor> {
        let cursor = |(id, (sequence, chain)): (&LogId, &(u64, Chain))| {
            let log = self.logs.get(id)?.cursor.log.clone();
            Some(Cursor { log, sequence: *sequence, chain: *chain })
        };
        self.set_back.iter().filter_map(cursor).collect()
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
            Err(FetchError { text: "no answer".to_owned(), parted: false })
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
        let failed = |error: StoreError| FetchError { text: error.to_string(), parted: false };
        let nothing = || FetchError { text: "it is not here".to_owned(), parted: false };
        match fetch {
            Fetch::States { after } => {
                let chunk = states(memory, after.as_ref()).now_or_never().ok_or_else(nothing)?;
                chunk.map(|chunk| Portion::States { after, chunk }).map_err(failed)
            }
            Fetch::Records { from } => {
                let batch = records(memory, &from).now_or_never().ok_or_else(nothing)?;
                let refused = |reason| FetchError {
                    text: why_not(&from, reason),
                    parted: reason == Reason::Fork,
                };
                let batch = batch.map_err(failed)?.map_err(refused)?;
                Ok(Portion::Records { from, batch })
            }
        }
    }
}
