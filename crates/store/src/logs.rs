//! Table `log`: counters of this site's logs, cursors of the others', and of its own once they are closed.

use std::collections::BTreeMap;

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
    /// Where it was set back: the last place of the branch that gave way.
    pub(crate) void: u64,
}

/// Moves cursors of logs, none that this site appends to, each from one place to the sequence of the next, making the row
/// of a log if this is the first; the chains follow with the records. Tells of each, in their order; `None` where a
/// cursor was not where it is moved from: somebody else moved it.
pub(crate) async fn move_cursors(
    transaction: &mut PgConnection,
    cursors: &[(&Cursor, &Cursor)],
) -> Result<Vec<Option<MovedCursor>>, StoreError> {
    let ids = || cursors.iter().map(|(from, _)| &from.log.id);
    let sites: Vec<&str> = ids().map(|id| id.site.as_str()).collect();
    let epochs: Vec<i64> = ids().map(|id| columns::epoch_column(id.epoch)).collect();
    let before: Vec<i64> = cursors.iter().map(|(from, _)| signed(from.sequence)).collect();
    let chains: Vec<&[u8]> = cursors.iter().map(|(from, _)| from.chain.0.as_bytes()).collect();
    let after: Vec<i64> = cursors.iter().map(|(_, to)| signed(to.sequence)).collect();
    let rows = sqlx::query!(
        r#"update log set sequence = moved.after
             from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bigint[])
                  with ordinality as moved (site, epoch, before, chain, after, place)
            where log.site = moved.site and log.epoch = moved.epoch
              and log.sequence = moved.before and log.chain = moved.chain and not is_open
        returning moved.place as "place!", id, stays_sequence, stays_chain, heads_sequence,
                  coalesce(void_sequence, 0) as "void_sequence!""#,
        &sites as _,
        &epochs,
        &before,
        &chains as _,
        &after,
    )
    .fetch_all(&mut *transaction)
    .await?;
    let mut moved = BTreeMap::new();
    for found in rows {
        let row = Row { table: "log", key: &found.id };
        let stays = match found.stays_sequence.zip(found.stays_chain) {
            Some((sequence, chain)) => {
                Some((row.number("stays_sequence", sequence)?, row.chain("stays_chain", &chain)?))
            }
            None => None,
        };
        let heads = row.number("heads_sequence", found.heads_sequence)?;
        let void = row.number("void_sequence", found.void_sequence)?;
        moved.insert(found.place, MovedCursor { row: found.id, stays, heads, void });
    }
    let mut all = Vec::with_capacity(cursors.len());
    for (place, (from, to)) in (1..).zip(cursors) {
        let mut found = moved.remove(&place);
        if found.is_none() && from.sequence == 0 {
            let row = insert_cursor(&mut *transaction, to).await?;
            found = row.map(|row| MovedCursor { row, stays: None, heads: 0, void: 0 });
        }
        all.push(found);
    }
    Ok(all)
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
