//! Where the epoch of this site's logs ends: judged under the lock of their rows, so that however many
//! `brurid` of the site notice, one opens the next.

use std::path::Path;

use bruri_domain::{
    Chain, Cursor, Ending, Epoch, Held, Identity, Log, LogId, LogKind, Predecessor, SiteName,
    Witness, epoch, limits::COMMIT_TRIES_MAX,
};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use crate::{
    Store, StoreError,
    columns::{Row, epoch_column, kind_column, signed},
    logs::{self, LogRow},
    own::{Current, Opened, OwnLog, OwnLogs},
    witness::{Boot, Told},
};

/// An open log under lock.
struct Open {
    row: i32,
    end: Cursor,
    numbered_by: Option<Identity>,
    now: Option<Identity>,
}

/// What is held of a log of this site that somebody speaks of.
#[derive(Clone, Copy, Debug)]
struct Known {
    held: Held,
    set_back: bool,
}

impl Store {
    /// Keeps what this process sees committed in that file, too, and holds what it told before against
    /// the database; for a start, before anything is numbered.
    pub async fn keep_witness(&self, path: &Path) -> Result<(), StoreError> {
        let memory = &self.inner.own.memory;
        let told = memory.keep_in(path, Boot::running());
        if self.inner.own.began_here {
            memory.confirm();
        } else if told == Told::Nothing {
            tracing::warn!(
                path = %path.display(),
                "the witness of earlier commits is lost or damaged: only peers tell what the database lacks"
            );
        }
        self.judge(&[]).await
    }

    /// Puts the witness on disk every second until `stop`.
    pub async fn sync_witness(&self, stop: CancellationToken) {
        self.inner.own.memory.sync(stop).await;
    }

    /// Hears what a peer has, as its heartbeats tell; what is of other sites is passed over. Where the peer
    /// has more of an open log of this site than the database, or other records, a new epoch is
    /// opened. Returns the closed logs of this site that the peer has another branch of, as far as this site
    /// has not given way yet: [`Store::set_back`] is to be called for them.
    pub async fn peer_has(&self, theirs: &[Cursor]) -> Result<Vec<LogId>, StoreError> {
        let own: Vec<&Cursor> =
            theirs.iter().filter(|cursor| cursor.log.id.site == *self.site()).collect();
        if own.is_empty() {
            return Ok(Vec::new());
        }
        let witnesses: Vec<Witness> = own.iter().copied().map(Witness::from).collect();
        let mut known = self.known(&witnesses).await?;
        let ends = |(witness, known): (&Witness, &Option<Known>)| {
            witness.ending(known.as_ref().map(|known| &known.held)).is_some()
        };
        if witnesses.iter().zip(&known).any(ends) {
            self.judge(&own).await?;
            known = self.known(&witnesses).await?;
        }
        let forked = own.iter().zip(&witnesses).zip(known).filter(|((_, witness), known)| {
            known.is_some_and(|known| !known.set_back && witness.is_fork(&known.held))
        });
        Ok(forked.map(|((cursor, _), _)| cursor.log.id.clone()).collect())
    }

    /// Somebody had seen a number that this database has not given: a new epoch is opened.
    pub(crate) async fn number_was_seen(
        &self,
        kind: LogKind,
        sequence: u64,
    ) -> Result<(), StoreError> {
        let id = self.inner.own.logs().of(kind).id.clone();
        let seen = Cursor { sequence, ..Cursor::at_beginning(Log { id, kind, predecessor: None }) };
        self.judge(&[&seen]).await
    }

    /// Opens a new epoch, unless another `brurid` has: nobody can tell what the open one lacks.
    pub(crate) async fn judge_alone(&self) -> Result<(), StoreError> {
        let doubted = self.inner.own.logs().files.id;
        self.judge_by(&[], Some(&doubted)).await
    }

    async fn known(&self, witnesses: &[Witness]) -> Result<Vec<Option<Known>>, StoreError> {
        let mut connection = self.pool().acquire().await?;
        known(&mut connection, self.site(), witnesses).await
    }

