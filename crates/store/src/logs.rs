//! Table `log`: counters of this site's logs, cursors of the others'.

use bruri_domain::{
    Chain, Cursor, Epoch, Log, LogId, LogKind, Predecessor, SiteName, limits::LOGS_MAX,
};
use sqlx::{PgConnection, PgPool};

use crate::{
    Store, StoreError,
    columns::{self, Row, kind_column, signed},
};

/// The logs that this site appends to.
#[derive(Clone, Debug)]
pub(crate) struct OwnLogs {
    pub(crate) files: OwnLog,
    /// The newest time that either holds.
    pub(crate) stamp_micros: u64,
}

/// A log that this site appends to.
#[derive(Clone, Debug)]
pub(crate) struct OwnLog {
    pub(crate) row: i32,
    pub(crate) id: LogId,
}

/// Numbers taken from a counter, to be given out in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    /// The last sequence before.
    pub(crate) before: u64,
    /// The chain there.
    pub(crate) chain: Chain,
}

struct LogRow {
    site: String,
    epoch: i64,
    kind: i16,
    predecessor_epoch: Option<i64>,
    predecessor_sequence: Option<i64>,
    predecessor_chain: Option<Vec<u8>>,
    sequence: i64,
    chain: Vec<u8>,
}

impl TryFrom<LogRow> for Cursor {
    type Error = StoreError;

    fn try_from(log: LogRow) -> Result<Self, StoreError> {
        let key = format!("{}/{}", log.site, columns::epoch(log.epoch));
        let row = Row { table: "log", key: &key };
        let predecessor =
            match (log.predecessor_epoch, log.predecessor_sequence, &log.predecessor_chain) {
                (Some(epoch), Some(sequence), Some(chain)) => Some(Predecessor {
                    epoch: columns::epoch(epoch),
                    sequence: row.number("predecessor_sequence", sequence)?,
                    chain: row.chain("predecessor_chain", chain)?,
                }),
                _ => None,
            };
        let site = SiteName::parse(&log.site).map_err(|_| row.corrupt("site"))?;
        let id = LogId { site, epoch: columns::epoch(log.epoch) };
        Ok(Self {
            log: Log { id, kind: row.kind(log.kind)?, predecessor },
            sequence: row.number("sequence", log.sequence)?,
            chain: row.chain("chain", &log.chain)?,
        })
    }
}

/// Finds the logs that the site appends to, or opens its first ones.
pub(crate) async fn open_own(pool: &PgPool, site: &SiteName) -> Result<OwnLogs, StoreError> {
    for kind in [LogKind::Control, LogKind::Files] {
        let id = LogId { site: site.clone(), epoch: Epoch(rand::random()) };
        let log = Log { id, kind, predecessor: None };
        let chain = Chain::begin(&log);
        sqlx::query!(
            "insert into log (site, epoch, kind, sequence, chain, is_open)
             values ($1, $2, $3, 0, $4, true)
             on conflict do nothing",
            site.as_str(),
            columns::epoch_column(log.id.epoch),
            kind_column(kind),
            chain.0.as_bytes(),
        )
        .execute(pool)
        .await?;
    }
    let rows = sqlx::query!(
        "select id, epoch, kind, stamp_micros from log where site = $1 and is_open",
        site.as_str(),
    )
    .fetch_all(pool)
    .await?;
    let row = Row { table: "log", key: site };
    let stamps = rows.iter().map(|log| row.number("stamp_micros", log.stamp_micros));
    let stamp_micros = stamps.collect::<Result<Vec<_>, _>>()?.into_iter().max().unwrap_or(0);
    let files = rows
        .iter()
        .find(|log| log.kind == kind_column(LogKind::Files))
        .ok_or_else(|| row.corrupt("is_open"))?;
    let id = LogId { site: site.clone(), epoch: columns::epoch(files.epoch) };
    Ok(OwnLogs { files: OwnLog { row: files.id, id }, stamp_micros })
}

