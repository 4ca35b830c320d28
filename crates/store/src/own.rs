//! The logs that this site appends to, as this process knows them.

use std::sync::{PoisonError, RwLock};

use bruri_domain::{Chain, Cursor, Ending, Epoch, Log, LogId, LogKind, SiteName, Witness};
use sqlx::PgPool;

use crate::{
    Store, StoreError,
    columns::{self, Row, kind_column},
    metrics,
    witness::Memory,
};

/// The open logs of the site.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct OwnLogs {
    pub(crate) control: OwnLog,
    pub(crate) files: OwnLog,
}

/// A log that this site appends to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct OwnLog {
    pub(crate) row: i32,
    pub(crate) id: LogId,
}

impl OwnLogs {
    pub(crate) fn of(&self, kind: LogKind) -> &OwnLog {
        match kind {
            LogKind::Control => &self.control,
            LogKind::Files => &self.files,
        }
    }

    /// Puts the two together; none where one is missing.
    pub(crate) fn from_pairs(pairs: impl IntoIterator<Item = (LogKind, OwnLog)>) -> Option<Self> {
        let (mut control, mut files) = (None, None);
        for (kind, log) in pairs {
            match kind {
                LogKind::Control => control = Some(log),
                LogKind::Files => files = Some(log),
            }
        }
        Some(Self { control: control?, files: files? })
    }
}

/// The open logs as the database last told, and what it told once that is committed.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    pub(crate) logs: OwnLogs,
    /// Set where they were opened in this transaction.
    pub(crate) opened: Option<Opened>,
}

/// A new epoch.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) why: Ending,
    /// The beginnings of both logs.
    pub(crate) beginnings: Vec<Cursor>,
}

/// What this process knows of the site's own logs. Only the database decides; what is known here is
/// checked against it with every number that is taken.
pub(crate) struct Own {
    logs: RwLock<OwnLogs>,
    /// They were opened by this process, so nothing was ever numbered before.
    pub(crate) began_here: bool,
    pub(crate) memory: Memory,
}

impl Own {
    fn new(logs: OwnLogs, began_here: bool) -> Self {
        Self { logs: RwLock::new(logs), began_here, memory: Memory::default() }
    }

    pub(crate) fn logs(&self) -> OwnLogs {
        self.logs.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes over what a transaction found or opened, after its commit.
    pub(crate) fn adopt(&self, current: Current) {
        let Current { logs, opened } = current;
        if let Some(Opened { why, beginnings }) = opened {
            metrics::epoch_opened(why);
            for beginning in &beginnings {
                tracing::warn!(
                    log = %beginning.log.id,
                    continues = beginning.log.predecessor.map(|p| format!("{}/{}", p.epoch, p.sequence)),
                    why = why.name(),
                    "a new epoch begins; what the old one lost is fetched from peers"
                );
                self.memory.note(beginning.log.kind, Witness::from(beginning));
            }
        }
        *self.logs.write().unwrap_or_else(PoisonError::into_inner) = logs;
    }
}

impl Store {
    /// Whether this site appends to that log, as far as this process knows.
    pub fn appends_to(&self, log: &LogId) -> bool {
        let own = self.inner.own.logs();
        own.control.id == *log || own.files.id == *log
    }
}

/// Finds the logs that the site appends to, or opens its first ones; with the newest time in either.
pub(crate) async fn open(pool: &PgPool, site: &SiteName) -> Result<(Own, u64), StoreError> {
    let mut begun = 0;
    for kind in [LogKind::Control, LogKind::Files] {
        let id = LogId { site: site.clone(), epoch: Epoch(rand::random()) };
        let log = Log { id, kind, predecessor: None };
        let chain = Chain::begin(&log);
        let inserted = sqlx::query!(
            "insert into log (site, epoch, kind, sequence, chain, is_open, identity)
             values ($1, $2, $3, 0, $4, true, nullif(current_setting('bruri.identity', true), ''))
             on conflict do nothing",
            site.as_str(),
            columns::epoch_column(log.id.epoch),
            kind_column(kind),
            chain.0.as_bytes(),
        )
        .execute(pool)
        .await?;
        begun |= inserted.rows_affected();
    }
    let rows = sqlx::query!(
        "select id, epoch, kind, stamp_micros from log where site = $1 and is_open",
        site.as_str(),
    )
    .fetch_all(pool)
    .await?;
    let row = Row { table: "log", key: site };
    let (mut pairs, mut stamp_micros) = (Vec::new(), 0);
    for log in rows {
        let id = LogId { site: site.clone(), epoch: columns::epoch(log.epoch) };
        pairs.push((row.kind(log.kind)?, OwnLog { row: log.id, id }));
        stamp_micros = row.number("stamp_micros", log.stamp_micros)?.max(stamp_micros);
    }
    let logs = OwnLogs::from_pairs(pairs).ok_or_else(|| row.corrupt("is_open"))?;
    Ok((Own::new(logs, begun > 0), stamp_micros))
}
