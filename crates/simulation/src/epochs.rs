//! Databases that go back in time: what the store in memory knows of its epochs, judged by the same rule as Postgres.

use std::collections::BTreeMap;

use bruri_domain::{
    Applied, Context, Cursor, DeploymentKey, Dot, Epoch, FileId, FileState, Held, Identity, Log,
    LogId, LogKind, Predecessor, SiteName, Witness,
    epoch::ending,
    mutant::{self, Mutant},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::memory::{Memory, Row, Tables};

/// What is not in the database, and so does not go back with it.
#[derive(Clone, Debug)]
pub(crate) struct Beside {
    /// The last of each log that was committed, as the data directory remembers it.
    witness: Vec<Witness>,
    /// Which database answers; another one after a promotion, or where a dump was put back.
    database: u64,
    /// How often the machine has booted, and at which boot the witness was written last.
    boot: u64,
    witness_boot: Option<u64>,
    /// Draws epochs; a database that went back must not draw the same again.
    rng: StdRng,
    /// Something may be numbered.
    gate_is_open: bool,
    /// A peer has told what it has since the process started.
    is_answered: bool,
    /// The logs that are opened next, where a test says which.
    drawn: Vec<Log>,
    /// A test kills the process in the middle of what it writes next.
    pub(crate) dies: bool,
}

impl Beside {
    pub(crate) fn new(seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self {
            witness: Vec::new(),
            database: 0,
            boot: 0,
            witness_boot: Some(0),
            rng,
            gate_is_open: true,
            is_answered: false,
            drawn: Vec::new(),
            dies: false,
        }
    }

    fn identity(&self) -> Identity {
        Identity(self.database.to_string())
    }

    /// The epoch after that of a log.
    fn draw(&mut self, log: &Log) -> Epoch {
        let drawn = self.drawn.iter().position(|drawn| drawn.kind == log.kind);
        drawn.map_or_else(|| Epoch(self.rng.random()), |at| self.drawn.swap_remove(at).id.epoch)
    }

    pub(crate) fn saw(&mut self, cursor: &Cursor) {
        self.witness.retain(|witness| witness.epoch != cursor.log.id.epoch);
        self.witness.push(Witness::from(cursor));
    }

    /// Only peers can tell whether the machine was rolled back.
    fn is_in_doubt(&self) -> bool {
        self.witness_boot != Some(self.boot)
    }
}

/// A copy of a database and of what lay beside it then.
#[derive(Clone, Debug)]
pub struct Dump {
    tables: Tables,
    witness: Vec<Witness>,
    witness_boot: Option<u64>,
}

/// How a database goes back in time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Restored {
    /// A standby that lacked the end of the logs was promoted.
    Promoted,
    /// A dump was put back into a new cluster; the data directory is new, too.
    DumpPutBack,
    /// The whole machine was rolled back, with all that it remembers.
    RolledBack,
    /// The same of its volume, while the machine went on: nothing but a peer tells.
    VolumePutBack,
}

impl Memory {
    /// A copy, to be put back later.
    pub fn dump(&self) -> Dump {
        let (tables, beside) = (self.lock(), self.beside());
        let (witness, witness_boot) = (beside.witness.clone(), beside.witness_boot);
        Dump { tables: tables.clone(), witness, witness_boot }
    }

    /// Puts a copy back; the process must be down.
    pub fn restore(&self, dump: Dump, how: Restored) {
        let (mut tables, mut beside) = (self.lock(), self.beside());
        *tables = dump.tables;
        match how {
            Restored::Promoted => beside.database += 1,
            Restored::DumpPutBack => {
                beside.database += 1;
                beside.witness.clear();
                beside.witness_boot = None;
            }
            Restored::RolledBack => {
                beside.boot += 1;
                beside.witness = dump.witness;
                beside.witness_boot = dump.witness_boot;
            }
            Restored::VolumePutBack => {
                beside.witness = dump.witness;
                beside.witness_boot = Some(beside.boot);
            }
        }
    }

