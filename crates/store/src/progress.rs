//! How far a snapshot came: table `snapshot`, and what it notes in table `log`.

use bruri_domain::{Cursor, FileId};
use sqlx::PgConnection;

use crate::{
    StoreError,
    columns::{self, signed},
    logs::{self, LogRow},
    snapshot::IncomingStates,
};

/// A snapshot that came as far as one of these files, which are erased, goes on after one that is still there, or
/// begins again.
pub(crate) async fn step_back(
    transaction: &mut PgConnection,
    (realms, names): (&[&str], &[&str]),
) -> Result<(), StoreError> {
    let here = sqlx::query!(
        "select realm, name from file
          where (realm, name) < (select s.after_realm, s.after_name
                                   from snapshot s
                                   join unnest($1::text[], $2::text[]) as gone (realm, name)
                                     on s.after_realm = gone.realm and s.after_name = gone.name)
          order by realm desc, name desc limit 1",
        realms as _,
        names as _,
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let (realm, name) = here.map(|file| (file.realm, file.name)).unzip();
    sqlx::query!(
        "update snapshot set after_realm = $3, after_name = $4
           from unnest($1::text[], $2::text[]) as gone (realm, name)
          where after_realm = gone.realm and after_name = gone.name and $3::text is not null",
        realms as _,
        names as _,
        realm,
        name,
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        "delete from snapshot
          using unnest($1::text[], $2::text[]) as gone (realm, name)
          where after_realm = gone.realm and after_name = gone.name",
        realms as _,
        names as _,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// Notes the last file that came.
pub(crate) async fn step(
    transaction: &mut PgConnection,
    states: &IncomingStates,
    last: &FileId,
) -> Result<(), StoreError> {
    let count = signed(states.copied.files.len() as u64);
    let moved = match &states.after {
        None => {
            sqlx::query!(
                "insert into snapshot (after_realm, after_name, files) values ($1, $2, $3)
                 on conflict do nothing",
                last.realm.as_str(),
                last.name.as_str(),
                count,
            )
            .execute(&mut *transaction)
            .await?
        }
        Some(after) => {
            sqlx::query!(
                "update snapshot
                    set after_realm = $1, after_name = $2, files = files + $3
                  where after_realm = $4 and after_name = $5 and not given_up",
                last.realm.as_str(),
                last.name.as_str(),
                count,
                after.realm.as_str(),
                after.name.as_str(),
            )
            .execute(&mut *transaction)
            .await?
        }
    };
    if moved.rows_affected() == 0 { Err(StoreError::SnapshotMoved) } else { Ok(()) }
}

/// What was noted until now.
pub(crate) async fn noted(transaction: &mut PgConnection) -> Result<Vec<Cursor>, StoreError> {
    let rows = sqlx::query_as!(
        LogRow,
        r#"select site, epoch, kind, predecessor_epoch, predecessor_sequence, predecessor_chain,
                  noted_sequence as "sequence!", noted_chain as "chain!"
             from log where noted_sequence is not null"#,
    );
    rows.fetch_all(transaction).await?.into_iter().map(Cursor::try_from).collect()
}

/// The row of a log, which is made where it is missing.
pub(crate) async fn row_of(
    transaction: &mut PgConnection,
    beginning: &Cursor,
) -> Result<i32, StoreError> {
    if let Some(row) = logs::insert_cursor(&mut *transaction, beginning).await? {
        return Ok(row);
    }
    let row = sqlx::query_scalar!(
        "select id from log where site = $1 and epoch = $2",
        beginning.log.id.site.as_str(),
        columns::epoch_column(beginning.log.id.epoch),
    );
    Ok(row.fetch_one(transaction).await?)
}

/// All states are here: the logs go on from the noted places.
pub(crate) async fn jump(transaction: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query!(
        "update log
            set filled_sequence = sequence, filled_chain = chain,
                floor_sequence = noted_sequence, floor_chain = noted_chain,
                sequence = noted_sequence, chain = noted_chain
          where noted_sequence > sequence and not is_open",
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        "update log set noted_sequence = null, noted_chain = null
                   where noted_sequence is not null"
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!("delete from snapshot").execute(transaction).await?;
    Ok(())
}