    /// Opens a new epoch where what was seen here or at a peer speaks against the open one.
    async fn judge(&self, theirs: &[&Cursor]) -> Result<(), StoreError> {
        self.judge_by(theirs, None).await
    }

    async fn judge_by(
        &self,
        theirs: &[&Cursor],
        doubted: Option<&LogId>,
    ) -> Result<(), StoreError> {
        let seen: Vec<Witness> = self.inner.own.memory.seen().all().collect();
        let mut transaction = self.pool().begin().await?;
        let current = judge(&mut transaction, self.site(), &seen, theirs, doubted).await?;
        transaction.commit().await?;
        self.inner.own.adopt(current);
        self.inner.wakeups.wake();
        Ok(())
    }
}

/// Locks the open logs, and opens the next epoch of both where one of them must end: they are in one
/// database, so what happened to one happened to the other. So it is where the log is open still that
/// nobody can speak for. Logs that only a peer knew are noted as closed ones, to be fetched.
pub(crate) async fn judge(
    transaction: &mut PgConnection,
    site: &SiteName,
    seen: &[Witness],
    theirs: &[&Cursor],
    doubted: Option<&LogId>,
) -> Result<Current, StoreError> {
    let open = lock_open(&mut *transaction, site).await?;
    let told = theirs.iter().copied().map(Witness::from);
    let witnesses: Vec<Witness> = seen.iter().copied().chain(told).collect();
    let known = known(&mut *transaction, site, &witnesses).await?;
    let held: Vec<Option<Held>> = known.iter().map(|known| known.map(|known| known.held)).collect();
    for cursor in theirs.iter().zip(held.iter().skip(seen.len())).filter(|(_, h)| h.is_none()) {
        let beginning = Cursor::at_beginning(cursor.0.log.clone());
        logs::insert_cursor(&mut *transaction, &beginning).await?;
    }
    let why = open.iter().find_map(|log| {
        let seen = witnesses.iter().zip(held.iter().map(Option::as_ref));
        epoch::ending(log.numbered_by.as_ref(), log.now.as_ref(), seen)
    });
    let is_doubted = |log: &Open| doubted == Some(&log.end.log.id);
    let why = why.or_else(|| open.iter().any(is_doubted).then_some(Ending::Unconfirmed));
    let Some(why) = why else { return found(site, open) };
    let mut pairs = Vec::with_capacity(open.len());
    let mut beginnings = Vec::with_capacity(open.len());
    for old in open {
        let (log, beginning) = succeed(&mut *transaction, old).await?;
        pairs.push((beginning.log.kind, log));
        beginnings.push(beginning);
    }
    let logs = OwnLogs::from_pairs(pairs);
    let logs = logs.ok_or_else(|| Row { table: "log", key: site }.corrupt("is_open"))?;
    Ok(Current { logs, opened: Some(Opened { why, beginnings }) })
}

fn found(site: &SiteName, open: Vec<Open>) -> Result<Current, StoreError> {
    let pair = |log: Open| (log.end.log.kind, OwnLog { row: log.row, id: log.end.log.id });
    let logs = OwnLogs::from_pairs(open.into_iter().map(pair));
    let logs = logs.ok_or_else(|| Row { table: "log", key: site }.corrupt("is_open"))?;
    Ok(Current { logs, opened: None })
}

