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

/// What one transaction writes.
pub(crate) struct Writing<'a> {
    /// The row of the log.
    pub(crate) log: i32,
    /// In the order of their numbers.
    pub(crate) records: &'a [NumberedRecord],
    /// Sorted by hash, so that two transactions never wait for each other.
    pub(crate) bodies: &'a BTreeMap<Sha256, Packed>,
    pub(crate) states: &'a [(FileId, FileState)],
}

/// Writes it at the end of the log; there is at least one record.
pub(crate) async fn write(
    transaction: &mut PgConnection,
    writing: &Writing<'_>,
) -> Result<(), StoreError> {
    put(transaction, writing, writing.records.last().map(|record| record.chain)).await
}

/// Writes it, though the last record may be here already; the log ends there.
pub(crate) async fn write_to(
    transaction: &mut PgConnection,
    writing: &Writing<'_>,
    end: Chain,
) -> Result<(), StoreError> {
    put(transaction, writing, Some(end)).await
}

/// Writes it before the end of the log, which stays where it is.
pub(crate) async fn fill(
    transaction: &mut PgConnection,
    writing: &Writing<'_>,
) -> Result<(), StoreError> {
    put(transaction, writing, None).await
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

async fn put(
    transaction: &mut PgConnection,
    writing: &Writing<'_>,
    end: Option<Chain>,
) -> Result<(), StoreError> {
    let bodies = BodyColumns::of(writing.bodies);
    let records = RecordColumns::of(writing.records);
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
             select $4, * from unnest($5::bigint[], $17::bytea[], $6::bytea[], $7::bytea[],
                                      $8::text[], $9::text[], $10::bigint[], $11::bytea[],
                                      $19::boolean[])),
         chain as (update log set chain = $18::bytea where id = $4 and $18::bytea is not null)
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
        writing.log,
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
        end.as_ref().map(|chain| chain.0.as_bytes()) as _,
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
    fn of(records: &'a [NumberedRecord]) -> Self {
        let mut columns = Self::default();
        for record in records {
            let version = record.version.as_ref();
            let pruned = version.is_some_and(|v| v.pruned);
            let body = version.and_then(|v| v.body.as_ref()).filter(|_| !pruned);
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
