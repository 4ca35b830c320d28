//! A simulated site: its logs, its clock, its files, and what its phones had seen.

use std::{collections::BTreeMap, rc::Rc};

use bruri_domain::{
    Author, Body, Context, Decision, Dot, Epoch, FileId, FileName, FileState, Issuer, LogId,
    RealmId, Remembered, SiteName, Stamp, Version, Writer,
};

use super::{
    draw::Draw,
    mutant::Mutant,
    oracle,
    record::{Content, FileNo, Record, Truth, Written},
    replica::Replica,
};

/// 2026-01-01, in microseconds since 1970.
const FIRST_MICROS: u64 = 1_767_225_600_000_000;
const MICROS_A_STEP: u64 = 1_000_000;

pub(crate) struct Site {
    pub(crate) logs: BTreeMap<LogId, Vec<Rc<Record>>>,
    pub(crate) files: Vec<Replica>,
    pub(crate) clock: SiteClock,
    name: SiteName,
    control: LogId,
    backups: LogId,
    remembered: BTreeMap<(usize, FileNo), Entry>,
    issuer: Issuer,
    mutant: Option<Mutant>,
}

/// How wrong a site's clock is, and whether the site knows.
#[derive(Clone, Copy)]
pub(crate) struct SiteClock {
    pub(crate) skew_micros: i64,
    pub(crate) trusted: bool,
}

/// What a site remembers of a phone and a file, by the rule and by the model, and what the phone knows.
#[derive(Clone)]
struct Entry {
    remembered: Remembered,
    oracle: oracle::Context,
    truth: Truth,
}

/// What a phone did.
#[derive(Clone, Copy)]
pub(crate) struct Put {
    /// Numbers and times the record.
    pub(crate) step: usize,
    pub(crate) phone: usize,
    pub(crate) file: FileNo,
    /// None: the phone deletes the file.
    pub(crate) body: Option<Body>,
}

impl Entry {
    /// Whether it counts for a file of that generation; that nothing is known always does.
    fn is_of(&self, of: u64) -> bool {
        match self.remembered {
            Remembered::Blind => true,
            Remembered::Seen { generation, .. } => generation == of,
        }
    }
}

impl Site {
    pub(crate) fn new(
        name: SiteName,
        clock: SiteClock,
        files: usize,
        (draw, mutant): (&mut Draw, Option<Mutant>),
    ) -> Self {
        Self {
            logs: BTreeMap::new(),
            files: (0..files).map(|_| Replica::default()).collect(),
            clock,
            control: new_log(&name, draw),
            backups: new_log(&name, draw),
            name,
            remembered: BTreeMap::new(),
            issuer: Issuer::after(0),
            mutant,
        }
    }

    /// A phone sends no version: what this site last served to it, or took from it, tells what it had
    /// seen. None where the file is confirmed to be this already, or there is nothing to delete.
    pub(crate) fn put(&mut self, put: Put) -> Option<Rc<Record>> {
        let state = &self.files[put.file].state;
        let entry = self.remembered.get(&(put.phone, put.file));
        let writer = Writer::Phone(entry.map(|entry| &entry.remembered));
        let hash = put.body.map(|body| body.sha256);
        let Decision::Version(seen) = state.decide(hash, writer) else {
            self.get(put.phone, put.file);
            return None;
        };
        let entry = entry
            .filter(|entry| entry.is_of(state.generation()))
            .cloned()
            .unwrap_or_else(|| self.everything(put.file));
        let version = version(put, seen, self.stamp(put.step));
        let written = Written { version, context: entry.oracle, truth: entry.truth };
        let content = Content::Version(Box::new(written));
        let before = state.clone();
        let record = self.append(put.step, put.file, content);
        self.remember(put.phone, &record, &before);
        Some(record)
    }

    pub(crate) fn get(&mut self, phone: usize, file: FileNo) {
        let entry = self.everything(file);
        self.remembered.insert((phone, file), entry);
    }

    /// The answer does not arrive whole: nobody knows what the phone has, so it may know nothing.
    pub(crate) fn get_in_vain(&mut self, phone: usize, file: FileNo) {
        let (oracle, truth) = (oracle::Context::default(), Truth::new());
        let entry = Entry { remembered: Remembered::Blind, oracle, truth };
        self.remembered.insert((phone, file), entry);
    }

    pub(crate) fn erase(&mut self, step: usize, file: FileNo) -> Rc<Record> {
        self.append(step, file, Content::Erasure)
    }

    fn everything(&self, file: FileNo) -> Entry {
        let replica = &self.files[file];
        Entry {
            remembered: Remembered::served(&replica.state),
            oracle: replica.oracle.context.clone(),
            truth: replica.known(),
        }
    }

    fn remember(&mut self, phone: usize, record: &Record, before: &FileState) {
        let Some(written) = record.written() else { return };
        let remembered = match self.mutant {
            Some(Mutant::AcceptedMeansSeen) => all_below(record, &written.version),
            _ => Remembered::accepted(before, &record.dot, &written.version),
        };
        let oracle = self.accepted_by_the_model(record, written);
        let mut truth = written.truth.clone();
        truth.insert(record.number);
        self.remembered.insert((phone, record.file), Entry { remembered, oracle, truth });
    }

