//! Carrying an erasure out: whatever is older loses its content and its names, and keeps its place in the log.

use std::collections::{BTreeMap, BTreeSet};

use bruri_domain::{DeploymentKey, Erased, FileId, Sha256, limits::ERASED_RECORDS_MAX};
use bruri_wire::record::decode_envelope;
use sqlx::{PgConnection, PgPool};

use crate::{
    StoreError,
    columns::{Row, signed},
    dropped,
    files::{self, Locking, file_id, key_columns},
    progress, rebuild, remembered, unread,
};

/// What was removed.
#[derive(Default)]
pub(crate) struct Removed {
    /// Versions that lost their content.
    pub(crate) versions: u64,
    /// Different bodies that they named.
    pub(crate) bodies: u64,
    /// The subject's files.
    pub(crate) files: Vec<FileId>,
}

/// Erases what is older than the subject's generation, and makes the states of its files anew from what is
/// left. After [`crate::erasures::begin`], and after the generation was written.
pub(crate) async fn carry_out(
    transaction: &mut PgConnection,
    key: &DeploymentKey,
    (subject, erased): (&Sha256, &Erased),
) -> Result<Removed, StoreError> {
    let unread = unread::erase(&mut *transaction, &[subject]).await?;
    let files = files_of(&mut *transaction, key, subject).await?;
    if files.is_empty() {
        return Ok(Removed { versions: unread, ..Removed::default() });
    }
    let locked = files::lock(&mut *transaction, &Locking::of(key, &files, &[])).await?;
    let (mut versions, mut bodies) = (unread, BTreeSet::new());
    for file in &files {
        let generation = signed(erased.generation());
        let dropped = drop_records(&mut *transaction, file, generation.unsigned_abs()).await?;
        versions = versions.saturating_add(dropped.versions);
        bodies.extend(dropped.bodies);
    }
    let count = bodies.len() as u64;
    dropped::note(&mut *transaction, bodies).await?;
    remembered::forget(&mut *transaction, &files).await?;
    rebuild::rebuild_locked(&mut *transaction, &files, &locked).await?;
    forget_beside(&mut *transaction, &files).await?;
    Ok(Removed { versions, bodies: count, files })
}

/// The newest generation that a file of the subject has here.
pub(crate) async fn newest_generation(
    transaction: &mut PgConnection,
    key: &DeploymentKey,
    subject: &Sha256,
) -> Result<u64, StoreError> {
    let files = files_of(&mut *transaction, key, subject).await?;
    let locked = files::lock(transaction, &Locking::of(key, &files, &[])).await?;
    let states = locked.states.values().filter_map(|state| state.as_ref().ok());
    Ok(states.map(bruri_domain::FileState::generation).max().unwrap_or(0))
}

/// The subject's files, sorted. A `brurid` of an earlier release may have made some without noting the subject.
async fn files_of(
    transaction: &mut PgConnection,
    key: &DeploymentKey,
    subject: &Sha256,
) -> Result<Vec<FileId>, StoreError> {
    let rows = sqlx::query!("select realm, name from file where subject = $1", subject.as_bytes(),)
        .fetch_all(&mut *transaction)
        .await?;
    let mut files = BTreeSet::new();
    for row in rows {
        files.insert(file_id(&row.realm, &row.name)?);
    }
    let rows = sqlx::query!("select realm, name from file where subject is null")
        .fetch_all(transaction)
        .await?;
    for row in rows {
        let file = file_id(&row.realm, &row.name)?;
        if key.subject_hash(file.subject()) == *subject {
            files.insert(file);
        }
    }
    Ok(files.into_iter().collect())
}

/// What the records of one file lost.
#[derive(Default)]
struct Dropped {
    versions: u64,
    bodies: BTreeSet<Sha256>,
}

/// Leaves nothing of a file's records of older generations but envelope and place.
async fn drop_records(
    transaction: &mut PgConnection,
    file: &FileId,
    generation: u64,
) -> Result<Dropped, StoreError> {
    let (mut dropped, mut after) = (Dropped::default(), (0, 0));
    loop {
        let page = page(&mut *transaction, file, after).await?;
        let old: Vec<&Record> = page.iter().filter(|r| r.generation < generation).collect();
        forget_records(&mut *transaction, &old).await?;
        dropped.versions = dropped.versions.saturating_add(old.len() as u64);
        dropped.bodies.extend(old.iter().filter_map(|record| record.body));
        match page.last() {
            Some(last) if page.len() as u64 >= ERASED_RECORDS_MAX => {
                after = (last.log, last.sequence);
            }
            _ => return Ok(dropped),
        }
    }
}

