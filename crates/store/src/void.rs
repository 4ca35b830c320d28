//! What other sites tell of logs of theirs that forked: whoever took the branch that gave way drops it, from whomever
//! it came. Behind a hub nobody else would say so.

use std::{error::Error, time::Duration};

use bruri_domain::{
    Cursor,
    fork::{Branch, Parting},
    limits::VOID_SECONDS,
};
use sqlx::PgConnection;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    Store, StoreError,
    columns::{Row, epoch_column, signed},
    control::{Effects, Place},
    logs::{self, LogRow},
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
        "update log set stays_sequence = $3, stays_chain = $4
          where site = $1 and epoch = $2 and not is_open and stays_sequence is null",
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

    /// Sets logs of other sites back whose branch here gave way; returns how many.
    pub async fn drop_void_branches(&self) -> Result<u64, StoreError> {
        let mut dropped = 0_u64;
        for parting in self.void_branches().await? {
            self.set_back(&parting).await?;
            dropped = dropped.saturating_add(1);
        }
        Ok(dropped)
    }

    async fn void_branches(&self) -> Result<Vec<Parting>, StoreError> {
        let rows = sqlx::query!(
            r#"select log.site, log.epoch, kind, predecessor_epoch, predecessor_sequence,
                      predecessor_chain, log.sequence, log.chain,
                      stays_sequence as "stays_sequence!", stays_chain as "stays_chain!"
                 from log
                 join record on record.log = log.id and record.sequence = log.stays_sequence
                where log.stays_sequence <= log.sequence and record.chain <> log.stays_chain
                  and log.site <> $1"#,
            self.site().as_str(),
        )
        .fetch_all(self.pool())
        .await?;
        let mut partings = Vec::with_capacity(rows.len());
        for found in rows {
            let row = Row { table: "log", key: &found.site };
            let first = row.number("stays_sequence", found.stays_sequence)?;
            let stays = row.chain("stays_chain", &found.stays_chain)?;
            let end = Cursor::try_from(LogRow {
                site: found.site.clone(),
                epoch: found.epoch,
                kind: found.kind,
                predecessor_epoch: found.predecessor_epoch,
                predecessor_sequence: found.predecessor_sequence,
                predecessor_chain: found.predecessor_chain,
                sequence: found.sequence,
                chain: found.chain,
            })?;
            let common = Cursor { sequence: first.saturating_sub(1), ..end };
            let chain = self.chain_at(&common).await?;
            let chain = chain.ok_or_else(|| StoreError::NotThere(common.log.id.clone()))?;
            partings.push(Parting { common: Cursor { chain, ..common }, stays });
        }
        Ok(partings)
    }
}
