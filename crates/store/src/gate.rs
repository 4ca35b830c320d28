//! The gate before numbering: after a start or a reconnect nothing is numbered until a peer has said what
//! it has of this site's logs, or a second has passed. What waits here is not refused.
//!
//! Where the machine has booted since the witness was written, only peers can tell whether it was rolled back: a
//! number that one of them was told of for a read, but has no record of, would be given again unnoticed. Then the
//! first to answer is not the last to be waited for: each has a second. Where none answers a new epoch is opened.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bruri_domain::limits::PEER_ANSWER_MILLIS_MAX;
use sqlx::postgres::PgTransaction;
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, timeout},
};

use crate::{Store, StoreError};

const ANSWER: Duration = Duration::from_millis(PEER_ANSWER_MILLIS_MAX);

/// Open while the site has no peers.
pub(crate) struct Gate {
    has_peers: AtomicBool,
    is_open: watch::Sender<bool>,
    /// Who opens it though no peer has answered.
    opener: Mutex<()>,
    /// When the first peer answered.
    answered: OnceLock<Instant>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        let is_open = watch::Sender::new(true);
        let (has_peers, opener) = (AtomicBool::new(false), Mutex::default());
        Self { has_peers, is_open, opener, answered: OnceLock::new() }
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

    /// There is no other site to wait for, and so none that was told of a number that is not here.
    pub fn wait_for_nobody(&self) {
        self.inner.own.memory.confirm();
    }

    /// A peer has told all that it has, and [`Store::peer_has`] has heard it; again with each heartbeat. In doubt this
    /// opens the gate only a second after the first answer, unless who waits there has waited so long: another peer may
    /// know more.
    pub fn peer_answered(&self) {
        let first = *self.inner.gate.answered.get_or_init(Instant::now);
        if !self.inner.own.memory.is_in_doubt() || first.elapsed() >= ANSWER {
            self.inner.own.memory.confirm();
            self.inner.gate.open();
        }
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
            let is_in_doubt = self.inner.own.memory.is_in_doubt();
            if !is_in_doubt || self.inner.gate.answered.get().is_none() {
                tracing::info!("no peer has answered within a second; backups are taken without");
                if is_in_doubt {
                    self.judge_alone().await?;
                }
            }
            self.inner.own.memory.confirm();
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
