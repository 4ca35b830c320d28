//! What other sites tell of logs of theirs that forked: whoever took the branch that gave way drops it, from whomever
//! it came. Behind a hub nobody else would say so.

use std::{collections::BTreeSet, error::Error, time::Duration};

use bruri_domain::{
    Cursor, FileId, FileState, LogKind,
    fork::{Branch, Parting},
    limits::VOID_SECONDS,
};
use sqlx::PgConnection;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    Store, StoreError,
    columns::{epoch_column, kind_column, signed},
    control::{Effects, Place},
    copied,
    files::{self, Locking},
    filling,
    logs::{self, LogRow},
    rebuild, remembered,
};

/// Takes in where a log of the record's own site parted: from now on the other branch is taken from nobody.
pub(crate) async fn told(
    transaction: &mut PgConnection,
    place: Place<'_>,
    branch: &Branch,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let parting = branch.parting(&place.dot.log.site);
    let id = &parting.common.log.id;
    // A log of which nothing is here may still come, from who has not heard.
    let begin = Cursor::at_beginning(parting.common.log.clone());
    logs::insert_cursor(&mut *transaction, &begin).await?;
    sqlx::query!(
        "update log set stays_sequence = coalesce(stays_sequence, $3),
                        stays_chain = coalesce(stays_chain, $4), parting_due = true
          where site = $1 and epoch = $2 and not is_open",
        id.site.as_str(),
        epoch_column(id.epoch),
        signed(parting.sequence()),
        parting.stays.0.as_bytes(),
    )
    .execute(transaction)
    .await?;
    effects.parted = true;
    Ok(())
}

impl Store {
    /// Drops what is held of branches that gave way, until `stop`; every `brurid` of a site may.
    pub async fn keep_to_staying_branches(&self, stop: CancellationToken) {
        let look = Duration::from_secs(VOID_SECONDS);
        while !stop.is_cancelled() {
            if let Err(error) = self.drop_void_branches().await {
                let error = &error as &dyn Error;
                tracing::warn!(error, "a branch that gave way cannot be dropped yet");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                // It only ends early.
                _ = timeout(look, self.inner.parted.notified()) => {}
            }
        }
    }

    /// Does what is due where sites told of logs of theirs that forked; returns how many logs were set back.
    pub async fn drop_void_branches(&self) -> Result<u64, StoreError> {
        self.go_on_giving_up().await?;
        let mut dropped = 0_u64;
        for due in self.due().await? {
            self.give_snapshot_up().await?;
            if let Some(parting) = self.void_branch(&due).await? {
                self.set_back(&parting).await?;
                dropped = dropped.saturating_add(1);
            } else {
                self.cleanse(&due).await?;
            }
        }
        Ok(dropped)
    }

    /// The logs for which nothing was done yet, and where the branches begin that stay.
    async fn due(&self) -> Result<Vec<Due>, StoreError> {
        let rows = sqlx::query!(
            r#"select id, site, epoch, kind, predecessor_epoch, predecessor_sequence,
                      predecessor_chain, stays_sequence as "sequence!", stays_chain as "chain!"
                 from log where parting_due"#,
        )
        .fetch_all(self.pool())
        .await?;
        let read = rows.into_iter().map(|row| {
            let stays = Cursor::try_from(LogRow {
                site: row.site,
                epoch: row.epoch,
                kind: row.kind,
                predecessor_epoch: row.predecessor_epoch,
                predecessor_sequence: row.predecessor_sequence,
                predecessor_chain: row.predecessor_chain,
                sequence: row.sequence,
                chain: row.chain,
            })?;
            Ok(Due { row: row.id, stays })
        });
        read.collect()
    }

    /// Where a log of another site parted, if the branch that gave way is here.
    async fn void_branch(&self, due: &Due) -> Result<Option<Parting>, StoreError> {
        let Cursor { log, sequence, chain: stays } = due.stays.clone();
        let ours = self.chain_at(&due.stays).await?;
        if log.id.site == *self.site() || ours.is_none_or(|ours| ours == stays) {
            return Ok(None);
        }
        let common = Cursor { sequence: sequence.saturating_sub(1), ..Cursor::at_beginning(log) };
        let chain = self.chain_at(&common).await?;
        let chain = chain.ok_or_else(|| StoreError::NotThere(common.log.id.clone()))?;
        Ok(Some(Parting { common: Cursor { chain, ..common }, stays }))
    }

    /// The branch that gave way is not here, but states that a peer copied may know of it: these are made anew.
    async fn cleanse(&self, due: &Due) -> Result<(), StoreError> {
        let before = Cursor { sequence: due.stays.sequence.saturating_sub(1), ..due.stays.clone() };
        let mut transaction = self.pool().begin().await?;
        // From here on no more states come of which that may be true.
        done(&mut transaction, due.row).await?;
        if filling::is_incomplete(&mut *transaction).await? {
            return Err(StoreError::HistoryIncomplete);
        }
        let files: Vec<FileId> =
            copied_beyond(&mut transaction, &before).await?.into_iter().collect();
        let locked = files::lock(&mut transaction, &Locking::of(self.key(), &files, &[])).await?;
        rebuild::from_records(&mut transaction, &files, &locked).await?;
        remembered::forget(&mut transaction, &files).await?;
        transaction.commit().await?;
        self.inner.unwritten.forget(&files);
        tracing::info!(log = %before.log.id, files = files.len(), "a log forked: no state knows of the other branch");
        Ok(())
    }
}

