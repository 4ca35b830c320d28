//! Table `wanted_body`: bodies that a file cannot be served without and that are not here.
//!
//! A peer may send a record whose body it has no more. Where that version is a head here, phones hear 503
//! until the body has come, from whichever peer has it, or from a phone that sends it once more.

use std::collections::{BTreeMap, BTreeSet};

use bruri_domain::{
    Body, FileId, FileState, Sha256,
    limits::{COMMIT_TRIES_MAX, WANTED_BODIES_MAX},
};
use bytes::Bytes;
use sqlx::PgConnection;

use crate::{
    Store, StoreError,
    bodies::{Packed, pack},
    columns::{Row, signed},
    files::{self, Locking},
    records::{BodyColumns, NumberedRecord},
};

/// Which of these bodies are here; they stay until the transaction ends.
pub(crate) async fn keep_present(
    transaction: &mut PgConnection,
    hashes: &BTreeSet<Sha256>,
) -> Result<BTreeSet<Sha256>, StoreError> {
    if hashes.is_empty() {
        return Ok(BTreeSet::new());
    }
    let asked: Vec<&[u8]> = hashes.iter().map(Sha256::as_bytes).collect();
    let here = sqlx::query_scalar!(
        "select sha256 from body where sha256 = any($1::bytea[]) order by sha256 for key share",
        &asked as _,
    )
    .fetch_all(transaction)
    .await?;
    let row = Row { table: "body", key: &"of a batch" };
    here.iter().map(|hash| row.sha256("sha256", hash)).collect()
}

/// Wants the bodies of those of these records that are heads and have none. Returns whether there are any.
pub(crate) async fn want(
    transaction: &mut PgConnection,
    log: i32,
    records: &[NumberedRecord],
    states: &[(FileId, FileState)],
) -> Result<bool, StoreError> {
    let wanted: Vec<_> = records.iter().filter_map(|record| wanted_by(record, states)).collect();
    if wanted.is_empty() {
        return Ok(false);
    }
    let realms: Vec<&str> = wanted.iter().map(|w| w.file.realm.as_str()).collect();
    let names: Vec<&str> = wanted.iter().map(|w| w.file.name.as_str()).collect();
    let sequences: Vec<i64> = wanted.iter().map(|w| signed(w.sequence)).collect();
    let hashes: Vec<&[u8]> = wanted.iter().map(|w| w.body.sha256.as_bytes()).collect();
    let bytes: Vec<i32> =
        wanted.iter().map(|w| i32::try_from(w.body.bytes).unwrap_or(i32::MAX)).collect();
    sqlx::query!(
        "insert into wanted_body (realm, name, log, sequence, sha256, bytes)
         select realm, name, $1, sequence, sha256, bytes
           from unnest($2::text[], $3::text[], $4::bigint[], $5::bytea[], $6::integer[])
                as new (realm, name, sequence, sha256, bytes)
         on conflict do nothing",
        log,
        &realms as _,
        &names as _,
        &sequences,
        &hashes as _,
        &bytes,
    )
    .execute(transaction)
    .await?;
    Ok(true)
}

struct Wanted<'a> {
    file: &'a FileId,
    sequence: u64,
    body: Body,
}

fn wanted_by<'a>(record: &'a NumberedRecord, states: &[(FileId, FileState)]) -> Option<Wanted<'a>> {
    let version = record.version.as_ref().filter(|version| version.pruned)?;
    let (_, state) = states.iter().find(|(file, _)| *file == version.file)?;
    let body = version.body.filter(|body| names(state, body.sha256))?;
    Some(Wanted { file: &version.file, sequence: record.sequence, body })
}

fn names(state: &FileState, sha256: Sha256) -> bool {
    state.heads().iter().any(|head| head.body.is_some_and(|body| body.sha256 == sha256))
}