struct Record {
    log: i32,
    sequence: i64,
    generation: u64,
    body: Option<Sha256>,
}

async fn page(
    transaction: &mut PgConnection,
    file: &FileId,
    after: (i32, i64),
) -> Result<Vec<Record>, StoreError> {
    let rows = sqlx::query!(
        "select log, sequence, envelope, body from record
          where realm = $1 and name = $2 and (log, sequence) > ($3, $4)
          order by log, sequence limit $5",
        file.realm.as_str(),
        file.name.as_str(),
        after.0,
        after.1,
        signed(ERASED_RECORDS_MAX),
    )
    .fetch_all(transaction)
    .await?;
    let mut records = Vec::with_capacity(rows.len());
    for found in rows {
        let row = Row { table: "record", key: &found.sequence };
        // One that cannot be read goes, too: nothing could be served of it.
        let generation = decode_envelope(&found.envelope).map_or(0, |e| e.generation);
        let body = found.body.map(|hash| row.sha256("body", &hash)).transpose()?;
        records.push(Record { log: found.log, sequence: found.sequence, generation, body });
    }
    Ok(records)
}

async fn forget_records(
    transaction: &mut PgConnection,
    records: &[&Record],
) -> Result<(), StoreError> {
    if records.is_empty() {
        return Ok(());
    }
    let logs: Vec<i32> = records.iter().map(|record| record.log).collect();
    let sequences: Vec<i64> = records.iter().map(|record| record.sequence).collect();
    sqlx::query!(
        "with wanted as (
             delete from wanted_body
              using unnest($1::integer[], $2::bigint[]) as gone (log, sequence)
              where wanted_body.log = gone.log and wanted_body.sequence = gone.sequence)
         update record
            set payload = null, realm = null, name = null, stamp_micros = null, body = null,
                pruned = false
           from unnest($1::integer[], $2::bigint[]) as gone (log, sequence)
          where record.log = gone.log and record.sequence = gone.sequence",
        &logs,
        &sequences,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// Forgets what is kept beside the records of files: conflicts that are over, or whose file is gone, and how far a
/// job or a snapshot came.
async fn forget_beside(transaction: &mut PgConnection, files: &[FileId]) -> Result<(), StoreError> {
    let (realms, names) = key_columns(files);
    progress::step_back(&mut *transaction, (&realms, &names)).await?;
    sqlx::query!(
        "delete from conflict
          using unnest($1::text[], $2::text[]) as gone (realm, name)
          where conflict.realm = gone.realm and conflict.name = gone.name
            and (ended_micros is not null
                 or not exists (select from file f
                                 where f.realm = gone.realm and f.name = gone.name))",
        &realms as _,
        &names as _,
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        "update job set after_realm = null, after_name = null
           from unnest($1::text[], $2::text[]) as gone (realm, name)
          where after_realm = gone.realm and after_name = gone.name",
        &realms as _,
        &names as _,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// Notes the subjects of files that an earlier release made.
pub(crate) async fn fill_subjects(pool: &PgPool, key: &DeploymentKey) -> Result<(), StoreError> {
    loop {
        let rows = sqlx::query!(
            "select realm, name from file where subject is null limit $1",
            signed(ERASED_RECORDS_MAX),
        )
        .fetch_all(pool)
        .await?;
        if rows.is_empty() {
            return Ok(());
        }
        let mut subjects = BTreeMap::new();
        for row in &rows {
            let file = file_id(&row.realm, &row.name)?;
            subjects.insert(file.clone(), key.subject_hash(file.subject()));
        }
        let files: Vec<FileId> = subjects.keys().cloned().collect();
        let (realms, names) = key_columns(&files);
        let hashes: Vec<&[u8]> = subjects.values().map(Sha256::as_bytes).collect();
        sqlx::query!(
            "update file set subject = new.subject
               from unnest($1::text[], $2::text[], $3::bytea[]) as new (realm, name, subject)
              where file.realm = new.realm and file.name = new.name",
            &realms as _,
            &names as _,
            &hashes as _,
        )
        .execute(pool)
        .await?;
    }
}
