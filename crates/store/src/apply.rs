//! Records of other sites: rows, file states and cursor move in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use bruri_domain::{
    Applied, Control, Cursor, Dot, Envelope, FileId, FileState, Sha256, Version, fork::is_void,
    limits::COMMIT_TRIES_MAX,
};
use bruri_wire::record::RawRecord;
use bytes::Bytes;
use sqlx::PgConnection;

use crate::{
    Store, StoreError,
    again::Returned,
    bodies::{Packed, pack},
    control::{Applying, Effects, Place},
    erasures,
    files::{self, Locked, Locking, States},
    logs::{self, MovedCursor},
    metrics,
    noticed::Noticed,
    records::{self, NumberedRecord, Run, VersionColumns, Writing},
    unread::{self, Unread},
    wanted,
};

/// A run of records of one log whose hashes were checked, with the bodies they name.
#[derive(Clone, Debug)]
pub struct IncomingBatch {
    /// Where our cursor must be.
    pub from: Cursor,
    /// Where it will be.
    pub to: Cursor,
    /// One for every sequence after `from` up to `to`.
    pub records: Vec<Incoming>,
    /// Bodies by hash; one that the database has need not be here.
    pub bodies: BTreeMap<Sha256, Bytes>,
    /// Hashes of bodies that records name and the peer has no more.
    pub absent: BTreeSet<Sha256>,
}

/// One record of a batch.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// As the origin wrote it.
    pub raw: RawRecord,
    /// Its envelope, decoded on a copy.
    pub envelope: Envelope,
    /// The version that it carries; none for a kind that this release does not know.
    pub version: Option<Version>,
    /// What it says that concerns no file; none for a version, and for a kind that this release does not know.
    pub control: Option<Control>,
}

impl Incoming {
    fn is_erasure(&self) -> bool {
        matches!(self.control, Some(Control::Erasure(_)))
    }
}

/// Why a batch was not applied; nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The cursor is elsewhere: read it again and ask from there.
    #[error("the cursor of {0} was moved by somebody else")]
    CursorMoved(bruri_domain::LogId),
    /// The log forked, and these records are of the branch that does not stay.
    #[error("the log {0} forked, and this is the branch that gave way")]
    VoidBranch(bruri_domain::LogId),
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

type Bodies = BTreeMap<Sha256, Packed>;

/// Before any row is locked.
pub(crate) fn pack_all<'a>(
    batches: impl IntoIterator<Item = &'a IncomingBatch>,
) -> Result<Bodies, StoreError> {
    let bodies = batches.into_iter().flat_map(|batch| &batch.bodies);
    bodies.map(|(hash, content)| Ok((*hash, pack(content)?))).collect()
}

/// A batch whose cursor was moved.
struct Part<'a> {
    batch: &'a IncomingBatch,
    /// The row of its log.
    log: i32,
    /// Where that was set back: the last place of the branch that gave way.
    void: u64,
    /// Bodies that are neither here nor in the batch.
    absent: BTreeSet<Sha256>,
    /// Those that are to be written.
    records: Vec<NumberedRecord>,
}

impl Store {
    /// Applies a batch whole or not at all.
    ///
    /// # Errors
    /// [`ApplyError::CursorMoved`] where the cursor is not at `batch.from`, [`ApplyError::VoidBranch`] for the branch of a
    /// log that was set back.
    pub async fn apply(&self, batch: &IncomingBatch) -> Result<(), ApplyError> {
        self.apply_together(std::slice::from_ref(batch)).await
    }

    /// Applies batches, each of another log, in one transaction where that is possible: it costs little more than one
    /// batch does. Each is applied whole or not at all; one that is not costs no other. Tells what became of each.
    pub async fn apply_all(&self, batches: &[IncomingBatch]) -> Vec<Result<(), ApplyError>> {
        // Of logs of this site records may be written again, for which each takes its numbers.
        let is_own = |batch: &IncomingBatch| batch.from.log.id.site == *self.site();
        let can_join = batches.len() > 1 && !batches.iter().any(is_own);
        if can_join && self.apply_together(batches).await.is_ok() {
            return batches.iter().map(|_| Ok(())).collect();
        }
        let mut results = Vec::with_capacity(batches.len());
        for batch in batches {
            results.push(self.apply(batch).await);
        }
        results
    }

