//! Table `dropped_body`: bodies that lost a reference, deleted where that was the last.
//!
//! A body is shared by every record that names it, and somebody may be writing it this very moment. So it is
//! locked first, and only then the references are counted, by a statement of its own that sees all that was
//! committed until then. Who has just referenced it holds a lock on it, by the foreign key: it is passed
//! over, and not waited for. Who is about to finds it gone when his record is written: the foreign key
//! refuses, and the whole transaction is tried again, now with the body
//! ([`StoreError::is_transient`]). So no body is ever lost, and nobody waits in a circle (decision 7).

use std::collections::BTreeSet;

use bruri_domain::{Sha256, limits::DROPPED_BODIES_MAX};
use sqlx::PgConnection;

use crate::{Store, StoreError};

/// Notes bodies that just lost a reference, in the transaction that took it. A body that is noted
/// already is locked, so that who is deleting notes does not take this one for an old one.
pub(crate) async fn note(
    transaction: &mut PgConnection,
    hashes: BTreeSet<Sha256>,
) -> Result<(), StoreError> {
    let hashes: Vec<&[u8]> = hashes.iter().map(Sha256::as_bytes).collect();
    sqlx::query!(
        "insert into dropped_body (sha256) select * from unnest($1::bytea[])
         on conflict (sha256) do update set sha256 = excluded.sha256",
        &hashes as _,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

impl Store {
    /// Deletes the noted bodies that nobody references, and returns how many they were.
    pub(crate) async fn delete_dropped(&self) -> Result<u64, StoreError> {
        let mut count = 0_u64;
        loop {
            let deleted = self.delete_some().await?;
            count = count.saturating_add(deleted.bodies);
            if deleted.notes < u64::from(DROPPED_BODIES_MAX) {
                return Ok(count);
            }
        }
    }

    async fn delete_some(&self) -> Result<Deleted, StoreError> {
        let mut transaction = self.pool().begin().await?;
        let candidates = sqlx::query_scalar!(
            "select sha256 from dropped_body order by sha256 limit $1 for update skip locked",
            i64::from(DROPPED_BODIES_MAX),
        )
        .fetch_all(&mut *transaction)
        .await?;
        if candidates.is_empty() {
            return Ok(Deleted::default());
        }
        let locked = sqlx::query_scalar!(
            "select sha256 from body where sha256 = any($1) order by sha256
                for update skip locked",
            &candidates,
        )
        .fetch_all(&mut *transaction)
        .await?;
        let bodies = sqlx::query!(
            "delete from body
              where sha256 = any($1)
                and not exists (select from record where record.body = body.sha256)",
            &locked,
        )
        .execute(&mut *transaction)
        .await?;
        let notes = forget(&mut transaction, &candidates, &locked).await?;
        transaction.commit().await?;
        Ok(Deleted { bodies: bodies.rows_affected(), notes })
    }
}

/// Of one transaction.
#[derive(Default)]
struct Deleted {
    bodies: u64,
    notes: u64,
}

/// Forgets the notes that were dealt with: those of locked bodies, and of bodies that were gone already.
async fn forget(
    transaction: &mut PgConnection,
    candidates: &[Vec<u8>],
    locked: &[Vec<u8>],
) -> Result<u64, StoreError> {
    let forgotten = sqlx::query!(
        "delete from dropped_body
          where sha256 = any($1)
            and (sha256 = any($2)
                 -- Not `not exists`, which a plan for few notes answers by reading all bodies.
                 or (select true from body where body.sha256 = dropped_body.sha256 limit 1)
                    is null)",
        candidates,
        locked,
    )
    .execute(transaction)
    .await?;
    Ok(forgotten.rows_affected())
}
