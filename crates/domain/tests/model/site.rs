//! A simulated site: its logs, its clock, its files, and what its phones had seen.

use std::{collections::BTreeMap, rc::Rc};

use bruri_domain::{
    Author, Body, Context, Dot, Epoch, FileId, FileName, Issuer, LogId, RealmId, SiteName, Stamp,
    Version,
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

/// What a site remembers of a phone and a file: what it last served to it, or took from it.
#[derive(Clone)]
struct Entry {
    generation: u64,
    context: Context,
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
    /// seen. None where the file is confirmed to be this already.
    pub(crate) fn put(&mut self, put: Put) -> Option<Rc<Record>> {
        let state = &self.files[put.file].state;
        if state.all_heads_are(put.body.map(|body| body.sha256)) {
            self.get(put.phone, put.file);
            return None;
        }
        let remembered = self.remembered.get(&(put.phone, put.file));
        let entry = remembered
            .filter(|entry| entry.generation == state.generation())
            .cloned()
            .unwrap_or_else(|| self.everything(put.file));
        let version = version(put, entry.context, self.stamp(put.step));
        let written = Written { version, context: entry.oracle, truth: entry.truth };
        let content = Content::Version(Box::new(written));
        let record = self.append(put.step, put.file, content);
        self.remember(put.phone, &record);
        Some(record)
    }

    pub(crate) fn get(&mut self, phone: usize, file: FileNo) {
        let entry = self.everything(file);
        self.remembered.insert((phone, file), entry);
    }

    pub(crate) fn erase(&mut self, step: usize, file: FileNo) -> Rc<Record> {
        self.append(step, file, Content::Erasure)
    }

    fn everything(&self, file: FileNo) -> Entry {
        let replica = &self.files[file];
        Entry {
            generation: replica.state.generation(),
            context: replica.state.whole_context(),
            oracle: replica.oracle.context.clone(),
            truth: replica.known(),
        }
    }

    /// The record's own context and its dot, never the file's: another phone's version may lie between.
    fn remember(&mut self, phone: usize, record: &Record) {
        let Some(written) = record.written() else { return };
        let (mut context, mut oracle) = (written.version.context.clone(), written.context.clone());
        let history = &self.files[record.file].history;
        let unseen = history.keys().any(|dot| {
            dot.log == record.dot.log && *dot != record.dot && !written.context.covers(dot)
        });
        if unseen && self.mutant != Some(Mutant::AcceptedMeansSeen) {
            context.add(&record.dot);
            oracle.add(&record.dot);
        } else {
            context.raise_to(&record.dot);
            oracle.raise_to(&record.dot);
        }
        let mut truth = written.truth.clone();
        truth.insert(record.number);
        let entry = Entry { generation: record.generation, context, oracle, truth };
        self.remembered.insert((phone, record.file), entry);
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