    async fn apply_together(&self, batches: &[IncomingBatch]) -> Result<(), ApplyError> {
        let bodies = pack_all(batches)?;
        let mut tries = 1_u32;
        loop {
            match self.try_apply(batches, &bodies).await {
                Err(ApplyError::Store(error))
                    if error.is_transient() && tries < COMMIT_TRIES_MAX =>
                {
                    tries = tries.saturating_add(1);
                }
                done => return done,
            }
        }
    }

    async fn try_apply(
        &self,
        batches: &[IncomingBatch],
        packed: &Bodies,
    ) -> Result<(), ApplyError> {
        let mut transaction = self.pool().begin().await.map_err(StoreError::from)?;
        let names: BTreeSet<FileId> = batches.iter().flat_map(files_of).collect();
        let names: Vec<FileId> = names.into_iter().collect();
        if batches.iter().flat_map(|batch| &batch.records).any(Incoming::is_erasure) {
            erasures::begin(&mut transaction).await?;
        }
        let locking = Locking::of(self.key(), &names, &names);
        let mut locked = files::lock(&mut transaction, &locking).await?;
        let mut noticed = Noticed::default();
        let parts = merge_all(&mut transaction, batches, &mut locked, &mut noticed).await?;
        let mut again = Vec::new();
        for Part { batch, void, absent, .. } in &parts {
            let given = Returned { batch, void: *void, absent };
            again
                .extend(self.give_again(&mut transaction, given, &mut locked, &mut noticed).await?);
        }
        // What came of them was erased before it came.
        files::remove(&mut transaction, &locked.blank()).await?;
        let states = undamaged(locked.states);
        let bodies = still_named(packed, parts.iter().flat_map(|part| &part.records));
        let runs = parts.iter().map(|p| Run::up_to(p.log, &p.records, p.batch.to.chain));
        let runs = runs.chain(again.iter().map(|again| Run::at_end(again.log, &again.records)));
        let runs: Vec<Run<'_>> = runs.collect();
        let writing = Writing { runs: &runs, bodies: &bodies, states: &states };
        records::write(&mut transaction, &writing).await?;
        noticed.write(&mut transaction, self.inner.clock.now_micros()).await?;
        let (mut is_lacking, mut effects) = (false, Effects::default());
        for Part { batch, log, records, .. } in &parts {
            is_lacking |= wanted::want(&mut transaction, *log, records, &states).await?;
            note_unread(&mut transaction, *log, (batch.from.sequence, &batch.records)).await?;
            self.apply_control(&mut transaction, (*log, batch), &mut effects).await?;
        }
        for again in &again {
            is_lacking |=
                wanted::want(&mut transaction, again.log, &again.records, &states).await?;
        }
        transaction.commit().await.map_err(StoreError::from)?;
        self.take_effect(effects);
        metrics::conflicts_opened(noticed.opened());
        if again.is_empty() {
            self.inner.wakeups.wake_applied();
        } else {
            self.inner.wakeups.wake();
        }
        for again in again {
            self.numbered(again.given);
        }
        if is_lacking {
            self.inner.lacking.notify_one();
        }
        Ok(())
    }

    /// What concerns no file, in the order of the log.
    async fn apply_control(
        &self,
        transaction: &mut PgConnection,
        (log, batch): (i32, &IncomingBatch),
        effects: &mut Effects,
    ) -> Result<(), StoreError> {
        let mut dot = Dot { log: batch.from.log.id.clone(), sequence: batch.from.sequence };
        for incoming in &batch.records {
            dot.sequence = dot.sequence.saturating_add(1);
            if let Some(control) = &incoming.control {
                let at = Applying { store: self, place: Place { log, dot: &dot } };
                at.apply(&mut *transaction, (&incoming.envelope, control), effects).await?;
            }
        }
        Ok(())
    }
}

/// What this release cannot read is remembered for the one that can.
pub(crate) async fn note_unread(
    transaction: &mut PgConnection,
    log: i32,
    (after, records): (u64, &[Incoming]),
) -> Result<(), StoreError> {
    let numbered = (after.saturating_add(1)..).zip(records);
    let unread = numbered.filter(|(_, record)| record.is_unread());
    let unread: Vec<Unread<'_>> =
        unread.map(|(sequence, record)| Unread { sequence, envelope: &record.envelope }).collect();
    unread::note(transaction, log, &unread).await
}

pub(crate) fn files_of(batch: &IncomingBatch) -> BTreeSet<FileId> {
    let versions = batch.records.iter().filter_map(|record| record.version.as_ref());
    versions.map(|version| version.file.clone()).collect()
}

