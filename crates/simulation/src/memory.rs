//! A site's store in memory: what survives a crash of its process.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bruri_domain::{
    Applied, Author, Body, Chain, Cursor, Decision, DeploymentKey, Dot, Epoch, FileId, FileState,
    Identity, Log, LogId, LogKind, PhoneKey, Remembered, Sha256, Stamp, Version, Writer,
    fork::is_void,
    limits::{PAGE_BYTES_MAX, PAGE_RECORDS_MAX},
};
use bruri_replication::store::Store;
use bruri_store::{ApplyError, Incoming, IncomingBatch, Page, StoreError};
use bruri_wire::record::{RawRecord, encode_version};
use bytes::Bytes;

use crate::epochs::Beside;

/// A store in memory. Every call is one transaction: it happens whole, or the process crashed before.
pub struct Memory {
    pub(crate) key: DeploymentKey,
    tables: Mutex<Tables>,
    beside: Mutex<Beside>,
}

/// What it holds. A clone is a dump.
#[derive(Clone, Debug)]
pub struct Tables {
    /// The logs that the site appends to.
    pub(crate) own: BTreeSet<LogId>,
    /// Which database numbered them last.
    pub(crate) numbered_by: Option<Identity>,
    /// Logs that forked: where the branch that stays begins, and its chain there.
    pub(crate) set_back: BTreeMap<LogId, (u64, Chain)>,
    pub(crate) logs: BTreeMap<LogId, Rows>,
    bodies: BTreeMap<Sha256, Bytes>,
    pub(crate) files: BTreeMap<FileId, FileState>,
    pub(crate) remembered: BTreeMap<(FileId, PhoneKey), Remembered>,
    /// The versions of each file that are known, by what makes them unique.
    pub(crate) versions: BTreeMap<FileId, BTreeMap<[u8; 16], Dot>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(crate) cursor: Cursor,
    pub(crate) records: Vec<Row>,
}

/// A record, and what it says where this release can read it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) raw: RawRecord,
    pub(crate) chain: Chain,
    pub(crate) generation: u64,
    pub(crate) version: Option<Version>,
}

/// What a phone gets: the head, and its body where it has one.
#[derive(Clone, Debug)]
pub struct Served {
    /// The state that it was served from.
    pub state: FileState,
    /// Every version of the file that was known then.
    pub known: BTreeSet<[u8; 16]>,
    /// The body; none where there is nothing to get.
    pub body: Option<Bytes>,
}

/// A version that somebody wants to be stored.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The file.
    pub file: FileId,
    /// None for a deletion.
    pub content: Option<Bytes>,
    /// Which phone; none for an operator, who sees all that is known here.
    pub phone: Option<PhoneKey>,
    /// Unique.
    pub random: [u8; 16],
    /// When.
    pub stamp: Stamp,
}

/// What became of a draft.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Stored {
    /// Nothing new.
    Nothing,
    /// A version, which carries its generation.
    Version(Dot, u64),
}

impl Memory {
    /// The store of a site whose own log of files is this.
    pub fn new(key: DeploymentKey, own: Vec<Log>) -> Self {
        let mut tables = Tables {
            own: own.iter().map(|log| log.id.clone()).collect(),
            numbered_by: None,
            set_back: BTreeMap::new(),
            logs: BTreeMap::new(),
            bodies: BTreeMap::new(),
            files: BTreeMap::new(),
            remembered: BTreeMap::new(),
            versions: BTreeMap::new(),
        };
        let seed = own.iter().fold(0, |seed, log| seed ^ log.id.epoch.0);
        for log in own {
            tables.begin(log);
        }
        Self { key, tables: Mutex::new(tables), beside: Mutex::new(Beside::new(seed)) }
    }

    /// What a phone gets now; it is remembered as served.
    pub fn serve(&self, file: &FileId, phone: &PhoneKey) -> Served {
        let mut tables = self.lock();
        let served = tables.serve(file);
        let entry = Remembered::served(&served.state);
        tables.remembered.insert((file.clone(), phone.clone()), entry);
        served
    }

    /// Notes that a phone was served from this state, which other sites told of.
    pub fn note(&self, file: &FileId, phone: &PhoneKey, state: &FileState) {
        let entry = Remembered::served(state);
        self.lock().remembered.insert((file.clone(), phone.clone()), entry);
    }

    /// The same for somebody who is not remembered.
    pub fn look(&self, file: &FileId) -> Served {
        self.lock().serve(file)
    }

    /// An answer did not arrive whole.
    pub fn blind(&self, file: &FileId, phone: &PhoneKey) {
        self.lock().remembered.insert((file.clone(), phone.clone()), Remembered::Blind);
    }

