//! States of files with all that serving them takes, for a peer that takes a snapshot.

use std::collections::{BTreeMap, BTreeSet};

use bruri_domain::{
    Body, Chain, Cursor, Dot, FileId, FileState, Log, LogKind, Sha256,
    limits::{PAGE_BYTES_MAX, SNAPSHOT_FILES_MAX},
};
use bruri_wire::record::RawRecord;
use bytes::Bytes;
use sqlx::PgConnection;

use crate::{
    Store, StoreError,
    bodies::unpack,
    columns::{self, Row, signed},
    files::{file_id, state_of},
    logs::LogRow,
    partings,
};

/// Some files in the order of their keys.
#[derive(Clone, Debug, Default)]
pub struct Copied {
    /// The files.
    pub files: Vec<CopiedFile>,
    /// The bodies of their heads.
    pub bodies: BTreeMap<Sha256, Bytes>,
    /// Those that are not here.
    pub absent: BTreeSet<Sha256>,
    /// Where the branches begin that stay, of logs that forked: their chains there. The states know of no other one.
    pub partings: Vec<Cursor>,
    /// No file follows.
    pub is_last: bool,
}

/// What decides what is served of a file.
#[derive(Clone, Debug)]
pub struct CopiedFile {
    /// Which.
    pub file: FileId,
    /// Its state.
    pub state: FileState,
    /// The records of its heads, in their order.
    pub heads: Vec<CopiedHead>,
}

/// The record of a head.
#[derive(Clone, Debug)]
pub struct CopiedHead {
    /// The log it is in.
    pub log: Log,
    /// Its place there.
    pub sequence: u64,
    /// The chain of the log up to it.
    pub chain: Chain,
    /// As its origin wrote it.
    pub raw: RawRecord,
}

/// What a record takes beside its body, roughly.
const RECORD_BYTES: usize = 512;