    /// The record's own context and its dot, never the file's: another phone's version may lie between.
    fn accepted_by_the_model(&self, record: &Record, written: &Written) -> oracle::Context {
        let mut context = written.context.clone();
        let unseen = self.files[record.file].history.keys().any(|dot| {
            dot.log == record.dot.log && *dot != record.dot && !written.context.covers(dot)
        });
        if unseen {
            context.add(&record.dot);
        } else {
            context.raise_to(&record.dot);
        }
        context
    }

    fn append(&mut self, step: usize, file: FileNo, content: Content) -> Rc<Record> {
        let log = match content {
            Content::Version(_) => &self.backups,
            Content::Erasure => &self.control,
        };
        let sequence = self.logs.get(log).map_or(0, Vec::len) as u64 + 1;
        let record = Rc::new(Record {
            number: step,
            dot: Dot { log: log.clone(), sequence },
            file,
            generation: self.files[file].state.generation(),
            content,
        });
        self.ingest(&record);
        record
    }

    fn stamp(&self, step: usize) -> Stamp {
        let true_micros = FIRST_MICROS + step as u64 * MICROS_A_STEP;
        let now_micros = true_micros.saturating_add_signed(self.clock.skew_micros);
        Stamp { trusted: self.clock.trusted, micros: self.issuer.issue(now_micros) }
    }

    /// Takes a record in, the first time and every time.
    fn ingest(&mut self, record: &Rc<Record>) {
        let log = self.logs.entry(record.dot.log.clone()).or_default();
        let next = log.len() as u64 + 1;
        assert!(record.dot.sequence <= next, "a gap in a log");
        if record.dot.sequence == next {
            log.push(Rc::clone(record));
        }
        self.files[record.file].apply(record, self.mutant);
    }

    /// Takes some of what the peer has more, log by log, and now and then something again.
    pub(crate) fn pull(&mut self, peer: &Self, limits: &[usize], draw: &mut Draw) {
        for (log, records) in draw.shuffled(&peer.logs) {
            let have = self.logs.get(log).map_or(0, Vec::len);
            for record in records.iter().skip(have).take(draw.pick(limits)) {
                self.ingest(record);
            }
            let have = self.logs.get(log).map_or(0, Vec::len).min(records.len());
            if have > 0 && draw.percent(20) {
                let from = draw.below(have);
                for record in &records[from..have.min(from + 2)] {
                    self.ingest(record);
                }
            }
        }
    }

    /// The database fails over to a standby that lacks the last records; the rest is rebuilt from the
    /// logs, and a new epoch begins. Returns what is lost here.
    pub(crate) fn lose_tail(&mut self, draw: &mut Draw) -> Vec<Rc<Record>> {
        let mut lost = Vec::new();
        for (log, records) in &mut self.logs {
            let counts = if *log == self.backups { [1, 1, 2, 3] } else { [0, 0, 1, 2] };
            let count = draw.pick(&counts);
            lost.extend(records.split_off(records.len().saturating_sub(count)));
        }
        self.logs.retain(|_, records| !records.is_empty());
        self.rebuild(draw);
        if self.mutant != Some(Mutant::NumbersReused) {
            self.control = new_log(&self.name, draw);
            self.backups = new_log(&self.name, draw);
        }
        lost
    }

    fn rebuild(&mut self, draw: &mut Draw) {
        self.remembered.clear();
        self.files.fill_with(Replica::default);
        let logs = std::mem::take(&mut self.logs);
        let turns = logs.iter().flat_map(|(log, records)| records.iter().map(move |_| log));
        let turns = draw.shuffled(turns);
        for log in turns {
            let place = self.logs.get(log).map_or(0, Vec::len);
            self.ingest(&logs[log][place]);
        }
        let own = logs.values().flatten().filter(|record| record.dot.log.site == self.name);
        let times = own.filter_map(|r| r.written().map(|written| written.version.stamp.micros));
        self.issuer = Issuer::after(times.max().unwrap_or(0));
    }
}

/// What the mutant takes an accepted version to mean: all of its log up to it was seen.
fn all_below(record: &Record, version: &Version) -> Remembered {
    let mut context = version.context.clone();
    context.raise_to(&record.dot);
    Remembered::Seen { generation: record.generation, context }
}

fn new_log(site: &SiteName, draw: &mut Draw) -> LogId {
    LogId { site: site.clone(), epoch: Epoch(draw.bits()) }
}

fn version(put: Put, context: Context, stamp: Stamp) -> Version {
    let mut random = [0; 16];
    random[..8].copy_from_slice(&put.step.to_le_bytes());
    let name = FileName::parse(&format!("{}_16xxdata.txt", put.file)).expect("a phone's name");
    Version {
        random,
        stamp,
        file: FileId { realm: RealmId::built_in(), name },
        context,
        body: put.body,
        suspect: false,
        author: Author::Unknown,
    }
}
