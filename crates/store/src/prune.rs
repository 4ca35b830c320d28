//! Retention at work: bodies go that the rule lets go, file by file; records stay (law 2).
//!
//! What a version is never changes, so the rule is asked and bodies are compared without any lock. Only
//! which versions are heads may change meanwhile: that is looked at under the file's lock, in the
//! transaction that drops. Dropped bodies are deleted later, where nobody references them: see
//! `dropped.rs`.

use std::time::Duration;

use bruri_domain::{
    Body, Dot, FileId, FileState, HeldBy, Retention,
    limits::{
        COMMIT_TRIES_MAX, JOB_LEASE_SECONDS, RETENTION_FILES_MAX, RETENTION_RESTS,
        RETENTION_VERSIONS_MAX,
    },
};
use sqlx::PgConnection;
use tokio::time::{Instant, sleep};

use crate::{
    Store, StoreError, dropped,
    files::{self, Locking},
    filling, history,
    jobs::Lease,
    judge::{Judge, Place},
    metrics,
};

const JOB: &str = "retention";
/// A longer one might outlast the lease.
const REST_MAX: Duration = Duration::from_secs(JOB_LEASE_SECONDS / 4);

/// What retention goes by.
#[derive(Clone, Copy, Debug)]
pub struct Pruning {
    /// The policy of every realm.
    pub retention: Retention,
    /// Whether two bodies differ in call-log lines only.
    pub only_call_log: fn(&[u8], &[u8]) -> bool,
    /// How long a pass over all files rests before the next.
    pub rest: Duration,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Pruned {
    /// Versions that lost their body.
    pub versions: u64,
    /// Bodies that nobody referenced any more.
    pub bodies: u64,
    /// There are more files to look at now.
    pub more: bool,
}

impl Store {
    /// One turn of retention over the next [`RETENTION_FILES_MAX`] files, going on where the last turn of
    /// any process ended. Does nothing while another process has its turn, while the job rests, and while this machine's clock
    /// is not trusted: one that is years ahead would have all history be old.
    ///
    /// # Errors
    /// [`StoreError::Database`]; what was done until then stays done. A file that is damaged is passed
    /// over.
    pub async fn prune(&self, pruning: &Pruning) -> Result<Pruned, StoreError> {
        let mut done = Pruned::default();
        if !self.trusts_clock() {
            return Ok(done);
        }
        if filling::is_incomplete(self.pool()).await? {
            // The rule must see all versions of a file.
            return Ok(done);
        }
        let Some(mut lease) = Lease::take(self.pool(), JOB).await? else { return Ok(done) };
        let files = self.files_after(lease.after.as_ref()).await?;
        for file in &files {
            let began = Instant::now();
            let versions = self.prune_file(file, pruning, &mut lease).await;
            match versions {
                Ok(versions) => done.versions = done.versions.saturating_add(versions),
                Err(error @ StoreError::Corrupt { .. }) => {
                    tracing::error!(%error, "retention leaves a damaged file as it is");
                }
                Err(error) => return Err(error),
            }
            sleep(began.elapsed().saturating_mul(RETENTION_RESTS).min(REST_MAX)).await;
        }
        done.bodies = self.delete_dropped().await?;
        metrics::pruned(done.versions, done.bodies);
        done.more = is_full(files.len(), RETENTION_FILES_MAX);
        let after = files.last().filter(|_| done.more);
        lease.give_back(self.pool(), after, pruning.rest).await?;
        Ok(done)
    }

    async fn files_after(&self, after: Option<&FileId>) -> Result<Vec<FileId>, StoreError> {
        let rows = sqlx::query!(
            "select realm, name from file where (realm, name) > ($1, $2)
              order by realm, name limit $3",
            after.map_or("", |file| file.realm.as_str()),
            after.map_or("", |file| file.name.as_str()),
            i64::from(RETENTION_FILES_MAX),
        )
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(|row| files::file_id(&row.realm, &row.name)).collect()
    }

