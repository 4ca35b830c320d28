//! A site's store in memory: what survives a crash of its process.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bruri_domain::{
    Body, Chain, Context, Cursor, DeploymentKey, Dot, Epoch, FileId, FileState, Identity, Log,
    LogId, LogKind, PhoneKey, Remembered, Sha256, SiteName, Version,
    limits::{PAGE_BYTES_MAX, PAGE_RECORDS_MAX},
};
use bruri_replication::store::Store;
use bruri_store::{ApplyError, Copied, IncomingBatch, IncomingStates, Page, Snapshot, StoreError};
use bruri_wire::record::RawRecord;
use bytes::Bytes;

use crate::{controls::Controls, epochs::Beside, snapshots};

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
    /// Those of which their sites told, and for which nothing was done yet.
    pub(crate) partings_due: BTreeSet<LogId>,
    /// Up to where states that came with snapshots may know of logs.
    pub(crate) stated: BTreeMap<LogId, u64>,
    /// The last number of the branch that gave way, of logs of this site's own.
    pub(crate) void_ends: BTreeMap<LogId, u64>,
    /// Versions of the branch that stays that were written again, until somebody asks.
    pub(crate) given_again: BTreeSet<[u8; 16]>,
    pub(crate) logs: BTreeMap<LogId, Rows>,
    pub(crate) bodies: BTreeMap<Sha256, Bytes>,
    pub(crate) files: BTreeMap<FileId, FileState>,
    /// Those whose rows are not what their checksum says.
    pub(crate) damaged: BTreeSet<FileId>,
    pub(crate) remembered: BTreeMap<(FileId, PhoneKey), Remembered>,
    /// The versions of each file that are known, by what makes them unique.
    pub(crate) versions: BTreeMap<FileId, BTreeMap<[u8; 16], Dot>>,
    pub(crate) controls: Controls,
    /// Versions that were heads when they came without their bodies.
    pub(crate) wanted: BTreeSet<Dot>,
    pub(crate) snapshot: snapshots::Held,
    /// The highest numbers of logs that phones were answered with from what other sites told.
    pub(crate) told: BTreeMap<LogId, u64>,
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
    /// Retention has dropped its body, or it came without.
    pub(crate) is_pruned: bool,
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