/// Moves the cursors and merges each batch, in their order, into the states of the files.
async fn merge_all<'a>(
    transaction: &mut PgConnection,
    batches: &'a [IncomingBatch],
    locked: &mut Locked,
    noticed: &mut Noticed,
) -> Result<Vec<Part<'a>>, ApplyError> {
    let absent: BTreeSet<Sha256> =
        batches.iter().flat_map(|batch| &batch.absent).copied().collect();
    let here = wanted::keep_present(&mut *transaction, &absent).await?;
    let cursors: Vec<_> = batches.iter().map(|batch| (&batch.from, &batch.to)).collect();
    let moved = logs::move_cursors(&mut *transaction, &cursors).await?;
    let mut parts = Vec::with_capacity(batches.len());
    for (batch, moved) in batches.iter().zip(moved) {
        let id = &batch.from.log.id;
        let MovedCursor { row: log, stays, heads, void } =
            moved.ok_or_else(|| ApplyError::CursorMoved(id.clone()))?;
        let absent: BTreeSet<Sha256> = batch.absent.difference(&here).copied().collect();
        let mut records = merge(batch, &absent, locked, noticed);
        let places = || records.iter().map(|record| (record.sequence, record.chain));
        if stays.is_some_and(|stays| is_void(places(), stays)) {
            return Err(ApplyError::VoidBranch(id.clone()));
        }
        if batch.from.sequence < heads {
            records = records::without_present(&mut *transaction, log, records).await?;
        }
        parts.push(Part { batch, log, void, absent, records });
    }
    Ok(parts)
}

/// Merges each version into its file's state, in the order of the log. A damaged state stays as it is,
/// to be rebuilt from the records, which are stored all the same: it costs its own file, not the log.
fn merge(
    batch: &IncomingBatch,
    absent: &BTreeSet<Sha256>,
    locked: &mut Locked,
    noticed: &mut Noticed,
) -> Vec<NumberedRecord> {
    let (mut sequence, mut chain) = (batch.from.sequence, batch.from.chain);
    let mut records = Vec::with_capacity(batch.records.len());
    for incoming in &batch.records {
        sequence = sequence.saturating_add(1);
        chain = chain.next(&incoming.raw.envelope);
        let dot = Dot { log: batch.from.log.id.clone(), sequence };
        let applied = incoming.version.as_ref().map_or(Applied::Superseded, |version| {
            let floor = locked.erased.get(&version.file).map_or(0, |floor| floor.generation);
            if incoming.envelope.generation < floor {
                return Applied::Erased;
            }
            let state = locked.states.entry(version.file.clone());
            let state = state.or_insert_with(|| Ok(FileState::default()));
            state.as_mut().map_or(Applied::Superseded, |state| {
                noticed.apply(state, &dot, (incoming.envelope.generation, version))
            })
        });
        let (raw, version) = kept(incoming, absent, applied);
        records.push(NumberedRecord { sequence, chain, raw, version });
    }
    records
}

/// The states to be written.
fn undamaged(states: States) -> Vec<(FileId, FileState)> {
    let mut written = Vec::with_capacity(states.len());
    for (file, state) in states {
        match state {
            Ok(state) => written.push((file, state)),
            Err(error) => tracing::error!(%error, "a peer's version cannot be served here"),
        }
    }
    written
}

/// The bodies that are still named: what was erased leaves no body behind.
pub(crate) fn still_named<'a>(
    packed: &Bodies,
    records: impl IntoIterator<Item = &'a NumberedRecord>,
) -> Bodies {
    let named = records.into_iter().filter_map(|record| record.version.as_ref()?.body);
    let found = named.filter_map(|body| packed.get_key_value(&body.sha256));
    found.map(|(hash, body)| (*hash, body.clone())).collect()
}

pub(crate) fn kept(
    incoming: &Incoming,
    absent: &BTreeSet<Sha256>,
    applied: Applied,
) -> (RawRecord, Option<VersionColumns>) {
    let mut raw = incoming.raw.clone();
    if applied == Applied::Erased {
        // Only its place in the log is kept.
        raw.payload = None;
        return (raw, None);
    }
    let version = incoming.version.as_ref().map(|version| VersionColumns {
        file: version.file.clone(),
        stamp_micros: version.stamp.micros,
        body: version.body,
        pruned: version.body.is_some_and(|body| absent.contains(&body.sha256)),
    });
    (raw, version)
}
