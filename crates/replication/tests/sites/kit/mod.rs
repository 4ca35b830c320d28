//! Deployments, sites, lines between them that can be cut, and peers that lie.

pub(crate) mod certificates;
mod database;
pub(crate) mod equal;
pub(crate) mod forged;
pub(crate) mod logged;
pub(crate) mod proxy;
pub(crate) mod raw;
pub(crate) mod records;
pub(crate) mod site;

use std::time::Duration;

use tokio::time::{Instant, sleep};

pub(crate) use forged::{Forged, Script, Then};
pub(crate) use proxy::{Mode, Proxy};
pub(crate) use raw::Raw;
pub(crate) use site::{Deployment, Site};

/// Longer than anything takes on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until `holds`, and tells how long that took.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "not so within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(5)).await;
    }
    began.elapsed()
}
