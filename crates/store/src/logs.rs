//! Table `log`: counters of this site's logs, cursors of the others', and of its own once they are closed.

use bruri_domain::{Chain, Cursor, Log, LogId, Predecessor, SiteName, limits::LOGS_MAX};
use sqlx::PgConnection;

use crate::{
    Store, StoreError,
    columns::{self, Row, kind_column, signed},
};

pub(crate) struct LogRow {
    pub(crate) site: String,
    pub(crate) epoch: i64,
    pub(crate) kind: i16,
    pub(crate) predecessor_epoch: Option<i64>,
    pub(crate) predecessor_sequence: Option<i64>,
    pub(crate) predecessor_chain: Option<Vec<u8>>,
    pub(crate) sequence: i64,
    pub(crate) chain: Vec<u8>,
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

/// A cursor that was moved.
pub(crate) struct MovedCursor {
    pub(crate) row: i32,
    /// Where the log was set back: the first place of the branch that stays, and its chain there.
    pub(crate) stays: Option<(u64, Chain)>,
    /// Up to there records may be here already, which came with states.
    pub(crate) heads: u64,
}

/// Moves the cursor of a log, never one that this site appends to, from one place to the sequence of the next, making the row if
/// this is the first; the chain follows with the records. Returns `None` where the cursor was not at `from`:
/// somebody else moved it.
pub(crate) async fn move_cursor(
    transaction: &mut PgConnection,
    from: &Cursor,
    to: &Cursor,
) -> Result<Option<MovedCursor>, StoreError> {
    let id = &from.log.id;
    let moved = sqlx::query!(
        "update log set sequence = $3
          where site = $1 and epoch = $2 and sequence = $4 and chain = $5 and not is_open
      returning id, stays_sequence, stays_chain, heads_sequence",
        id.site.as_str(),
        columns::epoch_column(id.epoch),
        signed(to.sequence),
        signed(from.sequence),
        from.chain.0.as_bytes(),
    )
    .fetch_optional(&mut *transaction)
    .await?;
    if let Some(moved) = moved {
        let row = Row { table: "log", key: id };
        let stays = match moved.stays_sequence.zip(moved.stays_chain) {
            Some((sequence, chain)) => {
                Some((row.number("stays_sequence", sequence)?, row.chain("stays_chain", &chain)?))
            }
            None => None,
        };
        let heads = row.number("heads_sequence", moved.heads_sequence)?;
        return Ok(Some(MovedCursor { row: moved.id, stays, heads }));
    }
    if from.sequence > 0 {
        return Ok(None);
    }
    let row = insert_cursor(transaction, to).await?;
    Ok(row.map(|row| MovedCursor { row, stays: None, heads: 0 }))
}

/// Makes the row of a log that this site does not append to.
pub(crate) async fn insert_cursor(
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
        vector(&mut *self.pool().acquire().await?).await
    }
}

/// The same as one transaction sees it.
pub(crate) async fn vector(connection: &mut PgConnection) -> Result<Vec<Cursor>, StoreError> {
    let rows = sqlx::query_as!(
        LogRow,
        "select site, epoch, kind, predecessor_epoch, predecessor_sequence, predecessor_chain,
                sequence, chain
           from log",
    )
    .fetch_all(connection)
    .await?;
    let mut cursors = rows.into_iter().map(Cursor::try_from).collect::<Result<Vec<_>, _>>()?;
    cursors.sort_by(|a, b| a.log.id.cmp(&b.log.id));
    Ok(cursors)
}