    /// A process starts: what its database lacks is found out before it numbers anything.
    pub(crate) fn open(&self) {
        {
            let mut beside = self.beside();
            (beside.gate_is_open, beside.is_answered) = (false, false);
        }
        if !mutant::is(Mutant::EpochOpenedLate) {
            self.judge(&[]);
        }
    }

    /// A peer has told what it has: from now on records are numbered, in doubt only when all have had the time to.
    pub(crate) fn confirm(&self) {
        let mut beside = self.beside();
        beside.is_answered = true;
        beside.gate_is_open |= !beside.is_in_doubt();
    }

    /// From now on records are numbered, though no peer has answered. Returns whether a new epoch was opened.
    pub(crate) fn open_gate(&self) -> bool {
        let (mut tables, mut beside) = (self.lock(), self.beside());
        let is_open = std::mem::replace(&mut beside.gate_is_open, true);
        let is_alone = !is_open && beside.is_in_doubt() && !beside.is_answered;
        beside.witness_boot = Some(beside.boot);
        if is_alone {
            tables.open_epoch(&mut beside);
        }
        is_alone
    }

    /// The logs that another store of the same site has opened; opened here next.
    pub fn draw_epochs(&self, drawn: Vec<Log>) {
        self.beside().drawn = drawn;
    }

    /// Whether records are numbered.
    pub fn gate_is_open(&self) -> bool {
        self.beside().gate_is_open
    }

    /// Opens the next epoch where what was seen here or at a peer speaks against the open one.
    pub(crate) fn judge(&self, theirs: &[&Cursor]) {
        let (mut tables, mut beside) = (self.lock(), self.beside());
        let told = theirs.iter().copied().map(Witness::from);
        let seen: Vec<Witness> = beside.witness.iter().copied().chain(told).collect();
        let held: Vec<Option<Held>> = seen.iter().map(|witness| tables.held(witness)).collect();
        for cursor in theirs {
            tables.note_closed(&cursor.log);
        }
        let seen = seen.iter().zip(held.iter().map(Option::as_ref));
        let now = beside.identity();
        if ending(tables.numbered_by.as_ref(), Some(&now), seen).is_some() {
            tables.open_epoch(&mut beside);
        }
        tables.numbered_by = Some(now);
    }

    /// Somebody may have seen a number that would be given next.
    pub(crate) fn judge_number(&self, file: &FileId) {
        let seen = {
            let tables = self.lock();
            let end = tables.logs.get(&tables.files_log()).map(|rows| rows.cursor.clone());
            let state = tables.files.get(file);
            end.zip(state).map(|(end, state)| Cursor {
                sequence: state.context().last_of(&end.log.id).max(end.sequence),
                ..end
            })
        };
        if let Some(seen) = seen {
            self.judge(&[&seen]);
        }
    }

    /// A peer was told of numbers of this site's logs, and has no records of them.
    pub(crate) fn hear_told(&self, told: &[Dot]) {
        for dot in told {
            let open = self.lock().end_of(LogKind::Files);
            let lacks = |end: &Cursor| end.log.id == dot.log && end.sequence < dot.sequence;
            if let Some(end) = open.filter(lacks) {
                self.judge(&[&Cursor { sequence: dot.sequence, ..end }]);
            }
        }
    }

    pub(crate) fn hear(&self, theirs: &[Cursor]) -> Vec<LogId> {
        let site = self.lock().files_log().site.clone();
        let own: Vec<&Cursor> = theirs.iter().filter(|c| c.log.id.site == site).collect();
        let speaks_against = |cursor: &&Cursor| {
            let witness = Witness::from(*cursor);
            witness.ending(self.lock().held(&witness).as_ref()).is_some()
        };
        if own.iter().any(speaks_against) {
            self.judge(&own);
        }
        let tables = self.lock();
        let is_fork = |cursor: &&&Cursor| {
            let witness = Witness::from(**cursor);
            let forked = tables.held(&witness).is_some_and(|held| witness.is_fork(&held));
            forked && !tables.set_back.contains_key(&cursor.log.id)
        };
        own.iter().filter(is_fork).map(|cursor| cursor.log.id.clone()).collect()
    }
}

