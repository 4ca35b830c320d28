//! One file at one site: by the rule, and beside it by the model.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use bruri_domain::{Applied, Context, Dot, FileState, LogId, Sha256};

use super::{
    mutant::Mutant,
    oracle,
    record::{Content, Record, Truth},
};

#[derive(Default)]
pub(crate) struct Replica {
    pub(crate) state: FileState,
    /// What a store would keep: told by the rule alone what to keep and when to forget.
    pub(crate) history: BTreeMap<Dot, Rc<Record>>,
    pub(crate) oracle: oracle::File,
}

impl Replica {
    pub(crate) fn apply(&mut self, record: &Rc<Record>, mutant: Option<Mutant>) {
        self.oracle.apply(record);
        let before = self.state.clone();
        let kept = match &record.content {
            Content::Erasure => {
                self.state.erase(record.generation);
                false
            }
            Content::Version(written) => {
                let applied = self.state.apply(&record.dot, record.generation, &written.version);
                applied != Applied::Erased
            }
        };
        if self.state.generation() > before.generation() {
            self.history.clear();
        }
        if kept {
            self.history.entry(record.dot.clone()).or_insert_with(|| Rc::clone(record));
        }
        if let Some(mutant) = mutant {
            mutant.spoil(&mut self.state, &before, record);
        }
    }

    /// All that a phone knows once it was served from here.
    pub(crate) fn known(&self) -> Truth {
        oracle::known(self.history.values())
    }

    /// Where the rule and the model part.
    pub(crate) fn difference(&self) -> Option<String> {
        let (state, oracle) = (&self.state, &self.oracle);
        let bodies = oracle.head_bodies();
        let conflict = bodies.len() > 1;
        let confirmed: Option<Option<Sha256>> =
            bodies.first().filter(|_| !conflict).map(|body| body.map(|b| b.sha256));
        [
            ("generation", state.generation() == oracle.generation),
            ("heads", state.heads().iter().map(|head| &head.dot).eq(oracle.heads.keys())),
            ("served version", state.served().map(|head| &head.dot) == oracle.served()),
            ("conflict", state.is_conflict() == conflict),
            ("one body", confirmed.is_none_or(|body| state.all_heads_are(body))),
            ("no one body", confirmed.is_some() || !self.any_body_is_all_heads()),
            ("context", covered(state.context()).into_iter().eq(oracle.context.covered())),
            ("history", self.history.keys().eq(oracle.history.keys())),
        ]
        .into_iter()
        .find_map(|(what, same)| (!same).then(|| format!("{what}: {state:?}")))
    }

    fn any_body_is_all_heads(&self) -> bool {
        let hashes = self.state.heads().iter().map(|head| head.body.map(|body| body.sha256));
        hashes.chain([None]).any(|hash| self.state.all_heads_are(hash))
    }
}

/// Every dot that a context covers, one by one.
fn covered(context: &Context) -> BTreeSet<(&LogId, u64)> {
    let dots = context.logs().flat_map(|(log, seen)| {
        let whole = (1..=seen.upto()).map(move |sequence| (log, sequence));
        whole.chain(seen.dots().map(move |sequence| (log, sequence)))
    });
    dots.collect()
}
