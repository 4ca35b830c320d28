//! Where a peer's batches go: checked, applied, and the cursors kept, whichever stream they came on.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bruri_domain::{Cursor, Log, LogId, LogKind, SiteName, limits::LOGS_MAX};
use bruri_store::{ApplyError, Store};
use bruri_wire::{
    proto::replication::v1 as proto,
    replication::{cursors, invalid},
};

use crate::{
    batch::{self, last_sequence},
    metrics,
    session::SessionError,
};

/// The peer's own logs, as the peer and this site have them.
pub(crate) struct Intake {
    store: Store,
    peer: SiteName,
    logs: Mutex<BTreeMap<LogId, Progress>>,
}

struct Progress {
    log: Log,
    /// What we have applied.
    ours: Cursor,
    /// The peer's last sequence, as it last said.
    theirs: u64,
    /// Why we take no more of it from this peer.
    refused: Option<String>,
}

impl Progress {
    fn lag(&self) -> u64 {
        self.theirs.saturating_sub(self.ours.sequence)
    }
}

impl Intake {
    pub(crate) fn new(store: Store, peer: SiteName) -> Self {
        Self { store, peer, logs: Mutex::default() }
    }

    /// Notes how far the peer is; returns the logs that were not known before in this session.
    pub(crate) async fn hear(
        &self,
        heartbeat: proto::Heartbeat,
    ) -> Result<Vec<LogId>, SessionError> {
        let new = self.hear_known(heartbeat)?;
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let vector = self.store.vector().await?;
        let mut logs = self.lock();
        if logs.len().saturating_add(new.len()) > LOGS_MAX {
            return Err(invalid("heartbeat.changed").into());
        }
        let ids = new.iter().map(|theirs| theirs.log.id.clone()).collect();
        for Cursor { log, sequence, .. } in new {
            let ours = cursor_in(&vector, &log);
            let id = log.id.clone();
            logs.insert(id, Progress { log, ours, theirs: sequence, refused: None });
        }
        Ok(ids)
    }

    /// The same for logs that are known; returns the others.
    pub(crate) fn hear_known(
        &self,
        heartbeat: proto::Heartbeat,
    ) -> Result<Vec<Cursor>, SessionError> {
        let mut logs = self.lock();
        let mut new = cursors(heartbeat.changed)?;
        new.retain(|theirs| match logs.get_mut(&theirs.log.id) {
            Some(progress) => {
                // Heartbeats of two streams overtake each other.
                progress.theirs = progress.theirs.max(theirs.sequence);
                false
            }
            // Until any peer serves any log, each is asked for its own.
            None => theirs.log.id.site == self.peer,
        });
        Ok(new)
    }

    /// Applies a batch of a log that was wanted: what we have already is passed over. One that is wrong
    /// bars its log for the rest of the session and costs the others nothing: `false`.
    pub(crate) async fn take(&self, batch: proto::Batch) -> Result<bool, SessionError> {
        let log: Log = batch.log.clone().ok_or(invalid("batch.log"))?.try_into()?;
        let last = last_sequence(&batch);
        loop {
            let from = match self.place(&log.id)? {
                Some(from) if last > from.sequence => from,
                // We have it; or it was on its way when its log was barred.
                _ => return Ok(true),
            };
            let checked = match batch::check(batch.clone(), &from, self.store.key()) {
                Ok(checked) => checked,
                Err(error) => {
                    tracing::error!(peer = %self.peer, log = %log.id, %error,
                        "a peer's batch is refused; its log waits for the next connection");
                    self.bar(&log.id, error.to_string());
                    return Ok(false);
                }
            };
            match self.store.apply(&checked).await {
                Ok(()) => {
                    metrics::applied(&self.peer, checked.records.len());
                    self.advance(&log.id, checked.to);
                    return Ok(true);
                }
                Err(ApplyError::CursorMoved(_)) => self.follow(&log, &from).await?,
                Err(ApplyError::Store(error)) => return Err(error.into()),
            }
        }
    }

    /// Where a log that was wanted goes on; none where it is barred.
    fn place(&self, log: &LogId) -> Result<Option<Cursor>, SessionError> {
        let logs = self.lock();
        let progress = logs.get(log).ok_or(invalid("batch.log"))?;
        Ok(progress.refused.is_none().then(|| progress.ours.clone()))
    }

    /// Another brurid of this site has moved the cursor: go on from there.
    async fn follow(&self, log: &Log, from: &Cursor) -> Result<(), SessionError> {
        let ours = cursor_in(&self.store.vector().await?, log);
        if ours.sequence <= from.sequence {
            return Err(SessionError::CursorMoved);
        }
        self.advance(&log.id, ours);
        Ok(())
    }

    fn advance(&self, log: &LogId, to: Cursor) {
        if let Some(progress) = self.lock().get_mut(log) {
            progress.ours = to;
        }
    }

    /// Takes no more of a log for the rest of the session; `false` where that is so already, or nobody
    /// wanted it.
    pub(crate) fn bar(&self, log: &LogId, reason: String) -> bool {
        match self.lock().get_mut(log) {
            Some(progress) if progress.refused.is_none() => {
                progress.refused = Some(reason);
                true
            }
            _ => false,
        }
    }

    /// Why some log is barred.
    pub(crate) fn barred(&self) -> Option<String> {
        self.lock().values().find_map(|progress| progress.refused.clone())
    }

    /// Where to go on with those of `logs` that are not barred: control logs first.
    pub(crate) fn cursors(&self, logs: &[LogId]) -> Vec<Cursor> {
        let progress = self.lock();
        let wanted = logs.iter().filter_map(|log| progress.get(log));
        let (control, files): (Vec<_>, Vec<_>) = wanted
            .filter(|progress| progress.refused.is_none())
            .partition(|progress| progress.log.kind == LogKind::Control);
        control.into_iter().chain(files).map(|progress| progress.ours.clone()).collect()
    }

    /// Records of a log that the peer has and we have not, as it last said.
    pub(crate) fn lag_of(&self, log: &LogId) -> u64 {
        let logs = self.lock();
        logs.get(log).filter(|p| p.refused.is_none()).map_or(0, Progress::lag)
    }

    /// The same of all its logs.
    pub(crate) fn lag(&self) -> u64 {
        self.lock().values().fold(0, |sum, progress| sum.saturating_add(progress.lag()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LogId, Progress>> {
        // Every change is one assignment, so the map is whole even after a panic.
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a log is in a vector; at its beginning if it is not there.
fn cursor_in(vector: &[Cursor], log: &Log) -> Cursor {
    let known = vector.iter().find(|cursor| cursor.log.id == log.id);
    known.cloned().unwrap_or_else(|| Cursor::at_beginning(log.clone()))
}