/// Locks both open logs. While it waited another `brurid` may have closed the ones that it found and
/// opened the next, which only a new statement sees.
async fn lock_open(
    transaction: &mut PgConnection,
    site: &SiteName,
) -> Result<Vec<Open>, StoreError> {
    for _ in 0..COMMIT_TRIES_MAX {
        let rows = sqlx::query!(
            "select id, site, epoch, kind, predecessor_epoch, predecessor_sequence,
                    predecessor_chain, sequence, chain, identity,
                    nullif(current_setting('bruri.identity', true), '') as now
               from log where site = $1 and is_open order by id for update",
            site.as_str(),
        )
        .fetch_all(&mut *transaction)
        .await?;
        let open = rows.into_iter().map(|row| {
            let log = LogRow {
                site: row.site,
                epoch: row.epoch,
                kind: row.kind,
                predecessor_epoch: row.predecessor_epoch,
                predecessor_sequence: row.predecessor_sequence,
                predecessor_chain: row.predecessor_chain,
                sequence: row.sequence,
                chain: row.chain,
            };
            let (numbered_by, now) = (row.identity.map(Identity), row.now.map(Identity));
            Ok(Open { row: row.id, end: log.try_into()?, numbered_by, now })
        });
        let open = open.collect::<Result<Vec<_>, StoreError>>()?;
        if open.len() == 2 {
            return Ok(open);
        }
    }
    Err(Row { table: "log", key: site }.corrupt("is_open"))
}

/// Closes a log and opens the next, which names where the old one was left.
async fn succeed(
    transaction: &mut PgConnection,
    old: Open,
) -> Result<(OwnLog, Cursor), StoreError> {
    let Open { row, end: Cursor { log, sequence, chain }, .. } = old;
    let predecessor = Predecessor { epoch: log.id.epoch, sequence, chain };
    let id = LogId { epoch: Epoch(rand::random()), ..log.id };
    let beginning =
        Cursor::at_beginning(Log { id, kind: log.kind, predecessor: Some(predecessor) });
    sqlx::query!("update log set is_open = false where id = $1", row)
        .execute(&mut *transaction)
        .await?;
    let row = sqlx::query_scalar!(
        "insert into log (site, epoch, kind, predecessor_epoch, predecessor_sequence,
                          predecessor_chain, sequence, chain, is_open, identity)
         values ($1, $2, $3, $4, $5, $6, 0, $7, true,
                 nullif(current_setting('bruri.identity', true), ''))
         returning id",
        beginning.log.id.site.as_str(),
        epoch_column(beginning.log.id.epoch),
        kind_column(log.kind),
        epoch_column(predecessor.epoch),
        signed(predecessor.sequence),
        predecessor.chain.0.as_bytes(),
        beginning.chain.0.as_bytes(),
    )
    .fetch_one(transaction)
    .await?;
    Ok((OwnLog { row, id: beginning.log.id.clone() }, beginning))
}

/// What is held of what each witness speaks of, in their order.
async fn known(
    connection: &mut PgConnection,
    site: &SiteName,
    witnesses: &[Witness],
) -> Result<Vec<Option<Known>>, StoreError> {
    let epochs: Vec<i64> = witnesses.iter().map(|w| epoch_column(w.epoch)).collect();
    let sequences: Vec<i64> = witnesses.iter().map(|w| signed(w.sequence)).collect();
    let rows = sqlx::query!(
        r#"select wanted.place as "place!", log.is_open, log.set_back, log.sequence,
                  case when log.sequence = wanted.sequence then log.chain
                       else record.chain end as chain
             from unnest($2::bigint[], $3::bigint[]) with ordinality
                      as wanted (epoch, sequence, place)
             join log on log.site = $1 and log.epoch = wanted.epoch
             left join record on record.log = log.id and record.sequence = wanted.sequence"#,
        site.as_str(),
        &epochs,
        &sequences,
    )
    .fetch_all(connection)
    .await?;
    let row = Row { table: "log", key: site };
    let mut known = vec![None; witnesses.len()];
    for found in rows {
        let place = usize::try_from(found.place).ok().and_then(|place| place.checked_sub(1));
        let chain: Option<Chain> = match found.chain.as_deref() {
            Some(chain) => Some(row.chain("chain", chain)?),
            None => None,
        };
        let sequence = row.number("sequence", found.sequence)?;
        let held = Held { is_open: found.is_open, sequence, chain };
        if let Some(slot) = place.and_then(|place| known.get_mut(place)) {
            *slot = Some(Known { held, set_back: found.set_back });
        }
    }
    Ok(known)
}
