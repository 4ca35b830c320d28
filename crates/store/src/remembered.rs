//! Table `remembered`: what phones had seen, written in groups off the phones' path (decision 6).
//!
//! An entry is in memory first (`unwritten`) and in the table some 100 ms later. A process that is
//! killed meanwhile loses it, and another `brurid` of the site does not see it yet: either costs a conflict
//! more or less, never data.

use std::{collections::BTreeMap, time::Duration};

use bruri_domain::{
    DeploymentKey, FileId, Remembered,
    limits::{REMEMBERED_DAYS_MAX, REMEMBERED_GROUP_MAX, REMEMBERED_MAX, REMEMBERED_WAIT_MILLIS},
};
use bruri_wire::record::{decode_context, encode_context};
use sqlx::PgConnection;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    Store, StoreError,
    columns::signed,
    erasures, files,
    unwritten::{Entry, Held, Mark},
};

const DAY_MICROS: u64 = 24 * 60 * 60 * 1_000_000;
const WAIT: Duration = Duration::from_millis(REMEMBERED_WAIT_MILLIS);
/// Until writing is tried again after the database did not do it.
const RETRY: Duration = Duration::from_secs(1);
/// How often what is too old is removed, at least.
const SWEEP: Duration = Duration::from_hours(1);
/// Entries written until the table is swept again: by so many it may have grown beyond its bound.
const SWEEP_ENTRIES: u64 = REMEMBERED_MAX / 16;
/// Rows that one statement removes.
const SWEEP_ROWS: i64 = 4096;

/// Entries of the phones that write in one group.
pub(crate) type Known = BTreeMap<FileId, Remembered>;

/// Writes what is remembered; run it as a task. It ends after the committer it came from, once all is
/// written.
pub struct Writer {
    pub(crate) store: Store,
    /// Nobody notes anything any more.
    pub(crate) closed: CancellationToken,
}

impl Writer {
    /// Writes group after group, and removes what is too old or too much.
    pub async fn run(self) {
        let mut sweeps = interval(SWEEP);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut written = 0_u64;
        while !self.closed.is_cancelled() {
            tokio::select! {
                () = self.closed.cancelled() => {}
                () = self.store.inner.unwritten.noted() => {
                    written = written.saturating_add(self.write_together().await);
                    if written >= SWEEP_ENTRIES {
                        sweeps.reset_immediately();
                        written = 0;
                    }
                }
                _ = sweeps.tick() => self.sweep().await,
            }
        }
        self.write().await;
    }

    /// Lets entries come together first.
    async fn write_together(&self) -> u64 {
        self.pause(WAIT).await;
        let written = self.write().await;
        if written.is_none() {
            self.pause(RETRY).await;
            self.store.inner.unwritten.wake();
        }
        written.unwrap_or(0)
    }

    async fn pause(&self, wait: Duration) {
        // It only ends early.
        let _ = timeout(wait, self.closed.cancelled()).await;
    }

    /// How many were written; none where the database did not do it.
    async fn write(&self) -> Option<u64> {
        match self.store.write_remembered().await {
            Ok(written) => Some(written),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "what phones had seen cannot be written yet"
                );
                None
            }
        }
    }

    async fn sweep(&self) {
        if let Err(error) = self.store.sweep_remembered(REMEMBERED_MAX).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "what phones had seen long ago cannot be removed yet"
            );
        }
    }
}

impl Store {
    /// Notes what a phone had seen; a version that it sends from now on carries it.
    pub fn remember(&self, mark: Mark, remembered: Remembered) {
        self.inner.unwritten.note(mark, remembered, self.inner.clock.now_micros());
    }

    /// The same where it may yet turn out not to be true: until [`Store::settle`] says. None where there
    /// is no room for it.
    pub fn hold(&self, mark: Mark, remembered: Remembered) -> Option<Held> {
        self.inner.unwritten.hold(mark, remembered, self.inner.clock.now_micros())
    }

    /// Tells of a held entry whether it was right; one that was not becomes blind, unless another has
    /// replaced it.
    pub fn settle(&self, held: &Held, is_right: bool) {
        self.inner.unwritten.settle(held, is_right);
    }

    /// Writes all that waits, and returns how many entries that were.
    pub async fn write_remembered(&self) -> Result<u64, StoreError> {
        let mut written = 0_u64;
        loop {
            let mut entries = self.inner.unwritten.some(REMEMBERED_GROUP_MAX);
            if entries.is_empty() {
                self.keep_told().await?;
                return Ok(written);
            }
            // So that two processes never wait for each other.
            entries
                .sort_by(|a, b| (&a.mark.file, &a.mark.phone).cmp(&(&b.mark.file, &b.mark.phone)));
            self.upsert(&entries).await?;
            self.inner.unwritten.written(&entries);
            written = written.saturating_add(entries.len() as u64);
        }
    }

