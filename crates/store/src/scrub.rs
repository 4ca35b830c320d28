//! The scrubber: hashes every stored body again within [`SCRUB_DAYS`], slice after slice of their hashes.
//!
//! Hashes are spread evenly, so that slices are equally large, and the rate follows from their number by itself.

use std::time::Duration;

use bruri_domain::{
    Sha256,
    limits::{DIGEST_ROWS_MAX, SCRUB_DAYS, SCRUB_SLICES},
};

use crate::{
    Store, StoreError,
    bodies::unpack,
    columns::{Row, signed},
    damaged::hashes,
    jobs::Lease,
};

const JOB: &str = "scrub";
/// From one slice to the next.
const SLICE_EVERY: Duration = Duration::from_secs(SCRUB_DAYS * 24 * 3600 / SCRUB_SLICES);
/// Bodies that are in memory at a time; each may be as large as a file.
const STEP: usize = 16;

/// What came of hashing bodies again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Scrubbed {
    /// How many there were.
    pub checked: u64,
    /// How many of them, and of those that are missing, are not what records reference.
    pub damaged: u64,
}

impl Store {
    /// Hashes the next slice of the bodies again, where that is due and no other process does; returns how long
    /// to wait until the next.
    ///
    /// # Errors
    /// Where the database does not answer.
    pub async fn scrub(&self) -> Result<Duration, StoreError> {
        let Some(lease) = Lease::take(self.pool(), JOB).await? else { return Ok(SLICE_EVERY) };
        let slice = sqlx::query_scalar!("select slice from job where job = $1", JOB)
            .fetch_one(self.pool())
            .await?;
        let slice = u16::try_from(slice).unwrap_or(0);
        let upto = slice.checked_add(1).map(first_of);
        self.check_bodies(Some(first_of(slice)), upto).await?;
        let next = i32::from(slice.wrapping_add(1));
        sqlx::query!("update job set slice = $2 where job = $1", JOB, next)
            .execute(self.pool())
            .await?;
        lease.give_back(self.pool(), None, SLICE_EVERY).await?;
        Ok(SLICE_EVERY)
    }

    /// Hashes all bodies again and looks for those that are missing.
    ///
    /// # Errors
    /// Where the database does not answer.
    pub async fn scrub_all(&self) -> Result<Scrubbed, StoreError> {
        let missing = self.note_missing().await?;
        let mut scrubbed = self.check_bodies(None, None).await?;
        scrubbed.damaged = scrubbed.damaged.saturating_add(missing);
        Ok(scrubbed)
    }

    /// Hashes the bodies from one hash to before another, and notes those that are damaged.
    async fn check_bodies(
        &self,
        from: Option<Sha256>,
        upto: Option<Sha256>,
    ) -> Result<Scrubbed, StoreError> {
        let upto = upto.map(|upto| upto.as_bytes().to_vec());
        let mut from = from.map(|from| from.as_bytes().to_vec()).unwrap_or_default();
        let mut scrubbed = Scrubbed::default();
        loop {
            let rows = sqlx::query!(
                "select sha256, bytes, content from body
                  where sha256 >= $1 and ($2::bytea is null or sha256 < $2)
                  order by sha256 limit $3",
                &from,
                upto.as_deref(),
                signed(STEP as u64),
            )
            .fetch_all(self.pool())
            .await?;
            let mut damaged = Vec::new();
            for row in &rows {
                let sha256 = Row { table: "body", key: &"a row" }.sha256("sha256", &row.sha256)?;
                let bytes = u64::try_from(row.bytes).unwrap_or(u64::MAX);
                if unpack(sha256, bytes, &row.content).is_err() {
                    damaged.push(sha256);
                }
            }
            self.note_damaged(&damaged).await?;
            scrubbed.checked = scrubbed.checked.saturating_add(rows.len() as u64);
            scrubbed.damaged = scrubbed.damaged.saturating_add(damaged.len() as u64);
            match rows.last() {
                // The smallest that is greater.
                Some(last) if rows.len() == STEP => {
                    from.clone_from(&last.sha256);
                    from.push(0);
                }
                _ => return Ok(scrubbed),
            }
        }
    }

    /// Notes bodies that records reference and that are not there.
    async fn note_missing(&self) -> Result<u64, StoreError> {
        let missing = sqlx::query_scalar!(
            r#"select distinct r.body as "body!" from record r
                where r.body is not null
                  and not exists (select from body b where b.sha256 = r.body)
                limit $1"#,
            signed(DIGEST_ROWS_MAX),
        )
        .fetch_all(self.pool())
        .await?;
        let missing: Vec<Sha256> = hashes("record", &missing)?;
        self.note_damaged(&missing).await?;
        Ok(missing.len() as u64)
    }
}

/// The first hash of a slice.
fn first_of(slice: u16) -> Sha256 {
    let mut first = [0; 32];
    if let Some(start) = first.first_chunk_mut() {
        *start = slice.to_be_bytes();
    }
    Sha256(first)
}
