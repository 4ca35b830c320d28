//! A site's store in memory: what survives a crash of its process.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bruri_domain::{
    Applied, Author, Body, Chain, Cursor, Decision, DeploymentKey, Dot, FileId, FileState, Log,
    LogId, PhoneKey, Remembered, Sha256, Stamp, Version, Writer,
    limits::{PAGE_BYTES_MAX, PAGE_RECORDS_MAX},
};
use bruri_replication::store::Store;
use bruri_store::{ApplyError, Incoming, IncomingBatch, Page, StoreError};
use bruri_wire::record::{RawRecord, encode_version};
use bytes::Bytes;

/// A store in memory. Every call is one transaction: it happens whole, or the process crashed before.
pub struct Memory {
    key: DeploymentKey,
    tables: Mutex<Tables>,
}

/// What it holds. A clone is a dump.
#[derive(Clone, Debug)]
pub struct Tables {
    own: BTreeSet<LogId>,
    files_log: LogId,
    logs: BTreeMap<LogId, Rows>,
    bodies: BTreeMap<Sha256, Bytes>,
    files: BTreeMap<FileId, FileState>,
    remembered: BTreeMap<(FileId, PhoneKey), Remembered>,
    /// The versions of each file that are known, by what makes them unique.
    versions: BTreeMap<FileId, BTreeMap<[u8; 16], Dot>>,
}

#[derive(Clone, Debug)]
struct Rows {
    cursor: Cursor,
    records: Vec<(RawRecord, Chain, Option<Body>)>,
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
        let files = own.iter().find(|log| log.kind == bruri_domain::LogKind::Files);
        let id = files.or(own.first()).map_or_else(
            || LogId { site: crate::names::site(0), epoch: bruri_domain::Epoch(0) },
            |log| log.id.clone(),
        );
        let rows = |log: Log| Rows { cursor: Cursor::at_beginning(log), records: Vec::new() };
        let tables = Tables {
            own: own.iter().map(|log| log.id.clone()).collect(),
            files_log: id,
            logs: own.into_iter().map(|log| (log.id.clone(), rows(log))).collect(),
            bodies: BTreeMap::new(),
            files: BTreeMap::new(),
            remembered: BTreeMap::new(),
            versions: BTreeMap::new(),
        };
        Self { key, tables: Mutex::new(tables) }
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
        self.lock().commit(draft, &self.key)
    }

    /// Every file's state.
    pub fn files(&self) -> BTreeMap<FileId, FileState> {
        self.lock().files.clone()
    }

    /// The versions of a file that are known.
    pub fn known(&self, file: &FileId) -> BTreeMap<[u8; 16], Dot> {
        self.lock().versions.get(file).cloned().unwrap_or_default()
    }

    /// How far each log is.
    pub fn cursors(&self) -> Vec<Cursor> {
        self.lock().logs.values().map(|rows| rows.cursor.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
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
        let Some(rows) = self.logs.get_mut(&self.files_log) else { return Stored::Nothing };
        let raw = encode_version(&version, generation, key);
        rows.push(raw, body);
        let dot = Dot { log: self.files_log.clone(), sequence: rows.cursor.sequence };
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
        let begin =
            || Rows { cursor: Cursor::at_beginning(batch.from.log.clone()), records: Vec::new() };
        let at = self.logs.get(id).map_or_else(|| begin().cursor, |rows| rows.cursor.clone());
        if at != batch.from || self.own.contains(id) {
            return Err(moved());
        }
        self.logs.entry(id.clone()).or_insert_with(begin);
        for incoming in &batch.records {
            self.apply_one(id, incoming, batch);
        }
        Ok(())
    }

    fn apply_one(&mut self, log: &LogId, incoming: &Incoming, batch: &IncomingBatch) {
        let Some(rows) = self.logs.get_mut(log) else { return };
        let Incoming { raw, envelope, version, .. } = incoming;
        rows.push(raw.clone(), version.as_ref().and_then(|version| version.body));
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
        for (raw, chain, body) in rows.records.iter().skip(after) {
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

impl Rows {
    fn push(&mut self, raw: RawRecord, body: Option<Body>) {
        self.cursor.sequence += 1;
        self.cursor.chain = self.cursor.chain.next(&raw.envelope);
        self.records.push((raw, self.cursor.chain, body));
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
        Ok(record.map(|(_, chain, _)| *chain))
    }

    async fn peer_has(&self, _: &[Cursor]) -> Result<Vec<LogId>, StoreError> {
        // These databases lose no tail yet.
        Ok(Vec::new())
    }

    fn peer_answered(&self) {}

    fn appends_to(&self, log: &LogId) -> bool {
        self.lock().own.contains(log)
    }

    async fn apply(&self, batch: &IncomingBatch) -> Result<(), ApplyError> {
        self.lock().apply(batch)
    }
}