    /// A row that says the same is left alone for a day, so that phones which only read write nothing. Nothing
    /// is written of a subject that was erased since, or is barred: its name would come back.
    async fn upsert(&self, entries: &[Entry]) -> Result<(), StoreError> {
        let columns = Columns::of(entries, self.key());
        let mut transaction = self.pool().begin().await?;
        erasures::hold_off(&mut transaction).await?;
        sqlx::query!(
            r#"insert into remembered (realm, name, phone, generation, context, noted_micros)
             select wanted.realm, wanted.name, wanted.phone, wanted.generation, wanted.context,
                    wanted.noted_micros
               from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bytea[],
                           $6::bigint[], $8::bytea[])
                    as wanted (realm, name, phone, generation, context, noted_micros, subject)
              where not exists (select from erased e
                                 where e.subject = wanted.subject
                                   and (e.barred or wanted.generation < e.generation))
                and not exists (select from remembered r
                                 where r.realm = wanted.realm and r.name = wanted.name
                                   and r.phone = wanted.phone
                                   and r.generation is not distinct from wanted.generation
                                   and r.context is not distinct from wanted.context
                                   and r.noted_micros > wanted.noted_micros - $7)
              order by wanted.realm collate "C", wanted.name collate "C", wanted.phone collate "C"
             on conflict (realm, name, phone) do update
                set generation = excluded.generation, context = excluded.context,
                    noted_micros = excluded.noted_micros"#,
            &columns.realms as _,
            &columns.names as _,
            &columns.phones as _,
            &columns.generations as _,
            &columns.contexts as _,
            &columns.times,
            signed(DAY_MICROS),
            &columns.subjects as _,
        )
        .execute(&mut *transaction)
        .await?;
        let told = self.write_told(&mut transaction).await?;
        transaction.commit().await?;
        self.inner.told.written(&told);
        Ok(())
    }

    /// Removes entries that are too old, and beyond `entries_max` the oldest. Each `brurid` of a site may do
    /// so at any time: doing it twice does no harm, so no lease is needed.
    pub async fn sweep_remembered(&self, entries_max: u64) -> Result<(), StoreError> {
        let first_beyond = sqlx::query_scalar!(
            "select noted_micros from remembered order by noted_micros desc offset $1 limit 1",
            signed(entries_max),
        )
        .fetch_optional(self.pool())
        .await?;
        let last = self.expired_micros().max(first_beyond.unwrap_or(0));
        loop {
            let removed = sqlx::query!(
                "delete from remembered
                  where (realm, name, phone) in
                        (select realm, name, phone from remembered
                          where noted_micros <= $1 order by noted_micros limit $2)",
                last,
                SWEEP_ROWS,
            )
            .execute(self.pool())
            .await?;
            if removed.rows_affected() < SWEEP_ROWS.unsigned_abs() {
                return Ok(());
            }
        }
    }

    /// What was noted then or before counts no more.
    pub(crate) fn expired_micros(&self) -> i64 {
        let kept = DAY_MICROS.saturating_mul(REMEMBERED_DAYS_MAX);
        signed(self.inner.clock.now_micros().saturating_sub(kept))
    }
}

/// Forgets what phones had seen of these files.
pub(crate) async fn forget(
    transaction: &mut PgConnection,
    files: &[FileId],
) -> Result<(), StoreError> {
    let (realms, names) = files::key_columns(files);
    sqlx::query!(
        "delete from remembered
          using unnest($1::text[], $2::text[]) as gone (realm, name)
          where remembered.realm = gone.realm and remembered.name = gone.name",
        &realms as _,
        &names as _,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// Reads an entry from its columns. One that cannot be read is none: it costs a conflict at most.
pub(crate) fn remembered(generation: Option<i64>, context: Option<&[u8]>) -> Option<Remembered> {
    let (Some(generation), Some(context)) = (generation, context) else {
        return Some(Remembered::Blind);
    };
    let (generation, context) = (u64::try_from(generation).ok()?, decode_context(context).ok()?);
    Some(Remembered::Seen { generation, context })
}

#[derive(Default)]
struct Columns<'a> {
    realms: Vec<&'a str>,
    names: Vec<&'a str>,
    phones: Vec<&'a str>,
    generations: Vec<Option<i64>>,
    contexts: Vec<Option<Vec<u8>>>,
    times: Vec<i64>,
    subjects: Vec<Vec<u8>>,
}

impl<'a> Columns<'a> {
    fn of(entries: &'a [Entry], key: &DeploymentKey) -> Self {
        let mut columns = Self::default();
        for entry in entries {
            let (generation, context) = match &entry.remembered {
                Remembered::Blind => (None, None),
                Remembered::Seen { generation, context } => {
                    (Some(signed(*generation)), Some(encode_context(context)))
                }
            };
            columns.realms.push(entry.mark.file.realm.as_str());
            columns.names.push(entry.mark.file.name.as_str());
            columns.phones.push(entry.mark.phone.as_str());
            columns.generations.push(generation);
            columns.contexts.push(context);
            columns.times.push(signed(entry.noted_micros));
            let subject = key.subject_hash(entry.mark.file.subject());
            columns.subjects.push(subject.as_bytes().to_vec());
        }
        columns
    }
}
