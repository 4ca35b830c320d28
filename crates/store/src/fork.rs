//! A log that forked goes back to where its branches part.
//!
//! The branch that peers hold stays. The origin appends its own branch again in its open epoch, so that nothing
//! that was acknowledged is lost; any other site that pulled the void branch only drops it, and gets
//! those records from the new epoch.

use std::collections::{BTreeMap, BTreeSet};

use bruri_domain::{
    Chain, Control, Cursor, Dot, FileId, RecordKind, Sha256, Version,
    fork::{self as domain, Moved, Parting},
    limits::{FORK_RECORDS_MAX, PAGE_RECORDS_MAX},
};
use bruri_wire::record::{RawRecord, decode_envelope, decode_version, encode_version};
use sqlx::PgConnection;

use crate::{
    Store, StoreError,
    columns::{Row, epoch_column, signed},
    control::{Appended, Applying, Draft, Effects, Place},
    dropped, erasures,
    files::{self, Locking},
    filling,
    numbers::Given,
    partings, rebuild,
    records::{self, NumberedRecord, Run, VersionColumns, Writing},
    remembered,
    unread::{self, Unread},
};

/// The end of a log beyond the place to which it goes back.
struct Branch {
    row: i32,
    to: Cursor,
    /// Where the log ends now.
    end: (u64, Chain),
    records: Vec<Void>,
}

/// A record that loses its place.
struct Void {
    sequence: u64,
    raw: RawRecord,
    columns: Option<VersionColumns>,
}

impl Store {
    /// Sets a log back to a place that it shares with the branch that stays: the records beyond are removed,
    /// and the files that they touched rebuilt. Where the log is of this site, which must have closed it, they
    /// are first appended again in its open epoch: the same versions under new dots. From then on only the branch
    /// that stays is applied there. All of it or nothing.
    ///
    /// # Errors
    /// [`StoreError::NotThere`] where the log is open, has no such place, or gave way before: it is set
    /// back once, and from then on what it holds stays. [`StoreError::BranchTooLong`] beyond
    /// 100,000 records. [`StoreError::HistoryIncomplete`] while a snapshot is not filled in: see
    /// [`Store::give_snapshot_up`].
    pub async fn set_back(&self, parting: &Parting) -> Result<(), StoreError> {
        let to = &parting.common;
        if self.chain_at(to).await? != Some(to.chain) {
            return Err(StoreError::NotThere(to.log.id.clone()));
        }
        let mut transaction = self.pool().begin().await?;
        let branch = self.branch(&mut transaction, to).await?;
        let copied = partings::copied_beyond(&mut transaction, to).await?;
        let touched: Vec<FileId> = branch.files().union(&copied).cloned().collect();
        erasures::begin(&mut transaction).await?;
        let locked = files::lock(&mut transaction, &Locking::of(self.key(), &touched, &[])).await?;
        lock_unchanged(&mut transaction, &branch).await?;
        if filling::is_incomplete(&mut *transaction).await? {
            // Without all their records the files that the branch touched cannot be made anew.
            return Err(StoreError::HistoryIncomplete);
        }
        if partings::copied_beyond(&mut transaction, to).await? != copied {
            // States came before the log was locked.
            return Err(StoreError::NotThere(to.log.id.clone()));
        }
        let is_own = to.log.id.site == *self.site();
        let mut effects = Effects::default();
        let given = if is_own && !branch.records.is_empty() {
            Some(self.append_again(&mut transaction, &branch, &mut effects).await?)
        } else {
            None
        };
        cut(&mut transaction, &branch, parting).await?;
        let told =
            if is_own { Some(self.tell_branch(&mut transaction, parting).await?) } else { None };
        partings::done(&mut transaction, branch.row).await?;
        // What only the branch named is to go: an erasure would find it nowhere.
        dropped::note(&mut transaction, branch.bodies()).await?;
        rebuild::rebuild_locked(&mut transaction, &touched, &locked).await?;
        // What is remembered names places in the void branch that are others' now.
        remembered::forget(&mut transaction, &touched).await?;
        transaction.commit().await?;
        self.inner.unwritten.forget(&touched);
        self.take_effect(effects);
        if let Some(given) = given {
            self.numbered(given);
        }
        if let Some(told) = told {
            self.appended(told);
        }
        tracing::warn!(
            log = %to.log.id, to = to.sequence, records = branch.records.len(),
            "a log forked and was set back to where its branches part"
        );
        self.inner.wakeups.wake();
        Ok(())
    }

