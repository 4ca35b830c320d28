//! When our own vector is read from the store.

use std::time::Duration;

use super::io::Moment;

/// The vector is read once at a time, and again where it may have changed meanwhile.
#[derive(Default)]
pub(super) struct Readings {
    pub(super) number: u64,
    pub(super) under_way: bool,
    pub(super) wanted: bool,
    /// When the one under way began.
    pub(super) began: Moment,
    /// Since when something may have changed that was not read yet.
    pub(super) unread_since: Option<Moment>,
    pub(super) retry_at: Option<Moment>,
    pub(super) failed: bool,
}

impl Readings {
    pub(super) fn want(&mut self, now: Moment) {
        self.wanted = true;
        self.unread_since.get_or_insert(now);
    }

    /// How old what we know of our own logs is.
    pub(super) fn own_age(&self, now: Moment) -> Duration {
        self.unread_since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }
}