impl Store {
    /// The next files after one, with their states: at most 512, and at most 1 MiB with their bodies unless a single
    /// one is larger. What it tells is of one moment. A site that is taking a snapshot itself supplies what it has, too: its
    /// states know of all records that its cursors count, and two sites that are far behind each other would wait for ever.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where a row is damaged: a chunk without its file would hide it.
    /// [`StoreError::StatesIncomplete`] where this site is taking a snapshot, and a head is of a log whose records it has not
    /// got back yet, or where it was told of a log that forked and has not dropped yet what is of the branch that gave way.
    pub async fn states_after(&self, after: Option<&FileId>) -> Result<Copied, StoreError> {
        let mut transaction = self.pool().begin().await?;
        sqlx::query!("set transaction isolation level repeatable read, read only")
            .execute(&mut *transaction)
            .await?;
        let copying = sqlx::query_scalar!(r#"select exists (select from snapshot) as "is!""#);
        let is_copying = copying.fetch_one(&mut *transaction).await?;
        if partings::are_due(&mut transaction).await? {
            return Err(StoreError::StatesIncomplete);
        }
        let partings = partings::known(&mut transaction).await?;
        let (states, is_last) = states(&mut transaction, after).await?;
        let mut records = records(&mut transaction, &states).await?;
        let (bodies, absent) = contents(&mut transaction, &states).await?;
        transaction.commit().await?;
        let mut files = Vec::with_capacity(states.len());
        for (file, state) in states {
            let heads = state.heads().iter();
            let missing =
                |dot: &Dot| if is_copying { StoreError::StatesIncomplete } else { lost(dot) };
            let heads =
                heads.map(|head| records.remove(&head.dot).ok_or_else(|| missing(&head.dot)));
            let heads = heads.collect::<Result<_, _>>()?;
            files.push(CopiedFile { file, state, heads });
        }
        Ok(Copied { files, bodies, absent, partings, is_last })
    }
}

fn lost(dot: &Dot) -> StoreError {
    Row { table: "record", key: dot }.corrupt("sequence")
}

/// States within the bounds of a chunk, and whether none follows.
pub(crate) async fn states(
    transaction: &mut PgConnection,
    after: Option<&FileId>,
) -> Result<(Vec<(FileId, FileState)>, bool), StoreError> {
    let (realm, name) = after.map_or(("", ""), |file| (file.realm.as_str(), file.name.as_str()));
    let rows = sqlx::query!(
        "select realm, name, state, checksum from file where (realm, name) > ($1, $2)
          order by realm, name limit $3",
        realm,
        name,
        i64::from(SNAPSHOT_FILES_MAX),
    )
    .fetch_all(transaction)
    .await?;
    let mut is_last = rows.len() < usize::try_from(SNAPSHOT_FILES_MAX).unwrap_or(usize::MAX);
    let (mut states, mut bytes) = (Vec::with_capacity(rows.len()), 0_usize);
    for row in rows {
        let file = file_id(&row.realm, &row.name)?;
        let state = state_of(&file, &row.state, &row.checksum)?;
        bytes = bytes.saturating_add(row.state.len()).saturating_add(weight(&state));
        if bytes > PAGE_BYTES_MAX && !states.is_empty() {
            is_last = false;
            break;
        }
        states.push((file, state));
    }
    Ok((states, is_last))
}

fn weight(state: &FileState) -> usize {
    let of = |body: Option<Body>| body.map_or(0, |body| body.bytes);
    let bodies = state.heads().iter().map(|head| usize::try_from(of(head.body)));
    let bodies = bodies.map(|bytes| bytes.unwrap_or(usize::MAX).saturating_add(RECORD_BYTES));
    bodies.fold(0, usize::saturating_add)
}

async fn records(
    transaction: &mut PgConnection,
    states: &[(FileId, FileState)],
) -> Result<BTreeMap<Dot, CopiedHead>, StoreError> {
    let dots: Vec<&Dot> =
        states.iter().flat_map(|(_, s)| s.heads()).map(|head| &head.dot).collect();
    let logs = logs(&mut *transaction).await?;
    let rows: Vec<i32> =
        dots.iter().map(|dot| logs.get(&dot.log).map_or(0, |(row, _)| *row)).collect();
    let sequences: Vec<i64> = dots.iter().map(|dot| signed(dot.sequence)).collect();
    let found = sqlx::query!(
        r#"select wanted.place as "place!", record.chain, envelope, payload
             from unnest($1::integer[], $2::bigint[]) with ordinality
                  as wanted (log, sequence, place)
             join record on record.log = wanted.log and record.sequence = wanted.sequence"#,
        &rows,
        &sequences,
    )
    .fetch_all(transaction)
    .await?;
    let mut records = BTreeMap::new();
    for row in found {
        let place = usize::try_from(row.place).ok().and_then(|place| place.checked_sub(1));
        let Some(dot) = place.and_then(|place| dots.get(place)) else { continue };
        let Some((_, log)) = logs.get(&dot.log) else { continue };
        let chain = Row { table: "record", key: dot }.chain("chain", &row.chain)?;
        let raw = RawRecord { envelope: row.envelope.into(), payload: row.payload.map(Into::into) };
        let head = CopiedHead { log: log.clone(), sequence: dot.sequence, chain, raw };
        records.insert((*dot).clone(), head);
    }
    Ok(records)
}

/// Every log of files, with its row.
async fn logs(
    transaction: &mut PgConnection,
) -> Result<BTreeMap<bruri_domain::LogId, (i32, Log)>, StoreError> {
    let rows = sqlx::query!(
        "select id, site, epoch, kind, predecessor_epoch, predecessor_sequence, predecessor_chain,
                sequence, chain
           from log where kind = $1",
        columns::kind_column(LogKind::Files),
    )
    .fetch_all(transaction)
    .await?;
    let mut logs = BTreeMap::new();
    for row in rows {
        let id = row.id;
        let log = Cursor::try_from(LogRow {
            site: row.site,
            epoch: row.epoch,
            kind: row.kind,
            predecessor_epoch: row.predecessor_epoch,
            predecessor_sequence: row.predecessor_sequence,
            predecessor_chain: row.predecessor_chain,
            sequence: row.sequence,
            chain: row.chain,
        })?
        .log;
        logs.insert(log.id.clone(), (id, log));
    }
    Ok(logs)
}

/// The heads' bodies that are here, and the hashes of those that are not.
async fn contents(
    transaction: &mut PgConnection,
    states: &[(FileId, FileState)],
) -> Result<(BTreeMap<Sha256, Bytes>, BTreeSet<Sha256>), StoreError> {
    let heads = states.iter().flat_map(|(_, state)| state.heads());
    let mut absent: BTreeSet<Sha256> = heads.filter_map(|head| Some(head.body?.sha256)).collect();
    let hashes: Vec<&[u8]> = absent.iter().map(Sha256::as_bytes).collect();
    let rows = sqlx::query!(
        "select sha256, bytes, content from body where sha256 = any($1::bytea[])",
        &hashes as _,
    )
    .fetch_all(transaction)
    .await?;
    let row = Row { table: "body", key: &"of a chunk" };
    let mut bodies = BTreeMap::new();
    for found in rows {
        let sha256 = row.sha256("sha256", &found.sha256)?;
        let bytes = row.number("bytes", found.bytes.into())?;
        bodies.insert(sha256, unpack(sha256, bytes, &found.content)?);
        absent.remove(&sha256);
    }
    Ok((bodies, absent))
}
