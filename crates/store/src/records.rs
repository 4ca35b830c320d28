//! Writing records: the one statement that puts them, their bodies and the states of their files down,
//! for phones, operators and peers alike.

use std::collections::BTreeMap;

use bruri_domain::{Body, Chain, FileId, FileState, Sha256};
use bruri_wire::record::RawRecord;
use sqlx::PgConnection;

use crate::{StoreError, bodies::Packed, columns::signed, files};

/// A record that has its number.
pub(crate) struct NumberedRecord {
    pub(crate) sequence: u64,
    /// The chain of the log up to it.
    pub(crate) chain: Chain,
    pub(crate) raw: RawRecord,
    /// None for a record of no file, of a kind not known here, or erased.
    pub(crate) version: Option<VersionColumns>,
}

/// What is kept of a version in columns of its own, to find it again.
#[derive(Clone)]
pub(crate) struct VersionColumns {
    pub(crate) file: FileId,
    pub(crate) stamp_micros: u64,
    pub(crate) body: Option<Body>,
    /// The body is not here, and not among those that are written.
    pub(crate) pruned: bool,
}

/// Records of one log.
pub(crate) struct Run<'a> {
    /// The row of the log.
    log: i32,
    /// In the order of their numbers.
    records: &'a [NumberedRecord],
    /// The chain at the end of the log, where it ends with them.
    end: Option<Chain>,
}

impl<'a> Run<'a> {
    /// At the end of the log; there is at least one record.
    pub(crate) fn at_end(log: i32, records: &'a [NumberedRecord]) -> Self {
        Self { log, records, end: records.last().map(|record| record.chain) }
    }

    /// At the end of the log, though the last record may be here already; the chain is `end` there.
    pub(crate) fn up_to(log: i32, records: &'a [NumberedRecord], end: Chain) -> Self {
        Self { log, records, end: Some(end) }
    }

    /// Before the end of the log, which stays where it is.
    pub(crate) fn before_end(log: i32, records: &'a [NumberedRecord]) -> Self {
        Self { log, records, end: None }
    }
}

/// What one transaction writes.
pub(crate) struct Writing<'a> {
    /// Each of another log.
    pub(crate) runs: &'a [Run<'a>],
    /// Sorted by hash, so that two transactions never wait for each other.
    pub(crate) bodies: &'a BTreeMap<Sha256, Packed>,
    pub(crate) states: &'a [(FileId, FileState)],
}

/// Those of these records of a log, in its order, that are not here. One that is here with another chain came with a
/// snapshot from a branch that gave way: it makes room.
pub(crate) async fn without_present(
    transaction: &mut PgConnection,
    log: i32,
    mut records: Vec<NumberedRecord>,
) -> Result<Vec<NumberedRecord>, StoreError> {
    let sequences: Vec<i64> = records.iter().map(|record| signed(record.sequence)).collect();
    let rows = sqlx::query!(
        "select sequence, chain from record where log = $1 and sequence = any($2::bigint[])",
        log,
        &sequences,
    )
    .fetch_all(&mut *transaction)
    .await?;
    let mut void = Vec::new();
    for row in rows {
        let place = records.iter().position(|record| signed(record.sequence) == row.sequence);
        let Some(record) = place.and_then(|place| records.get(place)) else { continue };
        if record.chain.0.as_bytes() == row.chain {
            place.map(|place| records.remove(place));
        } else {
            tracing::error!(log, sequence = row.sequence, "a record of a void branch is replaced");
            void.push(row.sequence);
        }
    }
    if !void.is_empty() {
        let gone = sqlx::query!(
            "delete from record where log = $1 and sequence = any($2::bigint[])",
            log,
            &void,
        );
        gone.execute(transaction).await?;
    }
    Ok(records)
}

