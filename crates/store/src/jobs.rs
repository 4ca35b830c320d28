//! Table `job`: what one process of a site does at a time, and where it goes on. The database's clock counts,
//! and a fence tells who was overtaken; so a job must do no harm where two do it for a moment.

use std::time::{Duration, Instant};

use bruri_domain::{FileId, limits::JOB_LEASE_SECONDS};
use sqlx::PgPool;

use crate::{StoreError, files::file_id};

const LEASE: Duration = Duration::from_secs(JOB_LEASE_SECONDS);
/// Often enough that one late renewal costs nothing.
const RENEWAL: Duration = Duration::from_secs(JOB_LEASE_SECONDS / 3);

/// A job that was taken.
#[derive(Debug)]
pub(crate) struct Lease {
    job: &'static str,
    fence: i64,
    renewed: Instant,
    /// The last file that is done; none where all are to be done.
    pub(crate) after: Option<FileId>,
}

impl Lease {
    /// Takes a job, if it is due and nobody has it.
    pub(crate) async fn take(pool: &PgPool, job: &'static str) -> Result<Option<Self>, StoreError> {
        let renewed = Instant::now();
        let taken = sqlx::query!(
            "insert into job as held (job, fence, leased_until, due_at)
             values ($1, 1, now() + make_interval(secs => $2), now())
             on conflict (job) do update
                set fence = held.fence + 1, leased_until = excluded.leased_until
              where held.leased_until <= now() and held.due_at <= now()
          returning fence, after_realm, after_name",
            job,
            LEASE.as_secs_f64(),
        )
        .fetch_optional(pool)
        .await?;
        let Some(taken) = taken else { return Ok(None) };
        let after = match (taken.after_realm, taken.after_name) {
            (Some(realm), Some(name)) => Some(file_id(&realm, &name)?),
            _ => None,
        };
        Ok(Some(Self { job, fence: taken.fence, renewed, after }))
    }

    /// Keeps it, with little to do where it was renewed lately; `false` where another process has it now.
    pub(crate) async fn renew(&mut self, pool: &PgPool) -> Result<bool, StoreError> {
        if self.renewed.elapsed() < RENEWAL {
            return Ok(true);
        }
        let renewed = Instant::now();
        let kept = sqlx::query!(
            "update job set leased_until = now() + make_interval(secs => $3)
              where job = $1 and fence = $2",
            self.job,
            self.fence,
            LEASE.as_secs_f64(),
        )
        .execute(pool)
        .await?;
        self.renewed = renewed;
        Ok(kept.rows_affected() > 0)
    }

    /// Gives it back: the next one goes on after that file, or at the beginning when it has rested.
    pub(crate) async fn give_back(
        self,
        pool: &PgPool,
        after: Option<&FileId>,
        rest: Duration,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "update job
                set leased_until = now(), after_realm = $3, after_name = $4,
                    due_at = now() + make_interval(secs => $5)
              where job = $1 and fence = $2",
            self.job,
            self.fence,
            after.map(|file| file.realm.as_str()),
            after.map(|file| file.name.as_str()),
            if after.is_some() { 0.0 } else { rest.as_secs_f64() },
        )
        .execute(pool)
        .await?;
        Ok(())
    }
}