    /// Tells all sites which branch stays: one that took the other from a third site hears it from nobody else.
    async fn tell_branch(
        &self,
        transaction: &mut PgConnection,
        parting: &Parting,
    ) -> Result<Appended, StoreError> {
        let branch = domain::Branch::of(parting, rand::random(), self.stamp());
        let draft = Draft { control: Control::Branch(branch), subject: None, generation: 0 };
        self.append_control(transaction, &[draft]).await
    }

    async fn branch(
        &self,
        transaction: &mut PgConnection,
        to: &Cursor,
    ) -> Result<Branch, StoreError> {
        let id = &to.log.id;
        let log = sqlx::query!(
            "select id, sequence, chain from log
              where site = $1 and epoch = $2 and not is_open and not (set_back and site = $3)",
            id.site.as_str(),
            epoch_column(id.epoch),
            self.site().as_str(),
        )
        .fetch_optional(&mut *transaction)
        .await?
        .ok_or_else(|| StoreError::NotThere(id.clone()))?;
        let end = {
            let row = Row { table: "log", key: id };
            (row.number("sequence", log.sequence)?, row.chain("chain", &log.chain)?)
        };
        let records = end.0.saturating_sub(to.sequence);
        if records > FORK_RECORDS_MAX {
            return Err(StoreError::BranchTooLong { log: id.clone(), records });
        }
        let records = void(transaction, log.id, to).await?;
        Ok(Branch { row: log.id, to: to.clone(), end, records })
    }

    /// Writes the branch once more, at the end of the open log of its kind.
    async fn append_again(
        &self,
        transaction: &mut PgConnection,
        branch: &Branch,
        effects: &mut Effects,
    ) -> Result<Given, StoreError> {
        let kind = branch.to.log.kind;
        let stamps = branch.records.iter().filter_map(|record| record.columns.as_ref());
        let newest_micros = stamps.map(|columns| columns.stamp_micros).max().unwrap_or(0);
        let count = branch.records.len();
        let numbers = self.take_numbers(transaction, kind, count, newest_micros).await?;
        let moved = branch.moved(&Dot { log: numbers.log.id.clone(), sequence: numbers.before });
        let (mut sequence, mut chain) = (numbers.before, numbers.chain);
        let page = usize::try_from(PAGE_RECORDS_MAX).unwrap_or(count);
        for voids in branch.records.chunks(page) {
            let mut again = Vec::with_capacity(voids.len());
            for void in voids {
                sequence = sequence.saturating_add(1);
                let raw = self.written_again(void, &moved, &branch.to)?;
                chain = chain.next(&raw.envelope);
                let version = void.columns.clone();
                again.push(NumberedRecord { sequence, chain, raw, version });
            }
            let (log, bodies) = (numbers.log.row, BTreeMap::new());
            let runs = [Run::at_end(log, &again)];
            let writing = Writing { runs: &runs, bodies: &bodies, states: &[] };
            records::write(&mut *transaction, &writing).await?;
            note_unread(transaction, log, &again).await?;
            for record in &again {
                let dot = Dot { log: numbers.log.id.clone(), sequence: record.sequence };
                let at = Applying { store: self, place: Place { log, dot: &dot } };
                at.apply_raw(&mut *transaction, &record.raw, effects).await?;
            }
        }
        Ok(numbers.given(kind, sequence, chain))
    }

    /// A record that is no version of a file, or was erased, stays as it is: no dot of the branch is in it.
    fn written_again(
        &self,
        void: &Void,
        moved: &Moved,
        of: &Cursor,
    ) -> Result<RawRecord, StoreError> {
        let (Some(_), Some(payload)) = (&void.columns, &void.raw.payload) else {
            return Ok(void.raw.clone());
        };
        let dot = Dot { log: of.log.id.clone(), sequence: void.sequence };
        let row = Row { table: "record", key: &dot };
        let envelope = decode_envelope(&void.raw.envelope).map_err(|_| row.corrupt("envelope"))?;
        let version: Version = decode_version(payload).map_err(|_| row.corrupt("payload"))?;
        Ok(encode_version(&moved.version(&version), envelope.generation, self.key()))
    }
}

impl Branch {
    fn files(&self) -> BTreeSet<FileId> {
        let columns = self.records.iter().filter_map(|record| record.columns.as_ref());
        columns.map(|columns| columns.file.clone()).collect()
    }