/// Gives wanted bodies to the records that lack them, whose files are locked: those in `packed`, which are
/// written, and others that are here.
pub(crate) async fn fill(
    transaction: &mut PgConnection,
    hashes: &[&[u8]],
    packed: &BTreeMap<Sha256, Packed>,
) -> Result<(), StoreError> {
    let bodies = BodyColumns::of(packed);
    sqlx::query!(
        "with bodies as (
             insert into body (sha256, bytes, content)
             select * from unnest($2::bytea[], $3::integer[], $4::bytea[])
             on conflict (sha256) do nothing),
         filled as (
             delete from wanted_body where sha256 = any($1::bytea[])
             returning log, sequence, sha256)
         update record set body = filled.sha256, pruned = false
           from filled
          where record.log = filled.log and record.sequence = filled.sequence
            and record.payload is not null and record.pruned",
        hashes as _,
        &bodies.hashes as _,
        &bodies.sizes,
        &bodies.contents as _,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// A wanted body with what is known of its file now.
struct WantedRow {
    realm: String,
    name: String,
    log: i32,
    sequence: i64,
    sha256: Vec<u8>,
    bytes: i32,
    state: Option<Vec<u8>>,
    checksum: Option<Vec<u8>>,
    is_here: bool,
}

impl WantedRow {
    fn body(&self) -> Result<Body, StoreError> {
        let row = Row { table: "wanted_body", key: &self.name };
        let sha256 = row.sha256("sha256", &self.sha256)?;
        Ok(Body { sha256, bytes: row.number("bytes", self.bytes.into())? })
    }

    /// Whether the file still has a head with that body, or cannot be read now.
    fn is_wanted(&self, sha256: Sha256) -> Result<bool, StoreError> {
        let file = files::file_id(&self.realm, &self.name)?;
        let (Some(state), Some(checksum)) = (&self.state, &self.checksum) else {
            return Ok(false);
        };
        Ok(files::state_of(&file, state, checksum).map_or(true, |state| names(&state, sha256)))
    }
}

impl Store {
    /// Bodies that are wanted from peers, at most [`WANTED_BODIES_MAX`] and `limit`; those that were asked
    /// for least often come first. Those that are no longer wanted are forgotten, and those that came by
    /// another way given to their records.
    pub async fn wanted_bodies(&self, limit: u32) -> Result<Vec<Body>, StoreError> {
        let mut wanted = BTreeSet::new();
        for row in self.ask(limit).await? {
            let body = row.body()?;
            if !row.is_wanted(body.sha256)? {
                self.forget_wanted(&row).await?;
            } else if row.is_here {
                self.fill_wanted(body.sha256, &BTreeMap::new()).await?;
            } else {
                wanted.insert(body);
            }
        }
        Ok(wanted.into_iter().collect())
    }

    /// Stores a body that a peer sent, if it is wanted; returns whether it was. From then on phones get it.
    pub async fn store_wanted(&self, body: &Bytes) -> Result<bool, StoreError> {
        let sha256 = Sha256::of(body);
        let packed = BTreeMap::from([(sha256, pack(body)?)]);
        self.fill_wanted(sha256, &packed).await
    }

    async fn fill_wanted(
        &self,
        sha256: Sha256,
        packed: &BTreeMap<Sha256, Packed>,
    ) -> Result<bool, StoreError> {
        let mut tries = 1_u32;
        loop {
            match self.try_fill_wanted(sha256, packed).await {
                Err(error) if error.is_transient() && tries < COMMIT_TRIES_MAX => {
                    tries = tries.saturating_add(1);
                }
                done => return done,
            }
        }
    }

    async fn try_fill_wanted(
        &self,
        sha256: Sha256,
        packed: &BTreeMap<Sha256, Packed>,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.pool().begin().await?;
        let rows = sqlx::query!(
            "select distinct realm, name from wanted_body where sha256 = $1",
            sha256.as_bytes(),
        )
        .fetch_all(&mut *transaction)
        .await?;
        let wanting = rows.iter().map(|row| files::file_id(&row.realm, &row.name));
        let wanting: BTreeSet<FileId> = wanting.collect::<Result<_, _>>()?;
        if wanting.is_empty() {
            return Ok(false);
        }
        let wanting: Vec<FileId> = wanting.into_iter().collect();
        files::lock(&mut transaction, &Locking::of(self.key(), &wanting, &[])).await?;
        fill(&mut transaction, &[sha256.as_bytes()], packed).await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn ask(&self, limit: u32) -> Result<Vec<WantedRow>, StoreError> {
        let rows = sqlx::query_as!(
            WantedRow,
            r#"with chosen as (
                   select realm, name, log, sequence from wanted_body
                    order by asked limit $1 for update skip locked)
               update wanted_body as w set asked = asked + 1
                 from chosen left join file f on f.realm = chosen.realm and f.name = chosen.name
                where w.realm = chosen.realm and w.name = chosen.name
                  and w.log = chosen.log and w.sequence = chosen.sequence
            returning w.realm, w.name, w.log, w.sequence, w.sha256, w.bytes,
                      f.state as "state?", f.checksum as "checksum?",
                      exists (select from body b where b.sha256 = w.sha256) as "is_here!""#,
            i64::from(limit.min(WANTED_BODIES_MAX)),
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    async fn forget_wanted(&self, row: &WantedRow) -> Result<(), StoreError> {
        sqlx::query!(
            "delete from wanted_body
              where realm = $1 and name = $2 and log = $3 and sequence = $4",
            row.realm,
            row.name,
            row.log,
            row.sequence,
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }
}
