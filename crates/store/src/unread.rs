//! Table `unread_record`: records of kinds that the `brurid` which stored them could not read. They are kept and
//! forwarded like all others (law 8), and applied by the first one that can read them ([`crate::refold`]).

use std::collections::BTreeSet;

use bruri_domain::{Envelope, LogKind, Sha256};
use bruri_wire::record::kind_number;
use sqlx::PgConnection;

use crate::{
    Incoming, StoreError,
    columns::{kind_column, signed},
    erasures,
};

/// A record that is kept unread.
pub(crate) struct Unread<'a> {
    pub(crate) sequence: u64,
    pub(crate) envelope: &'a Envelope,
}

impl Incoming {
    /// Whether this release does not know what it says.
    pub(crate) fn is_unread(&self) -> bool {
        self.raw.payload.is_some() && self.version.is_none() && self.control.is_none()
    }
}

/// Remembers records of a log that this release cannot read; they are written already.
pub(crate) async fn note(
    transaction: &mut PgConnection,
    log: i32,
    unread: &[Unread<'_>],
) -> Result<(), StoreError> {
    if unread.is_empty() {
        return Ok(());
    }
    let sequences: Vec<i64> = unread.iter().map(|it| signed(it.sequence)).collect();
    let kinds: Vec<i32> = unread.iter().map(|it| kind_number(it.envelope.kind)).collect();
    let subjects: Vec<Option<&[u8]>> =
        unread.iter().map(|it| it.envelope.subject.as_ref().map(Sha256::as_bytes)).collect();
    let generations: Vec<i64> = unread.iter().map(|it| signed(it.envelope.generation)).collect();
    sqlx::query!(
        "insert into unread_record (log, sequence, kind, subject, generation)
         select $1, * from unnest($2::bigint[], $3::integer[], $4::bytea[], $5::bigint[])
         on conflict do nothing",
        log,
        &sequences,
        &kinds,
        &subjects as _,
        &generations,
    )
    .execute(&mut *transaction)
    .await?;
    let subjects: BTreeSet<&Sha256> =
        unread.iter().filter_map(|it| it.envelope.subject.as_ref()).collect();
    if !subjects.is_empty() {
        // An erasure that does not see them yet is waited for, and then seen here.
        erasures::hold_off(&mut *transaction).await?;
        erase(transaction, &subjects.into_iter().collect::<Vec<_>>()).await?;
    }
    Ok(())
}

/// Forgets those of a log after a sequence.
pub(crate) async fn forget_after(
    transaction: &mut PgConnection,
    log: i32,
    sequence: u64,
) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from unread_record where log = $1 and sequence > $2",
        log,
        signed(sequence),
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// Takes the payloads of records that nobody here can read and that are older than the generation of their subject,
/// one of these: whatever they say, it was erased. Records of control logs say nothing that a user wrote, and
/// stay. Returns how many.
pub(crate) async fn erase(
    transaction: &mut PgConnection,
    subjects: &[&Sha256],
) -> Result<u64, StoreError> {
    let subjects: Vec<&[u8]> = subjects.iter().map(|subject| subject.as_bytes()).collect();
    let erased = sqlx::query!(
        "with gone as (
             delete from unread_record unread
              using unnest($1::bytea[]) as erased (subject)
              where unread.subject = erased.subject
                and unread.generation < (select known.generation from erased known
                                          where known.subject = erased.subject)
                and (select log.kind from log where log.id = unread.log) = $2
          returning unread.log, unread.sequence)
         update record set payload = null
           from gone
          where record.log = gone.log and record.sequence = gone.sequence",
        &subjects as _,
        kind_column(LogKind::Files),
    )
    .execute(transaction)
    .await?;
    Ok(erased.rows_affected())
}