impl Memory {
    /// The store of a site whose own log of files is this.
    pub fn new(key: DeploymentKey, own: Vec<Log>) -> Self {
        let mut tables = Tables {
            own: own.iter().map(|log| log.id.clone()).collect(),
            numbered_by: None,
            set_back: BTreeMap::new(),
            partings_due: BTreeSet::new(),
            stated: BTreeMap::new(),
            void_ends: BTreeMap::new(),
            given_again: BTreeSet::new(),
            logs: BTreeMap::new(),
            bodies: BTreeMap::new(),
            files: BTreeMap::new(),
            damaged: BTreeSet::new(),
            remembered: BTreeMap::new(),
            versions: BTreeMap::new(),
            controls: Controls::default(),
            wanted: BTreeSet::new(),
            snapshot: snapshots::Held::default(),
            told: BTreeMap::new(),
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
        let served = tables.serve(file, &self.key);
        let entry = Remembered::served(&served.state);
        tables.remembered.insert((file.clone(), phone.clone()), entry);
        served
    }

    /// Notes that a phone was served from this state, which other sites told of.
    pub fn note(&self, file: &FileId, phone: &PhoneKey, state: &FileState) {
        let entry = Remembered::served(state);
        let mut tables = self.lock();
        tables.note_told(state.context());
        tables.remembered.insert((file.clone(), phone.clone()), entry);
    }

    /// Notes that a phone was answered with all that this names.
    pub fn note_told(&self, context: &Context) {
        self.lock().note_told(context);
    }

    /// The same for somebody who is not remembered.
    pub fn look(&self, file: &FileId) -> Served {
        self.lock().serve(file, &self.key)
    }

    /// Stores what other sites told of a file, which no store may.
    pub(crate) fn store_answer(&self, file: &FileId, state: &FileState) {
        let mut tables = self.lock();
        let joined = tables.state(file, &self.key).joined(state);
        tables.files.insert(file.clone(), joined);
    }

    /// Whether a file's state is what its records come to. One that came with a snapshot may know of records that come
    /// only now.
    pub fn is_folded(&self, file: &FileId) -> bool {
        let tables = self.lock();
        let state = tables.state(file, &self.key);
        tables.knows_more(&state) || state == tables.fold(file, &self.key).0
    }

    /// Whether a state knows of records that are not here yet, or one that may be on its way does.
    pub(crate) fn is_ahead(&self) -> bool {
        let tables = self.lock();
        let end = |log: &LogId| tables.logs.get(log).map_or(0, |rows| rows.cursor.sequence);
        let is_coming = tables.snapshot.on_their_way().any(|dot| dot.sequence > end(&dot.log));
        is_coming || tables.files.values().any(|state| tables.knows_more(state))
    }

    /// Whether each log has a record for every place up to its cursor, and their chain.
    pub fn is_whole(&self) -> bool {
        let is_whole = |rows: &Rows| {
            let chain = rows.records.last().map(|row| row.chain);
            let chain = chain.unwrap_or_else(|| Chain::begin(&rows.cursor.log));
            rows.records.len() as u64 == rows.cursor.sequence && chain == rows.cursor.chain
        };
        self.lock().logs.values().all(is_whole)
    }

    /// An answer did not arrive whole.
    pub fn blind(&self, file: &FileId, phone: &PhoneKey) {
        self.lock().remembered.insert((file.clone(), phone.clone()), Remembered::Blind);
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

    /// The state of every file of which something is known.
    pub fn files(&self) -> BTreeMap<FileId, FileState> {
        let tables = self.lock();
        let known = tables.files.iter().filter(|(_, state)| !state.is_blank());
        known.map(|(file, state)| (file.clone(), state.clone())).collect()
    }

    /// The versions of a file that are known.
    pub fn known(&self, file: &FileId) -> BTreeMap<[u8; 16], Dot> {
        self.lock().versions.get(file).cloned().unwrap_or_default()
    }

    /// What makes the version unique that a record carries.
    pub(crate) fn random(&self, dot: &Dot) -> Option<[u8; 16]> {
        Some(self.lock().row_mut(dot)?.version.as_ref()?.random)
    }

    /// Versions of a branch that stays that were written again since this was asked last.
    pub(crate) fn take_given_again(&self) -> BTreeSet<[u8; 16]> {
        std::mem::take(&mut self.lock().given_again)
    }

    /// All versions that are known.
    pub fn all_known(&self) -> BTreeSet<[u8; 16]> {
        self.lock().versions.values().flat_map(|known| known.keys().copied()).collect()
    }

    /// All versions whose records are here.
    pub fn all_held(&self) -> BTreeSet<[u8; 16]> {
        let tables = self.lock();
        let held = tables.rows().filter_map(|(_, row)| Some(row.version.as_ref()?.random));
        held.collect()
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
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.mend(&self.key);
        tables
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

    pub(crate) fn end_of(&self, kind: LogKind) -> Option<Cursor> {
        self.logs.get(&self.open_log(kind)).map(|rows| rows.cursor.clone())
    }

    fn knows_more(&self, state: &FileState) -> bool {
        let reached = |log: &LogId| self.logs.get(log).map_or(0, |rows| rows.cursor.sequence);
        let context = state.context();
        context.logs().any(|(log, _)| context.last_of(log) > reached(log))
    }

    fn serve(&self, file: &FileId, key: &DeploymentKey) -> Served {
        let state = self.state(file, key);
        let body = state.served().and_then(|head| head.body);
        let body = body.and_then(|body| self.bodies.get(&body.sha256)).cloned();
        let known = self.versions.get(file).map(|known| known.keys().copied().collect());
        Served { state, known: known.unwrap_or_default(), body }
    }

    /// Bodies that are here.
    pub(crate) fn contents(&self, hashes: &BTreeSet<Sha256>) -> BTreeMap<Sha256, Bytes> {
        let here = hashes.iter().filter_map(|hash| self.bodies.get_key_value(hash));
        here.map(|(hash, content)| (*hash, content.clone())).collect()
    }

    fn page(&self, log: &LogId, after: u64) -> Result<Page, StoreError> {
        let mut page = Page::default();
        let told = self.snapshot.told_after(log, after)?;
        let Some(rows) = self.logs.get(log) else { return Ok(page) };
        let (mut bytes, mut sent) = (0, BTreeSet::new());
        let after = usize::try_from(after).unwrap_or(usize::MAX);
        for Row { raw, chain, version, .. } in rows.records.iter().skip(after).take(told) {
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
        Ok(page)
    }
}

impl Rows {
    pub(crate) fn push(&mut self, raw: RawRecord, generation: u64, version: Option<Version>) {
        self.cursor.sequence += 1;
        self.cursor.chain = self.cursor.chain.next(&raw.envelope);
        let chain = self.cursor.chain;
        self.records.push(Row { raw, chain, generation, version, is_pruned: false });
    }
}

impl Row {
    pub(crate) fn body(&self) -> Option<Body> {
        self.version.as_ref()?.body
    }

    /// Leaves nothing of it but its place.
    pub(crate) fn forget(&mut self) {
        (self.raw.payload, self.version, self.is_pruned) = (None, None, false);
    }
}

impl Store for Memory {
    async fn vector(&self) -> Result<Vec<Cursor>, StoreError> {
        Ok(self.cursors())
    }

    async fn records_after(&self, log: &LogId, sequence: u64) -> Result<Page, StoreError> {
        self.lock().page(log, sequence)
    }

    async fn chain_at(&self, cursor: &Cursor) -> Result<Option<Chain>, StoreError> {
        let tables = self.lock();
        tables.snapshot.chain_at(cursor)?;
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

    async fn peer_was_told(&self, told: &[Dot]) -> Result<(), StoreError> {
        self.hear_told(told);
        Ok(())
    }

    async fn told(&self, site: &SiteName) -> Result<Vec<Dot>, StoreError> {
        Ok(self.lock().told(site))
    }

    fn peer_answered(&self) {
        self.confirm();
    }

    fn appends_to(&self, log: &LogId) -> bool {
        self.lock().own.contains(log)
    }

    async fn generations(
        &self,
        subjects: &BTreeSet<Sha256>,
    ) -> Result<BTreeMap<Sha256, u64>, StoreError> {
        Ok(self.lock().generations(subjects))
    }

    async fn apply(&self, batch: &IncomingBatch) -> Result<(), ApplyError> {
        let (mut tables, mut beside) = (self.lock(), self.beside());
        tables.apply(batch, &self.key, beside.dies)?;
        if let Some(end) = tables.give_again(batch, &self.key) {
            beside.saw(&end);
        }
        Ok(())
    }

    async fn states_after(&self, after: Option<&FileId>) -> Result<Copied, StoreError> {
        self.copy_after(after)
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Ok(self.held())
    }

    async fn take_states(&self, states: &IncomingStates) -> Result<(), StoreError> {
        self.take(states)
    }

    async fn give_snapshot_up(&self) -> Result<(), StoreError> {
        self.end_snapshot();
        Ok(())
    }

    async fn fill(&self, batch: &IncomingBatch) -> Result<(), ApplyError> {
        self.fill_in(batch)
    }
}