/// Writes it all with one statement.
pub(crate) async fn write(
    transaction: &mut PgConnection,
    writing: &Writing<'_>,
) -> Result<(), StoreError> {
    let bodies = BodyColumns::of(writing.bodies);
    let records = RecordColumns::of(writing.runs);
    let ended = writing.runs.iter().filter_map(|run| Some((run.log, run.end?)));
    let (ended, ends): (Vec<i32>, Vec<Chain>) = ended.unzip();
    let ends: Vec<&[u8]> = ends.iter().map(|chain| chain.0.as_bytes()).collect();
    let states = StateColumns::of(writing.states);
    sqlx::query!(
        "with bodies as (
             insert into body (sha256, bytes, content)
             select * from unnest($1::bytea[], $2::integer[], $3::bytea[])
             on conflict (sha256) do nothing),
         records as (
             insert into record
                    (log, sequence, chain, envelope, payload, realm, name, stamp_micros, body,
                     pruned)
             select * from unnest($4::integer[], $5::bigint[], $17::bytea[], $6::bytea[],
                                  $7::bytea[], $8::text[], $9::text[], $10::bigint[],
                                  $11::bytea[], $20::boolean[])),
         ended as (
             update log set chain = ended.chain
               from unnest($18::integer[], $19::bytea[]) as ended (id, chain)
              where log.id = ended.id)
         update file
            set state = new.state, checksum = new.checksum, served_body = new.served_body,
                confirmed_micros = case when file.served_body = new.served_body
                                        then file.confirmed_micros end
           from unnest($12::text[], $13::text[], $14::bytea[], $15::bytea[], $16::bytea[])
                as new (realm, name, state, checksum, served_body)
          where file.realm = new.realm and file.name = new.name",
        &bodies.hashes as _,
        &bodies.sizes,
        &bodies.contents as _,
        &records.logs,
        &records.sequences,
        &records.envelopes as _,
        &records.payloads as _,
        &records.realms as _,
        &records.names as _,
        &records.stamps as _,
        &records.bodies as _,
        &states.realms as _,
        &states.names as _,
        &states.states as _,
        &states.checksums as _,
        &states.served as _,
        &records.chains as _,
        &ended,
        &ends as _,
        &records.pruned,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// Bodies as a statement writes them.
#[derive(Default)]
pub(crate) struct BodyColumns<'a> {
    pub(crate) hashes: Vec<&'a [u8]>,
    pub(crate) sizes: Vec<i32>,
    pub(crate) contents: Vec<&'a [u8]>,
}

impl<'a> BodyColumns<'a> {
    pub(crate) fn of(bodies: &'a BTreeMap<Sha256, Packed>) -> Self {
        let mut columns = Self::default();
        for (hash, packed) in bodies {
            columns.hashes.push(hash.as_bytes());
            columns.sizes.push(packed.bytes);
            columns.contents.push(&packed.frame);
        }
        columns
    }
}

#[derive(Default)]
struct RecordColumns<'a> {
    logs: Vec<i32>,
    sequences: Vec<i64>,
    chains: Vec<&'a [u8]>,
    envelopes: Vec<&'a [u8]>,
    payloads: Vec<Option<&'a [u8]>>,
    realms: Vec<Option<&'a str>>,
    names: Vec<Option<&'a str>>,
    stamps: Vec<Option<i64>>,
    bodies: Vec<Option<&'a [u8]>>,
    pruned: Vec<bool>,
}

impl<'a> RecordColumns<'a> {
    fn of(runs: &'a [Run<'a>]) -> Self {
        let mut columns = Self::default();
        let records = runs.iter().flat_map(|run| run.records.iter().map(|r| (run.log, r)));
        for (log, record) in records {
            let version = record.version.as_ref();
            let pruned = version.is_some_and(|v| v.pruned);
            let body = version.and_then(|v| v.body.as_ref()).filter(|_| !pruned);
            columns.logs.push(log);
            columns.sequences.push(signed(record.sequence));
            columns.chains.push(record.chain.0.as_bytes());
            columns.envelopes.push(&record.raw.envelope);
            columns.payloads.push(record.raw.payload.as_deref());
            columns.realms.push(version.map(|v| v.file.realm.as_str()));
            columns.names.push(version.map(|v| v.file.name.as_str()));
            columns.stamps.push(version.map(|v| signed(v.stamp_micros)));
            columns.bodies.push(body.map(|b| b.sha256.as_bytes()));
            columns.pruned.push(pruned);
        }
        columns
    }
}

#[derive(Default)]
struct StateColumns<'a> {
    realms: Vec<&'a str>,
    names: Vec<&'a str>,
    states: Vec<Vec<u8>>,
    checksums: Vec<Vec<u8>>,
    served: Vec<Option<Vec<u8>>>,
}

impl<'a> StateColumns<'a> {
    fn of(states: &'a [(FileId, FileState)]) -> Self {
        let mut columns = Self::default();
        for (file, state) in states {
            let row = files::row_of(file, state);
            columns.realms.push(file.realm.as_str());
            columns.names.push(file.name.as_str());
            columns.states.push(row.state);
            columns.checksums.push(row.checksum.as_bytes().to_vec());
            columns.served.push(row.served_body.map(|hash| hash.as_bytes().to_vec()));
        }
        columns
    }
}
