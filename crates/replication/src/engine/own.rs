//! What a peer has of our own logs: the store must hear it, also where its database went back after it was told.

use std::collections::BTreeMap;

use bruri_domain::{Cursor, LogId};

/// What the peer at the other end of a connection said of our own logs.
#[derive(Default)]
pub(crate) struct OwnThere {
    /// What it told last of each.
    told: BTreeMap<LogId, Cursor>,
    /// What the store has not heard: it hears it with the next heartbeat.
    unheard: BTreeMap<LogId, Cursor>,
}

impl OwnThere {
    /// The peer tells how far it is.
    pub(crate) fn tell(&mut self, theirs: &Cursor) {
        self.told.insert(theirs.log.id.clone(), theirs.clone());
        self.keep(theirs.clone());
    }

    /// What the store is to hear now.
    pub(crate) fn take_unheard(&mut self) -> Vec<Cursor> {
        std::mem::take(&mut self.unheard).into_values().collect()
    }

    /// The store did not answer.
    pub(crate) fn not_heard(&mut self, theirs: Vec<Cursor>) {
        for cursor in theirs {
            self.keep(cursor);
        }
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
