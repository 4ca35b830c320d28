//! A snapshot that is given up: a log forked, and the states that a peer copied may know of the branch that gave way.
//!
//! All is made as the records say that are here: the logs go back to where their history is whole, which is said at once, and
//! then the states are made anew, some files at a time. Until the last of them is, no new snapshot begins.

use std::collections::BTreeSet;

use bruri_domain::{
    FileId, LogKind, Sha256,
    limits::{COMMIT_TRIES_MAX, REBUILD_FILES_MAX},
};
use sqlx::PgConnection;

use crate::{
    Store, StoreError,
    columns::{Row, kind_column},
    dropped,
    files::{self, Locking, file_id},
    filling, rebuild, remembered,
};

impl Store {
    /// Ends a snapshot that is not filled in. What it brought may come again, with records or with another one.
    ///
    /// # Errors
    /// Where the database does not answer; then it goes on when it is called again, or by
    /// [`Store::keep_to_staying_branches`].
    pub async fn give_snapshot_up(&self) -> Result<(), StoreError> {
        let mut transaction = self.pool().begin().await?;
        if filling::is_incomplete(&mut *transaction).await? {
            begin(&mut transaction).await?;
            transaction.commit().await?;
            tracing::warn!("a log forked: the snapshot is given up, and states are made anew");
            self.inner.wakeups.wake();
        }
        self.go_on_giving_up().await
    }

    /// Goes on with what was begun, to the end.
    pub(crate) async fn go_on_giving_up(&self) -> Result<(), StoreError> {
        let mut tries = 1_u32;
        loop {
            match self.give_some_up().await {
                Ok(true) => tries = 1,
                Ok(false) => return Ok(()),
                Err(error) if error.is_transient() && tries < COMMIT_TRIES_MAX => {
                    tries = tries.saturating_add(1);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The next files; returns whether there may be more.
    async fn give_some_up(&self) -> Result<bool, StoreError> {
        let mut transaction = self.pool().begin().await?;
        let Some((realm, name)) = reached(&mut transaction).await? else { return Ok(false) };
        let files = files_after(&mut transaction, (&realm, &name)).await?;
        let locked = files::lock(&mut transaction, &Locking::of(self.key(), &files, &[])).await?;
        // No record is added to a log meanwhile, and no cursor moved.
        let rows = sqlx::query_scalar!(
            "select id from log where kind = $1 and not is_open order by id for share",
            kind_column(LogKind::Files),
        );
        rows.fetch_all(&mut *transaction).await?;
        let Some(last) = files.last() else {
            self.end(&mut transaction).await?;
            transaction.commit().await?;
            tracing::warn!("the snapshot is given up");
            self.inner.wakeups.wake();
            return Ok(false);
        };
        self.delete_beyond(&mut transaction, &files).await?;
        rebuild::from_records(&mut transaction, &files, &locked).await?;
        remembered::forget(&mut transaction, &files).await?;
        let moved = sqlx::query!(
            "update snapshot set after_realm = $1, after_name = $2
              where given_up and after_realm = $3 and after_name = $4",
            last.realm.as_str(),
            last.name.as_str(),
            realm,
            name,
        );
        if moved.execute(&mut *transaction).await?.rows_affected() > 0 {
            transaction.commit().await?;
            self.inner.unwritten.forget(&files);
        }
        Ok(true)
    }

    /// Deletes what is here of these files of logs that have not come so far.
    async fn delete_beyond(
        &self,
        transaction: &mut PgConnection,
        files: &[FileId],
    ) -> Result<(), StoreError> {
        let (realms, names) = files::key_columns(files);
        let bodies = sqlx::query_scalar!(
            "delete from record
              using log, unnest($1::text[], $2::text[]) as of (realm, name)
              where record.log = log.id and record.realm = of.realm and record.name = of.name
                and log.site <> $3 and record.sequence > log.sequence
          returning record.body",
            &realms as _,
            &names as _,
            self.site().as_str(),
        )
        .fetch_all(&mut *transaction)
        .await?;
        note(transaction, bodies.into_iter().flatten()).await
    }

    /// What is left beyond the logs' ends is of no file that is here.
    async fn end(&self, transaction: &mut PgConnection) -> Result<(), StoreError> {
        let bodies = sqlx::query_scalar!(
            "delete from record using log
              where record.log = log.id and log.site <> $1 and log.kind = $2
                and record.sequence > log.sequence
          returning record.body",
            self.site().as_str(),
            kind_column(LogKind::Files),
        )
        .fetch_all(&mut *transaction)
        .await?;
        note(transaction, bodies.into_iter().flatten()).await?;
        sqlx::query!(
            "delete from unread_record using log
              where unread_record.log = log.id and log.site <> $1 and log.kind = $2
                and unread_record.sequence > log.sequence",
            self.site().as_str(),
            kind_column(LogKind::Files),
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!("update log set stated_sequence = 0 where stated_sequence > 0")
            .execute(&mut *transaction)
            .await?;
        sqlx::query!("delete from snapshot").execute(transaction).await?;
        Ok(())
    }
}

async fn note(
    transaction: &mut PgConnection,
    bodies: impl Iterator<Item = Vec<u8>>,
) -> Result<(), StoreError> {
    let read = |hash: Vec<u8>| Row { table: "record", key: &"of a snapshot" }.sha256("body", &hash);
    let bodies: BTreeSet<Sha256> = bodies.map(read).collect::<Result<_, _>>()?;
    dropped::note(transaction, bodies).await
}

/// The logs go back, and whoever looks knows that the states do not belong to them.
async fn begin(transaction: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into snapshot (after_realm, after_name, files, given_up) values ('', '', 0, true)
         on conflict (only_row) do update
            set after_realm = case when snapshot.given_up then snapshot.after_realm else '' end,
                after_name = case when snapshot.given_up then snapshot.after_name else '' end,
                given_up = true",
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        "update log
            set sequence = coalesce(filled_sequence, sequence),
                chain = coalesce(filled_chain, chain),
                filled_sequence = null, filled_chain = null,
                floor_sequence = null, floor_chain = null,
                noted_sequence = null, noted_chain = null
          where floor_sequence is not null or noted_sequence is not null",
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// Up to which file all is made anew; none where no snapshot is given up.
async fn reached(transaction: &mut PgConnection) -> Result<Option<(String, String)>, StoreError> {
    let row = sqlx::query!("select after_realm, after_name from snapshot where given_up");
    let row = row.fetch_optional(transaction).await?;
    Ok(row.map(|row| (row.after_realm, row.after_name)))
}

async fn files_after(
    transaction: &mut PgConnection,
    (realm, name): (&str, &str),
) -> Result<Vec<FileId>, StoreError> {
    let rows = sqlx::query!(
        "select realm, name from file where (realm, name) > ($1, $2)
          order by realm, name limit $3",
        realm,
        name,
        i64::try_from(REBUILD_FILES_MAX).unwrap_or(i64::MAX),
    );
    let rows = rows.fetch_all(transaction).await?;
    rows.into_iter().map(|row| file_id(&row.realm, &row.name)).collect()
}
