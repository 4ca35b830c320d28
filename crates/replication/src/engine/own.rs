//! What a peer has of our own logs: the store must hear it, also where its database went back after it was told.

use std::collections::BTreeMap;

use bruri_domain::{Cursor, Dot, LogId};

use super::io::Theirs;

/// What the peer at the other end of a connection said of our own logs.
#[derive(Default)]
pub(crate) struct OwnThere {
    /// What it told last of each.
    told: BTreeMap<LogId, Cursor>,
    /// What the store has not heard: it hears it with the next heartbeat.
    unheard: BTreeMap<LogId, Cursor>,
    /// Numbers that phones there were answered with, which the store has not heard of either.
    read: Vec<Dot>,
}

impl OwnThere {
    /// The peer tells how far it is.
    pub(crate) fn tell(&mut self, theirs: &Cursor) {
        self.told.insert(theirs.log.id.clone(), theirs.clone());
        self.keep(theirs.clone());
    }

    /// Phones there were answered with these numbers.
    pub(crate) fn was_read(&mut self, told: Vec<Dot>) {
        self.read.extend(told);
    }

    /// What the store is to hear now.
    pub(crate) fn take_unheard(&mut self) -> Theirs {
        let cursors = std::mem::take(&mut self.unheard).into_values().collect();
        Theirs { cursors, told: std::mem::take(&mut self.read), is_all: false }
    }

    /// The store did not answer.
    pub(crate) fn not_heard(&mut self, theirs: Theirs) {
        for cursor in theirs.cursors {
            self.keep(cursor);
        }
        self.read.extend(theirs.told);
    }

    /// The database has lost the end of a log, and what it had heard of it.
    pub(crate) fn went_back(&mut self, log: &LogId) {
        if let Some(told) = self.told.get(log).cloned() {
            self.keep(told);
        }
    }

    /// Of each log what says most.
    fn keep(&mut self, theirs: Cursor) {
        let kept = self.unheard.get(&theirs.log.id);
        if kept.is_none_or(|kept| kept.sequence <= theirs.sequence) {
            self.unheard.insert(theirs.log.id.clone(), theirs);
        }
    }
}