/// Takes `count` numbers. The row stays locked until the transaction ends, so that the order of numbers
/// is the order of commits (law 3).
pub(crate) async fn take_numbers(
    transaction: &mut PgConnection,
    log: &OwnLog,
    count: usize,
    stamp_micros: u64,
) -> Result<Numbers, StoreError> {
    let count = signed(count as u64);
    let taken = sqlx::query!(
        r#"update log
              set sequence = sequence + $2, stamp_micros = greatest(stamp_micros, $3)
            where id = $1
        returning sequence - $2 as "before!", chain"#,
        log.row,
        count,
        signed(stamp_micros),
    )
    .fetch_one(transaction)
    .await?;
    let row = Row { table: "log", key: &log.id };
    Ok(Numbers {
        before: row.number("sequence", taken.before)?,
        chain: row.chain("chain", &taken.chain)?,
    })
}

/// Moves the cursor of another site's log from one place to the sequence of the next, making the row if
/// this is the first; the chain follows with the records. Returns the row's id, or `None` where the
/// cursor was not at `from`: somebody else moved it.
pub(crate) async fn move_cursor(
    transaction: &mut PgConnection,
    from: &Cursor,
    to: &Cursor,
) -> Result<Option<i32>, StoreError> {
    let id = &from.log.id;
    let moved = sqlx::query_scalar!(
        "update log set sequence = $3
          where site = $1 and epoch = $2 and sequence = $4 and chain = $5 and not is_open
      returning id",
        id.site.as_str(),
        columns::epoch_column(id.epoch),
        signed(to.sequence),
        signed(from.sequence),
        from.chain.0.as_bytes(),
    )
    .fetch_optional(&mut *transaction)
    .await?;
    if moved.is_some() || from.sequence > 0 {
        return Ok(moved);
    }
    insert_cursor(transaction, to).await
}

async fn insert_cursor(
    transaction: &mut PgConnection,
    cursor: &Cursor,
) -> Result<Option<i32>, StoreError> {
    let log = &cursor.log;
    let predecessor = log.predecessor.as_ref();
    let count = sqlx::query_scalar!(r#"select count(*) as "count!" from log"#);
    if count.fetch_one(&mut *transaction).await? >= signed(LOGS_MAX as u64) {
        return Err(StoreError::TooManyLogs(LOGS_MAX));
    }
    let row = sqlx::query_scalar!(
        "insert into log (site, epoch, kind, predecessor_epoch, predecessor_sequence,
                          predecessor_chain, sequence, chain, is_open)
         values ($1, $2, $3, $4, $5, $6, $7, $8, false)
         on conflict (site, epoch) do nothing
         returning id",
        log.id.site.as_str(),
        columns::epoch_column(log.id.epoch),
        kind_column(log.kind),
        predecessor.map(|p| columns::epoch_column(p.epoch)),
        predecessor.map(|p| signed(p.sequence)),
        predecessor.map(|p| p.chain.0.as_bytes()),
        signed(cursor.sequence),
        cursor.chain.0.as_bytes(),
    )
    .fetch_optional(transaction)
    .await?;
    Ok(row)
}

impl Store {
    /// The site's vector: how far it has applied each log it knows, its own included, in the order of
    /// sites and epochs.
    pub async fn vector(&self) -> Result<Vec<Cursor>, StoreError> {
        let rows = sqlx::query_as!(
            LogRow,
            "select site, epoch, kind, predecessor_epoch, predecessor_sequence, predecessor_chain,
                    sequence, chain
               from log",
        )
        .fetch_all(self.pool())
        .await?;
        let mut cursors = rows.into_iter().map(Cursor::try_from).collect::<Result<Vec<_>, _>>()?;
        cursors.sort_by(|a, b| a.log.id.cmp(&b.log.id));
        Ok(cursors)
    }
}