    /// Stores a version as the committer does.
    pub fn commit(&self, draft: Draft) -> Stored {
        self.judge(&[]);
        self.judge_number(&draft.file);
        let (mut tables, mut beside) = (self.lock(), self.beside());
        let stored = tables.commit(draft, &self.key);
        if let Some(cursor) = tables.end_of(LogKind::Files) {
            beside.saw(&cursor);
        }
        stored
    }

    /// Appends a record that only a later release can read.
    pub fn commit_unknown(&self, kind: LogKind, raw: RawRecord) {
        self.judge(&[]);
        let (mut tables, mut beside) = (self.lock(), self.beside());
        let open = tables.open_log(kind);
        if let Some(rows) = tables.logs.get_mut(&open) {
            rows.push(raw, 0, None);
            beside.saw(&rows.cursor);
        }
    }

    /// Every log, byte for byte.
    pub fn records(&self) -> BTreeMap<LogId, Vec<RawRecord>> {
        let tables = self.lock();
        let raw = |rows: &Rows| rows.records.iter().map(|row| row.raw.clone()).collect();
        tables.logs.iter().map(|(id, rows)| (id.clone(), raw(rows))).collect()
    }

    /// Every file's state.
    pub fn files(&self) -> BTreeMap<FileId, FileState> {
        self.lock().files.clone()
    }

    /// The versions of a file that are known.
    pub fn known(&self, file: &FileId) -> BTreeMap<[u8; 16], Dot> {
        self.lock().versions.get(file).cloned().unwrap_or_default()
    }

    /// All versions that are known.
    pub fn all_known(&self) -> BTreeSet<[u8; 16]> {
        self.lock().versions.values().flat_map(|known| known.keys().copied()).collect()
    }

    /// The logs that the site appends to.
    pub fn open_logs(&self) -> BTreeSet<LogId> {
        self.lock().own.clone()
    }