    /// Goes through the versions of a file, newest first; returns how many lost their body.
    async fn prune_file(
        &self,
        file: &FileId,
        pruning: &Pruning,
        lease: &mut Lease,
    ) -> Result<u64, StoreError> {
        let (mut judge, mut place, mut count) = (Judge::new(self, pruning), Place::FIRST, 0_u64);
        while lease.renew(self.pool()).await? {
            let page = self.candidates(file, place).await?;
            let mut going = Vec::new();
            for candidate in &page {
                if let Some(body) = judge.goes(candidate).await? {
                    going.push(Going { dot: &candidate.dot, place: candidate.place, body });
                }
            }
            count = count.saturating_add(self.drop_bodies(file, &going).await?);
            match page.last() {
                Some(last) if is_full(page.len(), RETENTION_VERSIONS_MAX) => place = last.place,
                _ => break,
            }
        }
        Ok(count)
    }

    async fn drop_bodies(&self, file: &FileId, going: &[Going<'_>]) -> Result<u64, StoreError> {
        let mut tries = 1_u32;
        loop {
            match self.try_drop_bodies(file, going).await {
                Err(error) if error.is_transient() && tries < COMMIT_TRIES_MAX => {
                    tries = tries.saturating_add(1);
                }
                done => return done,
            }
        }
    }

    /// Drops the bodies of those versions that no head holds.
    async fn try_drop_bodies(&self, file: &FileId, going: &[Going<'_>]) -> Result<u64, StoreError> {
        if going.is_empty() {
            return Ok(0);
        }
        let mut transaction = self.pool().begin().await?;
        let files = std::slice::from_ref(file);
        let locking = Locking::of(self.key(), files, &[]);
        let state = files::lock(&mut transaction, &locking).await?.states.remove(file);
        let Some(state) = state.transpose()? else { return Ok(0) };
        let Some(held_by) = held_by(&mut transaction, &state).await? else { return Ok(0) };
        let free: Vec<&Going<'_>> = going.iter().filter(|g| !held_by.holds(g.dot)).collect();
        let dropped = drop_from_records(&mut transaction, &free).await?;
        transaction.commit().await?;
        Ok(dropped)
    }
}

/// A version that the rule lets go.
struct Going<'a> {
    dot: &'a Dot,
    place: Place,
    body: Body,
}

fn is_full(rows: usize, rows_max: u32) -> bool {
    u32::try_from(rows).is_ok_and(|rows| rows >= rows_max)
}

/// The heads with their contexts; none where one of them cannot be read, and nothing may go.
async fn held_by(
    transaction: &mut PgConnection,
    state: &FileState,
) -> Result<Option<HeldBy>, StoreError> {
    let dots: Vec<Dot> = state.heads().iter().map(|head| head.dot.clone()).collect();
    let heads = history::versions_at(transaction, &dots).await?;
    let is_whole = heads.len() == dots.len();
    let heads = heads.into_iter().map(|head| (head.dot, head.version.context));
    Ok(is_whole.then(|| HeldBy(heads.collect())))
}

/// Takes the bodies from the records, and notes them for `dropped.rs`.
async fn drop_from_records(
    transaction: &mut PgConnection,
    free: &[&Going<'_>],
) -> Result<u64, StoreError> {
    let logs: Vec<i32> = free.iter().map(|going| going.place.log).collect();
    let sequences: Vec<i64> = free.iter().map(|going| going.place.sequence).collect();
    let dropped = sqlx::query!(
        "update record set body = null, pruned = true
           from unnest($1::integer[], $2::bigint[]) as gone (log, sequence)
          where record.log = gone.log and record.sequence = gone.sequence
            and record.body is not null",
        &logs,
        &sequences,
    )
    .execute(&mut *transaction)
    .await?;
    dropped::note(transaction, free.iter().map(|going| going.body.sha256).collect()).await?;
    Ok(dropped.rows_affected())
}
