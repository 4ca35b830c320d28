//! The branch that stays of an own log comes back from peers. What has a number there that the branch which gave way had
//! too is written again: contexts of what was written meanwhile, here or where that branch had been taken, may mean
//! either by it, and a version that nobody knew would count as superseded.

use std::collections::BTreeSet;

use bruri_domain::{Applied, Dot, LogKind, Sha256, fork::Moved};
use bruri_wire::record::encode_version;
use sqlx::PgConnection;

use crate::{
    Store, StoreError,
    apply::{Incoming, IncomingBatch, kept},
    files::Locked,
    noticed::Noticed,
    numbers::Given,
    records::NumberedRecord,
};

/// A batch that is being applied.
pub(crate) struct Returned<'a> {
    pub(crate) batch: &'a IncomingBatch,
    /// The last number of the branch that gave way.
    pub(crate) void: u64,
    /// Bodies that are neither here nor in the batch.
    pub(crate) absent: &'a BTreeSet<Sha256>,
}

/// Versions that were written again, at the end of the open log.
pub(crate) struct Again {
    /// The row of that log.
    pub(crate) log: i32,
    pub(crate) records: Vec<NumberedRecord>,
    pub(crate) given: Given,
}

impl Store {
    /// Numbers those of a batch once more whose number the other branch had too, and merges them into the states of their
    /// files, which are under lock; none where the batch is not of a log of this site, or has none.
    pub(crate) async fn give_again(
        &self,
        transaction: &mut PgConnection,
        Returned { batch, void, absent }: Returned<'_>,
        locked: &mut Locked,
        noticed: &mut Noticed,
    ) -> Result<Option<Again>, StoreError> {
        let log = &batch.from.log;
        if log.id.site != *self.site() || log.kind != LogKind::Files {
            return Ok(None);
        }
        let versions = given(batch, void, locked);
        let stamps = versions.iter().filter_map(|(_, incoming)| incoming.version.as_ref());
        let Some(newest) = stamps.map(|version| version.stamp.micros).max() else {
            return Ok(None);
        };
        let count = versions.len();
        let numbers = self.take_numbers(transaction, LogKind::Files, count, newest).await?;
        let (open, mut chain) = (numbers.log.clone(), numbers.chain);
        let place = |sequence| Dot { log: open.id.clone(), sequence };
        let places = || (numbers.before.saturating_add(1)..).zip(&versions);
        let mut moved = Moved::beyond(log.id.clone(), batch.from.sequence);
        for (sequence, (dot, incoming)) in places() {
            if let Some(version) = &incoming.version {
                moved.note(version.file.clone(), dot.sequence, place(sequence));
            }
        }
        let mut records = Vec::with_capacity(count);
        for (sequence, (dot, incoming)) in places() {
            let Some(version) = &incoming.version else { continue };
            let generation = incoming.envelope.generation;
            let version = moved.version_that_stays(version, dot);
            let raw = encode_version(&version, generation, self.key());
            chain = chain.next(&raw.envelope);
            if let Some(Ok(state)) = locked.states.get_mut(&version.file) {
                noticed.apply(state, &place(sequence), (generation, &version));
            }
            let (_, version) = kept(incoming, absent, Applied::Head);
            records.push(NumberedRecord { sequence, chain, raw, version });
        }
        let last = records.last().map_or(numbers.before, |record| record.sequence);
        let given = numbers.given(LogKind::Files, last, chain);
        Ok(Some(Again { log: open.row, records, given }))
    }
}

/// The versions of a batch up to a number, but what was erased.
fn given<'a>(batch: &'a IncomingBatch, void: u64, locked: &Locked) -> Vec<(Dot, &'a Incoming)> {
    let numbered = (batch.from.sequence.saturating_add(1)..=void).zip(&batch.records);
    let counts = |incoming: &Incoming| {
        let version = incoming.version.as_ref();
        let floor = version.map(|v| locked.erased.get(&v.file).map_or(0, |f| f.generation));
        floor.is_some_and(|floor| incoming.envelope.generation >= floor)
    };
    let kept = numbered.filter(|(_, incoming)| counts(incoming));
    kept.map(|(sequence, incoming)| (Dot { log: batch.from.log.id.clone(), sequence }, incoming))
        .collect()
}
