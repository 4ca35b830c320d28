//! The model: a file as its whole history, and contexts as a map and a set, nothing folded.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use bruri_domain::{Body, Dot, LogId};

use super::record::{Content, Record, Truth};

/// What a writer had seen: per log everything up to a sequence, and single dots beyond it.
#[derive(Clone, Default)]
pub(crate) struct Context {
    upto: BTreeMap<LogId, u64>,
    dots: BTreeSet<Dot>,
}

impl Context {
    pub(crate) fn covers(&self, dot: &Dot) -> bool {
        dot.sequence <= self.upto(&dot.log) || self.dots.contains(dot)
    }

    fn upto(&self, log: &LogId) -> u64 {
        self.upto.get(log).copied().unwrap_or(0)
    }

    pub(crate) fn add(&mut self, dot: &Dot) {
        if !self.covers(dot) {
            self.dots.insert(dot.clone());
        }
    }

    pub(crate) fn raise_to(&mut self, dot: &Dot) {
        let upto = self.upto(&dot.log).max(dot.sequence);
        self.upto.insert(dot.log.clone(), upto);
        self.dots.retain(|d| d.log != dot.log || d.sequence > upto);
    }

    fn unite(&mut self, other: &Self) {
        for (log, upto) in &other.upto {
            self.raise_to(&Dot { log: log.clone(), sequence: *upto });
        }
        for dot in &other.dots {
            self.add(dot);
        }
    }

    /// Every dot that is covered, one by one.
    pub(crate) fn covered(&self) -> BTreeSet<(&LogId, u64)> {
        let whole = self.upto.iter().flat_map(|(log, upto)| (1..=*upto).map(move |n| (log, n)));
        whole.chain(self.dots.iter().map(|dot| (&dot.log, dot.sequence))).collect()
    }
}

/// One file at one site.
#[derive(Default)]
pub(crate) struct File {
    pub(crate) generation: u64,
    /// The versions that no other known version supersedes.
    pub(crate) heads: BTreeMap<Dot, Rc<Record>>,
    /// Everything ever seen of this file.
    pub(crate) context: Context,
    pub(crate) history: BTreeMap<Dot, Rc<Record>>,
}

impl File {
    pub(crate) fn apply(&mut self, record: &Rc<Record>) {
        let Some(written) = record.written() else {
            if record.generation >= self.generation {
                self.forget(record.generation + 1);
            }
            return;
        };
        if record.generation < self.generation {
            return;
        }
        if record.generation > self.generation {
            self.forget(record.generation);
        }
        if self.history.contains_key(&record.dot) {
            return;
        }
        self.history.insert(record.dot.clone(), Rc::clone(record));
        let superseded = self.context.covers(&record.dot);
        self.heads.retain(|dot, _| !written.context.covers(dot));
        if !superseded {
            self.heads.insert(record.dot.clone(), Rc::clone(record));
        }
        self.context.unite(&written.context);
        self.context.add(&record.dot);
        self.settle(&record.dot.log);
    }

    fn forget(&mut self, generation: u64) {
        *self = Self { generation, ..Self::default() };
    }

    /// A log arrives in order, so every version up to the newest one held of it is known.
    fn settle(&mut self, log: &LogId) {
        let newest = self.history.keys().filter(|dot| dot.log == *log).max().cloned();
        if let Some(newest) = newest {
            self.context.raise_to(&newest);
        }
    }

    /// The head that a phone gets.
    pub(crate) fn served(&self) -> Option<&Dot> {
        let rank = |record: &&Rc<Record>| {
            let stamp = record.written().map(|written| written.version.stamp);
            (
                body(record).is_some(),
                stamp.map(|stamp| (stamp.trusted, stamp.micros)),
                record.dot.log.site.as_str().to_owned(),
                record.dot.log.epoch.0,
                record.dot.sequence,
            )
        };
        self.heads.values().max_by_key(rank).map(|record| &record.dot)
    }

    pub(crate) fn head_bodies(&self) -> BTreeSet<Option<Body>> {
        self.heads.values().map(|record| body(record)).collect()
    }
}

/// The body of a version; none of a deletion.
fn body(record: &Record) -> Option<Body> {
    record.written().and_then(|written| written.version.body)
}

/// All that a reader of this history knows, by what each of its writers really knew.
pub(crate) fn known<'a>(history: impl IntoIterator<Item = &'a Rc<Record>>) -> Truth {
    let mut known = Truth::new();
    for record in history {
        known.insert(record.number);
        if let Content::Version(written) = &record.content {
            known.extend(&written.truth);
        }
    }
    known
}