    /// How far each log is.
    pub fn cursors(&self) -> Vec<Cursor> {
        self.lock().logs.values().map(|rows| rows.cursor.clone()).collect()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locked after the tables.
    pub(crate) fn beside(&self) -> MutexGuard<'_, Beside> {
        self.beside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// Begins a log, unless it is there.
    pub(crate) fn begin(&mut self, log: Log) -> Cursor {
        let id = log.id.clone();
        let begin = || Rows { cursor: Cursor::at_beginning(log), records: Vec::new() };
        self.logs.entry(id).or_insert_with(begin).cursor.clone()
    }

    pub(crate) fn open_log(&self, kind: LogKind) -> LogId {
        let is_of_kind =
            |id: &&LogId| self.logs.get(*id).is_some_and(|r| r.cursor.log.kind == kind);
        let open = self.own.iter().find(is_of_kind);
        open.cloned().unwrap_or_else(|| LogId { site: crate::names::site(0), epoch: Epoch(0) })
    }

    pub(crate) fn files_log(&self) -> LogId {
        self.open_log(LogKind::Files)
    }

    fn end_of(&self, kind: LogKind) -> Option<Cursor> {
        self.logs.get(&self.open_log(kind)).map(|rows| rows.cursor.clone())
    }

    fn serve(&self, file: &FileId) -> Served {
        let state = self.files.get(file).cloned().unwrap_or_default();
        let body = state.served().and_then(|head| head.body);
        let body = body.and_then(|body| self.bodies.get(&body.sha256)).cloned();
        let known = self.versions.get(file).map(|known| known.keys().copied().collect());
        Served { state, known: known.unwrap_or_default(), body }
    }

    fn commit(&mut self, draft: Draft, key: &DeploymentKey) -> Stored {
        let body = draft.content.as_deref().map(Body::of);
        let mut state = self.files.get(&draft.file).cloned().unwrap_or_default();
        let remembered = draft.phone.as_ref().map(|phone| (draft.file.clone(), phone.clone()));
        let entry = remembered.as_ref().and_then(|entry| self.remembered.get(entry));
        let writer = if remembered.is_some() { Writer::Phone(entry) } else { Writer::Operator };
        let Decision::Version(context) = state.decide(body.map(|body| body.sha256), writer) else {
            if let Some(entry) = remembered {
                self.remembered.insert(entry, Remembered::served(&state));
            }
            return Stored::Nothing;
        };
        let version = Version {
            random: draft.random,
            stamp: draft.stamp,
            file: draft.file.clone(),
            context,
            body,
            suspect: false,
            author: Author::Unknown,
        };
        let generation = state.generation();
        let log = self.files_log();
        let Some(rows) = self.logs.get_mut(&log) else { return Stored::Nothing };
        let raw = encode_version(&version, generation, key);
        rows.push(raw, generation, Some(version.clone()));
        let dot = Dot { log, sequence: rows.cursor.sequence };
        if let Some(entry) = remembered {
            self.remembered.insert(entry, Remembered::accepted(&state, &dot, &version));
        }
        state.apply(&dot, generation, &version);
        self.keep(&version, &dot, draft.content);
        self.files.insert(draft.file, state);
        Stored::Version(dot, generation)
    }

    fn keep(&mut self, version: &Version, dot: &Dot, content: Option<Bytes>) {
        let known = self.versions.entry(version.file.clone()).or_default();
        known.insert(version.random, dot.clone());
        if let Some((body, content)) = version.body.zip(content) {
            self.bodies.insert(body.sha256, content);
        }
    }

    fn apply(&mut self, batch: &IncomingBatch) -> Result<(), ApplyError> {
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
        for incoming in &batch.records {
            self.apply_one(id, incoming, batch);
        }
        Ok(())
    }

    fn apply_one(&mut self, log: &LogId, incoming: &Incoming, batch: &IncomingBatch) {
        let Some(rows) = self.logs.get_mut(log) else { return };
        let Incoming { raw, envelope, version, .. } = incoming;
        rows.push(raw.clone(), envelope.generation, version.clone());
        let dot = Dot { log: log.clone(), sequence: rows.cursor.sequence };
        let Some(version) = version else { return };
        let state = self.files.entry(version.file.clone()).or_default();
        if state.apply(&dot, envelope.generation, version) == Applied::Erased {
            return;
        }
        let content = version.body.and_then(|body| batch.bodies.get(&body.sha256)).cloned();
        self.keep(version, &dot, content);
    }

    fn page(&self, log: &LogId, after: u64) -> Page {
        let mut page = Page::default();
        let Some(rows) = self.logs.get(log) else { return page };
        let (mut bytes, mut sent) = (0, BTreeSet::new());
        let after = usize::try_from(after).unwrap_or(usize::MAX);
        for Row { raw, chain, version, .. } in rows.records.iter().skip(after) {
            let body = version.as_ref().and_then(|version| version.body);
            let content = body.and_then(|body| self.bodies.get(&body.sha256));
            bytes += raw.envelope.len() + raw.payload.as_ref().map_or(0, Bytes::len);
            bytes += content.map_or(0, Bytes::len);
            let full = page.records.len() as u64 == PAGE_RECORDS_MAX || bytes > PAGE_BYTES_MAX;
            if full && !page.records.is_empty() {
                break;
            }
            page.records.push(raw.clone());
            page.chains.push(*chain);
            if let (Some(body), None) = (body, content) {
                page.absent.insert(body.sha256);
            }
            if let Some(content) = content.filter(|_| sent.insert(body.map(|body| body.sha256))) {
                page.bodies.push(content.clone());
            }
        }
        page
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

impl Rows {
    pub(crate) fn push(&mut self, raw: RawRecord, generation: u64, version: Option<Version>) {
        self.cursor.sequence += 1;
        self.cursor.chain = self.cursor.chain.next(&raw.envelope);
        self.records.push(Row { raw, chain: self.cursor.chain, generation, version });
    }
}

impl Store for Memory {
    async fn vector(&self) -> Result<Vec<Cursor>, StoreError> {
        Ok(self.cursors())
    }

    async fn records_after(&self, log: &LogId, sequence: u64) -> Result<Page, StoreError> {
        Ok(self.lock().page(log, sequence))
    }

    async fn chain_at(&self, cursor: &Cursor) -> Result<Option<Chain>, StoreError> {
        let tables = self.lock();
        let rows = tables.logs.get(&cursor.log.id);
        let Some(place) = cursor.sequence.checked_sub(1) else {
            return Ok(Some(Chain::begin(rows.map_or(&cursor.log, |rows| &rows.cursor.log))));
        };
        let record = rows.and_then(|rows| rows.records.get(usize::try_from(place).ok()?));
        Ok(record.map(|row| row.chain))
    }

    async fn peer_has(&self, theirs: &[Cursor]) -> Result<Vec<LogId>, StoreError> {
        Ok(self.hear(theirs))
    }

    fn peer_answered(&self) {
        self.open_gate();
    }

    fn appends_to(&self, log: &LogId) -> bool {
        self.lock().own.contains(log)
    }

    async fn generations(&self, _: &BTreeSet<Sha256>) -> Result<BTreeMap<Sha256, u64>, StoreError> {
        // Nothing is erased there yet.
        Ok(BTreeMap::new())
    }

    async fn apply(&self, batch: &IncomingBatch) -> Result<(), ApplyError> {
        self.lock().apply(batch)
    }
}
