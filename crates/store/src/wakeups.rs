//! Tells readers of the logs that there may be more to read.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Store, StoreError};

/// Counts the changes that this process made or noticed.
pub(crate) struct Wakeups {
    /// All of them.
    all: watch::Sender<u64>,
    /// Those of which nobody was told where the logs are now.
    untold: watch::Sender<u64>,
}

impl Wakeups {
    pub(crate) fn new() -> Self {
        Self { all: watch::Sender::new(0), untold: watch::Sender::new(0) }
    }

    /// Some log has grown.
    pub(crate) fn wake(&self) {
        self.wake_applied();
        self.untold.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Some log has grown by what a peer sent, as far as whoever applied it knows.
    pub(crate) fn wake_applied(&self) {
        self.all.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Store {
    /// Changes whenever some log may have grown. It only wakes a reader early; reading decides.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.wakeups.all.subscribe()
    }

    /// The same, but for what [`Store::apply`] did: who called it knows where the log is.
    pub fn changes_not_applied(&self) -> watch::Receiver<u64> {
        self.inner.wakeups.untold.subscribe()
    }

    /// Notices what other `brurid` on the same database commit, by reading the counter rows every
    /// `interval`, until `stop`. A database that is away is tried again at the next turn.
    pub async fn poll_changes(&self, interval: Duration, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = None;
        let mut reachable = true;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            match self.sequences_sum().await {
                Ok(sum) => {
                    if last.replace(sum) != Some(sum) {
                        self.inner.wakeups.wake();
                    }
                    reachable = true;
                }
                Err(error) => {
                    if std::mem::replace(&mut reachable, false) {
                        tracing::warn!(%error, "cannot look for changes in the database");
                    }
                }
            }
        }
    }

    pub(crate) async fn sequences_sum(&self) -> Result<i64, StoreError> {
        let sum = sqlx::query_scalar!(r#"select sum(sequence)::bigint as "sum!" from log"#);
        Ok(sum.fetch_one(self.pool()).await?)
    }
}
