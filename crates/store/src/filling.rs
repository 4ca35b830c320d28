//! History that a snapshot passed over, filled in from the beginning of each log. States are not touched: they know
//! of these records already.

use std::collections::{BTreeMap, BTreeSet};

use bruri_domain::{
    Applied, Chain, Cursor, FileId, Sha256, fork::is_void, limits::COMMIT_TRIES_MAX,
};
use sqlx::{PgConnection, PgExecutor};

use crate::{
    Store, StoreError,
    apply::{ApplyError, IncomingBatch, files_of, kept, note_unread, pack_all, still_named},
    bodies::Packed,
    columns::{self, Row, signed},
    files::{self, Locked, Locking},
    records::{self, NumberedRecord, Run, Writing},
    wanted,
};

/// Whether history is missing somewhere, or is about to be.
pub(crate) async fn is_incomplete(executor: impl PgExecutor<'_>) -> Result<bool, StoreError> {
    let is = sqlx::query_scalar!(
        r#"select exists (select from snapshot)
                  or exists (select from log where floor_sequence is not null) as "is!""#,
    );
    Ok(is.fetch_one(executor).await?)
}

/// A gap whose beginning was moved.
struct Filling {
    row: i32,
    floor: (u64, Chain),
    stays: Option<(u64, Chain)>,
}

impl Store {
    /// Fills in a batch, whole or not at all. What goes beyond the gap is left out.
    ///
    /// # Errors
    /// [`ApplyError::CursorMoved`] where the gap does not begin at `batch.from`, [`ApplyError::VoidBranch`] where the
    /// records do not lead to its end.
    pub async fn fill(&self, batch: &IncomingBatch) -> Result<(), ApplyError> {
        let bodies = pack_all([batch])?;
        let mut tries = 1_u32;
        loop {
            match self.try_fill(batch, &bodies).await {
                Err(ApplyError::Store(error))
                    if error.is_transient() && tries < COMMIT_TRIES_MAX =>
                {
                    tries = tries.saturating_add(1);
                }
                done => return done,
            }
        }
    }

    async fn try_fill(
        &self,
        batch: &IncomingBatch,
        packed: &BTreeMap<Sha256, Packed>,
    ) -> Result<(), ApplyError> {
        let mut transaction = self.pool().begin().await.map_err(StoreError::from)?;
        let names: Vec<FileId> = files_of(batch).into_iter().collect();
        let locking = Locking::of(self.key(), &names, &names);
        let locked = files::lock(&mut transaction, &locking).await?;
        let id = &batch.from.log.id;
        let filling = begin(&mut transaction, &batch.from).await?;
        let filling = filling.ok_or_else(|| ApplyError::CursorMoved(id.clone()))?;
        let here = wanted::keep_present(&mut transaction, &batch.absent).await?;
        let absent: BTreeSet<Sha256> = batch.absent.difference(&here).copied().collect();
        let records = within(batch, &absent, &locked, filling.floor.0);
        let places = || records.iter().map(|record| (record.sequence, record.chain));
        let is_another = is_void(places(), filling.floor)
            || filling.stays.is_some_and(|stays| is_void(places(), stays));
        let Some(end) = places().last().filter(|_| !is_another) else {
            return Err(ApplyError::VoidBranch(id.clone()));
        };
        files::remove(&mut transaction, &locked.blank()).await?;
        let count = records.len();
        let records = records::without_present(&mut transaction, filling.row, records).await?;
        let bodies = still_named(packed, &records);
        let runs = [Run::before_end(filling.row, &records)];
        let writing = Writing { runs: &runs, bodies: &bodies, states: &[] };
        records::write(&mut transaction, &writing).await?;
        let filled = (batch.from.sequence, batch.records.get(..count).unwrap_or_default());
        note_unread(&mut transaction, filling.row, filled).await?;
        advance(&mut transaction, &filling, end).await?;
        transaction.commit().await.map_err(StoreError::from)?;
        self.inner.wakeups.wake();
        Ok(())
    }
}

/// The records up to the end of the gap. Every state knows of them, but one that was erased since.
fn within(
    batch: &IncomingBatch,
    absent: &BTreeSet<Sha256>,
    locked: &Locked,
    floor: u64,
) -> Vec<NumberedRecord> {
    let (mut sequence, mut chain) = (batch.from.sequence, batch.from.chain);
    let mut records = Vec::with_capacity(batch.records.len());
    for incoming in &batch.records {
        if sequence >= floor {
            break;
        }
        sequence = sequence.saturating_add(1);
        chain = chain.next(&incoming.raw.envelope);
        let erased = incoming.version.as_ref().and_then(|v| locked.erased.get(&v.file));
        let is_erased = erased.is_some_and(|floor| incoming.envelope.generation < floor.generation);
        let applied = if is_erased { Applied::Erased } else { Applied::Superseded };
        let (raw, version) = kept(incoming, absent, applied);
        records.push(NumberedRecord { sequence, chain, raw, version });
    }
    records
}

/// Locks the log, whose gap must begin there.
async fn begin(
    transaction: &mut PgConnection,
    from: &Cursor,
) -> Result<Option<Filling>, StoreError> {
    let id = &from.log.id;
    let found = sqlx::query!(
        r#"select id, floor_sequence as "floor!", floor_chain as "floor_chain!", stays_sequence,
                  stays_chain
             from log
            where site = $1 and epoch = $2 and floor_sequence is not null
              and filled_sequence = $3 and filled_chain = $4
              for update"#,
        id.site.as_str(),
        columns::epoch_column(id.epoch),
        signed(from.sequence),
        from.chain.0.as_bytes(),
    )
    .fetch_optional(transaction)
    .await?;
    let Some(found) = found else { return Ok(None) };
    let row = Row { table: "log", key: id };
    let floor =
        (row.number("floor_sequence", found.floor)?, row.chain("floor_chain", &found.floor_chain)?);
    let stays = match found.stays_sequence.zip(found.stays_chain) {
        Some((sequence, chain)) => {
            Some((row.number("stays_sequence", sequence)?, row.chain("stays_chain", &chain)?))
        }
        None => None,
    };
    Ok(Some(Filling { row: found.id, floor, stays }))
}

/// The gap begins later, or is none any more.
async fn advance(
    transaction: &mut PgConnection,
    filling: &Filling,
    (sequence, chain): (u64, Chain),
) -> Result<(), StoreError> {
    let is_open = sequence < filling.floor.0;
    sqlx::query!(
        "update log
            set filled_sequence = case when $4 then $2::bigint end,
                filled_chain = case when $4 then $3::bytea end,
                floor_sequence = case when $4 then floor_sequence end,
                floor_chain = case when $4 then floor_chain end
          where id = $1",
        filling.row,
        signed(sequence),
        chain.0.as_bytes(),
        is_open,
    )
    .execute(transaction)
    .await?;
    Ok(())
}
