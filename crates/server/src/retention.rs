//! Runs retention in the background.

use std::{error::Error, time::Duration};

use bruri_domain::RealmId;
use bruri_store::{Pruning, Store, StoreError};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

/// A restart is not the time for it: phones come first.
const FIRST: Duration = Duration::from_mins(1);
const EVERY: Duration = Duration::from_hours(1);
/// Less than from one pass to the next, so that one of several brurid begins it.
const REST: Duration = Duration::from_mins(30);

/// As the realm wants it now; there is one realm.
fn pruning(store: &Store) -> Pruning {
    Pruning {
        retention: store.realm(&RealmId::built_in()).retention,
        only_call_log: bruri_phonefile::differ_in_call_log_only,
        rest: REST,
    }
}

/// Passes over all files every hour, until `stop`. What a pass could not do, the next one does.
pub(crate) async fn run(store: Store, stop: CancellationToken) {
    let start = Instant::now();
    let mut ticks = interval_at(start.checked_add(FIRST).unwrap_or(start), EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let passing = async {
        loop {
            ticks.tick().await;
            if let Err(error) = pass(&store, &pruning(&store)).await {
                tracing::warn!(error = &error as &dyn Error, "retention goes on in an hour");
            }
        }
    };
    // A transaction that is given up changes nothing.
    tokio::select! {
        () = stop.cancelled() => {}
        () = passing => {}
    }
}

async fn pass(store: &Store, pruning: &Pruning) -> Result<(), StoreError> {
    let (mut versions, mut bodies) = (0_u64, 0_u64);
    loop {
        let pruned = store.prune(pruning).await?;
        versions = versions.saturating_add(pruned.versions);
        bodies = bodies.saturating_add(pruned.bodies);
        if !pruned.more {
            break;
        }
    }
    if versions > 0 {
        tracing::info!(versions, bodies, "retention dropped bodies");
    }
    Ok(())
}
