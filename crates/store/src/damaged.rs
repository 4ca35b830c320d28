//! What is damaged, and its repair: states are made anew from their records, bodies come from peers.
//!
//! Table `damaged_body` names bodies that are missing, or not what their hash says, though records reference them. They are
//! never handed out meanwhile: whoever reads a body hashes it.

use std::collections::BTreeSet;

use bruri_domain::{
    Body, FileId, FileState, Sha256,
    limits::{COMMIT_TRIES_MAX, FETCHED_BODIES_MAX},
};
use bytes::Bytes;

use crate::{
    Store, StoreError,
    bodies::{Packed, pack, unpack},
    columns::{Row, signed},
    dropped, metrics,
};

/// What was found damaged here and put right.
#[derive(Clone, Debug, Default)]
pub struct Mended {
    /// Files whose states were made anew.
    pub files: Vec<FileId>,
    /// Files whose states cannot be, since records of theirs are damaged too.
    pub unmended: Vec<FileId>,
}

impl Store {
    /// Makes the state of a file anew if its row is damaged, missing or wrong, and tells so.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where records of it are damaged too.
    pub async fn mend_state(&self, file: &FileId) -> Result<bool, StoreError> {
        let mut tries = 1_u32;
        loop {
            match self.rebuild(file).await {
                Err(error) if error.is_transient() && tries < COMMIT_TRIES_MAX => {
                    tries = tries.saturating_add(1);
                }
                Ok(true) => {
                    tracing::error!(file.name = %file, "the state of a file was damaged: made anew from its records");
                    metrics::repaired("state", 1);
                    return Ok(true);
                }
                done => return done,
            }
        }
    }

