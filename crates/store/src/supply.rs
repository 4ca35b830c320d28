//! Pages of a log for peers, as the origin wrote them.

use std::collections::BTreeSet;

use bruri_domain::{
    Chain, Cursor, Dot, LogId, Sha256,
    limits::{PAGE_BYTES_MAX, PAGE_RECORDS_MAX},
};
use bruri_wire::record::{RawRecord, decode_version};

use bytes::Bytes;

use crate::{
    Store, StoreError,
    bodies::unpack,
    columns::{self, Row, signed},
};

/// A run of records of one log with their bodies.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// In the order of the log, the first one after the cursor.
    pub records: Vec<RawRecord>,
    /// The chain after each of them.
    pub chains: Vec<Chain>,
    /// The bodies that they name, each once.
    pub bodies: Vec<Bytes>,
    /// Those that they name and that are not here, each once.
    pub absent: BTreeSet<Sha256>,
}

struct Candidate {
    raw: RawRecord,
    chain: Chain,
    body: Option<(Sha256, usize)>,
}

/// A record beside its log; the log alone where it has none to give.
struct RecordRow {
    tail: i64,
    /// Where history is missing: after which record, and up to which.
    filled: Option<i64>,
    floor: Option<i64>,
    sequence: Option<i64>,
    chain: Option<Vec<u8>>,
    envelope: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    body: Option<Vec<u8>>,
    bytes: Option<i32>,
    pruned: Option<bool>,
}

impl RecordRow {
    /// The last sequence that may be told after one; none where the next one is not here yet.
    fn end_after(&self, after: i64) -> Option<i64> {
        match self.filled.zip(self.floor) {
            Some((filled, _)) if after < filled => Some(filled),
            Some((_, floor)) if after < floor => None,
            _ => Some(self.tail),
        }
    }

    fn read(self, expected: &Dot) -> Result<Candidate, StoreError> {
        let row = Row { table: "record", key: expected };
        if self.sequence != Some(signed(expected.sequence)) {
            return Err(row.corrupt("sequence"));
        }
        let envelope = self.envelope.ok_or_else(|| row.corrupt("envelope"))?;
        let raw = RawRecord { envelope: envelope.into(), payload: self.payload.map(Into::into) };
        let chain = row.chain("chain", &self.chain.unwrap_or_default())?;
        let size = self.bytes.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let body = match (&self.body, self.pruned) {
            (Some(hash), _) => Some(row.sha256("body", hash)?),
            (None, Some(true)) => pruned_body(row, &raw)?,
            (None, _) => None,
        };
        Ok(Candidate { raw, chain, body: body.map(|hash| (hash, size)) })
    }
}

/// What the version of a pruned record names; nothing once it was erased.
fn pruned_body(row: Row<'_>, raw: &RawRecord) -> Result<Option<Sha256>, StoreError> {
    let Some(payload) = &raw.payload else { return Ok(None) };
    let version = decode_version(payload).map_err(|_| row.corrupt("payload"))?;
    Ok(version.body.map(|body| body.sha256))
}

impl Store {
    /// The records after `sequence`, at most 512 of them, and at most 1 MiB with their bodies unless a
    /// single one is larger. Empty at the tail, and of a log that is not known here.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where a record is missing (law 3): nothing of the page is sent.
    /// [`StoreError::BelowFloor`] where a snapshot passed the next one over, and it is not filled in yet.
    pub async fn records_after(&self, log: &LogId, sequence: u64) -> Result<Page, StoreError> {
        let end = sequence.saturating_add(PAGE_RECORDS_MAX);
        let rows = sqlx::query_as!(
            RecordRow,
            r#"select log.sequence as tail, filled_sequence as "filled", floor_sequence as "floor",
                      record.sequence as "sequence?", record.chain as "chain?",
                      envelope as "envelope?", payload as "payload?", body as "body?",
                      body.bytes as "bytes?", pruned as "pruned?"
                 from log
                 left join record on record.log = log.id
                                 and record.sequence > $3 and record.sequence <= $4
                 left join body on body.sha256 = record.body
                where log.site = $1 and log.epoch = $2
                order by record.sequence"#,
            log.site.as_str(),
            columns::epoch_column(log.epoch),
            signed(sequence),
            signed(end),
        )
        .fetch_all(self.pool())
        .await?;
        let last = match rows.first().map(|row| row.end_after(signed(sequence))) {
            Some(None) => return Err(StoreError::BelowFloor(log.clone())),
            Some(Some(tail)) => tail.min(signed(end)),
            None => 0,
        };
        let mut next = Dot { log: log.clone(), sequence: sequence.saturating_add(1) };
        let mut candidates = Vec::with_capacity(rows.len());
        // Beyond may be records of heads that came with a snapshot.
        for row in rows.into_iter().filter(|row| row.sequence.is_some_and(|at| at <= last)) {
            candidates.push(row.read(&next)?);
            next.sequence = next.sequence.saturating_add(1);
        }
        if signed(next.sequence) <= last {
            return Err(Row { table: "record", key: &next }.corrupt("sequence"));
        }
        self.with_bodies(within_bounds(candidates)).await
    }

