//! The gate before numbering: after a start or a reconnect nothing is numbered until a peer has said what
//! it has of this site's logs, or a second has passed. What waits here is not refused.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bruri_domain::limits::PEER_ANSWER_MILLIS_MAX;
use tokio::{sync::watch, time::timeout};

use crate::{Store, StoreError};

const ANSWER: Duration = Duration::from_millis(PEER_ANSWER_MILLIS_MAX);

/// Open while the site has no peers.
pub(crate) struct Gate {
    has_peers: AtomicBool,
    is_open: watch::Sender<bool>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { has_peers: AtomicBool::new(false), is_open: watch::Sender::new(true) }
    }

    /// Returns when a peer has answered, or after a second; from then on the gate is open.
    pub(crate) async fn pass(&self) {
        let mut is_open = self.is_open.subscribe();
        let answered = timeout(ANSWER, is_open.wait_for(|is_open| *is_open)).await;
        if answered.is_err() {
            tracing::info!("no peer has answered within a second; backups are taken without");
            self.open();
        }
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
        self.inner.gate.open();
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
        alone.pass().await;
        tokio::join!(gate.pass(), gate.pass(), async { gate.open() });
        assert!(began.elapsed() < ANSWER, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn without_an_answer_all_pass_after_a_second_until_the_next_reconnect() {
        let (gate, began) = (shut(), Instant::now());
        tokio::join!(gate.pass(), gate.pass());
        gate.pass().await;
        assert!((ANSWER..ANSWER * 2).contains(&began.elapsed()), "{:?}", began.elapsed());
        gate.note(&StoreError::CommitFailed);
        gate.pass().await;
        assert!(began.elapsed() < ANSWER * 2, "{:?}", began.elapsed());
        gate.note(&StoreError::Database(sqlx::Error::PoolTimedOut));
        gate.pass().await;
        assert!(began.elapsed() >= ANSWER * 2, "{:?}", began.elapsed());
    }
}