/// A log for which nothing was done yet.
struct Due {
    row: i32,
    /// The first place of the branch that stays.
    stays: Cursor,
}

/// What was told of a log is done with, when the transaction commits. Until then nobody takes states of a peer, and
/// everybody waits for who does.
pub(crate) async fn done(transaction: &mut PgConnection, row: i32) -> Result<(), StoreError> {
    let done = sqlx::query!("update log set parting_due = false where id = $1", row);
    done.execute(transaction).await?;
    Ok(())
}

/// Whether something is still to be done for a log that forked.
pub(crate) async fn are_due(transaction: &mut PgConnection) -> Result<bool, StoreError> {
    let due = sqlx::query_scalar!(r#"select exists (select from log where parting_due) as "is!""#);
    Ok(due.fetch_one(transaction).await?)
}

/// Where the branches begin that stay, of logs that forked.
pub(crate) async fn known(transaction: &mut PgConnection) -> Result<Vec<Cursor>, StoreError> {
    let rows = sqlx::query_as!(
        LogRow,
        r#"select site, epoch, kind, predecessor_epoch, predecessor_sequence, predecessor_chain,
                  stays_sequence as "sequence!", stays_chain as "chain!"
             from log where stays_sequence is not null"#,
    );
    rows.fetch_all(transaction).await?.into_iter().map(Cursor::try_from).collect()
}

/// Holds off who drops void branches, until the transaction ends: states are joined that a peer copied who knows of these
/// logs that they forked.
///
/// # Errors
/// [`StoreError::StatesIncomplete`] where something is still to be done for a log, [`StoreError::PartingUnheard`] where
/// the peer knows too little.
pub(crate) async fn hold(
    transaction: &mut PgConnection,
    theirs: &[Cursor],
) -> Result<(), StoreError> {
    let rows = sqlx::query_scalar!(
        "select id from log where kind = $1 and not is_open order by id for share",
        kind_column(LogKind::Files),
    );
    rows.fetch_all(&mut *transaction).await?;
    if are_due(&mut *transaction).await? {
        return Err(StoreError::StatesIncomplete);
    }
    let ours = known(&mut *transaction).await?;
    let unheard = ours.into_iter().find(|ours| !theirs.contains(ours));
    unheard.map_or(Ok(()), |unheard| Err(StoreError::PartingUnheard(unheard.log.id)))
}

/// Notes how much of logs states may know that a peer copied.
pub(crate) async fn note_stated(
    transaction: &mut PgConnection,
    vector: &[Cursor],
) -> Result<(), StoreError> {
    let sites: Vec<&str> = vector.iter().map(|cursor| cursor.log.id.site.as_str()).collect();
    let epochs: Vec<i64> = vector.iter().map(|c| epoch_column(c.log.id.epoch)).collect();
    let sequences: Vec<i64> = vector.iter().map(|cursor| signed(cursor.sequence)).collect();
    let missing = sqlx::query_scalar!(
        r#"select new.place as "place!"
             from unnest($1::text[], $2::bigint[]) with ordinality as new (site, epoch, place)
            where not exists (select from log
                               where log.site = new.site and log.epoch = new.epoch)"#,
        &sites as _,
        &epochs,
    )
    .fetch_all(&mut *transaction)
    .await?;
    for place in missing {
        let place = usize::try_from(place).ok().and_then(|place| place.checked_sub(1));
        if let Some(cursor) = place.and_then(|place| vector.get(place)) {
            logs::insert_cursor(transaction, &Cursor::at_beginning(cursor.log.clone())).await?;
        }
    }
    sqlx::query!(
        "update log set stated_sequence = new.sequence
           from unnest($1::text[], $2::bigint[], $3::bigint[]) as new (site, epoch, sequence)
          where log.site = new.site and log.epoch = new.epoch
            and log.stated_sequence < new.sequence",
        &sites as _,
        &epochs,
        &sequences,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// The files of which a state that a peer copied may know more of a log than is before a place. All states are looked
/// at: that is rare.
pub(crate) async fn copied_beyond(
    transaction: &mut PgConnection,
    place: &Cursor,
) -> Result<BTreeSet<FileId>, StoreError> {
    let known = sqlx::query_scalar!(
        "select stated_sequence from log where site = $1 and epoch = $2",
        place.log.id.site.as_str(),
        epoch_column(place.log.id.epoch),
    );
    let known = known.fetch_optional(&mut *transaction).await?.unwrap_or(0);
    let mut files = BTreeSet::new();
    if known <= signed(place.sequence) {
        return Ok(files);
    }
    let mut last: Option<FileId> = None;
    loop {
        let (states, is_last) = copied::states(&mut *transaction, last.as_ref()).await?;
        let is_beyond = |(_, state): &&(FileId, FileState)| {
            state.context().last_of(&place.log.id) > place.sequence
        };
        files.extend(states.iter().filter(is_beyond).map(|(file, _)| file.clone()));
        last = states.into_iter().next_back().map(|(file, _)| file);
        if is_last || last.is_none() {
            return Ok(files);
        }
    }
}