impl Tables {
    /// Makes a file's state anew from its records.
    pub(crate) fn rebuild(&mut self, file: &FileId, key: &DeploymentKey) {
        let (state, known) = self.fold(file, key);
        if state.is_blank() && self.is_erased(file, key) {
            // Not even the name is to stay.
            self.files.remove(file);
            self.versions.remove(file);
            return;
        }
        self.files.insert(file.clone(), state);
        self.versions.insert(file.clone(), known);
    }

    /// What a file's records come to, and the versions among them that count.
    pub(crate) fn fold(
        &self,
        file: &FileId,
        key: &DeploymentKey,
    ) -> (FileState, BTreeMap<[u8; 16], Dot>) {
        let (mut state, mut known) = self.base(file, key);
        for (dot, row) in self.rows() {
            let Some(version) = row.version.as_ref().filter(|v| v.file == *file) else { continue };
            if row.generation > state.generation() {
                known.clear();
            }
            if state.apply(&dot, row.generation, version) != Applied::Erased {
                known.insert(version.random, dot);
            }
        }
        (state, known)
    }

    /// All records, those of each log in its order; heads that are ahead of their logs come last.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (Dot, &Row)> {
        let here = self.logs.iter().flat_map(|(log, rows)| {
            let dot = |sequence| Dot { log: log.clone(), sequence };
            rows.records.iter().zip(1..).map(move |(row, sequence)| (dot(sequence), row))
        });
        here.chain(self.snapshot.early().map(|(dot, row)| (dot.clone(), row)))
    }

    /// What the records of a file are added to: while history is missing, what is known.
    fn base(&self, file: &FileId, key: &DeploymentKey) -> (FileState, BTreeMap<[u8; 16], Dot>) {
        let mut state = FileState::default();
        if !self.snapshot.is_whole() {
            state = self.files.get(file).cloned().unwrap_or_default();
        }
        let before = state.generation();
        state.raise_to(self.floor(file, key));
        let known = self.versions.get(file).filter(|_| !self.snapshot.is_whole());
        let known = known.filter(|_| before == state.generation()).cloned().unwrap_or_default();
        (state, known)
    }

    /// A phone is answered with all that this names, which other sites told of.
    pub(crate) fn note_told(&mut self, context: &Context) {
        let ours = self.files_log().site;
        for (log, _) in context.logs().filter(|(log, _)| log.site != ours) {
            let highest = self.told.entry(log.clone()).or_default();
            *highest = (*highest).max(context.last_of(log));
        }
    }

    /// The numbers of a site's logs that phones were answered with, where no record of them is here.
    pub(crate) fn told(&self, site: &SiteName) -> Vec<Dot> {
        let reached = |log: &LogId| self.logs.get(log).map_or(0, |rows| rows.cursor.sequence);
        let told =
            self.told.iter().filter(|(log, last)| log.site == *site && reached(log) < **last);
        told.map(|(log, last)| Dot { log: log.clone(), sequence: *last }).collect()
    }

    fn held(&self, witness: &Witness) -> Option<Held> {
        let (id, rows) = self.logs.iter().find(|(id, _)| id.epoch == witness.epoch)?;
        let at = usize::try_from(witness.sequence).ok().and_then(|at| at.checked_sub(1));
        let chain = at.and_then(|at| rows.records.get(at)).map(|row| row.chain);
        Some(Held { is_open: self.own.contains(id), sequence: rows.cursor.sequence, chain })
    }

    /// A log of this site that only a peer knew: closed, to be fetched.
    fn note_closed(&mut self, log: &Log) {
        if log.id.site == self.files_log().site {
            self.begin(log.clone());
        }
    }

    fn open_epoch(&mut self, beside: &mut Beside) {
        let open = std::mem::take(&mut self.own);
        for Cursor { log, sequence, chain } in
            open.iter().filter_map(|id| Some(self.logs.get(id)?.cursor.clone())).collect::<Vec<_>>()
        {
            let predecessor = Some(Predecessor { epoch: log.id.epoch, sequence, chain });
            let id = LogId { epoch: beside.draw(&log), ..log.id };
            let next = Log { id, kind: log.kind, predecessor };
            self.own.insert(next.id.clone());
            beside.saw(&self.begin(next));
        }
    }
}
