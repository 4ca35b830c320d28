//! Versions that phones and operators write, as the committer of the real store takes them.

use bruri_domain::{
    Author, Body, Decision, DeploymentKey, Dot, FileId, LogKind, PhoneKey, Remembered, Sha256,
    Stamp, Version, Writer,
    mutant::{self, Mutant},
};
use bruri_wire::record::encode_version;
use bytes::Bytes;

use crate::memory::{Memory, Row, Tables};

/// A version that somebody wants to be stored.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The file.
    pub file: FileId,
    /// None for a deletion.
    pub content: Option<Bytes>,
    /// The content is no phone's file.
    pub suspect: bool,
    /// Which phone; none for an operator, who sees all that is known here.
    pub phone: Option<PhoneKey>,
    /// Who it says wrote it.
    pub author: Author,
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
    /// The subject of the file was erased, and is barred.
    Barred,
    /// A version, which carries its generation.
    Version(Dot, u64),
}

impl Memory {
    /// Stores a version as the committer does.
    pub fn commit(&self, draft: Draft) -> Stored {
        let file = draft.file.clone();
        let judge = || {
            self.judge(&[]);
            self.judge_number(&file);
        };
        let is_late = mutant::is(Mutant::EpochOpenedLate);
        if !is_late {
            judge();
        }
        let stored = self.lock().commit(draft, &self.key);
        if is_late {
            judge();
        }
        let (tables, mut beside) = (self.lock(), self.beside());
        if let Some(cursor) = tables.end_of(LogKind::Files) {
            beside.saw(&cursor);
        }
        stored
    }
}

impl Tables {
    fn commit(&mut self, draft: Draft, key: &DeploymentKey) -> Stored {
        if draft.content.is_some() && self.is_barred(&draft.file, key) {
            return Stored::Barred;
        }
        let body = draft.content.as_deref().map(Body::of);
        let mut state = self.state(&draft.file, key);
        let remembered = draft.phone.as_ref().map(|phone| (draft.file.clone(), phone.clone()));
        let entry = remembered.as_ref().and_then(|entry| self.remembered.get(entry));
        let writer = if remembered.is_some() { Writer::Phone(entry) } else { Writer::Operator };
        let Decision::Version(context) = state.decide(body.map(|body| body.sha256), writer) else {
            if let Some(entry) = remembered {
                self.remembered.insert(entry, Remembered::served(&state));
            }
            self.fill(draft.content);
            return Stored::Nothing;
        };
        let version = Version {
            random: draft.random,
            stamp: draft.stamp,
            file: draft.file.clone(),
            context,
            body,
            suspect: draft.suspect,
            author: draft.author,
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

    /// Notes a version that is known from now on, and its body.
    pub(crate) fn keep(&mut self, version: &Version, dot: &Dot, content: Option<Bytes>) {
        let known = self.versions.entry(version.file.clone()).or_default();
        known.insert(version.random, dot.clone());
        if let Some((body, content)) = version.body.zip(content) {
            self.bodies.insert(body.sha256, content);
        }
    }

    /// A phone has sent once more what is served: where its body was wanted, it is here by now.
    fn fill(&mut self, content: Option<Bytes>) {
        let Some(content) = content else { return };
        let hash = Sha256::of(&content);
        for dot in self.wanted.clone() {
            let row = self.row_mut(&dot);
            let names = |row: &&mut Row| row.body().is_some_and(|body| body.sha256 == hash);
            let Some(row) = row.filter(names) else { continue };
            row.is_pruned = false;
            self.wanted.remove(&dot);
            self.bodies.insert(hash, content.clone());
        }
    }
}
