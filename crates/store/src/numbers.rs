//! Numbers of this site's logs: each given once, in the order of commits, in an epoch that is sound.

use bruri_domain::{Chain, LogKind, Witness, limits::COMMIT_TRIES_MAX};
use sqlx::PgConnection;

use crate::{
    Store, StoreError,
    columns::{Row, epoch_column, signed},
    epochs,
    own::{Current, OwnLog},
};

/// Numbers taken from a counter, to be given out in order.
#[derive(Debug)]
pub(crate) struct Numbers {
    /// The log that they are of.
    pub(crate) log: OwnLog,
    /// The last sequence before.
    pub(crate) before: u64,
    /// The chain there.
    pub(crate) chain: Chain,
    current: Current,
}

/// Numbers that were given out: to be told to [`Store::numbered`] after the commit.
#[derive(Debug)]
pub(crate) struct Given {
    kind: LogKind,
    last: Witness,
    current: Current,
}

impl Numbers {
    /// All were given, the last one with that chain.
    pub(crate) fn given(self, kind: LogKind, sequence: u64, chain: Chain) -> Given {
        let last = Witness { epoch: self.log.id.epoch, sequence, chain };
        Given { kind, last, current: self.current }
    }
}

impl Store {
    /// Takes `count` numbers. The row stays locked until the transaction ends, so that the order of numbers
    /// is the order of commits (law 3). Where the database is not the one that numbered last, or lost what
    /// this process saw committed, or another `brurid` of the site found that so, the numbers are of a
    /// new epoch.
    pub(crate) async fn take_numbers(
        &self,
        transaction: &mut PgConnection,
        kind: LogKind,
        count: usize,
        stamp_micros: u64,
    ) -> Result<Numbers, StoreError> {
        let own = &self.inner.own;
        let seen = own.memory.seen();
        let mut current = Current { logs: own.logs(), opened: None };
        for _ in 0..COMMIT_TRIES_MAX {
            let log = current.logs.of(kind).clone();
            let asked = Asked { log: &log, seen: seen.of(kind), count, stamp_micros };
            if let Some((before, chain)) = take(transaction, asked).await? {
                return Ok(Numbers { log, before, chain, current });
            }
            let all: Vec<Witness> = seen.all().collect();
            current = epochs::judge(transaction, self.site(), &all, &[], None).await?;
        }
        Err(Row { table: "log", key: self.site() }.corrupt("is_open"))
    }

    /// Remembers what was committed.
    pub(crate) fn numbered(&self, given: Given) {
        let own = &self.inner.own;
        if given.current.opened.is_some() || given.current.logs != own.logs() {
            own.adopt(given.current);
        }
        own.memory.note(given.kind, given.last);
    }
}

struct Asked<'a> {
    log: &'a OwnLog,
    seen: Option<&'a Witness>,
    count: usize,
    stamp_micros: u64,
}

/// Takes the numbers if the log is open, this is the database that numbered it last, and it holds what
/// was seen: one statement, whose lock holds off whoever would close the log.
async fn take(
    transaction: &mut PgConnection,
    asked: Asked<'_>,
) -> Result<Option<(u64, Chain)>, StoreError> {
    let taken = sqlx::query!(
        r#"update log
              set sequence = sequence + $3, stamp_micros = greatest(stamp_micros, $4),
                  identity = coalesce(nullif(current_setting('bruri.identity', true), ''), identity)
            where id = $1 and epoch = $2 and is_open
              and coalesce(identity = nullif(current_setting('bruri.identity', true), ''), true)
              and (coalesce(epoch <> $5, true)
                   or sequence = $6 and chain = $7
                   or sequence > $6
                      and not exists (select from record
                                       where record.log = log.id and record.sequence = $6
                                         and record.chain <> $7))
        returning sequence - $3 as "before!", chain"#,
        asked.log.row,
        epoch_column(asked.log.id.epoch),
        signed(asked.count as u64),
        signed(asked.stamp_micros),
        asked.seen.map(|seen| epoch_column(seen.epoch)),
        asked.seen.map(|seen| signed(seen.sequence)),
        asked.seen.map(|seen| seen.chain.0.as_bytes()),
    )
    .fetch_optional(transaction)
    .await?;
    let row = Row { table: "log", key: &asked.log.id };
    taken
        .map(|taken| Ok((row.number("sequence", taken.before)?, row.chain("chain", &taken.chain)?)))
        .transpose()
}