    async fn with_bodies(&self, candidates: Vec<Candidate>) -> Result<Page, StoreError> {
        let mut absent: BTreeSet<Sha256> =
            candidates.iter().filter_map(|c| Some(c.body?.0)).collect();
        let hashes: Vec<&[u8]> = absent.iter().map(Sha256::as_bytes).collect();
        let rows = sqlx::query!(
            "select body.sha256, bytes, content
               from unnest($1::bytea[]) as wanted (sha256)
               join body on body.sha256 = wanted.sha256",
            &hashes as _,
        )
        .fetch_all(self.pool())
        .await?;
        let table = Row { table: "body", key: &"of a page" };
        let mut bodies = Vec::with_capacity(rows.len());
        for row in &rows {
            let sha256 = table.sha256("sha256", &row.sha256)?;
            let bytes = table.number("bytes", row.bytes.into())?;
            bodies.push(unpack(sha256, bytes, &row.content)?);
            // What is left was pruned, it may be since the records were read.
            absent.remove(&sha256);
        }
        let (records, chains) = candidates.into_iter().map(|c| (c.raw, c.chain)).unzip();
        Ok(Page { records, chains, bodies, absent })
    }

    /// The chain of a log at a sequence; `None` where the log is not known here or not so long.
    ///
    /// # Errors
    /// [`StoreError::BelowFloor`] where the record is missing that a snapshot passed over.
    pub async fn chain_at(&self, cursor: &Cursor) -> Result<Option<Chain>, StoreError> {
        let log = &cursor.log.id;
        let stored = sqlx::query!(
            r#"select case when log.sequence = $3 then log.chain
                           when floor_sequence = $3 then floor_chain
                           when filled_sequence = $3 then filled_chain
                           else record.chain end as chain,
                      filled_sequence < $3 and $3 < floor_sequence as missing
                 from log
                 left join record on record.log = log.id and record.sequence = $3
                where log.site = $1 and log.epoch = $2 and $3 <= log.sequence"#,
            log.site.as_str(),
            columns::epoch_column(log.epoch),
            signed(cursor.sequence),
        )
        .fetch_optional(self.pool())
        .await?;
        let row = Row { table: "record", key: log };
        match stored.map(|stored| (stored.chain, stored.missing)) {
            // A head that came with a state may be there, alone.
            Some((_, Some(true))) => Err(StoreError::BelowFloor(log.clone())),
            Some((Some(chain), _)) => row.chain("chain", &chain).map(Some),
            _ if cursor.sequence == 0 => Ok(Some(Chain::begin(&cursor.log))),
            _ => Ok(None),
        }
    }
}

/// As many as fit the page, but at least one.
fn within_bounds(candidates: Vec<Candidate>) -> Vec<Candidate> {
    let mut bytes = 0_usize;
    let mut page: Vec<Candidate> = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let payload = candidate.raw.payload.as_ref().map_or(0, Bytes::len);
        let body = candidate.body.as_ref().map_or(0, |(_, size)| *size);
        let size = candidate.raw.envelope.len().saturating_add(payload).saturating_add(body);
        bytes = bytes.saturating_add(size);
        if bytes > PAGE_BYTES_MAX && !page.is_empty() {
            break;
        }
        page.push(candidate);
    }
    page
}
