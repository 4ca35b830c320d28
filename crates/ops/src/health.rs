//! `grpc.health.v1`: tells whether the site is ready, and ends its streams when the site stops.

use bruri_wire::proto::{
    conflict::v1::conflict_service_server::SERVICE_NAME as CONFLICT,
    erasure::v1::erasure_service_server::SERVICE_NAME as ERASURE,
    history::v1::history_service_server::SERVICE_NAME as HISTORY,
    realm::v1::realm_service_server::SERVICE_NAME as REALM,
    site::v1::site_service_server::SERVICE_NAME as SITE,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

/// The services whose health can be asked for; the empty name is the site as a whole.
const NAMES: [&str; 6] = ["", HISTORY, CONFLICT, ERASURE, REALM, SITE];

/// Tells what `ready` says until `stop`; then that nothing is served any more, and lets go of those who
/// watch, who would otherwise keep the server from ending.
pub(crate) async fn tell(
    mut reporter: HealthReporter,
    mut ready: watch::Receiver<bool>,
    stop: &CancellationToken,
) {
    loop {
        let is_ready = *ready.borrow_and_update();
        set(&reporter, is_ready).await;
        tokio::select! {
            () = stop.cancelled() => break,
            changed = ready.changed() => {
                if changed.is_err() {
                    // Nobody can say any more that the site is ready.
                    set(&reporter, false).await;
                    stop.cancelled().await;
                    break;
                }
            }
        }
    }
    set(&reporter, false).await;
    for name in NAMES {
        reporter.clear_service_status(name).await;
    }
}

async fn set(reporter: &HealthReporter, is_ready: bool) {
    let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in NAMES {
        reporter.set_service_status(name, status).await;
    }
}