    /// What is known of a file whose row, or the body it serves, turned out damaged, once the row is put right; and
    /// the body that is served is noted where it is, so that it is fetched. None where the records are damaged as
    /// well: then only peers know.
    ///
    /// # Errors
    /// Where the database does not answer.
    pub async fn mend(&self, file: &FileId) -> Result<Option<FileState>, StoreError> {
        let state = match self.mend_state(file).await {
            // While a snapshot is not filled in, the row counts if it is whole.
            Ok(_) | Err(StoreError::HistoryIncomplete) => self.known_of(file).await,
            Err(error) => Err(error),
        };
        let state = match state {
            Ok(state) => state,
            Err(error @ StoreError::Corrupt { .. }) => {
                tracing::error!(%error, file.name = %file, "the records of a file are damaged");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if let Some(body) = state.served().and_then(|head| head.body)
            && !self.contents(&[body]).await?.contains_key(&body.sha256)
        {
            self.note_damaged(&[body.sha256]).await?;
        }
        Ok(Some(state))
    }

    /// Makes anew the states of all files whose rows are damaged or missing.
    ///
    /// # Errors
    /// Where the database does not answer.
    pub async fn mend_all(&self, damaged: &[FileId]) -> Result<Mended, StoreError> {
        let mut mended = Mended::default();
        for file in damaged {
            match self.mend_state(file).await {
                Ok(_) => mended.files.push(file.clone()),
                Err(error @ (StoreError::Corrupt { .. } | StoreError::HistoryIncomplete)) => {
                    tracing::error!(%error, file.name = %file, "the state of a file cannot be made anew");
                    mended.unmended.push(file.clone());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(mended)
    }

    /// Notes bodies that are missing or damaged, of those that records reference.
    pub(crate) async fn note_damaged(&self, hashes: &[Sha256]) -> Result<(), StoreError> {
        if hashes.is_empty() {
            return Ok(());
        }
        let hashes: Vec<&[u8]> = hashes.iter().map(Sha256::as_bytes).collect();
        let noted = sqlx::query!(
            "insert into damaged_body (sha256)
             select found.sha256 from unnest($1::bytea[]) as found (sha256)
              where exists (select from record where record.body = found.sha256)
             on conflict do nothing",
            &hashes as _,
        )
        .execute(self.pool())
        .await?
        .rows_affected();
        if noted > 0 {
            tracing::error!(
                bodies = noted,
                "bodies are damaged or missing: they are fetched from peers"
            );
            metrics::damaged(noted);
        }
        self.inner.lacking.notify_one();
        Ok(())
    }

    /// Ends when a body is lacking that was not before; at once where that was so since the last time.
    pub async fn bodies_lacking(&self) {
        self.inner.lacking.notified().await;
    }

    /// Bodies to ask peers for, at most [`FETCHED_BODIES_MAX`]: those that are damaged or missing, and those
    /// that a file cannot be served without and that never came.
    ///
    /// # Errors
    /// Where the database does not answer.
    pub async fn lacking_bodies(&self) -> Result<BTreeSet<Sha256>, StoreError> {
        sqlx::query!(
            "delete from damaged_body d
              where not exists (select from record where record.body = d.sha256)"
        )
        .execute(self.pool())
        .await?;
        let rows = sqlx::query_scalar!(
            "update damaged_body set asked = asked + 1
              where sha256 in (select sha256 from damaged_body order by asked limit $1)
          returning sha256",
            signed(FETCHED_BODIES_MAX as u64),
        )
        .fetch_all(self.pool())
        .await?;
        let mut lacking: BTreeSet<Sha256> = hashes("damaged_body", &rows)?;
        let room = FETCHED_BODIES_MAX.saturating_sub(lacking.len());
        let wanted = self.wanted_bodies(u32::try_from(room).unwrap_or(u32::MAX)).await?;
        lacking.extend(wanted.into_iter().map(|body: Body| body.sha256));
        Ok(lacking)
    }

    /// How many bodies are damaged or missing, as far as that was found out.
    ///
    /// # Errors
    /// Where the database does not answer.
    pub async fn damaged_bodies(&self) -> Result<u64, StoreError> {
        let count = sqlx::query_scalar!(r#"select count(*) as "count!" from damaged_body"#);
        Ok(count.fetch_one(self.pool()).await?.unsigned_abs())
    }

    /// Takes in a body that a peer sent, where it is lacking; returns whether it was.
    ///
    /// # Errors
    /// Where the database does not answer.
    pub async fn take_body(&self, body: &Bytes) -> Result<bool, StoreError> {
        let packed = pack(body)?;
        let was_damaged = self.replace_body(Sha256::of(body), &packed).await?;
        let was_wanted = self.store_wanted(body).await?;
        Ok(was_damaged || was_wanted)
    }

    /// Puts the bytes of a damaged body in their place.
    async fn replace_body(&self, sha256: Sha256, packed: &Packed) -> Result<bool, StoreError> {
        let mut transaction = self.pool().begin().await?;
        let noted = sqlx::query!("delete from damaged_body where sha256 = $1", sha256.as_bytes())
            .execute(&mut *transaction)
            .await?;
        // Who erases or prunes it waits until it is there to be deleted.
        let record = sqlx::query!(
            "select log, sequence from record where body = $1 limit 1 for share",
            sha256.as_bytes(),
        )
        .fetch_optional(&mut *transaction)
        .await?;
        if noted.rows_affected() == 0 || record.is_none() {
            transaction.commit().await?;
            return Ok(false);
        }
        sqlx::query!(
            "insert into body (sha256, bytes, content) values ($1, $2, $3)
             on conflict (sha256) do update set bytes = excluded.bytes, content = excluded.content",
            sha256.as_bytes(),
            packed.bytes,
            &packed.frame as &[u8],
        )
        .execute(&mut *transaction)
        .await?;
        // Its last reference may have gone while it was missing.
        dropped::note(&mut transaction, BTreeSet::from([sha256])).await?;
        transaction.commit().await?;
        tracing::info!(body.sha256 = %sha256, "a damaged body was replaced by a peer's");
        metrics::repaired("body", 1);
        Ok(true)
    }

    /// Those of these bodies that are here and whole, up to so many bytes.
    ///
    /// # Errors
    /// Where the database does not answer.
    pub async fn whole_bodies(
        &self,
        hashes: &[Sha256],
        bytes_max: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
        let (mut bodies, mut bytes, mut damaged) = (Vec::new(), 0_usize, Vec::new());
        for sha256 in hashes {
            let row = sqlx::query!(
                "select bytes, content from body where sha256 = $1",
                sha256.as_bytes(),
            )
            .fetch_optional(self.pool())
            .await?;
            let Some(row) = row else { continue };
            match unpack(*sha256, u64::try_from(row.bytes).unwrap_or(u64::MAX), &row.content) {
                Ok(body) => {
                    bytes = bytes.saturating_add(body.len());
                    if bytes > bytes_max && !bodies.is_empty() {
                        break;
                    }
                    bodies.push(body);
                }
                Err(_) => damaged.push(*sha256),
            }
        }
        self.note_damaged(&damaged).await?;
        Ok(bodies)
    }
}

/// Reads hashes of a table.
pub(crate) fn hashes<T: FromIterator<Sha256>>(
    table: &'static str,
    rows: &[Vec<u8>],
) -> Result<T, StoreError> {
    let row = Row { table, key: &"of a list" };
    rows.iter().map(|hash| row.sha256("sha256", hash)).collect()
}
