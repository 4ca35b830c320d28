//! The gate before numbering: after a start or a reconnect nothing is numbered until a peer has said what
//! it has of this site's logs, or a second has passed. What waits here is not refused.
//!
//! Where no peer has answered and the machine has booted since the witness was written, a new epoch is
//! opened first: nobody can tell whether the machine was rolled back, and a number that a peer was told of
//! for a read, but has no record of, would be given again unnoticed.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bruri_domain::limits::PEER_ANSWER_MILLIS_MAX;
use sqlx::postgres::PgTransaction;
use tokio::{
    sync::{Mutex, watch},
    time::timeout,
};

use crate::{Store, StoreError};

const ANSWER: Duration = Duration::from_millis(PEER_ANSWER_MILLIS_MAX);

/// Open while the site has no peers.
pub(crate) struct Gate {
    has_peers: AtomicBool,
    is_open: watch::Sender<bool>,
    /// Who opens it though no peer has answered.
    opener: Mutex<()>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        let is_open = watch::Sender::new(true);
        Self { has_peers: AtomicBool::new(false), is_open, opener: Mutex::default() }
    }

    /// Returns whether the gate is open, or opened within a second.
    async fn pass(&self) -> bool {
        let mut is_open = self.is_open.subscribe();
        timeout(ANSWER, is_open.wait_for(|is_open| *is_open)).await.is_ok()
    }

    fn is_open(&self) -> bool {
        *self.is_open.borrow()
    }

    fn open(&self) {
        self.is_open.send_replace(true);
    }

    /// What the database holds may be older than what this process or a peer saw of it.
    fn shut(&self) {
        if self.has_peers.load(Ordering::Acquire) {
            self.is_open.send_replace(false);
        }
    }

    /// A failure that may be the end of a connection: the next one may lead to another database.
    pub(crate) fn note(&self, error: &StoreError) {
        if error.is_of_connection() {
            self.shut();
        }
    }
}

impl Store {
    /// From now on, and again after each reconnect, nothing is numbered until a peer has answered, or a
    /// second has passed. For a site that has peers, before its committer runs.
    pub fn wait_for_peers(&self) {
        self.inner.gate.has_peers.store(true, Ordering::Release);
        self.inner.gate.shut();
    }

    /// A peer has told all that it has, and [`Store::peer_has`] has heard it.
    pub fn peer_answered(&self) {
        self.inner.own.memory.confirm();
        self.inner.gate.open();
    }

    /// Begins a transaction that will number records, when that may be done; no row of it is locked yet.
    pub(crate) async fn begin_append(&self) -> Result<PgTransaction<'static>, StoreError> {
        // First, so that the database is there when the waiting begins.
        let transaction = self.pool().begin().await?;
        if self.inner.gate.pass().await {
            return Ok(transaction);
        }
        // Its connection may be the one that the judging needs.
        transaction.rollback().await?;
        self.open_gate_alone().await?;
        Ok(self.pool().begin().await?)
    }

    async fn open_gate_alone(&self) -> Result<(), StoreError> {
        let _opener = self.inner.gate.opener.lock().await;
        if !self.inner.gate.is_open() {
            tracing::info!("no peer has answered within a second; backups are taken without");
            if self.inner.own.memory.is_in_doubt() {
                self.judge_alone().await?;
            }
            self.inner.gate.open();
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test that overflows panics, as it should")]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn shut() -> Gate {
        let gate = Gate::new();
        gate.has_peers.store(true, Ordering::Release);
        gate.shut();
        gate
    }

    #[tokio::test]
    async fn an_answer_lets_all_pass_at_once_and_without_peers_nobody_waits() {
        let (gate, alone, began) = (shut(), Gate::new(), Instant::now());
        alone.shut();
        assert!(alone.pass().await);
        let (first, second, ()) = tokio::join!(gate.pass(), gate.pass(), async { gate.open() });
        assert!(first && second);
        assert!(began.elapsed() < ANSWER, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn without_an_answer_nobody_passes_for_a_second_again_after_each_reconnect() {
        let (gate, began) = (shut(), Instant::now());
        let (first, second) = tokio::join!(gate.pass(), gate.pass());
        assert!(!first && !second);
        assert!((ANSWER..ANSWER * 2).contains(&began.elapsed()), "{:?}", began.elapsed());
        gate.open();
        gate.note(&StoreError::CommitFailed);
        assert!(gate.pass().await);
        assert!(began.elapsed() < ANSWER * 2, "{:?}", began.elapsed());
        gate.note(&StoreError::Database(sqlx::Error::PoolTimedOut));
        assert!(!gate.pass().await);
        assert!(began.elapsed() >= ANSWER * 2, "{:?}", began.elapsed());
    }
}