    fn bodies(&self) -> BTreeSet<Sha256> {
        let columns = self.records.iter().filter_map(|record| record.columns.as_ref());
        columns.filter_map(|columns| columns.body).map(|body| body.sha256).collect()
    }

    /// Where each version goes, the first right after `before`.
    fn moved(&self, before: &Dot) -> Moved {
        let mut moved = Moved::beyond(self.to.log.id.clone(), self.to.sequence);
        for (record, offset) in self.records.iter().zip(1_u64..) {
            let sequence = before.sequence.saturating_add(offset);
            if let Some(columns) = &record.columns {
                let to = Dot { log: before.log.clone(), sequence };
                moved.note(columns.file.clone(), record.sequence, to);
            }
        }
        moved
    }
}

/// What this release cannot read, it cannot read at its new place either.
async fn note_unread(
    transaction: &mut PgConnection,
    log: i32,
    again: &[NumberedRecord],
) -> Result<(), StoreError> {
    let mut envelopes = Vec::new();
    for record in again.iter().filter(|record| record.raw.payload.is_some()) {
        let row = Row { table: "record", key: &record.sequence };
        let envelope =
            decode_envelope(&record.raw.envelope).map_err(|_| row.corrupt("envelope"))?;
        if matches!(envelope.kind, RecordKind::Unknown(_)) {
            envelopes.push((record.sequence, envelope));
        }
    }
    let unread =
        envelopes.iter().map(|(sequence, envelope)| Unread { sequence: *sequence, envelope });
    unread::note(transaction, log, &unread.collect::<Vec<_>>()).await
}

async fn void(
    transaction: &mut PgConnection,
    log: i32,
    after: &Cursor,
) -> Result<Vec<Void>, StoreError> {
    let rows = sqlx::query!(
        r#"select record.sequence, envelope, payload, realm, name, stamp_micros, body, pruned,
                  body.bytes as "bytes?"
             from record
             left join body on body.sha256 = record.body
            where log = $1 and record.sequence > $2
            order by record.sequence"#,
        log,
        signed(after.sequence),
    )
    .fetch_all(transaction)
    .await?;
    let row = Row { table: "record", key: &after.log.id };
    let mut records = Vec::with_capacity(rows.len());
    for found in rows {
        let raw =
            RawRecord { envelope: found.envelope.into(), payload: found.payload.map(Into::into) };
        let columns = match (found.realm, found.name, found.stamp_micros) {
            (Some(realm), Some(name), Some(stamp)) => Some(VersionColumns {
                file: files::file_id(&realm, &name)?,
                stamp_micros: row.number("stamp_micros", stamp)?,
                body: row.body(found.body.as_deref(), found.bytes)?,
                pruned: found.pruned,
            }),
            _ => None,
        };
        records.push(Void { sequence: row.number("sequence", found.sequence)?, raw, columns });
    }
    Ok(records)
}

/// Locks the log's row, which must be as it was when the branch was read: nobody has moved the cursor.
async fn lock_unchanged(transaction: &mut PgConnection, branch: &Branch) -> Result<(), StoreError> {
    let (sequence, chain) = &branch.end;
    let locked = sqlx::query_scalar!(
        "select id from log where id = $1 and sequence = $2 and chain = $3 for update",
        branch.row,
        signed(*sequence),
        chain.0.as_bytes(),
    );
    let locked = locked.fetch_optional(transaction).await?;
    locked.map(|_| ()).ok_or_else(|| StoreError::NotThere(branch.to.log.id.clone()))
}

/// Removes the void records, last of all what says that they were there.
async fn cut(
    transaction: &mut PgConnection,
    branch: &Branch,
    parting: &Parting,
) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from record where log = $1 and sequence > $2",
        branch.row,
        signed(branch.to.sequence),
    )
    .execute(&mut *transaction)
    .await?;
    unread::forget_after(&mut *transaction, branch.row, branch.to.sequence).await?;
    sqlx::query!(
        "update log
            set sequence = $2, chain = $3, set_back = true, stays_sequence = $4, stays_chain = $5,
                void_sequence = greatest(void_sequence, $6)
          where id = $1",
        branch.row,
        signed(branch.to.sequence),
        branch.to.chain.0.as_bytes(),
        signed(parting.sequence()),
        parting.stays.0.as_bytes(),
        signed(branch.end.0),
    )
    .execute(transaction)
    .await?;
    Ok(())
}
