//! What is told of members, made known to the connections.

use std::time::Duration;

use bruri_store::StoreError;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{Members, invite::is_told};

/// The membership is read no more often, however much is written.
const READ_AT_MOST: Duration = Duration::from_millis(250);
/// So often it is looked whether links lead elsewhere than was thought.
const LOOK: Duration = Duration::from_secs(1);

impl Members {
    /// Follows the membership until `stop`.
    pub(super) async fn follow(&self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.follow_on() => {}
        }
    }

    async fn follow_on(&self) {
        let mut changes = self.store().changes();
        let mut pace = interval(READ_AT_MOST);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut failing, mut told_about_us) = (false, false);
        loop {
            pace.tick().await;
            changes.mark_unchanged();
            match self.read(&mut told_about_us).await {
                Ok(()) => failing = false,
                Err(error) if failing => tracing::debug!(%error, "cannot read the membership"),
                Err(error) => {
                    tracing::warn!(%error, "cannot read the membership; trying on");
                    failing = true;
                }
            }
            while let Err(_elapsed) = timeout(LOOK, changes.changed()).await {
                self.0.replication.dial_members();
                if failing {
                    break;
                }
            }
        }
    }

    /// Whether there are other members, as last read: one of them may have what our database lost.
    pub(crate) fn has_others(&self) -> bool {
        self.0.replication.has_others()
    }

    /// Makes the membership known to the connections, and where this site is, once after a start, to the others.
    pub(crate) async fn read(&self, told_about_us: &mut bool) -> Result<(), StoreError> {
        let members = self.store().membership().await?;
        self.0.replication.set_members(&members);
        if !*told_about_us && members.get(self.ours()).is_some() {
            let us = self.about_us(self.holds_ca());
            if !is_told(&members, &us) {
                self.store().tell_members(vec![us]).await?;
            }
            *told_about_us = true;
        }
        Ok(())
    }
}
