//! Serving the operators' services on a Unix socket.

use std::time::Duration;

use bruri_domain::limits::{
    OPS_REQUEST_BYTES_MAX, OPS_REQUEST_SECONDS_MAX, OPS_REQUESTS_MAX, OPS_STOP_SECONDS_MAX,
    OPS_STREAMS_MAX,
};
use bruri_wire::{
    DESCRIPTORS,
    proto::{
        conflict::v1::conflict_service_server::{ConflictServiceServer, SERVICE_NAME as CONFLICT},
        erasure::v1::erasure_service_server::{ErasureServiceServer, SERVICE_NAME as ERASURE},
        history::v1::history_service_server::{HistoryServiceServer, SERVICE_NAME as HISTORY},
        realm::v1::realm_service_server::{RealmServiceServer, SERVICE_NAME as REALM},
        site::v1::site_service_server::{SERVICE_NAME as SITE, SiteServiceServer},
    },
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{
    service::LayerExt as _,
    transport::{Server, server::Router},
};
use tonic_health::{pb::FILE_DESCRIPTOR_SET as HEALTH_DESCRIPTORS, server::HealthReporter};
use tower::limit::GlobalConcurrencyLimitLayer;

use crate::{Ops, OpsError, Socket, connection, health};

const HEALTH: &str = "grpc.health.v1.Health";

/// Serves history, conflicts, realms, site, health and reflection until `stop`, then gives requests
/// [`OPS_STOP_SECONDS_MAX`] to end and cuts what is left. `ready` is what health tells.
pub async fn serve_socket(
    socket: Socket,
    ops: Ops,
    ready: watch::Receiver<bool>,
    stop: CancellationToken,
) -> Result<(), OpsError> {
    // The file goes last: until then nobody else takes the path for free.
    let (listener, _file) = socket.into_parts();
    let reporter = HealthReporter::new();
    let router = router(&ops, &reporter)?;
    let cut = CancellationToken::new();
    let _cut_at_the_end = cut.clone().drop_guard();
    let incoming = connection::incoming(listener, cut);
    let serving = router.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    tokio::select! {
        ended = serving => ended?,
        () = grace_after(stop, reporter, ready) => {
            tracing::warn!("operators' connections were cut because the site stops");
        }
    }
    Ok(())
}

/// Tells health until the site stops, and returns when the time to end in is over.
async fn grace_after(
    stop: CancellationToken,
    reporter: HealthReporter,
    ready: watch::Receiver<bool>,
) {
    health::tell(reporter, ready, &stop).await;
    tokio::time::sleep(Duration::from_secs(OPS_STOP_SECONDS_MAX)).await;
}

fn router(ops: &Ops, reporter: &HealthReporter) -> Result<Router, OpsError> {
    // One bound for all services: they share the database with the phones.
    let bound = GlobalConcurrencyLimitLayer::new(OPS_REQUESTS_MAX);
    let history =
        HistoryServiceServer::new(ops.clone()).max_decoding_message_size(OPS_REQUEST_BYTES_MAX);
    let conflict =
        ConflictServiceServer::new(ops.clone()).max_decoding_message_size(OPS_REQUEST_BYTES_MAX);
    let erasure =
        ErasureServiceServer::new(ops.clone()).max_decoding_message_size(OPS_REQUEST_BYTES_MAX);
    let realm =
        RealmServiceServer::new(ops.clone()).max_decoding_message_size(OPS_REQUEST_BYTES_MAX);
    let site = SiteServiceServer::new(ops.clone()).max_decoding_message_size(OPS_REQUEST_BYTES_MAX);
    let health = tonic_health::server::HealthService::from_health_reporter(reporter.clone());
    let health = tonic_health::pb::health_server::HealthServer::new(health)
        .max_decoding_message_size(OPS_REQUEST_BYTES_MAX);
    let v1 = reflection().build_v1()?.max_decoding_message_size(OPS_REQUEST_BYTES_MAX);
    let v1alpha = reflection().build_v1alpha()?.max_decoding_message_size(OPS_REQUEST_BYTES_MAX);
    Ok(Server::builder()
        .timeout(Duration::from_secs(OPS_REQUEST_SECONDS_MAX))
        .max_concurrent_streams(OPS_STREAMS_MAX)
        .add_service(bound.named_layer(history))
        .add_service(bound.named_layer(conflict))
        .add_service(bound.named_layer(erasure))
        .add_service(bound.named_layer(realm))
        .add_service(bound.named_layer(site))
        .add_service(health)
        .add_service(v1)
        .add_service(v1alpha))
}

/// Tells of the services that are here, not of those between sites.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(HEALTH_DESCRIPTORS)
        .with_service_name(HISTORY)
        .with_service_name(CONFLICT)
        .with_service_name(ERASURE)
        .with_service_name(REALM)
        .with_service_name(SITE)
        .with_service_name(HEALTH)
}
